//! What strangers send is counted, and told of once a minute at most: nobody who has no key fills the disk. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::Event;

/// How often, at most.
const EVERY: Duration = Duration::from_mins(1);

/// What was told of strangers so far.
#[derive(Debug, Default)]
pub struct Strangers {
    told: BTreeMap<&'static str, u64>,
    last: Option<Duration>,
}

impl Strangers {
    /// A line for what was refused since the last one, by the counts since the start; none too soon or for nothing.
    pub fn tell(&mut self, now: Duration, counts: impl Iterator<Item = (&'static str, u64)>) -> Option<Event> {
        if self.last.is_some_and(|last| now < last + EVERY) {
            return None;
        }
        let mut refused = BTreeMap::new();
        for (reason, count) in counts {
            let before = self.told.insert(reason, count).unwrap_or(0);
            if count > before {
                refused.insert(reason.to_owned(), count - before);
            }
        }
        if refused.is_empty() {
            return None;
        }
        self.last = Some(now);
        Some(Event::Strangers { refused })
    }

    /// The next line may come at once.
    pub const fn hurry(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute_and_only_what_is_new() {
        let mut strangers = Strangers::default();
        let mut told = |secs, tag, who| {
            let event = strangers.tell(Duration::from_secs(secs), [("tag", tag), ("who", who)].into_iter());
            event.map(|event| serde_json::to_string(&event).unwrap())
        };
        assert_eq!(told(0, 0, 0), None);
        assert_eq!(told(5, 3, 0).unwrap(), r#"{"event":"strangers","refused":{"tag":3}}"#);
        assert_eq!(told(64, 9, 9), None);
        assert_eq!(
            told(65, 9, 1).unwrap(),
            r#"{"event":"strangers","refused":{"tag":6,"who":1}}"#
        );
        assert_eq!(told(999, 9, 1), None);
    }
}

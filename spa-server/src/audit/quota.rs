//! How many lines refusals may take: whoever has a client's key, or a recording of what it sent, must not be able to push
//! the rest out of the log. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::Event;

/// How long lines are counted together.
const PERIOD: Duration = Duration::from_mins(1);
/// Lines of one client for one reason in that time; more are counted.
const LINES: u64 = 5;
/// Clients and reasons that are told apart; what is more is counted with its reason alone.
const MOST: usize = 256;
/// The client of what is counted with its reason alone.
const OTHERS: &str = "(others)";

/// Refusals of this minute.
#[derive(Debug, Default)]
pub struct Quota {
    began: Duration,
    seen: BTreeMap<(String, String), Seen>,
}

#[derive(Debug)]
struct Seen {
    lines: u64,
    more: u64,
    source: Option<String>,
}

/// One refusal of a client.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Who.
    pub client: String,
    /// From where.
    pub source: Option<String>,
    /// Why.
    pub reason: String,
    /// In one clause.
    pub detail: String,
}

impl Quota {
    /// The line of a refusal, unless it is only counted.
    pub fn take(&mut self, now: Duration, refusal: Refusal) -> Option<Event> {
        if self.seen.is_empty() {
            self.began = now;
        }
        let mut key = (refusal.client.clone(), refusal.reason.clone());
        let is_crowded = self.seen.len() >= MOST && !self.seen.contains_key(&key);
        if is_crowded {
            OTHERS.clone_into(&mut key.0);
        }
        let seen = self.seen.entry(key).or_insert(Seen {
            lines: 0,
            more: 0,
            source: None,
        });
        if seen.lines >= LINES || is_crowded {
            seen.more += 1;
            seen.source = refusal.source;
            return None;
        }
        seen.lines += 1;
        Some(Event::Refused {
            client: refusal.client,
            source: refusal.source,
            reason: refusal.reason,
            detail: refusal.detail,
            count: 1,
        })
    }

    /// Lines for what was only counted, once its minute is over.
    pub fn settle(&mut self, now: Duration) -> Vec<Event> {
        if now < self.began + PERIOD {
            return Vec::new();
        }
        self.settle_all()
    }

    /// The same at once.
    pub fn settle_all(&mut self) -> Vec<Event> {
        let more = |((client, reason), seen): ((String, String), Seen)| Event::Refused {
            client,
            source: seen.source,
            reason,
            detail: "more of the same within a minute".to_owned(),
            count: seen.more,
        };
        let seen = std::mem::take(&mut self.seen).into_iter();
        seen.filter(|(_, seen)| seen.more > 0).map(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(client: &str) -> Refusal {
        Refusal {
            client: client.to_owned(),
            source: Some("192.0.2.7".to_owned()),
            reason: "replay".to_owned(),
            detail: "it was accepted before".to_owned(),
        }
    }

    fn counts(events: &[Event]) -> Vec<(&str, u64)> {
        let told = |event: &'_ Event| match event {
            Event::Refused { client, count, .. } => Some((client.clone(), *count)),
            _ => None,
        };
        let told: Vec<_> = events.iter().filter_map(told).collect();
        told.into_iter()
            .map(|(client, count)| (&*client.leak(), count))
            .collect()
    }

    #[test]
    fn the_first_of_a_minute_have_lines_and_the_rest_are_counted() {
        let (mut quota, start) = (Quota::default(), Duration::from_secs(100));
        let lines = (0..1000)
            .filter(|_| quota.take(start, refusal("alice")).is_some())
            .count();
        assert_eq!(lines as u64, LINES);
        assert!(quota.take(start, refusal("bob")).is_some());
        assert!(quota.settle(start + PERIOD / 2).is_empty());
        assert_eq!(counts(&quota.settle(start + PERIOD)), [("alice", 1000 - LINES)]);
        assert!(quota.take(start + PERIOD, refusal("alice")).is_some());
        assert!(quota.settle_all().is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut quota = Quota::default();
        let taken = (0..1000).filter(|n| quota.take(Duration::ZERO, refusal(&n.to_string())).is_some());
        assert_eq!(taken.count(), MOST);
        assert_eq!(counts(&quota.settle_all()), [(OTHERS, 1000 - MOST as u64)]);
    }
}

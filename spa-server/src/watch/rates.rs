//! How much came within the last minute: differences of the daemon's counters.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

const MINUTE: Duration = Duration::from_mins(1);

/// The counters of the last minute, one set for each time that they were asked for.
#[derive(Debug, Default)]
pub(super) struct Rates(VecDeque<(Duration, Counters)>);

/// By group and name, such as `("refused", "tag")`, in the order of `status`.
type Counters = Vec<((&'static str, String), u64)>;

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// Of which group of `status`.
    pub(super) group: &'static str,
    /// Which one of it.
    pub(super) name: String,
    /// How many came lately.
    pub(super) lately: u64,
    /// How many there were since the daemon's start.
    pub(super) total: u64,
}

impl Rates {
    /// Takes what `status` says at `now`.
    pub(super) fn take(&mut self, now: Duration, status: &Value) {
        // The oldest that is kept is a minute old or a little more: what is newer than it is the last minute's.
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= MINUTE) {
            self.0.pop_front();
        }
        let groups = ["accepted", "refused", "dropped"];
        let counters = groups.into_iter().flat_map(|group| {
            let numbers = status[group].as_object().into_iter().flatten();
            numbers.map(move |(name, number)| ((group, name.clone()), number.as_u64().unwrap_or(0)))
        });
        self.0.push_back((now, counters.collect()));
    }

    /// How long the time is that [`Count::lately`] speaks of.
    pub(super) fn span(&self) -> Duration {
        match (self.0.front(), self.0.back()) {
            (Some((first, _)), Some((last, _))) => last.saturating_sub(*first),
            _ => Duration::ZERO,
        }
    }

    /// Every counter, knocks that were accepted first.
    pub(super) fn counts(&self) -> Vec<Count> {
        let (Some((_, first)), Some((_, last))) = (self.0.front(), self.0.back()) else {
            return Vec::new();
        };
        let count = |(place, total): &((&'static str, String), u64)| Count {
            group: place.0,
            name: place.1.clone(),
            lately: total.saturating_sub(number(first, place)),
            total: *total,
        };
        last.iter().map(count).collect()
    }
}

fn number(counters: &Counters, place: &(&'static str, String)) -> u64 {
    let found = counters.iter().find(|(other, _)| other == place);
    found.map_or(0, |(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lately(rates: &Rates) -> u64 {
        rates.counts()[0].lately
    }

    #[test]
    fn a_minute_and_no_more() {
        let mut rates = Rates::default();
        for second in 0..200 {
            rates.take(
                Duration::from_secs(second),
                &json!({ "refused": { "tag": second * 2 } }),
            );
            assert!(rates.0.len() <= 62);
            assert_eq!(lately(&rates), second.min(60) * 2);
        }
        assert_eq!(rates.span(), MINUTE);
        rates.take(Duration::from_secs(1000), &json!({ "refused": { "tag": 400 } }));
        assert_eq!(lately(&rates), 2, "after a pause all since the last look");
    }
}

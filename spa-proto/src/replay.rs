//! The replay record (step 7).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::key::PublicKey;
use crate::time::UnixTime;

/// Where accepted timestamps are remembered: durably, per client key, for longer than the client is.
///
/// A wrong *yes* opens a door to a recorded datagram. A wrong *no* costs an honest client one of its repeats.
pub trait ReplayRecord {
    /// Takes a timestamp of this key, if it was never taken before. `retention` is twice the client's greatest window.
    ///
    /// What was taken must be durable before anything opens.
    fn claim(&mut self, client: &PublicKey, timestamp: UnixTime, retention: Duration) -> Verdict;
}

/// What the record says of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New, and now taken.
    Fresh,
    /// Taken before, or not above the floor.
    Replayed,
    /// The record cannot be used now; nothing may open.
    Unavailable,
}

/// The accepted timestamps of one client key: the set R and the floor F. Never more than 256 timestamps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaySet {
    /// R, rising.
    members: Vec<UnixTime>,
    /// F: always a timestamp that was accepted, never falls.
    floor: UnixTime,
}

impl ReplaySet {
    /// The most members R has.
    pub const MOST: usize = 256;

    /// Restores a set from what [`ReplaySet::floor`] and [`ReplaySet::members`] gave, in whatever order.
    #[must_use]
    pub fn restore(floor: UnixTime, members: impl IntoIterator<Item = UnixTime>) -> Self {
        let mut set = Self {
            members: members.into_iter().filter(|member| *member > floor).collect(),
            floor,
        };
        set.members.sort_unstable();
        set.members.dedup();
        set.trim(Duration::MAX);
        set
    }

    /// F.
    #[must_use]
    pub const fn floor(&self) -> UnixTime {
        self.floor
    }

    /// R, rising.
    #[must_use]
    pub fn members(&self) -> &[UnixTime] {
        &self.members
    }

    /// The greatest timestamp ever accepted, or the epoch.
    #[must_use]
    pub fn greatest(&self) -> UnixTime {
        self.members.last().copied().unwrap_or(self.floor).max(self.floor)
    }

    /// Takes a timestamp if it is greater than F and not in R; says whether it was.
    pub fn accept(&mut self, timestamp: UnixTime, retention: Duration) -> bool {
        let Err(place) = self.members.binary_search(&timestamp) else {
            return false;
        };
        if timestamp <= self.floor {
            return false;
        }
        self.members.insert(place, timestamp);
        self.trim(retention);
        true
    }

    /// Takes out what is too many or too old; the greatest of it becomes F.
    fn trim(&mut self, retention: Duration) {
        let oldest = self.greatest().saturating_sub(retention);
        let old = self.members.partition_point(|member| *member < oldest);
        let out = old.max(self.members.len().saturating_sub(Self::MOST));
        if let Some(greatest) = self.members.drain(..out).next_back() {
            self.floor = self.floor.max(greatest);
        }
    }
}

/// A record in memory, for tests, simulation and benchmarks.
#[derive(Debug, Default)]
pub struct MemoryRecord(BTreeMap<PublicKey, ReplaySet>);

impl ReplayRecord for MemoryRecord {
    fn claim(&mut self, client: &PublicKey, timestamp: UnixTime, retention: Duration) -> Verdict {
        let fresh = self.0.entry(*client).or_default().accept(timestamp, retention);
        if fresh { Verdict::Fresh } else { Verdict::Replayed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const RETENTION: Duration = Duration::from_mins(10);

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    #[test]
    fn any_order_but_once() {
        let mut set = ReplaySet::default();
        assert!(set.accept(at(100), RETENTION));
        assert!(set.accept(at(50), RETENTION));
        assert!(!set.accept(at(100), RETENTION));
        assert!(!set.accept(at(50), RETENTION));
        assert!(!set.accept(at(0), RETENTION), "the epoch is not above the first floor");
    }

    #[test]
    fn a_full_set_raises_its_floor() {
        let mut set = ReplaySet::default();
        for secs in 1..=257 {
            assert!(set.accept(at(secs), RETENTION));
        }
        assert_eq!((set.members().len(), set.floor()), (256, at(1)));
        assert!(!set.accept(at(1), RETENTION));
    }

    #[test]
    fn a_wrong_future_does_not_shut_out_the_present() {
        let mut set = ReplaySet::default();
        assert!(set.accept(at(90_000), RETENTION));
        assert!(set.accept(at(1_000), RETENTION), "taken out at once and made the floor");
        assert_eq!((set.members(), set.floor()), (&[at(90_000)][..], at(1_000)));
        assert!(!set.accept(at(1_000), RETENTION));
        assert!(!set.accept(at(999), RETENTION), "present ones must now rise");
        assert!(set.accept(at(1_001), RETENTION));
        assert!(!set.accept(at(90_000), RETENTION));
    }

    proptest! {
        /// Whatever comes in whatever order: nothing is accepted twice, R stays bounded, F never falls.
        #[test]
        fn never_twice(stamps in prop::collection::vec(0u64..2_000, 0..2_000)) {
            let mut set = ReplaySet::default();
            let mut accepted = BTreeSet::new();
            for secs in stamps {
                let floor = set.floor();
                if set.accept(at(secs), RETENTION) {
                    prop_assert!(accepted.insert(secs));
                }
                prop_assert!(set.members().len() <= ReplaySet::MOST);
                prop_assert!(set.floor() >= floor);
                prop_assert!(set.floor() == at(0) || accepted.contains(&set.floor().as_secs()));
            }
            prop_assert_eq!(&ReplaySet::restore(set.floor(), set.members().iter().copied()), &set);
        }
    }
}

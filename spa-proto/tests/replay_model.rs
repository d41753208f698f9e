//! The replay record, model-checked: every order of few timestamps, writes and crashes (docs/proofs.md).
//!
//! The model is step 7 of the protocol page in small numbers: R as a set of bits, F, what is on the disk, what has
//! opened. All states that can be reached are visited, and the theorems are held in each. The second test walks the
//! model again beside the real `ReplaySet`, which must do the same at every step: what holds for one holds for the
//! other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use spa_proto::{ReplaySet, UnixTime};

/// Timestamps are 1 to `LAST`.
const LAST: u8 = 5;
/// How far a client's timestamps may lie back: `LAST` is for ever.
const RETENTIONS: [u8; 3] = [1, 3, LAST];

/// A set of timestamps, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Stamps(u16);

impl Stamps {
    const fn has(self, stamp: u8) -> bool {
        self.0 & 1 << stamp != 0
    }

    const fn with(self, stamp: u8) -> Self {
        Self(self.0 | 1 << stamp)
    }

    const fn without(self, stamp: u8) -> Self {
        Self(self.0 & !(1 << stamp))
    }

    fn iter(self) -> impl DoubleEndedIterator<Item = u8> {
        (1..=LAST).filter(move |stamp| self.has(*stamp))
    }
}

/// R and F, and for the theorems what was ever taken and the oldest that R had to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Record {
    r: Stamps,
    f: u8,
    taken: Stamps,
    oldest: u8,
}

impl Record {
    /// Step 7 with room for `most`.
    fn accept(&mut self, stamp: u8, retention: u8, most: usize) -> bool {
        if stamp <= self.f || self.r.has(stamp) {
            return false;
        }
        self.r = self.r.with(stamp);
        self.taken = self.taken.with(stamp);
        let greatest = self.r.iter().next_back().unwrap_or(0);
        let oldest = greatest.saturating_sub(retention);
        self.oldest = self.oldest.max(oldest);
        while let Some(least) = self.r.iter().next() {
            if self.r.iter().count() <= most && least >= oldest {
                break;
            }
            self.r = self.r.without(least);
            self.f = self.f.max(least);
        }
        true
    }

    /// Whether a stamp that was never taken may be refused: so many later ones were taken, or one so much later.
    fn may_shut_out(self, stamp: u8, most: usize) -> bool {
        self.taken.iter().filter(|taken| *taken > stamp).count() >= most || stamp < self.oldest
    }
}

/// A gateway: what it knows, what its disk has, and what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Gateway {
    memory: Record,
    disk: Record,
    /// Taken since the last write: nothing of it is open yet.
    waiting: Stamps,
    /// What has opened a door, ever.
    opened: Stamps,
}

impl Gateway {
    fn offer(mut self, stamp: u8, retention: u8, most: usize) -> Self {
        let before = self.memory;
        if self.memory.accept(stamp, retention, most) {
            self.waiting = self.waiting.with(stamp);
        } else {
            assert!(
                before.taken.has(stamp) || before.may_shut_out(stamp, most),
                "{self:?} shuts {stamp} out"
            );
        }
        let Record { r, f, taken, .. } = self.memory;
        assert!(f >= before.f && (f == 0 || taken.has(f)), "F fell, or was never taken");
        assert!(
            r.iter().count() <= most && r.iter().all(|member| member > f),
            "R grows, or lies below F"
        );
        self
    }

    /// The record is durable; only then doors open.
    fn write(mut self) -> Self {
        self.disk = self.memory;
        assert_eq!(self.opened.0 & self.waiting.0, 0, "{self:?} opens twice");
        self.opened.0 |= self.waiting.0;
        self.waiting = Stamps::default();
        self
    }

    /// The process ends, before a write or behind it, and begins again with what the disk has.
    fn crash(mut self, written: bool) -> Self {
        if written {
            self.disk = self.memory;
        }
        self.memory = self.disk;
        self.waiting = Stamps::default();
        self
    }

    fn after_each_step(self, most: usize) -> Vec<Self> {
        let offers = (1..=LAST).flat_map(|stamp| RETENTIONS.map(|retention| self.offer(stamp, retention, most)));
        offers
            .chain([self.write(), self.crash(false), self.crash(true)])
            .collect()
    }
}

/// Visits every state that can be reached; says how many there are.
fn explore<S: Clone + Eq + Hash>(first: S, next: impl Fn(&S) -> Vec<S>) -> usize {
    let mut seen = HashSet::from([first.clone()]);
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        for state in next(&state) {
            if seen.insert(state.clone()) {
                queue.push_back(state);
            }
        }
    }
    seen.len()
}

#[test]
fn theorems_hold_in_every_state() {
    for most in 1..=3 {
        let states = explore(Gateway::default(), |gateway| gateway.after_each_step(most));
        println!("room for {most}: {states} states");
        assert!(states > 1_000);
    }
}

/// Time is told in seconds here, so that a stamp and its number are easy to tell apart.
fn time(stamp: u8) -> UnixTime {
    UnixTime::from_secs(stamp.into())
}

fn real(record: Record) -> ReplaySet {
    ReplaySet::restore(time(record.f), record.r.iter().map(time))
}

#[test]
fn the_real_set_walks_with_the_model_through_every_retention() {
    let states = explore(Record::default(), |before| {
        let each = (1..=LAST).flat_map(|stamp| RETENTIONS.map(|retention| (stamp, retention)));
        let walk = |(stamp, retention): (u8, u8)| {
            let (mut model, mut set) = (*before, real(*before));
            let said = set.accept(time(stamp), Duration::from_secs(retention.into()));
            assert_eq!(
                said,
                model.accept(stamp, retention, ReplaySet::MOST),
                "{before:?} {stamp} {retention}"
            );
            assert_eq!(set, real(model));
            model
        };
        each.map(walk).collect()
    });
    assert!(states > 100);
}

/// The real R has room for 256. All but `most` of its places are taken by later timestamps here, so that its least ones
/// play the model's.
#[test]
fn the_real_set_walks_with_the_model_when_it_is_full() {
    for most in 1..=3 {
        let fillers = || (0..ReplaySet::MOST - most).map(|n| UnixTime::from_secs(1_000 + n as u64));
        let full = |record: Record| ReplaySet::restore(time(record.f), record.r.iter().map(time).chain(fillers()));
        let states = explore(Record::default(), |before| {
            let walk = |stamp: u8| {
                let (mut model, mut set) = (*before, full(*before));
                let said = set.accept(time(stamp), Duration::MAX);
                assert_eq!(said, model.accept(stamp, LAST, most), "{before:?} {stamp}");
                assert_eq!(set, full(model));
                model
            };
            (1..=LAST).map(walk).collect()
        });
        assert!(states > 10);
    }
}

//! The replay set beside the page's own words for it, and beside a set of everything that was ever accepted (step 7).
//!
//! Held: both say the same of every timestamp and hold the same R and F; nothing is accepted twice; R has at most 256
//! members; F never falls and was accepted itself; what is written and read back is the same set.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use spa_fuzz::model::Replays;
use spa_proto::{ReplaySet, UnixTime};

#[derive(Arbitrary, Debug)]
enum Step {
    /// A timestamp near those before.
    Near { offset: u8, retention: u8 },
    /// One of a wider range, in seconds.
    Far { seconds: u16, retention: u8 },
    /// Any.
    Any { nanos: u64, retention: u16 },
    /// So many in a row, each later than the last.
    Burst { count: u16, step: u8 },
    /// The gateway starts again.
    Restart,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut both = Both::default();
    for step in &steps {
        both.take(step);
        both.compare();
    }
});

#[derive(Default)]
struct Both {
    real: ReplaySet,
    naive: Replays,
    last: u64,
}

impl Both {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Near { offset, retention } => {
                let nanos = self.last.saturating_add(u64::from(*offset)).saturating_sub(128);
                self.offer(nanos, u64::from(*retention));
            }
            Step::Far { seconds, retention } => {
                self.offer(u64::from(*seconds) << 30, u64::from(*retention) << 30);
            }
            Step::Any { nanos, retention } => self.offer(*nanos, u64::from(*retention) << 30),
            Step::Burst { count, step } => {
                for _ in 0..*count % 300 {
                    self.offer(self.last.saturating_add(u64::from(*step)), 1 << 40);
                }
            }
            Step::Restart => {
                let read = ReplaySet::restore(self.real.floor(), self.real.members().iter().rev().copied());
                assert_eq!(read, self.real);
                self.real = read;
            }
        }
    }

    fn compare(&self) {
        assert!(self.real.members().iter().copied().eq(self.naive.members()));
        assert_eq!(self.real.floor(), self.naive.floor());
    }

    fn offer(&mut self, nanos: u64, retention: u64) {
        let (timestamp, retention) = (UnixTime::from_nanos(nanos), Duration::from_nanos(retention));
        let floor = self.real.floor();
        let said = self.real.accept(timestamp, retention);
        assert_eq!(said, self.naive.accept(timestamp, retention));
        assert!(self.real.floor() >= floor && self.real.members().len() <= ReplaySet::MOST);
        self.last = nanos;
    }
}

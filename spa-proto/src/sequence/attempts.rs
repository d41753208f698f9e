//! What is kept of sources: a table of fixed size, where strangers crowd out strangers first.

use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::net::IpAddr;
use core::time::Duration;

use super::watched::Path;

const BUCKETS: usize = 8192;
const WAYS: usize = 8;
/// Marks of the last probes, to know a repeat.
const MARKS: usize = 16;

/// How far one source has come, and how often it failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) source: IpAddr,
    /// The stages passed.
    pub(super) path: Path,
    /// How many they are.
    pub(super) stages: u8,
    /// How often it failed since it last completed one.
    pub(super) failures: u8,
    /// When the first stage came.
    pub(super) started: Duration,
    /// When it last did something that counts.
    pub(super) seen: Duration,
    /// Until then nothing of it counts.
    pub(super) waits_until: Duration,
    marks: [u32; MARKS],
    next_mark: u8,
}

impl Attempt {
    pub(super) const fn new(source: IpAddr, now: Duration) -> Self {
        Self {
            source,
            path: Path::START,
            stages: 0,
            failures: 0,
            started: now,
            seen: now,
            waits_until: Duration::ZERO,
            marks: [0; MARKS],
            next_mark: 0,
        }
    }

    /// Whether this very packet came just now; remembers it if not.
    pub(super) fn is_repeat(&mut self, mark: u32) -> bool {
        if self.marks.contains(&mark) {
            return true;
        }
        let place = usize::from(self.next_mark) % MARKS;
        if let Some(slot) = self.marks.get_mut(place) {
            *slot = mark;
        }
        self.next_mark = self.next_mark.wrapping_add(1);
        false
    }

    /// What came before is long ago.
    pub(super) const fn forget_marks(&mut self) {
        self.marks = [0; MARKS];
    }

    /// Back to no stage.
    pub(super) const fn reset(&mut self) {
        self.path = Path::START;
        self.stages = 0;
    }

    /// Who is far is worth more than who has failed, and both more than who has just come.
    const fn worth(&self) -> (u8, Duration) {
        let class = match (self.stages, self.failures) {
            (2.., _) => 2,
            (_, 1..) => 1,
            _ => 0,
        };
        (class, self.seen)
    }
}

/// The table: buckets of a few places, chosen by a keyed hash so that nobody can aim at another's.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Empty as long as nobody is on the way.
    buckets: Vec<[Option<Attempt>; WAYS]>,
    used: usize,
}

impl Attempts {
    /// The most sources that anything is kept of.
    pub(super) const MOST: usize = BUCKETS * WAYS;

    pub(super) const fn new() -> Self {
        let buckets = Vec::new();
        Self { buckets, used: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.used
    }

    pub(super) fn get(&mut self, source: IpAddr, hasher: &impl BuildHasher) -> Option<&mut Attempt> {
        let bucket = self.buckets.get_mut(place(source, hasher))?;
        bucket.iter_mut().flatten().find(|attempt| attempt.source == source)
    }

    /// Puts a new one in, where need be in the place of the one that is worth least.
    pub(super) fn insert(&mut self, attempt: Attempt, hasher: &impl BuildHasher) {
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, [None; WAYS]);
        }
        let Some(bucket) = self.buckets.get_mut(place(attempt.source, hasher)) else {
            return;
        };
        // None is less than any worth.
        let worth = |way: &&mut Option<Attempt>| way.as_ref().map(Attempt::worth);
        if let Some(way) = bucket.iter_mut().min_by_key(worth) {
            self.used += usize::from(way.is_none());
            *way = Some(attempt);
        }
    }

    /// Takes out what `is_over` picks; it may change what stays.
    pub(super) fn sweep(&mut self, mut is_over: impl FnMut(&mut Attempt) -> bool) {
        if self.used == 0 {
            return;
        }
        for way in self.buckets.iter_mut().flatten() {
            if way.as_mut().is_some_and(&mut is_over) {
                *way = None;
                self.used -= 1;
            }
        }
        if self.used == 0 {
            self.buckets = Vec::new();
        }
    }
}

fn place(source: IpAddr, hasher: &impl BuildHasher) -> usize {
    // Less than BUCKETS, so it fits.
    usize::try_from(hasher.hash_one(source) % BUCKETS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::RandomState;

    fn source(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn attempt(number: u32, stages: u8, seen: u64) -> Attempt {
        let mut attempt = Attempt::new(source(number), Duration::from_nanos(seen));
        attempt.stages = stages;
        attempt
    }

    #[test]
    fn strangers_crowd_out_strangers() {
        let hasher = RandomState::new();
        let mut attempts = Attempts::new();
        for number in 0..100 {
            attempts.insert(attempt(number, 2, 0), &hasher);
        }
        for number in 100..1_000_000 {
            attempts.insert(attempt(number, 1, number.into()), &hasher);
        }
        assert_eq!(attempts.len(), Attempts::MOST);
        for number in 0..100 {
            assert_eq!(attempts.get(source(number), &hasher).unwrap().stages, 2, "{number}");
        }
    }

    #[test]
    fn memory_is_given_back() {
        let hasher = RandomState::new();
        let mut attempts = Attempts::new();
        attempts.insert(attempt(1, 1, 0), &hasher);
        attempts.insert(attempt(2, 1, 9), &hasher);
        attempts.sweep(|attempt| attempt.seen.is_zero());
        assert_eq!((attempts.len(), attempts.buckets.len()), (1, BUCKETS));
        attempts.sweep(|_| true);
        assert_eq!((attempts.len(), attempts.buckets.capacity()), (0, 0));
    }

    #[test]
    fn the_bound_is_what_the_documentation_says() {
        assert!(size_of::<Option<Attempt>>() * Attempts::MOST <= 11 << 20);
    }

    #[test]
    fn the_last_marks_are_known() {
        let mut attempt = attempt(1, 0, 0);
        for mark in 1..=20 {
            assert!(!attempt.is_repeat(mark));
        }
        for mark in 5..=20 {
            assert!(attempt.is_repeat(mark));
        }
        assert!(!attempt.is_repeat(4));
    }
}

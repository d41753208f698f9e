//! All sequences together, by what they begin with: common beginnings are followed as one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::time::Duration;

use super::{Pattern, SequenceId, Stage};

/// A keyed digest of the stages that a source has passed: the same whatever sequence they belong to, so that a change
/// of the sequences does not throw out who is on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(u64);

impl Path {
    /// No stage yet.
    pub(super) const START: Self = Self(0);

    /// One stage further.
    pub(super) fn then(self, stage: Stage, hasher: &impl BuildHasher) -> Self {
        Self(hasher.hash_one((self.0, stage)))
    }
}

/// Every beginning of every sequence.
#[derive(Debug, Default)]
pub(super) struct Watched {
    beginnings: BTreeMap<Path, Beginning>,
}

/// One beginning of one or more sequences.
#[derive(Clone, Debug, Default)]
pub(super) struct Beginning {
    /// The most time that any of the sequences gives, from the first stage on.
    pub(super) longest: Duration,
    /// Whether a sequence goes on from here.
    pub(super) goes_on: bool,
    /// The sequences that it is the whole of, with their own time.
    whole: Vec<(SequenceId, Duration)>,
    /// The first sequence it begins, to speak of.
    pub(super) of: Option<(SequenceId, u8)>,
}

impl Beginning {
    /// The sequences that are complete `after` the first stage.
    pub(super) fn complete(&self, after: Duration) -> Vec<SequenceId> {
        let in_time = self.whole.iter().filter(|(_, within)| after <= *within);
        in_time.map(|(id, _)| *id).collect()
    }
}

impl Watched {
    pub(super) fn new<'p>(patterns: impl IntoIterator<Item = &'p Pattern>, hasher: &impl BuildHasher) -> Self {
        let mut watched = Self::default();
        for pattern in patterns {
            watched.add(pattern, hasher);
        }
        watched
    }

    fn add(&mut self, pattern: &Pattern, hasher: &impl BuildHasher) {
        let mut path = Path::START;
        let length = u8::try_from(pattern.stages.len()).unwrap_or(u8::MAX);
        for (place, stage) in pattern.stages.iter().enumerate() {
            path = path.then(*stage, hasher);
            let beginning = self.beginnings.entry(path).or_default();
            beginning.longest = beginning.longest.max(pattern.within);
            beginning.of.get_or_insert((pattern.id, length));
            if place + 1 == pattern.stages.len() {
                beginning.whole.push((pattern.id, pattern.within));
            } else {
                beginning.goes_on = true;
            }
        }
    }

    pub(super) fn get(&self, path: Path) -> Option<&Beginning> {
        self.beginnings.get(&path)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.beginnings.is_empty()
    }
}

//! The classic fallback: packets to ports in a secret order, as a state machine. Pure: the time is the caller's.
//!
//! A sequence is a list of [`Stage`]s and a length of time. [`Tracker`] is told every [`Probe`](crate::Probe) to every
//! watched port, so that a wrong one resets; it says when a source has completed a sequence. [`Rolling`] makes the
//! stages of a time step from a key.
//!
//! What is kept of a source is bounded, and so is the number of sources ([`Tracker::MOST_SOURCES`]).

mod attempts;
mod rolling;
mod stage;
mod tracker;
mod watched;

use core::time::Duration;

use alloc::vec::Vec;

pub use rolling::{MOST_ROLLING, PortPool, PortPoolError, Rolling, RollingKey, RollingTransport};
pub use stage::{Stage, StageError, Transport};
pub use tracker::{Failure, FailureReason, Outcome, Tracker};

/// The most stages of one sequence.
pub const MOST_STAGES: usize = 16;
/// The fewest stages of one sequence: what two ports hide is found in a minute.
pub const FEWEST_STAGES: usize = 3;

/// Which sequence, and which turn of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId {
    /// The sequence's place in the caller's list.
    pub place: usize,
    /// The time step of a rolling sequence, the place in the list of a one-time sequence; 0 for one that never changes.
    pub turn: u64,
}

/// One sequence to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What to call it.
    pub id: SequenceId,
    /// Its stages in their order.
    pub stages: Vec<Stage>,
    /// How long the last may come after the first.
    pub within: Duration,
}

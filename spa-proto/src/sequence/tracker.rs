//! Follows every source through every sequence.

use alloc::vec::Vec;
use core::fmt;
use core::hash::BuildHasher;
use core::net::IpAddr;
use core::time::Duration;

use super::attempts::{Attempt, Attempts};
use super::watched::Watched;
use super::{Pattern, SequenceId, Stage};
use crate::frame::Probe;

/// Failures that cost nothing but the attempt: people mistype.
const FREE_FAILURES: u8 = 5;
/// What the first failure after these costs; each one more costs twice as much.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// What a failure costs at most. Others can fail in somebody's name, so it stays bearable.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A packet that comes again later than this is another one: TCP repeats a SYN after 1, 3 and 7 seconds.
const REPEATED: Duration = Duration::from_secs(10);
/// Failures are forgotten after so long without another.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// Follows sources through sequences. `now` is always a clock that only goes forward.
///
/// `S` keys the digests by which sources and packets are known: it must be random, or others could aim at the places
/// that honest sources have in the table.
#[derive(Debug)]
pub struct Tracker<S> {
    watched: Watched,
    attempts: Attempts,
    hasher: S,
}

/// What one probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Nothing: nobody's first stage, a repeat, or from a source that waits.
    Ignored,
    /// One stage further, or the first one.
    Advanced,
    /// These sequences are complete.
    Complete(Vec<SequenceId>),
    /// It was the wrong one, or came too late. It may have begun another attempt.
    Failed(Failure),
}

/// An attempt that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose.
    pub source: IpAddr,
    /// A sequence that it was an attempt at; where several have this beginning, the first of them.
    pub sequence: SequenceId,
    /// How many stages were right.
    pub stages: u8,
    /// How many that sequence has.
    pub of: u8,
    /// Why it failed.
    pub reason: FailureReason,
    /// How long nothing of this source counts now.
    pub wait: Duration,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// This came where another was awaited.
    Wrong(Stage),
    /// Its time was over.
    TimeOut,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped after stage {} of {}: ", self.stages, self.of)?;
        match self.reason {
            FailureReason::Wrong(stage) => write!(f, "{stage} came, which is not the next one")?,
            FailureReason::TimeOut => f.write_str("its time was over")?,
        }
        if self.wait.is_zero() {
            return Ok(());
        }
        write!(f, "; it failed too often and waits {} s", self.wait.as_secs())
    }
}

impl<S: BuildHasher> Tracker<S> {
    /// The most sources that anything is kept of: 65 536, less than 11 MiB. Nothing is kept while nobody is on the way.
    ///
    /// When it is full, who has only just begun makes room, the oldest first. Who has passed two stages stays.
    pub const MOST_SOURCES: usize = Attempts::MOST;

    /// Looks for nothing yet.
    pub fn new(hasher: S) -> Self {
        Self {
            watched: Watched::default(),
            attempts: Attempts::new(),
            hasher,
        }
    }

    /// Looks for these sequences from now on. Who is on the way in one that was there before goes on.
    pub fn watch<'p>(&mut self, patterns: impl IntoIterator<Item = &'p Pattern>) {
        self.watched = Watched::new(patterns, &self.hasher);
    }

    /// Of how many sources something is kept.
    #[must_use]
    pub const fn sources(&self) -> usize {
        self.attempts.len()
    }

    /// Judges one packet to a watched port. To be told of all of them: also the wrong ones count.
    pub fn probe(&mut self, now: Duration, probe: &Probe<'_>) -> Outcome {
        let Some(stage) = Stage::of(probe).filter(|_| !self.watched.is_empty()) else {
            return Outcome::Ignored;
        };
        let source = probe.source.ip().to_canonical();
        let mark = self.mark(probe);
        let Self {
            watched,
            attempts,
            hasher,
        } = self;
        if let Some(attempt) = attempts.get(source, hasher) {
            return go_on(attempt, watched, hasher, now, stage, mark);
        }
        let mut attempt = Attempt::new(source, now);
        let outcome = begin(&mut attempt, watched, hasher, now, stage);
        if attempt.stages > 0 {
            attempt.is_repeat(mark);
            attempts.insert(attempt, hasher);
        }
        outcome
    }

    /// Ends every attempt whose time is over, telling of each; to be called by a timer, every few seconds. An attempt
    /// that is over never goes on, called or not.
    pub fn expire(&mut self, now: Duration, mut tell: impl FnMut(Failure)) {
        let watched = &self.watched;
        self.attempts.sweep(|attempt| {
            if attempt.stages > 0 && is_over(attempt, watched, now) {
                if let Some(failure) = fail(attempt, watched, now, FailureReason::TimeOut) {
                    tell(failure);
                }
                attempt.reset();
            }
            let forgotten = now.saturating_sub(attempt.seen) >= FORGOTTEN;
            attempt.stages == 0 && (attempt.failures == 0 || forgotten)
        });
    }

    /// What makes a packet the one it is: a retransmission has the same, so has a datagram that was doubled.
    fn mark(&self, probe: &Probe<'_>) -> u32 {
        let digest = self
            .hasher
            .hash_one((probe.source.port(), probe.destination.port(), probe.content));
        // 0 is no mark at all.
        u32::try_from(digest >> 32).unwrap_or(0).max(1)
    }
}

/// A packet of a source that something is kept of.
fn go_on(
    attempt: &mut Attempt,
    watched: &Watched,
    hasher: &impl BuildHasher,
    now: Duration,
    stage: Stage,
    mark: u32,
) -> Outcome {
    if now.saturating_sub(attempt.seen) > REPEATED {
        attempt.forget_marks();
    }
    if now < attempt.waits_until || attempt.is_repeat(mark) {
        return Outcome::Ignored;
    }
    let reason = match attempt.stages {
        0 => return begin(attempt, watched, hasher, now, stage),
        _ if is_over(attempt, watched, now) => FailureReason::TimeOut,
        _ => match advance(attempt, watched, hasher, now, stage) {
            Ok(outcome) => return outcome,
            Err(reason) => reason,
        },
    };
    let failure = fail(attempt, watched, now, reason);
    attempt.reset();
    let begun = match failure {
        Some(Failure { wait, .. }) if !wait.is_zero() => Outcome::Ignored,
        _ => begin(attempt, watched, hasher, now, stage),
    };
    failure.map_or(begun, Outcome::Failed)
}

/// The first stage, if it is one.
fn begin(attempt: &mut Attempt, watched: &Watched, hasher: &impl BuildHasher, now: Duration, stage: Stage) -> Outcome {
    attempt.started = now;
    advance(attempt, watched, hasher, now, stage).unwrap_or(Outcome::Ignored)
}

/// One stage further, if this is the next one of any sequence, and in time.
fn advance(
    attempt: &mut Attempt,
    watched: &Watched,
    hasher: &impl BuildHasher,
    now: Duration,
    stage: Stage,
) -> Result<Outcome, FailureReason> {
    let path = attempt.path.then(stage, hasher);
    let beginning = watched.get(path).ok_or(FailureReason::Wrong(stage))?;
    let after = now.saturating_sub(attempt.started);
    if after > beginning.longest {
        return Err(FailureReason::TimeOut);
    }
    attempt.path = path;
    attempt.stages = attempt.stages.saturating_add(1);
    attempt.seen = now;
    let complete = beginning.complete(after);
    if !beginning.goes_on {
        attempt.reset();
    }
    if complete.is_empty() {
        return Ok(Outcome::Advanced);
    }
    attempt.failures = 0;
    Ok(Outcome::Complete(complete))
}

/// Whether no sequence with this beginning can be completed any more.
fn is_over(attempt: &Attempt, watched: &Watched, now: Duration) -> bool {
    let longest = watched.get(attempt.path).map(|beginning| beginning.longest);
    longest.is_none_or(|longest| now.saturating_sub(attempt.started) > longest)
}

/// Counts a failure; none to tell of where its sequence has been taken away meanwhile.
fn fail(attempt: &mut Attempt, watched: &Watched, now: Duration, reason: FailureReason) -> Option<Failure> {
    let (sequence, of) = watched.get(attempt.path)?.of?;
    if now.saturating_sub(attempt.seen) >= FORGOTTEN {
        attempt.failures = 0;
    }
    attempt.failures = attempt.failures.saturating_add(1);
    attempt.seen = now;
    let wait = wait_after(attempt.failures);
    attempt.waits_until = now.saturating_add(wait);
    Some(Failure {
        source: attempt.source,
        sequence,
        stages: attempt.stages,
        of,
        reason,
        wait,
    })
}

/// How long a source waits after so many failures.
fn wait_after(failures: u8) -> Duration {
    match failures.checked_sub(FREE_FAILURES + 1) {
        None => Duration::ZERO,
        Some(more) => (FIRST_WAIT * 2u32.saturating_pow(u32::from(more).min(16))).min(LONGEST_WAIT),
    }
}

#[cfg(test)]
mod tests;

//! When a door is asked for again, by a clock that goes on while the device sleeps.

use std::time::Duration;

/// A third of the time is left for repeats.
const RENEW_AFTER: (u32, u32) = (2, 3);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The time for which a door was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    begun: Duration,
    length: Duration,
}

impl Term {
    pub(super) const fn new(begun: Duration, length: Duration) -> Self {
        Self { begun, length }
    }

    /// When it is to be asked for again.
    pub(super) fn renewal(&self) -> Duration {
        self.begun + self.length * RENEW_AFTER.0 / RENEW_AFTER.1
    }

    /// What is left of it at most: the gateway may have shortened it.
    pub(super) fn left(&self, now: Duration) -> Duration {
        (self.begun + self.length).saturating_sub(now)
    }
}

/// When something is to be done next, with growing pauses while it fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    due: Duration,
    failures: u32,
}

impl Retry {
    pub(super) const fn new(due: Duration) -> Self {
        Self { due, failures: 0 }
    }

    pub(super) const fn due(&self) -> Duration {
        self.due
    }

    pub(super) const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Something changed: look soon, and be as quick as at first.
    pub(super) fn settle(&mut self, at: Duration) {
        self.due = self.due.min(at);
        self.failures = self.failures.min(1);
    }

    pub(super) const fn succeed(&mut self, due: Duration) {
        *self = Self::new(due);
    }

    pub(super) fn fail(&mut self, now: Duration) {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures);
        self.failures += 1;
        self.due = now + pause.min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_third_is_left_when_it_is_renewed() {
        let term = Term::new(s(100), s(300));
        assert_eq!(term.renewal(), s(300));
        assert_eq!(term.left(s(100)), s(300));
        assert_eq!(term.left(s(390)), s(10));
        assert_eq!(term.left(s(500)), s(0));
        assert!(Term::new(s(0), s(1)).renewal() < s(1));
    }

    #[test]
    fn pauses_grow_while_it_fails() {
        let mut retry = Retry::new(s(10));
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let now = retry.due();
            retry.fail(now);
            pauses.push(retry.due().saturating_sub(now).as_secs());
        }
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        retry.settle(s(11));
        assert_eq!(retry.due(), s(11));
        retry.fail(s(11));
        assert_eq!(retry.due(), s(13), "a network that came back is tried quickly again");
        retry.succeed(s(100));
        assert!(!retry.is_failing());
        retry.settle(s(200));
        assert_eq!(retry.due(), s(100), "never later than it was");
    }
}

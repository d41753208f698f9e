//! The rate of one key's datagrams (step 4): 10 a second, 50 at once.

use core::time::Duration;

const INTERVAL: Duration = Duration::from_millis(100);
const BURST: u32 = 50;

/// A token bucket in one number: the time at which the bucket would be full again (GCRA).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limit {
    full_at: Duration,
}

impl Limit {
    /// Takes one token at `uptime`; says whether there was one.
    pub(crate) fn allow(&mut self, uptime: Duration) -> bool {
        let full_at = self.full_at.max(uptime) + INTERVAL;
        let allowed = full_at.saturating_sub(uptime) <= INTERVAL * BURST;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_at_once_then_ten_a_second() {
        let mut limit = Limit::default();
        let start = Duration::from_secs(9);
        assert_eq!((0..100).filter(|_| limit.allow(start)).count(), 50);
        assert_eq!(
            (0..100).filter(|_| limit.allow(start + Duration::from_secs(1))).count(),
            10
        );
        assert_eq!(
            (0..100).filter(|_| limit.allow(start + Duration::from_mins(1))).count(),
            50
        );
    }
}

//! A client's timestamps ("Payload").

use core::time::Duration;

use rand_core::CryptoRng;

use crate::time::UnixTime;

/// The least resolution: the last three digits are always random.
const LEAST_RESOLUTION: Duration = Duration::from_micros(1);
/// A clock that goes back by less than this is being adjusted; by more, it was set, and is followed.
const ADJUSTMENT: Duration = Duration::from_secs(1);

/// Makes the timestamps of one run. Digits below the clock's resolution are random, so that two devices of one key do
/// not collide and a client need remember nothing between runs.
#[derive(Debug)]
pub struct Stamper {
    resolution: u64,
    last: Option<(UnixTime, UnixTime)>,
}

impl Stamper {
    /// For a clock of this resolution.
    #[must_use]
    pub fn new(resolution: Duration) -> Self {
        let nanos = resolution.clamp(LEAST_RESOLUTION, ADJUSTMENT).as_nanos();
        Self {
            resolution: u64::try_from(nanos).unwrap_or(1_000),
            last: None,
        }
    }

    /// The timestamp of a message made when the clock shows `now`.
    pub fn stamp(&mut self, now: UnixTime, rng: &mut impl CryptoRng) -> UnixTime {
        let reading = now.as_nanos() - now.as_nanos() % self.resolution;
        let reading = UnixTime::from_nanos(reading);
        let fresh = reading.saturating_add(Duration::from_nanos(self.below_resolution(rng)));
        let stamp = match self.last {
            Some((before, last)) if reading <= before && before.distance(reading) < ADJUSTMENT => next(last),
            // Random digits must not fall on or below a timestamp that was counted up.
            Some((before, last)) if reading > before => fresh.max(next(last)),
            _ => fresh,
        };
        self.last = Some((reading, stamp));
        stamp
    }

    /// Uniform but for a bias below 2^-34: a resolution is at most 10^9 of 2^64.
    fn below_resolution(&self, rng: &mut impl CryptoRng) -> u64 {
        rng.next_u64() % self.resolution
    }
}

fn next(stamp: UnixTime) -> UnixTime {
    stamp.saturating_add(Duration::from_nanos(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::SeededRng;

    #[test]
    fn a_clock_that_stands_still_counts_on() {
        let mut stamper = Stamper::new(Duration::from_nanos(1));
        let now = UnixTime::from_nanos(1_800_000_000_123_456_789);
        let first = stamper.stamp(now, &mut SeededRng(1));
        assert_eq!(first.as_nanos() / 1_000, 1_800_000_000_123_456);
        let second = stamper.stamp(now, &mut SeededRng(2));
        assert_eq!(second.as_nanos(), first.as_nanos() + 1);
        let third = stamper.stamp(now.saturating_sub(Duration::from_millis(999)), &mut SeededRng(3));
        assert_eq!(third.as_nanos(), first.as_nanos() + 2);
    }

    #[test]
    fn a_clock_that_was_set_is_followed() {
        let mut stamper = Stamper::new(Duration::from_nanos(1));
        let now = UnixTime::from_secs(1_800_000_000);
        stamper.stamp(now, &mut SeededRng(1));
        let back = stamper.stamp(UnixTime::from_secs(1_799_999_000), &mut SeededRng(2));
        assert_eq!(back.as_secs(), 1_799_999_000);
        let on = stamper.stamp(UnixTime::from_secs(1_799_999_001), &mut SeededRng(3));
        assert_eq!(on.as_secs(), 1_799_999_001);
    }

    #[test]
    fn digits_below_a_coarse_clock_are_random() {
        let now = UnixTime::from_secs(1_800_000_000);
        let stamps: std::collections::BTreeSet<_> = (0..100)
            .map(|seed| Stamper::new(Duration::from_millis(10)).stamp(now, &mut SeededRng(seed)))
            .collect();
        assert!(stamps.len() > 95);
        assert!(
            stamps
                .iter()
                .all(|stamp| now.distance(*stamp) < Duration::from_millis(10))
        );
    }
}

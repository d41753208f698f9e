//! Time, always given by the caller.

use core::fmt;
use core::time::Duration;

const NANOS_PER_SEC: u64 = 1_000_000_000;
const NANOS_PER_DAY: u64 = 86_400 * NANOS_PER_SEC;

/// Wall-clock time: nanoseconds since 1970-01-01T00:00:00Z, as the payload carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(u64);

impl UnixTime {
    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the epoch; what does not fit becomes the greatest time.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SEC))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / NANOS_PER_SEC
    }

    /// The UTC day this time lies in.
    #[must_use]
    pub const fn day(self) -> Day {
        Day(self.0 / NANOS_PER_DAY)
    }

    /// The second day whose tags a gateway takes at this time: the day before in the first half of the UTC day, the
    /// day after in the second (step 2).
    #[must_use]
    pub const fn neighbour_day(self) -> Day {
        let Day(today) = self.day();
        if self.0 % NANOS_PER_DAY < NANOS_PER_DAY / 2 {
            Day(today.saturating_sub(1))
        } else {
            Day(today + 1)
        }
    }

    /// How far two times lie apart, in either direction.
    #[must_use]
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    /// `self` minus `other` in whole seconds, rounded towards zero; negative when `self` is earlier.
    #[must_use]
    pub fn seconds_after(self, other: Self) -> i64 {
        let seconds = i64::try_from(self.0.abs_diff(other.0) / NANOS_PER_SEC).unwrap_or(i64::MAX);
        if self < other { -seconds } else { seconds }
    }

    /// This time moved on by `length`; what does not fit becomes the greatest time.
    #[must_use]
    pub fn saturating_add(self, length: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// This time moved back by `length`; what does not fit becomes the epoch.
    #[must_use]
    pub fn saturating_sub(self, length: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// A UTC day: days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u64);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "day {}", self.0)
    }
}

/// What the gateway's clocks show at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock: compared with timestamps, may jump.
    pub wall: UnixTime,
    /// The monotonic clock since an arbitrary start: rates and lengths of time are counted on it.
    pub uptime: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbour_day_turns_at_noon() {
        let midnight = UnixTime::from_secs(86_400 * 20_000);
        assert_eq!(midnight.day(), Day(20_000));
        assert_eq!(midnight.neighbour_day(), Day(19_999));
        assert_eq!(
            midnight
                .saturating_add(Duration::from_nanos(43_199_999_999_999))
                .neighbour_day(),
            Day(19_999)
        );
        assert_eq!(
            midnight.saturating_add(Duration::from_hours(12)).neighbour_day(),
            Day(20_001)
        );
    }

    #[test]
    fn distances_do_not_overflow() {
        let (first, last) = (UnixTime::from_nanos(0), UnixTime::from_nanos(u64::MAX));
        assert_eq!(first.distance(last), Duration::from_nanos(u64::MAX));
        assert_eq!(last.seconds_after(first), 18_446_744_073);
        assert_eq!(first.seconds_after(last), -18_446_744_073);
        assert_eq!(first.neighbour_day(), Day(0));
        assert_eq!(last.neighbour_day(), Day(213_504));
    }
}

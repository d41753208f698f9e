//! The wall clock: how finely it counts, whether it can be right, and by how much it is known to be wrong.

use std::str::FromStr;
use std::time::Duration;

use rustix::time::{ClockId, clock_getres, clock_gettime};
use spa_keys::units::{self, format_duration, format_time, parse_duration};
use spa_proto::UnixTime;

/// How much later the time is than the clock here says; negative when it is earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offset {
    is_back: bool,
    length: Duration,
}

impl Offset {
    /// From nanoseconds.
    pub(crate) fn of_nanos(nanos: i128) -> Self {
        let length = u64::try_from(nanos.unsigned_abs()).unwrap_or(u64::MAX);
        Self {
            is_back: nanos < 0,
            length: Duration::from_nanos(length),
        }
    }

    /// In nanoseconds.
    pub(crate) fn nanos(self) -> i128 {
        let nanos = i128::try_from(self.length.as_nanos()).unwrap_or(i128::MAX);
        if self.is_back { -nanos } else { nanos }
    }

    /// How far off, in either direction.
    pub(crate) const fn length(self) -> Duration {
        self.length
    }

    /// As it is typed, in whole seconds.
    pub(crate) fn typed(self) -> String {
        let rounded = Duration::from_secs((self.length + Duration::from_millis(500)).as_secs());
        let sign = if self.is_back { '-' } else { '+' };
        format!("{sign}{}", format_duration(rounded))
    }
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_back, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let length = parse_duration(rest).map_err(|error| error.to_string())?;
        Ok(Self { is_back, length })
    }
}

/// The clock that requests are stamped by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock(pub(crate) Offset);

impl Clock {
    /// The clock here, corrected.
    pub(crate) fn now(self) -> UnixTime {
        self.correct(units::now())
    }

    fn correct(self, now: UnixTime) -> UnixTime {
        let Offset { is_back, length } = self.0;
        if is_back {
            let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
            UnixTime::from_nanos(now.as_nanos().saturating_sub(length))
        } else {
            now.saturating_add(length)
        }
    }
}

/// How finely the wall clock counts.
pub(crate) fn resolution() -> Duration {
    Duration::try_from(clock_getres(ClockId::Realtime)).unwrap_or(Duration::from_secs(1))
}

/// The time since the boot; it goes on while the device sleeps.
pub(crate) fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// When this program was built.
pub(crate) fn built() -> UnixTime {
    UnixTime::from_secs(env!("SPA_BUILD_SECONDS").parse().unwrap_or(0))
}

/// What is wrong with a clock that shows `now` in a program built at `built`.
pub(crate) fn warning(now: UnixTime, built: UnixTime) -> Option<String> {
    let wrong = now < built;
    wrong.then(|| {
        format!(
            "the clock here shows {}, earlier than this program was built ({}): set it, or tell with --clock-offset \
             how far off it is, or the gateway refuses",
            format_time(now),
            format_time(built)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_build_is_wrong() {
        let built = UnixTime::from_secs(1_800_000_000);
        assert_eq!(warning(built, built), None);
        insta::assert_snapshot!(
            warning(UnixTime::from_secs(0), built).unwrap(),
            @"the clock here shows 1970-01-01T00:00:00Z, earlier than this program was built (2027-01-15T08:00:00Z): set it, or tell with --clock-offset how far off it is, or the gateway refuses"
        );
    }

    #[test]
    fn this_clock_is_sane() {
        assert!(units::now() >= built());
        assert!(resolution() <= Duration::from_secs(1));
        assert!(uptime() > Duration::ZERO);
    }

    #[test]
    fn offsets_as_people_type_them() {
        let noon = UnixTime::from_secs(1_800_000_000);
        for (typed, seconds, written) in [
            ("+75s", 1_800_000_075, "+75s"),
            ("75s", 1_800_000_075, "+75s"),
            ("-2h", 1_799_992_800, "-2h"),
            ("+0s", 1_800_000_000, "+0s"),
        ] {
            let offset: Offset = typed.parse().unwrap();
            assert_eq!(Clock(offset).correct(noon), UnixTime::from_secs(seconds), "{typed}");
            assert_eq!(offset.typed(), written);
        }
        for bad in ["", "+", "--1s", "+-1s", "1", "-1"] {
            assert!(bad.parse::<Offset>().is_err(), "{bad:?}");
        }
        let far: Offset = "-99999d".parse().unwrap();
        assert_eq!(Clock(far).correct(noon), UnixTime::from_secs(0));
        assert_eq!(Offset::of_nanos(-1_600_000_000).typed(), "-2s");
    }
}

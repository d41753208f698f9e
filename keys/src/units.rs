//! Durations and times as people type them, and as files and JSON carry them.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use spa_proto::UnixTime;

const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];

/// Reads a length of time: a whole number and its unit, `90s`, `15m`, `8h` or `30d`.
///
/// # Errors
///
/// [`UnitError`] for anything else.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &text[digits.len()..];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UnitError::Duration { text: text.into() });
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit { text: text.into() });
    }
    let seconds = UNITS.iter().find(|(letter, _)| unit.chars().eq([*letter]));
    let (_, seconds) = seconds.ok_or_else(|| UnitError::Duration { text: text.into() })?;
    let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(*seconds));
    number
        .map(Duration::from_secs)
        .ok_or_else(|| UnitError::Long { text: text.into() })
}

/// Writes a length of time in the greatest unit that keeps it whole; parts of a second are dropped.
#[must_use]
pub fn format_duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let fits = |(_, unit): &&(char, u64)| seconds >= *unit && seconds.is_multiple_of(*unit);
    match UNITS.iter().rev().find(fits) {
        Some((letter, unit)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// Reads a time: `2026-12-31` (the start of that day, UTC) or RFC 3339 such as `2026-12-31T18:00:00+01:00`.
///
/// # Errors
///
/// [`UnitError`] for anything else, and for times before 1970 or after 2554.
pub fn parse_time(text: &str) -> Result<UnixTime, UnitError> {
    let wrong = || UnitError::Time { text: text.into() };
    let timestamp = match text.parse::<Date>() {
        Ok(date) if text.len() == "2026-12-31".len() => date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()),
        // Annotations like `[Europe/Berlin]` would name a zone without its offset being checked against it.
        _ if text.contains('[') => return Err(wrong()),
        _ => text.parse(),
    };
    let nanos = timestamp.map_err(|_| wrong())?.as_nanosecond();
    u64::try_from(nanos)
        .map(UnixTime::from_nanos)
        .map_err(|_| UnitError::Range { text: text.into() })
}

/// Writes a time as RFC 3339 in UTC, whole seconds: `2026-12-31T00:00:00Z`.
#[must_use]
pub fn format_time(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

/// The wall clock; the epoch when it stands before it.
#[must_use]
pub fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::from_nanos(0).saturating_add(since.unwrap_or_default())
}

/// A text that is no length of time or no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// Not a whole number and a unit.
    Duration {
        /// What was typed.
        text: String,
    },
    /// A number alone.
    NoUnit {
        /// What was typed.
        text: String,
    },
    /// More than fits.
    Long {
        /// What was typed.
        text: String,
    },
    /// Neither a date nor RFC 3339.
    Time {
        /// What was typed.
        text: String,
    },
    /// A time before 1970 or after 2554.
    Range {
        /// What was typed.
        text: String,
    },
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration { text } => write!(
                f,
                "{text:?} is no length of time: write a whole number and its unit, such as 90s, 15m, 8h or 30d"
            ),
            Self::NoUnit { text } => write!(f, "{text:?} has no unit: write {text}s, {text}m, {text}h or {text}d"),
            Self::Long { text } => write!(f, "{text:?} is longer than can be counted"),
            Self::Time { text } => write!(
                f,
                "{text:?} is no time: write 2026-12-31 (its start, UTC) or 2026-12-31T18:00:00Z"
            ),
            Self::Range { text } => write!(f, "{text:?} lies before 1970 or after 2554"),
        }
    }
}

impl std::error::Error for UnitError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("8h", 28_800), ("30d", 2_592_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "", "s", "-1s", "1.5h", "1h30m", "8H", "8 h", " 8h", "8h ", "+8h", "8w", "٣s", "1µ",
        ] {
            assert!(
                matches!(parse_duration(bad), Err(UnitError::Duration { .. })),
                "{bad:?}"
            );
        }
        assert_eq!(parse_duration("8"), Err(UnitError::NoUnit { text: "8".into() }));
        assert!(matches!(
            parse_duration("99999999999999999999d"),
            Err(UnitError::Long { .. })
        ));
        assert!(matches!(
            parse_duration("999999999999999999d"),
            Err(UnitError::Long { .. })
        ));
    }

    #[test]
    fn durations_are_written_as_typed() {
        for text in ["0s", "90s", "15m", "8h", "30d"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn times() {
        let start = UnixTime::from_secs(1_798_675_200);
        for text in ["2026-12-31", "2026-12-31T00:00:00Z", "2026-12-31T01:00:00+01:00"] {
            assert_eq!(parse_time(text), Ok(start), "{text}");
        }
        assert_eq!(format_time(start), "2026-12-31T00:00:00Z");
        assert_eq!(
            format_time(start.saturating_add(Duration::from_nanos(999_999_999))),
            "2026-12-31T00:00:00Z"
        );
        for bad in [
            "",
            "tomorrow",
            "2026-13-01",
            "2026-02-30",
            "31.12.2026",
            "2026-12-31T00:00:00",
            "1798675200",
        ] {
            assert!(matches!(parse_time(bad), Err(UnitError::Time { .. })), "{bad:?}");
        }
        for bad in ["2026-12-31T00:00:00+01:00[Europe/Berlin]", "2026-12-31[UTC]"] {
            assert!(matches!(parse_time(bad), Err(UnitError::Time { .. })), "{bad:?}");
        }
        assert!(matches!(parse_time("1969-12-31"), Err(UnitError::Range { .. })));
        assert!(matches!(parse_time("9999-01-01"), Err(UnitError::Range { .. })));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0..18_446_744_073u64) {
            let time = UnixTime::from_secs(seconds);
            prop_assert_eq!(parse_time(&format_time(time)), Ok(time));
            let length = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(length)), Ok(length));
        }

        #[test]
        fn nothing_panics(text: String, nanos: u64) {
            let _ = (parse_duration(&text), parse_time(&text), format_time(UnixTime::from_nanos(nanos)));
        }
    }
}

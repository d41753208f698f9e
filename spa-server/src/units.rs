//! Lengths of time as people type them: `90s`, `15m`, `8h`, `30d`.

use std::fmt;
use std::time::Duration;

/// The units, longest first, with their length in seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Reads a whole number with one unit: `90s`, `15m`, `8h`, `30d`. Zero is read as zero.
///
/// # Errors
///
/// [`DurationError`] for anything else: no unit, a sign, a fraction, blanks, or more seconds than 64 bits hold.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::Form);
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit);
    }
    let Some((_, seconds)) = UNITS.iter().find(|(letter, _)| unit.chars().eq([*letter])) else {
        return Err(DurationError::UnknownUnit);
    };
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number
        .checked_mul(*seconds)
        .map(Duration::from_secs)
        .ok_or(DurationError::TooLong)
}

/// Writes whole seconds in the longest unit that divides them: 90 s is `90s`, 900 s is `15m`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let fits = |unit: &&(char, u64)| seconds != 0 && seconds.is_multiple_of(unit.1);
    let (letter, length) = UNITS.iter().find(fits).copied().unwrap_or(('s', 1));
    format!("{}{letter}", seconds / length)
}

/// Why a text is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// It does not begin with digits.
    Form,
    /// A bare number.
    NoUnit,
    /// What follows the number is none of `s`, `m`, `h`, `d`.
    UnknownUnit,
    /// More seconds than can be counted.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "is no length of time: a whole number and a unit are wanted",
            Self::NoUnit => "has no unit",
            Self::UnknownUnit => "has an unknown unit: s, m, h and d are known",
            Self::TooLong => "is longer than can be counted",
        })
    }
}

impl std::error::Error for DurationError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_each_unit() {
        let pairs = [("0s", 0), ("90s", 90), ("15m", 900), ("8h", 28_800), ("30d", 2_592_000)];
        for (text, seconds) in pairs {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn refuses_what_is_no_length_of_time() {
        for text in ["", "s", "-5s", "+5s", " 5s", "h1", "½h"] {
            assert_eq!(parse_duration(text), Err(DurationError::Form), "{text}");
        }
        for text in ["1y", "5 s", "1.5h", "1h30m", "30S", "5s "] {
            assert_eq!(parse_duration(text), Err(DurationError::UnknownUnit), "{text}");
        }
        assert_eq!(parse_duration("30"), Err(DurationError::NoUnit));
        for text in ["18446744073709551616s", "18446744073709551615m"] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds: u64) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_duration(&text);
        }
    }
}

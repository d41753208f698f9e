//! How long a door stands open, and how long it may.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::LONGEST_DURATION;
use super::code::Code;
use super::defaults::{DEFAULT_DURATION, DEFAULT_MAX_DURATION};
use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawService, Text};
use spa_keys::units::{format_duration, parse_duration};

/// Less than this is over before ssh has asked for anything.
const SHORTEST_USEFUL: Duration = Duration::from_secs(5);

pub(super) fn durations(raw: &RawService, span: &Range<usize>, findings: &mut Findings<'_>) -> (Duration, Duration) {
    let typed = length(raw.duration.as_ref(), "duration", "30s", findings);
    let typed_max = length(raw.max_duration.as_ref(), "max-duration", "8h", findings);
    let (duration, max) = (
        typed.unwrap_or(DEFAULT_DURATION),
        typed_max.unwrap_or(DEFAULT_MAX_DURATION),
    );
    let place = |key: Option<&Text>| key.map_or_else(|| span.clone(), Spanned::span);
    let (written, longest) = (format_duration(duration), format_duration(max));
    if max > LONGEST_DURATION {
        let text = format!("max-duration {longest} is longer than 24d, which is all the kernel can end by itself");
        let finding = Finding::error(Code::LongMaxDuration, text).with_try("max-duration = \"24d\"");
        findings.at(&place(raw.max_duration.as_ref()), finding);
    }
    // A length that could not be read has its finding; its stand-in is not compared.
    if typed.is_some() != raw.duration.is_some() || typed_max.is_some() != raw.max_duration.is_some() {
        return (duration, max);
    }
    if duration > max {
        let text = format!("duration {written} is longer than max-duration {longest}");
        let remedy = format!("duration = \"{longest}\"");
        let finding = Finding::error(Code::DurationOverMax, text).with_try(remedy);
        findings.at(&place(raw.duration.as_ref().or(raw.max_duration.as_ref())), finding);
    } else if duration < SHORTEST_USEFUL {
        let text = format!("duration {written} leaves people hardly the time to connect");
        let finding = Finding::warning(Code::ShortDuration, text).with_try("duration = \"30s\"");
        findings.at(&place(raw.duration.as_ref()), finding);
    }
    (duration, max)
}

/// A length of time that is not zero; none when it was not written or is not good.
fn length(typed: Option<&Text>, key: &str, example: &str, findings: &mut Findings<'_>) -> Option<Duration> {
    let typed = typed?;
    let finding = match parse_duration(typed.get_ref()) {
        Ok(length) if !length.is_zero() => return Some(length),
        Ok(_) => Finding::error(Code::ZeroDuration, format!("{key} is zero: the door would never open")),
        Err(error) => Finding::error(Code::BadDuration, format!("{key}: {error}")),
    };
    findings.at(&typed.span(), finding.with_try(format!("{key} = \"{example}\"")));
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::{told, told_of_each, with_service};
    use super::super::{Config, DEFAULT_DURATION, DEFAULT_MAX_DURATION};

    #[test]
    fn unless_written_the_defaults_hold() {
        let (config, _) = Config::from_text("server.toml", &with_service("ports = [\"tcp/22\"]")).unwrap();
        assert_eq!(config.services[0].duration, DEFAULT_DURATION);
        assert_eq!(config.services[0].max_duration, DEFAULT_MAX_DURATION);
    }

    #[test]
    fn each_unit_is_understood() {
        for duration in ["5s", "30s", "15m", "8h", "30d"] {
            let keys = format!("ports = [\"tcp/22\"]\nduration = \"{duration}\"\nmax-duration = \"24d\"");
            assert!(!told(&with_service(&keys)).contains("bad-duration"), "{duration}");
        }
    }

    #[test]
    fn what_is_no_duration() {
        let values = [
            "\"30\"",
            "30",
            "\"-5s\"",
            "\"1y\"",
            "\"\"",
            "\"1h30m\"",
            "\"0s\"",
            "\"99999999999999999999d\"",
        ];
        insta::assert_snapshot!(told_of_each(&with_service("ports = [\"tcp/22\"]\nduration = {}"), &values), @r#"
        `"30"`
            error bad-duration 6:12 duration: "30" has no unit: write 30s, 30m, 30h or 30d -> duration = "30s"
        `30`
            error wrong-type 6:12 duration takes a text in quotes; this is of type integer -> duration = "30s"
        `"-5s"`
            error bad-duration 6:12 duration: "-5s" is no length of time: write a whole number and its unit, such as 90s, 15m, 8h or 30d -> duration = "30s"
        `"1y"`
            error bad-duration 6:12 duration: "1y" is no length of time: write a whole number and its unit, such as 90s, 15m, 8h or 30d -> duration = "30s"
        `""`
            error bad-duration 6:12 duration: "" is no length of time: write a whole number and its unit, such as 90s, 15m, 8h or 30d -> duration = "30s"
        `"1h30m"`
            error bad-duration 6:12 duration: "1h30m" is no length of time: write a whole number and its unit, such as 90s, 15m, 8h or 30d -> duration = "30s"
        `"0s"`
            error zero-duration 6:12 duration is zero: the door would never open -> duration = "30s"
        `"99999999999999999999d"`
            error bad-duration 6:12 duration: "99999999999999999999d" is longer than can be counted -> duration = "30s"
        "#);
        insta::assert_snapshot!(told_of_each(&with_service("ports = [\"tcp/22\"]\nmax-duration = {}"), &["\"30\"", "8", "\"0h\""]), @r#"
        `"30"`
            error bad-duration 6:16 max-duration: "30" has no unit: write 30s, 30m, 30h or 30d -> max-duration = "8h"
        `8`
            error wrong-type 6:16 max-duration takes a text in quotes; this is of type integer -> max-duration = "8h"
        `"0h"`
            error zero-duration 6:16 max-duration is zero: the door would never open -> max-duration = "8h"
        "#);
    }

    #[test]
    fn lengths_are_compared() {
        let values = ["\"9h\"", "\"4s\""];
        insta::assert_snapshot!(told_of_each(&with_service("ports = [\"tcp/22\"]\nduration = {}"), &values), @r#"
        `"9h"`
            error duration-over-max 6:12 duration 9h is longer than max-duration 8h -> duration = "8h"
        `"4s"`
            warning short-duration 6:12 duration 4s leaves people hardly the time to connect -> duration = "30s"
        "#);
        insta::assert_snapshot!(told_of_each(&with_service("ports = [\"tcp/22\"]\nmax-duration = {}"), &["\"25d\"", "\"20s\""]), @r#"
        `"25d"`
            error long-max-duration 6:16 max-duration 25d is longer than 24d, which is all the kernel can end by itself -> max-duration = "24d"
        `"20s"`
            error duration-over-max 6:16 duration 30s is longer than max-duration 20s -> duration = "20s"
        "#);
    }
}

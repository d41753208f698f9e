//! How long a door stands open, and how long it may.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::LONGEST_DURATION;
use super::finding::Finding;
use super::findings::Findings;
use super::load::{DEFAULT_DURATION, DEFAULT_MAX_DURATION};
use super::raw::{RawService, Text};
use crate::units::{format_duration, parse_duration};

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
        let finding = Finding::error("long-max-duration", text).with_try("max-duration = \"24d\"");
        findings.at(&place(raw.max_duration.as_ref()), finding);
    }
    // A length that could not be read has its finding; its stand-in is not compared.
    if typed.is_some() != raw.duration.is_some() || typed_max.is_some() != raw.max_duration.is_some() {
        return (duration, max);
    }
    if duration > max {
        let text = format!("duration {written} is longer than max-duration {longest}");
        let remedy = format!("duration = \"{longest}\"");
        let finding = Finding::error("duration-over-max", text).with_try(remedy);
        findings.at(&place(raw.duration.as_ref().or(raw.max_duration.as_ref())), finding);
    } else if duration < SHORTEST_USEFUL {
        let text = format!("duration {written} leaves people hardly the time to connect");
        let finding = Finding::warning("short-duration", text).with_try("duration = \"30s\"");
        findings.at(&place(raw.duration.as_ref()), finding);
    }
    (duration, max)
}

/// A length of time that is not zero; none when it was not written or is not good.
fn length(typed: Option<&Text>, key: &str, example: &str, findings: &mut Findings<'_>) -> Option<Duration> {
    let typed = typed?;
    let finding = match parse_duration(typed.get_ref()) {
        Ok(length) if !length.is_zero() => return Some(length),
        Ok(_) => Finding::error("zero-duration", format!("{key} is zero: the door would never open")),
        Err(error) => Finding::error("bad-duration", format!("{key} {:?} {error}", typed.get_ref())),
    };
    findings.at(&typed.span(), finding.with_try(format!("{key} = \"{example}\"")));
    None
}

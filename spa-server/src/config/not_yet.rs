//! What server.toml may say one day and this version cannot do: refused by name, never passed over.
//!
//! Work that brings one of these deletes its row.

use std::ops::Range;

use toml::Spanned;

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::RawConfig;

/// One thing to come.
struct NotYet {
    /// Where it was asked for.
    asked: fn(&RawConfig) -> Vec<Range<usize>>,
    /// What this version does instead; begins with the key.
    text: &'static str,
    remedy: &'static str,
}

const NOT_YET: [NotYet; 1] = [NotYet {
    asked: |raw| raw.scan_guard.iter().map(Spanned::span).collect(),
    text: "[scan-guard]: this version has no scan guard",
    remedy: "the file without [scan-guard]",
}];

/// Adds a finding for each place that asks for what is not there yet.
pub(super) fn refuse(raw: &RawConfig, findings: &mut Findings<'_>) {
    for row in &NOT_YET {
        for span in (row.asked)(raw) {
            findings.at(&span, Finding::error(Code::NotYet, row.text).with_try(row.remedy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{told, with_service};

    #[test]
    fn the_guard_is_still_to_come() {
        insta::assert_snapshot!(told(&(with_service("ports = [\"tcp/22\"]") + "[scan-guard]\nmode = \"ban\"\n")), @"error not-yet 6:1 [scan-guard]: this version has no scan guard -> the file without [scan-guard]");
    }
}

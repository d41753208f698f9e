//! What server.toml may say one day and this version cannot do: refused by name, never passed over.
//!
//! Work that brings one of these deletes its row.

use std::ops::Range;

use toml::Spanned;

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
    asked: |raw| raw.sequence.iter().map(Spanned::span).collect(),
    text: "[[sequence]]: this version has no classic sequences",
    remedy: "the file without [[sequence]]",
}];

/// Adds a finding for each place that asks for what is not there yet.
pub(super) fn refuse(raw: &RawConfig, findings: &mut Findings<'_>) {
    for row in &NOT_YET {
        for span in (row.asked)(raw) {
            findings.at(&span, Finding::error("not-yet", row.text).with_try(row.remedy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{told, with_service};

    #[test]
    fn sequences_are_still_to_come() {
        let sequence = "[[sequence]]\nname = \"a\"\nknocks = [\"7000/tcp\"]\nwithin = \"10s\"\nservice = \"ssh\"\n";
        insta::assert_snapshot!(told(&(with_service("ports = [\"tcp/22\"]") + sequence)), @"error not-yet 6:1 [[sequence]]: this version has no classic sequences -> the file without [[sequence]]");
    }
}

//! What server.toml may say one day and this version cannot do: refused by name, never passed over.
//!
//! Work that brings one of these deletes its row.

use std::ops::Range;

use toml::Spanned;

use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawConfig, RawService, Text, items};

/// One thing to come.
struct NotYet {
    /// Where it was asked for.
    asked: fn(&RawConfig) -> Vec<Range<usize>>,
    /// What this version does instead; begins with the key.
    text: &'static str,
    remedy: &'static str,
}

const NOT_YET: [NotYet; 3] = [
    NotYet {
        asked: |raw| texts(raw, |service| items(&service.backends), &OTHER_BACKENDS),
        text: "backends: this version opens doors with iptables only",
        remedy: "backends = [\"iptables\"]",
    },
    NotYet {
        asked: |raw| raw.sequence.iter().map(Spanned::span).collect(),
        text: "[[sequence]]: this version has no classic sequences",
        remedy: "the file without [[sequence]]",
    },
    NotYet {
        asked: |raw| raw.scan_guard.iter().map(Spanned::span).collect(),
        text: "[scan-guard]: this version has no scan guard",
        remedy: "the file without [scan-guard]",
    },
];

const OTHER_BACKENDS: [&str; 2] = ["tcp-wrappers", "command"];

/// Adds a finding for each place that asks for what is not there yet.
pub(super) fn refuse(raw: &RawConfig, findings: &mut Findings<'_>) {
    for row in &NOT_YET {
        for span in (row.asked)(raw) {
            findings.at(&span, Finding::error("not-yet", row.text).with_try(row.remedy));
        }
    }
}

/// Where one of `words` is written in what `typed` picks from each service.
fn texts(raw: &RawConfig, typed: fn(&RawService) -> &[Text], words: &[&str]) -> Vec<Range<usize>> {
    let all = raw.service.iter().flat_map(|service| typed(service.get_ref()));
    all.filter(|text| words.contains(&text.get_ref().as_str()))
        .map(Spanned::span)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{told, told_of_each, with_service};

    #[test]
    fn other_backends_are_still_to_come() {
        let keys = "ports = [\"tcp/22\"]\ndaemon = \"sshd\"\nopen = [\"/a\"]";
        let template = with_service(keys).replace("\"iptables\"", "\"{}\"");
        insta::assert_snapshot!(told_of_each(&template, &super::OTHER_BACKENDS), @r#"
        `tcp-wrappers`
            error not-yet 4:13 backends: this version opens doors with iptables only -> backends = ["iptables"]
            warning idle-key 7:8 open does nothing here: command is none of the backends -> the service without open
        `command`
            error not-yet 4:13 backends: this version opens doors with iptables only -> backends = ["iptables"]
            warning idle-key 6:10 daemon does nothing here: tcp-wrappers is none of the backends -> the service without daemon
        "#);
    }

    #[test]
    fn sequences_and_the_guard_are_still_to_come() {
        let sequence = "[[sequence]]\nname = \"a\"\nknocks = [\"7000/tcp\"]\nwithin = \"10s\"\nservice = \"ssh\"\n";
        insta::assert_snapshot!(told(&(with_service("ports = [\"tcp/22\"]") + sequence)), @"error not-yet 6:1 [[sequence]]: this version has no classic sequences -> the file without [[sequence]]");
        insta::assert_snapshot!(told(&(with_service("ports = [\"tcp/22\"]") + "[scan-guard]\nmode = \"ban\"\n")), @"error not-yet 6:1 [scan-guard]: this version has no scan guard -> the file without [scan-guard]");
    }
}

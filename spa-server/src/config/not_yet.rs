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

const NOT_YET: [NotYet; 7] = [
    NotYet {
        asked: |raw| texts(raw, |service| items(&service.backends), &OTHER_BACKENDS),
        text: "backends: this version opens doors with iptables only",
        remedy: "backends = [\"iptables\"]",
    },
    NotYet {
        asked: |raw| texts(raw, |service| service.chain.as_slice(), &["FORWARD", "DOCKER-USER"]),
        text: "chain: this version judges packets in INPUT only",
        remedy: "chain = \"INPUT\"",
    },
    NotYet {
        asked: |raw| spans(raw, written_to),
        text: "to: this version opens a service on all own addresses only",
        remedy: "to = []",
    },
    NotYet {
        asked: |raw| texts(raw, |service| service.at_end.as_slice(), &["cut"]),
        text: "at-end: this version cannot cut established connections",
        remedy: "at-end = \"keep\"",
    },
    NotYet {
        asked: |raw| spans(raw, udp_without_end),
        text: "at-end: a UDP service cuts unless told otherwise, and this version cannot cut",
        remedy: "at-end = \"keep\"",
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

const OTHER_BACKENDS: [&str; 3] = ["nftables", "tcp-wrappers", "command"];

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

fn spans(raw: &RawConfig, place: fn(&RawService) -> Option<Range<usize>>) -> Vec<Range<usize>> {
    raw.service
        .iter()
        .filter_map(|service| place(service.get_ref()))
        .collect()
}

fn written_to(service: &RawService) -> Option<Range<usize>> {
    service
        .to
        .as_ref()
        .filter(|to| !to.get_ref().is_empty())
        .map(Spanned::span)
}

/// The first UDP port of a service that does not say what becomes of its flows.
fn udp_without_end(service: &RawService) -> Option<Range<usize>> {
    let mut ports = items(&service.ports).iter().filter(|_| service.at_end.is_none());
    ports.find(|port| port.get_ref().starts_with("udp/")).map(Spanned::span)
}

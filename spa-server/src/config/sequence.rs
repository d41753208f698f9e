//! `[[sequence]]`: the classic fallback. What can be found by a plain scan, or serves something, is refused.

mod kind;
mod knocks;

use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use spa_keys::units::{format_duration, parse_duration};
use toml::Spanned;

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::nearest::nearest;
use super::raw::{RawSequence, Text, items};
use super::service;
use super::{Listen, Sequence, SequenceKind, Service};

pub(super) use knocks::{is_swept, wrong_length};

const WITHIN: Duration = Duration::from_secs(10);
/// Whoever needs longer than this has time for a rolling sequence.
const LONGEST_WITHIN: Duration = Duration::from_mins(10);

/// Which ports are no stages of a sequence.
pub(super) struct Taken<'a> {
    pub(super) services: &'a [Service],
    pub(super) listen: &'a Listen,
}

pub(super) fn sequences(raw: &[Spanned<RawSequence>], taken: &Taken<'_>, findings: &mut Findings<'_>) -> Vec<Sequence> {
    let mut sequences: Vec<Sequence> = Vec::new();
    for typed in raw {
        let sequence = sequence(typed, taken, findings);
        if sequences.iter().any(|before| before.name == sequence.name)
            && let Some(name) = &typed.get_ref().name
        {
            let text = format!("there is a sequence {} already", name.get_ref());
            findings.at(
                &name.span(),
                Finding::error(Code::DuplicateName, text).with_try("another name"),
            );
        }
        knocks::check_beginnings(typed, &sequence, &sequences, findings);
        sequences.push(sequence);
    }
    sequences
}

fn sequence(typed: &Spanned<RawSequence>, taken: &Taken<'_>, findings: &mut Findings<'_>) -> Sequence {
    let (raw, span) = (typed.get_ref(), typed.span());
    let name = service::checked_name(raw.name.as_ref(), "sequence", &span, findings);
    let service = opened(raw, &span, taken.services, findings);
    let kind = kind::kind(typed, &name, taken, findings);
    if matches!(&kind, SequenceKind::Fixed(stages) if !stages.is_empty()) {
        let text = format!(
            "sequence {name} (replayable): whoever sees it once on its way can open {service} with it from anywhere"
        );
        let place = raw.knocks.as_ref().map_or(span, Spanned::span);
        let remedy = "rolling = true instead of knocks, or spa-client open wherever it can be had";
        findings.absent(Some(&place), Finding::warning(Code::Replayable, text).with_try(remedy));
    }
    Sequence {
        name,
        service,
        sources: sources(raw, findings),
        within: within(raw.within.as_ref(), findings),
        kind,
    }
}

fn opened(raw: &RawSequence, span: &Range<usize>, services: &[Service], findings: &mut Findings<'_>) -> String {
    let known = || services.iter().map(|service| service.name.as_str());
    let remedy =
        |typed: &str| nearest(typed, known()).map_or_else(|| known().collect::<Vec<_>>().join(", "), str::to_owned);
    match &raw.service {
        None => {
            let finding = Finding::error(
                Code::NoServiceNamed,
                "this sequence names no service: it would open nothing",
            );
            findings.absent(Some(span), finding.with_try("service = \"ssh\""));
            String::new()
        }
        Some(typed) => {
            let name = typed.get_ref();
            if !known().any(|known| known == name) {
                let finding = Finding::error(Code::UnknownService, format!("there is no service {name}"));
                findings.at(&typed.span(), finding.with_try(remedy(name)));
            }
            name.clone()
        }
    }
}

fn sources(raw: &RawSequence, findings: &mut Findings<'_>) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for typed in items(&raw.sources) {
        match spa_keys::client::parse_source(typed.get_ref()) {
            Ok(net) => nets.push(net),
            Err(error) => {
                let finding = Finding::error(Code::BadSource, format!("{:?}: {error}", typed.get_ref()));
                findings.at(&typed.span(), finding.with_try("198.51.100.0/24"));
            }
        }
    }
    nets
}

fn within(typed: Option<&Text>, findings: &mut Findings<'_>) -> Duration {
    let Some(typed) = typed else { return WITHIN };
    let text = match parse_duration(typed.get_ref()) {
        Ok(within) if (Duration::from_secs(1)..=LONGEST_WITHIN).contains(&within) => return within,
        Ok(within) => format!("within {} is not between 1s and 10m", format_duration(within)),
        Err(error) => format!("within: {error}"),
    };
    findings.at(
        &typed.span(),
        Finding::error(Code::BadWithin, text).with_try("within = \"10s\""),
    );
    WITHIN
}

#[cfg(test)]
mod tests;

//! The stages of a fixed sequence, and what makes stages no good.

use std::ops::Range;

use spa_proto::TcpFlags;
use spa_proto::sequence::{FEWEST_STAGES, MOST_STAGES, Stage, StageError, Transport};
use toml::Spanned;

use super::super::code::Code;
use super::super::finding::Finding;
use super::super::findings::Findings;
use super::super::raw::{RawSequence, Text, items};
use super::super::{OneTime, PortRange, Protocol, Sequence, SequenceKind};
use super::Taken;

/// What every manual on port knocking shows, and whoever tries sequences tries first.
const EXAMPLE: [u16; 3] = [7000, 8000, 9000];

pub(super) fn fixed(raw: &RawSequence, flags: TcpFlags, taken: &Taken<'_>, findings: &mut Findings<'_>) -> Vec<Stage> {
    let typed = items(&raw.knocks);
    let mut stages = Vec::new();
    for text in typed {
        stages.extend(stage(text, flags, findings));
    }
    if stages.len() != typed.len() {
        return Vec::new();
    }
    let whole = raw.knocks.as_ref().map_or(0..0, Spanned::span);
    if let Some(text) = wrong_length(stages.len()) {
        let finding = Finding::error(Code::SequenceLength, text);
        findings.at(
            &whole,
            finding.with_try("knocks = [\"7311/tcp\", \"15002/udp\", \"9040/tcp\"]"),
        );
        return stages;
    }
    let place = |number: usize| typed.get(number).map_or_else(|| whole.clone(), Spanned::span);
    check_ports(&stages, place, "", taken, findings);
    if stages.iter().map(|stage| stage.port.get()).eq(EXAMPLE) {
        let finding = Finding::warning(
            Code::WellKnownSequence,
            "7000, 8000, 9000 is the example of every manual",
        );
        findings.at(&whole, finding.with_try("ports of your own, in no order"));
    }
    stages
}

fn stage(typed: &Text, flags: TcpFlags, findings: &mut Findings<'_>) -> Option<Stage> {
    let text = typed.get_ref();
    match text.parse::<Stage>() {
        Ok(Stage { transport, port }) => {
            let transport = match transport {
                Transport::Tcp(_) => Transport::Tcp(flags),
                Transport::Udp => Transport::Udp,
            };
            Some(Stage { transport, port })
        }
        Err(error) => {
            let finding = Finding::error(Code::BadKnock, format!("{text:?} {error}"));
            findings.at(&typed.span(), finding.with_try(meant(text, error)));
            None
        }
    }
}

fn meant(text: &str, error: StageError) -> String {
    let guess = match error {
        StageError::NoTransport => format!("{text}/tcp"),
        StageError::Swapped => text
            .split_once('/')
            .map_or_else(String::new, |(transport, port)| format!("{port}/{transport}")),
        _ => String::new(),
    };
    guess
        .parse::<Stage>()
        .map_or_else(|_| "7000/tcp, or 8000/udp".to_owned(), |stage| stage.to_string())
}

/// What is wrong with so many stages.
pub(in super::super) fn wrong_length(length: usize) -> Option<String> {
    if length < FEWEST_STAGES {
        Some(format!(
            "{length} ports are found by trying; a sequence has at least {FEWEST_STAGES}"
        ))
    } else if length > MOST_STAGES {
        Some(format!(
            "{length} ports are more than a sequence may have, which is {MOST_STAGES}"
        ))
    } else {
        None
    }
}

/// Whether a scan that goes up or down through the ports would knock this sequence on its way.
pub(in super::super) fn is_swept(stages: &[Stage]) -> bool {
    let goes = |step: i32| {
        stages.windows(2).all(|pair| match pair {
            [a, b] => {
                Protocol::of(a.transport) == Protocol::of(b.transport)
                    && i32::from(b.port.get()) - i32::from(a.port.get()) == step
            }
            _ => true,
        })
    };
    goes(1) || goes(-1)
}

/// Ports that serve something, a scan that opens, and what looks like a repeat.
pub(super) fn check_ports(
    stages: &[Stage],
    place: impl Fn(usize) -> Range<usize>,
    about: &str,
    taken: &Taken<'_>,
    findings: &mut Findings<'_>,
) {
    for (number, stage) in stages.iter().enumerate() {
        if let Some(by) = taken_by(*stage, taken) {
            let text = format!("{about}{stage} {by}: the sequence would never see it");
            findings.at(
                &place(number),
                Finding::error(Code::SequencePort, text).with_try("a port that serves nothing"),
            );
        }
        let before = stages.get(..number).unwrap_or_default();
        if stage.is_udp() && before.contains(stage) {
            let text = format!(
                "{about}{stage} comes twice: from one socket the second looks like a repeat and is passed over"
            );
            findings.at(
                &place(number),
                Finding::warning(Code::RepeatedPort, text).with_try("each UDP port once"),
            );
        }
    }
    if is_swept(stages) {
        let text = format!("{about}these ports follow each other: a plain scan in order would open the door");
        let finding = Finding::error(Code::SweptSequence, text);
        findings.at(&place(usize::MAX), finding.with_try("ports that are not neighbours"));
    }
}

fn taken_by(stage: Stage, taken: &Taken<'_>) -> Option<String> {
    let port = stage.port.get();
    if stage.is_udp() && taken.listen.ports.contains(&port) {
        return Some("is where knocks go".to_owned());
    }
    let is_here = |range: &PortRange| range.contains(Protocol::of(stage.transport), port);
    let service = taken
        .services
        .iter()
        .find(|service| service.ports.iter().any(is_here))?;
    Some(format!("belongs to service {}", service.name))
}

/// Of two sequences of which one is the other's beginning, the longer would open both.
pub(super) fn check_beginnings(
    typed: &Spanned<RawSequence>,
    sequence: &Sequence,
    before: &[Sequence],
    findings: &mut Findings<'_>,
) {
    let raw = typed.get_ref();
    let place = raw.knocks.as_ref().map(Spanned::span);
    let place = place
        .or_else(|| raw.one_time.as_ref().map(Spanned::span))
        .unwrap_or_else(|| typed.span());
    let own = all_stages(&sequence.kind);
    for other in before {
        let others = all_stages(&other.kind);
        let clash = own.iter().any(|own| {
            others
                .iter()
                .any(|other| own.starts_with(other) || other.starts_with(own))
        });
        if clash {
            let text = format!(
                "sequence {} begins with sequence {}, or the other way round",
                sequence.name, other.name
            );
            let finding = Finding::error(Code::SequenceBeginning, text);
            findings.at(&place, finding.with_try("another first port in one of the two"));
        }
    }
}

fn all_stages(kind: &SequenceKind) -> Vec<&[Stage]> {
    match kind {
        SequenceKind::Fixed(stages) if !stages.is_empty() => vec![stages],
        SequenceKind::OneTime(OneTime::List(list)) => list.iter().map(Vec::as_slice).collect(),
        _ => Vec::new(),
    }
}

//! Of which kind a sequence is: fixed, used up one by one, or rolling.

use std::path::PathBuf;

use spa_keys::rolling::RollingTyped;
use spa_proto::TcpFlags;
use spa_proto::sequence::{Rolling, Transport};
use toml::Spanned;

use super::super::code::Code;
use super::super::finding::Finding;
use super::super::findings::Findings;
use super::super::raw::{RawOneTime, RawSequence, items};
use super::super::{OneTime, Protocol, SequenceKind, TurnsError, turns};
use super::{Taken, knocks};

pub(super) fn kind(
    typed: &Spanned<RawSequence>,
    name: &str,
    taken: &Taken<'_>,
    findings: &mut Findings<'_>,
) -> SequenceKind {
    let raw = typed.get_ref();
    let rolling = raw.rolling.as_ref().is_some_and(|rolling| *rolling.get_ref());
    let kinds = [raw.knocks.is_some(), raw.one_time.is_some(), rolling];
    if kinds.iter().filter(|given| **given).count() != 1 {
        let text = format!("sequence {name} has not exactly one of knocks, one-time and rolling");
        let finding = Finding::error(Code::NoKnocks, text);
        findings.absent(
            Some(&typed.span()),
            finding.with_try("knocks = [\"7311/tcp\", \"15002/udp\", \"9040/tcp\"], or rolling = true"),
        );
        return SequenceKind::Fixed(Vec::new());
    }
    if !rolling {
        refuse_settings(raw, findings);
    }
    match &raw.one_time {
        Some(one_time) => self::one_time(one_time, taken, findings),
        None if rolling => self::rolling(typed, name, taken, findings),
        None => SequenceKind::Fixed(knocks::fixed(raw, flags(raw, findings), taken, findings)),
    }
}

/// What only a rolling sequence has.
fn refuse_settings(raw: &RawSequence, findings: &mut Findings<'_>) {
    let spans = [
        raw.range.as_ref().map(Spanned::span),
        raw.except.as_ref().map(Spanned::span),
        raw.length.as_ref().map(Spanned::span),
        raw.step.as_ref().map(Spanned::span),
        raw.transport.as_ref().map(Spanned::span),
    ];
    for span in spans.iter().flatten() {
        let finding = Finding::error(Code::NotRolling, "only a rolling sequence has this setting");
        findings.at(span, finding.with_try("rolling = true, without knocks and one-time"));
    }
}

/// The control bits of TCP stages.
fn flags(raw: &RawSequence, findings: &mut Findings<'_>) -> TcpFlags {
    let Some(typed) = &raw.tcp_flags else {
        return TcpFlags::SYN;
    };
    let names = items(&raw.tcp_flags).iter().map(|name| name.get_ref().as_str());
    let Some(flags) = TcpFlags::from_names(names).filter(|flags| flags.octet() != 0) else {
        let text = "tcp-flags takes one or more of fin, syn, rst, psh, ack, urg";
        let finding = Finding::error(Code::BadTcpFlags, text);
        findings.at(&typed.span(), finding.with_try("tcp-flags = [\"syn\"]"));
        return TcpFlags::SYN;
    };
    if flags.is_common() {
        let text = format!("every connection sends packets with {flags}: a person's own can reset the sequence");
        let finding = Finding::warning(Code::CommonFlags, text);
        findings.at(&typed.span(), finding.with_try("tcp-flags = [\"syn\"]"));
    }
    flags
}

fn one_time(typed: &Spanned<RawOneTime>, taken: &Taken<'_>, findings: &mut Findings<'_>) -> SequenceKind {
    match typed.get_ref() {
        RawOneTime::File(file) => SequenceKind::OneTime(OneTime::File(PathBuf::from(file))),
        RawOneTime::List(texts) => {
            let texts = texts.iter().enumerate().map(|(place, text)| (place + 1, text.as_str()));
            match turns(texts) {
                Ok(list) => {
                    for (place, stages) in list.iter().enumerate() {
                        let about = format!("one-time sequence {}: ", place + 1);
                        knocks::check_ports(stages, |_| typed.span(), &about, taken, findings);
                    }
                    SequenceKind::OneTime(OneTime::List(list))
                }
                Err(TurnsError { place, what }) => {
                    let finding = Finding::error(Code::BadOneTime, format!("one-time sequence {place}: {what}"));
                    findings.at(
                        &typed.span(),
                        finding.with_try("one-time = [\"7311/tcp 15002/udp 9040/tcp\"]"),
                    );
                    SequenceKind::OneTime(OneTime::List(Vec::new()))
                }
            }
        }
    }
}

fn rolling(typed: &Spanned<RawSequence>, name: &str, taken: &Taken<'_>, findings: &mut Findings<'_>) -> SequenceKind {
    let raw = typed.get_ref();
    let except: Vec<i64> = raw
        .except
        .iter()
        .flat_map(|list| list.get_ref().iter().copied())
        .collect();
    let read = RollingTyped {
        name,
        range: raw.range.as_ref().map(|text| text.get_ref().as_str()),
        except: &except,
        length: raw.length.as_ref().map(|number| *number.get_ref()),
        step: raw.step.as_ref().map(|text| text.get_ref().as_str()),
        transport: raw.transport.as_ref().map(|text| text.get_ref().as_str()),
    }
    .read();
    match read {
        Ok(rolling) => {
            check_pool(typed, &rolling, taken, findings);
            SequenceKind::Rolling(rolling)
        }
        Err(fault) => {
            let span = match fault.key {
                "range" => raw.range.as_ref().map(Spanned::span),
                "except" => raw.except.as_ref().map(Spanned::span),
                "length" => raw.length.as_ref().map(Spanned::span),
                "step" => raw.step.as_ref().map(Spanned::span),
                _ => raw.transport.as_ref().map(Spanned::span),
            };
            let finding = Finding::error(Code::BadRolling, format!("{}: {}", fault.key, fault.what));
            let remedy = format!("{} = {}", fault.key, fault.example);
            findings.at(&span.unwrap_or_else(|| typed.span()), finding.with_try(remedy));
            SequenceKind::Fixed(Vec::new())
        }
    }
}

/// A port that is in use must be left out by name: gateway and devices have to agree on the ports.
fn check_pool(typed: &Spanned<RawSequence>, rolling: &Rolling, taken: &Taken<'_>, findings: &mut Findings<'_>) {
    let in_pool = |port: &u16| rolling.pool.contains(*port);
    let served = taken.services.iter().flat_map(|service| &service.ports);
    let mut used: Vec<u16> = served
        .flat_map(|range| range.first..=range.last)
        .filter(in_pool)
        .collect();
    used.extend(taken.listen.ports.iter().copied().filter(in_pool));
    used.sort_unstable();
    used.dedup();
    let Some(first) = used.first() else { return };
    let text = format!(
        "{} of the ports to choose from are in use here, the first is {first}",
        used.len()
    );
    let place = typed
        .get_ref()
        .range
        .as_ref()
        .map_or_else(|| typed.span(), Spanned::span);
    let remedy = if used.len() > 20 {
        "another range".to_owned()
    } else {
        format!("except = {used:?}")
    };
    findings.at(&place, Finding::error(Code::SequencePort, text).with_try(remedy));
}

impl Protocol {
    /// The protocol of a stage.
    #[must_use]
    pub const fn of(transport: Transport) -> Self {
        match transport {
            Transport::Tcp(_) => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

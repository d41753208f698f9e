//! `[scan-guard]`: who is told of, who is shut out and for how long, and how many that may be.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spa_keys::units::{format_duration, parse_duration};
use toml::Spanned;

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawConfig, RawScanGuard, Text, items};
use super::{BackendKind, Config, LONGEST_DURATION, PortRange, Protocol, Sequence, SequenceKind, Service};

/// Each is a socket of the daemon.
const MOST_DECOYS: usize = 16;
/// A handshake is worth three points, and no single one may shut anybody out.
const LEAST_BAN_AT: i64 = 4;
const MOST_POINTS: i64 = 1000;
const MOST_BANS: i64 = 10_000;
const DAY: Duration = Duration::from_hours(24);

/// The scan guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Whether anybody is shut out.
    pub mode: GuardMode,
    /// TCP ports on which the daemon itself accepts, and closes at once; at most 16.
    pub decoys: Vec<u16>,
    /// A source is told of at so many points; at most `ban_at`.
    pub report_at: u32,
    /// A source is shut out at so many points; more than one handshake is worth.
    pub ban_at: u32,
    /// One point is forgotten in this time.
    pub forget: Duration,
    /// How long a ban lasts; at most [`LONGEST_DURATION`].
    pub ban_for: Duration,
    /// As many bans may begin within a minute.
    pub bans_a_minute: usize,
    /// As many bans may be in force.
    pub bans_at_once: usize,
}

/// What becomes of a scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardMode {
    /// He is told of.
    Report,
    /// He is told of and shut out.
    Ban,
}

impl Config {
    /// Whether backends are to shut anybody out.
    #[must_use]
    pub fn bans(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.mode == GuardMode::Ban)
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            mode: GuardMode::Report,
            decoys: Vec::new(),
            report_at: 5,
            ban_at: 10,
            forget: Duration::from_mins(2),
            ban_for: Duration::from_hours(1),
            bans_a_minute: 10,
            bans_at_once: 1000,
        }
    }
}

impl fmt::Display for GuardMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Report => "report",
            Self::Ban => "ban",
        })
    }
}

/// What is written, or nothing when the section is not there.
pub(super) fn guard(
    raw: &RawConfig,
    services: &[Service],
    sequences: &[Sequence],
    findings: &mut Findings<'_>,
) -> Option<Guard> {
    let section = raw.scan_guard.as_ref()?;
    let typed = section.get_ref();
    let guard = read(typed, findings);
    check_decoys(typed, services, sequences, findings);
    check_points(&guard, typed, findings);
    match guard.mode {
        GuardMode::Report => warn_idle(typed, findings),
        GuardMode::Ban => check_bans(&guard, typed, services, findings),
    }
    Some(guard)
}

fn read(typed: &RawScanGuard, findings: &mut Findings<'_>) -> Guard {
    let default = Guard::default();
    Guard {
        mode: mode(typed.mode.as_ref(), findings),
        decoys: decoys(typed, findings),
        report_at: number(typed.report_at.as_ref(), "report-at", 2, MOST_POINTS, findings).unwrap_or(default.report_at),
        ban_at: number(typed.ban_at.as_ref(), "ban-at", LEAST_BAN_AT, MOST_POINTS, findings).unwrap_or(default.ban_at),
        forget: length(typed.forget.as_ref(), "forget", DAY, findings).unwrap_or(default.forget),
        ban_for: length(typed.ban_for.as_ref(), "ban-for", LONGEST_DURATION, findings).unwrap_or(default.ban_for),
        bans_a_minute: number(typed.bans_a_minute.as_ref(), "bans-a-minute", 1, MOST_BANS, findings)
            .unwrap_or(default.bans_a_minute),
        bans_at_once: number(typed.bans_at_once.as_ref(), "bans-at-once", 1, MOST_BANS, findings)
            .unwrap_or(default.bans_at_once),
    }
}

fn mode(typed: Option<&Text>, findings: &mut Findings<'_>) -> GuardMode {
    let Some(typed) = typed else {
        return GuardMode::Report;
    };
    match typed.get_ref().as_str() {
        "report" => return GuardMode::Report,
        "ban" => return GuardMode::Ban,
        _ => {}
    }
    let finding = Finding::error(Code::BadMode, format!("{:?} is no mode", typed.get_ref()));
    findings.at(
        &typed.span(),
        finding.with_try("\"report\", which tells of scans, or \"ban\", which shuts out too"),
    );
    GuardMode::Report
}

/// A handshake proves that its source is there; a datagram proves nothing, so decoys are TCP.
fn decoys(typed: &RawScanGuard, findings: &mut Findings<'_>) -> Vec<u16> {
    let mut decoys = Vec::new();
    for text in items(&typed.decoys) {
        let fault = match text.get_ref().parse::<PortRange>() {
            Ok(range) if range.protocol == Protocol::Udp => "is UDP: only TCP proves who is there".to_owned(),
            Ok(range) if range.first != range.last => "is a range: each decoy is one port".to_owned(),
            Ok(range) if decoys.contains(&range.first) => "stands here twice".to_owned(),
            Ok(range) => {
                decoys.push(range.first);
                continue;
            }
            Err(error) => error.to_string(),
        };
        let finding = Finding::error(Code::BadDecoy, format!("{:?} {fault}", text.get_ref()));
        findings.at(&text.span(), finding.with_try("tcp/23"));
    }
    if let Some(list) = typed.decoys.as_ref().filter(|_| decoys.len() > MOST_DECOYS) {
        let text = format!("{} decoys are too many: at most {MOST_DECOYS}", decoys.len());
        findings.at(
            &list.span(),
            Finding::error(Code::TooManyDecoys, text).with_try("fewer ports"),
        );
    }
    decoys
}

fn check_decoys(typed: &RawScanGuard, services: &[Service], sequences: &[Sequence], findings: &mut Findings<'_>) {
    for text in items(&typed.decoys) {
        let Ok(decoy) = text.get_ref().parse::<PortRange>() else {
            continue;
        };
        let has = |service: &&Service| service.ports.iter().any(|ports| ports.overlaps(&decoy));
        let knocks = |sequence: &&Sequence| match &sequence.kind {
            SequenceKind::Fixed(stages) => stages
                .iter()
                .any(|stage| decoy.contains(Protocol::of(stage.transport), stage.port.get())),
            SequenceKind::OneTime(_) | SequenceKind::Rolling(_) => false,
        };
        let owner = services
            .iter()
            .find(has)
            .map(|service| format!("service {}", service.name));
        let owner = owner.or_else(|| {
            let found = sequences.iter().find(knocks);
            found.map(|sequence| format!("sequence {}", sequence.name))
        });
        if let Some(owner) = owner {
            let finding = Finding::error(
                Code::DecoyInUse,
                format!("{decoy} is a port of {owner}: its users would be suspects"),
            );
            findings.at(
                &text.span(),
                finding.with_try("a port that nobody has a reason to touch"),
            );
        }
    }
}

fn check_points(guard: &Guard, typed: &RawScanGuard, findings: &mut Findings<'_>) {
    if guard.report_at > guard.ban_at {
        let text = format!(
            "report-at {} is more than ban-at {}: sources would be shut out before anybody is told",
            guard.report_at, guard.ban_at
        );
        let place = typed.report_at.as_ref().or(typed.ban_at.as_ref());
        let finding = Finding::error(Code::ReportAfterBan, text).with_try(format!("report-at = {}", guard.ban_at));
        findings.at(&place.map(Spanned::span).unwrap_or_default(), finding);
    }
}

fn check_bans(guard: &Guard, typed: &RawScanGuard, services: &[Service], findings: &mut Findings<'_>) {
    let span = typed.mode.as_ref().map(Spanned::span).unwrap_or_default();
    let mut backends = services.iter().flat_map(|service| &service.backends);
    if backends.all(|backend| *backend == BackendKind::Command) {
        let text = "mode is ban, but no service has a backend that could shut anybody out";
        let finding = Finding::error(Code::NoBanBackend, text);
        findings.at(
            &span,
            finding.with_try("a service with backend iptables, nftables or tcp-wrappers, or mode = \"report\""),
        );
    }
    let text = format!(
        "a ban shuts its source out of every port of this host for {}: who can forge addresses can have up to {} others \
         shut out so; always-allow, own addresses, gateways, resolvers and holders of grants never are",
        format_duration(guard.ban_for),
        guard.bans_at_once
    );
    let finding = Finding::warning(Code::BanCosts, text);
    findings.at(
        &span,
        finding.with_try("mode = \"report\" for some days first; whoever must always come in belongs in always-allow"),
    );
}

/// Keys that only bans heed.
fn warn_idle(typed: &RawScanGuard, findings: &mut Findings<'_>) {
    let spans = [
        ("ban-at", typed.ban_at.as_ref().map(Spanned::span)),
        ("ban-for", typed.ban_for.as_ref().map(Spanned::span)),
        ("bans-a-minute", typed.bans_a_minute.as_ref().map(Spanned::span)),
        ("bans-at-once", typed.bans_at_once.as_ref().map(Spanned::span)),
    ];
    for (key, span) in spans.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        let text = format!("{key} does nothing here: mode is report, so nobody is shut out");
        findings.at(
            &span,
            Finding::warning(Code::IdleKey, text).with_try("mode = \"ban\", or the file without it"),
        );
    }
}

pub(super) fn number<T: TryFrom<i64>>(
    typed: Option<&Spanned<i64>>,
    key: &str,
    least: i64,
    most: i64,
    findings: &mut Findings<'_>,
) -> Option<T> {
    let typed = typed?;
    let given = *typed.get_ref();
    if (least..=most).contains(&given) {
        return T::try_from(given).ok();
    }
    let finding = Finding::error(
        Code::OutOfRange,
        format!("{key} is {given}; it goes from {least} to {most}"),
    );
    let nearest = given.clamp(least, most);
    findings.at(&typed.span(), finding.with_try(format!("{key} = {nearest}")));
    None
}

/// From 1 s up to `longest`.
fn length(typed: Option<&Text>, key: &str, longest: Duration, findings: &mut Findings<'_>) -> Option<Duration> {
    let typed = typed?;
    let most = format_duration(longest);
    let finding = match parse_duration(typed.get_ref()) {
        Ok(length) if length.is_zero() => Finding::error(Code::ZeroDuration, format!("{key} is zero")),
        Ok(length) if length > longest => {
            let text = format!("{key} {} is longer than {most}", format_duration(length));
            Finding::error(Code::LongDuration, text)
        }
        Ok(length) => return Some(length),
        Err(error) => Finding::error(Code::BadDuration, format!("{key}: {error}")),
    };
    findings.at(&typed.span(), finding.with_try(format!("{key} = \"{most}\" or less")));
    None
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::{told, told_of_each, with_service};
    use super::*;

    fn with(keys: &str) -> String {
        with_service("ports = [\"tcp/22\"]") + "[scan-guard]\n" + keys + "\n"
    }

    #[test]
    fn off_unless_written_and_report_unless_told() {
        let of = |text: &str| Config::from_text("s", text).unwrap().0.guard;
        assert_eq!(of(&with_service("ports = [\"tcp/22\"]")), None);
        assert_eq!(of(&with("")), Some(Guard::default()));
        let all = "mode = \"ban\"\ndecoys = [\"tcp/23\"]\nreport-at = 3\nban-at = 6\nforget = \"1m\"\nban-for = \"10m\"\n\
            bans-a-minute = 2\nbans-at-once = 20";
        let expected = Guard {
            mode: GuardMode::Ban,
            decoys: vec![23],
            report_at: 3,
            ban_at: 6,
            forget: Duration::from_mins(1),
            ban_for: Duration::from_mins(10),
            bans_a_minute: 2,
            bans_at_once: 20,
        };
        assert_eq!(of(&with(all)), Some(expected));
    }

    #[test]
    fn what_a_ban_costs_is_said() {
        insta::assert_snapshot!(told(&with("mode = \"ban\"")), @r#"warning ban-costs 7:8 a ban shuts its source out of every port of this host for 1h: who can forge addresses can have up to 1000 others shut out so; always-allow, own addresses, gateways, resolvers and holders of grants never are -> mode = "report" for some days first; whoever must always come in belongs in always-allow"#);
    }

    #[test]
    fn what_is_no_guard() {
        let keys = [
            "mode = \"block\"",
            "mode = true",
            "decoys = [\"tcp/0\", \"udp/53\", \"tcp/1-9\", \"tcp/23\", \"tcp/23\"]",
            "decoys = [\"tcp/22\"]",
            "report-at = 1",
            "report-at = 11",
            "mode = \"ban\"\nban-at = 3",
            "forget = \"0s\"\nban-for = \"30d\"",
            "forget = \"2\"",
            "bans-a-minute = 0",
            "decoy = [\"tcp/23\"]",
        ];
        insta::assert_snapshot!(told_of_each(&with("{}"), &keys), @r#"
        `mode = "block"`
            error bad-mode 7:8 "block" is no mode -> "report", which tells of scans, or "ban", which shuts out too
        `mode = true`
            error wrong-type 7:8 mode takes a text in quotes; this is of type boolean -> mode = "report"
        `decoys = ["tcp/0", "udp/53", "tcp/1-9", "tcp/23", "tcp/23"]`
            error bad-decoy 7:11 "tcp/0" names port 0, which nobody can reach -> tcp/23
            error bad-decoy 7:20 "udp/53" is UDP: only TCP proves who is there -> tcp/23
            error bad-decoy 7:30 "tcp/1-9" is a range: each decoy is one port -> tcp/23
            error bad-decoy 7:51 "tcp/23" stands here twice -> tcp/23
        `decoys = ["tcp/22"]`
            error decoy-in-use 7:11 tcp/22 is a port of service ssh: its users would be suspects -> a port that nobody has a reason to touch
        `report-at = 1`
            error out-of-range 7:13 report-at is 1; it goes from 2 to 1000 -> report-at = 2
        `report-at = 11`
            error report-after-ban 7:13 report-at 11 is more than ban-at 10: sources would be shut out before anybody is told -> report-at = 10
        `mode = "ban"
        ban-at = 3`
            warning ban-costs 7:8 a ban shuts its source out of every port of this host for 1h: who can forge addresses can have up to 1000 others shut out so; always-allow, own addresses, gateways, resolvers and holders of grants never are -> mode = "report" for some days first; whoever must always come in belongs in always-allow
            error out-of-range 8:10 ban-at is 3; it goes from 4 to 1000 -> ban-at = 4
        `forget = "0s"
        ban-for = "30d"`
            error zero-duration 7:10 forget is zero -> forget = "1d" or less
            error long-duration 8:11 ban-for 30d is longer than 24d -> ban-for = "24d" or less
            warning idle-key 8:11 ban-for does nothing here: mode is report, so nobody is shut out -> mode = "ban", or the file without it
        `forget = "2"`
            error bad-duration 7:10 forget: "2" has no unit: write 2s, 2m, 2h or 2d -> forget = "1d" or less
        `bans-a-minute = 0`
            error out-of-range 7:17 bans-a-minute is 0; it goes from 1 to 10000 -> bans-a-minute = 1
            warning idle-key 7:17 bans-a-minute does nothing here: mode is report, so nobody is shut out -> mode = "ban", or the file without it
        `decoy = ["tcp/23"]`
            error unknown-key 7:1 decoy is no key of [scan-guard] -> decoys
        "#);
    }

    #[test]
    fn a_decoy_is_no_port_of_a_sequence() {
        let sequence = "[[sequence]]\nname = \"card\"\nknocks = [\"7311/tcp\", \"23/tcp\", \"9040/udp\"]\nwithin = \"10s\"\nservice = \"ssh\"\n";
        let findings = told(&(with("decoys = [\"tcp/23\"]") + sequence));
        let decoy: Vec<&str> = findings.lines().filter(|line| line.contains("decoy")).collect();
        insta::assert_snapshot!(decoy.join("\n"), @"error decoy-in-use 7:11 tcp/23 is a port of sequence card: its users would be suspects -> a port that nobody has a reason to touch");
    }

    #[test]
    fn a_ban_needs_a_backend() {
        let text = with("mode = \"ban\"").replace(
            "backends = [\"iptables\"]\nports = [\"tcp/22\"]",
            "backends = [\"command\"]\nopen = [\"/bin/true\"]\nclose = [\"/bin/true\"]\nuser = \"nobody\"",
        );
        insta::assert_snapshot!(told(&text).lines().next().unwrap_or_default(), @r#"error no-ban-backend 9:8 mode is ban, but no service has a backend that could shut anybody out -> a service with backend iptables, nftables or tcp-wrappers, or mode = "report""#);
    }
}

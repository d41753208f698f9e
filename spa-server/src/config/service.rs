//! `[[service]]`: names, backends, lengths of time, and what each backend needs.

use std::ops::Range;

use toml::Spanned;

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::nearest::nearest;
use super::raw::{RawConfig, RawService, Text, items};
use super::{AtEnd, BackendKind, Chain, Listen, PortRange, Protocol, Service, command, durations, ports};

/// `spa4-NAME` and a suffix must fit into ipset's 31.
const LONGEST_NAME: usize = 24;
/// Names whose sets hold something else.
const RESERVED: [(&str, &str); 2] = [("allow", "always-allow"), ("ban", "who is shut out")];

/// A service and the places that checks across services point at.
pub(super) struct Placed {
    pub(super) service: Service,
    pub(super) ports: Vec<Spanned<PortRange>>,
}

pub(super) fn services(
    raw: &RawConfig,
    listen: &Listen,
    users: Option<&[String]>,
    findings: &mut Findings<'_>,
) -> Vec<Service> {
    if raw.service.is_empty() {
        let finding = Finding::warning(Code::NoService, "there is no [[service]]: nothing can be opened");
        findings.absent(None, finding.with_try("spa-server init writes a file with one"));
    }
    let mut placed: Vec<Placed> = Vec::new();
    for typed in &raw.service {
        check_duplicate(typed.get_ref(), &placed, findings);
        check_daemon(typed.get_ref(), &placed, findings);
        placed.push(service(typed, findings));
        command::check(typed, users, findings);
    }
    ports::check_across(&placed, &listen.ports, findings);
    placed.into_iter().map(|placed| placed.service).collect()
}

fn service(typed: &Spanned<RawService>, findings: &mut Findings<'_>) -> Placed {
    let (raw, span) = (typed.get_ref(), typed.span());
    let ports = ports::ports(raw, findings);
    let ranges: Vec<PortRange> = ports.iter().map(|port| *port.get_ref()).collect();
    let (duration, max_duration) = durations::durations(raw, &span, findings);
    let service = Service {
        name: name(raw, &span, findings),
        backends: backends(raw, &span, findings),
        protect: raw.protect.as_ref().is_some_and(|protect| *protect.get_ref()),
        duration,
        max_duration,
        at_end: at_end(raw, &ranges, findings),
        chain: chain(raw, findings),
        to: ports::own_addresses(raw, findings),
        daemon: plain(raw.daemon.as_ref()),
        open: command::argv(&raw.open),
        close: command::argv(&raw.close),
        user: plain(raw.user.as_ref()),
        ports: ranges,
    };
    check_needs(&service, typed, findings);
    Placed { service, ports }
}

fn plain(typed: Option<&Text>) -> Option<String> {
    typed.map(|text| text.get_ref().clone())
}

fn name(raw: &RawService, span: &Range<usize>, findings: &mut Findings<'_>) -> String {
    let name = checked_name(raw.name.as_ref(), "service", span, findings);
    let reserved = RESERVED.iter().find(|(reserved, _)| *reserved == name);
    if let (Some(typed), Some((_, held))) = (&raw.name, reserved) {
        let text = format!("the name {name} is taken: its sets spa4-{name} and spa6-{name} hold {held}");
        findings.at(
            &typed.span(),
            Finding::error(Code::ReservedName, text).with_try("another name"),
        );
    }
    name
}

/// The name of a service or a sequence, as `what` says. The latter's is a file's name too.
pub(super) fn checked_name(
    typed: Option<&Text>,
    what: &str,
    span: &Range<usize>,
    findings: &mut Findings<'_>,
) -> String {
    let Some(typed) = typed else {
        let finding = Finding::error(Code::NoName, format!("this {what} has no name"));
        findings.absent(Some(span), finding.with_try("name = \"ssh\""));
        return String::new();
    };
    let name = typed.get_ref();
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if name.is_empty() || !name.bytes().all(good) || name.starts_with(['.', '_', '-']) {
        let text = format!("{name:?} is no {what} name");
        let remedy = "lower-case letters, digits, and . _ - after the first character";
        findings.at(&typed.span(), Finding::error(Code::BadName, text).with_try(remedy));
    } else if name.len() > LONGEST_NAME {
        let text = format!(
            "{name} has {} characters; a {what} name has at most {LONGEST_NAME}",
            name.len()
        );
        findings.at(
            &typed.span(),
            Finding::error(Code::LongName, text).with_try(&name[..LONGEST_NAME]),
        );
    }
    name.clone()
}

fn check_duplicate(raw: &RawService, before: &[Placed], findings: &mut Findings<'_>) {
    let Some(typed) = &raw.name else { return };
    if before.iter().any(|placed| placed.service.name == *typed.get_ref()) {
        let text = format!("there is a service {} already", typed.get_ref());
        let finding = Finding::error(Code::DuplicateName, text);
        findings.at(
            &typed.span(),
            finding.with_try("another name, or all ports in the first one"),
        );
    }
}

/// Whoever is let in to a daemon is let in to it for every service: two of them could not be told apart.
fn check_daemon(raw: &RawService, before: &[Placed], findings: &mut Findings<'_>) {
    let has_wrappers = items(&raw.backends).iter().any(|name| name.get_ref() == "tcp-wrappers");
    let Some(typed) = raw.daemon.as_ref().filter(|_| has_wrappers) else {
        return;
    };
    let is_same = |placed: &&Placed| {
        let Service { backends, daemon, .. } = &placed.service;
        backends.contains(&BackendKind::TcpWrappers) && daemon.as_ref() == Some(typed.get_ref())
    };
    if let Some(other) = before.iter().find(is_same) {
        let text = format!("service {} opens {} already", other.service.name, typed.get_ref());
        let remedy = "one service for the daemon: hosts.allow knows daemons, not services";
        findings.at(
            &typed.span(),
            Finding::error(Code::DuplicateDaemon, text).with_try(remedy),
        );
    }
}

fn backends(raw: &RawService, span: &Range<usize>, findings: &mut Findings<'_>) -> Vec<BackendKind> {
    let names = items(&raw.backends);
    if names.is_empty() {
        let finding = Finding::error(Code::NoBackend, "no backend is named: a grant would open nothing");
        let place = raw.backends.as_ref().map_or_else(|| span.clone(), Spanned::span);
        findings.absent(Some(&place), finding.with_try("backends = [\"iptables\"]"));
    }
    let mut kinds = Vec::new();
    for name in names {
        let Some(kind) = one_of(name, "backend", Code::UnknownBackend, &BackendKind::NAMES, findings) else {
            continue;
        };
        if kinds.contains(&kind) {
            let finding = Finding::error(
                Code::DuplicateBackend,
                format!("backend {} is named twice", name.get_ref()),
            );
            findings.at(&name.span(), finding.with_try("one of the two"));
        } else {
            kinds.push(kind);
        }
    }
    kinds
}

fn at_end(raw: &RawService, ports: &[PortRange], findings: &mut Findings<'_>) -> AtEnd {
    let names = [("keep", AtEnd::Keep), ("cut", AtEnd::Cut)];
    let typed = raw
        .at_end
        .as_ref()
        .and_then(|typed| one_of(typed, "at-end", Code::BadAtEnd, &names, findings));
    let udp = ports.iter().any(|port| port.protocol == Protocol::Udp);
    typed.unwrap_or(if udp { AtEnd::Cut } else { AtEnd::Keep })
}

fn chain(raw: &RawService, findings: &mut Findings<'_>) -> Chain {
    let names = [
        ("INPUT", Chain::Input),
        ("FORWARD", Chain::Forward),
        ("DOCKER-USER", Chain::DockerUser),
    ];
    let typed = raw
        .chain
        .as_ref()
        .and_then(|typed| one_of(typed, "chain", Code::BadChain, &names, findings));
    typed.unwrap_or(Chain::Input)
}

/// Understands a word out of a few.
fn one_of<T: Copy>(typed: &Text, key: &str, code: Code, names: &[(&str, T)], findings: &mut Findings<'_>) -> Option<T> {
    let word = typed.get_ref();
    let found = names.iter().find(|(name, _)| name == word).map(|(_, value)| *value);
    if found.is_none() {
        let known = || names.iter().map(|(name, _)| *name);
        let remedy = nearest(word, known()).map_or_else(|| known().collect::<Vec<_>>().join(", "), str::to_owned);
        findings.at(
            &typed.span(),
            Finding::error(code, format!("{key} {word:?} is not known")).with_try(remedy),
        );
    }
    found
}

/// What a backend cannot do without.
fn check_needs(service: &Service, typed: &Spanned<RawService>, findings: &mut Findings<'_>) {
    let (raw, span) = (typed.get_ref(), typed.span());
    let behind_firewall = service.backends.iter().copied().any(BackendKind::is_firewall);
    let name = &service.name;
    if behind_firewall && items(&raw.ports).is_empty() {
        let text = format!("service {name} is behind the firewall and names no ports");
        let place = raw.ports.as_ref().map_or(span, Spanned::span);
        findings.absent(
            Some(&place),
            Finding::error(Code::NoPorts, text).with_try("ports = [\"tcp/22\"]"),
        );
    }
    let elsewhere = service.chain != Chain::Input && service.backends.contains(&BackendKind::Nftables);
    if let Some(chain) = raw.chain.as_ref().filter(|_| elsewhere) {
        let name = chain.get_ref();
        let text = format!("nftables judges packets to this host; those through {name} need iptables");
        let remedy = "backends = [\"iptables\"], or chain = \"INPUT\"";
        findings.at(&chain.span(), Finding::error(Code::NotThisChain, text).with_try(remedy));
    }
    if let Some(protect) = raw.protect.as_ref().filter(|_| service.protect && !behind_firewall) {
        let text = format!("protect hides nothing: no backend of service {name} is a firewall");
        let remedy = "protect = false, or backend iptables besides";
        findings.absent(
            Some(&protect.span()),
            Finding::error(Code::ProtectsNothing, text).with_try(remedy),
        );
    }
}

impl BackendKind {
    /// Every kind with its name in server.toml.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("iptables", Self::Iptables),
        ("nftables", Self::Nftables),
        ("tcp-wrappers", Self::TcpWrappers),
        ("command", Self::Command),
    ];

    /// Its name in server.toml, status and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::TcpWrappers => "tcp-wrappers",
            Self::Command => "command",
        }
    }

    /// Whether packets are judged: such a service has ports and can be hidden.
    #[must_use]
    pub fn is_firewall(self) -> bool {
        matches!(self, Self::Iptables | Self::Nftables)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{told, told_of_each, with_service, with_tables};
    use super::super::{AtEnd, Chain, Config};

    #[test]
    fn one_service_is_a_whole_file() {
        let (config, findings) = Config::from_text("server.toml", &with_service("ports = [\"tcp/22\"]")).unwrap();
        assert_eq!(findings, []);
        let service = &config.services[0];
        assert_eq!(
            (service.protect, service.at_end, service.chain),
            (false, AtEnd::Keep, Chain::Input)
        );
    }

    #[test]
    fn a_daemon_has_one_service() {
        let one = "[[service]]\nname = \"{}\"\nbackends = [\"tcp-wrappers\"]\ndaemon = \"sshd\"\n";
        let two = "gateway.host = \"gw\"\n".to_owned() + &one.replace("{}", "a") + &one.replace("{}", "b");
        insta::assert_snapshot!(told(&two), @"error duplicate-daemon 9:10 service a opens sshd already -> one service for the daemon: hosts.allow knows daemons, not services");
    }

    #[test]
    fn a_service_has_a_name_and_a_backend() {
        insta::assert_snapshot!(told("gateway.host = \"gw\"\n[[service]]\nports = [\"tcp/22\"]"), @r#"
        error no-name 2:1 this service has no name -> name = "ssh"
        error no-backend 2:1 no backend is named: a grant would open nothing -> backends = ["iptables"]
        "#);
        insta::assert_snapshot!(told("gateway.host = \"gw\"\n[[service]]\nname = \"a\"\nbackends = []"), @r#"error no-backend 4:12 no backend is named: a grant would open nothing -> backends = ["iptables"]"#);
        insta::assert_snapshot!(told("gateway.host = \"gw\""), @"warning no-service -:- there is no [[service]]: nothing can be opened -> spa-server init writes a file with one");
    }

    #[test]
    fn what_is_no_service_name() {
        let names = [
            "",
            "SSH",
            "-a",
            "a b",
            "größe",
            "allow",
            "ban",
            "a234567890123456789012345",
            "a\\u001b[31m",
        ];
        let template = with_service("ports = [\"tcp/22\"]").replace("\"ssh\"", "\"{}\"");
        insta::assert_snapshot!(told_of_each(&template, &names), @r#"
        ``
            error bad-name 3:8 "" is no service name -> lower-case letters, digits, and . _ - after the first character
        `SSH`
            error bad-name 3:8 "SSH" is no service name -> lower-case letters, digits, and . _ - after the first character
        `-a`
            error bad-name 3:8 "-a" is no service name -> lower-case letters, digits, and . _ - after the first character
        `a b`
            error bad-name 3:8 "a b" is no service name -> lower-case letters, digits, and . _ - after the first character
        `größe`
            error bad-name 3:8 "größe" is no service name -> lower-case letters, digits, and . _ - after the first character
        `allow`
            error reserved-name 3:8 the name allow is taken: its sets spa4-allow and spa6-allow hold always-allow -> another name
        `ban`
            error reserved-name 3:8 the name ban is taken: its sets spa4-ban and spa6-ban hold who is shut out -> another name
        `a234567890123456789012345`
            error long-name 3:8 a234567890123456789012345 has 25 characters; a service name has at most 24 -> a23456789012345678901234
        `a\u001b[31m`
            error bad-name 3:8 "a\u{1b}[31m" is no service name -> lower-case letters, digits, and . _ - after the first character
        "#);
        assert_eq!(told(&template.replace("{}", "a23456789.123456789_-234")), "");
    }

    #[test]
    fn names_are_unique() {
        let second = "[[service]]\nname = \"ssh\"\nbackends = [\"iptables\"]\nports = [\"tcp/2222\"]\n";
        insta::assert_snapshot!(told(&(with_service("ports = [\"tcp/22\"]") + second)), @"error duplicate-name 7:8 there is a service ssh already -> another name, or all ports in the first one");
    }

    #[test]
    fn what_is_no_backend() {
        let template = with_service("ports = [\"tcp/22\"]").replace("[\"iptables\"]", "{}");
        insta::assert_snapshot!(told_of_each(&template, &["[\"iptable\"]", "[\"pf\"]", "[\"iptables\", \"iptables\"]"]), @r#"
        `["iptable"]`
            error unknown-backend 4:13 backend "iptable" is not known -> iptables
        `["pf"]`
            error unknown-backend 4:13 backend "pf" is not known -> iptables, nftables, tcp-wrappers, command
        `["iptables", "iptables"]`
            error duplicate-backend 4:25 backend iptables is named twice -> one of the two
        "#);
    }

    #[test]
    fn words_out_of_a_few() {
        let template = with_service("ports = [\"tcp/22\"]\n{}");
        insta::assert_snapshot!(told_of_each(&template, &["at-end = \"kill\"", "chain = \"input\"", "chain = \"OUTPUT\""]), @r#"
        `at-end = "kill"`
            error bad-at-end 6:10 at-end "kill" is not known -> keep, cut
        `chain = "input"`
            error bad-chain 6:9 chain "input" is not known -> INPUT
        `chain = "OUTPUT"`
            error bad-chain 6:9 chain "OUTPUT" is not known -> INPUT, FORWARD, DOCKER-USER
        "#);
    }

    #[test]
    fn what_passes_through_is_for_iptables() {
        let template = with_service("ports = [\"tcp/22\"]\nchain = \"FORWARD\"").replace("\"iptables\"", "\"{}\"");
        insta::assert_snapshot!(told_of_each(&template, &["iptables", "nftables"]), @r#"
        `iptables`
            
        `nftables`
            error not-this-chain 6:9 nftables judges packets to this host; those through FORWARD need iptables -> backends = ["iptables"], or chain = "INPUT"
        "#);
    }

    #[test]
    fn the_firewall_needs_ports() {
        insta::assert_snapshot!(told(&with_service("")), @r#"error no-ports 2:1 service ssh is behind the firewall and names no ports -> ports = ["tcp/22"]"#);
        insta::assert_snapshot!(told(&with_service("ports = []")), @r#"error no-ports 5:9 service ssh is behind the firewall and names no ports -> ports = ["tcp/22"]"#);
    }

    #[test]
    fn protecting_needs_a_firewall() {
        let source = with_tables("gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.7\"]") + "protect = true\n";
        assert_eq!(told(&source), "");
        insta::assert_snapshot!(told(&source.replace("\"iptables\"", "\"tcp-wrappers\"")), @r#"
        error no-daemon 3:1 tcp-wrappers needs the daemon's name as in hosts.allow -> daemon = "sshd"
        error protects-nothing 7:11 protect hides nothing: no backend of service ssh is a firewall -> protect = false, or backend iptables besides
        "#);
    }
}

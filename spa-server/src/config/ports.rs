//! Ports: each by itself, within its service, and across services.

use std::net::IpAddr;

use toml::Spanned;

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawService, Text, items};
use super::service::Placed;
use super::{BackendKind, PortRange, Protocol, Service};

/// The ports of one service; those that are no ports are left out.
pub(super) fn ports(raw: &RawService, findings: &mut Findings<'_>) -> Vec<Spanned<PortRange>> {
    let mut ports: Vec<Spanned<PortRange>> = Vec::new();
    for typed in items(&raw.ports) {
        let Some(port) = port(typed, findings) else { continue };
        if let Some(other) = ports.iter().find(|other| other.get_ref().overlaps(port.get_ref())) {
            let text = format!("{} overlaps {} of the same service", port.get_ref(), other.get_ref());
            let finding = Finding::error(Code::OverlappingPorts, text);
            findings.at(&port.span(), finding.with_try("each port once"));
        }
        ports.push(port);
    }
    ports
}

fn port(typed: &Text, findings: &mut Findings<'_>) -> Option<Spanned<PortRange>> {
    let text = typed.get_ref();
    let error = match text.parse() {
        Ok(range) => return Some(Spanned::new(typed.span(), range)),
        Err(error) => error,
    };
    let meant = error
        .meant(text)
        .unwrap_or_else(|| "tcp/22, or udp/60000-61000".to_owned());
    findings.at(
        &typed.span(),
        Finding::error(Code::BadPort, format!("{text:?} {error}")).with_try(meant),
    );
    None
}

/// The own addresses a service is reached at; empty means all.
pub(super) fn own_addresses(raw: &RawService, findings: &mut Findings<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for typed in items(&raw.to) {
        if let Ok(address) = typed.get_ref().parse() {
            addresses.push(address);
            continue;
        }
        let finding = Finding::error(Code::BadTo, format!("{:?} is no address", typed.get_ref()));
        findings.at(
            &typed.span(),
            finding.with_try("an address of this host, such as 192.0.2.1"),
        );
    }
    addresses
}

/// No port of one address may lie in two services that a firewall guards, and none may be one that knocks go to.
pub(super) fn check_across(services: &[Placed], knocked: &[u16], findings: &mut Findings<'_>) {
    let mut before: Vec<&Placed> = Vec::new();
    for placed in services {
        placed
            .ports
            .iter()
            .for_each(|port| check_knocked(port, knocked, findings));
        if placed.service.backends.iter().copied().any(BackendKind::is_firewall) {
            let others = before.iter().map(|placed| &placed.service);
            let rivals: Vec<&Service> = others.filter(|other| share_address(other, &placed.service)).collect();
            for port in &placed.ports {
                check_shared(port, &rivals, findings);
            }
            before.push(placed);
        }
    }
}

/// Whether a packet to one could be one to the other.
fn share_address(a: &Service, b: &Service) -> bool {
    a.to.is_empty() || b.to.is_empty() || a.to.iter().any(|address| b.to.contains(address))
}

fn check_knocked(port: &Spanned<PortRange>, knocked: &[u16], findings: &mut Findings<'_>) {
    if let Some(knock) = knocked
        .iter()
        .find(|knock| port.get_ref().contains(Protocol::Udp, **knock))
    {
        let text = format!("udp/{knock} is where knocks go; no service can have it");
        let remedy = "another port here, or another one in ports of [listen]";
        findings.at(&port.span(), Finding::error(Code::KnockPort, text).with_try(remedy));
    }
}

fn check_shared(port: &Spanned<PortRange>, before: &[&Service], findings: &mut Findings<'_>) {
    let ranges = before
        .iter()
        .flat_map(|other| other.ports.iter().map(|range| (&other.name, range)));
    if let Some((name, range)) = ranges.into_iter().find(|(_, range)| range.overlaps(port.get_ref())) {
        let text = format!("service {name} has {range} already: a grant of one would open the other");
        let remedy =
            "each port in one service, or in each other addresses in `to`; a client may be allowed several services";
        findings.at(&port.span(), Finding::error(Code::SharedPort, text).with_try(remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::{told, told_of_each, with_service, with_tables};

    #[test]
    fn ports_and_ranges_are_kept_in_order() {
        let keys = "ports = [\"tcp/8000-8010\", \"tcp/22\", \"udp/22\"]\nat-end = \"keep\"";
        let (config, findings) = Config::from_text("server.toml", &with_service(keys)).unwrap();
        assert_eq!(findings, []);
        let texts: Vec<_> = config.services[0].ports.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["tcp/8000-8010", "tcp/22", "udp/22"]);
    }

    #[test]
    fn what_is_no_port() {
        let ports = ["tcp/70000", "tcp/0", "22", "22/tcp", "udp/9-5", "sctp/5", "tcp/ssh", ""];
        let template = with_service("ports = [\"{}\"]\nat-end = \"keep\"");
        insta::assert_snapshot!(told_of_each(&template, &ports), @r#"
        `tcp/70000`
            error bad-port 5:10 "tcp/70000" names a port above 65535 -> tcp/22, or udp/60000-61000
        `tcp/0`
            error bad-port 5:10 "tcp/0" names port 0, which nobody can reach -> tcp/22, or udp/60000-61000
        `22`
            error bad-port 5:10 "22" does not say tcp or udp -> tcp/22
        `22/tcp`
            error bad-port 5:10 "22/tcp" has the protocol behind the port -> tcp/22
        `udp/9-5`
            error bad-port 5:10 "udp/9-5" runs backwards, from 9 to 5 -> udp/5-9
        `sctp/5`
            error bad-port 5:10 "sctp/5" names a protocol that is neither tcp nor udp -> tcp/22, or udp/60000-61000
        `tcp/ssh`
            error bad-port 5:10 "tcp/ssh" has no whole number where the port belongs -> tcp/22, or udp/60000-61000
        ``
            error bad-port 5:10 "" does not say tcp or udp -> tcp/22, or udp/60000-61000
        "#);
    }

    #[test]
    fn no_port_twice_within_a_service() {
        insta::assert_snapshot!(told(&with_service("ports = [\"tcp/20-30\", \"tcp/22\"]")), @"error overlapping-ports 5:23 tcp/22 overlaps tcp/20-30 of the same service -> each port once");
    }

    #[test]
    fn no_port_in_two_services_of_the_firewall() {
        let second = "[[service]]\nname = \"all\"\nbackends = [\"iptables\"]\nports = [\"tcp/1-100\"]\n";
        insta::assert_snapshot!(told(&(with_service("ports = [\"tcp/22\"]") + second)), @"error shared-port 9:10 service ssh has tcp/22 already: a grant of one would open the other -> each port in one service, or in each other addresses in `to`; a client may be allowed several services");
    }

    #[test]
    fn one_port_on_different_addresses() {
        let first = with_service("ports = [\"tcp/22\"]\nto = [\"192.0.2.1\", \"2001:db8::1\"]");
        let second = "[[service]]\nname = \"git\"\nbackends = [\"iptables\"]\nports = [\"tcp/22\"]\nto = [\"{}\"]\n";
        let template = first + second;
        assert_eq!(told(&template.replace("{}", "192.0.2.2")), "");
        let shared = told(&template.replace("{}", "2001:db8::1"));
        assert!(
            shared.starts_with("error shared-port 10:10 service ssh has tcp/22 already"),
            "{shared}"
        );
        let everywhere = told(&template.replace("to = [\"{}\"]\n", ""));
        assert!(everywhere.starts_with("error shared-port"), "{everywhere}");
    }

    #[test]
    fn no_service_where_knocks_go() {
        let keys = "ports = [\"udp/62000-63000\"]\nat-end = \"keep\"";
        insta::assert_snapshot!(told(&with_service(keys)), @"error knock-port 5:10 udp/62201 is where knocks go; no service can have it -> another port here, or another one in ports of [listen]");
        assert_eq!(told(&with_service("ports = [\"tcp/62201\"]")), "");
    }

    #[test]
    fn own_addresses_are_addresses() {
        insta::assert_snapshot!(told(&with_service("ports = [\"tcp/22\"]\nto = [\"192.0.2.0/24\"]")), @r#"error bad-to 6:7 "192.0.2.0/24" is no address -> an address of this host, such as 192.0.2.1"#);
        assert_eq!(told(&(with_tables("gateway.host = \"gw\"") + "to = []")), "");
    }
}

//! Ports: each by itself, within its service, and across services.

use std::net::IpAddr;

use toml::Spanned;

use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawService, Text, items};
use super::service::Placed;
use super::{BackendKind, PortRange, Protocol};

/// The ports of one service; those that are no ports are left out.
pub(super) fn ports(raw: &RawService, findings: &mut Findings<'_>) -> Vec<Spanned<PortRange>> {
    let mut ports: Vec<Spanned<PortRange>> = Vec::new();
    for typed in items(&raw.ports) {
        let Some(port) = port(typed, findings) else { continue };
        if let Some(other) = ports.iter().find(|other| other.get_ref().overlaps(port.get_ref())) {
            let text = format!("{} overlaps {} of the same service", port.get_ref(), other.get_ref());
            let finding = Finding::error("overlapping-ports", text);
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
        Finding::error("bad-port", format!("{text:?} {error}")).with_try(meant),
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
        let finding = Finding::error("bad-to", format!("{:?} is no address", typed.get_ref()));
        findings.at(
            &typed.span(),
            finding.with_try("an address of this host, such as 192.0.2.1"),
        );
    }
    addresses
}

/// No port may lie in two services that a firewall guards, and none may be one that knocks go to.
pub(super) fn check_across(services: &[Placed], knocked: &[u16], findings: &mut Findings<'_>) {
    let mut before: Vec<(&str, PortRange)> = Vec::new();
    for placed in services {
        placed
            .ports
            .iter()
            .for_each(|port| check_knocked(port, knocked, findings));
        if placed.service.backends.iter().copied().any(BackendKind::is_firewall) {
            for port in &placed.ports {
                check_shared(port, &before, findings);
            }
            before.extend(
                placed
                    .ports
                    .iter()
                    .map(|port| (placed.service.name.as_str(), *port.get_ref())),
            );
        }
    }
}

fn check_knocked(port: &Spanned<PortRange>, knocked: &[u16], findings: &mut Findings<'_>) {
    if let Some(knock) = knocked
        .iter()
        .find(|knock| port.get_ref().contains(Protocol::Udp, **knock))
    {
        let text = format!("udp/{knock} is where knocks go; no service can have it");
        let remedy = "another port here, or another one in ports of [listen]";
        findings.at(&port.span(), Finding::error("knock-port", text).with_try(remedy));
    }
}

fn check_shared(port: &Spanned<PortRange>, before: &[(&str, PortRange)], findings: &mut Findings<'_>) {
    if let Some((name, range)) = before.iter().find(|(_, range)| range.overlaps(port.get_ref())) {
        let text = format!("service {name} has {range} already: a grant of one would open the other");
        let remedy = "each port in one service; a client may be allowed several services";
        findings.at(&port.span(), Finding::error("shared-port", text).with_try(remedy));
    }
}

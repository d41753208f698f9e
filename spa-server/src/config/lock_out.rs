//! `[lock-out]`: the way back in, and what it costs to have none.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use toml::Spanned;

use super::LockOut;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawLockOut, RawService, Text, items};

pub(super) fn lock_out(raw: &RawLockOut, services: &[Spanned<RawService>], findings: &mut Findings<'_>) -> LockOut {
    let lock_out = LockOut {
        always_allow: always_allow(raw, findings),
        allow_no_way_back: raw.allow_no_way_back.as_ref().is_some_and(|typed| *typed.get_ref()),
        keep_doors: raw.keep_doors.unwrap_or(true),
    };
    // What was typed counts, not what of it was good: a bad address has its own finding.
    if items(&raw.always_allow).is_empty() {
        check_way_back(raw, services, findings);
    }
    lock_out
}

fn check_way_back(raw: &RawLockOut, services: &[Spanned<RawService>], findings: &mut Findings<'_>) {
    match &raw.allow_no_way_back {
        Some(typed) if *typed.get_ref() => {
            let text = "always-allow is empty: if knocking fails, a lost key or a wrong clock say, nobody gets in \
                        but at the console";
            let remedy = "always-allow = [\"ADDRESS/LENGTH\"] with an address you can always come from";
            findings.absent(
                Some(&typed.span()),
                Finding::warning("way-back-waived", text).with_try(remedy),
            );
        }
        _ => check_protected(raw, services, findings),
    }
}

fn check_protected(raw: &RawLockOut, services: &[Spanned<RawService>], findings: &mut Findings<'_>) {
    let is_protect = |service: &&Spanned<RawService>| protect_of(service).is_some_and(|protect| *protect.get_ref());
    let Some(service) = services.iter().find(is_protect) else {
        return;
    };
    let name = service.get_ref().name.as_ref().map_or("?", |name| name.get_ref());
    let text = format!("protect hides {name} from everybody without a grant, and always-allow names no way back in");
    let remedy = "in [lock-out], always-allow = [\"ADDRESS/LENGTH\"] with the address you come from, \
                  or allow-no-way-back = true";
    let span = raw
        .always_allow
        .as_ref()
        .map(Spanned::span)
        .or(protect_of(service).map(Spanned::span));
    findings.absent(span.as_ref(), Finding::error("no-way-back", text).with_try(remedy));
}

fn protect_of(service: &Spanned<RawService>) -> Option<&Spanned<bool>> {
    service.get_ref().protect.as_ref()
}

fn always_allow(raw: &RawLockOut, findings: &mut Findings<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in items(&raw.always_allow) {
        let Ok(network) = network(text.get_ref()).map_err(|finding| findings.at(&text.span(), *finding)) else {
            continue;
        };
        warn(text, network, &networks, findings);
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    networks
}

/// An address, which means itself alone, or a network without host bits.
fn network(text: &str) -> Result<IpNet, Box<Finding>> {
    let address = |_| text.parse::<IpAddr>().map(IpNet::from);
    let network: IpNet = text.parse().or_else(address).map_err(|_| no_network(text))?;
    let v4 = match network.addr() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    if let Some(v4) = v4 {
        return Err(mapped(text, v4, network.prefix_len()).into());
    }
    if network.prefix_len() == 0 {
        let text = format!("{text} is everybody: nothing would be protected");
        return Err(Finding::error("everybody", text)
            .with_try("the networks that must always come in")
            .into());
    }
    if network != network.trunc() {
        let text = format!("{text} has bits set behind its length");
        let remedy = format!("\"{}\", or \"{}\" alone", network.trunc(), IpNet::from(network.addr()));
        return Err(Finding::error("host-bits", text).with_try(remedy).into());
    }
    Ok(network)
}

fn no_network(text: &str) -> Finding {
    let finding = Finding::error("bad-address", format!("{text:?} is neither an address nor a network"));
    finding.with_try("\"192.0.2.0/28\", or \"2001:db8::/48\"")
}

/// The firewall sees such an address as the IPv4 address it holds.
fn mapped(text: &str, v4: Ipv4Addr, length: u8) -> Finding {
    let finding = Finding::error("mapped-address", format!("{text} is an IPv4 address in IPv6 clothes"));
    let network = length.checked_sub(96).and_then(|length| Ipv4Net::new(v4, length).ok());
    finding.with_try(format!(
        "\"{}\"",
        network.map_or_else(|| v4.to_string(), |network| network.trunc().to_string())
    ))
}

fn warn(typed: &Text, network: IpNet, before: &[IpNet], findings: &mut Findings<'_>) {
    let widest = if network.addr().is_ipv4() { 8 } else { 16 };
    let finding = if before.contains(&network) {
        Finding::warning("duplicate-address", format!("{network} stands here twice")).with_try("one of the two")
    } else if network.prefix_len() < widest {
        let text = format!("{network} is so wide that little is protected");
        Finding::warning("wide-always-allow", text).with_try("the networks that must always come in")
    } else if is_nowhere(network) {
        let text = format!("{network} is no way back: nobody comes in from there");
        Finding::warning("idle-always-allow", text).with_try("an address you can always come from")
    } else {
        return;
    };
    findings.at(&typed.span(), finding);
}

/// Loopback, which is open anyway, and addresses no packet comes from.
fn is_nowhere(network: IpNet) -> bool {
    let address = network.addr();
    address.is_loopback() || address.is_unspecified() || address.is_multicast()
}

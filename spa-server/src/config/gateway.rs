//! `[gateway]`: the host that invites carry.

use std::net::{IpAddr, Ipv6Addr};

use super::finding::Finding;
use super::findings::Findings;
use super::raw::RawGateway;

/// The host as typed, checked for the form that invites can carry (docs/protocol.md: invite).
pub(super) fn host(raw: &RawGateway, findings: &mut Findings<'_>) -> Option<String> {
    let Some(typed) = &raw.host else {
        let finding = Finding::warning("no-host", "host is not set: invites cannot say where to knock");
        findings.absent(None, finding.with_try("host = \"gw.example.net\" in [gateway]"));
        return None;
    };
    if let Err(problem) = check_host(typed.get_ref()) {
        let finding = Finding::error("bad-host", format!("host {}", problem.text));
        findings.at(&typed.span(), finding.with_try(problem.remedy));
    }
    Some(typed.get_ref().clone())
}

/// Why a text is no host, and what to write.
struct HostProblem {
    text: &'static str,
    remedy: String,
}

fn problem(text: &'static str, remedy: impl Into<String>) -> HostProblem {
    HostProblem {
        text,
        remedy: remedy.into(),
    }
}

fn check_host(host: &str) -> Result<(), HostProblem> {
    match host.parse::<IpAddr>() {
        Ok(address) if address.to_string() == host => Ok(()),
        Ok(address) => Err(problem("is not written as addresses are compared", address.to_string())),
        Err(_) => check_address_like(host).and_then(|()| check_name(host)),
    }
}

/// Addresses with something around them.
fn check_address_like(host: &str) -> Result<(), HostProblem> {
    let bare = host
        .trim_start_matches('[')
        .split(['%', ']'])
        .next()
        .unwrap_or_default();
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Err(problem(
            "takes an address without brackets, zone or port",
            address.to_string(),
        ));
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.contains(':') => {
            Err(problem("takes no port: that is ports in [listen]", name))
        }
        _ => Ok(()),
    }
}

fn check_name(host: &str) -> Result<(), HostProblem> {
    let lower = host.to_ascii_lowercase();
    let is_label = |label: &str| {
        let all = label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        all && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if lower
        .strip_suffix('.')
        .unwrap_or(&lower)
        .split('.')
        .any(|label| !is_label(label))
        || lower.len() > 253
    {
        return Err(problem(
            "is neither a DNS name nor an address",
            "a name such as gw.example.net, or an address",
        ));
    }
    if lower != host {
        return Err(problem("is written in lower case", lower));
    }
    if let Some(name) = host.strip_suffix('.') {
        return Err(problem("takes no dot at its end", name));
    }
    if host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(problem(
            "looks like an address and is none",
            "four numbers from 0 to 255, such as 192.0.2.7",
        ));
    }
    Ok(())
}

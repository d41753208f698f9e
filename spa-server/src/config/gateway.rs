//! `[gateway]`: the host that invites carry.

use std::net::{IpAddr, Ipv6Addr};

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::RawGateway;

/// The host as typed, checked for the form that invites can carry (docs/protocol.md: invite).
pub(super) fn host(raw: &RawGateway, findings: &mut Findings<'_>) -> Option<String> {
    let Some(typed) = &raw.host else {
        let finding = Finding::warning(Code::NoHost, "host is not set: invites cannot say where to knock");
        findings.absent(None, finding.with_try("host = \"gw.example.net\" in [gateway]"));
        return None;
    };
    if let Err(problem) = check_host(typed.get_ref()) {
        let finding = Finding::error(Code::BadHost, format!("host {}", problem.text));
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
        Ok(address) if address.is_unspecified() || address.is_multicast() || address != address.to_canonical() => {
            let remedy = "a name such as gw.example.net, or an address people reach";
            Err(problem("is an address no knock can be sent to", remedy))
        }
        Ok(address) if address.to_string() == host => Ok(()),
        Ok(address) => Err(problem("is not written in its shortest form", address.to_string())),
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

#[cfg(test)]
mod tests {
    use super::super::testing::{told, told_of_each, with_tables};

    #[test]
    fn names_and_canonical_addresses_are_hosts() {
        for host in [
            "gw.example.net",
            "a",
            "192.0.2.7",
            "2001:db8::7",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(told(&with_tables(&format!("gateway.host = \"{host}\""))), "", "{host}");
        }
    }

    #[test]
    fn without_a_host_invites_suffer() {
        insta::assert_snapshot!(told(&with_tables("")), @r#"warning no-host -:- host is not set: invites cannot say where to knock -> host = "gw.example.net" in [gateway]"#);
    }

    #[test]
    fn what_is_no_host() {
        let hosts = [
            "",
            "GW.example.net",
            "gw.example.net.",
            "gw_1",
            "-a.b",
            "a..b",
            "gw:22",
            "gw.example.net:62201",
            "1.2.3",
            "192.0.2.300",
            "192.0.2.7:22",
            "2001:DB8::7",
            "2001:db8:0::7",
            "::ffff:192.0.2.7",
            "0.0.0.0",
            "ff02::1",
            "[2001:db8::7]:22",
            "fe80::1%eth0",
            "größe.example",
            "http://gw.example.net/",
        ];
        insta::assert_snapshot!(told_of_each(&with_tables("gateway.host = \"{}\""), &hosts), @"
        ``
            error bad-host 1:16 host is neither a DNS name nor an address -> a name such as gw.example.net, or an address
        `GW.example.net`
            error bad-host 1:16 host is written in lower case -> gw.example.net
        `gw.example.net.`
            error bad-host 1:16 host takes no dot at its end -> gw.example.net
        `gw_1`
            error bad-host 1:16 host is neither a DNS name nor an address -> a name such as gw.example.net, or an address
        `-a.b`
            error bad-host 1:16 host is neither a DNS name nor an address -> a name such as gw.example.net, or an address
        `a..b`
            error bad-host 1:16 host is neither a DNS name nor an address -> a name such as gw.example.net, or an address
        `gw:22`
            error bad-host 1:16 host takes no port: that is ports in [listen] -> gw
        `gw.example.net:62201`
            error bad-host 1:16 host takes no port: that is ports in [listen] -> gw.example.net
        `1.2.3`
            error bad-host 1:16 host looks like an address and is none -> four numbers from 0 to 255, such as 192.0.2.7
        `192.0.2.300`
            error bad-host 1:16 host looks like an address and is none -> four numbers from 0 to 255, such as 192.0.2.7
        `192.0.2.7:22`
            error bad-host 1:16 host takes no port: that is ports in [listen] -> 192.0.2.7
        `2001:DB8::7`
            error bad-host 1:16 host is not written in its shortest form -> 2001:db8::7
        `2001:db8:0::7`
            error bad-host 1:16 host is not written in its shortest form -> 2001:db8::7
        `::ffff:192.0.2.7`
            error bad-host 1:16 host is an address no knock can be sent to -> a name such as gw.example.net, or an address people reach
        `0.0.0.0`
            error bad-host 1:16 host is an address no knock can be sent to -> a name such as gw.example.net, or an address people reach
        `ff02::1`
            error bad-host 1:16 host is an address no knock can be sent to -> a name such as gw.example.net, or an address people reach
        `[2001:db8::7]:22`
            error bad-host 1:16 host takes an address without brackets, zone or port -> 2001:db8::7
        `fe80::1%eth0`
            error bad-host 1:16 host takes an address without brackets, zone or port -> fe80::1
        `größe.example`
            error bad-host 1:16 host is neither a DNS name nor an address -> a name such as gw.example.net, or an address
        `http://gw.example.net/`
            error bad-host 1:16 host is neither a DNS name nor an address -> a name such as gw.example.net, or an address
        ");
        let long = with_tables(&format!("gateway.host = \"{}a\"", "a23456789.".repeat(26)));
        insta::assert_snapshot!(told(&long), @"error bad-host 1:16 host is neither a DNS name nor an address -> a name such as gw.example.net, or an address");
    }
}

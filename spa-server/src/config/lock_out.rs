//! `[lock-out]`: the way back in, and what it costs to have none.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use toml::Spanned;

use super::LockOut;
use super::code::Code;
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
                Finding::warning(Code::WayBackWaived, text).with_try(remedy),
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
    findings.absent(span.as_ref(), Finding::error(Code::NoWayBack, text).with_try(remedy));
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
        return Err(Finding::error(Code::Everybody, text)
            .with_try("the networks that must always come in")
            .into());
    }
    if network != network.trunc() {
        let text = format!("{text} has bits set behind its length");
        let remedy = format!("\"{}\", or \"{}\" alone", network.trunc(), IpNet::from(network.addr()));
        return Err(Finding::error(Code::HostBits, text).with_try(remedy).into());
    }
    Ok(network)
}

fn no_network(text: &str) -> Finding {
    let finding = Finding::error(
        Code::BadAddress,
        format!("{text:?} is neither an address nor a network"),
    );
    finding.with_try("\"192.0.2.0/28\", or \"2001:db8::/48\"")
}

/// The firewall sees such an address as the IPv4 address it holds.
fn mapped(text: &str, v4: Ipv4Addr, length: u8) -> Finding {
    let finding = Finding::error(
        Code::MappedAddress,
        format!("{text} is an IPv4 address in IPv6 clothes"),
    );
    let network = length.checked_sub(96).and_then(|length| Ipv4Net::new(v4, length).ok());
    finding.with_try(format!(
        "\"{}\"",
        network.map_or_else(|| v4.to_string(), |network| network.trunc().to_string())
    ))
}

fn warn(typed: &Text, network: IpNet, before: &[IpNet], findings: &mut Findings<'_>) {
    let widest = if network.addr().is_ipv4() { 8 } else { 16 };
    let finding = if before.contains(&network) {
        Finding::warning(Code::DuplicateAddress, format!("{network} stands here twice")).with_try("one of the two")
    } else if network.prefix_len() < widest {
        let text = format!("{network} is so wide that little is protected");
        Finding::warning(Code::WideAlwaysAllow, text).with_try("the networks that must always come in")
    } else if is_nowhere(network) {
        let text = format!("{network} is no way back: nobody comes in from there");
        Finding::warning(Code::IdleAlwaysAllow, text).with_try("an address you can always come from")
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

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::{told, told_of_each, with_service, with_tables};

    const ALWAYS: &str = "gateway.host = \"gw\"\n[lock-out]\nalways-allow = {}";

    #[test]
    fn an_address_means_itself_alone() {
        let list =
            "gateway.host = \"gw\"\n[lock-out]\nalways-allow = [\"192.0.2.7\", \"2001:db8::/48\", \"::1:0:0:1\"]";
        let (config, findings) = Config::from_text("server.toml", &with_tables(list)).unwrap();
        assert_eq!(findings, []);
        let texts: Vec<_> = config.lock_out.always_allow.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.7/32", "2001:db8::/48", "::1:0:0:1/128"]);
        assert!(config.lock_out.keep_doors && !config.lock_out.allow_no_way_back);
    }

    #[test]
    fn what_is_no_way_back() {
        let lists = [
            "[\"192.0.2.7/28\"]",
            "[\"2001:db8::7/48\"]",
            "[\"0.0.0.0/0\"]",
            "[\"::/0\"]",
            "[\"10.0.0.1/0\"]",
            "[\"::ffff:192.0.2.7\"]",
            "[\"::ffff:192.0.2.0/120\"]",
            "[\"::ffff:192.0.2.0/64\"]",
            "[\"gw\"]",
            "[\"\"]",
            "[\"192.0.2.0/33\"]",
            "[\"192.0.2.0/255.255.255.0\"]",
            "[\"fe80::1%eth0\"]",
        ];
        insta::assert_snapshot!(told_of_each(&with_tables(ALWAYS), &lists), @r#"
        `["192.0.2.7/28"]`
            error host-bits 3:17 192.0.2.7/28 has bits set behind its length -> "192.0.2.0/28", or "192.0.2.7/32" alone
        `["2001:db8::7/48"]`
            error host-bits 3:17 2001:db8::7/48 has bits set behind its length -> "2001:db8::/48", or "2001:db8::7/128" alone
        `["0.0.0.0/0"]`
            error everybody 3:17 0.0.0.0/0 is everybody: nothing would be protected -> the networks that must always come in
        `["::/0"]`
            error everybody 3:17 ::/0 is everybody: nothing would be protected -> the networks that must always come in
        `["10.0.0.1/0"]`
            error everybody 3:17 10.0.0.1/0 is everybody: nothing would be protected -> the networks that must always come in
        `["::ffff:192.0.2.7"]`
            error mapped-address 3:17 ::ffff:192.0.2.7 is an IPv4 address in IPv6 clothes -> "192.0.2.7/32"
        `["::ffff:192.0.2.0/120"]`
            error mapped-address 3:17 ::ffff:192.0.2.0/120 is an IPv4 address in IPv6 clothes -> "192.0.2.0/24"
        `["::ffff:192.0.2.0/64"]`
            error mapped-address 3:17 ::ffff:192.0.2.0/64 is an IPv4 address in IPv6 clothes -> "192.0.2.0"
        `["gw"]`
            error bad-address 3:17 "gw" is neither an address nor a network -> "192.0.2.0/28", or "2001:db8::/48"
        `[""]`
            error bad-address 3:17 "" is neither an address nor a network -> "192.0.2.0/28", or "2001:db8::/48"
        `["192.0.2.0/33"]`
            error bad-address 3:17 "192.0.2.0/33" is neither an address nor a network -> "192.0.2.0/28", or "2001:db8::/48"
        `["192.0.2.0/255.255.255.0"]`
            error bad-address 3:17 "192.0.2.0/255.255.255.0" is neither an address nor a network -> "192.0.2.0/28", or "2001:db8::/48"
        `["fe80::1%eth0"]`
            error bad-address 3:17 "fe80::1%eth0" is neither an address nor a network -> "192.0.2.0/28", or "2001:db8::/48"
        "#);
    }

    #[test]
    fn what_deserves_a_warning() {
        let lists = [
            "[\"192.0.2.7\", \"192.0.2.7/32\"]",
            "[\"0.0.0.0/1\"]",
            "[\"2000::/3\"]",
            "[\"127.0.0.1\"]",
            "[\"::1\"]",
            "[\"224.0.0.1\"]",
        ];
        insta::assert_snapshot!(told_of_each(&with_tables(ALWAYS), &lists), @r#"
        `["192.0.2.7", "192.0.2.7/32"]`
            warning duplicate-address 3:30 192.0.2.7/32 stands here twice -> one of the two
        `["0.0.0.0/1"]`
            warning wide-always-allow 3:17 0.0.0.0/1 is so wide that little is protected -> the networks that must always come in
        `["2000::/3"]`
            warning wide-always-allow 3:17 2000::/3 is so wide that little is protected -> the networks that must always come in
        `["127.0.0.1"]`
            warning idle-always-allow 3:17 127.0.0.1/32 is no way back: nobody comes in from there -> an address you can always come from
        `["::1"]`
            warning idle-always-allow 3:17 ::1/128 is no way back: nobody comes in from there -> an address you can always come from
        `["224.0.0.1"]`
            warning idle-always-allow 3:17 224.0.0.1/32 is no way back: nobody comes in from there -> an address you can always come from
        "#);
    }

    #[test]
    fn protecting_without_a_way_back_names_both_lines() {
        insta::assert_snapshot!(told(&with_service("ports = [\"tcp/22\"]\nprotect = true")), @r#"error no-way-back 6:11 protect hides ssh from everybody without a grant, and always-allow names no way back in -> in [lock-out], always-allow = ["ADDRESS/LENGTH"] with the address you come from, or allow-no-way-back = true"#);
        let empty = with_tables("gateway.host = \"gw\"\nlock-out.always-allow = []") + "protect = true\n";
        insta::assert_snapshot!(told(&empty), @r#"error no-way-back 2:25 protect hides ssh from everybody without a grant, and always-allow names no way back in -> in [lock-out], always-allow = ["ADDRESS/LENGTH"] with the address you come from, or allow-no-way-back = true"#);
    }

    #[test]
    fn waiving_the_way_back_is_allowed_and_said() {
        let waived = "gateway.host = \"gw\"\n[lock-out]\nallow-no-way-back = true";
        insta::assert_snapshot!(told(&(with_tables(waived) + "protect = true\n")), @r#"warning way-back-waived 3:21 always-allow is empty: if knocking fails, a lost key or a wrong clock say, nobody gets in but at the console -> always-allow = ["ADDRESS/LENGTH"] with an address you can always come from"#);
    }

    #[test]
    fn a_bad_address_is_not_also_a_missing_one() {
        let bad = with_tables(&ALWAYS.replace("{}", "[\"gw\"]")) + "protect = true\n";
        insta::assert_snapshot!(told(&bad), @r#"error bad-address 3:17 "gw" is neither an address nor a network -> "192.0.2.0/28", or "2001:db8::/48""#);
    }
}

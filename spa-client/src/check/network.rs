//! Names, routes, packet sizes, and whether UDP goes out at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
use spa_keys::profile::{AddressMode, Membership, Profile};

use super::findings::{Findings, State};
use crate::cli::CheckArgs;
use crate::fire::listed;
use crate::host::resolve;
use crate::resolve;
use crate::watch::source;

/// The longest datagram of a usual request, with UDP's and IPv6's headers.
const USUAL: u32 = 512 + 8 + 40;
/// The longest of any.
const LONGEST: u32 = 1_280;

/// A gateway, and its addresses that there is a way to.
pub(super) struct Reached<'a> {
    pub(super) gateway: &'a Membership,
    pub(super) addresses: Vec<IpAddr>,
}

pub(super) fn look<'a>(args: &CheckArgs, profile: &'a Profile, findings: &mut Findings) -> Vec<Reached<'a>> {
    let reached = profile
        .memberships()
        .map(|gateway| look_at(gateway, findings))
        .collect();
    way_out(args, profile, findings);
    reached
}

fn look_at<'a>(gateway: &'a Membership, findings: &mut Findings) -> Reached<'a> {
    let found = match resolve(&gateway.host) {
        Ok(found) => found,
        Err(failure) => {
            findings.add_failure("name", &failure);
            Vec::new()
        }
    };
    if !found.is_empty() {
        findings.add("name", State::Ok, names(gateway, &found), None);
    }
    let (mut addresses, mut lost) = (Vec::new(), Vec::new());
    for address in found {
        match source(address) {
            Ok(own) => {
                findings.add("route", State::Ok, format!("{address} is reached from {own}"), None);
                mtu(address, findings);
                addresses.push(address);
            }
            Err(error) => lost.push((address, error)),
        }
    }
    for (address, error) in lost {
        let state = if addresses.is_empty() {
            State::Error
        } else {
            State::Warning
        };
        let hint = "whether this device is on a network that has this family".to_owned();
        findings.add("route", state, format!("no way to {address}: {error}"), Some(hint));
    }
    Reached { gateway, addresses }
}

fn names(gateway: &Membership, found: &[IpAddr]) -> String {
    let family = |ipv4| found.iter().any(|address| address.is_ipv4() == ipv4);
    let missing = match (family(true), family(false)) {
        (false, _) => "; no IPv4 address",
        (_, false) => "; no IPv6 address",
        _ => "",
    };
    format!("{} is {}{missing}", gateway.host, listed(found))
}

fn mtu(address: IpAddr, findings: &mut Findings) {
    let Ok(mtu) = path_mtu(address) else { return };
    let (state, text) = match mtu {
        0..USUAL => (
            State::Error,
            format!("packets to {address} have at most {mtu} bytes: no request fits"),
        ),
        USUAL..LONGEST => (
            State::Warning,
            format!("packets to {address} have at most {mtu} bytes: a request for many services may not fit"),
        ),
        _ => (State::Ok, format!("packets to {address} may have {mtu} bytes")),
    };
    findings.add("mtu", state, text, None);
}

/// What the system knows of the path, at least of its first link.
fn path_mtu(address: IpAddr) -> std::io::Result<u32> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((address, 9))?;
    Ok(if address.is_ipv4() {
        ip_mtu(&socket)?
    } else {
        ipv6_mtu(&socket)?
    })
}

/// The gateway never answers; somebody who does shows whether UDP goes out.
fn way_out(args: &CheckArgs, profile: &Profile, findings: &mut Findings) {
    let servers = if args.address.stun.is_empty() {
        &profile.stun
    } else {
        &args.address.stun
    };
    if servers.is_empty() {
        return findings.add(
            "udp",
            State::Unknown,
            "nobody is named who would answer: only a door that opens shows that UDP goes out".into(),
            Some("--stun HOST:PORT, twice, with servers that you trust".into()),
        );
    }
    match resolve::public(servers) {
        Ok(whom) => {
            let seen: Vec<_> = whom.addresses.iter().filter_map(|address| address.named()).collect();
            findings.add(
                "udp",
                State::Ok,
                format!("goes out; others see this device as {}", listed(&seen)),
                None,
            );
            named_otherwise(profile, &seen, findings);
        }
        Err(failure) => findings.add("udp", State::Warning, failure.what, None),
    }
}

fn named_otherwise(profile: &Profile, seen: &[IpAddr], findings: &mut Findings) {
    let AddressMode::Explicit(_) = &profile.address else {
        return;
    };
    for named in profile.address.named() {
        let same = |other: &&IpAddr| other.is_ipv4() == named.is_ipv4();
        if let Some(other) = seen.iter().find(same).filter(|other| **other != named) {
            let text = format!("the profile says address {named}, but others see {other}");
            findings.add(
                "udp",
                State::Error,
                text,
                Some("address = \"resolve\" or \"as-seen\" in the profile".into()),
            );
        }
    }
}

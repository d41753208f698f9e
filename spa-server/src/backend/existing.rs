//! Connections that exist already, from /proc/net: a session older than conntrack would hang behind a new drop.

use std::fs;
use std::io;
use std::net::IpAddr;

use crate::config::{PortRange, Protocol};

/// ESTABLISHED. Not SYN_RECV: anybody can send a SYN in anybody's name. Nor FIN_WAIT or CLOSE_WAIT: who has hung up a
/// moment ago would be let in for a minute, while what is still sent to him makes conntrack know his connection.
const ALIVE: &str = "01";

/// A connection that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// TCP, or UDP on a connected socket.
    pub protocol: Protocol,
    /// The address at this end; an IPv4 address is never mapped into IPv6.
    pub own: IpAddr,
    /// The port at this end.
    pub port: u16,
    /// Who is at the other end; an IPv4 address is never mapped into IPv6.
    pub peer: IpAddr,
}

impl Connection {
    /// Whether it is one to these ports.
    #[must_use]
    pub fn is_to(&self, ports: PortRange) -> bool {
        self.protocol == ports.protocol && (ports.first..=ports.last).contains(&self.port)
    }
}

/// A socket that waits for strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// TCP, or UDP on a socket that is not connected.
    pub protocol: Protocol,
    /// The address it listens on, never one of loopback; unspecified means all.
    pub own: IpAddr,
    /// The port.
    pub port: u16,
}

/// All connections in this thread's network namespace, except those over loopback.
///
/// # Errors
///
/// When /proc/net could not be read. A family that the kernel does not have is no error.
pub fn connections() -> io::Result<Vec<Connection>> {
    read(connection)
}

/// All sockets that others can reach, in this thread's network namespace.
///
/// # Errors
///
/// As [`connections`].
pub fn listeners() -> io::Result<Vec<Listener>> {
    read(listener)
}

fn read<T>(parse: fn(&str, Protocol) -> Option<T>) -> io::Result<Vec<T>> {
    let files = [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ];
    let mut all = Vec::new();
    for (name, protocol) in files {
        match fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
            Ok(text) => all.extend(text.lines().skip(1).filter_map(|line| parse(line, protocol))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && name.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Reads `  0: 0100007F:0016 0200007F:D431 01 ...`.
fn connection(line: &str, protocol: Protocol) -> Option<Connection> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (own, port) = end(fields.next()?)?;
    let (peer, peer_port) = end(fields.next()?)?;
    let alive = fields.next()? == ALIVE && peer_port != 0 && !peer.is_loopback() && !peer.is_unspecified();
    alive.then_some(Connection {
        protocol,
        own,
        port,
        peer,
    })
}

/// LISTEN is 0A; a UDP socket that is not connected is in CLOSE, 07.
fn listener(line: &str, protocol: Protocol) -> Option<Listener> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (own, port) = end(fields.next()?)?;
    let waits = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let is_waiting = fields.nth(1)? == waits && !own.is_loopback();
    is_waiting.then_some(Listener { protocol, own, port })
}

fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    Some((
        address_in_hex(address)?.to_canonical(),
        u16::from_str_radix(port, 16).ok()?,
    ))
}

/// The kernel prints each 32-bit word as a number of the host's order.
fn address_in_hex(text: &str) -> Option<IpAddr> {
    let words = [0, 8, 16, 24].map(|at| text.get(at..at + 8).and_then(|word| u32::from_str_radix(word, 16).ok()));
    match (text.len(), words) {
        (8, [Some(word), ..]) => Some(word.to_ne_bytes().into()),
        (32, [Some(a), Some(b), Some(c), Some(d)]) => {
            let octets = [a, b, c, d].map(u32::to_ne_bytes);
            <[u8; 16]>::try_from(octets.as_flattened()).ok().map(IpAddr::from)
        }
        _ => None,
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(line: &str) -> Option<(u16, String)> {
        connection(line, Protocol::Tcp).map(|c| (c.port, c.peer.to_string()))
    }

    #[test]
    fn peers_are_read_in_both_families() {
        let v4 = "   1: 0A0200C0:0016 057100CB:D431 01 00000000:00000000 00:00000000 00000000     0        0 1";
        assert_eq!(peer(v4), Some((22, "203.0.113.5".into())));
        let v6 = "   0: B80D0120000000000000000001000000:0016 B80D0120000000000000000005000000:D431 01 0:0";
        assert_eq!(peer(v6), Some((22, "2001:db8::5".into())));
        let mapped = "   0: 0000000000000000FFFF00000A0200C0:0016 0000000000000000FFFF0000057100CB:D431 01 0:0";
        assert_eq!(peer(mapped), Some((22, "203.0.113.5".into())));
    }

    #[test]
    fn what_only_listens_begins_ends_or_is_local_is_nobody() {
        for line in [
            "   0: 00000000:0016 00000000:0000 0A 0:0",
            "   0: 0A0200C0:0016 057100CB:D431 03 0:0",
            "   0: 0A0200C0:0016 057100CB:D431 05 0:0",
            "   0: 0A0200C0:0016 057100CB:D431 08 0:0",
            "   0: 0100007F:0016 0200007F:D431 01 0:0",
            "   0: 0A0200C0:0016",
            "",
        ] {
            assert_eq!(peer(line), None, "{line}");
        }
    }

    #[test]
    fn listeners_are_those_that_others_reach() {
        let of = |line: &str, protocol| listener(line, protocol).map(|l| (l.own.to_string(), l.port));
        let any = "   0: 00000000:0016 00000000:0000 0A 0:0";
        assert_eq!(of(any, Protocol::Tcp), Some(("0.0.0.0".into(), 22)));
        assert_eq!(of(any, Protocol::Udp), None);
        assert_eq!(
            of(&any.replace("0A", "07"), Protocol::Udp),
            Some(("0.0.0.0".into(), 22))
        );
        assert_eq!(of("   0: 0100007F:0016 00000000:0000 0A 0:0", Protocol::Tcp), None);
    }

    #[test]
    fn a_port_range_holds_its_ends() {
        let ports = PortRange {
            protocol: Protocol::Tcp,
            first: 20,
            last: 22,
        };
        let to = |protocol, port| {
            Connection {
                protocol,
                own: [192, 0, 2, 2].into(),
                port,
                peer: [192, 0, 2, 1].into(),
            }
            .is_to(ports)
        };
        assert!(to(Protocol::Tcp, 20) && to(Protocol::Tcp, 22));
        assert!(!to(Protocol::Tcp, 23) && !to(Protocol::Udp, 22));
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in ".*") {
            let _ = connection(&line, Protocol::Udp);
        }
    }
}

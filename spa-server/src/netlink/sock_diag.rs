//! Ends sockets of this host (sock_diag(7)): the peer is sent a reset, the program reads an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::netlink::SOCK_DIAG;

use super::message::{ACK, DUMP, Draft, REQUEST};
use super::socket::{Reply, Socket};
use super::{Family, NetlinkError};
use crate::config::Protocol;

/// `SOCK_DIAG_BY_FAMILY`; a reply has the same type.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
/// Every state but LISTEN: a listening socket is nobody's connection.
const ALL_BUT_LISTEN: u32 = !(1 << 10);
/// `struct inet_diag_sockid`: two ports, two addresses, an interface, a cookie.
const ID_LEN: usize = 48;
/// Family, state, timer and retransmissions before the id in a reply.
const REPLY_HEAD_LEN: usize = 4;

/// A connected socket of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port on this side.
    pub port: u16,
    /// The address on the other side; an IPv4-mapped one is IPv4.
    pub peer: IpAddr,
    family: u8,
    id: [u8; ID_LEN],
}

/// A socket for the calls below.
///
/// # Errors
///
/// [`NetlinkError::Call`] with the system call that failed.
pub fn socket() -> Result<Socket, NetlinkError> {
    Socket::open(Some(SOCK_DIAG))
}

/// Every connected socket of one protocol and family.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn connected(socket: &mut Socket, protocol: Protocol, family: Family) -> Result<Vec<Connected>, NetlinkError> {
    let number = inet(family);
    let request = request(BY_FAMILY, REQUEST | DUMP, number, protocol, &[0; ID_LEN]);
    let replies = socket.exchange(&request)?;
    Ok(replies.iter().filter_map(|reply| parse(reply, protocol)).collect())
}

/// Ends one; that it has ended already is no error.
///
/// # Errors
///
/// [`NetlinkError`], for one that the kernel was not built with this.
pub fn destroy(socket: &mut Socket, connected: &Connected) -> Result<(), NetlinkError> {
    let request = request(
        DESTROY,
        REQUEST | ACK,
        connected.family,
        connected.protocol,
        &connected.id,
    );
    match socket.exchange(&request) {
        Err(error) if error.is(rustix::io::Errno::NOENT) => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// `struct inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, protocol: Protocol, id: &[u8; ID_LEN]) -> Draft {
    let head = [family, protocol.number(), 0, 0];
    Draft::new(kind, flags)
        .raw(&head)
        .raw(&ALL_BUT_LISTEN.to_ne_bytes())
        .raw(id)
}

fn parse(reply: &Reply, protocol: Protocol) -> Option<Connected> {
    let (head, rest) = reply
        .payload
        .split_first_chunk::<REPLY_HEAD_LEN>()
        .filter(|_| reply.kind == BY_FAMILY)?;
    let id: [u8; ID_LEN] = *rest.first_chunk()?;
    let peer = address(head[0], id.get(20..36)?)?;
    let is_connected = !peer.is_unspecified();
    is_connected.then_some(Connected {
        protocol,
        port: u16::from_be_bytes([id[0], id[1]]),
        peer,
        family: head[0],
        id,
    })
}

fn address(family: u8, octets: &[u8]) -> Option<IpAddr> {
    if family == inet(Family::V4) {
        let octets: [u8; 4] = *octets.first_chunk()?;
        Some(Ipv4Addr::from(octets).into())
    } else {
        let octets: [u8; 16] = *octets.first_chunk()?;
        Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
    }
}

/// `AF_INET` and `AF_INET6`.
const fn inet(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_replies_are_nothing() {
        for length in 0..80 {
            let reply = Reply {
                kind: BY_FAMILY,
                payload: vec![0xff; length],
            };
            let parsed = parse(&reply, Protocol::Tcp);
            assert_eq!(parsed.is_some(), length >= REPLY_HEAD_LEN + ID_LEN, "{length}");
        }
        assert_eq!(
            parse(
                &Reply {
                    kind: 3,
                    payload: vec![1; 80]
                },
                Protocol::Tcp
            ),
            None
        );
    }

    #[test]
    fn a_connection_of_our_own_is_seen_and_ended() {
        use std::io::Read;
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _server = listener.accept().unwrap();
        let mut socket = socket().unwrap();
        let all = connected(&mut socket, Protocol::Tcp, Family::V4).unwrap();
        let ours = all.iter().find(|connected| connected.port == port).unwrap();
        assert_eq!(ours.peer, IpAddr::V4(Ipv4Addr::LOCALHOST));
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: ending a socket needs root");
            return;
        }
        destroy(&mut socket, ours).unwrap();
        destroy(&mut socket, ours).unwrap();
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

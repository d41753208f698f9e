//! Makes the kernel forget connections (ctnetlink): without an entry, nothing is established.

use std::net::IpAddr;

use rustix::net::netlink::NETFILTER;

use super::message::{ACK, DUMP, Draft, NESTED, REQUEST, find};
use super::socket::{Reply, Socket};
use super::{Family, NetlinkError, address_of};
use crate::config::Protocol;

const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_NEW`: what a dump is made of.
const NEW: u16 = SUBSYSTEM;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = SUBSYSTEM | 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = SUBSYSTEM | 2;
/// `struct nfgenmsg`.
const HEADER_LEN: usize = 4;

/// `CTA_TUPLE_ORIG`.
const TUPLE: u16 = 1;
/// `CTA_TUPLE_IP` and `CTA_TUPLE_PROTO`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
/// `CTA_IP_V4_SRC` and `CTA_IP_V6_SRC`.
const SOURCE: [u16; 2] = [1, 3];
/// `CTA_PROTO_NUM` and `CTA_PROTO_DST_PORT`.
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;

/// One entry, as the connection's first packet saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who began it.
    pub source: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port it was begun to.
    pub port: u16,
    family: Family,
    tuple: Vec<u8>,
}

/// A socket for the calls below.
///
/// # Errors
///
/// [`NetlinkError::Call`] with the system call that failed.
pub fn socket() -> Result<Socket, NetlinkError> {
    Socket::open(Some(NETFILTER))
}

/// Every TCP and UDP entry of one family.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn entries(socket: &mut Socket, family: Family) -> Result<Vec<Entry>, NetlinkError> {
    let request = Draft::new(GET, REQUEST | DUMP).raw(&[family.number(), 0, 0, 0]);
    let replies = socket.exchange(&request)?;
    Ok(replies.iter().filter_map(|reply| parse(reply, family)).collect())
}

/// Forgets one; that it is forgotten already is no error.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel said no.
pub fn delete(socket: &mut Socket, entry: &Entry) -> Result<(), NetlinkError> {
    let request = Draft::new(DELETE, REQUEST | ACK).raw(&[entry.family.number(), 0, 0, 0]);
    match socket.exchange(&request.attribute(TUPLE | NESTED, &entry.tuple)) {
        Err(error) if error.is(rustix::io::Errno::NOENT) => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

fn parse(reply: &Reply, family: Family) -> Option<Entry> {
    let body = reply.payload.get(HEADER_LEN..).filter(|_| reply.kind == NEW)?;
    let tuple = find(body, TUPLE)?.value;
    let addresses = find(tuple, TUPLE_IP)?.value;
    let source = SOURCE.iter().find_map(|kind| find(addresses, *kind))?;
    let protocol = find(tuple, TUPLE_PROTOCOL)?.value;
    let port = find(protocol, DESTINATION_PORT)?.value.try_into().ok()?;
    Some(Entry {
        source: address_of(source.value)?,
        protocol: Protocol::from_number(find(protocol, PROTOCOL_NUMBER)?.octet()?)?,
        port: u16::from_be_bytes(port),
        family,
        tuple: tuple.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(source: [u8; 4], protocol: u8, port: u16) -> Reply {
        let draft = Draft::new(NEW, 0).raw(&[2, 0, 0, 0]).nested(TUPLE | NESTED, |tuple| {
            tuple
                .nested(TUPLE_IP | NESTED, |ip| {
                    ip.attribute(1, &source).attribute(2, &[192, 0, 2, 1])
                })
                .nested(TUPLE_PROTOCOL | NESTED, |proto| {
                    proto
                        .attribute(PROTOCOL_NUMBER, &[protocol])
                        .attribute(2, &[0x9c, 0x40])
                        .attribute(3, &port.to_be_bytes())
                })
        });
        Reply {
            kind: NEW,
            payload: draft.seal(0)[16..].to_vec(),
        }
    }

    #[test]
    fn an_entry_is_who_began_it_and_where_to() {
        let entry = parse(&reply([192, 0, 2, 7], 6, 22), Family::V4).unwrap();
        assert_eq!(
            (entry.source, entry.protocol, entry.port),
            ([192, 0, 2, 7].into(), Protocol::Tcp, 22)
        );
        assert_eq!(
            parse(&reply([192, 0, 2, 7], 1, 22), Family::V4),
            None,
            "ICMP has no ports"
        );
    }

    #[test]
    fn every_cut_is_nothing() {
        let whole = reply([192, 0, 2, 7], 17, 53).payload;
        for length in 0..whole.len() {
            assert_eq!(
                parse(
                    &Reply {
                        kind: NEW,
                        payload: whole[..length].to_vec()
                    },
                    Family::V4
                ),
                None,
                "{length}"
            );
        }
    }
}

//! What nf_tables holds beside rules: tables, chains, sets and their elements (linux/netfilter/nf_tables.h).

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

use super::batch::{In, KEY, TIMEOUT, VALUE};
use super::message::{ACK, Attribute, DUMP, Draft, REQUEST, attributes, find};
use super::nftables::{ELEMENTS_OF_SET, FAMILY_HEADER_LEN, NAME_OF_CHAIN, NAME_OF_SET, SUBSYSTEM, TABLE, message};
use super::socket::{Reply, Socket};
use super::{Element, Family, NetlinkError, address_of};

const NAME_OF_TABLE: u16 = 1;
const FLAGS_OF_TABLE: u16 = 2;
const HOOK_OF_CHAIN: u16 = 4;
const POLICY_OF_CHAIN: u16 = 5;
const FLAGS_OF_SET: u16 = 3;
const KEY_LEN_OF_SET: u16 = 5;
const EXPIRATION: u16 = 5;
/// `NFTA_GEN_ID`.
const GENERATION: u16 = 1;
/// `NFT_TABLE_F_DORMANT`.
const DORMANT: u32 = 1;
/// `NFT_SET_TIMEOUT`; a set of the kind made here has no other flag.
const WITH_TIMEOUT: u32 = 0x10;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// It was put to sleep: nothing in it sees a packet.
    pub is_dormant: bool,
}

/// A chain and, where it has one, its place in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// The number of its hook, and its priority there; none when it is only jumped to.
    pub hook: Option<(u32, i32)>,
    /// What becomes of packets that no rule decides on: 0 is drop, 1 accept.
    pub policy: Option<u32>,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// How many octets a key has.
    pub key_len: u32,
    /// Its elements can end by themselves, and it is neither of intervals nor a map.
    pub is_plain: bool,
}

/// The number that every change of anything raises.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn generation(socket: &mut Socket) -> Result<u32, NetlinkError> {
    let request = Draft::new(SUBSYSTEM | message::GET_GENERATION, REQUEST | ACK).raw(&[0; 4]);
    let replies = socket.exchange(&request)?;
    let found = of_kind(&replies, message::NEW_GENERATION).find_map(|body| find(body, GENERATION)?.number());
    found.ok_or(NetlinkError::Malformed)
}

/// The tables of a family.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn tables(socket: &mut Socket, family: u8) -> Result<Vec<Table>, NetlinkError> {
    let request = Draft::new(SUBSYSTEM | message::GET_TABLE, REQUEST | DUMP).raw(&[family, 0, 0, 0]);
    let replies = socket.exchange(&request)?;
    let table = |body: &[u8]| {
        Some(Table {
            name: find(body, NAME_OF_TABLE)?.text()?.to_owned(),
            is_dormant: find(body, FLAGS_OF_TABLE)?.number()? & DORMANT != 0,
        })
    };
    Ok(of_kind(&replies, message::NEW_TABLE).filter_map(table).collect())
}

/// The chains of a table; none when there is no such table.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn chains(socket: &mut Socket, place: In<'_>) -> Result<Vec<Chain>, NetlinkError> {
    let request = Draft::new(SUBSYSTEM | message::GET_CHAIN, REQUEST | DUMP).raw(&[place.family, 0, 0, 0]);
    let replies = socket.exchange(&request.text(TABLE, place.table))?;
    let bodies = of_kind(&replies, message::NEW_CHAIN).filter(|body| is_in(body, place.table));
    Ok(bodies.filter_map(chain).collect())
}

fn chain(body: &[u8]) -> Option<Chain> {
    let hook = find(body, HOOK_OF_CHAIN).and_then(|hook| {
        let priority = find(hook.value, 2)?.number()?;
        Some((find(hook.value, 1)?.number()?, priority.cast_signed()))
    });
    Some(Chain {
        name: find(body, NAME_OF_CHAIN)?.text()?.to_owned(),
        hook,
        policy: find(body, POLICY_OF_CHAIN).and_then(|policy| policy.number()),
    })
}

/// The named sets of a table; none when there is no such table.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn sets(socket: &mut Socket, place: In<'_>) -> Result<Vec<Set>, NetlinkError> {
    let request = Draft::new(SUBSYSTEM | message::GET_SET, REQUEST | DUMP).raw(&[place.family, 0, 0, 0]);
    let replies = match socket.exchange(&request.text(TABLE, place.table)) {
        Err(cause) if cause.is(Errno::NOENT) => Vec::new(),
        other => other?,
    };
    let bodies = of_kind(&replies, message::NEW_SET).filter(|body| is_in(body, place.table));
    Ok(bodies.filter_map(set).collect())
}

fn set(body: &[u8]) -> Option<Set> {
    let flags = find(body, FLAGS_OF_SET).and_then(|flags| flags.number()).unwrap_or(0);
    Some(Set {
        name: find(body, NAME_OF_SET)?.text()?.to_owned(),
        key_len: find(body, KEY_LEN_OF_SET)?.number()?,
        is_plain: flags == WITH_TIMEOUT,
    })
}

/// The elements of a set of addresses, each taken for a network of `prefix_len`; none when there is no such set.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn elements(
    socket: &mut Socket,
    place: In<'_>,
    set: &str,
    prefix_len: u8,
) -> Result<Option<Vec<Element>>, NetlinkError> {
    let request = Draft::new(SUBSYSTEM | message::GET_ELEMENT, REQUEST | DUMP).raw(&[place.family, 0, 0, 0]);
    let request = request.text(TABLE, place.table).text(NAME_OF_SET, set);
    let replies = match socket.exchange(&request) {
        Err(cause) if cause.is(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let lists = of_kind(&replies, message::NEW_ELEMENT).filter_map(|body| find(body, ELEMENTS_OF_SET));
    let all = lists.flat_map(|list| attributes(list.value).map_while(Result::ok));
    Ok(Some(all.filter_map(|one| element(one, prefix_len)).collect()))
}

/// Whole seconds are rounded up: less than one is not nothing.
fn element(attribute: Attribute<'_>, prefix_len: u8) -> Option<Element> {
    let address = address_of(find(find(attribute.value, KEY)?.value, VALUE)?.value)?;
    let ends = find(attribute.value, EXPIRATION).or_else(|| find(attribute.value, TIMEOUT));
    let ms = ends.and_then(|ends| ends.long()).filter(|ms| *ms > 0);
    Some(Element {
        net: IpNet::new(address, prefix_len).ok()?,
        remaining: ms.map(|ms| u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX)),
    })
}

/// The octets of a network's address, as keys are written.
#[must_use]
pub fn key(net: IpNet) -> Vec<u8> {
    match net.network() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// How many octets an address of `family` has.
#[must_use]
pub fn key_len(family: Family) -> u32 {
    u32::from(family.bits()) / 8
}

fn of_kind(replies: &[Reply], kind: u16) -> impl Iterator<Item = &[u8]> {
    let wanted = replies.iter().filter(move |reply| reply.kind == SUBSYSTEM | kind);
    wanted.filter_map(|reply| reply.payload.get(FAMILY_HEADER_LEN..))
}

/// Kernels before 4.10 do not select by table.
fn is_in(body: &[u8], table: &str) -> bool {
    find(body, TABLE).and_then(|name| name.text()) == Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::NESTED;

    fn listed(address: &[u8], expiration: Option<u64>) -> Vec<u8> {
        let draft = Draft::new(0, 0).nested(1 | NESTED, |element| {
            let element = element.nested(KEY | NESTED, |data| data.attribute(VALUE, address));
            match expiration {
                Some(ms) => element
                    .attribute(TIMEOUT, &600_000_u64.to_be_bytes())
                    .attribute(EXPIRATION, &ms.to_be_bytes()),
                None => element,
            }
        });
        draft.seal(0).split_off(16)
    }

    #[test]
    fn an_element_ends_in_whole_seconds_rounded_up_or_never() {
        let read = |octets: &[u8], len| element(attributes(octets).next().unwrap().unwrap(), len).unwrap();
        let one = read(&listed(&[192, 0, 2, 0], Some(29_001)), 24);
        assert_eq!(
            (one.net.to_string().as_str(), one.remaining),
            ("192.0.2.0/24", Some(30))
        );
        let other = read(&listed(&[0xfe; 16], None), 128);
        assert_eq!((other.net.prefix_len(), other.remaining), (128, None));
        assert!(element(attributes(&listed(&[1, 2, 3], None)).next().unwrap().unwrap(), 32).is_none());
    }

    #[test]
    fn a_base_chain_has_a_place_and_a_policy() {
        let draft = Draft::new(0, 0).text(TABLE, "filter").text(NAME_OF_CHAIN, "input");
        let base = draft.clone().nested(HOOK_OF_CHAIN | NESTED, |hook| {
            hook.attribute(1, &1_u32.to_be_bytes())
                .attribute(2, &(-10_i32).to_be_bytes())
        });
        let base = base
            .attribute(POLICY_OF_CHAIN, &0_u32.to_be_bytes())
            .seal(0)
            .split_off(16);
        let found = chain(&base).unwrap();
        assert_eq!((found.hook, found.policy), (Some((1, -10)), Some(0)));
        assert_eq!(chain(&draft.seal(0).split_off(16)).unwrap().hook, None);
    }
}

//! ip_set's messages, protocol 7 and 6 (linux/netfilter/ipset/ip_set.h): attributes written and read.

use std::net::IpAddr;

use ipnet::IpNet;

use super::SET_TYPE;
use crate::netlink::message::{ACK, Draft, NESTED, NET_ORDER, REQUEST, attributes, find};
use crate::netlink::socket::Reply;
use crate::netlink::{Element, Family, NetlinkError, address_of};

const SUBSYSTEM: u16 = 6 << 8;
/// `struct nfgenmsg`: family, version, resource.
const FAMILY_HEADER_LEN: usize = 4;

// At the level of the command.
const PROTOCOL: u16 = 1;
const SET_NAME: u16 = 2;
const TYPE_NAME: u16 = 3;
const REVISION: u16 = 4;
const SET_FAMILY: u16 = 5;
const FLAGS: u16 = 6;
const DATA: u16 = 7;
const ELEMENTS: u16 = 8;
// Inside DATA.
const ADDRESS: u16 = 1;
const PREFIX_LEN: u16 = 3;
const TIMEOUT: u16 = 6;
const MAX_ELEMENTS: u16 = 19;

const FLAG_LIST_NAMES: u32 = 1 << 1;
const CAPACITY: u32 = 262_144;

/// What is asked of ip_set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Protocol = 1,
    Create = 2,
    Destroy = 3,
    Flush = 4,
    List = 7,
    Add = 9,
    Delete = 10,
    Header = 12,
    Type = 13,
}

/// A set as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Such as `hash:net`.
    pub kind: String,
    /// AF_INET, AF_INET6 or AF_UNSPEC.
    pub family: u8,
    /// Elements can end by themselves. Known after a listing only.
    pub timeouts: bool,
    /// What is in it.
    pub elements: Vec<Element>,
}

/// A request with the family's header and the protocol's version.
pub(super) fn draft(command: Command, flags: u16, family: Family, protocol: u8) -> Draft {
    Draft::new(SUBSYSTEM | command as u16, REQUEST | ACK | flags)
        .raw(&[family.number(), 0, 0, 0])
        .attribute(PROTOCOL, &[protocol])
}

/// Names the set.
pub(super) fn with_name(draft: Draft, name: &str) -> Draft {
    draft.text(SET_NAME, name)
}

/// Asks a listing for nothing but names.
pub(super) fn names_only(draft: Draft) -> Draft {
    draft.number(FLAGS, FLAG_LIST_NAMES)
}

/// Describes the one kind of set there is here. Revision 1 is the oldest that every kernel since 2.6.39 knows.
pub(super) fn creation(draft: Draft, family: Family) -> Draft {
    draft
        .text(TYPE_NAME, SET_TYPE)
        .attribute(REVISION, &[1])
        .attribute(SET_FAMILY, &[family.number()])
        .nested(DATA | NESTED, |data| {
            data.number(TIMEOUT, 0).number(MAX_ELEMENTS, CAPACITY)
        })
}

/// Asks for the kind of set that there is here.
pub(super) fn kind(draft: Draft, family: Family) -> Draft {
    draft
        .text(TYPE_NAME, SET_TYPE)
        .attribute(SET_FAMILY, &[family.number()])
}

/// Describes an element, with its time-out where one is to be set.
pub(super) fn with_element(draft: Draft, net: IpNet, seconds: Option<u32>) -> Draft {
    draft.nested(DATA | NESTED, |data| {
        let data = data
            .nested(ADDRESS | NESTED, |address| match net.network() {
                IpAddr::V4(ip) => address.attribute(1 | NET_ORDER, &ip.octets()),
                IpAddr::V6(ip) => address.attribute(2 | NET_ORDER, &ip.octets()),
            })
            .attribute(PREFIX_LEN, &[net.prefix_len()]);
        match seconds {
            Some(seconds) => data.number(TIMEOUT, seconds),
            None => data,
        }
    })
}

/// The protocol's version that the kernel speaks.
pub(super) fn protocol(reply: &Reply) -> Option<u8> {
    find(body(reply)?, PROTOCOL)?.octet()
}

/// The set's name in a reply.
pub(super) fn name(reply: &Reply) -> Option<String> {
    Some(find(body(reply)?, SET_NAME)?.text()?.to_owned())
}

/// Puts the parts of a listing, or a header, together.
pub(super) fn set(replies: &[Reply]) -> Result<Set, NetlinkError> {
    let mut set = Set::default();
    for reply in replies {
        read_part(body(reply).ok_or(NetlinkError::Malformed)?, &mut set)?;
    }
    if set.kind.is_empty() {
        Err(NetlinkError::Malformed)
    } else {
        Ok(set)
    }
}

fn body(reply: &Reply) -> Option<&[u8]> {
    reply.payload.get(FAMILY_HEADER_LEN..)
}

fn read_part(octets: &[u8], set: &mut Set) -> Result<(), NetlinkError> {
    for attribute in attributes(octets) {
        let attribute = attribute?;
        match attribute.kind {
            TYPE_NAME => attribute
                .text()
                .ok_or(NetlinkError::Malformed)?
                .clone_into(&mut set.kind),
            SET_FAMILY => set.family = attribute.octet().ok_or(NetlinkError::Malformed)?,
            DATA => set.timeouts = find(attribute.value, TIMEOUT).is_some(),
            ELEMENTS => read_elements(attribute.value, &mut set.elements)?,
            _ => {}
        }
    }
    Ok(())
}

fn read_elements(octets: &[u8], elements: &mut Vec<Element>) -> Result<(), NetlinkError> {
    for attribute in attributes(octets) {
        let attribute = attribute?;
        if attribute.kind == DATA {
            elements.extend(element(attribute.value));
        }
    }
    Ok(())
}

/// One element; none if it is of a kind that has no address, as in somebody else's set.
fn element(octets: &[u8]) -> Option<Element> {
    let address = address_of(attributes(find(octets, ADDRESS)?.value).next()?.ok()?.value)?;
    let full = if address.is_ipv4() {
        Family::V4.bits()
    } else {
        Family::V6.bits()
    };
    let prefix_len = find(octets, PREFIX_LEN)
        .and_then(|attribute| attribute.octet())
        .unwrap_or(full);
    let remaining = find(octets, TIMEOUT).and_then(|attribute| attribute.number());
    let net = IpNet::new(address, prefix_len).ok()?.trunc();
    Some(Element {
        net,
        remaining: remaining.filter(|seconds| *seconds > 0),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn an_element_is_added_with_the_octets_that_ipset_sends() {
        let draft = with_name(draft(Command::Add, 0, Family::V4, 7), "s4");
        let octets = with_element(draft, "192.0.2.0/24".parse().unwrap(), Some(30)).seal(1);
        assert_eq!(
            octets,
            [
                68, 0, 0, 0, 9, 6, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, // add, request, ack
                2, 0, 0, 0, // AF_INET
                5, 0, 1, 0, 7, 0, 0, 0, // protocol 7
                7, 0, 2, 0, b's', b'4', 0, 0, // name
                32, 0, 7, 0x80, // data
                12, 0, 1, 0x80, 8, 0, 1, 0x40, 192, 0, 2, 0, // address
                5, 0, 3, 0, 24, 0, 0, 0, // prefix length
                8, 0, 6, 0x40, 0, 0, 0, 30, // time-out
            ]
        );
    }

    fn listing(entries: &[(&str, u32)]) -> Vec<Reply> {
        let head = Draft::new(0, 0)
            .raw(&[2, 0, 0, 0])
            .text(TYPE_NAME, SET_TYPE)
            .attribute(SET_FAMILY, &[2]);
        let head = head.nested(DATA | NESTED, |data| data.number(TIMEOUT, 0));
        let parts = entries.iter().map(|(net, seconds)| {
            Draft::new(0, 0).raw(&[2, 0, 0, 0]).nested(ELEMENTS | NESTED, |list| {
                with_element(list, net.parse().unwrap(), Some(*seconds))
            })
        });
        let drafts = std::iter::once(head).chain(parts);
        drafts
            .map(|draft| Reply {
                kind: 0,
                payload: draft.seal(0)[16..].to_vec(),
            })
            .collect()
    }

    #[test]
    fn a_listing_in_several_parts_is_one_set() {
        let set = set(&listing(&[("192.0.2.5/32", 7), ("2001:db8::/64", 0)])).unwrap();
        assert_eq!((set.kind.as_str(), set.family, set.timeouts), (SET_TYPE, 2, true));
        let seen: Vec<_> = set.elements.iter().map(|e| (e.net.to_string(), e.remaining)).collect();
        assert_eq!(
            seen,
            [("192.0.2.5/32".to_owned(), Some(7)), ("2001:db8::/64".to_owned(), None)]
        );
    }

    #[test]
    fn an_answer_without_a_type_is_no_set() {
        assert_eq!(set(&[]), Err(NetlinkError::Malformed));
        assert_eq!(
            set(&[Reply {
                kind: 0,
                payload: vec![1]
            }]),
            Err(NetlinkError::Malformed)
        );
    }

    proptest! {
        #[test]
        fn a_damaged_listing_never_panics(at in 0_usize..64, value: u8, len in 0_usize..64) {
            let mut replies = listing(&[("192.0.2.5/32", 7), ("2001:db8::/64", 9)]);
            for reply in &mut replies {
                let at = at % reply.payload.len();
                reply.payload[at] = value;
                reply.payload.truncate(len);
                let _ = (protocol(reply), name(reply));
            }
            let _ = set(&replies);
        }
    }
}

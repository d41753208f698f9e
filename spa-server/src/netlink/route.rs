//! The default gateways, asked of rtnetlink(7).

use std::net::IpAddr;

use super::message::{Attribute, DUMP, Draft, REQUEST, attributes, find};
use super::socket::{Reply, Socket};
use super::{NetlinkError, address_of};

const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// `struct rtmsg`: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
const HEADER_LEN: usize = 12;
/// `RTA_GATEWAY`, of a route or of one of its hops.
const GATEWAY: u16 = 5;
/// `RTA_MULTIPATH`: a list of `struct rtnexthop`, each with attributes behind it.
const MULTIPATH: u16 = 9;
/// `RTA_VIA`: a family of two octets and an address of it.
const VIA: u16 = 18;
const HOP_LEN: usize = 8;

/// Every address that this host sends to what it knows no better way for, in any table and both families.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn default_gateways() -> Result<Vec<IpAddr>, NetlinkError> {
    let request = Draft::new(GET_ROUTE, REQUEST | DUMP).raw(&[0; HEADER_LEN]);
    let replies = Socket::open(None)?.exchange(&request)?;
    let mut gateways: Vec<IpAddr> = replies.iter().flat_map(gateways).collect();
    gateways.sort_unstable();
    gateways.dedup();
    Ok(gateways)
}

/// Of a route to everywhere.
fn gateways(reply: &Reply) -> Vec<IpAddr> {
    let header = reply.payload.split_first_chunk::<HEADER_LEN>();
    let Some((_, body)) = header.filter(|(header, _)| reply.kind == NEW_ROUTE && header[1] == 0) else {
        return Vec::new();
    };
    let hops = find(body, MULTIPATH).map_or(Vec::new(), |list| hops(list.value));
    gateway(body).into_iter().chain(hops).collect()
}

fn hops(mut list: &[u8]) -> Vec<IpAddr> {
    let mut gateways = Vec::new();
    while let Some(octets) = list.get(..2) {
        let length = usize::from(u16::from_ne_bytes([octets[0], octets[1]]));
        let Some(hop) = list.get(HOP_LEN..length) else { break };
        gateways.extend(gateway(hop));
        list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    gateways
}

fn gateway(body: &[u8]) -> Option<IpAddr> {
    let all: Vec<Attribute<'_>> = attributes(body).map_while(Result::ok).collect();
    let of = |kind| {
        all.iter()
            .find(|attribute| attribute.kind == kind)
            .map(|attribute| attribute.value)
    };
    of(GATEWAY)
        .and_then(address_of)
        .or_else(|| address_of(of(VIA)?.get(2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(destination_len: u8, make: impl FnOnce(Draft) -> Draft) -> Reply {
        let mut header = [0; HEADER_LEN];
        header[1] = destination_len;
        Reply {
            kind: NEW_ROUTE,
            payload: make(Draft::new(NEW_ROUTE, 0).raw(&header)).seal(0)[16..].to_vec(),
        }
    }

    #[test]
    fn only_routes_to_everywhere() {
        let gateway = |draft: Draft| draft.attribute(GATEWAY, &[192, 0, 2, 1]);
        assert_eq!(gateways(&reply(0, gateway)), [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(gateways(&reply(24, gateway)), Vec::<IpAddr>::new());
        let via = |draft: Draft| draft.attribute(VIA, &[[10, 0].as_slice(), &[0xfe; 16]].concat());
        assert_eq!(gateways(&reply(0, via)), [IpAddr::from([0xfe; 16])]);
    }

    #[test]
    fn each_hop_has_its_own() {
        let hop = |last: u8| {
            let length = u16::try_from(HOP_LEN + 8).unwrap().to_ne_bytes();
            [
                &length[..],
                &[0; 6],
                &8_u16.to_ne_bytes(),
                &GATEWAY.to_ne_bytes(),
                &[192, 0, 2, last],
            ]
            .concat()
        };
        let several = reply(0, |draft| draft.attribute(MULTIPATH, &[hop(1), hop(2)].concat()));
        assert_eq!(gateways(&several).len(), 2);
        for length in 0..40 {
            let hostile = reply(0, |draft| draft.attribute(MULTIPATH, &vec![0xff; length]));
            assert_eq!(gateways(&hostile), Vec::<IpAddr>::new());
            let empty = reply(0, |draft| draft.attribute(MULTIPATH, &vec![0; length]));
            assert_eq!(gateways(&empty), Vec::<IpAddr>::new());
        }
    }

    #[test]
    fn the_kernel_tells_without_any_right() {
        assert!(default_gateways().is_ok());
    }
}

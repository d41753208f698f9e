//! The host's own addresses, asked of rtnetlink(7).

use std::net::IpAddr;

use super::message::{DUMP, Draft, REQUEST, find};
use super::socket::{Reply, Socket};
use super::{NetlinkError, address_of};

const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, interface.
const HEADER_LEN: usize = 8;
/// `IFA_ADDRESS`; on a point-to-point link it is the other end's.
const ADDRESS: u16 = 1;
/// `IFA_LOCAL`.
const LOCAL: u16 = 2;

/// Every address that this host has on any interface, in both families.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn own_addresses() -> Result<Vec<IpAddr>, NetlinkError> {
    let request = Draft::new(GET_ADDRESS, REQUEST | DUMP).raw(&[0; HEADER_LEN]);
    let replies = Socket::open(None)?.exchange(&request)?;
    let mut addresses: Vec<IpAddr> = replies.iter().filter_map(address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn address(reply: &Reply) -> Option<IpAddr> {
    let body = reply.payload.get(HEADER_LEN..).filter(|_| reply.kind == NEW_ADDRESS)?;
    address_of(find(body, LOCAL).or_else(|| find(body, ADDRESS))?.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(attributes: &[(u16, &[u8])]) -> Reply {
        let draft = Draft::new(NEW_ADDRESS, 0).raw(&[0; HEADER_LEN]);
        let draft = attributes
            .iter()
            .fold(draft, |draft, (kind, value)| draft.attribute(*kind, value));
        Reply {
            kind: NEW_ADDRESS,
            payload: draft.seal(0)[16..].to_vec(),
        }
    }

    #[test]
    fn the_local_end_of_a_link_is_ours() {
        let ends = reply(&[(ADDRESS, &[192, 0, 2, 2]), (LOCAL, &[192, 0, 2, 1])]);
        assert_eq!(address(&ends), Some([192, 0, 2, 1].into()));
        assert_eq!(address(&reply(&[(ADDRESS, &[0xfe; 16])])), Some([0xfe; 16].into()));
        assert_eq!(address(&reply(&[(ADDRESS, &[1, 2, 3])])), None);
        assert_eq!(
            address(&Reply {
                kind: NEW_ADDRESS,
                payload: vec![0; 3]
            }),
            None
        );
    }

    #[test]
    fn the_kernel_tells_without_any_right() {
        assert!(own_addresses().is_ok());
    }
}

//! Notices that something changed, without looking: netlink's multicast groups.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{Protocol, RecvFlags, SocketFlags};

use super::NetlinkError;
use super::message::{Message, find, messages};
use super::socket::{call, raw_socket, retry};

/// `NFNLGRP_NFTABLES`, group 7.
const NFTABLES_GROUP: u32 = 1 << (7 - 1);
/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR`: groups 1, 5 and 9.
const ADDRESS_GROUPS: u32 = 1 | 1 << (5 - 1) | 1 << (9 - 1);
const NFTABLES_SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWGEN` comes after every transaction and names no table.
const NEW_GENERATION: u16 = 15;
/// `NFT_MSG_NEWSETELEM` and `NFT_MSG_DELSETELEM`: elements come and go, ours too, and are looked at by time.
const ELEMENTS: [u16; 2] = [12, 14];
/// In tables, chains, rules, sets and elements alike, attribute 1 names the table.
const TABLE_NAME: u16 = 1;
/// More than a full receive buffer holds: who sends faster than this is read has changed something.
const MANY: usize = 4096;

/// A socket that becomes readable when something changed; wait for it with [`Readable`](crate::readable::Readable).
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    watched: Watched,
}

#[derive(Debug)]
enum Watched {
    Tables(Vec<String>),
    Addresses,
}

impl Monitor {
    /// Watches the nftables tables of these names in every family; iptables-nft keeps its rules in `filter` and `raw`.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Call`], with EPERM when CAP_NET_ADMIN is missing.
    pub fn tables(names: &[&str]) -> Result<Self, NetlinkError> {
        let watched = Watched::Tables(names.iter().map(|name| (*name).to_owned()).collect());
        Self::open(Some(NETFILTER), NFTABLES_GROUP, watched)
    }

    /// Watches links and addresses of this host.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Call`] with the system call that failed.
    pub fn addresses() -> Result<Self, NetlinkError> {
        Self::open(None, ADDRESS_GROUPS, Watched::Addresses)
    }

    fn open(protocol: Option<Protocol>, groups: u32, watched: Watched) -> Result<Self, NetlinkError> {
        let fd = raw_socket(protocol, SocketFlags::NONBLOCK)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(call("bind"))?;
        Ok(Self { fd, watched })
    }

    /// Reads all that has come; true when anything of it matters. Messages that were lost matter.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Call`] when the socket is of no use any more.
    pub fn drain(&self) -> Result<bool, NetlinkError> {
        let mut buffer = [0; 16 * 1024];
        let mut changed = false;
        for _ in 0..MANY {
            match retry(|| rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::TRUNC)) {
                Ok((_, len)) => changed |= self.matters(&buffer, len),
                Err(Errno::NOBUFS) => changed = true,
                Err(Errno::AGAIN) => return Ok(changed),
                Err(errno) => return Err(NetlinkError::Call { call: "recv", errno }),
            }
        }
        Ok(true)
    }

    fn matters(&self, buffer: &[u8], len: usize) -> bool {
        let Some(octets) = buffer.get(..len) else { return true };
        messages(octets).any(|message| message.map_or(true, |message| self.watched.includes(message)))
    }
}

impl Watched {
    fn includes(&self, message: Message<'_>) -> bool {
        let Self::Tables(names) = self else { return true };
        if message.kind >> 8 != NFTABLES_SUBSYSTEM
            || message.kind & 0xff == NEW_GENERATION
            || ELEMENTS.contains(&(message.kind & 0xff))
        {
            return false;
        }
        let table = message
            .payload
            .get(4..)
            .and_then(|body| find(body, TABLE_NAME))
            .and_then(|name| name.text());
        table.is_none_or(|table| names.iter().any(|name| name == table))
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::Draft;

    #[test]
    fn only_the_watched_tables_matter() {
        let watched = Watched::Tables(vec!["filter".into(), "raw".into()]);
        let includes = |kind: u16, table: &str| {
            let octets = Draft::new(kind, 0).raw(&[2, 0, 0, 0]).text(TABLE_NAME, table).seal(0);
            watched.includes(messages(&octets).next().unwrap().unwrap())
        };
        assert!(includes(0x0a06, "filter"), "a rule of filter");
        assert!(includes(0x0a02, "raw"), "the table raw itself");
        assert!(!includes(0x0a06, "nat"), "a rule of nat");
        assert!(!includes(0x0a0f, "filter"), "a generation");
        assert!(!includes(0x0a0c, "filter"), "an element");
        assert!(!includes(0x0106, "filter"), "another subsystem");
    }

    #[test]
    fn a_message_that_cannot_be_read_matters() {
        let monitor = Monitor::addresses().unwrap();
        assert!(monitor.matters(&[0; 16], 17), "cut off");
        assert!(monitor.matters(&[1; 16], 16), "malformed");
        assert_eq!(monitor.drain(), Ok(false));
    }
}

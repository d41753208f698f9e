//! Whether this device's way to the gateway changes: rtnetlink says that something did, and the kernel's choice of a
//! source address says what.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE` of linux/rtnetlink.h.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
/// More than one change brings; what is left over is read the next time.
const MANY: usize = 1_024;

/// A socket to which the kernel tells changes of addresses and routes.
pub(super) struct Changes(OwnedFd);

impl Changes {
    pub(super) fn begin() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Reads all that has come; whether anything did. What it says is of no interest: the sources are looked at anew.
    pub(super) fn drain(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut came = false;
        for _ in 0..MANY {
            match recv(&self.0, &mut buffer[..], RecvFlags::TRUNC) {
                // Messages were lost: something changed.
                Ok(_) | Err(Errno::NOBUFS) => came = true,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        came
    }
}

/// The address of this device that each of these is reached from, sorted; nothing is sent.
pub(super) fn sources(there: &[IpAddr]) -> Vec<IpAddr> {
    let mut found: Vec<_> = there.iter().filter_map(|address| source(*address).ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The address of this device that `there` is reached from, when there is a route.
pub(crate) fn source(there: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match there {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Any port does: connecting a UDP socket sends nothing.
    socket.connect((there, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_itself() {
        let there: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap()];
        assert_eq!(sources(&there), there);
        assert_eq!(sources(&["255.255.255.255".parse().unwrap()]), Vec::<IpAddr>::new());
    }

    #[test]
    fn nothing_comes_when_nothing_changes() {
        let changes = Changes::begin().unwrap();
        // Another test may change addresses of this namespace; only that this ends is certain.
        changes.drain();
    }
}

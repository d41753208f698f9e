//! A packet socket that takes many frames in one system call (packet(7), sendmmsg(2)).
//!
//! The only place of this crate with `unsafe`: no safe wrapper at hand knows the addresses of packet sockets.

#![allow(unsafe_code, reason = "packet sockets and sendmmsg(2) have no safe wrapper here")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "constants that the C headers have as int and use as short"
)]

use std::ffi::CString;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket that sends whole frames through one interface, past its queueing discipline.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    address: libc::sockaddr_ll,
}

impl Sender {
    /// Through this interface.
    ///
    /// # Errors
    ///
    /// What the kernel says: no such interface, no right.
    pub fn new(interface: &str) -> io::Result<Self> {
        // SAFETY: socket(2) takes no pointers; a descriptor of at least 0 is ours alone.
        let socket = unsafe {
            let number = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            (number >= 0).then(|| OwnedFd::from_raw_fd(number))
        };
        let socket = socket.ok_or_else(io::Error::last_os_error)?;
        let on: libc::c_int = 1;
        // SAFETY: the option's value is one int that outlives the call.
        let done = unsafe {
            let value = (&raw const on).cast();
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                value,
                4,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        let address = address(interface)?;
        Ok(Self { socket, address })
    }

    /// Sends these frames; how many the kernel took.
    ///
    /// # Errors
    ///
    /// What the kernel says of the first that it did not take.
    pub fn send<'a>(&self, frames: impl IntoIterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut address = self.address;
        let mut parts: Vec<libc::iovec> = frames.into_iter().map(part).collect();
        let message = |part: &mut libc::iovec| {
            // SAFETY: all zeros is a valid `mmsghdr`.
            let mut message: libc::mmsghdr = unsafe { zeroed() };
            message.msg_hdr.msg_name = (&raw mut address).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        };
        let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
        let count = libc::c_uint::try_from(messages.len()).unwrap_or(libc::c_uint::MAX);
        // SAFETY: every pointer leads to what outlives the call; sendmmsg(2) only reads the frames.
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn part(frame: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: frame.as_ptr().cast_mut().cast(),
        iov_len: frame.len(),
    }
}

fn address(interface: &str) -> io::Result<libc::sockaddr_ll> {
    let name = CString::new(interface)?;
    // SAFETY: the name is a C string; all zeros is a valid `sockaddr_ll`.
    let (index, mut address) = unsafe { (libc::if_nametoindex(name.as_ptr()), zeroed::<libc::sockaddr_ll>()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = index.try_into().map_err(io::Error::other)?;
    address.sll_halen = 6;
    Ok(address)
}

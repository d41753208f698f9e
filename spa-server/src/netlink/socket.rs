//! A socket to the kernel: one request, its whole answer, never a wait without end.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, sendto};

use super::NetlinkError;
use super::message::{DONE, Draft, ERROR, Message, NOOP, OVERRUN, messages};

/// The kernel answers from the calling thread itself; only a broken one is silent for this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The kernel never sends more in one datagram than 32 KiB unless asked to.
const BUFFER_LEN: usize = 64 * 1024;
/// Far above the largest set (262,144 elements), far below what would hurt.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;
/// How often a request is sent again when its answer was lost for want of buffer space.
const ATTEMPTS: usize = 3;
/// The kernel's own address; bound to, it makes the kernel choose one.
const KERNEL: SocketAddrNetlink = SocketAddrNetlink::new(0, 0);

/// A netlink socket: only the kernel's answers count. Never connected, so that a process that may not connect has one.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The type.
    pub kind: u16,
    /// All after the netlink header.
    pub payload: Vec<u8>,
}

impl Socket {
    /// Opens a socket for requests of `protocol`; none is `NETLINK_ROUTE`.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Call`] with the system call that failed.
    pub fn open(protocol: Option<Protocol>) -> Result<Self, NetlinkError> {
        let fd = raw_socket(protocol, SocketFlags::empty())?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).map_err(call("setsockopt"))?;
        set_socket_timeout(&fd, Timeout::Send, Some(PATIENCE)).map_err(call("setsockopt"))?;
        rustix::net::bind(&fd, &KERNEL).map_err(call("bind"))?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// Sends `draft` and gathers every message up to the acknowledgement or the end of the dump.
    ///
    /// A request whose answer was lost is sent again, so it must be one that may be done twice.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`], [`NetlinkError::Refused`] when the kernel said no.
    pub fn exchange(&mut self, draft: &Draft) -> Result<Vec<Reply>, NetlinkError> {
        self.exchange_all(std::slice::from_ref(draft))
    }

    /// The same with several drafts in one datagram, such as a transaction; one of them asks for an answer.
    ///
    /// # Errors
    ///
    /// As [`Socket::exchange`], with the first refusal of any.
    pub fn exchange_all(&mut self, drafts: &[Draft]) -> Result<Vec<Reply>, NetlinkError> {
        let mut answer = self.attempt(drafts);
        for _ in 1..ATTEMPTS {
            let Err(NetlinkError::Call {
                errno: Errno::NOBUFS, ..
            }) = answer
            else {
                break;
            };
            answer = self.attempt(drafts);
        }
        answer
    }

    fn attempt(&mut self, drafts: &[Draft]) -> Result<Vec<Reply>, NetlinkError> {
        // A new number for each attempt: what is still under way from an older one is then passed over.
        self.sequence = self.sequence.wrapping_add(1);
        let request: Vec<u8> = drafts.iter().flat_map(|draft| draft.seal(self.sequence)).collect();
        retry(|| sendto(&self.fd, &request, SendFlags::empty(), &KERNEL)).map_err(call("sendto"))?;
        self.gather()
    }

    fn gather(&mut self) -> Result<Vec<Reply>, NetlinkError> {
        let deadline = Instant::now() + PATIENCE;
        let mut answer = Answer::default();
        while Instant::now() < deadline {
            let len = self.receive()?;
            for message in messages(&self.buffer[..len]) {
                let message = message?;
                if message.sequence == self.sequence && answer.take(message)? {
                    return Ok(answer.replies);
                }
            }
        }
        Err(NetlinkError::Silence)
    }

    /// Fills the buffer with one datagram; one that does not fit is an error, not a shorter one.
    fn receive(&mut self) -> Result<usize, NetlinkError> {
        let received = retry(|| recvfrom(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC));
        let (_, len, sender) = received.map_err(|errno| match errno {
            Errno::AGAIN => NetlinkError::Silence,
            errno => NetlinkError::Call {
                call: "recvfrom",
                errno,
            },
        })?;
        let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        if sender.is_none_or(|sender| sender.pid() != 0) {
            // Another process has written: passed over, as an answer without a message.
            return Ok(0);
        }
        if len > self.buffer.len() {
            Err(NetlinkError::Malformed)
        } else {
            Ok(len)
        }
    }
}

#[derive(Default)]
struct Answer {
    replies: Vec<Reply>,
    octets: usize,
}

impl Answer {
    /// Takes one message; true when it was the last.
    fn take(&mut self, message: Message<'_>) -> Result<bool, NetlinkError> {
        match message.kind {
            NOOP => Ok(false),
            OVERRUN => Err(NetlinkError::Call {
                call: "recv",
                errno: Errno::NOBUFS,
            }),
            ERROR | DONE => match message.code()? {
                0 => Ok(true),
                code => Err(NetlinkError::Refused(code)),
            },
            kind => self.keep(kind, message.payload).map(|()| false),
        }
    }

    fn keep(&mut self, kind: u16, payload: &[u8]) -> Result<(), NetlinkError> {
        self.octets = self.octets.saturating_add(payload.len());
        if self.octets > ANSWER_LIMIT {
            return Err(NetlinkError::Malformed);
        }
        self.replies.push(Reply {
            kind,
            payload: payload.to_vec(),
        });
        Ok(())
    }
}

/// A raw netlink socket that children do not inherit.
pub(super) fn raw_socket(protocol: Option<Protocol>, flags: SocketFlags) -> Result<OwnedFd, NetlinkError> {
    let flags = flags | SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol).map_err(call("socket"))
}

/// Repeats a system call that a signal interrupted.
pub(crate) fn retry<T>(mut attempt: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match attempt() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Names the system call in its error.
pub(super) fn call(call: &'static str) -> impl Fn(Errno) -> NetlinkError {
    move |errno| NetlinkError::Call { call, errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Message<'_> {
        Message {
            kind,
            sequence: 1,
            payload,
        }
    }

    #[test]
    fn an_answer_ends_with_its_acknowledgement_and_a_refusal_is_an_error() {
        let mut answer = Answer::default();
        assert_eq!(answer.take(message(NOOP, &[])), Ok(false));
        assert_eq!(answer.take(message(0x0607, &[1, 2])), Ok(false));
        assert_eq!(answer.take(message(DONE, &0_i32.to_ne_bytes())), Ok(true));
        assert_eq!(
            answer.replies,
            [Reply {
                kind: 0x0607,
                payload: vec![1, 2]
            }]
        );
        assert_eq!(
            answer.take(message(ERROR, &(-2_i32).to_ne_bytes())),
            Err(NetlinkError::Refused(2))
        );
        assert_eq!(answer.take(message(ERROR, &[0, 0])), Err(NetlinkError::Malformed));
    }
}

//! ipset over nfnetlink: sets of networks whose elements end by themselves.
//!
//! What goes over the wire is in `wire`, what the kernel's refusals mean in `error`.

mod error;
mod wire;

use ipnet::IpNet;
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

pub use error::{IpsetCause, IpsetError};
pub use wire::Set;

use super::message::{CREATE, DUMP, Draft, EXCLUSIVE};
use super::socket::{Reply, Socket};
use super::{Family, NetlinkError};
use error::{EXIST, PROTOCOL_MISMATCH};
use wire::Command;

/// The longest time-out in seconds: 2^31 milliseconds, as jiffies may count.
pub const LONGEST_TIMEOUT: u32 = 2_147_483;
/// The type of every set made here.
pub const SET_TYPE: &str = "hash:net";

const NEWEST_PROTOCOL: u8 = 7;
const OLDEST_PROTOCOL: u8 = 6;

/// What became of a request to make a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It is new and empty.
    Created,
    /// One of this type and family was there.
    Present,
}

/// A line to ip_set in the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Ipset {
    socket: Socket,
    protocol: u8,
}

impl Ipset {
    /// Opens the line and agrees on the protocol, 7 or 6.
    ///
    /// # Errors
    ///
    /// [`IpsetError`], when there is no ip_set in the kernel too.
    pub fn open() -> Result<Self, IpsetError> {
        let failed = |cause| IpsetError::new("speak to ipset in the kernel".to_owned(), cause);
        let mut socket = Socket::open(Some(NETFILTER)).map_err(failed)?;
        let request = wire::draft(Command::Protocol, 0, Family::V4, NEWEST_PROTOCOL);
        let replies = socket.exchange(&request).map_err(failed)?;
        let spoken = replies
            .first()
            .and_then(wire::protocol)
            .ok_or(failed(NetlinkError::Malformed))?;
        if spoken < OLDEST_PROTOCOL {
            return Err(failed(NetlinkError::Refused(PROTOCOL_MISMATCH)));
        }
        Ok(Self {
            socket,
            protocol: spoken.min(NEWEST_PROTOCOL),
        })
    }

    /// Whether the kernel knows sets of networks of `family`.
    ///
    /// # Errors
    ///
    /// [`IpsetError`] if it does not, or did not tell.
    pub fn expect_type(&mut self, family: Family) -> Result<(), IpsetError> {
        let draft = wire::kind(wire::draft(Command::Type, 0, family, self.protocol), family);
        self.exchange(&draft, || format!("use sets of the type {SET_TYPE}"))
            .map(drop)
    }

    /// Makes the set `name` of networks of `family` with time-outs, for 262,144 elements; one of that kind may be there.
    ///
    /// # Errors
    ///
    /// [`IpsetError`], when a set of that name has another type or family too.
    pub fn create(&mut self, name: &str, family: Family) -> Result<Creation, IpsetError> {
        let draft = wire::creation(self.named(Command::Create, CREATE | EXCLUSIVE, family, name), family);
        let doing = || format!("make the set {name}");
        match self.socket.exchange(&draft) {
            Ok(_) => Ok(Creation::Created),
            Err(cause) if cause.is(Errno::EXIST) => self.expect_kind(name, family).map(|()| Creation::Present),
            Err(cause) => Err(IpsetError::new(doing(), cause)),
        }
    }

    /// Puts `net` into a set for `seconds`, 0 being for ever; what was there before ends anew.
    ///
    /// # Errors
    ///
    /// [`IpsetError`]; what was there before stays as it was.
    pub fn add(&mut self, name: &str, net: IpNet, seconds: u32) -> Result<(), IpsetError> {
        let draft = self.element(Command::Add, 0, name, net);
        let draft = wire::with_element(draft, net, Some(seconds.min(LONGEST_TIMEOUT)));
        self.exchange(&draft, || format!("put {net} into the set {name}"))
            .map(drop)
    }

    /// Puts `net` into a set for `seconds` unless it is there; false when it was.
    ///
    /// # Errors
    ///
    /// [`IpsetError`] if it is not there afterwards.
    pub fn add_absent(&mut self, name: &str, net: IpNet, seconds: u32) -> Result<bool, IpsetError> {
        let draft = self.element(Command::Add, EXCLUSIVE, name, net);
        let draft = wire::with_element(draft, net, Some(seconds.min(LONGEST_TIMEOUT)));
        match self.socket.exchange(&draft) {
            Ok(_) => Ok(true),
            Err(NetlinkError::Refused(EXIST)) => Ok(false),
            Err(cause) => Err(IpsetError::new(format!("put {net} into the set {name}"), cause)),
        }
    }

    /// Takes `net` out of a set; neither its absence nor the set's is an error.
    ///
    /// # Errors
    ///
    /// [`IpsetError`] if it may still be there.
    pub fn remove(&mut self, name: &str, net: IpNet) -> Result<(), IpsetError> {
        let draft = wire::with_element(self.element(Command::Delete, 0, name, net), net, None);
        self.unless_absent(&draft, || format!("take {net} out of the set {name}"))
    }

    /// A set and its elements; none when there is no set of that name.
    ///
    /// # Errors
    ///
    /// [`IpsetError`] if the kernel did not tell, or not in a form that is understood.
    pub fn list(&mut self, name: &str) -> Result<Option<Set>, IpsetError> {
        let draft = self.named(Command::List, DUMP, Family::V4, name);
        let doing = || format!("list the set {name}");
        match self.socket.exchange(&draft) {
            Ok(replies) => wire::set(&replies)
                .map(Some)
                .map_err(|cause| IpsetError::new(doing(), cause)),
            Err(cause) if cause.is(Errno::NOENT) => Ok(None),
            Err(cause) => Err(IpsetError::new(doing(), cause)),
        }
    }

    /// The type and family of a set, without its elements; none when there is no set of that name.
    ///
    /// # Errors
    ///
    /// [`IpsetError`] if the kernel did not tell.
    pub fn header(&mut self, name: &str) -> Result<Option<Set>, IpsetError> {
        let draft = self.named(Command::Header, 0, Family::V4, name);
        let doing = || format!("look at the set {name}");
        match self.socket.exchange(&draft) {
            Ok(replies) => wire::set(&replies)
                .map(Some)
                .map_err(|cause| IpsetError::new(doing(), cause)),
            Err(cause) if cause.is(Errno::NOENT) => Ok(None),
            Err(cause) => Err(IpsetError::new(doing(), cause)),
        }
    }

    /// The names of all sets, anybody's.
    ///
    /// # Errors
    ///
    /// [`IpsetError`] if the kernel did not tell.
    pub fn names(&mut self) -> Result<Vec<String>, IpsetError> {
        let draft = wire::names_only(wire::draft(Command::List, DUMP, Family::V4, self.protocol));
        let replies = self.exchange(&draft, || "list the sets".to_owned())?;
        Ok(replies.iter().filter_map(wire::name).collect())
    }

    /// Takes all elements out of a set; its absence is no error.
    ///
    /// # Errors
    ///
    /// [`IpsetError`] if some may still be there.
    pub fn flush(&mut self, name: &str) -> Result<(), IpsetError> {
        let draft = self.named(Command::Flush, 0, Family::V4, name);
        self.unless_absent(&draft, || format!("empty the set {name}"))
    }

    /// Takes a set away; its absence is no error.
    ///
    /// # Errors
    ///
    /// [`IpsetError`], [`IpsetError::is_busy`] while a rule names it.
    pub fn destroy(&mut self, name: &str) -> Result<(), IpsetError> {
        let draft = self.named(Command::Destroy, 0, Family::V4, name);
        self.unless_absent(&draft, || format!("take away the set {name}"))
    }

    fn expect_kind(&mut self, name: &str, family: Family) -> Result<(), IpsetError> {
        match self.list(name)? {
            Some(set) if set.kind != SET_TYPE || set.family != family.number() => {
                Err(IpsetError::other_kind(name, &set.kind))
            }
            Some(set) if !set.timeouts => Err(IpsetError::other_kind(name, "hash:net without time-outs")),
            _ => Ok(()),
        }
    }

    fn named(&self, command: Command, flags: u16, family: Family, name: &str) -> Draft {
        wire::with_name(wire::draft(command, flags, family, self.protocol), name)
    }

    fn element(&self, command: Command, flags: u16, name: &str, net: IpNet) -> Draft {
        self.named(command, flags, Family::of(&net), name)
    }

    fn exchange(&mut self, draft: &Draft, doing: impl FnOnce() -> String) -> Result<Vec<Reply>, IpsetError> {
        self.socket
            .exchange(draft)
            .map_err(|cause| IpsetError::new(doing(), cause))
    }

    fn unless_absent(&mut self, draft: &Draft, doing: impl FnOnce() -> String) -> Result<(), IpsetError> {
        match self.socket.exchange(draft) {
            Err(cause) if !cause.is(Errno::NOENT) => Err(IpsetError::new(doing(), cause)),
            _ => Ok(()),
        }
    }
}

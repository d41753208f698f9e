//! The kernel's netlink, as much of it as a gateway needs, without a C library.
//!
//! [`message`] turns values into octets and back, [`socket`] sends a request and gathers its answer, [`ipset`] speaks
//! to ip_set over nfnetlink, [`monitor`] notices changes of rules and addresses, [`nftables`] tells rules apart,
//! [`ruleset`] reads what else nf_tables holds, [`batch`] changes it in transactions, [`address`] lists the host's own.

pub mod address;
pub mod batch;
pub mod conntrack;
pub mod ipset;
pub mod link;
pub mod message;
pub mod monitor;
pub mod nftables;
pub mod route;
pub mod ruleset;
pub mod sock_diag;
pub mod socket;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4, AF_INET.
    V4,
    /// IPv6, AF_INET6.
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of a network.
    #[must_use]
    pub fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    /// Whether an address is of this family.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    /// The number that netlink messages carry: AF_INET or AF_INET6.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// The length of an address in bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// One network in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The network.
    pub net: IpNet,
    /// Whole seconds until it ends; none when it never does.
    pub remaining: Option<u32>,
}

/// Why a question to the kernel has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetlinkError {
    /// A system call failed.
    Call {
        /// Its name.
        call: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// The kernel did not answer in time.
    Silence,
    /// The answer could not be understood.
    Malformed,
    /// The kernel said no, with this positive error number.
    Refused(i32),
}

impl NetlinkError {
    /// Whether the kernel said no with just this errno.
    #[must_use]
    pub fn is(self, errno: Errno) -> bool {
        self == Self::Refused(errno.raw_os_error())
    }

    /// What to try, where that is known.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        let errno = match self {
            Self::Call { errno, .. } => errno.raw_os_error(),
            Self::Refused(code) => code,
            Self::Silence | Self::Malformed => return None,
        };
        let missing = [Errno::PERM, Errno::ACCESS].iter().any(|e| e.raw_os_error() == errno);
        missing.then_some("run as root, or give the process CAP_NET_ADMIN")
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Call { call, errno } => write!(f, "netlink {call}: {}", errno_text(errno.raw_os_error())),
            Self::Silence => f.write_str("the kernel did not answer in time"),
            Self::Malformed => f.write_str("the kernel's answer could not be understood"),
            Self::Refused(code) => f.write_str(&errno_text(code)),
        }
    }
}

impl std::error::Error for NetlinkError {}

fn errno_text(code: i32) -> String {
    match Errno::from_raw_os_error(code) {
        Errno::PERM => "not permitted: CAP_NET_ADMIN is missing".to_owned(),
        errno => std::io::Error::from(errno).to_string(),
    }
}

/// An address of `family` from the octets of an attribute.
fn address_of(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

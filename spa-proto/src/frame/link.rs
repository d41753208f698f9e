//! Link layers: Ethernet with VLAN tags, Linux cooked captures, raw IP and loopback.

use core::fmt;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q, 802.1ad and what came before it.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const MOST_VLAN_TAGS: usize = 2;
/// AF_INET, and AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, and macOS: the header is the sending system's.
const FAMILIES: [u32; 5] = [2, 10, 24, 28, 30];

/// What the octets of a captured frame begin with (libpcap's link-layer header types).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// LINKTYPE_ETHERNET, also with VLAN tags, one or two.
    Ethernet,
    /// LINKTYPE_LINUX_SLL: what the pseudo-interface `any` gives.
    LinuxCooked,
    /// LINKTYPE_LINUX_SLL2: the same with the interface's index.
    LinuxCooked2,
    /// LINKTYPE_RAW: an IP packet and nothing else.
    Raw,
    /// LINKTYPE_NULL: BSD loopback, an address family in the byte order of the capturing host.
    Null,
    /// LINKTYPE_LOOP: OpenBSD loopback, an address family in network byte order.
    Loop,
}

impl LinkType {
    /// Every link type that is understood.
    pub const ALL: [Self; 6] = [
        Self::Ethernet,
        Self::LinuxCooked,
        Self::LinuxCooked2,
        Self::Raw,
        Self::Null,
        Self::Loop,
    ];

    /// From a number as a capture file or `pcap_datalink` gives it; DLT_RAW is 12 there, 14 on OpenBSD, 101 in files.
    #[must_use]
    pub const fn from_dlt(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            113 => Some(Self::LinuxCooked),
            276 => Some(Self::LinuxCooked2),
            12 | 14 | 101 => Some(Self::Raw),
            0 => Some(Self::Null),
            108 => Some(Self::Loop),
            _ => None,
        }
    }
}

/// The IP packet, with whatever link padding follows it.
pub(super) fn ip_packet(link: LinkType, frame: &[u8]) -> Result<&[u8], LinkError> {
    match link {
        LinkType::Ethernet => ethernet(frame),
        LinkType::LinuxCooked => linux_cooked(frame),
        LinkType::LinuxCooked2 => linux_cooked2(frame),
        LinkType::Raw => Ok(frame),
        LinkType::Null => loopback(frame, u32::from_ne_bytes),
        LinkType::Loop => loopback(frame, u32::from_be_bytes),
    }
}

fn ethernet(frame: &[u8]) -> Result<&[u8], LinkError> {
    let (header, rest) = head::<14>(frame)?;
    behind_vlan_tags(u16::from_be_bytes([header[12], header[13]]), rest)
}

fn linux_cooked(frame: &[u8]) -> Result<&[u8], LinkError> {
    let (header, rest) = head::<16>(frame)?;
    check_incoming(u16::from_be_bytes([header[0], header[1]]))?;
    behind_vlan_tags(u16::from_be_bytes([header[14], header[15]]), rest)
}

fn linux_cooked2(frame: &[u8]) -> Result<&[u8], LinkError> {
    let (header, rest) = head::<20>(frame)?;
    check_incoming(header[10].into())?;
    behind_vlan_tags(u16::from_be_bytes([header[0], header[1]]), rest)
}

fn loopback(frame: &[u8], order: fn([u8; 4]) -> u32) -> Result<&[u8], LinkError> {
    let (header, rest) = head::<4>(frame)?;
    let family = order(*header);
    if FAMILIES.contains(&family) {
        Ok(rest)
    } else {
        Err(LinkError::Family { family })
    }
}

/// The kernel's packet type: 0 to us, 1 broadcast, 2 multicast, 3 to somebody else, 4 sent by us.
const fn check_incoming(kind: u16) -> Result<(), LinkError> {
    if kind < 3 {
        Ok(())
    } else {
        Err(LinkError::NotIncoming { kind })
    }
}

fn behind_vlan_tags(mut ethertype: u16, mut rest: &[u8]) -> Result<&[u8], LinkError> {
    for _ in 0..MOST_VLAN_TAGS {
        if ETHERTYPES_VLAN.contains(&ethertype) {
            let (tag, inner) = head::<4>(rest)?;
            ethertype = u16::from_be_bytes([tag[2], tag[3]]);
            rest = inner;
        }
    }
    match ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok(rest),
        _ => Err(LinkError::Ethertype { ethertype }),
    }
}

fn head<const N: usize>(octets: &[u8]) -> Result<(&[u8; N], &[u8]), LinkError> {
    octets.split_first_chunk().ok_or(LinkError::Cut { have: octets.len() })
}

/// A frame whose link layer holds no IP packet for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The header is cut short.
    Cut {
        /// How many octets there are.
        have: usize,
    },
    /// Neither IPv4 nor IPv6 behind at most two VLAN tags.
    Ethertype {
        /// The type found.
        ethertype: u16,
    },
    /// A loopback header of another address family.
    Family {
        /// The family found.
        family: u32,
    },
    /// Sent by this host, or for another one.
    NotIncoming {
        /// The kernel's packet type.
        kind: u16,
    },
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { have } => write!(f, "a link header cut short at {have} octets"),
            Self::Ethertype { ethertype } => write!(f, "ethertype {ethertype:#06x} is not IP"),
            Self::Family { family } => write!(f, "address family {family} is not IP"),
            Self::NotIncoming { kind } => write!(f, "packet type {kind} is not incoming"),
        }
    }
}

impl core::error::Error for LinkError {}

//! The network layer: IPv4 (RFC 791) and IPv6 (RFC 8200).

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

/// The protocol number of TCP.
pub(super) const TCP: u8 = 6;
/// The protocol number of UDP.
pub(super) const UDP: u8 = 17;
/// "More fragments" and the offset; a packet that has neither is whole.
const FRAGMENT_BITS: u16 = 0x3fff;

/// One whole IP packet that carries a protocol that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the version and cuts one packet that carries one of `protocols` from the front of `octets`.
    pub(super) fn parse(octets: &'a [u8], protocols: &[u8]) -> Result<Self, IpError> {
        match octets.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(octets, protocols),
            Some(6) => Self::parse_v6(octets, protocols),
            Some(version) => Err(IpError::Version { version }),
            None => Err(IpError::Cut { have: 0 }),
        }
    }

    fn parse_v4(octets: &'a [u8], protocols: &[u8]) -> Result<Self, IpError> {
        let cut = IpError::Cut { have: octets.len() };
        let header: &[u8; 20] = octets.first_chunk().ok_or(cut)?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_length < header.len() || total_length < header_length {
            return Err(IpError::Length);
        }
        if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_BITS != 0 {
            return Err(IpError::Fragment);
        }
        let protocol = check_protocol(header[9], protocols)?;
        let [.., s1, s2, s3, s4, d1, d2, d3, d4] = *header;
        let payload = octets.get(header_length..total_length).ok_or(cut)?;
        Ok(Self {
            source: IpAddr::from([s1, s2, s3, s4]),
            destination: IpAddr::from([d1, d2, d3, d4]),
            protocol,
            payload,
        })
    }

    fn parse_v6(octets: &'a [u8], protocols: &[u8]) -> Result<Self, IpError> {
        let cut = IpError::Cut { have: octets.len() };
        let (header, rest) = octets.split_first_chunk::<8>().ok_or(cut)?;
        let (source, rest) = rest.split_first_chunk::<16>().ok_or(cut)?;
        let (destination, rest) = rest.split_first_chunk::<16>().ok_or(cut)?;
        let protocol = check_protocol(header[6], protocols)?;
        let payload_length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let payload = rest.get(..payload_length).ok_or(cut)?;
        let address = |octets: &[u8; 16]| IpAddr::V6(Ipv6Addr::from(*octets));
        Ok(Self {
            source: address(source),
            destination: address(destination),
            protocol,
            payload,
        })
    }
}

/// An extension header, a fragment's too, is a protocol of its own here.
fn check_protocol(protocol: u8, wanted: &[u8]) -> Result<u8, IpError> {
    if wanted.contains(&protocol) {
        Ok(protocol)
    } else {
        Err(IpError::Protocol { protocol })
    }
}

/// A packet that is not one whole IP packet carrying what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpError {
    /// It ends before its header or its length says.
    Cut {
        /// How many octets there are.
        have: usize,
    },
    /// Neither IPv4 nor IPv6.
    Version {
        /// The version found.
        version: u8,
    },
    /// The header length and the total length contradict each other.
    Length,
    /// A fragment of an IPv4 packet.
    Fragment,
    /// Another protocol than asked for, or IPv6 with an extension header.
    Protocol {
        /// The protocol number found.
        protocol: u8,
    },
}

impl fmt::Display for IpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { have } => write!(f, "an IP packet cut short at {have} octets"),
            Self::Version { version } => write!(f, "IP version {version}"),
            Self::Length => f.write_str("an IPv4 header whose lengths contradict each other"),
            Self::Fragment => f.write_str("a fragment"),
            Self::Protocol { protocol } => write!(f, "protocol {protocol} does not belong here"),
        }
    }
}

impl core::error::Error for IpError {}

//! The transport layer: TCP (RFC 9293, section 3.1).

use core::fmt;

/// The header of one TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tcp<'a> {
    header: &'a [u8; 20],
}

impl<'a> Tcp<'a> {
    /// Reads the header at the front of an IP payload; options and data are passed over.
    ///
    /// # Errors
    ///
    /// [`TcpError`] if the header is cut short, or its data offset covers less than the header or more than `octets`.
    pub(super) fn parse(octets: &'a [u8]) -> Result<Self, TcpError> {
        let Some(header) = octets.first_chunk::<20>() else {
            return Err(TcpError::HeaderCut { have: octets.len() });
        };
        let offset = usize::from(header[12] >> 4) * 4;
        if offset < header.len() || offset > octets.len() {
            let have = octets.len();
            return Err(TcpError::Offset { offset, have });
        }
        Ok(Self { header })
    }

    pub(super) const fn source_port(self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    pub(super) const fn destination_port(self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    pub(super) const fn sequence_number(self) -> u32 {
        u32::from_be_bytes([self.header[4], self.header[5], self.header[6], self.header[7]])
    }

    pub(super) const fn flags(self) -> TcpFlags {
        TcpFlags::from_octet(self.header[13])
    }
}

/// The control bits URG, ACK, PSH, RST, SYN and FIN. CWR and ECE are left out: an honest SYN may carry them (RFC 3168).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// What begins a connection: SYN and nothing else.
    pub const SYN: Self = Self(0x02);
    const ALL: u8 = 0x3f;
    const NAMES: [(&'static str, u8); 6] = [
        ("fin", 0x01),
        ("syn", 0x02),
        ("rst", 0x04),
        ("psh", 0x08),
        ("ack", 0x10),
        ("urg", 0x20),
    ];

    /// From the octet in the header that holds them.
    #[must_use]
    pub const fn from_octet(octet: u8) -> Self {
        Self(octet & Self::ALL)
    }

    /// As they stand in the header.
    #[must_use]
    pub const fn octet(self) -> u8 {
        self.0
    }

    /// From names such as `syn`; none for a name that is no flag's. No names are no flags.
    #[must_use]
    pub fn from_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let bit = |name: &str| Some(Self::NAMES.iter().find(|(known, _)| *known == name)?.1);
        let bits = names.into_iter().try_fold(0, |bits, name| Some(bits | bit(name)?))?;
        Some(Self(bits))
    }

    /// Whether what an established connection sends looks so too.
    #[must_use]
    pub const fn is_common(self) -> bool {
        // ACK, with or without PSH or FIN, and RST.
        matches!(self.0, 0x10 | 0x18 | 0x11 | 0x19 | 0x04 | 0x14)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(_, bit)| self.0 & bit != 0);
        names.enumerate().try_for_each(|(place, (name, _))| {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{name}")
        })
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpFlags({self})")
    }
}

/// An IP payload that does not begin with a whole TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpError {
    /// It ends before the TCP header does.
    HeaderCut {
        /// How many octets there are.
        have: usize,
    },
    /// The data offset covers less than the header or more than the IP payload.
    Offset {
        /// The offset, in octets.
        offset: usize,
        /// How many octets the IP payload has.
        have: usize,
    },
}

impl fmt::Display for TcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderCut { have } => write!(f, "a TCP header cut short at {have} octets"),
            Self::Offset { offset, have } => write!(f, "TCP data offset {offset} in an IP payload of {have} octets"),
        }
    }
}

impl core::error::Error for TcpError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn flags_have_names() {
        assert_eq!(TcpFlags::from_names(["syn"]), Some(TcpFlags::SYN));
        let all = TcpFlags::from_names(["urg", "fin", "psh"]).unwrap();
        assert_eq!((all.octet(), all.to_string().as_str()), (0x29, "fin,psh,urg"));
        assert_eq!(TcpFlags::from_names(["syn", "!ack"]), None);
        assert_eq!(TcpFlags::from_names([]), Some(TcpFlags(0)));
    }

    #[test]
    fn congestion_bits_do_not_matter() {
        assert_eq!(TcpFlags::from_octet(0xc2), TcpFlags::SYN);
        assert_ne!(TcpFlags::from_octet(0x12), TcpFlags::SYN);
    }

    #[test]
    fn the_offset_lies_inside_the_segment() {
        let mut octets = [0; 24];
        for (words, good) in [(0, false), (4, false), (5, true), (6, true), (7, false), (15, false)] {
            octets[12] = words << 4;
            assert_eq!(Tcp::parse(&octets).is_ok(), good, "{words}");
        }
        assert!(Tcp::parse(&octets[..19]).is_err());
    }
}

//! The transport layer: UDP (RFC 768).

use core::fmt;

/// One UDP datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Udp<'a> {
    header: &'a [u8; 8],
    pub(super) payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Cuts one UDP datagram from the front of an IP payload.
    ///
    /// # Errors
    ///
    /// [`UdpError`] if the header is cut short, or its length field covers less than the header or more than `octets`.
    pub(super) fn parse(octets: &'a [u8]) -> Result<Self, UdpError> {
        let Some((header, rest)) = octets.split_first_chunk::<8>() else {
            return Err(UdpError::HeaderCut { have: octets.len() });
        };
        let field = u16::from_be_bytes([header[4], header[5]]);
        let length = UdpError::Length {
            field,
            have: octets.len(),
        };
        let payload_len = usize::from(field).checked_sub(header.len()).ok_or(length)?;
        let payload = rest.get(..payload_len).ok_or(length)?;
        Ok(Self { header, payload })
    }

    pub(super) const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    pub(super) const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }
}

/// An IP payload that is not one whole UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpError {
    /// It ends before the UDP header does.
    HeaderCut {
        /// How many octets there are.
        have: usize,
    },
    /// The length field covers less than the header or more than the IP payload.
    Length {
        /// The length field.
        field: u16,
        /// How many octets the IP payload has.
        have: usize,
    },
}

impl fmt::Display for UdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderCut { have } => write!(f, "a UDP header cut short at {have} octets"),
            Self::Length { field, have } => write!(f, "UDP length {field} in an IP payload of {have} octets"),
        }
    }
}

impl core::error::Error for UdpError {}

//! Captured frame → probe: a packet to a port, whatever it carries. What sequences are made of.

use core::net::SocketAddr;

use super::ip::{self, TCP, UDP};
use super::tcp::{Tcp, TcpFlags};
use super::udp::Udp;
use super::{FrameError, LinkType, link};

/// One packet to one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe<'a> {
    /// Where it came from, as the packet says.
    pub source: SocketAddr,
    /// Where it was sent.
    pub destination: SocketAddr,
    /// Which protocol, and what tells one packet of it from the next.
    pub content: Content<'a>,
}

/// What a probe carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content<'a> {
    /// A TCP segment.
    Tcp {
        /// Its control bits.
        flags: TcpFlags,
        /// Its sequence number: a retransmission has the same.
        number: u32,
    },
    /// A UDP datagram.
    Udp {
        /// What it carries.
        payload: &'a [u8],
    },
}

impl<'a> Probe<'a> {
    /// Cuts a captured frame down to its TCP segment or UDP datagram, as carefully as a datagram of the protocol.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for everything else, and for what this host sent itself.
    pub fn from_frame(link: LinkType, frame: &'a [u8]) -> Result<Self, FrameError> {
        let packet = ip::Packet::parse(link::ip_packet(link, frame)?, &[TCP, UDP])?;
        let (ports, content) = if packet.protocol == TCP {
            let tcp = Tcp::parse(packet.payload)?;
            let (flags, number) = (tcp.flags(), tcp.sequence_number());
            let ports = (tcp.source_port(), tcp.destination_port());
            (ports, Content::Tcp { flags, number })
        } else {
            let udp = Udp::parse(packet.payload)?;
            let ports = (udp.source_port(), udp.destination_port());
            (ports, Content::Udp { payload: udp.payload })
        };
        Ok(Self {
            source: SocketAddr::new(packet.source, ports.0),
            destination: SocketAddr::new(packet.destination, ports.1),
            content,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const SYN: [u8; 20] = [
        0x9c, 0x40, 0x1b, 0x58, 0, 0, 1, 2, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0, 0, 0, 0,
    ];
    const UDP: [u8; 9] = [0x9c, 0x40, 0x1b, 0x58, 0, 9, 0, 0, 7];

    fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(20 + payload.len()).unwrap();
        let head = [
            0x45, 0, 0, length, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1,
        ];
        [&head, payload].concat()
    }

    fn ipv6(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut head = std::vec![0x60, 0, 0, 0, 0, u8::try_from(payload.len()).unwrap(), protocol, 64];
        head.extend("2001:db8::7".parse::<core::net::Ipv6Addr>().unwrap().octets());
        head.extend("2001:db8::1".parse::<core::net::Ipv6Addr>().unwrap().octets());
        [&head, payload].concat()
    }

    #[test]
    fn both_protocols_in_both_families() {
        let syn = Content::Tcp {
            flags: TcpFlags::SYN,
            number: 0x0102,
        };
        let datagram = Content::Udp { payload: &[7] };
        let cases = [
            (ipv4(6, &SYN), "192.0.2.7:40000", "198.51.100.1:7000", syn),
            (ipv6(6, &SYN), "[2001:db8::7]:40000", "[2001:db8::1]:7000", syn),
            (ipv4(17, &UDP), "192.0.2.7:40000", "198.51.100.1:7000", datagram),
            (ipv6(17, &UDP), "[2001:db8::7]:40000", "[2001:db8::1]:7000", datagram),
        ];
        for (packet, source, destination, content) in cases {
            let probe = Probe::from_frame(LinkType::Raw, &packet).unwrap();
            let expected = Probe {
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                content,
            };
            assert_eq!(probe, expected);
        }
    }

    #[test]
    fn every_cut_every_fragment_and_every_other_protocol_is_refused() {
        for packet in [ipv4(6, &SYN), ipv6(6, &SYN), ipv4(17, &UDP), ipv6(17, &UDP)] {
            for length in 0..packet.len() {
                assert!(Probe::from_frame(LinkType::Raw, &packet[..length]).is_err(), "{length}");
            }
        }
        let mut fragment = ipv4(6, &SYN);
        fragment[6] = 0x20;
        assert!(Probe::from_frame(LinkType::Raw, &fragment).is_err());
        for protocol in [0, 1, 43, 44, 50, 58, 60, 132] {
            assert!(Probe::from_frame(LinkType::Raw, &ipv4(protocol, &SYN)).is_err());
            assert!(Probe::from_frame(LinkType::Raw, &ipv6(protocol, &SYN)).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            for link in LinkType::ALL {
                let _ = Probe::from_frame(link, &octets);
            }
        }
    }
}

//! Captured frame → UDP datagram (step 1, and nothing of its contents), or → probe for sequences.

mod ip;
mod link;
mod probe;
mod tcp;
mod udp;

use core::fmt;
use core::net::SocketAddr;

pub use ip::IpError;
pub use link::{LinkError, LinkType};
pub use probe::{Content, Probe};
pub use tcp::{TcpError, TcpFlags};
pub use udp::UdpError;

/// One UDP datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it came from, as the packet says.
    pub source: SocketAddr,
    /// Where it was sent.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Cuts a captured frame down to its UDP datagram.
    ///
    /// IPv4 must be unfragmented, its options are passed over; IPv6 must have no extension header; octets after the
    /// packet are link padding and ignored; checksums are not relied on.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for everything else, and for what this host sent itself.
    pub fn from_frame(link: LinkType, frame: &'a [u8]) -> Result<Self, FrameError> {
        let packet = link::ip_packet(link, frame)?;
        let packet = ip::Packet::parse(packet, &[ip::UDP])?;
        let udp = udp::Udp::parse(packet.payload)?;
        Ok(Self {
            source: SocketAddr::new(packet.source, udp.source_port()),
            destination: SocketAddr::new(packet.destination, udp.destination_port()),
            payload: udp.payload,
        })
    }
}

/// A frame that holds no whole, unfragmented packet of the kind that was looked for, for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The link layer.
    Link(LinkError),
    /// The network layer.
    Ip(IpError),
    /// The transport layer, UDP.
    Udp(UdpError),
    /// The transport layer, TCP.
    Tcp(TcpError),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => error.fmt(f),
            Self::Ip(error) => error.fmt(f),
            Self::Udp(error) => error.fmt(f),
            Self::Tcp(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for FrameError {}

impl From<LinkError> for FrameError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<IpError> for FrameError {
    fn from(error: IpError) -> Self {
        Self::Ip(error)
    }
}

impl From<TcpError> for FrameError {
    fn from(error: TcpError) -> Self {
        Self::Tcp(error)
    }
}

impl From<UdpError> for FrameError {
    fn from(error: UdpError) -> Self {
        Self::Udp(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const UDP: [u8; 12] = [0x9c, 0x40, 0xf2, 0xf9, 0, 12, 0, 0, 1, 2, 3, 4];

    fn ipv4(payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(20 + payload.len()).unwrap();
        let head = [
            0x45, 0, 0, length, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1,
        ];
        [&head, payload].concat()
    }

    fn ipv6(payload: &[u8]) -> Vec<u8> {
        let mut head = std::vec![0x60, 0, 0, 0, 0, u8::try_from(payload.len()).unwrap(), 17, 64];
        head.extend("2001:db8::7".parse::<core::net::Ipv6Addr>().unwrap().octets());
        head.extend("2001:db8::1".parse::<core::net::Ipv6Addr>().unwrap().octets());
        [&head, payload].concat()
    }

    fn ethernet(ethertypes: &[u8], packet: &[u8]) -> Vec<u8> {
        [&[2; 12], ethertypes, packet].concat()
    }

    fn cooked(kind: u8, ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[0, kind, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0], &ethertype[..], packet].concat()
    }

    fn cooked2(kind: u8, ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [
            &ethertype[..],
            &[0, 0, 0, 0, 0, 3, 0, 1, kind, 6, 2, 2, 2, 2, 2, 2, 0, 0],
            packet,
        ]
        .concat()
    }

    fn expect(link: LinkType, frame: &[u8], v6: bool) {
        let datagram = Datagram::from_frame(link, frame).unwrap();
        let (source, destination) = if v6 {
            ("[2001:db8::7]:40000", "[2001:db8::1]:62201")
        } else {
            ("192.0.2.7:40000", "198.51.100.1:62201")
        };
        assert_eq!(datagram.source, source.parse().unwrap());
        assert_eq!(datagram.destination, destination.parse().unwrap());
        assert_eq!(datagram.payload, [1, 2, 3, 4]);
    }

    #[test]
    fn every_link_type_both_families() {
        let (v4, v6) = (ipv4(&UDP), ipv6(&UDP));
        expect(LinkType::Ethernet, &ethernet(&[8, 0], &v4), false);
        expect(LinkType::Ethernet, &ethernet(&[0x86, 0xdd], &v6), true);
        expect(LinkType::Ethernet, &ethernet(&[0x81, 0, 0, 5, 8, 0], &v4), false);
        expect(
            LinkType::Ethernet,
            &ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd], &v6),
            true,
        );
        expect(LinkType::LinuxCooked, &cooked(0, [8, 0], &v4), false);
        expect(LinkType::LinuxCooked, &cooked(0, [0x86, 0xdd], &v6), true);
        expect(LinkType::LinuxCooked2, &cooked2(0, [8, 0], &v4), false);
        expect(LinkType::LinuxCooked2, &cooked2(0, [0x86, 0xdd], &v6), true);
        expect(LinkType::Raw, &v4, false);
        expect(LinkType::Raw, &v6, true);
        expect(LinkType::Null, &[&2u32.to_ne_bytes()[..], &v4].concat(), false);
        expect(LinkType::Null, &[&30u32.to_ne_bytes()[..], &v6].concat(), true);
        expect(LinkType::Loop, &[&2u32.to_be_bytes()[..], &v4].concat(), false);
        expect(LinkType::Loop, &[&24u32.to_be_bytes()[..], &v6].concat(), true);
    }

    #[test]
    fn padding_is_ignored_and_options_are_passed_over() {
        expect(LinkType::Raw, &[ipv4(&UDP), std::vec![0; 30]].concat(), false);
        expect(LinkType::Raw, &[ipv6(&UDP), std::vec![9; 30]].concat(), true);
        let mut options = ipv4(&[&[1; 4], &UDP[..]].concat());
        options[0] = 0x46;
        expect(LinkType::Raw, &options, false);
    }

    #[test]
    fn what_this_host_sent_or_others_get_is_refused() {
        for kind in [3, 4] {
            let error = FrameError::Link(LinkError::NotIncoming { kind: kind.into() });
            assert_eq!(
                Datagram::from_frame(LinkType::LinuxCooked, &cooked(kind, [8, 0], &ipv4(&UDP))),
                Err(error)
            );
            assert_eq!(
                Datagram::from_frame(LinkType::LinuxCooked2, &cooked2(kind, [8, 0], &ipv4(&UDP))),
                Err(error)
            );
        }
    }

    #[test]
    fn fragments_and_extension_headers_are_refused() {
        for (flags, offset) in [(0x20, 0), (0, 1), (0x1f, 0xff)] {
            let mut packet = ipv4(&UDP);
            (packet[6], packet[7]) = (flags, offset);
            assert_eq!(
                Datagram::from_frame(LinkType::Raw, &packet),
                Err(FrameError::Ip(IpError::Fragment))
            );
        }
        for next in [0, 43, 44, 60, 51, 6, 58] {
            let mut packet = ipv6(&UDP);
            packet[6] = next;
            let error = FrameError::Ip(IpError::Protocol { protocol: next });
            assert_eq!(Datagram::from_frame(LinkType::Raw, &packet), Err(error));
        }
    }

    #[test]
    fn the_udp_length_must_lie_inside_the_packet() {
        for field in [0, 7, 13, 65_535] {
            let mut udp = UDP;
            udp[4..6].copy_from_slice(&u16::to_be_bytes(field));
            let error = FrameError::Udp(UdpError::Length { field, have: 12 });
            assert_eq!(Datagram::from_frame(LinkType::Raw, &ipv4(&udp)), Err(error));
            // Octets of link padding do not lend themselves to a longer datagram.
            let padded = [ipv6(&udp), std::vec![0; 200]].concat();
            assert_eq!(Datagram::from_frame(LinkType::Raw, &padded), Err(error));
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let frames = [
            (
                LinkType::Ethernet,
                ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd], &ipv6(&UDP)),
            ),
            (LinkType::LinuxCooked, cooked(0, [8, 0], &ipv4(&UDP))),
            (LinkType::LinuxCooked2, cooked2(0, [0x86, 0xdd], &ipv6(&UDP))),
            (LinkType::Null, [&2u32.to_ne_bytes()[..], &ipv4(&UDP)].concat()),
        ];
        for (link, frame) in frames {
            assert!(Datagram::from_frame(link, &frame).is_ok());
            for length in 0..frame.len() {
                assert!(
                    Datagram::from_frame(link, &frame[..length]).is_err(),
                    "{link:?} {length}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            for link in LinkType::ALL {
                let _ = Datagram::from_frame(link, &octets);
            }
        }
    }
}

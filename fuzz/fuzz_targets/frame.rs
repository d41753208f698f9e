//! Cuts frames of every link type down to their UDP datagram (step 1).
//!
//! Raw octets, held: nothing panics; what is cut out lies in the frame, right behind a UDP header that says its ports
//! and its length; link padding changes nothing; a frame that ends before the datagram does is refused. Frames built
//! from their parts, held: they are cut to just these parts.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use spa_fuzz::halves::{pick, split};
use spa_proto::{Datagram, LinkType};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = split(data) else { return };
    if first & 0x80 == 0 {
        raw(pick(first, &LinkType::ALL), rest);
    } else if let Ok(parts) = Parts::arbitrary(&mut Unstructured::new(rest)) {
        parts.check(pick(first & 0x7f, &LinkType::ALL));
    }
});

fn raw(link: LinkType, frame: &[u8]) {
    let Ok(datagram) = Datagram::from_frame(link, frame) else {
        return;
    };
    let start = datagram.payload.as_ptr() as usize - frame.as_ptr() as usize;
    let end = start + datagram.payload.len();
    let header = &frame[start - 8..start];
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    assert_eq!(field(0), datagram.source.port());
    assert_eq!(field(2), datagram.destination.port());
    assert_eq!(usize::from(field(4)), datagram.payload.len() + 8);
    assert_eq!(datagram.source.is_ipv4(), datagram.destination.is_ipv4());
    let padded = [frame, &[0x5a; 7]].concat();
    assert_eq!(Datagram::from_frame(link, &padded), Ok(datagram));
    let cut = end.checked_sub(1).map(|end| &frame[..end]);
    assert!(cut.is_none_or(|cut| Datagram::from_frame(link, cut).is_err()));
}

#[derive(Arbitrary, Debug)]
struct Parts {
    v6: bool,
    source: [u8; 16],
    destination: [u8; 16],
    ports: [u16; 2],
    /// Octets that are read by nobody: addresses of the link, identification, checksum and the like.
    noise: [u8; 20],
    vlan_tags: Vec<u16>,
    options: u8,
    packet_type: u8,
    family: u8,
    payload: Vec<u8>,
    padding: u8,
}

impl Parts {
    fn check(&self, link: LinkType) {
        let mut frame = self.link(link);
        frame.extend(self.packet());
        frame.extend(std::iter::repeat_n(0xa5, self.padding.into()));
        let source = SocketAddr::new(self.address(&self.source), self.ports[0]);
        let destination = SocketAddr::new(self.address(&self.destination), self.ports[1]);
        let expected = Datagram {
            source,
            destination,
            payload: &self.payload,
        };
        assert_eq!(Datagram::from_frame(link, &frame), Ok(expected));
    }

    fn address(&self, octets: &[u8; 16]) -> IpAddr {
        let [a, b, c, d, ..] = *octets;
        if self.v6 {
            IpAddr::from(*octets)
        } else {
            IpAddr::from([a, b, c, d])
        }
    }

    fn link(&self, link: LinkType) -> Vec<u8> {
        let noise = &self.noise;
        let kind = self.packet_type % 3;
        let families: [u32; 5] = if self.v6 { [10, 24, 28, 30, 10] } else { [2; 5] };
        let family = pick(self.family, &families);
        let tagged = self.behind_vlan_tags();
        match link {
            LinkType::Ethernet => [&noise[..12], &tagged].concat(),
            LinkType::LinuxCooked => [&[0, kind], &noise[..12], &tagged].concat(),
            // The protocol stands first here, so a tag would stand behind the header.
            LinkType::LinuxCooked2 => {
                let (first, rest) = tagged.split_at(2);
                [first, &noise[..8], &[kind], &noise[..9], rest].concat()
            }
            LinkType::Raw => Vec::new(),
            LinkType::Null => family.to_ne_bytes().into(),
            LinkType::Loop => family.to_be_bytes().into(),
        }
    }

    /// At most two tags, then what they are around.
    fn behind_vlan_tags(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for control in self.vlan_tags.iter().take(2) {
            let kind = pick(self.family, &[0x8100_u16, 0x88a8, 0x9100]);
            out.extend(kind.to_be_bytes());
            out.extend(control.to_be_bytes());
        }
        let ethertype: u16 = if self.v6 { 0x86dd } else { 0x0800 };
        out.extend(ethertype.to_be_bytes());
        out
    }

    fn packet(&self) -> Vec<u8> {
        let length = u16::try_from(self.payload.len() + 8).expect("inputs are short");
        let [source, destination] = self.ports;
        let udp = [source, destination, length, 0x1234].map(u16::to_be_bytes).concat();
        let noise = &self.noise;
        if self.v6 {
            let head = [0x60 | noise[0] & 15, noise[1], noise[2], noise[3]];
            let next = [&length.to_be_bytes()[..], &[17, noise[4]]].concat();
            return [&head[..], &next, &self.source, &self.destination, &udp, &self.payload].concat();
        }
        let words = self.options % 11;
        let whole = u16::from(words + 5) * 4 + length;
        let [high, low] = whole.to_be_bytes();
        // DF may be set; MF and the offset are not.
        let flags = noise[5] & 0x40;
        let head = [
            0x40 | (words + 5),
            noise[0],
            high,
            low,
            noise[1],
            noise[2],
            flags,
            0,
            noise[3],
            17,
            noise[4],
            noise[6],
        ];
        let options = vec![noise[7]; usize::from(words) * 4];
        [
            &head[..],
            &self.source[..4],
            &self.destination[..4],
            &options,
            &udp,
            &self.payload,
        ]
        .concat()
    }
}

//! UDP in IPv4 in Ethernet, made once and sent often.

use std::net::Ipv4Addr;

/// What all packets of a flood have in common.
#[derive(Clone, Debug)]
pub struct Path {
    /// The interface's own hardware address, and its peer's.
    pub hardware: [[u8; 6]; 2],
    /// From where.
    pub source: Ipv4Addr,
    /// To where.
    pub destination: Ipv4Addr,
    /// To which port.
    pub port: u16,
}

impl Path {
    /// A whole frame around `payload`, as if sent from `source_port`. The UDP checksum is left out (RFC 768 allows it).
    ///
    /// # Errors
    ///
    /// When the payload is too long for one packet of an ordinary link.
    pub fn frame(&self, source_port: u16, payload: &[u8]) -> Result<Vec<u8>, String> {
        let udp = u16::try_from(payload.len() + 8).ok().filter(|length| *length <= 1480);
        let udp = udp.ok_or_else(|| format!("{} octets do not fit into one packet", payload.len()))?;
        let [own, peer] = self.hardware;
        let mut frame = [&peer[..], &own, &[8, 0]].concat();
        frame.extend(self.ip_header(udp + 20));
        for field in [source_port, self.port, udp, 0] {
            frame.extend(field.to_be_bytes());
        }
        frame.extend(payload);
        Ok(frame)
    }

    /// RFC 791: no options, 64 hops, UDP.
    fn ip_header(&self, length: u16) -> [u8; 20] {
        let mut header = [0; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[6] = 0x40;
        header[8..10].copy_from_slice(&[64, 17]);
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..].copy_from_slice(&self.destination.octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_as_the_kernel_would_make_it() {
        let path = Path {
            hardware: [[2; 6], [4; 6]],
            source: Ipv4Addr::new(10, 77, 1, 2),
            destination: Ipv4Addr::new(10, 77, 1, 1),
            port: 62201,
        };
        let frame = path.frame(4000, &[7; 300]).unwrap();
        assert_eq!(frame.len(), 14 + 20 + 8 + 300);
        assert_eq!(&frame[..14], [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 8, 0]);
        assert_eq!(checksum(&frame[14..34]), 0, "a right header sums up to nothing");
        assert_eq!(&frame[34..42], [0x0f, 0xa0, 0xf2, 0xf9, 1, 52, 0, 0]);
        assert!(path.frame(4000, &[0; 1473]).is_err());
    }
}

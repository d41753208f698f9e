//! What the kernel lets through to a capture.

/// UDP to one of the knock ports, in both families; libpcap's `udp dst port` takes no fragment but the first of IPv4
/// and no IPv6 packet with an extension header. Lengths are left to the thread, which counts what it refuses.
pub(super) fn knocks(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("udp dst port {port}")).collect();
    ports.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap::{Capture, Linktype};

    #[test]
    fn compiles_for_every_link_type_and_picks_both_families() {
        let text = knocks(&[62201, 53]);
        assert_eq!(text, "udp dst port 62201 or udp dst port 53");
        for link in [Linktype::ETHERNET, Linktype(113), Linktype(276), Linktype(12)] {
            Capture::dead(link).unwrap().compile(&text, true).unwrap();
        }
        let raw = Capture::dead(Linktype(12)).unwrap().compile(&text, true).unwrap();
        let mut v4 = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1];
        let mut v6 = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
        v6.extend([0x20; 32]);
        let udp = [0x9c, 0x40, 0xf2, 0xf9, 0, 12, 0, 0, 1, 2, 3, 4];
        v4.extend(udp);
        v6.extend(udp);
        assert!(raw.filter(&v4) && raw.filter(&v6));
        let other_port = |packet: &[u8], at: usize| [&packet[..at], &[0, 99], &packet[at + 2..]].concat();
        assert!(!raw.filter(&other_port(&v4, 22)) && !raw.filter(&other_port(&v6, 42)));
    }
}

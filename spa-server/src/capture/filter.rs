//! What the kernel lets through to a capture.

use spa_proto::TcpFlags;

use crate::config::PortRange;

/// UDP to one of the knock ports, in both families; libpcap's `udp dst port` takes no fragment but the first of IPv4
/// and no IPv6 packet with an extension header. Lengths are left to the thread, which counts what it refuses.
pub(super) fn knocks(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("udp dst port {port}")).collect();
    ports.join(" or ")
}

/// UDP, and TCP with exactly one of these sets of control bits, in both families, except to ports that serve something.
/// A SYN alone always counts: it is what scans are made of. IPv6 has no name for the bits, so their place is counted
/// out; a packet with an extension header does not count, as with UDP.
pub(super) fn probes(left_out: &[PortRange], flags: &[TcpFlags]) -> String {
    let mut octets: Vec<u8> = flags.iter().map(|flags| flags.octet()).collect();
    octets.push(TcpFlags::SYN.octet());
    octets.sort_unstable();
    octets.dedup();
    let any = |place: &str| {
        let each: Vec<String> = octets.iter().map(|octet| format!("{place} & 0x3f = {octet}")).collect();
        each.join(" or ")
    };
    except(left_out, &any("tcp[13]"), &any("ip6[53]"))
}

/// The same, and every TCP segment that neither belongs to a connection nor answers one: without ACK and RST. Scans with
/// FIN alone, with nothing, with everything are such.
pub(super) fn strays(left_out: &[PortRange], flags: &[TcpFlags]) -> String {
    let answers = flags
        .iter()
        .map(|flags| flags.octet())
        .filter(|octet| octet & 0x14 != 0);
    let answers: Vec<u8> = answers.collect();
    let any = |place: &str| {
        let each = answers.iter().map(|octet| format!(" or {place} & 0x3f = {octet}"));
        format!("{place} & 0x14 = 0{}", each.collect::<String>())
    };
    except(left_out, &any("tcp[13]"), &any("ip6[53]"))
}

fn except(left_out: &[PortRange], v4: &str, v6: &str) -> String {
    let watched = format!("udp or (ip and tcp and ({v4})) or (ip6 and ip6[6] = 6 and ({v6}))");
    let range = |range: &PortRange| format!("{} dst portrange {}-{}", range.protocol, range.first, range.last);
    let left_out: Vec<String> = left_out.iter().map(range).collect();
    if left_out.is_empty() {
        watched
    } else {
        format!("({watched}) and not ({})", left_out.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(v6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut packet = if v6 {
            let mut head = vec![0x60, 0, 0, 0, 0, length, protocol, 64];
            head.extend([0x20; 32]);
            head
        } else {
            vec![
                0x45,
                0,
                0,
                20 + length,
                0,
                0,
                0,
                0,
                64,
                protocol,
                0,
                0,
                192,
                0,
                2,
                7,
                192,
                0,
                2,
                1,
            ]
        };
        packet.extend(payload);
        packet
    }

    fn tcp(port: u16, flags: u8) -> Vec<u8> {
        let [high, low] = port.to_be_bytes();
        vec![
            0x9c, 0x40, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0,
        ]
    }

    fn udp(port: u16) -> Vec<u8> {
        let [high, low] = port.to_be_bytes();
        vec![0x9c, 0x40, high, low, 0, 8, 0, 0]
    }

    #[test]
    fn probes_in_both_families_except_to_what_serves() {
        let left_out: Vec<PortRange> = ["tcp/22", "udp/62201", "udp/60000-61000"]
            .map(|text| text.parse().unwrap())
            .into();
        let text = probes(&left_out, &[TcpFlags::from_names(["fin"]).unwrap()]);
        for link in [Linktype::ETHERNET, Linktype(113), Linktype(276), Linktype(12)] {
            Capture::dead(link).unwrap().compile(&text, true).unwrap();
            Capture::dead(link).unwrap().compile(&probes(&[], &[]), true).unwrap();
        }
        let raw = Capture::dead(Linktype(12)).unwrap().compile(&text, true).unwrap();
        for v6 in [false, true] {
            let passes = |protocol, payload: Vec<u8>| raw.filter(&packet(v6, protocol, &payload));
            assert!(passes(6, tcp(7000, 0x02)) && passes(6, tcp(7000, 0xc2)) && passes(6, tcp(7000, 0x01)));
            assert!(passes(17, udp(7000)) && passes(17, udp(22)) && passes(6, tcp(62201, 0x02)));
            for flags in [0x10, 0x12, 0x11, 0x04, 0x18, 0x00, 0x29] {
                assert!(!passes(6, tcp(7000, flags)), "{flags:#x}");
            }
            assert!(!passes(6, tcp(22, 0x02)) && !passes(17, udp(62201)) && !passes(17, udp(60500)));
        }
    }

    #[test]
    fn strays_are_what_belongs_to_no_connection() {
        let left_out: Vec<PortRange> = ["tcp/22", "udp/62201"].map(|text| text.parse().unwrap()).into();
        let text = strays(&left_out, &[TcpFlags::SYN, TcpFlags::from_names(["rst"]).unwrap()]);
        for link in [Linktype::ETHERNET, Linktype(113), Linktype(276), Linktype(12)] {
            Capture::dead(link).unwrap().compile(&text, true).unwrap();
        }
        let raw = Capture::dead(Linktype(12)).unwrap().compile(&text, true).unwrap();
        for v6 in [false, true] {
            let passes = |protocol, payload: Vec<u8>| raw.filter(&packet(v6, protocol, &payload));
            for flags in [0x02, 0xc2, 0x01, 0x00, 0x29, 0x08, 0x04] {
                assert!(passes(6, tcp(7000, flags)), "{flags:#x}");
                assert!(!passes(6, tcp(22, flags)), "{flags:#x}");
            }
            for flags in [0x10, 0x12, 0x11, 0x18, 0x14] {
                assert!(!passes(6, tcp(7000, flags)), "{flags:#x}");
            }
            assert!(passes(17, udp(53)) && !passes(17, udp(62201)));
        }
    }
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

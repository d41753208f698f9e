use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

type Guard = ScanGuard<BuildHasherDefault<DefaultHasher>>;

const SCANNER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const QUIET: Duration = Duration::from_secs(30);

fn guard() -> Guard {
    let threshold = Threshold {
        report: 10,
        ban: None,
        forget: Duration::from_mins(2),
    };
    ScanGuard::new(threshold, BuildHasherDefault::default())
}

fn touch(source: IpAddr, port: u16, probe: Probe) -> Touch {
    Touch { source, port, probe }
}

const fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Touches `count` ports, one each `pause` seconds; after how many the guard spoke up.
fn walk(guard: &mut Guard, source: IpAddr, count: u16, pause: u64, probe: Probe) -> Option<u16> {
    let mut seen = |port| guard.observe(touch(source, port, probe), at(u64::from(port) * pause));
    (1..=count).find(|port| seen(*port).is_some())
}

#[test]
fn the_flags_of_each_kind_of_scan() {
    let told = [0x02, 0x01, 0x00, 0x29, 0x08, 0x03].map(Probe::of_flags);
    let kinds = [Probe::Syn, Probe::Fin, Probe::Null, Probe::Xmas, Probe::Odd, Probe::Odd];
    assert_eq!(told, kinds.map(Some));
    // What belongs to a connection: SYN+ACK, ACK, PSH+ACK, FIN+ACK, RST, RST+ACK. ECN's bits change nothing.
    assert_eq!([0x12, 0x10, 0x18, 0x11, 0x04, 0x14].map(Probe::of_flags), [None; 6]);
    assert_eq!(Probe::of_flags(0xC2), Some(Probe::Syn));
}

#[test]
fn breadth_is_noticed_once_fast_or_slow() {
    for (probe, pause) in [(Probe::Syn, 0), (Probe::Udp, 1), (Probe::Null, 15), (Probe::Fin, 60)] {
        let mut guard = guard();
        let noticed = walk(&mut guard, SCANNER, 40, pause, probe);
        assert!(
            noticed.is_some_and(|ports| (10..=20).contains(&ports)),
            "{probe} {noticed:?}"
        );
        assert_eq!(guard.observe(touch(SCANNER, 9000, probe), at(41 * pause)), None);
    }
}

#[test]
fn slower_than_it_is_forgotten_is_not_noticed() {
    assert_eq!(walk(&mut guard(), SCANNER, 1000, 121, Probe::Syn), None);
}

#[test]
fn one_port_however_often_is_no_scan_unless_somebody_answers() {
    let mut guard = guard();
    for number in 0..100_000 {
        assert_eq!(guard.observe(touch(SCANNER, 23, Probe::Syn), at(number / 1000)), None);
    }
    let mut handshakes = (0..4).map(|_| guard.observe(touch(SCANNER, 23, Probe::Handshake), at(100)));
    assert!([None, None].iter().all(|none| handshakes.next().as_ref() == Some(none)));
    assert!(handshakes.any(|sighting| sighting.is_some()));
}

#[test]
fn a_sighting_names_the_ports_and_the_ways() {
    let mut guard = guard();
    for port in 1..10 {
        guard.observe(touch(SCANNER, port, Probe::Syn), at(1));
    }
    let sighting = guard.observe(touch(SCANNER, 53, Probe::Udp), at(2)).unwrap();
    assert_eq!(sighting.source.to_string(), "198.51.100.7/32");
    assert_eq!(sighting.ports.len(), 10);
    assert_eq!(sighting.ports[9], (Protocol::Udp, 53));
    assert_eq!(sighting.probes, [Probe::Syn, Probe::Udp]);
    guard.observe(touch(SCANNER, 53, Probe::Udp), at(3));
    assert_eq!(guard.ended(at(32), QUIET), []);
    let over = guard.ended(at(33), QUIET);
    assert_eq!((over.len(), over[0].touches, over[0].phase), (1, 11, Phase::Over));
}

#[test]
fn the_addresses_of_one_ipv6_network_are_one_source() {
    let mut guard = guard();
    let address = |host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host));
    let seen = (1..=10).filter_map(|host| guard.observe(touch(address(host), host, Probe::Syn), at(1)));
    assert_eq!(seen.last().unwrap().source.to_string(), "2001:db8::/64");
}

#[test]
fn a_flood_of_made_up_sources_takes_no_memory_and_hides_no_scanner() {
    let mut guard = guard();
    let mut noticed = None;
    for number in 0..1_000_000_u32 {
        let made_up = IpAddr::V4(Ipv4Addr::from(number.wrapping_mul(2_654_435_761)));
        assert_eq!(guard.observe(touch(made_up, 80, Probe::Syn), at(1)), None);
        if number % 50_000 == 0 {
            let port = u16::try_from(number / 50_000).unwrap();
            // Two ports together at first: the place is then its own.
            let first = guard.observe(touch(SCANNER, port, Probe::Syn), at(1));
            let second = guard.observe(touch(SCANNER, port + 1000, Probe::Syn), at(1));
            noticed = noticed.or(first).or(second);
        }
    }
    assert!(guard.suspects.len() <= 4096);
    assert!(noticed.is_some());
}

#[test]
fn who_knocks_begins_anew() {
    let mut guard = guard();
    assert_eq!(walk(&mut guard, SCANNER, 9, 0, Probe::Syn), None);
    guard.clear(SCANNER.into());
    assert_eq!(guard.observe(touch(SCANNER, 10, Probe::Syn), at(1)), None);
}

#[test]
fn who_goes_on_ought_to_be_shut_out_and_no_single_packet_does_it() {
    let mut guard = guard();
    guard.judge_by(Threshold {
        report: 2,
        ban: Some(4),
        forget: Duration::from_mins(10),
    });
    let mut phase = |port, probe, now| Some(guard.observe(touch(SCANNER, port, probe), at(now))?.phase);
    assert_eq!(
        [1, 2, 3].map(|port| phase(port, Probe::Syn, 1)),
        [None, Some(Phase::Noticed), None]
    );
    assert_eq!(phase(4, Probe::Syn, 1), Some(Phase::Condemned));
    assert_eq!([5, 5].map(|port| phase(port, Probe::Syn, 60)), [None, None]);
    assert_eq!(
        phase(5, Probe::Syn, 61),
        Some(Phase::Condemned),
        "said again after a minute"
    );
    // One handshake is told of and no more.
    assert_eq!(phase(23, Probe::Handshake, 10_000), Some(Phase::Noticed));
    assert_eq!(phase(23, Probe::Handshake, 10_000), Some(Phase::Condemned));
}

#[test]
fn beside_somebody_who_is_spared_single_addresses_count() {
    let mut guard = guard();
    let spared: IpNet = "2001:db8::1/128".parse().unwrap();
    guard.tell_apart([
        spared,
        "2001:db8:1::/48".parse().unwrap(),
        "192.0.2.1/32".parse().unwrap(),
    ]);
    let counted = |text: &str| guard.counted_as(text.parse().unwrap()).to_string();
    assert_eq!(counted("2001:db8::7"), "2001:db8::7/128");
    assert_eq!(counted("2001:db8:0:1::7"), "2001:db8:0:1::/64");
    assert_eq!(counted("2001:db8:1::7"), "2001:db8:1::/64");
    assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7/32");
}

#[test]
fn ports_that_turn_out_to_serve_something_are_taken_back() {
    let mut guard = guard();
    let told = (1..=40).filter(|port| guard.observe(touch(SCANNER, *port, Probe::Syn), at(1)).is_some());
    assert_eq!(told.count(), 1);
    let serves = |range: &str| {
        let mut ports = Ports::default();
        ports.extend([range.parse().unwrap()]);
        ports
    };
    assert_eq!(
        guard
            .reconsider(SCANNER.into(), &serves("tcp/1-5"))
            .unwrap()
            .ports
            .len(),
        35
    );
    assert_eq!(guard.reconsider(SCANNER.into(), &serves("tcp/1-35")), None);
    assert_eq!(guard.noticed().count(), 0);
    let told = (41..=45).filter(|port| guard.observe(touch(SCANNER, *port, Probe::Syn), at(1)).is_some());
    assert_eq!(told.count(), 1, "noticed anew at ten");
}

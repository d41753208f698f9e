//! Where knocks are for and under which keys: ports, own addresses, link types, rotation, a record that is away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use common::{Keys, NOW, World, open};
use spa_proto::{
    Address, Datagram, DropReason, Gateway, LinkType, Listen, Moment, PublicKey, ReplayRecord, Role, Sieve, UnixTime,
    Verdict,
};

const SENT_TO: &str = "198.51.100.1:62201";

#[test]
fn other_ports_and_other_hosts_are_not_ours() {
    let mut world = World::new(Role::Client);
    let octets = world.keys.seal(&open(NOW), 300);
    let to: SocketAddr = SENT_TO.parse().unwrap();
    let own = |addresses: &[&str]| Some(addresses.iter().map(|address| address.parse().unwrap()).collect());
    for (ports, addresses) in [
        (vec![1], None),
        (vec![to.port()], own(&["198.51.100.2", "2001:db8::1"])),
        (vec![], None),
    ] {
        world.gateway.sieve_mut().listen(Listen { ports, addresses });
        assert_eq!(world.handle(NOW, &octets).unwrap_err().reason, DropReason::NotOurs);
    }
    let addresses = own(&["198.51.100.1"]);
    let ports = vec![1, to.port()];
    world.gateway.sieve_mut().listen(Listen { ports, addresses });
    let knock = world.handle(NOW, &octets).unwrap();
    assert_eq!(knock.source(), "192.0.2.7:40000".parse().unwrap());
    assert_eq!(
        (knock.client(), knock.gateway()),
        (&world.client(), &world.keys.gateway.public())
    );
    assert_eq!(knock.into_request(), open(NOW));
}

#[test]
fn as_seen_is_where_it_came_from_and_mapped_addresses_are_ipv4() {
    let seen = |source: &str| Address::AsSeen.resolve(source.parse().unwrap());
    assert_eq!(seen("::ffff:192.0.2.7"), IpAddr::from([192, 0, 2, 7]));
    let named = Address::explicit("2001:db8::7".parse().unwrap()).unwrap();
    assert_eq!(named.resolve(IpAddr::from([192, 0, 2, 7])).to_string(), "2001:db8::7");
}

#[test]
fn a_rotation_keeps_the_copies_and_forgets_what_was_computed() {
    let mut world = World::new(Role::Client);
    let octets = world.keys.seal(&open(NOW), 300);
    world.handle(NOW, &octets).unwrap();
    let other = Keys::new();
    let both = vec![other.identity(), world.keys.identity()];
    world.gateway = Gateway::new(world.gateway.sieve().with_identities(both));
    let again = world.handle(NOW, &octets).unwrap_err();
    assert_eq!(again.reason, DropReason::Copy { forwarded: false });
    let later = UnixTime::from_nanos(NOW.as_nanos() + 1);
    let next = world.keys.seal(&open(later), 300);
    assert!(world.handle(NOW, &next).is_ok(), "the old identity is held still");
    world.gateway = Gateway::new(world.gateway.sieve().with_identities(vec![other.identity()]));
    assert_eq!(world.handle(NOW, &next).unwrap_err().reason, DropReason::Tag);
}

#[test]
fn identities_beyond_the_sixteenth_are_left_out() {
    let identities = (0..17).map(|_| Keys::new().identity()).collect();
    let sieve = Sieve::new(identities, Listen::port(1));
    assert_eq!(sieve.identities().len(), Sieve::MOST_IDENTITIES);
}

#[test]
fn a_copy_over_ipv6_is_known_by_its_source_too() {
    let mut world = World::new(Role::Client);
    let octets = world.keys.seal(&open(NOW), 300);
    let mut from = |source: &str| world.handle_from(NOW, &octets, source.parse().unwrap());
    from("[2001:db8::7]:40000").unwrap();
    let here = from("[2001:db8::7]:41000").unwrap_err().reason;
    let there = from("[2001:db8::8]:40000").unwrap_err().reason;
    assert_eq!(
        [here, there],
        [false, true].map(|forwarded| DropReason::Copy { forwarded })
    );
}

struct Away;

impl ReplayRecord for Away {
    fn claim(&mut self, _: &PublicKey, _: UnixTime, _: Duration) -> Verdict {
        Verdict::Unavailable
    }
}

#[test]
fn a_record_that_is_away_opens_nothing() {
    let mut world = World::new(Role::Client);
    let octets = world.keys.seal(&open(NOW), 300);
    let datagram = Datagram {
        source: "192.0.2.7:40000".parse().unwrap(),
        destination: SENT_TO.parse().unwrap(),
        payload: &octets,
    };
    let now = Moment {
        wall: NOW,
        uptime: Duration::ZERO,
    };
    let refusal = world
        .gateway
        .handle(now, &datagram, &mut world.keyring, &mut Away)
        .unwrap_err();
    assert_eq!(refusal.reason, DropReason::Record);
}

#[test]
fn link_types_have_the_numbers_of_libpcap() {
    let numbers = [1, 113, 276, 12, 14, 101, 0, 108, 127, -1];
    let known = numbers.map(LinkType::from_dlt);
    let [ethernet, cooked, cooked2, raw, null, r#loop] = LinkType::ALL.map(Some);
    assert_eq!(
        known,
        [ethernet, cooked, cooked2, raw, raw, raw, null, r#loop, None, None]
    );
}

//! The judgement from outside: what flipped bits, wrong clocks, standings, rates and copies come to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use common::{NOW, World, open, rng};
use proptest::prelude::*;
use spa_proto::{
    Act, Address, Claim, DropReason, EnrollError, Enrollment, Psk, PublicKey, Request, Role, SecretKey, Services,
    Standing, UnixTime,
};

fn reason(outcome: Result<spa_proto::Knock, spa_proto::Refusal>) -> DropReason {
    outcome.unwrap_err().reason
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn any_flipped_bit_is_dropped_as_a_stranger() {
    let mut world = World::new(Role::Client);
    let octets = world.keys.seal(&open(NOW), 288);
    for bit in 0..octets.len() * 8 {
        let mut changed = octets.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let refusal = world.handle(NOW, &changed).unwrap_err();
        assert_eq!((refusal.reason, refusal.claim), (DropReason::Tag, Claim::Nobody));
    }
    world.handle(NOW, &octets).unwrap();
}

#[test]
fn copies_end_at_step_three_and_say_when_they_were_sent_on() {
    let mut world = World::new(Role::Client);
    let octets = world.keys.seal(&open(NOW), 288);
    world.handle(NOW, &octets).unwrap();
    assert_eq!(
        reason(world.handle(NOW, &octets)),
        DropReason::Copy { forwarded: false }
    );
    let elsewhere = world.handle_from(NOW, &octets, "192.0.2.8:40000".parse().unwrap());
    assert_eq!(reason(elsewhere), DropReason::Copy { forwarded: true });
}

#[test]
fn a_timestamp_works_once_however_it_is_sealed() {
    let mut world = World::new(Role::Client);
    let (first, second) = (world.keys.seal(&open(NOW), 288), world.keys.seal(&open(NOW), 300));
    world.handle(NOW, &first).unwrap();
    assert_eq!(reason(world.handle(NOW, &second)), DropReason::Replay);
}

#[test]
fn windows_are_inclusive_and_signed() {
    let at = |request: Request, wall| {
        let mut world = World::new(Role::Client);
        let octets = world.keys.seal(&request, 288);
        world
            .handle(wall, &octets)
            .map(|_| ())
            .map_err(|refusal| refusal.reason)
    };
    assert_eq!(at(open(NOW), NOW.saturating_add(secs(60))), Ok(()));
    assert_eq!(at(open(NOW), NOW.saturating_sub(secs(60))), Ok(()));
    assert_eq!(
        at(open(NOW), NOW.saturating_add(secs(61))),
        Err(DropReason::Time { difference_s: -61 })
    );
    assert_eq!(
        at(open(NOW), NOW.saturating_sub(secs(61))),
        Err(DropReason::Time { difference_s: 61 })
    );
    let explicit = || {
        let address = Address::explicit("192.0.2.7".parse().unwrap()).unwrap();
        let services = Services::new(vec!["ssh".parse().unwrap()]).unwrap();
        Request {
            timestamp: NOW,
            code: None,
            act: Act::Close { address, services },
        }
    };
    assert_eq!(at(explicit(), NOW.saturating_add(secs(300))), Ok(()));
    assert_eq!(
        at(explicit(), NOW.saturating_add(secs(301))),
        Err(DropReason::Time { difference_s: -301 })
    );
}

#[test]
fn both_sides_of_midnight() {
    let midnight = UnixTime::from_secs(86_400 * 20_000);
    for (made, judged) in [(-30i64, 20i64), (20, -30), (-59, 0), (0, -59)] {
        let at = |s: i64| UnixTime::from_nanos(midnight.as_nanos().saturating_add_signed(s * 1_000_000_000));
        let mut world = World::new(Role::Client);
        let octets = world.keys.seal(&open(at(made)), 288);
        world.handle(at(judged), &octets).unwrap();
    }
}

#[test]
fn a_clock_wrong_by_hours_is_told_by_name() {
    let mut world = World::new(Role::Client);
    let octets = world.keys.seal(&open(NOW.saturating_add(secs(11 * 3600))), 288);
    let refusal = world.handle(NOW, &octets).unwrap_err();
    assert_eq!(refusal.reason, DropReason::Time { difference_s: 39_600 });
    assert_eq!(refusal.claim, Claim::Proven(world.client()));
}

#[test]
fn standing_is_told_of_a_proven_key_only() {
    let mut world = World::new(Role::Client);
    let client = world.client();
    for (standing, expected) in [
        (Standing::Revoked, DropReason::Revoked),
        (Standing::Active { until: Some(NOW) }, DropReason::Expired),
    ] {
        world.keyring.set_standing(&client, standing);
        let octets = world.keys.seal(&open(NOW), 288);
        let refusal = world.handle(NOW, &octets).unwrap_err();
        assert_eq!((refusal.reason, refusal.claim), (expected, Claim::Proven(client)));
    }
    world.keyring.set_standing(
        &client,
        Standing::Active {
            until: Some(NOW.saturating_add(Duration::from_nanos(1))),
        },
    );
    let octets = world.keys.seal(&open(NOW), 288);
    world.handle(NOW, &octets).unwrap();
    world.keyring.insert(client, Psk::from_bytes(&[1; 32]), Role::Client);
    let octets = world.keys.seal(&open(NOW), 288);
    let refusal = world.handle(NOW, &octets).unwrap_err();
    assert_eq!((refusal.reason, refusal.claim), (DropReason::Seal, Claim::Nobody));
}

#[test]
fn one_key_sends_ten_a_second() {
    let mut world = World::new(Role::Client);
    let outcomes: Vec<_> = (0..60u64)
        .map(|n| {
            let octets = world.keys.seal(&open(UnixTime::from_nanos(NOW.as_nanos() + n)), 288);
            world.handle(NOW, &octets).map_err(|refusal| refusal.reason).err()
        })
        .collect();
    assert!(outcomes[..50].iter().all(Option::is_none));
    assert!(outcomes[50..].iter().all(|outcome| *outcome == Some(DropReason::Rate)));
}

fn enroll(public_key: PublicKey, psk: [u8; 32], timestamp: UnixTime) -> Request {
    let new = Enrollment {
        public_key,
        psk: Psk::from_bytes(&psk),
        label: "a phone".parse().unwrap(),
    };
    Request {
        timestamp,
        code: None,
        act: Act::Enroll(new),
    }
}

#[test]
fn an_invite_takes_one_good_key() {
    let mut world = World::new(Role::Invite { spent_by: None });
    let new = SecretKey::generate(&mut rng()).public();
    let octets = world.keys.seal(&enroll(new, [9; 32], NOW), 300);
    let wall = NOW.saturating_add(secs(4 * 3600));
    world.handle(wall, &octets).unwrap();

    let spent = Role::Invite { spent_by: Some(new) };
    let mut world = World::new(spent);
    let again = world.keys.seal(&enroll(new, [9; 32], NOW), 300);
    world.handle(NOW, &again).unwrap();
    let other = SecretKey::generate(&mut rng()).public();
    let octets = world
        .keys
        .seal(&enroll(other, [9; 32], NOW.saturating_add(secs(1))), 300);
    assert_eq!(
        reason(world.handle(NOW, &octets)),
        DropReason::Enroll(EnrollError::Spent)
    );
}

#[test]
fn an_invite_takes_no_key_that_is_somebodys() {
    let mut world = World::new(Role::Invite { spent_by: None });
    let gateway = world.keys.gateway.public();
    for (n, taken) in [gateway, world.client()].into_iter().enumerate() {
        let stamp = UnixTime::from_nanos(NOW.as_nanos() + n as u64);
        let octets = world.keys.seal(&enroll(taken, [9; 32], stamp), 300);
        assert_eq!(
            reason(world.handle(NOW, &octets)),
            DropReason::Enroll(EnrollError::Taken)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sealing, then opening, returns the knock; whatever the lengths, addresses and services.
    #[test]
    fn round_trip(
        names in prop::collection::hash_set("[a-z0-9][a-z0-9._/-]{0,62}", 1..=16),
        duration_s: u32,
        address in prop::option::of(any::<std::net::IpAddr>()),
        extra in 0usize..200,
    ) {
        let address = address.map_or(Ok(Address::AsSeen), Address::explicit);
        prop_assume!(address.is_ok());
        let services = Services::new(names.iter().map(|name| name.parse().unwrap()).collect()).unwrap();
        let request = Request { timestamp: NOW, code: None, act: Act::Open { address: address.unwrap(), duration_s, services } };
        let need = spa_proto::OVERHEAD + request.payload_len();
        prop_assume!(need <= 1232);
        let mut world = World::new(Role::Client);
        let octets = world.keys.seal(&request, (need + extra).clamp(192, 1232));
        let knock = world.handle(NOW, &octets).unwrap();
        prop_assert_eq!(knock.request(), &request);
    }
}

//! Request → datagram → request, with both of the ways to seal there are: spa-client's and the one written by hand.
//!
//! Held: the gateway reads what was sealed; both ways agree; a datagram that differs in any bit, is shorter or longer,
//! or is sealed for another gateway, is refused by step 4 at the latest; lengths are those of the protocol.

#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use spa_fuzz::cast::CAST;
use spa_fuzz::forge::tag;
use spa_fuzz::numbers::Numbers;
use spa_fuzz::steps::{Edit, Wish};
use spa_fuzz::wire;
use spa_proto::{
    Act, Datagram, DropReason, Gateway, KeyTable, Knock, LENGTHS, Listen, MemoryRecord, Moment, OVERHEAD, Refusal,
    Role, SealError, SealedKnock, Sieve, UnixTime, pick_length,
};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

#[derive(Arbitrary, Debug)]
struct Input {
    wish: Wish,
    by_hand: bool,
    edits: Vec<Edit>,
}

fuzz_target!(|input: Input| {
    let Some(request) = input.wish.request(NOW, &CAST) else {
        return;
    };
    let (holder, identity) = (input.wish.holder(), input.wish.identity());
    let need = OVERHEAD + request.payload_len();
    let mut numbers = Numbers::default();
    let length = input
        .wish
        .length
        .map_or_else(|| pick_length(need, &mut numbers), usize::from);
    let octets = CAST.sender(holder, identity).seal(&request, length, &mut numbers);
    let octets = match octets {
        Ok(octets) => octets,
        Err(error) => {
            assert_eq!(error, SealError::Length { need, length });
            return assert!(length < need || !LENGTHS.contains(&length));
        }
    };
    assert_eq!(octets.len(), length);
    let octets = if input.by_hand {
        let payload = wire::payload(&request, length - OVERHEAD);
        let body = CAST.forge(holder, holder, identity, &numbers.octets(), &payload);
        let own = &CAST.own[identity];
        let tag = tag(&own.hmac_key, &own.public, request.timestamp.day().0, &body);
        [&tag[..], &body].concat()
    } else {
        octets
    };
    assert_eq!(octets.len(), length);
    assert!(SealedKnock::parse(&octets).is_ok());
    let now = request.timestamp;
    let is_enroll = matches!(request.act, Act::Enroll(_));
    match handle(&octets, holder, identity, is_enroll, now) {
        Ok(knock) => assert_eq!(*knock.request(), request),
        Err(refusal) => match refusal.reason {
            DropReason::Enroll(_) => assert!(is_enroll),
            // The epoch is the first floor.
            DropReason::Replay => assert_eq!(now, UnixTime::default()),
            reason => panic!("{reason}"),
        },
    }
    let mut changed = octets.clone();
    input.edits.iter().for_each(|edit| edit.apply(&mut changed));
    if changed != octets {
        let refusal = handle(&changed, holder, identity, is_enroll, now).expect_err("it was changed");
        assert!(refusal.reason.step() <= 4, "{refusal}");
    }
    assert!(handle(&octets, holder, (identity + 1) % 3, is_enroll, now).is_err());
});

/// What a gateway with one identity says that knows one holder.
fn handle(octets: &[u8], holder: usize, identity: usize, is_enroll: bool, wall: UnixTime) -> Result<Knock, Refusal> {
    let mut gateway = Gateway::new(Sieve::new(vec![CAST.own[identity].identity()], Listen::port(1)));
    let mut keyring = KeyTable::default();
    let role = if is_enroll {
        Role::Invite { spent_by: None }
    } else {
        Role::Client
    };
    keyring.insert(CAST.holders[holder].public, CAST.holders[holder].psk(), role);
    let now = Moment {
        wall,
        uptime: Duration::from_secs(1),
    };
    let datagram = Datagram {
        source: SocketAddr::from(([192, 0, 2, 1], 40_000)),
        destination: SocketAddr::from(([198, 51, 100, 1], 1)),
        payload: octets,
    };
    gateway.handle(now, &datagram, &mut keyring, &mut MemoryRecord::default())
}

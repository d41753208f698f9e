//! What is said of a refusal, word for word: it stands in logs, in `explain`, and in people's searches.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::World;
use spa_proto::frame::{IpError, LinkError, UdpError};
use spa_proto::{
    Claim, Code, Copies, DropReason, EnrollError, FrameError, InviteSeed, LengthError, PayloadError, PublicKey,
    Refusal, Role, SealError, Seat,
};

#[test]
fn each_refusal_says_its_step_and_its_reason() {
    let length = LengthError { have: 7 };
    let off = |difference_s| DropReason::Time { difference_s };
    let expected = [
        (
            DropReason::NotOurs,
            1,
            "to an address or a port that is not this gateway's",
        ),
        (DropReason::Length(length), 1, "7 octets, where 192 to 1232 are a knock"),
        (DropReason::Tag, 2, "not tagged with a key of this gateway for this day"),
        (DropReason::Copy { forwarded: false }, 3, "an exact copy"),
        (
            DropReason::Copy { forwarded: true },
            3,
            "an exact copy, sent on from another address",
        ),
        (DropReason::StaticKey, 4, "the sender's key does not decrypt"),
        (DropReason::Unknown, 4, "no client has this key"),
        (
            DropReason::Seal,
            4,
            "the contents do not decrypt with the key that is claimed",
        ),
        (DropReason::Revoked, 4, "the key was revoked"),
        (DropReason::Expired, 4, "the key is past its end"),
        (DropReason::Rate, 4, "more than one key may send"),
        (
            DropReason::Payload(PayloadError::Kind { kind: 9 }),
            5,
            "kind 9 is not known",
        ),
        (off(-301), 6, "-301 s off this gateway's clock"),
        (off(61), 6, "+61 s off this gateway's clock"),
        (
            DropReason::TagDay { difference_s: 1 },
            6,
            "tagged with another day than its timestamp's",
        ),
        (DropReason::Replay, 7, "its timestamp was used before"),
        (DropReason::Record, 7, "the replay record cannot be used now"),
        (
            DropReason::Kind,
            8,
            "a client may not enroll, an invite may do nothing else",
        ),
    ];
    for (reason, step, words) in expected {
        assert_eq!((reason.step(), reason.to_string().as_str()), (step, words));
        let refusal = Refusal {
            reason,
            claim: Claim::Nobody,
        };
        assert_eq!(refusal.to_string(), format!("refused at step {step}: {words}"));
    }
    assert_eq!(
        [
            off(-301).difference_s(),
            DropReason::TagDay { difference_s: 1 }.difference_s()
        ],
        [Some(-301), Some(1)]
    );
    assert_eq!(DropReason::Replay.difference_s(), None);
}

#[test]
fn frames_and_enrollments_say_what_is_wrong_with_them() {
    let link = |error| DropReason::Frame(FrameError::Link(error));
    let ip = |error| DropReason::Frame(FrameError::Ip(error));
    let udp = |error| DropReason::Frame(FrameError::Udp(error));
    let expected = [
        (link(LinkError::Cut { have: 3 }), "a link header cut short at 3 octets"),
        (
            link(LinkError::Ethertype { ethertype: 0x806 }),
            "ethertype 0x0806 is not IP",
        ),
        (link(LinkError::Family { family: 7 }), "address family 7 is not IP"),
        (
            link(LinkError::NotIncoming { kind: 4 }),
            "packet type 4 is not incoming",
        ),
        (ip(IpError::Cut { have: 3 }), "an IP packet cut short at 3 octets"),
        (ip(IpError::Version { version: 5 }), "IP version 5"),
        (
            ip(IpError::Length),
            "an IPv4 header whose lengths contradict each other",
        ),
        (ip(IpError::Fragment), "a fragment"),
        (ip(IpError::Protocol { protocol: 6 }), "protocol 6 does not belong here"),
        (
            udp(UdpError::HeaderCut { have: 3 }),
            "a UDP header cut short at 3 octets",
        ),
        (
            udp(UdpError::Length { field: 9, have: 8 }),
            "UDP length 9 in an IP payload of 8 octets",
        ),
        (
            DropReason::Enroll(EnrollError::NotCanonical),
            "the new key is not in its canonical form",
        ),
        (
            DropReason::Enroll(EnrollError::LowOrder),
            "the new key is a low-order point",
        ),
        (DropReason::Enroll(EnrollError::ZeroPsk), "the new PSK is all zeros"),
        (
            DropReason::Enroll(EnrollError::Taken),
            "the new key is somebody's already",
        ),
        (
            DropReason::Enroll(EnrollError::Spent),
            "the invite was spent for another key",
        ),
    ];
    for (reason, words) in expected {
        assert_eq!(reason.to_string(), words);
    }
}

#[test]
fn what_cannot_be_sealed_is_said() {
    let length = SealError::Length { need: 300, length: 192 };
    assert_eq!(
        length.to_string(),
        "a request of 300 octets cannot be a datagram of 192"
    );
    assert_eq!(
        SealError::GatewayKey.to_string(),
        "the gateway's public key is no usable X25519 key"
    );
}

/// Debug output ends in logs and panics.
#[test]
fn no_secret_is_shown() {
    let world = World::new(Role::Client);
    let shown = [
        format!("{:?}", world.keys.identity()),
        format!("{:?} {:?}", world.keys.client, world.keys.psk),
        format!("{:?} {:?}", world.gateway, world.keyring),
        format!("{:?} {:?}", InviteSeed::from_bytes(&[5; 32]), Seat::default()),
    ];
    let keys = &world.keys;
    for secret in [
        keys.gateway.expose(),
        keys.hmac_key.expose(),
        keys.client.expose(),
        keys.psk.expose(),
        &[5; 32],
    ] {
        let decimal = format!("{:?}", &secret[..4]);
        let hex = format!("{:08x}", u32::from_be_bytes(*secret.first_chunk().unwrap()));
        let leaks = |shown: &String| shown.contains(decimal.trim_matches(['[', ']'])) || shown.contains(&hex);
        assert!(!shown.iter().any(leaks), "{shown:?}");
    }
    assert_eq!(
        format!("{:?}", PublicKey([0xab; 32])),
        format!("PublicKey({})", "ab".repeat(32))
    );
    assert_eq!(format!("{:?}", Copies::default()), "Copies { count: 0, .. }");
    assert_eq!(Code::new(7).unwrap().number(), 7);
}

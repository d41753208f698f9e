//! What to try, for each way to fail.

use spa_proto::{DropReason, Listen, UnixTime};

use crate::refusals::Reason;

/// For a packet of which only the beginning was captured.
pub(super) fn cut() -> Vec<String> {
    vec!["capture whole packets: tcpdump -s 0".into()]
}

/// For what the protocol itself refuses.
pub(super) fn for_drop(reason: &DropReason, listen: &Listen, now: UnixTime) -> Vec<String> {
    let text = match reason {
        DropReason::Frame(_) | DropReason::Length(_) | DropReason::Payload(_) => return Vec::new(),
        DropReason::NotOurs => return not_ours(listen),
        DropReason::Tag => return tag(now),
        DropReason::Copy { .. } => "a client seals each sending anew: somebody on the way doubled this one",
        DropReason::StaticKey => "something on the way changed it, or it was made by another program",
        DropReason::Unknown => "spa-keys list; invite the device again: spa-keys invite NAME --services ssh",
        DropReason::Seal => "the PSK in the device's profile is another than in clients.d: invite it again",
        DropReason::Revoked => "spa-keys restore NAME",
        DropReason::Expired => "spa-keys set NAME --expires TIME",
        DropReason::Rate => {
            "a device that sends so much is out of order, or its key is in other hands: spa-keys revoke NAME"
        }
        DropReason::Time { .. } | DropReason::TagDay { .. } => {
            "set the device's clock (spa-client check PROFILE says how far it is off), or this gateway's"
        }
        DropReason::Replay => "--fresh judges as if nothing had been accepted before this capture",
        DropReason::Record => "spa-server status; --fresh judges without the record",
        DropReason::Kind => "the device uses an invite to open, or its key to enroll: spa-client enroll",
        DropReason::Enroll(_) => "invite the device again: spa-keys invite NAME --services ssh",
    };
    vec![text.into()]
}

/// For what the gateway's owner decides.
pub(super) fn for_reason(reason: Reason) -> Vec<String> {
    let text = match reason {
        Reason::Policy => "spa-keys show NAME says what it may open, and from where; spa-keys set NAME changes it",
        Reason::Code => "the device sends the code of these minutes; its clock and the authenticator's must be right",
        Reason::Enroll => "invite the device again: spa-keys invite NAME --services ssh",
        _ => return Vec::new(),
    };
    vec![text.into()]
}

fn not_ours(listen: &Listen) -> Vec<String> {
    let own = listen.addresses.iter().flatten().map(ToString::to_string);
    let own: Vec<_> = own.collect();
    vec![
        format!("this host's own addresses are {}", own.join(", ")),
        "for a capture of another host: --any-address".into(),
    ]
}

fn tag(now: UnixTime) -> Vec<String> {
    let at = spa_keys::units::format_time(now);
    vec![
        "the device's profile is of another gateway, or of an identity that is not held any more: spa-keys gateway show"
            .into(),
        format!("it was judged at {at}: a device whose clock is more than half a day off tags for another day"),
    ]
}

//! Why a datagram was dropped: one variant for each way to fail ("What the gateway does, in this order").

use core::fmt;

use crate::frame::FrameError;
use crate::key::PublicKey;
use crate::packet::LengthError;
use crate::payload::PayloadError;

/// A datagram that was dropped. The sender learns nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: DropReason,
    /// Whose it is, as far as that is known.
    pub claim: Claim,
}

/// Whose datagram it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing proves anything.
    Nobody,
    /// This key sealed it: its payload decrypted.
    Proven(PublicKey),
}

/// Why a datagram was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Step 1: not one whole UDP datagram in an unfragmented packet.
    Frame(FrameError),
    /// Step 1: to an address or a port that is not the gateway's.
    NotOurs,
    /// Step 1: too short or too long.
    Length(LengthError),
    /// Step 2: not tagged with a key of this gateway for these days.
    Tag,
    /// Step 3: an exact copy.
    Copy {
        /// It came from another address than the first.
        forwarded: bool,
    },
    /// Step 4: the ephemeral key is a low-order point, or the static key does not decrypt.
    StaticKey,
    /// Step 4: no client has this key.
    Unknown,
    /// Step 4: the payload does not decrypt: another PSK, a false claim, or a change on the way.
    Seal,
    /// Step 4: the client was revoked.
    Revoked,
    /// Step 4: the client or the invite is past its end.
    Expired,
    /// Step 4: more datagrams than one key may send.
    Rate,
    /// Step 5: the payload is not canonical.
    Payload(PayloadError),
    /// Step 6: too far from the gateway's clock.
    Time {
        /// The timestamp minus the gateway's clock, in seconds.
        difference_s: i64,
    },
    /// Step 6: tagged with another day than the timestamp's.
    TagDay {
        /// The timestamp minus the gateway's clock, in seconds.
        difference_s: i64,
    },
    /// Step 7: a timestamp that was accepted before, or not above the floor.
    Replay,
    /// Step 7: the record cannot be used now.
    Record,
    /// Step 8: enroll under a client's key, or open or close under an invite's.
    Kind,
    /// Step 8: an enroll whose new key or PSK no client can have.
    Enroll(EnrollError),
}

impl DropReason {
    /// The step that refused, 1 to 8.
    #[must_use]
    pub const fn step(&self) -> u8 {
        match self {
            Self::Frame(_) | Self::NotOurs | Self::Length(_) => 1,
            Self::Tag => 2,
            Self::Copy { .. } => 3,
            Self::StaticKey | Self::Unknown | Self::Seal | Self::Revoked | Self::Expired | Self::Rate => 4,
            Self::Payload(_) => 5,
            Self::Time { .. } | Self::TagDay { .. } => 6,
            Self::Replay | Self::Record => 7,
            Self::Kind | Self::Enroll(_) => 8,
        }
    }

    /// The timestamp minus the gateway's clock in seconds, where that is the reason.
    #[must_use]
    pub const fn difference_s(&self) -> Option<i64> {
        match self {
            Self::Time { difference_s } | Self::TagDay { difference_s } => Some(*difference_s),
            _ => None,
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::NotOurs => f.write_str("to an address or a port that is not this gateway's"),
            Self::Length(error) => error.fmt(f),
            Self::Tag => f.write_str("not tagged with a key of this gateway for this day"),
            Self::Copy { forwarded: false } => f.write_str("an exact copy"),
            Self::Copy { forwarded: true } => f.write_str("an exact copy, sent on from another address"),
            Self::StaticKey => f.write_str("the sender's key does not decrypt"),
            Self::Unknown => f.write_str("no client has this key"),
            Self::Seal => f.write_str("the contents do not decrypt with the key that is claimed"),
            Self::Revoked => f.write_str("the key was revoked"),
            Self::Expired => f.write_str("the key is past its end"),
            Self::Rate => f.write_str("more than one key may send"),
            Self::Payload(error) => error.fmt(f),
            Self::Time { difference_s } => write!(f, "{difference_s:+} s off this gateway's clock"),
            Self::TagDay { .. } => f.write_str("tagged with another day than its timestamp's"),
            Self::Replay => f.write_str("its timestamp was used before"),
            Self::Record => f.write_str("the replay record cannot be used now"),
            Self::Kind => f.write_str("a client may not enroll, an invite may do nothing else"),
            Self::Enroll(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused at step {}: {}", self.reason.step(), self.reason)
    }
}

/// Why a new key or PSK cannot be enrolled ("Enrollment in one packet").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrollError {
    /// The key is not the canonical encoding of a point.
    NotCanonical,
    /// The key is a low-order point.
    LowOrder,
    /// The PSK is all zeros.
    ZeroPsk,
    /// The key is the gateway's, a client's or an invite's.
    Taken,
    /// The invite was spent for another key: someone else had it.
    Spent,
}

impl fmt::Display for EnrollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCanonical => "the new key is not in its canonical form",
            Self::LowOrder => "the new key is a low-order point",
            Self::ZeroPsk => "the new PSK is all zeros",
            Self::Taken => "the new key is somebody's already",
            Self::Spent => "the invite was spent for another key",
        })
    }
}

impl core::error::Error for EnrollError {}

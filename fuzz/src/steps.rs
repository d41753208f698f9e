//! What the input says: who sends what from where, and what time does.

use std::net::IpAddr;
use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use spa_proto::{Act, Address, Code, Enrollment, OVERHEAD, Psk, PublicKey, Request, Services, UnixTime};

use crate::cast::{Cast, HOLDERS, IDENTITIES};
use crate::wire;

const NAMES: [&str; 6] = [
    "ssh",
    "db",
    "tcp/22",
    "a",
    "0.a_b-c",
    "x23456789012345678901234567890123456789012345678901234567890123",
];
/// Low-order points, and numbers that are no canonical encoding of any.
const ODD_KEYS: [(u8, [u8; 30], u8); 5] = [
    (0x00, [0; 30], 0x00),
    (0x01, [0; 30], 0x00),
    (0xec, [0xff; 30], 0x7f),
    (0xed, [0xff; 30], 0x7f),
    (0x09, [0; 30], 0x80),
];

/// One thing that happens.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// Octets of nobody.
    Raw { octets: Vec<u8>, from: Source },
    /// A request as spa-client seals it, untouched.
    Sealed { wish: Wish, from: Source },
    /// The same, changed on the way.
    Changed {
        wish: Wish,
        edits: Vec<Edit>,
        retag: Option<Tagged>,
        from: Source,
    },
    /// A datagram made by hand: a key holder's that says what it likes, or one in another's name.
    Forged { forgery: Forgery, from: Source },
    /// One that was sent before, from anywhere, perhaps with another day's tag or another identity's.
    Again {
        which: u16,
        retag: Option<Tagged>,
        from: Source,
    },
    /// Time goes on.
    Wait { ms: u32 },
    /// The wall clock is set, the monotonic clock stays.
    SetClock { nanos: u64 },
    /// The wall clock is moved.
    MoveClock { seconds: i32 },
    /// Everything that lives in memory alone is lost.
    Restart,
    /// Identities come and go: one bit for each.
    Hold { identities: u8 },
    /// A key is taken away, or given an end so many seconds from now.
    Standing { who: u8, standing: Change },
}

/// What becomes of a key.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Change {
    /// It may send.
    Restore,
    /// It may not.
    Revoke,
    /// It may send until then.
    End { seconds: i32 },
}

/// Where a datagram comes from.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Source {
    pub address: IpAddr,
    pub port: u16,
}

/// The tag of one identity for a day so far from today's.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Tagged {
    identity: u8,
    pub days: i8,
}

impl Tagged {
    pub fn identity(self) -> usize {
        usize::from(self.identity) % IDENTITIES
    }
}

/// A request, and who sends it to whom.
#[derive(Arbitrary, Debug)]
pub struct Wish {
    holder: u8,
    identity: u8,
    kind: Kind,
    address: Option<IpAddr>,
    code: Option<u32>,
    /// Milliseconds that the sender's clock is off.
    skew_ms: i32,
    pub length: Option<u16>,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Open { duration_s: u32, services: Vec<u8> },
    Close { services: Vec<u8> },
    Enroll { key: NewKey, psk: [u8; 32], label: String },
}

#[derive(Arbitrary, Debug)]
enum NewKey {
    Own([u8; 32]),
    OfGateway(u8),
    OfHolder(u8),
    Odd(u8),
}

/// A datagram made by hand.
#[derive(Arbitrary, Debug)]
pub struct Forgery {
    pub claim: u8,
    pub psk_of: u8,
    pub tagged: Tagged,
    pub contents: Contents,
}

/// What is sealed in it.
#[derive(Arbitrary, Debug)]
pub enum Contents {
    /// Anything.
    Octets(Vec<u8>),
    /// A request with so much padding, changed.
    Edited { wish: Wish, padding: u8, edits: Vec<Edit> },
}

/// A change on the way.
#[derive(Arbitrary, Debug)]
pub enum Edit {
    Flip { place: u16, bits: u8 },
    Cut { length: u16 },
    Add { octets: Vec<u8> },
}

impl Wish {
    pub fn holder(&self) -> usize {
        usize::from(self.holder) % HOLDERS
    }

    pub fn identity(&self) -> usize {
        usize::from(self.identity) % IDENTITIES
    }

    /// The request, where one can be made of this.
    pub fn request(&self, now: UnixTime, cast: &Cast) -> Option<Request> {
        let address = match self.address {
            Some(address) => Address::explicit(address).ok()?,
            None => Address::AsSeen,
        };
        let act = match &self.kind {
            Kind::Open { duration_s, services } => Act::Open {
                address,
                duration_s: *duration_s,
                services: named(services)?,
            },
            Kind::Close { services } => Act::Close {
                address,
                services: named(services)?,
            },
            Kind::Enroll { key, psk, label } => Act::Enroll(Enrollment {
                public_key: key.octets(cast),
                psk: Psk::from_bytes(psk),
                label: label.parse().ok()?,
            }),
        };
        let code = self.code.and_then(|code| Code::new(code).ok());
        Some(Request {
            timestamp: moved(now, i64::from(self.skew_ms)),
            code,
            act,
        })
    }
}

fn named(numbers: &[u8]) -> Option<Services> {
    let name = |number: &u8| NAMES[usize::from(*number) % NAMES.len()].parse().ok();
    Services::new(numbers.iter().map(name).collect::<Option<_>>()?).ok()
}

impl NewKey {
    fn octets(&self, cast: &Cast) -> PublicKey {
        match self {
            Self::Own(octets) => PublicKey(*octets),
            Self::OfGateway(which) => PublicKey(cast.own[usize::from(*which) % IDENTITIES].public),
            Self::OfHolder(which) => cast.holders[usize::from(*which) % HOLDERS].public,
            Self::Odd(which) => {
                let (first, middle, last) = ODD_KEYS[usize::from(*which) % ODD_KEYS.len()];
                let octets = [&[first][..], &middle, &[last]].concat();
                PublicKey(octets.try_into().expect("1 and 30 and 1"))
            }
        }
    }
}

impl Contents {
    /// What is sealed: long enough that its datagram has a length that is accepted, where it was too short for one.
    pub fn payload(&self, now: UnixTime, cast: &Cast) -> Option<Vec<u8>> {
        let mut payload = match self {
            Self::Octets(octets) => octets.clone(),
            Self::Edited { wish, padding, edits } => {
                let request = wish.request(now, cast)?;
                let mut payload = wire::payload(&request, request.payload_len() + usize::from(*padding));
                edits.iter().for_each(|edit| edit.apply(&mut payload));
                payload
            }
        };
        if payload.len() < 192 - OVERHEAD {
            payload.resize(192 - OVERHEAD, 0);
        }
        payload.truncate(2_000);
        Some(payload)
    }
}

impl Edit {
    pub fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Flip { place, bits } => {
                if let Some(at) = usize::from(*place).checked_rem(octets.len()) {
                    octets[at] ^= bits;
                }
            }
            Self::Cut { length } => octets.truncate(usize::from(*length)),
            Self::Add { octets: more } => octets.extend(more),
        }
    }
}

/// A time moved by so many milliseconds, as far as it goes.
#[must_use]
pub fn moved(time: UnixTime, ms: i64) -> UnixTime {
    let length = Duration::from_millis(ms.unsigned_abs());
    if ms < 0 {
        time.saturating_sub(length)
    } else {
        time.saturating_add(length)
    }
}

//! Plays datagrams and clock steps to a gateway, beside a naive model of the protocol page.
//!
//! The gateway holds one identity and knows one client and one invite. The input says what is sent: raw octets, knocks
//! sealed by either key, or sealed ones changed, with their tag made right again or not. Held are:
//!
//! - nothing panics, whatever is sent and wherever the clock stands;
//! - what is admitted was sealed by a known key, reached the gateway unchanged, is in time and never was admitted before;
//! - what the model admits is admitted, but for the rate of one key and for what a new key may not be.

#![no_main]

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use spa_proto::{
    Act, Address, Code, Datagram, DropReason, Enrollment, Gateway, HmacKey, Identity, KeyTable, LENGTHS, Listen,
    MemoryRecord, Moment, OVERHEAD, Psk, PublicKey, Request, Role, SecretKey, Sender, Services, Sieve, UnixTime,
    Windows, pick_length,
};

const PORT: u16 = 62201;
const START: UnixTime = UnixTime::from_secs(1_800_000_000);
const BURST: usize = 50;
const NAMES: [&str; 6] = [
    "ssh",
    "db",
    "tcp/22",
    "a",
    "0.a_b-c",
    "x23456789012345678901234567890123456789012345678901234567890123",
];

#[derive(Arbitrary, Debug)]
enum Step {
    /// Octets of nobody.
    Raw { octets: Vec<u8>, from: Source },
    /// A sealed request, untouched.
    Sealed { request: Wish, from: Source },
    /// A sealed request, changed on the way.
    Changed {
        request: Wish,
        edits: Vec<Edit>,
        retag: Option<i8>,
        from: Source,
    },
    /// One that was sent before, from anywhere.
    Again { which: u16, from: Source },
    /// Time goes on.
    Wait { ms: u32 },
    /// The wall clock is set, the monotonic clock stays.
    SetClock { nanos: u64 },
    /// The wall clock is moved.
    MoveClock { seconds: i32 },
}

/// A request as the input describes it.
#[derive(Arbitrary, Debug)]
struct Wish {
    by_invite: bool,
    kind: Kind,
    address: Option<IpAddr>,
    code: Option<u32>,
    /// Milliseconds that the sender's clock is off.
    skew_ms: i32,
    length: Option<u16>,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Open {
        duration_s: u32,
        services: Vec<u8>,
    },
    Close {
        services: Vec<u8>,
    },
    Enroll {
        public_key: [u8; 32],
        psk: [u8; 32],
        label: String,
    },
}

#[derive(Arbitrary, Debug)]
enum Edit {
    Flip { place: u16, bits: u8 },
    Cut { length: u16 },
    Add { octets: Vec<u8> },
}

#[derive(Arbitrary, Debug, Clone, Copy)]
struct Source {
    address: IpAddr,
    port: u16,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::new();
    for step in &steps {
        world.take(step);
    }
});

struct World {
    keys: Keys,
    gateway: Gateway,
    keyring: KeyTable,
    record: MemoryRecord,
    model: Model,
    now: Moment,
    rng: Numbers,
    /// All that was sealed and can be sent again.
    sealed: Vec<Sealed>,
}

struct Sealed {
    octets: Vec<u8>,
    sent: Sent,
}

/// What the model knows of a datagram that a key holder made.
#[derive(Clone, Copy)]
struct Sent {
    by_invite: bool,
    timestamp: UnixTime,
    window: Duration,
    fits_role: bool,
}

impl World {
    fn new() -> Self {
        let keys = Keys::new();
        let identity = Identity::new(
            SecretKey::from_bytes(keys.gateway.expose()),
            HmacKey::from_bytes(keys.hmac_key.expose()),
        );
        let mut keyring = KeyTable::default();
        let invite = Role::Invite { spent_by: None };
        keyring.insert(keys.client.public(), Psk::from_bytes(keys.psk.expose()), Role::Client);
        keyring.insert(keys.invite.public(), Psk::from_bytes(keys.psk.expose()), invite);
        Self {
            gateway: Gateway::new(Sieve::new(vec![identity], Listen::port(PORT))),
            keyring,
            keys,
            record: MemoryRecord::default(),
            model: Model::default(),
            now: Moment {
                wall: START,
                uptime: Duration::from_secs(1),
            },
            rng: Numbers(0),
            sealed: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Raw { octets, from } => self.deliver(octets, *from, None),
            Step::Sealed { request, from } => {
                let Some(sealed) = self.seal(request) else { return };
                self.deliver(&sealed.octets, *from, Some(sealed.sent));
                self.sealed.push(sealed);
            }
            Step::Changed {
                request,
                edits,
                retag,
                from,
            } => {
                let Some(sealed) = self.seal(request) else { return };
                let mut octets = sealed.octets.clone();
                for edit in edits {
                    edit.apply(&mut octets);
                }
                if let Some(days) = retag {
                    self.keys.retag(&mut octets, self.now.wall, *days);
                }
                // Changes may undo each other: then it is the sealed one after all.
                let sent = (octets == sealed.octets).then_some(sealed.sent);
                self.deliver(&octets, *from, sent);
                self.sealed.push(sealed);
            }
            Step::Again { which, from } => {
                let Some(at) = usize::from(*which).checked_rem(self.sealed.len()) else {
                    return;
                };
                let (octets, sent) = (self.sealed[at].octets.clone(), self.sealed[at].sent);
                self.deliver(&octets, *from, Some(sent));
            }
            Step::Wait { ms } => {
                let length = Duration::from_millis(u64::from(*ms));
                self.now.uptime += length;
                self.now.wall = self.now.wall.saturating_add(length);
            }
            Step::SetClock { nanos } => self.now.wall = UnixTime::from_nanos(*nanos),
            Step::MoveClock { seconds } => {
                self.now.wall = moved(self.now.wall, i64::from(*seconds) * 1_000);
            }
        }
    }

    /// Hands a datagram to the gateway and holds its answer against the model's.
    fn deliver(&mut self, octets: &[u8], from: Source, sent: Option<Sent>) {
        let source = SocketAddr::new(from.address, from.port);
        let destination = SocketAddr::from(([198, 51, 100, 1], PORT));
        let datagram = Datagram {
            source,
            destination,
            payload: octets,
        };
        let said = self
            .gateway
            .handle(self.now, &datagram, &mut self.keyring, &mut self.record);
        self.model.delivered += 1;
        let Some(sent) = sent else {
            assert!(said.is_err(), "admitted, and nobody sealed it: {said:?}");
            return;
        };
        if let Err(refusal) = &said
            && refusal.reason == DropReason::Rate
        {
            assert!(self.model.delivered > BURST, "the rate was not reached yet");
            return;
        }
        let expected = self.model.judge(self.now.wall, octets, sent);
        match said {
            Ok(knock) => {
                assert!(expected, "admitted, and must not: {knock:?}");
                assert_eq!(knock.source(), source);
                assert_eq!(*knock.client(), self.keys.sender(sent.by_invite).public());
                assert_eq!(knock.request().timestamp, sent.timestamp);
            }
            Err(refusal) => {
                let new_key = matches!(refusal.reason, DropReason::Enroll(_));
                assert!(!expected || new_key, "refused, and must not: {refusal:?}");
            }
        }
    }

    fn seal(&mut self, wish: &Wish) -> Option<Sealed> {
        let request = wish.request(self.now.wall)?;
        let need = OVERHEAD + request.payload_len();
        let length = match wish.length {
            Some(length) => usize::from(length).clamp(*LENGTHS.start(), *LENGTHS.end()),
            None => pick_length(need, &mut self.rng),
        };
        let gateway = self.keys.gateway.public();
        let sender = Sender {
            gateway: &gateway,
            hmac_key: &self.keys.hmac_key,
            secret: self.keys.sender(wish.by_invite),
            psk: &self.keys.psk,
        };
        let octets = sender.seal(&request, length, &mut self.rng).ok()?;
        let sent = Sent {
            by_invite: wish.by_invite,
            timestamp: request.timestamp,
            window: window(&request.act),
            fits_role: wish.by_invite == matches!(request.act, Act::Enroll(_)),
        };
        Some(Sealed { octets, sent })
    }
}

/// The protocol page, as plainly as it can be written.
#[derive(Default)]
struct Model {
    delivered: usize,
    tags: HashSet<[u8; 16]>,
    client: Replays,
    invite: Replays,
}

impl Model {
    /// Whether a sealed datagram that arrives unchanged is admitted.
    fn judge(&mut self, now: UnixTime, octets: &[u8], sent: Sent) -> bool {
        let day = sent.timestamp.day();
        if day != now.day() && day != now.neighbour_day() {
            return false; // step 2
        }
        let tag = octets[..16].try_into().expect("a sealed datagram has a tag");
        if !self.tags.insert(tag) {
            return false; // step 3
        }
        if sent.timestamp.distance(now) > sent.window {
            return false; // step 6
        }
        let fresh = if sent.by_invite {
            self.invite.accept(sent.timestamp, Windows::ENROLL * 2)
        } else {
            self.client.accept(sent.timestamp, Windows::default().greatest() * 2)
        };
        fresh && sent.fits_role // steps 7 and 8
    }
}

/// R and F.
#[derive(Default)]
struct Replays {
    r: BTreeSet<UnixTime>,
    f: UnixTime,
}

impl Replays {
    fn accept(&mut self, timestamp: UnixTime, retention: Duration) -> bool {
        if timestamp <= self.f || !self.r.insert(timestamp) {
            return false;
        }
        while let (Some(least), Some(greatest)) = (self.r.first().copied(), self.r.last().copied()) {
            if self.r.len() <= 256 && greatest.distance(least) <= retention {
                break;
            }
            self.r.remove(&least);
            self.f = self.f.max(least);
        }
        true
    }
}

struct Keys {
    gateway: SecretKey,
    hmac_key: HmacKey,
    client: SecretKey,
    invite: SecretKey,
    psk: Psk,
}

impl Keys {
    fn new() -> Self {
        Self {
            gateway: SecretKey::from_bytes(&[1; 32]),
            hmac_key: HmacKey::from_bytes(&[2; 32]),
            client: SecretKey::from_bytes(&[3; 32]),
            invite: SecretKey::from_bytes(&[4; 32]),
            psk: Psk::from_bytes(&[5; 32]),
        }
    }

    fn sender(&self, by_invite: bool) -> &SecretKey {
        if by_invite { &self.invite } else { &self.client }
    }

    /// Puts the tag of today, or of a day so far off, on whatever follows it.
    fn retag(&self, octets: &mut [u8], now: UnixTime, days: i8) {
        let Some((tag, tagged)) = octets.split_at_mut_checked(16) else {
            return;
        };
        let day = now.day().0.saturating_add_signed(i64::from(days));
        let parts: [&[u8]; 3] = [b"spa/1 tag", &self.gateway.public().0, &day.to_be_bytes()];
        let k_tag = hmac(self.hmac_key.expose(), &parts);
        tag.copy_from_slice(&hmac(&k_tag, &[&Sha256::digest(&*tagged)])[..16]);
    }
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl Wish {
    /// The request, where one can be made of this.
    fn request(&self, now: UnixTime) -> Option<Request> {
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
            Kind::Enroll { public_key, psk, label } => Act::Enroll(Enrollment {
                public_key: PublicKey(*public_key),
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

fn window(act: &Act) -> Duration {
    let windows = Windows::default();
    match act {
        Act::Open { address, .. } | Act::Close { address, .. } => match address.named() {
            None => windows.as_seen,
            Some(_) => windows.explicit,
        },
        Act::Enroll(_) => Windows::ENROLL,
    }
}

fn moved(time: UnixTime, ms: i64) -> UnixTime {
    let length = Duration::from_millis(ms.unsigned_abs());
    if ms < 0 {
        time.saturating_sub(length)
    } else {
        time.saturating_add(length)
    }
}

impl Edit {
    fn apply(&self, octets: &mut Vec<u8>) {
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

/// Numbers that are the same in every run: 0, 1, 2 and so on. What is made of them need not be unpredictable here.
struct Numbers(u64);

impl TryRng for Numbers {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64()
            .map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 += 1;
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Numbers {}

//! The judgement of the protocol page, as plainly as it can be written: which step refuses a datagram, if any.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use spa_proto::{Act, Address, Enrollment, Moment, PublicKey, Request, Role, Standing, UnixTime};

use crate::cast::{Cast, HOLDERS, IDENTITIES};
use crate::forge::tag;

const NANOS_PER_DAY: u64 = 86_400 * 1_000_000_000;
/// 2^255 − 19, little-endian.
const PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut below_prime = PRIME;
        below_prime[0] = 0xec;
        below_prime
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

/// A body that a key holder sealed.
#[derive(Clone, Debug)]
pub struct Genuine {
    /// Whose keys and PSK.
    pub holder: usize,
    /// For which identity.
    pub identity: usize,
    /// What is in it.
    pub payload: Vec<u8>,
}

/// What the model remembers.
pub struct Model {
    /// Which identities the gateway holds.
    pub held: [bool; IDENTITIES],
    genuine: HashMap<Vec<u8>, Genuine>,
    tags: HashSet<Vec<u8>>,
    seats: [Option<Seat>; HOLDERS],
    taken: BTreeSet<PublicKey>,
    spent_by: Option<PublicKey>,
}

/// What is known of one key.
struct Seat {
    standing: Standing,
    replays: Replays,
    credit: Credit,
}

impl Model {
    /// What a gateway knows of these at first.
    #[must_use]
    pub fn new(cast: &Cast) -> Self {
        let seat = |holder| {
            Cast::role(holder).map(|_| Seat {
                standing: Standing::Active { until: None },
                replays: Replays::default(),
                credit: Credit::default(),
            })
        };
        let known = (0..HOLDERS).filter(|holder| Cast::role(*holder).is_some());
        Self {
            held: [true; IDENTITIES],
            genuine: HashMap::new(),
            tags: HashSet::new(),
            seats: std::array::from_fn(seat),
            taken: known.map(|holder| cast.holders[holder].public).collect(),
            spent_by: None,
        }
    }

    /// A key holder sealed this.
    pub fn sealed(&mut self, body: &[u8], genuine: Genuine) {
        self.genuine.insert(body.to_vec(), genuine);
    }

    /// What lives in memory alone is lost.
    pub fn restart(&mut self) {
        self.tags.clear();
        for seat in self.seats.iter_mut().flatten() {
            seat.credit = Credit::default();
        }
    }

    /// A key's standing changes; what memory held of it is dropped.
    pub fn stand(&mut self, holder: usize, standing: Standing) {
        if let Some(seat) = &mut self.seats[holder] {
            seat.standing = standing;
            seat.credit = Credit::default();
        }
    }

    /// The invite was spent for this key, which is a client's now.
    pub fn enrolled(&mut self, invite: usize, key: PublicKey) {
        self.spent_by = Some(key);
        self.taken.insert(key);
        self.stand(invite, Standing::Active { until: None });
    }

    /// Whose datagram it is, or the step that refuses it.
    ///
    /// # Errors
    ///
    /// The number of the step.
    pub fn judge(&mut self, cast: &Cast, now: Moment, octets: &[u8]) -> Result<Genuine, u8> {
        if octets.len() < 192 || octets.len() > 1232 {
            return Err(1);
        }
        let (own_tag, body) = octets.split_at(16);
        let (identity, day) = self.tagged(cast, now.wall, own_tag, body).ok_or(2)?;
        if self.tags.contains(own_tag) {
            return Err(3);
        }
        let genuine = self.genuine.get(body).filter(|genuine| genuine.identity == identity);
        let genuine = genuine.cloned().ok_or(4)?;
        let seat = self.seats[genuine.holder].as_mut().ok_or(4)?;
        let good = match seat.standing {
            Standing::Revoked => false,
            Standing::Active { until } => until.is_none_or(|until| now.wall < until),
        };
        if !good || !seat.credit.spend(now.uptime) {
            return Err(4);
        }
        self.tags.insert(own_tag.to_vec());
        // That nothing else is canonical is what the target `payload` is for.
        let request = Request::decode(&genuine.payload).map_err(|_| 5)?;
        if request.timestamp.distance(now.wall) > window(&request.act) || day_of(request.timestamp) != day {
            return Err(6);
        }
        let role = Cast::role(genuine.holder);
        let retention = if role == Some(Role::Client) { 600 } else { 2 * 43_200 };
        if !seat.replays.accept(request.timestamp, Duration::from_secs(retention)) {
            return Err(7);
        }
        let fits = match &request.act {
            Act::Enroll(new) => role != Some(Role::Client) && self.may_enroll(cast, new),
            Act::Open { .. } | Act::Close { .. } => role == Some(Role::Client),
        };
        if fits { Ok(genuine) } else { Err(8) }
    }

    /// Which identity's tag it is, of today or of the day that is nearer.
    fn tagged(&self, cast: &Cast, now: UnixTime, own_tag: &[u8], body: &[u8]) -> Option<(usize, u64)> {
        let today = day_of(now);
        let morning = now.as_nanos() % NANOS_PER_DAY < NANOS_PER_DAY / 2;
        let other = if morning { today.saturating_sub(1) } else { today + 1 };
        let held = (0..IDENTITIES).filter(|identity| self.held[*identity]);
        held.flat_map(|identity| [(identity, today), (identity, other)])
            .find(|(identity, day)| {
                let own = &cast.own[*identity];
                tag(&own.hmac_key, &own.public, *day, body) == own_tag
            })
    }

    fn may_enroll(&self, cast: &Cast, new: &Enrollment) -> bool {
        let key = new.public_key;
        if self.spent_by.is_some() {
            return self.spent_by == Some(key);
        }
        let canonical = key.0.iter().rev().lt(PRIME.iter().rev());
        let own = (0..IDENTITIES).any(|identity| self.held[identity] && cast.own[identity].public == key.0);
        canonical && !own && !LOW_ORDER.contains(&key.0) && !self.taken.contains(&key) && *new.psk.expose() != [0; 32]
    }
}

fn day_of(time: UnixTime) -> u64 {
    time.as_nanos() / NANOS_PER_DAY
}

fn window(act: &Act) -> Duration {
    Duration::from_secs(match act {
        Act::Enroll(_) => 43_200,
        Act::Open { address, .. } | Act::Close { address, .. } => match address {
            Address::AsSeen => 60,
            Address::Explicit(_) => 300,
        },
    })
}

/// 50 datagrams at once, 10 more for each second: counted as credit that fills up.
struct Credit {
    held: Duration,
    at: Duration,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            held: Self::MOST,
            at: Duration::ZERO,
        }
    }
}

impl Credit {
    const MOST: Duration = Duration::from_secs(5);
    const PRICE: Duration = Duration::from_millis(100);

    fn spend(&mut self, uptime: Duration) -> bool {
        self.held = (self.held + (uptime - self.at)).min(Self::MOST);
        self.at = uptime;
        let left = self.held.checked_sub(Self::PRICE);
        self.held = left.unwrap_or(self.held);
        left.is_some()
    }
}

/// Every timestamp that was ever accepted, and R and F beside it.
#[derive(Default)]
pub struct Replays {
    r: BTreeSet<UnixTime>,
    f: UnixTime,
    ever: BTreeSet<UnixTime>,
}

impl Replays {
    /// Step 7.
    pub fn accept(&mut self, timestamp: UnixTime, retention: Duration) -> bool {
        if timestamp <= self.f || !self.r.insert(timestamp) {
            return false;
        }
        assert!(self.ever.insert(timestamp), "R and F let one through twice");
        while let (Some(least), Some(greatest)) = (self.r.first().copied(), self.r.last().copied()) {
            if self.r.len() <= 256 && greatest.distance(least) <= retention {
                break;
            }
            self.r.remove(&least);
            self.f = self.f.max(least);
        }
        true
    }

    /// R, rising.
    pub fn members(&self) -> impl Iterator<Item = UnixTime> {
        self.r.iter().copied()
    }

    /// F.
    #[must_use]
    pub const fn floor(&self) -> UnixTime {
        self.f
    }
}

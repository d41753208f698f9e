//! Steps 1 to 3: what junk is refused by. Borrowed octets, no allocation and no lock, in any capture thread.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::copies::Copies;
use crate::drop_reason::DropReason;
use crate::frame::Datagram;
use crate::key::{HmacKey, PublicKey, SecretKey};
use crate::lanes::{self, LANES};
use crate::outer::{MaskKey, TagKey, digest};
use crate::packet::{LENGTHS, SealedKnock};
use crate::time::{Day, UnixTime};

/// A gateway identity: a static key `S` and an HMAC key `K` ("Keys").
#[derive(Debug)]
pub struct Identity {
    secret: SecretKey,
    public: PublicKey,
    hmac_key: HmacKey,
}

impl Identity {
    /// Pairs `S` with `K`.
    #[must_use]
    pub fn new(secret: SecretKey, hmac_key: HmacKey) -> Self {
        Self {
            public: secret.public(),
            secret,
            hmac_key,
        }
    }

    /// The static public key.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The HMAC key.
    #[must_use]
    pub const fn hmac_key(&self) -> &HmacKey {
        &self.hmac_key
    }

    /// The static private key.
    #[must_use]
    pub const fn secret(&self) -> &SecretKey {
        &self.secret
    }

    pub(crate) fn mask_key(&self) -> MaskKey {
        MaskKey::new(&self.hmac_key, &self.public)
    }
}

/// Where knocks are for (step 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The gateway's knock ports.
    pub ports: Vec<u16>,
    /// The gateway's own addresses; none means any address.
    pub addresses: Option<Vec<IpAddr>>,
}

impl Listen {
    /// One port, any address.
    #[must_use]
    pub fn port(port: u16) -> Self {
        Self {
            ports: alloc::vec![port],
            addresses: None,
        }
    }

    fn accepts(&self, datagram: &Datagram<'_>) -> bool {
        let own = |addresses: &Vec<IpAddr>| addresses.contains(&datagram.destination.ip().to_canonical());
        self.ports.contains(&datagram.destination.port()) && self.addresses.as_ref().is_none_or(own)
    }
}

/// Refuses what cannot be a knock. A clone shares the identities and the copies and keeps its own keys of the day, so
/// that each capture thread has one.
#[derive(Clone, Debug)]
pub struct Sieve {
    identities: Arc<[Identity]>,
    listen: Listen,
    copies: Arc<Copies>,
    days: [DayKeys; 2],
}

/// Each identity's tag key for one day.
#[derive(Clone)]
struct DayKeys {
    day: Option<Day>,
    keys: Vec<TagKey>,
}

/// A datagram that passed steps 1 to 3.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'a> {
    pub(crate) sealed: SealedKnock<'a>,
    pub(crate) identity: usize,
    pub(crate) day: Day,
}

impl Admitted<'_> {
    /// Which of the gateway's identities tagged it: its place among [`Sieve::identities`].
    #[must_use]
    pub const fn identity(&self) -> usize {
        self.identity
    }

    /// The day that it was tagged for.
    #[must_use]
    pub const fn day(&self) -> Day {
        self.day
    }
}

impl Sieve {
    /// For these identities, at most 16; further ones are left out.
    #[must_use]
    pub fn new(identities: Vec<Identity>, listen: Listen) -> Self {
        let identities = identities.into_iter().take(Self::MOST_IDENTITIES).collect();
        let unset = || DayKeys {
            day: None,
            keys: Vec::new(),
        };
        Self {
            identities,
            listen,
            copies: Arc::new(Copies::new()),
            days: [unset(), unset()],
        }
    }

    /// The most identities a gateway holds at once.
    pub const MOST_IDENTITIES: usize = 16;

    /// The identities held.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Changes where knocks are for.
    pub fn listen(&mut self, listen: Listen) {
        self.listen = listen;
    }

    /// The same copies under other identities, after a reload.
    #[must_use]
    pub fn with_identities(&self, identities: Vec<Identity>) -> Self {
        Self {
            copies: Arc::clone(&self.copies),
            ..Self::new(identities, self.listen.clone())
        }
    }

    pub(crate) fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Walks steps 1 to 3 for a datagram that arrived at `now`.
    ///
    /// # Errors
    ///
    /// The [`DropReason`] of the step that refuses it.
    pub fn admit<'a>(&mut self, now: UnixTime, datagram: &Datagram<'a>) -> Result<Admitted<'a>, DropReason> {
        if !self.listen.accepts(datagram) {
            return Err(DropReason::NotOurs);
        }
        let sealed = SealedKnock::parse(datagram.payload).map_err(DropReason::Length)?;
        let (identity, day) = self.tagged_by(now, &sealed).ok_or(DropReason::Tag)?;
        match self.copies.find(sealed.tag, datagram.source.ip()) {
            Some(copy) => Err(DropReason::Copy {
                forwarded: copy.forwarded,
            }),
            None => Ok(Admitted { sealed, identity, day }),
        }
    }

    /// How many datagrams can be looked at side by side.
    pub const AT_ONCE: usize = LANES;

    /// Whether this is for one of the gateway's ports and addresses and of a length that a knock can have (step 1).
    #[must_use]
    pub fn accepts(&self, datagram: &Datagram<'_>) -> bool {
        self.listen.accepts(datagram) && LENGTHS.contains(&datagram.payload.len())
    }

    /// Which of these payloads bear no tag that step 2 would take: those that [`Sieve::admit`] would refuse for it. Found
    /// side by side, in rows of words as wide as AVX2 has them.
    ///
    /// # Safety
    ///
    /// Only for a processor that has AVX2.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    pub fn untagged_avx2(&mut self, now: UnixTime, payloads: &[&[u8]; LANES]) -> [bool; LANES] {
        self.untagged(now, payloads)
    }

    /// The same with AVX-512, whose instructions turn words and join three rows at once.
    ///
    /// # Safety
    ///
    /// Only for a processor that has AVX-512F and VL.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub fn untagged_avx512(&mut self, now: UnixTime, payloads: &[&[u8]; LANES]) -> [bool; LANES] {
        self.untagged(now, payloads)
    }

    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for the processors above"))]
    #[allow(clippy::inline_always, reason = "compiled for the caller's processor, as `lanes` is")]
    #[inline(always)]
    fn untagged(&mut self, now: UnixTime, payloads: &[&[u8]; LANES]) -> [bool; LANES] {
        self.turn_to([now.day(), now.neighbour_day()]);
        let tags = payloads.map(|payload| payload.first_chunk().unwrap_or(&[0; 16]));
        let digests = lanes::digests(&payloads.map(|payload| payload.get(16..).unwrap_or(&[])));
        let mut untagged = [true; LANES];
        for key in self.days.iter().flat_map(|day| &day.keys) {
            let right = key.verify_lanes(&digests, &tags);
            untagged
                .iter_mut()
                .zip(right)
                .for_each(|(untagged, right)| *untagged &= !right);
        }
        untagged
    }

    /// Whose tag it is and of which day, of the two days that are taken now (step 2).
    fn tagged_by(&mut self, now: UnixTime, sealed: &SealedKnock<'_>) -> Option<(usize, Day)> {
        self.turn_to([now.day(), now.neighbour_day()]);
        let digest = digest(sealed.tagged);
        self.days.iter().find_map(|DayKeys { day, keys }| {
            let identity = keys.iter().position(|key| key.verify(&digest, sealed.tag))?;
            Some((identity, (*day)?))
        })
    }

    fn turn_to(&mut self, days: [Day; 2]) {
        for (kept, day) in self.days.iter_mut().zip(days) {
            if kept.day != Some(day) {
                let keys = self
                    .identities
                    .iter()
                    .map(|own| TagKey::new(&own.hmac_key, &own.public, day))
                    .collect();
                *kept = DayKeys { day: Some(day), keys };
            }
        }
    }
}

impl core::fmt::Debug for DayKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DayKeys({:?})", self.day)
    }
}

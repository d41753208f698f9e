//! What the judgement needs to know of clients: one look-up by key.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::key::{Psk, PublicKey, SecretKey};
use crate::limit::Limit;
use crate::noise::Secret;
use crate::time::UnixTime;

/// Who holds which key. A look-up costs the same whatever the number of clients (step 4).
pub trait Keyring {
    /// The client or invite with this key, revoked and expired ones too.
    fn find(&mut self, key: &PublicKey) -> Option<Enrolled<'_>>;

    /// Whether any client or invite has this key, in whatever standing.
    fn knows(&self, key: &PublicKey) -> bool;
}

/// One client or invite, lent by the keyring for one judgement.
#[derive(Debug)]
pub struct Enrolled<'a> {
    /// The second authentication factor.
    pub psk: &'a Psk,
    /// What it may send.
    pub role: Role,
    /// Whether it may send anything.
    pub standing: Standing,
    /// How far its timestamps may be off.
    pub windows: Windows,
    /// What the gateway keeps about it between datagrams.
    pub seat: &'a mut Seat,
}

/// What a key may send (step 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Open and close.
    Client,
    /// Enroll, once.
    Invite {
        /// The key that it was spent for.
        spent_by: Option<PublicKey>,
    },
}

/// Whether a key is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Until this time of the gateway's clock, or for ever.
    Active {
        /// The end.
        until: Option<UnixTime>,
    },
    /// Taken away.
    Revoked,
}

/// How far a timestamp may lie from the gateway's clock, in either direction (step 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// For address form 0.
    pub as_seen: Duration,
    /// For address forms 4 and 6.
    pub explicit: Duration,
}

impl Windows {
    /// The greatest that either may be set to.
    pub const GREATEST: Duration = Duration::from_hours(1);
    /// The window of an enroll.
    pub const ENROLL: Duration = Duration::from_hours(12);

    /// The greater of the two.
    #[must_use]
    pub fn greatest(&self) -> Duration {
        self.as_seen.max(self.explicit)
    }
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            as_seen: Duration::from_mins(1),
            explicit: Duration::from_mins(5),
        }
    }
}

/// What the gateway keeps in memory about one key that has proved itself: `ss` with each gateway key and the rate of
/// its datagrams. Empty, and one pointer wide, until then. To be dropped when the key is revoked.
#[derive(Default)]
pub struct Seat(Option<Box<Kept>>);

#[derive(Default)]
struct Kept {
    shared: Vec<(PublicKey, Secret)>,
    limit: Limit,
}

impl Seat {
    /// `ss` with a gateway key: kept, or computed now. Nothing when it is all zeros.
    pub(crate) fn shared(&self, secret: &SecretKey, gateway: &PublicKey, client: &PublicKey) -> Option<Secret> {
        let kept = self
            .0
            .as_ref()
            .and_then(|kept| kept.shared.iter().find(|(key, _)| key == gateway));
        match kept {
            Some((_, shared)) => Some(shared.clone()),
            None => secret.agree(client),
        }
    }

    /// Remembers `ss`, now that a payload proved that the client holds its key.
    pub(crate) fn keep(&mut self, gateway: &PublicKey, shared: Secret) {
        let kept = self.0.get_or_insert_default();
        if !kept.shared.iter().any(|(key, _)| key == gateway) {
            kept.shared.push((*gateway, shared));
        }
    }

    /// Forgets `ss` with every gateway key that is not among `held`.
    pub fn retain(&mut self, held: &[PublicKey]) {
        if let Some(kept) = &mut self.0 {
            kept.shared.retain(|(key, _)| held.contains(key));
        }
    }

    /// Takes one datagram off what the key may send; says whether it was within the rate.
    pub(crate) fn allow(&mut self, uptime: Duration) -> bool {
        self.0.get_or_insert_default().limit.allow(uptime)
    }
}

impl core::fmt::Debug for Seat {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seat(..)")
    }
}

/// A keyring in memory, for tests, simulation and benchmarks.
#[derive(Debug, Default)]
pub struct KeyTable(BTreeMap<PublicKey, Entry>);

#[derive(Debug)]
struct Entry {
    psk: Psk,
    role: Role,
    standing: Standing,
    windows: Windows,
    seat: Seat,
}

impl KeyTable {
    /// Adds a key in good standing with the default windows, or replaces it.
    pub fn insert(&mut self, key: PublicKey, psk: Psk, role: Role) {
        let entry = Entry {
            psk,
            role,
            standing: Standing::Active { until: None },
            windows: Windows::default(),
            seat: Seat::default(),
        };
        self.0.insert(key, entry);
    }

    /// Changes a key's standing; an unknown key changes nothing.
    pub fn set_standing(&mut self, key: &PublicKey, standing: Standing) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.standing = standing;
            entry.seat = Seat::default();
        }
    }
}

impl Keyring for KeyTable {
    fn find(&mut self, key: &PublicKey) -> Option<Enrolled<'_>> {
        let Entry {
            psk,
            role,
            standing,
            windows,
            seat,
        } = self.0.get_mut(key)?;
        Some(Enrolled {
            psk,
            role: *role,
            standing: *standing,
            windows: *windows,
            seat,
        })
    }

    fn knows(&self, key: &PublicKey) -> bool {
        self.0.contains_key(key)
    }
}

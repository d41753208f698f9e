//! One client or invite in memory. A gateway may have 100,000 of them: what is equal is shared, what is absent is
//! small.

use std::collections::HashSet;
use std::sync::Arc;

use spa_proto::{Psk, PublicKey, Role, Seat, ServiceName, Standing, UnixTime};

use crate::client::{Client, ClientPolicy, OneTimeCode};
use crate::invites::{Invite, Spent};

/// A time or none, in 8 bytes: the greatest number, in the year 2554, stands for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(u64);

impl From<Option<UnixTime>> for Time {
    fn from(time: Option<UnixTime>) -> Self {
        Self(time.map_or(u64::MAX, UnixTime::as_nanos))
    }
}

impl Time {
    pub(super) fn get(self) -> Option<UnixTime> {
        (self.0 != u64::MAX).then_some(UnixTime::from_nanos(self.0))
    }
}

/// A client in memory.
#[derive(Debug)]
pub(super) struct ClientSlot {
    pub(super) key: PublicKey,
    pub(super) psk: Psk,
    pub(super) name: Arc<str>,
    pub(super) policy: Arc<ClientPolicy>,
    pub(super) label: Box<str>,
    pub(super) enrolled: Time,
    pub(super) expires: Time,
    pub(super) revoked: Time,
    pub(super) one_time_code: Option<Box<OneTimeCode>>,
    pub(super) replaces: Option<Box<PublicKey>>,
    pub(super) seat: Seat,
}

impl ClientSlot {
    pub(super) fn new(name: Arc<str>, client: Client, policy: Arc<ClientPolicy>) -> Self {
        Self {
            key: client.public_key,
            psk: client.psk,
            name,
            policy,
            label: client.label.as_str().into(),
            enrolled: client.enrolled.into(),
            expires: client.terms.expires.into(),
            revoked: client.revoked.into(),
            one_time_code: client.terms.one_time_code.map(Box::new),
            replaces: client.terms.replaces.map(Box::new),
            seat: Seat::default(),
        }
    }

    /// Takes over what the file of the same key says now; says whether anything changed. What the gateway kept about
    /// the client is then dropped.
    pub(super) fn update(&mut self, client: &Client, policy: Arc<ClientPolicy>) -> bool {
        let code = client.terms.one_time_code.as_ref();
        let same = self.psk == client.psk
            && self.policy == policy
            && *self.label == *client.label.as_str()
            && self.enrolled == client.enrolled.into()
            && self.expires == client.terms.expires.into()
            && self.revoked == client.revoked.into()
            && self.one_time_code.as_deref() == code
            && self.replaces.as_deref() == client.terms.replaces.as_ref();
        if !same {
            self.psk = Psk::from_bytes(client.psk.expose());
            self.policy = policy;
            self.label = client.label.as_str().into();
            self.enrolled = client.enrolled.into();
            self.expires = client.terms.expires.into();
            self.revoked = client.revoked.into();
            self.one_time_code = code.map(|code| Box::new(code.duplicate()));
            self.replaces = client.terms.replaces.map(Box::new);
            self.seat = Seat::default();
        }
        !same
    }

    pub(super) fn standing(&self) -> Standing {
        match self.revoked.get() {
            Some(_) => Standing::Revoked,
            None => Standing::Active {
                until: self.expires.get(),
            },
        }
    }
}

/// An invite in memory.
#[derive(Debug)]
pub(super) struct InviteSlot {
    pub(super) stem: Arc<str>,
    pub(super) invite: Invite,
    pub(super) seat: Seat,
}

impl InviteSlot {
    pub(super) fn new(stem: Arc<str>, invite: Invite) -> Self {
        Self {
            stem,
            invite,
            seat: Seat::default(),
        }
    }

    /// Takes over what the file of the same key says now; says whether anything changed.
    pub(super) fn update(&mut self, invite: &Invite) -> bool {
        let changed = self.invite != *invite;
        if changed {
            self.invite = invite.duplicate();
        }
        changed
    }

    pub(super) const fn standing(&self) -> Standing {
        Standing::Active {
            until: Some(self.invite.ends),
        }
    }

    pub(super) fn role(&self) -> Role {
        Role::Invite {
            spent_by: self.invite.spent.as_ref().and_then(Spent::public_key),
        }
    }
}

/// Policies and lists of services, each kept once.
#[derive(Debug, Default)]
pub(super) struct Policies {
    known: HashSet<Arc<ClientPolicy>>,
    services: HashSet<Arc<[ServiceName]>>,
    after_prune: usize,
}

impl Policies {
    pub(super) fn intern(&mut self, policy: &ClientPolicy) -> Arc<ClientPolicy> {
        if let Some(known) = self.known.get(policy) {
            return known.clone();
        }
        let mut policy = policy.clone();
        match self.services.get(&*policy.services) {
            Some(known) => policy.services = known.clone(),
            None => drop(self.services.insert(policy.services.clone())),
        }
        let policy = Arc::new(policy);
        self.known.insert(policy.clone());
        policy
    }

    /// Forgets what nobody has any more.
    pub(super) fn prune(&mut self) {
        self.known.retain(|policy| Arc::strong_count(policy) > 1);
        self.services.retain(|services| Arc::strong_count(services) > 1);
        self.known.shrink_to_fit();
        self.after_prune = self.known.len();
    }

    /// The same, when it is worth looking at all of them.
    pub(super) fn prune_if_grown(&mut self) {
        if self.known.len() > 2 * self.after_prune + 16 {
            self.prune();
        }
    }
}

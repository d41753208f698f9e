//! What the daemon and the commands see of clients and invites.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use spa_proto::{PublicKey, Standing, UnixTime};

use super::broken::BrokenFile;
use super::slot::ClientSlot;
use super::{KeyDirectory, Kind, Place};
use crate::client::{ClientPolicy, OneTimeCode};
use crate::invites::{Invite, InviteState};

/// One client, lent.
#[derive(Clone, Copy, Debug)]
pub struct ClientView<'a>(&'a ClientSlot);

impl<'a> ClientView<'a> {
    /// Its public key.
    #[must_use]
    pub const fn public_key(self) -> &'a PublicKey {
        &self.0.key
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'a str {
        &self.0.name
    }

    /// A text for people; empty when there is none.
    #[must_use]
    pub fn label(self) -> &'a str {
        &self.0.label
    }

    /// What it may do.
    #[must_use]
    pub const fn policy(self) -> &'a Arc<ClientPolicy> {
        &self.0.policy
    }

    /// The secret of the one-time codes it must send.
    #[must_use]
    pub fn one_time_code(self) -> Option<&'a OneTimeCode> {
        self.0.one_time_code.as_deref()
    }

    /// The key of the client whose place it takes, after a rotation of the gateway's identity.
    #[must_use]
    pub fn replaces(self) -> Option<&'a PublicKey> {
        self.0.replaces.as_deref()
    }

    /// When it was enrolled.
    #[must_use]
    pub fn enrolled(self) -> Option<UnixTime> {
        self.0.enrolled.get()
    }

    /// When it ends by itself.
    #[must_use]
    pub fn expires(self) -> Option<UnixTime> {
        self.0.expires.get()
    }

    /// Since when it is taken away.
    #[must_use]
    pub fn revoked(self) -> Option<UnixTime> {
        self.0.revoked.get()
    }

    /// Whether its key is good, apart from the clock.
    #[must_use]
    pub fn standing(self) -> Standing {
        self.0.standing()
    }

    /// Whether its key is good at `now`.
    #[must_use]
    pub fn state(self, now: UnixTime) -> ClientState {
        match self.standing() {
            Standing::Revoked => ClientState::Revoked,
            Standing::Active { until: Some(until) } if now >= until => ClientState::Expired,
            Standing::Active { .. } => ClientState::Active,
        }
    }
}

/// Whether a client's key is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// Good.
    Active,
    /// Its end has come.
    Expired,
    /// Taken away.
    Revoked,
    /// Its file cannot be believed.
    Broken,
}

impl fmt::Display for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Broken => "broken",
        })
    }
}

/// How many clients there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whose key is good.
    pub active: usize,
    /// Whose end has come.
    pub expired: usize,
    /// Taken away.
    pub revoked: usize,
    /// Whose file cannot be believed.
    pub broken: usize,
}

impl KeyDirectory {
    /// The client with this key.
    #[must_use]
    pub fn client(&self, key: &PublicKey) -> Option<ClientView<'_>> {
        match *self.keys.get(key)? {
            Place::Client(at) => self.clients.get(at).map(ClientView),
            Place::Invite(_) => None,
        }
    }

    /// The client with this name.
    #[must_use]
    pub fn client_named(&self, name: &str) -> Option<ClientView<'_>> {
        self.clients.named(name).map(ClientView)
    }

    /// All clients whose files are whole, in no order.
    pub fn clients(&self) -> impl Iterator<Item = ClientView<'_>> {
        self.clients.iter().map(ClientView)
    }

    /// The invite with this key.
    #[must_use]
    pub fn invite(&self, key: &PublicKey) -> Option<&Invite> {
        match *self.keys.get(key)? {
            Place::Invite(at) => self.invites.get(at).map(|slot| &slot.invite),
            Place::Client(_) => None,
        }
    }

    /// All invites whose files are whole, in no order.
    pub fn invites(&self) -> impl Iterator<Item = &Invite> {
        self.invites.iter().map(|slot| &slot.invite)
    }

    /// All invites whose files are whole, with their files.
    pub fn invite_files(&self) -> impl Iterator<Item = (PathBuf, &Invite)> {
        let slots = self.invites.iter();
        slots.map(|slot| (self.path(&(Kind::Invite, slot.stem.clone())), &slot.invite))
    }

    /// The broken files with their names without `.toml`, in the order of their names.
    pub fn broken(&self) -> impl Iterator<Item = (Kind, &str, &BrokenFile)> {
        self.broken
            .files()
            .iter()
            .map(|((kind, stem), file)| (*kind, &**stem, file))
    }

    /// The broken file of one client.
    #[must_use]
    pub fn broken_client(&self, name: &str) -> Option<&BrokenFile> {
        self.broken.files().get(&(Kind::Client, name.into()))
    }

    /// Whether a client, whole or broken, or a live invite has this name.
    #[must_use]
    pub fn has_name(&self, name: &str, now: UnixTime) -> bool {
        let live = |invite: &Invite| invite.name.as_str() == name && invite.state(now) == InviteState::Live;
        self.client_named(name).is_some() || self.broken_client(name).is_some() || self.invites().any(live)
    }

    /// How many clients there are at `now`.
    #[must_use]
    pub fn counts(&self, now: UnixTime) -> Counts {
        let mut counts = Counts::default();
        for client in self.clients() {
            match client.state(now) {
                ClientState::Active => counts.active += 1,
                ClientState::Expired => counts.expired += 1,
                ClientState::Revoked => counts.revoked += 1,
                ClientState::Broken => counts.broken += 1,
            }
        }
        counts.broken += self.broken().filter(|(kind, ..)| *kind == Kind::Client).count();
        counts
    }

    /// How many clients there are, whatever their state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len() + self.broken().filter(|(kind, ..)| *kind == Kind::Client).count()
    }

    /// Whether there is no client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

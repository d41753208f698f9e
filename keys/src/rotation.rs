//! Who has moved to a gateway's newest identity, and who would be shut out without an older one. Pure.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use spa_proto::{PublicKey, UnixTime};

use crate::directory::{ClientState, ClientView, KeyDirectory};
use crate::invites::{Invite, InviteState};
use crate::text::fingerprint;

mod name;

pub use name::{next_name, taken_names};

/// How long ago a knock still shows that its sender needs an identity.
pub const RECENT: Duration = Duration::from_hours(30 * 24);

/// A client's last knock: when, and for which gateway identity it was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, by the gateway's clock, in whole seconds.
    pub at: UnixTime,
    /// The identity's fingerprint.
    pub identity: String,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It knocks with the newest identity, or was enrolled with it.
    Moved,
    /// The client that takes its place has knocked since.
    Replaced,
    /// The client that takes its place is enrolled and has not knocked yet.
    Enrolled,
    /// An invite for the client that will take its place waits to be used.
    Invited,
    /// Nothing of that.
    Lagging,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Moved => "moved",
            Self::Replaced => "replaced",
            Self::Enrolled => "enrolled",
            Self::Invited => "invited",
            Self::Lagging => "lagging",
        })
    }
}

/// The clients of a gateway, their last knocks, and the time.
pub struct Rotation<'a> {
    now: UnixTime,
    /// Since when the record remembers knocks: a client that has none since may have knocked before.
    since: UnixTime,
    active: Vec<ClientView<'a>>,
    seen: HashMap<PublicKey, Seen>,
    /// By the key of the old client.
    successors: HashMap<PublicKey, ClientView<'a>>,
    /// Live invites.
    live: Vec<&'a Invite>,
    invited: HashMap<PublicKey, &'a Invite>,
    /// The identity in the invite by which a key was enrolled.
    enrolled_with: HashMap<PublicKey, PublicKey>,
}

impl<'a> Rotation<'a> {
    /// Looks through the clients and invites, with what is known of last knocks `since` a time.
    #[must_use]
    pub fn new(directory: &'a KeyDirectory, seen: HashMap<PublicKey, Seen>, since: UnixTime, now: UnixTime) -> Self {
        let active = directory
            .clients()
            .filter(|view| view.state(now) == ClientState::Active);
        let mut active: Vec<_> = active.collect();
        active.sort_unstable_by_key(|view| view.name());
        let live: Vec<_> = directory
            .invites()
            .filter(|invite| invite.state(now) == InviteState::Live)
            .collect();
        let replaces = |invite: &&'a Invite| Some((invite.terms.replaces?, *invite));
        let with = |invite: &Invite| Some((invite.spent.as_ref()?.public_key()?, invite.gateway?));
        Self {
            now,
            since,
            successors: successors(&active, &seen),
            invited: live.iter().filter_map(replaces).collect(),
            enrolled_with: directory.invites().filter_map(with).collect(),
            active,
            seen,
            live,
        }
    }

    /// The active clients in the order of their names.
    #[must_use]
    pub fn active(&self) -> &[ClientView<'a>] {
        &self.active
    }

    /// A client's last knock.
    #[must_use]
    pub fn seen(&self, client: ClientView<'_>) -> Option<&Seen> {
        self.seen.get(client.public_key())
    }

    /// Who took a client's place: of several, who knocked last.
    #[must_use]
    pub fn successor(&self, client: ClientView<'_>) -> Option<ClientView<'a>> {
        self.successors.get(client.public_key()).copied()
    }

    /// The live invite of who will take a client's place.
    #[must_use]
    pub fn invited(&self, client: ClientView<'_>) -> Option<&'a Invite> {
        self.invited.get(client.public_key()).copied()
    }

    /// The fingerprint of the identity that a client has shown that it knows: by its last knock, else by the invite
    /// that made it.
    #[must_use]
    pub fn identity_of(&self, client: ClientView<'_>) -> Option<String> {
        let knocked = self.seen(client).map(|seen| seen.identity.clone());
        knocked.or_else(|| self.enrolled_with.get(client.public_key()).map(fingerprint))
    }

    /// How far a client is on its way to `newest`.
    #[must_use]
    pub fn progress(&self, client: ClientView<'_>, newest: &str) -> Progress {
        if self.identity_of(client).as_deref() == Some(newest) {
            return Progress::Moved;
        }
        match self.successor(client) {
            Some(_) if self.is_replaced(client) => Progress::Replaced,
            Some(_) => Progress::Enrolled,
            None if self.invited(client).is_some() => Progress::Invited,
            None => Progress::Lagging,
        }
    }

    /// Whether who took its place has knocked, no earlier than the client itself did and for another identity.
    #[must_use]
    pub fn is_replaced(&self, client: ClientView<'_>) -> bool {
        let after = self.successor(client).and_then(|successor| self.seen(successor));
        let later = |after: &Seen, own: &Seen| after.at >= own.at && after.identity != own.identity;
        after.is_some_and(|after| self.seen(client).is_none_or(|own| later(after, own)))
    }

    /// The active clients that may need the identity `old`: those that have neither shown that they know another one nor
    /// been replaced. A client for emergencies may have been silent for years.
    #[must_use]
    pub fn needs(&self, old: &str) -> Vec<ClientView<'a>> {
        let may_need = |client: &ClientView<'a>| !self.is_replaced(*client) && self.may_need(*client, old);
        self.active.iter().copied().filter(may_need).collect()
    }

    fn may_need(&self, client: ClientView<'_>, old: &str) -> bool {
        let knows_another = self.identity_of(client).is_some_and(|identity| identity != old);
        !knows_another && (self.successor(client).is_none() || self.is_recent(client))
    }

    /// Whether a client whose successor is enrolled knocked within 30 days, or has not knocked since the record began,
    /// or since it was enrolled, if that is less than 30 days ago.
    fn is_recent(&self, client: ClientView<'_>) -> bool {
        let recent = |at: UnixTime| at.saturating_add(RECENT) > self.now;
        let silent = || recent(self.since) || client.enrolled().is_none_or(recent);
        self.seen(client).map_or_else(silent, |seen| recent(seen.at))
    }

    /// The live invites whose text carries the identity `old`, or does not say which.
    #[must_use]
    pub fn invites_with(&self, old: &PublicKey) -> Vec<&'a Invite> {
        let carries = |invite: &&Invite| invite.gateway.is_none_or(|gateway| gateway == *old);
        self.live.iter().copied().filter(carries).collect()
    }
}

fn successors<'a>(active: &[ClientView<'a>], seen: &HashMap<PublicKey, Seen>) -> HashMap<PublicKey, ClientView<'a>> {
    let last = |client: &ClientView<'_>| seen.get(client.public_key()).map(|seen| seen.at);
    let mut rising: Vec<_> = active
        .iter()
        .filter_map(|client| Some((*client.replaces()?, *client)))
        // Nobody takes its own place.
        .filter(|(old, client)| old != client.public_key())
        .collect();
    rising.sort_by_key(|(_, client)| (last(client), client.enrolled()));
    rising.into_iter().collect()
}

#[cfg(test)]
mod tests;

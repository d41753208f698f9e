//! Who has moved to a gateway's newest identity, and who would be shut out without an older one. Pure.

use std::fmt;
use std::time::Duration;

use spa_proto::{PublicKey, UnixTime};

use crate::directory::{ClientState, ClientView, KeyDirectory};
use crate::invites::{Invite, InviteState};
use crate::name::ClientName;
use crate::text::fingerprint;

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
pub struct Rotation<'a, F> {
    /// The clients and invites.
    pub directory: &'a KeyDirectory,
    /// A client's last knock.
    pub seen: F,
    /// Now.
    pub now: UnixTime,
}

impl<'a, F: Fn(&PublicKey) -> Option<Seen>> Rotation<'a, F> {
    /// The active clients in the order of their names.
    pub fn active(&self) -> Vec<ClientView<'a>> {
        let active = self
            .directory
            .clients()
            .filter(|view| view.state(self.now) == ClientState::Active);
        let mut active: Vec<_> = active.collect();
        active.sort_unstable_by_key(|view| view.name());
        active
    }

    /// Who took a client's place, or will: the newest name.
    pub fn successor(&self, name: &str) -> Option<ClientView<'a>> {
        self.active()
            .into_iter()
            .rev()
            .find(|view| view.replaces() == Some(name))
    }

    /// The live invite of who will take a client's place.
    pub fn invited(&self, name: &str) -> Option<&'a Invite> {
        let replaces = |invite: &&Invite| invite.terms.replaces.as_ref().is_some_and(|old| old.as_str() == name);
        let live = |invite: &&Invite| invite.state(self.now) == InviteState::Live;
        self.directory.invites().find(|invite| live(invite) && replaces(invite))
    }

    /// The fingerprint of the identity that a client has shown that it knows: by its last knock, else by the invite that made it.
    pub fn identity_of(&self, client: ClientView<'_>) -> Option<String> {
        let key = client.public_key();
        let spent_by = |invite: &&Invite| invite.spent.as_ref().and_then(crate::Spent::public_key) == Some(*key);
        let knocked = (self.seen)(key).map(|seen| seen.identity);
        knocked.or_else(|| {
            let gateway = self.directory.invites().find(spent_by)?.gateway?;
            Some(fingerprint(&gateway))
        })
    }

    /// How far a client is on its way to `newest`.
    pub fn progress(&self, client: ClientView<'_>, newest: &str) -> Progress {
        if self.identity_of(client).as_deref() == Some(newest) {
            return Progress::Moved;
        }
        match self.successor(client.name()) {
            Some(_) if self.is_replaced(client) => Progress::Replaced,
            Some(_) => Progress::Enrolled,
            None if self.invited(client.name()).is_some() => Progress::Invited,
            None => Progress::Lagging,
        }
    }

    /// Whether who took its place has knocked, no earlier than the client itself did and for another identity.
    pub fn is_replaced(&self, client: ClientView<'_>) -> bool {
        let own = (self.seen)(client.public_key());
        let after = |successor: ClientView<'_>| (self.seen)(successor.public_key());
        self.successor(client.name())
            .and_then(after)
            .is_some_and(|after| own.is_none_or(|own| after.at >= own.at && after.identity != own.identity))
    }

    /// The active clients that may need the identity `old` and have not been replaced.
    pub fn needs(&self, old: &str) -> Vec<ClientView<'a>> {
        let mut active = self.active();
        active.retain(|client| !self.is_replaced(*client) && self.may_need(*client, old));
        active
    }

    /// Who knocked with it within 30 days; and who was enrolled within 30 days and has not shown another one.
    fn may_need(&self, client: ClientView<'_>, old: &str) -> bool {
        let recent = |at: UnixTime| at.saturating_add(RECENT) > self.now;
        match (self.identity_of(client), (self.seen)(client.public_key())) {
            (Some(identity), Some(seen)) => identity == old && recent(seen.at),
            (Some(identity), None) => identity == old && client.enrolled().is_none_or(recent),
            (None, _) => client.enrolled().is_none_or(recent),
        }
    }

    /// The live invites whose text carries the identity `old`, or does not say which.
    pub fn invites_with(&self, old: &PublicKey) -> Vec<&'a Invite> {
        let carries = |invite: &&Invite| invite.gateway.is_none_or(|gateway| gateway == *old);
        let live = self
            .directory
            .invites()
            .filter(|invite| invite.state(self.now) == InviteState::Live);
        live.filter(carries).collect()
    }

    /// The name of who takes a client's place: `alice` → `alice.2` → `alice.3`, the first that is free.
    pub fn next_name(&self, name: &str) -> Option<ClientName> {
        let (base, number) = split_number(name);
        (number + 1..number + 10_000)
            .filter_map(|number| numbered(base, number))
            .find(|name| !self.directory.has_name(name.as_str(), self.now))
    }
}

/// `alice.2` is the second alice; `alice` the first.
fn split_number(name: &str) -> (&str, u32) {
    let numbered = name.rsplit_once('.').and_then(|(base, digits)| {
        let number = digits
            .parse::<u32>()
            .ok()
            .filter(|number| *number >= 2 && number.to_string() == digits)?;
        (number < 1_000_000).then_some((base, number))
    });
    numbered.filter(|(base, _)| !base.is_empty()).unwrap_or((name, 1))
}

/// Cut where it would be too long.
fn numbered(base: &str, number: u32) -> Option<ClientName> {
    let ending = format!(".{number}");
    let room = ClientName::MOST - ending.len();
    format!("{}{ending}", base.get(..room.min(base.len()))?).parse().ok()
}

#[cfg(test)]
mod tests;

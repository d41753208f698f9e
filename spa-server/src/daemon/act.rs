//! What is done once the record is durable: doors open and shut.

use std::time::Duration;

use tracing::{info, warn};

use super::Daemon;
use super::audit::Ending;
use super::knocks::{Action, Who};
use crate::audit::How;
use crate::backend::{Door, Opening};
use crate::clock;
use crate::grant::{Grant, GrantKey, Holder};
use crate::refusals::{Reason, Refused};

impl Daemon {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Open {
                who,
                door,
                end,
                is_renewed,
            } => self.open(&who, door, end, is_renewed),
            Action::Close { who, door, how } => {
                let (client, address, source) = (&who.name, who.address, who.source.ip().to_canonical());
                let verb = self.verb("closed", "would close");
                info!(client, %source, %address, service = door.service, "{verb}");
                self.audit_left(&who, &who.grant(&door.service), door.opened, how);
                self.shut(&door);
            }
        }
    }

    fn open(&mut self, who: &Who, door: Door, end: Duration, is_renewed: bool) {
        let now = clock::now();
        let latest = self.grants.holder(&door).map_or(end, |holder| holder.end);
        let remaining = latest.saturating_sub(now.uptime);
        let opening = Opening {
            door,
            client: Some(who.name.clone()),
            remaining,
        };
        // Before the door opens: what a ban holds back would not come to it.
        self.let_in(opening.door.opened, "it has a grant");
        let outcome = self.partner.open(&opening);
        let (client, address, source) = (&who.name, who.address, who.source.ip().to_canonical());
        let Door { service, opened } = &opening.door;
        match outcome {
            Ok(()) => {
                let until = spa_keys::units::format_time(now.wall.saturating_add(end.saturating_sub(now.uptime)));
                let verb = self.verb("opened", "would open");
                let key = spa_keys::text::fingerprint(&who.key);
                info!(client, key, %source, %address, service, %opened, until, "{verb}");
                self.audit_opened(who, &who.grant(service), end, is_renewed);
            }
            Err(error) => {
                let refused = Refused::new(now.wall, Some(who.source), Reason::Backend, error.to_string());
                self.refused(refused.of(Some(who.name.clone())));
                let key = who.grant(service);
                self.end_grants(How::NotOpened, |ended, _| *ended == key);
            }
        }
    }

    /// The word for what was done, or in a dry run would be.
    pub(super) fn verb(&self, done: &'static str, would: &'static str) -> &'static str {
        if self.dry_run { would } else { done }
    }

    /// Brings a door to the state that the remaining grants give it.
    pub(super) fn shut(&mut self, door: &Door) {
        // A failure has been reported; the kernel ends what could not be closed.
        let _ = if let Some(Holder { end, client }) = self.grants.holder(door) {
            let client = client.and_then(|key| Some(self.keys.client(&key)?.name().to_string()));
            let remaining = end.saturating_sub(clock::uptime());
            self.partner.open(&Opening {
                door: door.clone(),
                client,
                remaining,
            })
        } else {
            let others: Vec<_> = self.grants.opened(&door.service).collect();
            self.partner.close(door, &others)
        };
    }

    /// Ends every live grant that `unwanted` picks, durably, and shuts what nobody else holds open.
    pub(super) fn end_grants(
        &mut self,
        why: impl Into<Ending>,
        unwanted: impl FnMut(&GrantKey, &Grant) -> bool,
    ) -> usize {
        let ended = self.grants.end_where(clock::uptime(), unwanted);
        self.follow_ends(why.into(), &ended);
        if let Err(error) = self.journal.commit() {
            warn!("the end of a grant could not be recorded: {error}");
        }
        ended.len()
    }

    /// Ends every live grant whose time is over. The record has known that end since the grant began: that it is past is
    /// written down with the next commit, and needs none of its own.
    pub(super) fn end_due_grants(&mut self, now: Duration) {
        let ended = self.grants.expire(now);
        self.follow_ends(How::Expired.into(), &ended);
    }

    fn follow_ends(&mut self, why: Ending, ended: &[GrantKey]) {
        let mut doors = Vec::new();
        for key in ended {
            self.owe_grant(key);
            if let Some(grant) = self.grants.get(key) {
                doors.push(grant.door(key));
            }
            let client = key
                .client
                .and_then(|client| Some(self.keys.client(&client)?.name().to_string()));
            let verb = self.verb("ended", "would end");
            info!(client, address = %key.address, service = key.service, "{verb}: {}", why.how);
            self.audit_ended(key, why);
        }
        // A door that shuts does not wait for the disk: its end stays owed to the record.
        for door in &doors {
            self.shut(door);
        }
    }
}

//! Step 9 in memory: what a knock changes in the table of grants, staged for the commit.

use std::time::Duration;

use spa_keys::directory::ClientView;
use spa_keys::state::{Change, GrantRow};
use spa_proto::{Moment, PublicKey, UnixTime};

use super::Daemon;
use super::knocks::{Action, Batch, Who};
use crate::audit::How;
use crate::backend::Door;
use crate::grant::{Grant, GrantKey, MOST_GRANTS, Terms};
use crate::policy;
use crate::refusals::Reason;

impl Daemon {
    pub(super) fn stage_open(
        &mut self,
        now: Moment,
        who: &Who,
        service: &str,
        terms: &Terms,
        timestamp: UnixTime,
        batch: &mut Batch,
    ) -> Result<(), (Reason, String)> {
        let (key, before) = self.place(who, service)?;
        let terms = Terms {
            duration: self.until_expiry(&who.key, now.wall, terms.duration),
            ..terms.clone()
        };
        let moved = self.grants.open(&key, &terms, timestamp, now.wall, now.uptime);
        let moved = moved.map_err(|_| older(service))?;
        let is_renewed = moved.is_none() && before.as_ref().is_some_and(|before| before.end.is_some());
        if let Some(door) = moved {
            batch.actions.push(Action::Close {
                who: who.clone(),
                door,
                how: How::Replaced,
            });
        }
        let door = Door {
            service: service.into(),
            opened: terms.opened,
        };
        batch.actions.push(Action::Open {
            who: who.clone(),
            door,
            end: now.uptime + terms.duration,
            is_renewed,
        });
        self.stage_grant(&key);
        batch.undo.push((key.clone(), before));
        if self.keys.client(&who.key).is_some_and(|view| view.policy().roam) {
            self.stage_leave(now, who, &key, timestamp, batch);
        }
        Ok(())
    }

    /// A client that roams leaves its earlier addresses of the same family behind.
    fn stage_leave(&mut self, now: Moment, who: &Who, here: &GrantKey, timestamp: UnixTime, batch: &mut Batch) {
        for key in self.grants.elsewhere(here) {
            let before = self.grants.get(&key).cloned();
            // A grant that a later request changed is not left because of this one.
            if let Ok(Some(door)) = self.grants.close(&key, timestamp, now.wall, now.uptime) {
                let who = Who {
                    address: key.address,
                    ..who.clone()
                };
                batch.actions.push(Action::Close {
                    who,
                    door,
                    how: How::Roamed,
                });
                self.stage_grant(&key);
                batch.undo.push((key, before));
            }
        }
    }

    /// The grant that is meant, and as it is now.
    fn place(&self, who: &Who, service: &str) -> Result<(GrantKey, Option<Grant>), (Reason, String)> {
        let key = who.grant(service);
        let before = self.grants.get(&key).cloned();
        if before.is_none() && self.grants.count_of(&who.key) >= MOST_GRANTS {
            return Err((Reason::Policy, format!("the client has {MOST_GRANTS} grants already")));
        }
        Ok((key, before))
    }

    pub(super) fn stage_close(
        &mut self,
        now: Moment,
        who: &Who,
        service: &str,
        timestamp: UnixTime,
        batch: &mut Batch,
    ) -> Result<(), (Reason, String)> {
        let (key, before) = self.place(who, service)?;
        let door = self
            .grants
            .close(&key, timestamp, now.wall, now.uptime)
            .map_err(|_| older(service))?;
        if let Some(door) = door {
            batch.actions.push(Action::Close {
                who: who.clone(),
                door,
                how: How::Closed,
            });
        }
        self.stage_grant(&key);
        batch.undo.push((key, before));
        Ok(())
    }

    /// A grant never outlasts its client.
    pub(super) fn until_expiry(&self, client: &PublicKey, wall: UnixTime, duration: Duration) -> Duration {
        let expires = self.keys.client(client).and_then(ClientView::expires);
        policy::until_expiry(expires, wall, duration)
    }

    /// Stages a grant as the table now has it.
    pub(super) fn stage_grant(&mut self, key: &GrantKey) {
        if let Some(grant) = self.grants.get(key) {
            let row = row(key, grant, &self.boot_id);
            self.journal.stage(Change::Grant(row));
        }
    }

    /// The same for an end, which holds whatever the disk says.
    pub(super) fn owe_grant(&mut self, key: &GrantKey) {
        if let Some(grant) = self.grants.get(key) {
            let row = row(key, grant, &self.boot_id);
            self.journal.owe(Change::Grant(row));
        }
    }
}

fn older(service: &str) -> (Reason, String) {
    (
        Reason::Older,
        format!("a later request has changed the grant for {service} already"),
    )
}

/// A grant as it is written.
pub(super) fn row(key: &GrantKey, grant: &Grant, boot_id: &str) -> GrantRow {
    GrantRow {
        client: key.client,
        address: key.address,
        service: key.service.clone(),
        opened: grant.opened,
        since: grant.since,
        changed: grant.changed,
        end_boottime: grant.end.map(|end| u64::try_from(end.as_nanos()).unwrap_or(u64::MAX)),
        boot_id: boot_id.into(),
    }
}

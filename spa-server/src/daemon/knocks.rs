//! Datagrams → grants: judged, made durable together, then acted upon (steps 4 to 9).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use spa_keys::directory::ClientView;
use spa_keys::state::{Change, GrantRow, LastKnock};
use spa_proto::{
    Act, Address, Claim, Code, Datagram, DropReason, EnrollError, Knock, Moment, PublicKey, Refusal, Request,
    ServiceName, UnixTime,
};
use tracing::{info, warn};

use super::Daemon;
use crate::backend::{Door, Opening};
use crate::capture::{Candidate, Sample};
use crate::clock;
use crate::grant::{Grant, GrantKey, Terms};
use crate::policy::{self, Decision};
use crate::refusals::{Reason, Refused};

/// The most grants of one client that are live or remembered: nobody makes the gateway's memory his own.
const MOST_GRANTS: usize = 1024;

/// What is to be done once the record is durable.
pub(super) enum Action {
    Open { who: Who, door: Door, end: Duration },
    Close { who: Who, door: Door },
}

/// Whose act it is, for the log.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) name: String,
    pub(super) key: PublicKey,
    pub(super) source: SocketAddr,
    pub(super) address: IpAddr,
}

/// Everything that one commit makes durable, and how to take it back.
#[derive(Default)]
pub(super) struct Batch {
    actions: Vec<Action>,
    undo: Vec<(GrantKey, Option<Grant>)>,
    counted: Vec<Counted>,
}

/// An accepted knock, counted when it is durable.
struct Counted {
    who: Who,
    closes: bool,
}

impl Daemon {
    /// Judges what has come, in its order, with one commit for all of it.
    pub(super) fn on_candidates(&mut self, candidates: Vec<Candidate>) {
        let mut batch = Batch::default();
        for candidate in candidates {
            let now = clock::now();
            match self.judge(now, &candidate) {
                Ok(knock) if matches!(knock.request().act, Act::Enroll(_)) => {
                    // An enrollment stands alone: what comes after it may be judged by it.
                    self.settle(std::mem::take(&mut batch));
                    self.enroll(now, knock);
                }
                Ok(knock) => self.decide(now, &knock, &mut batch),
                Err(refusal) => self.refuse(now, candidate.source, &refusal),
            }
        }
        self.settle(batch);
    }

    fn judge(&mut self, now: Moment, candidate: &Candidate) -> Result<Knock, Refusal> {
        let Candidate {
            source,
            destination,
            payload,
        } = candidate;
        let datagram = Datagram {
            source: *source,
            destination: *destination,
            payload,
        };
        self.gateway.handle(now, &datagram, &mut self.keys, &mut self.journal)
    }

    /// Step 8, then the table of step 9; nothing is done before the commit.
    fn decide(&mut self, now: Moment, knock: &Knock, batch: &mut Batch) {
        let Request { timestamp, code, act } = knock.request();
        let (address, services, duration_s) = match act {
            Act::Open {
                address,
                duration_s,
                services,
            } => (*address, services, Some(*duration_s)),
            Act::Close { address, services } => (*address, services, None),
            Act::Enroll(_) => return,
        };
        let source = knock.source().ip().to_canonical();
        let decision = self.terms(knock.client(), *code, address, source, services, duration_s);
        let (name, decision) = match decision {
            Ok(decision) => decision,
            Err((name, reason, detail)) => {
                return self.refused(Refused::new(now.wall, Some(knock.source()), reason, detail).of(name));
            }
        };
        let who = Who {
            name,
            key: *knock.client(),
            source: knock.source(),
            address: decision.address,
        };
        for (service, why) in &decision.left_out {
            warn!(client = who.name, source = %source, service = %service, "left out: {service} {why}");
        }
        let gateway = *knock.gateway();
        self.journal.stage(Change::Knock(
            who.key,
            LastKnock {
                at: now.wall,
                address: source,
                gateway,
            },
        ));
        let mut accepted = 0;
        for (service, terms) in &decision.granted {
            let outcome = match duration_s {
                Some(_) => self.stage_open(now, &who, service, terms, *timestamp, batch),
                None => self.stage_close(now, &who, service, *timestamp, batch),
            };
            match outcome {
                Ok(()) => accepted += 1,
                Err((reason, detail)) => {
                    let refused = Refused::new(now.wall, Some(who.source), reason, detail);
                    self.refused(refused.of(Some(who.name.clone())));
                }
            }
        }
        if accepted > 0 {
            batch.counted.push(Counted {
                who,
                closes: duration_s.is_none(),
            });
        }
    }

    /// What the policy makes of it, with the client's name.
    fn terms(
        &self,
        client: &PublicKey,
        code: Option<Code>,
        address: Address,
        source: IpAddr,
        services: &[ServiceName],
        duration_s: Option<u32>,
    ) -> Result<(String, Decision), (Option<String>, Reason, String)> {
        let Some(view) = self.keys.client(client) else {
            return Err((None, Reason::Who, "the client was taken away meanwhile".into()));
        };
        let name = view.name().to_string();
        // Whoever demands a code must not be opened for without one, also where codes cannot be checked yet.
        if view.one_time_code().is_some() && duration_s.is_some() {
            let given = if code.is_some() {
                "cannot be checked by this version"
            } else {
                "is missing"
            };
            return Err((Some(name), Reason::Code, format!("the one-time code {given}")));
        }
        let decision = policy::decide(
            &self.config.services,
            view.policy(),
            address,
            source,
            services,
            duration_s.unwrap_or(0),
        );
        match decision {
            Ok(decision) => Ok((name, decision)),
            Err(error) => Err((Some(name), Reason::Policy, error.to_string())),
        }
    }

    fn stage_open(
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
        if let Some(door) = moved {
            batch.actions.push(Action::Close { who: who.clone(), door });
        }
        let door = Door {
            service: service.into(),
            opened: terms.opened,
        };
        batch.actions.push(Action::Open {
            who: who.clone(),
            door,
            end: now.uptime + terms.duration,
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
                batch.actions.push(Action::Close { who, door });
                self.stage_grant(&key);
                batch.undo.push((key, before));
            }
        }
    }

    /// The grant that is meant, and as it is now.
    fn place(&self, who: &Who, service: &str) -> Result<(GrantKey, Option<Grant>), (Reason, String)> {
        let key = GrantKey {
            client: Some(who.key),
            address: who.address,
            service: service.into(),
        };
        let before = self.grants.get(&key).cloned();
        if before.is_none() && self.grants.count_of(&who.key) >= MOST_GRANTS {
            return Err((Reason::Policy, format!("the client has {MOST_GRANTS} grants already")));
        }
        Ok((key, before))
    }

    fn stage_close(
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
            batch.actions.push(Action::Close { who: who.clone(), door });
        }
        self.stage_grant(&key);
        batch.undo.push((key, before));
        Ok(())
    }

    /// A grant never outlasts its client.
    pub(super) fn until_expiry(&self, client: &PublicKey, wall: UnixTime, duration: Duration) -> Duration {
        let expires = self.keys.client(client).and_then(ClientView::expires);
        expires.map_or(duration, |expires| {
            if expires > wall {
                duration.min(expires.distance(wall))
            } else {
                Duration::ZERO
            }
        })
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

    /// Makes a batch durable and then acts on it; or takes it back.
    pub(super) fn settle(&mut self, batch: Batch) {
        if self.journal.is_clean() {
            return;
        }
        if let Err(error) = self.journal.commit() {
            return self.take_back(batch, &error.to_string());
        }
        for counted in &batch.counted {
            *(if counted.closes {
                &mut self.accepted.close
            } else {
                &mut self.accepted.open
            }) += 1;
        }
        for action in batch.actions {
            self.act(action);
        }
    }

    /// What was opened is taken back. What was closed stays closed: that needs no record to be safe.
    fn take_back(&mut self, batch: Batch, why: &str) {
        let mut shut = Vec::new();
        for (key, before) in batch.undo.into_iter().rev() {
            if self.grants.get(&key).is_some_and(|grant| grant.end.is_none())
                && before.as_ref() != self.grants.get(&key)
            {
                self.owe_grant(&key);
                shut.extend(
                    before
                        .filter(|before| before.end.is_some())
                        .map(|before| before.door(&key)),
                );
            } else {
                self.grants.put(key, before);
            }
        }
        for door in &shut {
            self.shut(door);
        }
        for Counted { who, closes } in batch.counted {
            let what = if closes {
                "closed, but not recorded"
            } else {
                "not recorded, so not opened"
            };
            let detail = format!("{what}: {why}");
            let refused = Refused::new(clock::wall(), Some(who.source), Reason::Record, detail);
            self.refused(refused.of(Some(who.name)));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Open { who, door, end } => self.open(&who, door, end),
            Action::Close { who, door } => {
                let (client, address, source) = (&who.name, who.address, who.source.ip().to_canonical());
                let verb = self.verb("closed", "would close");
                info!(client, %source, %address, service = door.service, "{verb}");
                self.shut(&door);
            }
        }
    }

    fn open(&mut self, who: &Who, door: Door, end: Duration) {
        let now = clock::now();
        let latest = self.grants.door_end(&door).unwrap_or(end);
        let remaining = latest.saturating_sub(now.uptime);
        let opening = Opening {
            door,
            client: Some(who.name.clone()),
            remaining,
        };
        let outcome = self.doors.open(&opening);
        let (client, address, source) = (&who.name, who.address, who.source.ip().to_canonical());
        let Door { service, opened } = &opening.door;
        match outcome {
            Ok(()) => {
                let until = spa_keys::units::format_time(now.wall.saturating_add(end.saturating_sub(now.uptime)));
                let verb = self.verb("opened", "would open");
                info!(client, %source, %address, service, %opened, until, "{verb}");
            }
            Err(error) => {
                let refused = Refused::new(now.wall, Some(who.source), Reason::Backend, error.to_string());
                self.refused(refused.of(Some(who.name.clone())));
                let key = GrantKey {
                    client: Some(who.key),
                    address,
                    service: service.clone(),
                };
                self.end_grants("it could not be opened", |ended, _| *ended == key);
            }
        }
    }

    /// The word for what was done, or in a dry run would be.
    pub(super) fn verb(&self, done: &'static str, would: &'static str) -> &'static str {
        if self.dry_run { would } else { done }
    }

    /// Brings a door to the state that the remaining grants give it.
    pub(super) fn shut(&mut self, door: &Door) {
        let doors = self.grants.doors();
        // A failure has been reported; the kernel ends what could not be closed.
        let _ = if let Some((end, client)) = doors.get(door) {
            let client = client.and_then(|key| Some(self.keys.client(&key)?.name().to_string()));
            let remaining = end.saturating_sub(clock::uptime());
            self.doors.open(&Opening {
                door: door.clone(),
                client,
                remaining,
            })
        } else {
            let others = doors.keys().filter(|other| other.service == door.service);
            self.doors
                .close(door, &others.map(|other| other.opened).collect::<Vec<_>>())
        };
    }

    /// Ends every live grant that `unwanted` picks, durably, and shuts what nobody else holds open.
    pub(super) fn end_grants(&mut self, why: &str, unwanted: impl FnMut(&GrantKey, &Grant) -> bool) -> usize {
        let now = clock::uptime();
        let ended = self.grants.end_where(now, unwanted);
        let mut doors = Vec::new();
        for key in &ended {
            self.owe_grant(key);
            if let Some(grant) = self.grants.get(key) {
                doors.push(grant.door(key));
            }
            let client = key
                .client
                .and_then(|client| Some(self.keys.client(&client)?.name().to_string()));
            let verb = self.verb("ended", "would end");
            info!(client, address = %key.address, service = key.service, "{verb}: {why}");
        }
        // A door that shuts does not wait for the disk: its end stays owed to the record.
        for door in &doors {
            self.shut(door);
        }
        if let Err(error) = self.journal.commit() {
            warn!("the end of a grant could not be recorded: {error}");
        }
        ended.len()
    }

    fn refuse(&mut self, now: Moment, source: SocketAddr, refusal: &Refusal) {
        let client = match &refusal.claim {
            Claim::Proven(key) => self.name_of(key),
            Claim::Nobody => None,
        };
        let reason = Reason::from(&refusal.reason);
        let detail = match (&refusal.reason, &refusal.claim) {
            (DropReason::Enroll(EnrollError::Spent), Claim::Proven(invite)) => self.say_raced(invite, source),
            _ => refusal.reason.to_string(),
        };
        // Two copies that came together: the capture thread could not know the first of them yet.
        if refusal.reason == (DropReason::Copy { forwarded: true }) {
            self.capture.counters().forwarded.fetch_add(1, Relaxed);
        }
        let refused = Refused::new(now.wall, Some(source), reason, detail);
        self.refused(refused.of(client).off(refusal.reason.difference_s()));
    }

    /// The name of a client, or of the one that an invite is for.
    pub(super) fn name_of(&self, key: &PublicKey) -> Option<String> {
        let client = self.keys.client(key).map(|view| view.name().to_string());
        client.or_else(|| Some(self.keys.invite(key)?.name.to_string()))
    }

    /// Counts, keeps and logs a refusal.
    pub(super) fn refused(&mut self, refused: Refused) {
        self.log_limit.log(&refused, clock::uptime());
        self.refusals.add(refused);
    }

    /// Keeps and logs a refusal that a capture thread has counted.
    pub(super) fn note_sample(&mut self, sample: &Sample) {
        let detail = sample.reason.to_string();
        let refused = Refused::new(clock::wall(), sample.source, Reason::from(&sample.reason), detail);
        self.log_limit.log(&refused, clock::uptime());
        self.refusals.keep(refused);
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

/// A bound on the log's lines about refusals; counts are kept all the same.
#[derive(Default)]
pub(super) struct LogLimit {
    since: Duration,
    lines: u32,
    held_back: u64,
}

impl LogLimit {
    const LINES_PER_SECOND: u32 = 20;

    fn log(&mut self, refused: &Refused, now: Duration) {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            if self.held_back > 0 {
                warn!(
                    held_back = self.held_back,
                    "more was refused than is logged; status counts all of it"
                );
            }
            *self = Self {
                since: now,
                lines: 0,
                held_back: 0,
            };
        }
        self.lines += 1;
        if self.lines > Self::LINES_PER_SECOND {
            self.held_back += 1;
            return;
        }
        let Refused {
            client,
            source,
            difference_s,
            detail,
            ..
        } = refused;
        let (source, reason, step) = (source.as_deref().unwrap_or("-"), refused.reason.name(), refused.step);
        if let Some(client) = client {
            warn!(client, source, reason, step, difference_s, "refused: {detail}");
        } else {
            info!(source, reason, step, "refused: {detail}");
        }
    }
}

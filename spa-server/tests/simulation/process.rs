//! The daemon's way from a batch of datagrams to doors, without what waits or talks: `daemon/knocks.rs`,
//! `daemon/upkeep.rs` and `daemon/start.rs` once more, in their order.

use std::net::SocketAddr;
use std::time::Duration;

use spa_keys::client::ClientPolicy;
use spa_keys::state::{Change, GrantRow};
use spa_proto::{
    Act, Datagram, DropReason, Gateway, Identity, KeyTable, Knock, Listen, Moment, Psk, PublicKey, Role, Sieve,
    Standing,
};
use spa_server::backend::Door;
use spa_server::config::Service;
use spa_server::grant::{Grant, GrantKey, GrantTable, Terms};
use spa_server::policy;

use crate::disk::{Committed, Disk, Fate, Record};
use crate::kernel::Kernel;
use crate::people::{Person, services};

pub const PORT: u16 = 62201;

/// What the process made of one datagram.
#[derive(Clone, Debug)]
pub enum Said {
    /// The services that it changed, and those it was too old for.
    Taken {
        changed: Vec<String>,
        older: Vec<String>,
    },
    /// Admitted, and the policy leaves nothing of it.
    Policy,
    Refused(DropReason),
}

enum Action {
    Open { key: GrantKey, door: Door, end: Duration },
    Close { door: Door },
}

#[derive(Default)]
struct Batch {
    actions: Vec<Action>,
    undo: Vec<(GrantKey, Option<Grant>)>,
}

/// What lives as long as the process.
pub struct Process {
    gateway: Gateway,
    keyring: KeyTable,
    policies: Vec<(PublicKey, ClientPolicy)>,
    pub record: Record,
    grants: GrantTable,
    services: Vec<Service>,
    boot_id: String,
    check_doors_at: Duration,
    /// How each durable write was to end.
    pub log: Vec<Fate>,
}

impl Process {
    /// Starts, with whatever the disk has; it may end in its own first write, which the log says.
    pub fn start(
        disk: &Disk,
        identities: Vec<Identity>,
        people: &[Person],
        boot_id: String,
        now: Moment,
        kernel: &mut Kernel,
        fate: Fate,
    ) -> Self {
        let mut process = Self {
            gateway: Gateway::new(Sieve::new(identities, Listen::port(PORT))),
            keyring: KeyTable::default(),
            policies: people.iter().map(|p| (p.key, p.policy.clone())).collect(),
            record: disk.open(now.uptime),
            grants: GrantTable::default(),
            services: services(),
            boot_id,
            check_doors_at: now.uptime,
            log: Vec::new(),
        };
        for person in people {
            process.enroll(person);
        }
        let overdue = process.restore_grants(now.uptime);
        let revoked: Vec<_> = people.iter().filter(|p| p.revoked).map(|p| p.key).collect();
        let is_revoked = |key: &GrantKey| key.client.is_some_and(|client| revoked.contains(&client));
        let ended = process.grants.end_where(now.uptime, |key, _| is_revoked(key));
        if process.follow_ends(&ended, now.uptime, kernel, fate) == Committed::Crashed {
            return process;
        }
        process.reconcile(now.uptime, kernel);
        process.follow_ends(&overdue, now.uptime, kernel, Fate::Done);
        process
    }

    fn enroll(&mut self, person: &Person) {
        let key = person.key;
        self.keyring
            .insert(key, Psk::from_bytes(person.psk.expose()), Role::Client);
        self.stand(&key, person.revoked);
    }

    fn stand(&mut self, key: &PublicKey, revoked: bool) {
        let standing = if revoked {
            Standing::Revoked
        } else {
            Standing::Active { until: None }
        };
        self.keyring.set_standing(key, standing);
    }

    fn restore_grants(&mut self, now: Duration) -> Vec<GrantKey> {
        let mut overdue = Vec::new();
        for row in self.record.grants() {
            let end = self.durable_end(&row, now);
            let key = GrantKey {
                client: row.client,
                address: row.address,
                service: row.service,
            };
            if end.is_none() && row.end_boottime.is_some() && row.boot_id == self.boot_id {
                overdue.push(key.clone());
            }
            self.grants.restore(key, (row.opened, row.since, row.changed), end, now);
        }
        overdue
    }

    fn durable_end(&self, row: &GrantRow, now: Duration) -> Option<Duration> {
        let end = Duration::from_nanos(row.end_boottime?);
        let service = self.services.iter().find(|service| service.name == row.service)?;
        let own_cap = self
            .policies
            .iter()
            .find(|(key, _)| row.client == Some(*key))?
            .1
            .max_duration;
        let cap = own_cap.map_or(service.max_duration, |cap| cap.min(service.max_duration));
        let left = end.checked_sub(now)?;
        (row.boot_id == self.boot_id && left <= cap).then_some(end)
    }

    /// Other identities, under the same copies.
    pub fn hold(&mut self, identities: Vec<Identity>) {
        self.gateway = Gateway::new(self.gateway.sieve().with_identities(identities));
    }

    /// Judges what has come, in its order, with one commit for all of it.
    pub fn take(&mut self, now: Moment, batch: &[(SocketAddr, &[u8])], kernel: &mut Kernel, fate: Fate) -> Vec<Said> {
        let mut pending = Batch::default();
        let each = batch
            .iter()
            .map(|(source, payload)| self.one(now, *source, payload, &mut pending));
        let said = each.collect();
        self.settle(now.uptime, pending, kernel, fate);
        said
    }

    fn one(&mut self, now: Moment, source: SocketAddr, payload: &[u8], batch: &mut Batch) -> Said {
        let destination = SocketAddr::from(([198, 51, 100, 254], PORT));
        let datagram = Datagram {
            source,
            destination,
            payload,
        };
        match self.gateway.handle(now, &datagram, &mut self.keyring, &mut self.record) {
            Ok(knock) => self.decide(now, &knock, batch),
            Err(refusal) => Said::Refused(refusal.reason),
        }
    }

    fn decide(&mut self, now: Moment, knock: &Knock, batch: &mut Batch) -> Said {
        let request = knock.request();
        let (address, names, duration_s) = match &request.act {
            Act::Open {
                address,
                duration_s,
                services,
            } => (*address, services, Some(*duration_s)),
            Act::Close { address, services } => (*address, services, None),
            Act::Enroll(_) => unreachable!("nobody here has an invite"),
        };
        let client = *knock.client();
        let (_, policy) = self.policies.iter().find(|(key, _)| *key == client).unwrap();
        let source = knock.source().ip().to_canonical();
        let decision = policy::decide(&self.services, policy, address, source, names, duration_s.unwrap_or(0));
        let Ok(decision) = decision else { return Said::Policy };
        let (mut changed, mut older) = (Vec::new(), Vec::new());
        for (service, terms) in &decision.granted {
            let key = GrantKey {
                client: Some(client),
                address: decision.address,
                service: service.clone(),
            };
            let done = match duration_s {
                Some(_) => self.stage_open(now, &key, terms, knock, batch),
                None => self.stage_close(now, &key, knock, batch),
            };
            if done {
                changed.push(service.clone());
            } else {
                older.push(service.clone());
            }
        }
        Said::Taken { changed, older }
    }

    fn stage_open(&mut self, now: Moment, key: &GrantKey, terms: &Terms, knock: &Knock, batch: &mut Batch) -> bool {
        let before = self.grants.get(key).cloned();
        let timestamp = knock.request().timestamp;
        let Ok(moved) = self.grants.open(key, terms, timestamp, now.wall, now.uptime) else {
            return false;
        };
        batch.actions.extend(moved.map(|door| Action::Close { door }));
        let door = Door {
            service: key.service.clone(),
            opened: terms.opened,
        };
        let end = now.uptime + terms.duration;
        batch.actions.push(Action::Open {
            key: key.clone(),
            door,
            end,
        });
        let row = self.row(key);
        self.record.stage(Change::Grant(row));
        batch.undo.push((key.clone(), before));
        true
    }

    fn stage_close(&mut self, now: Moment, key: &GrantKey, knock: &Knock, batch: &mut Batch) -> bool {
        let before = self.grants.get(key).cloned();
        let timestamp = knock.request().timestamp;
        let Ok(door) = self.grants.close(key, timestamp, now.wall, now.uptime) else {
            return false;
        };
        batch.actions.extend(door.map(|door| Action::Close { door }));
        let row = self.row(key);
        self.record.stage(Change::Grant(row));
        batch.undo.push((key.clone(), before));
        true
    }

    fn row(&self, key: &GrantKey) -> GrantRow {
        let grant = self.grants.get(key).unwrap();
        GrantRow {
            client: key.client,
            address: key.address,
            service: key.service.clone(),
            opened: grant.opened,
            since: grant.since,
            changed: grant.changed,
            end_boottime: grant.end.map(|end| u64::try_from(end.as_nanos()).unwrap()),
            boot_id: self.boot_id.clone(),
        }
    }

    fn settle(&mut self, now: Duration, batch: Batch, kernel: &mut Kernel, fate: Fate) {
        match self.commit(fate) {
            Committed::Yes => batch
                .actions
                .into_iter()
                .for_each(|action| self.act(now, action, kernel)),
            Committed::No => self.take_back(now, batch, kernel),
            Committed::Crashed => {}
        }
    }

    fn commit(&mut self, fate: Fate) -> Committed {
        if self.record.is_clean() {
            return Committed::Yes;
        }
        self.log.push(fate);
        self.record.commit(fate)
    }

    fn take_back(&mut self, now: Duration, batch: Batch, kernel: &mut Kernel) {
        let mut shut = Vec::new();
        for (key, before) in batch.undo.into_iter().rev() {
            let has_ended = self.grants.get(&key).is_some_and(|grant| grant.end.is_none());
            if has_ended && before.as_ref() != self.grants.get(&key) {
                let row = self.row(&key);
                self.record.owe(Change::Grant(row));
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
            self.shut(now, door, kernel);
        }
    }

    fn act(&mut self, now: Duration, action: Action, kernel: &mut Kernel) {
        match action {
            Action::Close { door } => self.shut(now, &door, kernel),
            Action::Open { key, door, end } => {
                let latest = self.grants.holder(&door).map_or(end, |holder| holder.end);
                if kernel.open(&door, latest.saturating_sub(now), now).is_err() {
                    let ended = self.grants.end_where(now, |ended, _| *ended == key);
                    self.follow_ends(&ended, now, kernel, Fate::Done);
                }
            }
        }
    }

    fn shut(&mut self, now: Duration, door: &Door, kernel: &mut Kernel) {
        match self.grants.holder(door) {
            Some(holder) => drop(kernel.open(door, holder.end.saturating_sub(now), now)),
            None => kernel.close(door),
        }
    }

    fn follow_ends(&mut self, ended: &[GrantKey], now: Duration, kernel: &mut Kernel, fate: Fate) -> Committed {
        for key in ended {
            let row = self.row(key);
            self.record.owe(Change::Grant(row));
        }
        for key in ended {
            let door = self.grants.get(key).unwrap().door(key);
            self.shut(now, &door, kernel);
        }
        self.commit(fate)
    }

    /// Ends what is unwanted: a client that was revoked, an operator's command.
    pub fn end_grants(&mut self, now: Duration, kernel: &mut Kernel, fate: Fate, unwanted: impl Fn(&GrantKey) -> bool) {
        let ended = self.grants.end_where(now, |key, _| unwanted(key));
        self.follow_ends(&ended, now, kernel, fate);
    }

    /// A client's file was changed.
    pub fn revoke(&mut self, key: &PublicKey, revoked: bool, now: Duration, kernel: &mut Kernel, fate: Fate) {
        self.stand(key, revoked);
        if revoked {
            self.end_grants(now, kernel, fate, |grant| grant.client == Some(*key));
        }
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Moment, kernel: &mut Kernel, fate: Fate) {
        self.record.end_wait(now.uptime, now.wall);
        if self.grants.next_event().is_some_and(|next| next <= now.uptime) {
            let ended = self.grants.expire(now.uptime);
            if self.follow_ends(&ended, now.uptime, kernel, fate) == Committed::Crashed {
                return;
            }
            for (key, grant) in self.grants.forget(now.uptime) {
                let row = GrantRow {
                    client: key.client,
                    address: key.address,
                    service: key.service,
                    opened: grant.opened,
                    since: grant.since,
                    changed: grant.changed,
                    end_boottime: None,
                    boot_id: self.boot_id.clone(),
                };
                self.record.stage(Change::ForgetGrant(row));
            }
            self.commit(Fate::Done);
        }
        if self.check_doors_at <= now.uptime {
            self.check_doors_at = now.uptime + Duration::from_secs(2);
            self.reconcile(now.uptime, kernel);
            self.commit(Fate::Done);
        }
    }

    /// Makes the sets agree with the table.
    fn reconcile(&self, now: Duration, kernel: &mut Kernel) {
        if kernel.fails {
            return;
        }
        let there: Vec<Door> = kernel.doors(now).keys().cloned().collect();
        for door in there.iter().filter(|door| self.grants.holder(door).is_none()) {
            kernel.close(door);
        }
        for (door, holder) in self.grants.doors() {
            let _ = kernel.open(door, holder.end.saturating_sub(now), now);
        }
    }

    /// How much is kept of one client.
    pub fn kept_of(&self, client: &PublicKey) -> usize {
        self.grants.count_of(client)
    }
}

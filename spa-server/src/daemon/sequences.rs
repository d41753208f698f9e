//! The classic fallback: what is looked for, and what a complete sequence comes to. The same policy, grants, backends
//! and log as for a knock; the record first.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};
use spa_keys::Paths;
use spa_keys::state::{Change, State};
use spa_keys::units::format_time;
use spa_proto::sequence::{Failure, SequenceId};
use spa_proto::{Moment, TcpFlags, UnixTime};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use super::Daemon;
use crate::audit::How;
use crate::backend::existing::listeners;
use crate::backend::{Door, Opening};
use crate::capture::Interface;
use crate::capture::probes::{Completed, ProbeEvent, Probes, Watched, flags_of};
use crate::clock;
use crate::config::{Config, PortRange, Protocol};
use crate::grant::{Grant, GrantKey, Terms};
use crate::guard::Patrol;
use crate::guard::patrol::answered_ports;
use crate::journal::{Journal, RecordState};
use crate::policy;
use crate::refusals::{Reason, Refused};
use crate::sequences::{Kind, Sequences, Used};

/// Completed sequences that wait while the daemon is busy; more are dropped and counted.
const QUEUE: usize = 64;
/// The most grants by sequences that are live: whoever knows one could open for everybody in turn.
const MOST_GRANTS: usize = 1024;
/// How often time-outs are looked for, and whether other sequences count now.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is read which ports are open to everybody.
const LISTENERS_EVERY: Duration = Duration::from_mins(1);

/// Everything that the daemon holds for sequences. Without any, no thread and no timer.
pub(super) struct SequenceWatch {
    sequences: Sequences,
    used: Used,
    looked_for: Vec<SequenceId>,
    watched: Arc<Watched>,
    probes: Option<Probes>,
    interfaces: BTreeMap<String, Interface>,
    events: mpsc::Receiver<ProbeEvent>,
    opened: u64,
    due: Option<Duration>,
    listeners_due: Duration,
}

/// What was built beside what is in force.
pub(super) struct Prepared {
    sequences: Sequences,
    probes: Option<Probes>,
}

impl SequenceWatch {
    /// Nothing is looked for yet, but what was used is known.
    pub(super) fn new(journal: &mut Journal) -> Self {
        let rows = match journal.state().map(State::sequences) {
            Some(Ok(rows)) => rows,
            Some(Err(error)) => {
                error!("what was used of sequences cannot be read: {error}");
                Vec::new()
            }
            None => Vec::new(),
        };
        let (sender, events) = mpsc::channel(QUEUE);
        Self {
            sequences: Sequences::default(),
            used: Used::new(rows),
            looked_for: Vec::new(),
            watched: Watched::new(sender),
            probes: None,
            interfaces: BTreeMap::new(),
            events,
            opened: 0,
            due: None,
            listeners_due: Duration::ZERO,
        }
    }

    /// Reads keys and lists, and starts the threads that a configuration asks for. One sequence that cannot be used does
    /// not stand in the way of the others.
    pub(super) fn prepare(&self, config: &Config, paths: &Paths, patrol: &Arc<Patrol>) -> io::Result<Prepared> {
        let (sequences, unusable) = Sequences::load(&config.sequences, paths);
        for one in &unusable {
            let hint = one.failure.hints.first();
            error!(hint, "{one}; it opens nothing until it is whole");
        }
        let sequences = sequences.after(&self.sequences);
        let patrol = config.guard.is_some().then_some(patrol);
        let probes = if sequences.is_empty() && patrol.is_none() {
            None
        } else {
            let interfaces = &config.listen.interfaces;
            let all = sequences.patterns(clock::wall(), &self.used);
            let stages = all.iter().flat_map(|pattern| &pattern.stages);
            let flags: Vec<TcpFlags> = stages.filter_map(|stage| flags_of(stage.transport)).collect();
            let mut left_out = left_out(config);
            // Nobody else has a use for answers to this host's own questions.
            left_out.extend(answered_ports().filter(|_| sequences.is_empty()));
            Some(Probes::start(interfaces, &left_out, &flags, &self.watched, patrol)?)
        };
        Ok(Prepared { sequences, probes })
    }

    /// What was prepared, instead of what was there.
    pub(super) fn take(&mut self, prepared: Prepared, addresses: Option<Vec<IpAddr>>) {
        let Prepared { sequences, probes } = prepared;
        self.due = (!sequences.is_empty()).then_some(Duration::ZERO);
        (self.sequences, self.probes) = (sequences, probes);
        self.interfaces.clear();
        self.looked_for.clear();
        self.read_addresses(addresses);
        self.read_listeners();
        self.look_for(clock::wall());
        for warning in self.sequences.warnings(clock::wall(), &self.used) {
            warn!("{warning}");
        }
    }

    /// The ports that are looked for now: whoever touches them may know why.
    pub(super) fn ports(&self) -> Vec<(Protocol, u16)> {
        let patterns = self.sequences.patterns(clock::wall(), &self.used);
        let stages = patterns.iter().flat_map(|pattern| &pattern.stages);
        stages
            .map(|stage| (Protocol::of(stage.transport), stage.port.get()))
            .collect()
    }

    /// The next of what the threads tell.
    pub(super) async fn next(&mut self) -> Option<ProbeEvent> {
        self.events.recv().await
    }

    /// Whether every interface has been tried.
    pub(super) fn is_ready(&self, interfaces: usize) -> bool {
        self.probes.is_none() || self.interfaces.len() == interfaces
    }

    pub(super) fn is_alive(&self) -> bool {
        self.probes.as_ref().is_none_or(Probes::is_alive)
    }

    /// When to look again.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }

    pub(super) fn read_addresses(&self, addresses: Option<Vec<IpAddr>>) {
        self.watched.judge().scope.addresses = addresses;
    }

    /// A packet to a port that is open to everybody is no wrong knock. A sequence's own ports are always looked at.
    fn read_listeners(&mut self) {
        self.listeners_due = clock::uptime() + LISTENERS_EVERY;
        let open: Vec<(Protocol, u16)> = match listeners() {
            Ok(listeners) => listeners.iter().map(|socket| (socket.protocol, socket.port)).collect(),
            Err(error) => return debug!("/proc/net cannot be read: {error}"),
        };
        let patterns = self.sequences.patterns(clock::wall(), &self.used);
        let stages: Vec<_> = patterns.iter().flat_map(|pattern| &pattern.stages).collect();
        let is_own = |open: &(Protocol, u16)| {
            let same =
                |stage: &&&spa_proto::sequence::Stage| (Protocol::of(stage.transport), stage.port.get()) == *open;
            stages.iter().any(|stage| same(&stage))
        };
        self.watched.judge().scope.open = open.into_iter().filter(|open| !is_own(open)).collect();
    }

    /// Gives the tracker what counts now, where that is another than before.
    fn look_for(&mut self, now: UnixTime) {
        let patterns = self.sequences.patterns(now, &self.used);
        let ids: Vec<SequenceId> = patterns.iter().map(|pattern| pattern.id).collect();
        if ids != self.looked_for {
            self.watched.judge().tracker.watch(&patterns);
            self.looked_for = ids;
        }
    }
}

/// Ports that never leave the kernel: those of services, and where knocks go.
fn left_out(config: &Config) -> Vec<PortRange> {
    let knocks = config.listen.ports.iter().map(|port| PortRange {
        protocol: Protocol::Udp,
        first: *port,
        last: *port,
    });
    let services = config.services.iter().flat_map(|service| service.ports.iter().copied());
    knocks.chain(services).collect()
}

impl Daemon {
    pub(super) fn begin_sequences(&mut self) -> io::Result<()> {
        let prepared = self.sequences.prepare(&self.config, &self.paths, self.guard.patrol())?;
        let addresses = super::start::listen(&self.config).addresses;
        self.sequences.take(prepared, addresses);
        Ok(())
    }

    pub(super) fn on_probe(&mut self, event: ProbeEvent) {
        match event {
            ProbeEvent::Complete(Completed { sequences, source }) => {
                for id in sequences {
                    self.on_sequence(id, source);
                }
            }
            ProbeEvent::Failed(failure) => self.note_failure(&failure),
            ProbeEvent::Interface(interface) => {
                self.sequences.interfaces.insert(interface.name.clone(), interface);
                self.say_ready();
            }
        }
    }

    /// A complete sequence: policy, record, door.
    fn on_sequence(&mut self, id: SequenceId, source: SocketAddr) {
        let now = clock::now();
        let Some((sequence, kind)) = self.sequences.sequences.get(id) else {
            return;
        };
        let name = sequence.name.clone();
        let staged = policy::decide_sequence(&self.config.services, sequence, source.ip().to_canonical())
            .map_err(|error| (Reason::Policy, error))
            .and_then(|(address, terms)| self.stage_sequence(now, id, address, &terms));
        match staged {
            Ok((key, before)) => self.open_for(now, &name, kind, source, &key, before),
            Err((reason, detail)) => self.refuse_sequence(now, &name, source, reason, &detail),
        }
    }

    /// Uses it up and puts the grant into the table; nothing of it holds before the commit.
    fn stage_sequence(
        &mut self,
        now: Moment,
        id: SequenceId,
        address: IpAddr,
        terms: &Terms,
    ) -> Result<(GrantKey, Option<Grant>), (Reason, String)> {
        if matches!(self.journal.record_state(now.uptime), RecordState::Waiting { .. }) {
            return Err((Reason::Record, "the record is waited for".into()));
        }
        let sequences = &self.sequences.sequences;
        let service = sequences.get(id).map(|(sequence, _)| sequence.service.clone());
        let key = GrantKey {
            client: None,
            address,
            service: service.unwrap_or_default(),
        };
        let before = self.grants.get(&key).cloned();
        if before.is_none() && self.grants.count_by_sequence() >= MOST_GRANTS {
            return Err((
                Reason::Rate,
                format!("sequences have opened {MOST_GRANTS} doors already"),
            ));
        }
        let spent = sequences.spend(id, now.wall, &mut self.sequences.used);
        spent.ok_or_else(|| (Reason::Replay, "it was used already, or its time is over".to_owned()))?;
        for row in self.sequences.used.take_changed() {
            self.journal.stage(Change::Sequence(row));
        }
        // A clock that went back is no reason: a sequence has no time stamp that could be older.
        let timestamp = before.as_ref().map_or(now.wall, |grant| grant.changed.max(now.wall));
        let _ = self.grants.open(&key, terms, timestamp, now.wall, now.uptime);
        self.stage_grant(&key);
        Ok((key, before))
    }

    /// The record, then the door.
    fn open_for(
        &mut self,
        now: Moment,
        sequence: &str,
        kind: Kind,
        source: SocketAddr,
        key: &GrantKey,
        before: Option<Grant>,
    ) {
        let is_renewed = before.as_ref().is_some_and(|before| before.end.is_some());
        let committed = self.journal.commit();
        self.sequences.look_for(now.wall);
        if let Err(error) = committed {
            self.grants.put(key.clone(), before);
            let detail = format!("not recorded, so not opened: {error}");
            return self.refuse_sequence(now, sequence, source, Reason::Record, &detail);
        }
        let Some(door) = self.grants.get(key).map(|grant| grant.door(key)) else {
            return;
        };
        match self.open_door(&door) {
            Ok(end) => {
                self.sequences.opened += 1;
                let until = format_time(now.wall.saturating_add(end.saturating_sub(now.uptime)));
                let verb = if self.dry_run { "would open" } else { "opened" };
                let (via, address, service, opened) = (kind.marked(), key.address, &key.service, door.opened);
                info!(sequence, %source, %address, service, %opened, until, "{verb} by {via}");
                self.audit_sequence(sequence, kind, source.ip(), key, end, is_renewed);
            }
            Err(error) => {
                self.refuse_sequence(now, sequence, source, Reason::Backend, &error);
                self.end_grants(How::NotOpened, |ended, _| ended == key);
            }
        }
    }

    fn open_door(&mut self, door: &Door) -> Result<Duration, String> {
        let end = self.grants.holder(door).map_or(Duration::ZERO, |holder| holder.end);
        let opening = Opening {
            door: door.clone(),
            client: None,
            remaining: end.saturating_sub(clock::uptime()),
        };
        // Before the door opens: what a ban holds back would not come to it.
        self.let_in(door.opened, "it has a grant");
        self.partner.open(&opening).map_err(|error| error.to_string())?;
        Ok(end)
    }

    fn refuse_sequence(&mut self, now: Moment, name: &str, source: SocketAddr, reason: Reason, detail: &str) {
        self.refused(Refused::new(
            now.wall,
            Some(source),
            reason,
            format!("sequence {name}: {detail}"),
        ));
    }

    /// For explain: why it suddenly gets no further than stage 1.
    fn note_failure(&mut self, failure: &Failure) {
        let Some((sequence, _)) = self.sequences.sequences.get(failure.sequence) else {
            return;
        };
        let detail = format!("sequence {} {failure}", sequence.name);
        let refused = Refused::new(clock::wall(), None, Reason::Sequence, detail).from_address(failure.source);
        self.note_refused(refused);
    }

    /// Time-outs, the next time step, ports that have come to serve something.
    pub(super) fn look_after_sequences(&mut self, now: Duration) {
        if self.sequences.due.is_none_or(|due| due > now) {
            return;
        }
        self.sequences.due = Some(now + LOOK_EVERY);
        let mut failures = Vec::new();
        self.sequences.watched.judge().tracker.expire(now, |failure| {
            if failures.len() < QUEUE {
                failures.push(failure);
            }
        });
        for failure in &failures {
            self.note_failure(failure);
        }
        self.sequences.look_for(clock::wall());
        if self.sequences.listeners_due <= now {
            self.sequences.read_listeners();
        }
    }

    /// The record was lost: what was used is not known, so nothing that may have been used works again.
    pub(super) fn forget_sequences(&mut self) {
        let watch = &mut self.sequences;
        watch.sequences.spend_all(clock::wall(), &mut watch.used);
        for row in watch.used.take_changed() {
            self.journal.owe(Change::Sequence(row));
        }
        if let Err(error) = self.journal.commit() {
            error!("that sequences are used up could not be recorded: {error}");
        }
        self.sequences.look_for(clock::wall());
    }

    /// For status; none where no sequence is configured.
    pub(super) fn sequence_state(&self) -> Option<Value> {
        let watch = &self.sequences;
        if watch.sequences.is_empty() {
            return None;
        }
        let counters = watch.watched.counters();
        Some(json!({
            "sequences": self.config.sequences.iter().map(|sequence| &sequence.name).collect::<Vec<_>>(),
            "opened": watch.opened,
            "failed": counters.failed.load(Relaxed),
            "probes": counters.probes.load(Relaxed),
            "sources": watch.watched.judge().tracker.sources(),
            "dropped": { "kernel": counters.kernel.load(Relaxed), "queue": counters.queue.load(Relaxed) },
        }))
    }
}

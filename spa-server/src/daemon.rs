//! The daemon: one loop around the pure middle.
//!
//! `start` tells the startup in its order; `knocks` is what a datagram comes to, `codes`, `stage`, `act` and `refuse` its
//! parts, `enroll` and `pins` the same for invites; `upkeep` and `sweep` what time and other people's changes ask for;
//! `reload` another configuration, `trial` one that waits to be confirmed, `identities` other gateway keys; `answers`
//! the control socket, `metrics` Prometheus. `sequences` is what the classic fallback comes to, `audit` what is remembered of
//! it all.

mod act;
mod answers;
mod audit;
mod codes;
mod enroll;
mod guard;
mod health;
mod identities;
mod knocks;
mod metrics;
mod pins;
mod record;
mod refuse;
mod reload;
mod scans;
mod sequences;
mod stage;
mod start;
mod sweep;
mod trial;
mod upkeep;

use std::collections::BTreeMap;
use std::io;

use spa_keys::directory::KeyDirectory;
use spa_keys::{Exit, Failure, Paths, Watch as FolderWatch};
use spa_proto::{Gateway, UnixTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::info;

use crate::audit::How;
use crate::capture::{Capture, Event, Interface};
use crate::clock;
use crate::config::Config;
use crate::control::{Control, Request};
use crate::firewall::Partner;
use crate::firewall::{Bell, Line};
use crate::grant::GrantTable;
use crate::journal::Journal;
use crate::metrics::{Exporter, Observed};
use crate::netlink::monitor::Monitor;
use crate::notify::Notify;
use crate::readable::Readable;
use crate::refusals::Refusals;
use upkeep::SHORTEST_PAUSE;

pub use start::{StartError, failure};

/// Datagrams that wait while the daemon is busy; more are dropped and counted. Two thousand clients that knock at
/// the same moment find room; it takes 5 MB at most.
const QUEUE: usize = 4096;
/// The most that is judged before timers and the control socket have their turn: about 5 ms of Diffie-Hellmans.
const BATCH: usize = 64;

/// Everything the daemon holds.
pub struct Daemon {
    paths: Paths,
    dry_run: bool,
    started: UnixTime,
    boot_id: String,
    config: Config,
    loaded: Loaded,
    trial: trial::Trial,
    keys: KeyDirectory,
    gateway: Gateway,
    journal: Journal,
    grants: GrantTable,
    /// The way to the backends.
    partner: Partner,
    refusals: Refusals,
    codes: codes::Codes,
    pins: pins::Pins,
    guard: guard::Guard,
    auditor: audit::Auditor,
    accepted: Accepted,
    sequences: sequences::SequenceWatch,
    interfaces: BTreeMap<String, Interface>,
    capture: Capture,
    events: mpsc::Receiver<Event>,
    event_sender: mpsc::Sender<Event>,
    requests: mpsc::Receiver<Request>,
    control: Option<Control>,
    exporter: Option<Exporter>,
    observed: Observed,
    watches: Watches,
    timers: upkeep::Timers,
    log_limit: refuse::LogLimit,
    ready: bool,
    notify: Notify,
}

/// Which configuration is in force, and what became of the last one that was offered.
struct Loaded {
    at: UnixTime,
    rejected: Option<String>,
}

/// How many knocks were accepted since the start.
#[derive(Default)]
struct Accepted {
    open: u64,
    close: u64,
    enroll: u64,
}

/// What tells of changes that other people make.
struct Watches {
    folders: Readable<FolderWatch>,
    /// The firewall process tells of changes of the rules.
    tables: Option<Readable<Bell>>,
    /// Its end.
    partner: Readable<Line>,
    /// None where nothing can tell.
    addresses: Option<Readable<Monitor>>,
}

/// The signals that steer the daemon.
struct Signals {
    stop: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            stop: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

impl Daemon {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    ///
    /// When signals cannot be received, or the firewall process is gone: without it nothing can be opened.
    pub async fn run(mut self) -> Result<(), Failure> {
        let signals = Signals::new();
        let mut signals =
            signals.map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be received: {error}")))?;
        self.say_ready();
        loop {
            if let Some(why) = self.partner.lost() {
                let what = format!("the firewall process is gone, and nothing can be opened without it: {why}");
                return Err(Failure::new(Exit::Failed, what).hint("start spa-server anew; systemd does so by itself"));
            }
            let pause = self.until_next(clock::uptime());
            if pause <= SHORTEST_PAUSE {
                // A flood of what must be judged keeps other branches ready for ever: what is due comes first.
                self.on_time();
            }
            tokio::select! {
                Some(event) = self.events.recv() => self.on_events(event),
                Some(sighting) = self.guard.next() => self.on_sighting(sighting),
                Some(event) = self.sequences.next() => self.on_probe(event),
                Some(request) = self.requests.recv() => self.answer(request),
                () = tokio::time::sleep(pause) => self.on_time(),
                () = Readable::wait(Some(&self.watches.folders)) => self.on_folders(),
                () = Readable::wait(self.watches.tables.as_ref()) => self.on_tables(),
                () = Readable::wait(self.watches.addresses.as_ref()) => self.on_addresses(),
                () = Readable::wait(Some(&self.watches.partner)) => {}
                _ = signals.reload.recv() => self.reload(),
                _ = signals.stop.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
            self.flush_audit();
        }
        self.stop();
        Ok(())
    }

    /// Takes one event and what waits behind it, up to a bound.
    fn on_events(&mut self, first: Event) {
        let mut events = vec![first];
        while events.len() < BATCH
            && let Ok(event) = self.events.try_recv()
        {
            events.push(event);
        }
        let mut candidates = Vec::new();
        for event in events {
            match event {
                Event::Candidate(candidate) => candidates.push(candidate),
                Event::Refused(sample) => self.note_sample(&sample),
                Event::Interface(interface) => self.on_interface(interface),
            }
        }
        self.on_candidates(candidates);
    }

    /// Says `ready` once everything that a knock needs is there.
    fn say_ready(&mut self) {
        let interfaces = self.config.listen.interfaces.len();
        if !self.ready && self.interfaces.len() == interfaces && self.sequences.is_ready(interfaces) {
            self.ready = true;
            println!("ready");
            self.notify.ready(clock::uptime(), &self.health());
            info!(dry_run = self.dry_run, "ready");
        }
    }

    fn stop(mut self) {
        info!(keep_doors = self.config.lock_out.keep_doors, "stopping");
        self.notify.stopping();
        if !self.config.lock_out.keep_doors && !self.dry_run {
            self.end_grants(How::Stopped, |_, _| true);
            self.partner.close_all();
        }
        self.partner.close_commands();
        let control = self.control.as_ref().and_then(Control::inode);
        let metrics = self.exporter.as_ref().and_then(Exporter::inode);
        self.control.take();
        let doors_kept = self.config.lock_out.keep_doors;
        self.close_audit(doors_kept);
        self.partner.end(control.into_iter().chain(metrics).collect());
    }
}

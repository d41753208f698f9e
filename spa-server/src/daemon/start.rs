//! Startup, in its order: read, record, protect, open again what was open, listen.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spa_keys::directory::{BrokenFile, KeyDirectory};
use spa_keys::file::{self, Limits};
use spa_keys::gateway::GatewayKey;
use spa_keys::state::{GrantRow, StateError, StateLock};
use spa_keys::{Exit, Failure};
use spa_keys::{Paths, Watch};
use spa_proto::{Gateway, Listen, Sieve, Windows};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::audit::Auditor;
use super::{Accepted, Daemon, Loaded, QUEUE, Watches, upkeep};
use crate::audit::How;
use crate::backend::{Door, Opening};
use crate::capture::Capture;
use crate::clock;
use crate::config::{Config, Finding};
use crate::confirm::Intent;
use crate::control::{Control, Listener};
use crate::firewall::message::Begun;
use crate::firewall::{Bell, Partner, Refused};
use crate::grant::{GrantKey, Holder};
use crate::journal::Journal;
use crate::logging;
use crate::metrics::{self, Observed};
use crate::netlink::address::own_addresses;
use crate::netlink::monitor::Monitor;
use crate::notify::Notify;
use crate::readable::Readable;
use crate::refusals::Refusals;

/// Why the daemon cannot start.
#[derive(Debug)]
pub enum StartError {
    /// server.toml.
    Config(Vec<Finding>),
    /// Anything else.
    Failure(Failure),
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Refused> for StartError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Findings(findings) => Self::Config(findings),
            other => Self::Failure(other.into()),
        }
    }
}

impl Daemon {
    /// Starts everything, inside a tokio runtime. Nothing that could not be made safe is left running. `places` are the
    /// options that name the files, from the root.
    ///
    /// # Errors
    ///
    /// [`StartError`] with what to try.
    pub fn start(paths: Paths, places: &[OsString], dry_run: bool) -> Result<Self, StartError> {
        // Before anything is given up: nothing may connect later.
        let notify = Notify::from_environment();
        let now = clock::now();
        // First: it is a child that must not inherit anything of what follows.
        let (mut partner, bell) = partner(places, dry_run)?;
        let Begun { source, undoing, waits } = partner.begin()?;
        let (config, warnings) = Config::from_source(&paths.config, &source).map_err(StartError::Config)?;
        logging::take_up(config.log);
        for finding in &warnings {
            warn!(code = %finding.code, "{}", finding.text);
        }
        let claimed = Claimed::claim(&paths, dry_run)?;
        let (request_sender, requests) = mpsc::channel(16);
        let exporter = config.metrics.as_ref();
        let exporter = exporter.map(|metrics| metrics::bind(metrics, request_sender.clone()));
        refuse_open_key(&paths)?;
        crate::privilege::give_up(&paths, &config)?;
        let identities = GatewayKey::load(&paths.gateway_key)
            .map_err(Failure::from)?
            .into_identities();
        // Watched before they are read, or a change in between would be missed.
        let folders = watch_folders(&paths)?;
        let keys = KeyDirectory::load(&paths.clients, &paths.invites).map_err(Failure::from)?;
        keys.broken().for_each(|(.., broken)| say_broken(broken));
        let Claimed { lock, listener } = claimed;
        let mut journal = open_journal(&paths, &keys, lock, now.uptime)?;
        let gateway = Gateway::new(Sieve::new(identities, listen(&config)));
        let (event_sender, events) = mpsc::channel(QUEUE);
        let watches = watches(folders, &partner, bell)?;
        let capture = Capture::start(
            &config.listen.interfaces,
            &config.listen.ports,
            gateway.sieve().clone(),
            event_sender.clone(),
            Arc::default(),
        );
        let capture = capture.map_err(|error| no_thread(&error))?;
        let sequences = super::sequences::SequenceWatch::new(&mut journal);
        let boot_id = clock::boot_id();
        let mut daemon = Self {
            dry_run,
            started: now.wall,
            auditor: Auditor::start(&config, &paths, &boot_id, dry_run, now),
            boot_id,
            loaded: Loaded::at(now.wall),
            trial: super::trial::Trial::new(&paths),
            keys,
            gateway,
            journal,
            grants: crate::grant::GrantTable::default(),
            partner,
            refusals: Refusals::default(),
            codes: super::codes::Codes::default(),
            pins: super::pins::Pins::default(),
            guard: super::guard::Guard::new(),
            accepted: Accepted::default(),
            sequences,
            interfaces: std::collections::BTreeMap::new(),
            capture,
            events,
            event_sender,
            requests,
            control: None,
            exporter: None,
            observed: Observed::default(),
            watches,
            timers: upkeep::Timers::new(now.uptime),
            log_limit: super::refuse::LogLimit::default(),
            ready: false,
            notify,
            config,
            paths,
        };
        let taken_over = daemon.take_over();
        // Told also where the start fails: the record knows of it already.
        daemon.flush_audit();
        taken_over?;
        daemon.begin_sequences().map_err(|error| no_thread(&error))?;
        daemon.configure_guard();
        daemon.trial.expect(waits);
        daemon.exporter = exporter;
        daemon.begin_with(undoing);
        daemon.control = serve_commands(listener, &daemon.paths, request_sender)?;
        Ok(daemon)
    }

    /// The rules are in place: a change that was being undone is undone, and what is in force is remembered.
    fn begin_with(&mut self, undoing: bool) {
        match undoing.then(|| self.partner.finish_undo()) {
            // Tried again by the timer.
            Some(Err(why)) => {
                error!("{why}");
                self.watch_record();
            }
            Some(Ok(_)) | None => {
                if !self.remember_loaded(Intent::Plain(None)) {
                    self.return_to_confirmed();
                }
            }
        }
    }

    /// Everything durable comes back: enrollments, grants; then the firewall is made to agree.
    fn take_over(&mut self) -> Result<(), StartError> {
        if !self.dry_run {
            self.roll_forward();
            self.roll_pins_forward();
        }
        let overdue = if self.dry_run {
            Vec::new()
        } else {
            self.restore_grants()
        };
        self.partner.stage()?;
        self.partner.commit(&self.config)?;
        if self.dry_run {
            self.say_hidden();
        }
        self.review_grants();
        let openings = self.openings();
        self.partner.reconcile(&openings).map_err(failure)?;
        self.shut_overdue(&overdue);
        self.take_over_bans();
        self.say_clock();
        Ok(())
    }

    /// What a dry run leaves open.
    fn say_hidden(&self) {
        for service in &self.config.services {
            let ports: Vec<_> = service.ports.iter().map(ToString::to_string).collect();
            let (name, ports, backends) = (
                &service.name,
                ports.join(", "),
                self.partner.names(&service.name).join(", "),
            );
            let verb = if service.protect {
                "would hide"
            } else {
                "would open to grants"
            };
            info!(service = name, ports, backends, "{verb}");
        }
    }

    /// Grants of this boot whose end has not come and is no further off than the cap live on; the others are
    /// remembered (step 9).
    ///
    /// Returns those that ended while no daemon was there to see it.
    fn restore_grants(&mut self) -> Vec<GrantKey> {
        let rows = match self.journal.state().map(spa_keys::state::State::grants) {
            Some(Ok(rows)) => rows,
            Some(Err(error)) => {
                error!("grants could not be read, all doors are shut: {error}");
                return Vec::new();
            }
            None => return Vec::new(),
        };
        let now = clock::uptime();
        let (mut overdue, mut rebooted) = (Vec::new(), Vec::new());
        for row in rows {
            let end = self.durable_end(&row, now);
            let is_live = row.end_boottime.is_some();
            let key = GrantKey {
                client: row.client,
                address: row.address,
                service: row.service,
            };
            match end {
                None if is_live && row.boot_id == self.boot_id => overdue.push(key.clone()),
                None if is_live => rebooted.push(key.clone()),
                _ => {}
            }
            self.grants
                .restore(key.clone(), (row.opened, row.since, row.changed), end, now);
            self.audit_restored(&key);
        }
        for key in rebooted {
            // Or the next start would tell of it again.
            self.owe_grant(&key);
            self.audit_ended(&key, How::Reboot);
        }
        overdue
    }

    /// The kernel has shut these doors; what they let in is still to be cut where the service asks for it.
    fn shut_overdue(&mut self, overdue: &[GrantKey]) {
        for key in overdue {
            self.owe_grant(key);
            self.audit_ended(key, How::Expired);
            if let Some(door) = self.grants.get(key).map(|grant| grant.door(key)) {
                self.shut(&door);
            }
        }
        if let Err(error) = self.journal.commit() {
            warn!("the end of a grant could not be recorded: {error}");
        }
    }

    fn durable_end(&self, row: &GrantRow, now: Duration) -> Option<Duration> {
        let end = Duration::from_nanos(row.end_boottime?);
        let service = self
            .config
            .services
            .iter()
            .find(|service| service.name == row.service)?;
        let own_cap = row
            .client
            .and_then(|client| self.keys.client(&client)?.policy().max_duration);
        let cap = own_cap.map_or(service.max_duration, |cap| cap.min(service.max_duration));
        let left = end.checked_sub(now)?;
        (row.boot_id == self.boot_id && left <= cap).then_some(end)
    }

    /// What stands open by the table.
    pub(super) fn openings(&self) -> Vec<Opening> {
        let now = clock::uptime();
        let name = |key| Some(self.keys.client(&key)?.name().to_string());
        let opening = |(door, holder): (&Door, Holder)| Opening {
            door: door.clone(),
            client: holder.client.and_then(name),
            remaining: holder.end.saturating_sub(now),
        };
        self.grants.doors().map(opening).collect()
    }
}

/// Whose it is can be told as root; later a key of somebody else's could only be said not to be readable.
fn refuse_open_key(paths: &Paths) -> Result<(), Failure> {
    match file::check_private(&paths.gateway_key, Limits::SECRET.mode) {
        Err(error) if !error.is_absent() => Err(error.into()),
        _ => Ok(()),
    }
}

/// What only one daemon has, and what is made while this process may still do so.
struct Claimed {
    /// None in a dry run, which takes no lock.
    lock: Option<StateLock>,
    /// None for a dry run beside the daemon.
    listener: Option<Listener>,
}

impl Claimed {
    fn claim(paths: &Paths, dry_run: bool) -> Result<Self, Failure> {
        let lock = (!dry_run).then(|| StateLock::acquire(&paths.state)).transpose();
        let lock = lock.map_err(|error| match error {
            StateError::Locked(_) => Failure::new(Exit::Failed, error)
                .hint("spa-server status")
                .hint("spa-server run --dry-run"),
            error => error.into(),
        })?;
        make_run_folder(&paths.run)?;
        let path = paths.control_socket();
        if dry_run && std::os::unix::net::UnixStream::connect(&path).is_ok() {
            warn!("the control socket stays with the daemon that runs; this dry run has none");
            return Ok(Self { lock, listener: None });
        }
        let listener = Listener::bind(&path);
        let listener = listener.map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))?;
        Ok(Self {
            lock,
            listener: Some(listener),
        })
    }
}

fn partner(places: &[OsString], dry_run: bool) -> Result<(Partner, Bell), Failure> {
    let cannot = |error| Failure::new(Exit::Failed, format!("the firewall process cannot be started: {error}"));
    Partner::start(places, dry_run).map_err(cannot)
}

fn serve_commands(
    listener: Option<Listener>,
    paths: &Paths,
    requests: mpsc::Sender<crate::control::Request>,
) -> Result<Option<Control>, Failure> {
    let Some(listener) = listener else {
        // The channel must stay open, or the loop would find it closed.
        std::mem::forget(requests);
        return Ok(None);
    };
    let path = paths.control_socket();
    let control = Control::serve(listener, requests);
    let control = control.map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))?;
    Ok(Some(control))
}

fn open_journal(
    paths: &Paths,
    keys: &KeyDirectory,
    lock: Option<StateLock>,
    now: Duration,
) -> Result<Journal, Failure> {
    let Some(lock) = lock else {
        return Ok(Journal::in_memory());
    };
    let wait = keys.greatest_window().max(Windows::default().greatest()) * 2;
    let (journal, missing) = Journal::open(&paths.state, lock, now, wait)?;
    if let Some(why) = missing {
        error!(
            wait_s = wait.as_secs(),
            "{why}: everything is refused until a new record can be trusted"
        );
    }
    Ok(journal)
}

pub(super) fn no_thread(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("no thread could be started: {error}"))
}

/// Where knocks are for, as configured: the gateway's own addresses.
pub(super) fn listen(config: &Config) -> Listen {
    let addresses = match own_addresses() {
        Ok(addresses) => Some(addresses),
        Err(error) => {
            warn!("own addresses cannot be read, so knocks to any address are taken: {error}");
            None
        }
    };
    Listen {
        ports: config.listen.ports.clone(),
        addresses,
    }
}

fn watch_folders(paths: &Paths) -> Result<Readable<Watch>, Failure> {
    let cannot = |error| Failure::new(Exit::Failed, format!("clients.d cannot be watched: {error}"));
    let folders = Watch::new(&paths.clients, &paths.invites).map_err(cannot)?;
    Readable::new(folders).map_err(cannot)
}

fn watches(folders: Readable<Watch>, partner: &Partner, bell: Bell) -> Result<Watches, Failure> {
    let cannot = |error| Failure::new(Exit::Failed, format!("the firewall process cannot be heard: {error}"));
    Ok(Watches {
        folders,
        tables: Some(Readable::new(bell).map_err(cannot)?),
        partner: partner.line().and_then(Readable::new).map_err(cannot)?,
        addresses: watch(Monitor::addresses(), "address changes"),
    })
}

/// A client's file that cannot be believed, and why.
pub(super) fn say_broken(broken: &BrokenFile) {
    let (file, line, hint) = (broken.path.display(), broken.line, broken.hint.as_deref());
    error!(%file, line, hint, "this file is disabled until it is whole: {}", broken.what);
}

fn watch(monitor: Result<Monitor, crate::netlink::NetlinkError>, what: &str) -> Option<Readable<Monitor>> {
    let watched = monitor.map_err(|error| error.to_string());
    match watched.and_then(|monitor| Readable::new(monitor).map_err(|error| error.to_string())) {
        Ok(watched) => Some(watched),
        Err(error) => {
            warn!("{what} are not told here, they are looked for by time: {error}");
            None
        }
    }
}

/// Gone at reboot, so made at every start.
fn make_run_folder(run: &Path) -> Result<(), Failure> {
    file::create_own_dir(run, 0o755).map_err(Failure::from)
}

/// A backend's failure for the command line.
#[must_use]
pub fn failure(error: crate::backend::BackendError) -> Failure {
    let failure = Failure::new(Exit::Failed, &error);
    match error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

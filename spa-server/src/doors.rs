//! All backends together: each door is opened and closed by every backend of its service.

mod bans;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spa_keys::Paths;
use tracing::{debug, error, info, warn};

use crate::backend::command::{self, Command};
use crate::backend::iptables::Iptables;
use crate::backend::nftables::Nftables;
use crate::backend::plan::Plan;
use crate::backend::recording::Recording;
use crate::backend::tcp_wrappers::{TcpWrappers, inspect, plan as wrappers};
use crate::backend::{Backend, BackendError, Door, Opening, Repairs, Watch};
use crate::config::{AtEnd, BackendKind, Code, Config, Finding, PortRange};
use crate::cut::Cut;

/// The backends that hide ports.
const FIREWALLS: [BackendKind; 2] = [BackendKind::Iptables, BackendKind::Nftables];

/// The backends of one configuration.
pub struct Doors {
    entries: Vec<Entry>,
    /// It is no dry run.
    is_real: bool,
    /// The ports of the services whose connections end with the door.
    cut: BTreeMap<String, Vec<PortRange>>,
    always_allow: Vec<IpNet>,
}

struct Entry {
    kind: BackendKind,
    backend: Box<dyn Backend>,
    services: BTreeSet<String>,
    /// Asked once: a backend may start a program to know.
    watch: Watch,
    /// What failed last, until it works again.
    failure: Option<String>,
    /// What the operator must know, as of the last repair.
    notes: Vec<String>,
}

/// A backend's state, for status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendState {
    /// Its name.
    pub name: String,
    /// `ok` or `failing`.
    pub state: String,
    /// What failed, or what the operator must know although nothing did.
    pub note: Option<String>,
}

impl Doors {
    /// The backends that this configuration names, and those that have something open which only they can close;
    /// nothing is changed yet.
    ///
    /// # Errors
    ///
    /// When a backend cannot do what the configuration asks.
    pub fn new(config: &Config, paths: &Paths) -> Result<Self, BackendError> {
        let mut entries = Vec::new();
        for kind in &kinds(config) | &left_behind(paths) {
            let backend: Box<dyn Backend> = match kind {
                BackendKind::Iptables => Box::new(Iptables::new(Plan::from_config(config, kind)?)),
                BackendKind::Nftables => {
                    Box::new(Nftables::new(Plan::from_config(config, kind)?, config.nftables.clone()))
                }
                BackendKind::TcpWrappers => Box::new(TcpWrappers::new(wrappers::Plan::from_config(config, paths)?)),
                BackendKind::Command => Box::new(Command::from_config(config, paths)?),
            };
            entries.push(Entry::new(backend, config, kind));
        }
        let cut = config.services.iter().filter(|service| service.at_end == AtEnd::Cut);
        let cut = cut
            .map(|service| (service.name.clone(), service.ports.clone()))
            .collect();
        Ok(Self {
            entries,
            is_real: true,
            cut,
            always_allow: config.lock_out.always_allow.clone(),
        })
    }

    /// The same backends, doing nothing: for a dry run.
    #[must_use]
    pub fn recording(config: &Config) -> Self {
        let entry = |kind: BackendKind| Entry::new(Box::new(Recording::of(kind.name())), config, kind);
        let entries = kinds(config).into_iter().map(entry).collect();
        Self {
            entries,
            is_real: false,
            cut: BTreeMap::new(),
            always_allow: Vec::new(),
        }
    }

    /// Puts every static part in place, and then takes out what a firewall left that is no longer used: its drop would
    /// shut doors that another one opens.
    ///
    /// # Errors
    ///
    /// The first failure; what stood before still stands.
    pub fn protect(&mut self) -> Result<(), BackendError> {
        for entry in &mut self.entries {
            let repairs = entry.backend.protect()?;
            entry.log("put in place", &repairs, false);
        }
        let unused = FIREWALLS.into_iter().filter(|kind| self.is_real && !self.has(*kind));
        for mut firewall in unused.filter_map(bare) {
            if let Err(failure) = firewall.uninstall() {
                // Mostly its programs are not installed; what they never put there cannot be in the way.
                debug!(
                    backend = firewall.name(),
                    "could not be looked for remains: {}", failure.what
                );
            }
        }
        Ok(())
    }

    fn has(&self, kind: BackendKind) -> bool {
        self.entries.iter().any(|entry| entry.backend.name() == kind.name())
    }

    /// Tries every backend with a probe.
    ///
    /// # Errors
    ///
    /// The first failure: grants would not work either.
    pub fn self_test(&mut self) -> Result<(), BackendError> {
        self.entries.iter_mut().try_for_each(|entry| entry.backend.self_test())
    }

    /// Opens a door in every backend of its service, or renews it.
    ///
    /// # Errors
    ///
    /// The first failure; what was opened by other backends is closed again.
    pub fn open(&mut self, opening: &Opening) -> Result<(), BackendError> {
        let outcome = self.of(&opening.door.service).try_for_each(|entry| {
            let outcome = entry.backend.open(opening);
            entry.note(outcome)
        });
        if outcome.is_err() {
            // Already reported; what cannot be closed ends in the kernel. Nobody is cut off because of our own failure.
            let _ = self.close(&opening.door, &[opening.door.opened]);
        }
        outcome
    }

    /// Closes a door in every backend of its service, and cuts what it had let in where the service asks for it, but
    /// for those who have one of `others` to the same service.
    ///
    /// # Errors
    ///
    /// The first failure; the others were tried all the same.
    pub fn close(&mut self, door: &Door, others: &[IpNet]) -> Result<(), BackendError> {
        let close = |entry: &mut Entry| {
            let outcome = entry.backend.close(door);
            entry.note(outcome)
        };
        let outcomes: Vec<_> = self.of(&door.service).map(close).collect();
        if let Some(ports) = self.cut.get(&door.service) {
            let spared = self.always_allow.iter().chain(others).copied().collect();
            Cut {
                ports: ports.clone(),
                spared,
            }
            .connections(door);
        }
        outcomes.into_iter().collect()
    }

    /// Makes exactly these openings stand open, at the daemon's start. A person's own command that fails has been
    /// reported and is tried again; it keeps nobody from starting.
    ///
    /// # Errors
    ///
    /// The first failure; the others were tried all the same.
    pub fn reconcile(&mut self, openings: &[Opening]) -> Result<(), BackendError> {
        let mut outcomes = Vec::new();
        for entry in &mut self.entries {
            let outcome = entry.reconcile(openings);
            if entry.kind != BackendKind::Command {
                outcomes.push(outcome);
            }
        }
        outcomes.into_iter().collect()
    }

    /// Looks whether the doors are as they should be, without starting a program, and mends what is not.
    pub fn check_doors(&mut self, openings: &[Opening]) {
        for entry in &mut self.entries {
            let own = entry.own(openings);
            match entry.backend.doors_intact(&own) {
                Ok(true) => entry.recovered(),
                Ok(false) => drop(entry.reconcile(openings)),
                Err(error) => drop(entry.note(Err(error))),
            }
        }
    }

    /// Looks whether the static parts are as they were put, and mends what is not.
    pub fn check_rules(&mut self, openings: &[Opening]) {
        for entry in &mut self.entries {
            match entry.backend.rules_intact() {
                Ok(true) => {}
                Ok(false) => drop(entry.reconcile(openings)),
                Err(error) => drop(entry.note(Err(error))),
            }
        }
    }

    /// The nftables tables whose changes call for [`Doors::check_rules`].
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        let tables = |entry: &Entry| match &entry.watch {
            Watch::Tables(names) => names.clone(),
            Watch::Nothing | Watch::Every(_) => Vec::new(),
        };
        self.entries.iter().flat_map(tables).collect()
    }

    /// How often to look where nothing tells.
    #[must_use]
    pub fn look_every(&self) -> Option<Duration> {
        let every = |entry: &Entry| match entry.watch {
            Watch::Every(period) => Some(period),
            Watch::Nothing | Watch::Tables(_) => None,
        };
        self.entries.iter().filter_map(every).min()
    }

    /// Closes every door; what protects stays.
    pub fn close_all(&mut self) {
        for entry in &mut self.entries {
            let outcome = entry.backend.close_all();
            // Reported; what is left ends in the kernel.
            let _ = entry.note(outcome);
        }
    }

    /// Closes what must not stay open without a daemon although doors are kept: what commands have opened.
    pub fn close_commands(&mut self) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.kind == BackendKind::Command)
        {
            let outcome = entry.backend.close_all();
            // Reported, and remembered: the next start or `close-overdue` tries again.
            let _ = entry.note(outcome);
        }
    }

    /// The names of a service's backends.
    #[must_use]
    pub fn names(&self, service: &str) -> Vec<&'static str> {
        let serving = self.entries.iter().filter(|entry| entry.services.contains(service));
        serving.map(|entry| entry.backend.name()).collect()
    }

    /// What status says of them.
    #[must_use]
    pub fn states(&self) -> Vec<BackendState> {
        let state = |entry: &Entry| BackendState {
            name: entry.backend.name().into(),
            state: if entry.failure.is_none() { "ok" } else { "failing" }.into(),
            note: entry.failure.clone().or_else(|| entry.notes()),
        };
        self.entries.iter().map(state).collect()
    }

    fn of<'a>(&'a mut self, service: &'a str) -> impl Iterator<Item = &'a mut Entry> {
        self.entries
            .iter_mut()
            .filter(move |entry| entry.services.contains(service))
    }
}

impl Entry {
    fn new(backend: Box<dyn Backend>, config: &Config, kind: BackendKind) -> Self {
        let services = config
            .services
            .iter()
            .filter(|service| service.backends.contains(&kind));
        let services = services.map(|service| service.name.clone()).collect();
        Self {
            kind,
            watch: backend.watch(),
            backend,
            services,
            failure: None,
            notes: Vec::new(),
        }
    }

    fn own(&self, openings: &[Opening]) -> Vec<Opening> {
        openings
            .iter()
            .filter(|opening| self.services.contains(&opening.door.service))
            .cloned()
            .collect()
    }

    fn reconcile(&mut self, openings: &[Opening]) -> Result<(), BackendError> {
        let own = self.own(openings);
        let outcome = self.backend.reconcile(&own);
        if let Ok(repairs) = &outcome {
            self.log("put back", repairs, true);
        }
        self.note(outcome.map(|_| ()))
    }

    fn notes(&self) -> Option<String> {
        (!self.notes.is_empty()).then(|| self.notes.join("; "))
    }

    /// Says what was repaired, once for each thing, and what is new to know.
    fn log(&mut self, verb: &str, repairs: &Repairs, loud: bool) {
        let backend = self.backend.name();
        for what in repairs.notes.iter().filter(|what| !self.notes.contains(what)) {
            warn!(backend, "{what}");
        }
        self.notes.clone_from(&repairs.notes);
        for what in &repairs.restored {
            if loud {
                warn!(backend, "{verb}: {what}");
            } else {
                info!(backend, "{verb}: {what}");
            }
        }
        for door in &repairs.reopened {
            warn!(backend, service = door.service, opened = %door.opened, "opened again: it was gone");
        }
        for door in &repairs.removed {
            info!(backend, service = door.service, opened = %door.opened, "closed: no grant accounts for it");
        }
    }

    /// Reports a change between working and failing, and every failure that says something new.
    fn note(&mut self, outcome: Result<(), BackendError>) -> Result<(), BackendError> {
        match &outcome {
            Ok(()) => self.recovered(),
            Err(failure) => {
                let what = failure.what.clone();
                if self.failure.as_ref() != Some(&what) {
                    error!(backend = self.backend.name(), hint = failure.hint, "{what}");
                }
                self.failure = Some(what);
            }
        }
        outcome
    }

    fn recovered(&mut self) {
        if self.failure.take().is_some() {
            info!(backend = self.backend.name(), "works again");
        }
    }
}

/// Takes out everything that any backend ever put anywhere, whatever is configured now.
///
/// # Errors
///
/// What could not be taken out, all of it.
pub fn uninstall_all(paths: &Paths) -> Result<(), Vec<BackendError>> {
    let (mut backends, mut faults) = remembered(paths);
    backends.extend(FIREWALLS.into_iter().filter_map(bare));
    faults.extend(backends.iter_mut().filter_map(|backend| backend.uninstall().err()));
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// A firewall that knows of no service: good for taking out what it ever put anywhere.
fn bare(kind: BackendKind) -> Option<Box<dyn Backend>> {
    match kind {
        BackendKind::Iptables => Some(Box::new(Iptables::new(Plan::default()))),
        BackendKind::Nftables => Some(Box::new(Nftables::new(Plan::default(), None))),
        BackendKind::TcpWrappers | BackendKind::Command => None,
    }
}

/// The backends whose doors no kernel ends, as they were put in place last: no configuration is needed to close by them.
///
/// With it what kept any of them from being made.
#[must_use]
pub fn endless(paths: &Paths) -> (Vec<Box<dyn Backend>>, Vec<BackendError>) {
    let (mut backends, mut faults) = remembered(paths);
    match Iptables::left_open() {
        Ok(rules) => backends.extend(rules.map(|rules| Box::new(rules) as Box<dyn Backend>)),
        Err(error) => faults.push(error),
    }
    (backends, faults)
}

/// Those that keep a record of what they did.
fn remembered(paths: &Paths) -> (Vec<Box<dyn Backend>>, Vec<BackendError>) {
    let (mut backends, mut faults): (Vec<Box<dyn Backend>>, _) = (Vec::new(), Vec::new());
    match wrappers::Plan::from_record(paths) {
        Ok(plan) => backends.push(Box::new(TcpWrappers::new(plan))),
        Err(error) => faults.push(error),
    }
    match Command::new(BTreeMap::new(), &command::ledger_file(paths)) {
        Ok(command) => backends.push(Box::new(command)),
        Err(error) => faults.push(error),
    }
    (backends, faults)
}

/// What stands around the backends of this host, and would make a grant open nothing or everything.
#[must_use]
pub fn inspect_all(config: &Config, paths: &Paths) -> Vec<Finding> {
    let mut findings = Vec::new();
    if kinds(config).contains(&BackendKind::TcpWrappers) {
        match wrappers::Plan::from_config(config, paths) {
            Ok(plan) => findings.extend(inspect::inspect(&plan)),
            Err(error) => findings.push(bad_plan(&error)),
        }
    }
    findings.extend(command::inspect::inspect(config));
    findings
}

fn bad_plan(error: &BackendError) -> Finding {
    let finding = Finding::error(Code::Backend, error.to_string());
    match &error.hint {
        Some(hint) => finding.with_try(hint),
        None => finding,
    }
}

/// Backends that did something which no kernel ends, whatever is configured now.
fn left_behind(paths: &Paths) -> BTreeSet<BackendKind> {
    let records = [
        (BackendKind::TcpWrappers, wrappers::record_file(paths)),
        (BackendKind::Command, command::ledger_file(paths)),
    ];
    let left = records.into_iter().filter(|(_, file)| file.exists());
    left.map(|(kind, _)| kind).collect()
}

fn kinds(config: &Config) -> BTreeSet<BackendKind> {
    config
        .services
        .iter()
        .flat_map(|service| service.backends.iter().copied())
        .collect()
}

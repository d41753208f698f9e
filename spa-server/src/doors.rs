//! All backends together: each door is opened and closed by every backend of its service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracing::{debug, error, info, warn};

use crate::backend::iptables::Iptables;
use crate::backend::nftables::Nftables;
use crate::backend::plan::Plan;
use crate::backend::recording::Recording;
use crate::backend::{Backend, BackendError, Door, Opening, Repairs, Watch};
use crate::config::{AtEnd, BackendKind, Config, PortRange};
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
    /// The backends that this configuration names; nothing is changed yet.
    ///
    /// # Errors
    ///
    /// When a backend cannot do what the configuration asks.
    pub fn new(config: &Config) -> Result<Self, BackendError> {
        let mut entries = Vec::new();
        for kind in kinds(config) {
            let backend: Box<dyn Backend> = match kind {
                BackendKind::Iptables => Box::new(Iptables::new(Plan::from_config(config, kind)?)),
                BackendKind::Nftables => {
                    Box::new(Nftables::new(Plan::from_config(config, kind)?, config.nftables.clone()))
                }
                BackendKind::TcpWrappers | BackendKind::Command => return Err(not_yet(kind)),
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
        for kind in FIREWALLS.into_iter().filter(|kind| self.is_real && !self.has(*kind)) {
            if let Err(failure) = uninstall(kind) {
                // Mostly its programs are not installed; what they never put there cannot be in the way.
                debug!(
                    backend = kind.name(),
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

    /// Makes exactly these openings stand open, at the daemon's start.
    ///
    /// # Errors
    ///
    /// The first failure; the others were tried all the same.
    pub fn reconcile(&mut self, openings: &[Opening]) -> Result<(), BackendError> {
        let outcomes: Vec<_> = self.entries.iter_mut().map(|entry| entry.reconcile(openings)).collect();
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
pub fn uninstall_all() -> Result<(), Vec<BackendError>> {
    let uninstalled = FIREWALLS.map(uninstall);
    let faults: Vec<_> = uninstalled.into_iter().filter_map(Result::err).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Takes out what one kind of backend ever put anywhere.
fn uninstall(kind: BackendKind) -> Result<(), BackendError> {
    match kind {
        BackendKind::Iptables => Iptables::new(Plan::default()).uninstall(),
        BackendKind::Nftables => Nftables::new(Plan::default(), None).uninstall(),
        BackendKind::TcpWrappers | BackendKind::Command => Ok(()),
    }
}

fn kinds(config: &Config) -> BTreeSet<BackendKind> {
    config
        .services
        .iter()
        .flat_map(|service| service.backends.iter().copied())
        .collect()
}

fn not_yet(kind: BackendKind) -> BackendError {
    BackendError {
        backend: kind.name().into(),
        what: "this version does not have this backend".into(),
        hint: None,
    }
}

//! Another configuration, other clients: built beside the old, swapped only when all of it is good.

use std::fmt;
use std::path::Path;

use spa_keys::directory::{ClientState, ClientView, Kind, Reload};
use spa_keys::gateway::GatewayKey;
use spa_keys::{Changes, Exit, Failure};
use spa_proto::{Gateway, PublicKey, UnixTime};
use tracing::{error, info, warn};

use super::sequences::Prepared;
use super::{Daemon, Loaded, start};
use crate::audit::event::told as audited;
use crate::audit::{Event, How};
use crate::backend::BackendError;
use crate::capture::Capture;
use crate::clock;
use crate::config::{Config, Finding, Source, changes};
use crate::confirm::Intent;
use crate::doors::Doors;
use crate::grant::{Grant, GrantKey};
use crate::logging;
use crate::sequences::Sequences;

impl Loaded {
    pub(super) fn of(source: &Source, at: UnixTime) -> Self {
        Self {
            at,
            source: source.clone(),
            rejected: None,
        }
    }

    /// Whether the file is another than the one in force.
    pub(super) fn has_changed(&self, file: &Path) -> bool {
        std::fs::read(file).unwrap_or_default() != self.source.text.as_bytes()
    }
}

/// Why another configuration is not in force.
#[derive(Debug)]
pub(super) enum Refusal {
    /// server.toml.
    Findings(Vec<Finding>),
    /// Anything else.
    Failure(Failure),
}

impl fmt::Display for Refusal {
    /// In one line, for the log and for status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Findings(findings) => f.write_str(&told(findings)),
            Self::Failure(failure) => f.write_str(&failure.what),
        }
    }
}

impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Self {
        Self::Failure(start::failure(error))
    }
}

impl Daemon {
    /// Loads server.toml and gateway.key anew. What is wrong with them leaves the old in force.
    pub(super) fn reload(&mut self) {
        // Reported; what was in force stays.
        let _ = self.load(Intent::Plain(None));
    }

    /// The same for whoever wants to know what came of it: what differs now, and the warnings about it.
    pub(super) fn load(&mut self, intent: Intent<'_>) -> Result<(Vec<String>, Vec<Finding>), Refusal> {
        let on_trial = matches!(intent, Intent::Trial(_));
        let outcome = self.try_load(intent);
        match &outcome {
            Ok((changes, _)) => {
                info!("the new configuration is in force");
                self.audit_loaded(changes, on_trial);
            }
            Err(why) => {
                error!("the new configuration is rejected, the old one stays in force: {why}");
                let why = why.to_string();
                self.audit(Event::Rejected { why: audited(&why) });
                self.loaded.rejected = Some(why);
            }
        }
        outcome
    }

    fn try_load(&mut self, intent: Intent<'_>) -> Result<(Vec<String>, Vec<Finding>), Refusal> {
        let source = Source::read(&self.paths.config).map_err(Refusal::Findings)?;
        let (config, warnings) = Config::from_source(&self.paths.config, &source).map_err(Refusal::Findings)?;
        for finding in &warnings {
            warn!(code = %finding.code, "{}", finding.text);
        }
        let identities = GatewayKey::load(&self.paths.gateway_key).map_err(|error| Refusal::Failure(error.into()))?;
        self.refuse_unusable(&config)?;
        let changes = changes(&self.config, &config);
        self.put_in_force(config, Some(identities))?;
        self.loaded = Loaded::of(&source, clock::wall());
        if self.remember_loaded(&source, intent) {
            return Ok((changes, warnings));
        }
        // Undone or taken back by another process while it was loaded here.
        self.return_to_confirmed();
        let what = "it was undone before it was loaded: the confirmed copy is in force again";
        Err(Refusal::Failure(Failure::new(Exit::Failed, what)))
    }

    /// Everything by the new configuration, or everything by the old one. Without identities the old ones stay.
    pub(super) fn put_in_force(&mut self, config: Config, identities: Option<GatewayKey>) -> Result<(), Refusal> {
        let doors = self.protect_anew(&config)?;
        let (gateway, capture) = match self.capture_anew(&config, identities) {
            Ok(built) => built,
            Err(why) => {
                self.put_rules_back();
                return Err(why);
            }
        };
        let prepared = match self.prepare_sequences(&config) {
            Ok(prepared) => prepared,
            Err(why) => {
                self.put_rules_back();
                return Err(why);
            }
        };
        self.take_gateway(gateway);
        logging::take_up(config.log);
        // By the old backends, which know how such a service's doors and connections are ended.
        self.end_grants(How::ServiceGone, |key, _| {
            !config.services.iter().any(|service| service.name == key.service)
        });
        let old = std::mem::replace(&mut self.config, config);
        self.doors = doors;
        if let Some(capture) = capture {
            self.interfaces
                .retain(|name, _| self.config.listen.interfaces.contains(name));
            self.capture = capture;
        }
        let addresses = start::listen(&self.config).addresses;
        self.sequences.take(prepared, addresses);
        self.refresh_addresses();
        self.watch_tables();
        self.review_grants();
        self.configure_guard();
        let openings = self.openings();
        if let Err(error) = self.doors.reconcile(&openings) {
            warn!("doors may be shut that should be open: {error}");
        }
        drop(old);
        Ok(())
    }

    /// The new rules over the old ones; on failure the old ones again.
    fn protect_anew(&mut self, config: &Config) -> Result<Doors, Refusal> {
        if self.dry_run {
            return Ok(Doors::recording(config));
        }
        let mut doors = Doors::new(config, &self.paths)?;
        if let Err(error) = doors.protect().and_then(|()| doors.self_test()) {
            self.put_rules_back();
            return Err(error.into());
        }
        Ok(doors)
    }

    fn put_rules_back(&mut self) {
        if let Err(worse) = self.doors.protect() {
            error!("the old rules could not be put back: {worse}");
        }
    }

    /// New identities in the old threads; new threads only for other interfaces or ports.
    fn capture_anew(
        &self,
        config: &Config,
        identities: Option<GatewayKey>,
    ) -> Result<(Gateway, Option<Capture>), Refusal> {
        let sieve = self.gateway.sieve();
        let sieve = identities.map_or_else(|| sieve.clone(), |key| sieve.with_identities(key.into_identities()));
        let gateway = Gateway::new(sieve);
        let (old, new) = (&self.config.listen, &config.listen);
        if old == new {
            return Ok((gateway, None));
        }
        let (sieve, events) = (gateway.sieve().clone(), self.event_sender.clone());
        let counters = self.capture.counters();
        match Capture::start(&new.interfaces, &new.ports, sieve, events, counters) {
            Ok(capture) => Ok((gateway, Some(capture))),
            Err(error) => {
                let what = format!("no thread could be started: {error}");
                Err(Refusal::Failure(Failure::new(Exit::Failed, what)))
            }
        }
    }

    /// What a person offers must be whole, since what is in force is. What comes back by itself only says what is not.
    fn refuse_unusable(&self, config: &Config) -> Result<(), Refusal> {
        let (_, unusable) = Sequences::load(&config.sequences, &self.paths);
        match unusable.into_iter().next() {
            None => Ok(()),
            Some(one) => {
                let what = one.to_string();
                Err(Refusal::Failure(Failure { what, ..one.failure }))
            }
        }
    }

    fn prepare_sequences(&self, config: &Config) -> Result<Prepared, Refusal> {
        let prepared = self.sequences.prepare(config, &self.paths, self.guard.patrol());
        prepared.map_err(|error| Refusal::Failure(start::no_thread(&error)))
    }

    fn watch_tables(&mut self) {
        self.watches.tables = start::watch_tables(&self.doors);
    }

    /// Something in clients.d or invites.d has changed.
    pub(super) fn on_folders(&mut self) {
        let changes = self.watches.folders.get_mut().drain().unwrap_or_else(|error| {
            warn!("changes in clients.d may have been missed, all of it is read again: {error}");
            Changes {
                all: true,
                ..Changes::default()
            }
        });
        match self.keys.apply(&changes) {
            Ok(outcomes) => {
                for (kind, stem, outcome) in &outcomes {
                    self.say_reloaded(*kind, stem, *outcome);
                    self.audit_file(*kind, stem, *outcome);
                }
            }
            Err(error) => error!("clients.d could not be read again, what was known stays: {error}"),
        }
        self.review_grants();
    }

    fn say_reloaded(&self, kind: Kind, stem: &str, outcome: Reload) {
        let what = if kind == Kind::Client { "client" } else { "invite" };
        match outcome {
            Reload::Unchanged => {}
            Reload::Loaded => info!(file = stem, "{what} loaded"),
            Reload::Removed => info!(file = stem, "{what} gone"),
            Reload::Broken => {
                let broken = self
                    .keys
                    .broken()
                    .find(|(found, name, _)| (*found, *name) == (kind, stem));
                if let Some((.., broken)) = broken {
                    start::say_broken(broken);
                }
            }
        }
    }

    /// Ends what the clients and services of today do not allow any more, and what outlasts its client.
    pub(super) fn review_grants(&mut self) {
        let now = clock::now();
        let allowed = |daemon: &Self, key: &GrantKey, _: &Grant| {
            let service = daemon.config.services.iter().any(|service| service.name == key.service);
            let client = key
                .client
                .is_none_or(|client| daemon.may_open(&client, &key.service, now.wall));
            service && client
        };
        let unwanted: Vec<GrantKey> = self
            .grants
            .live()
            .filter(|(key, grant)| !allowed(self, key, grant))
            .map(|(key, _)| key.clone())
            .collect();
        if !unwanted.is_empty() {
            self.end_grants(How::NotAllowed, |key, _| unwanted.contains(key));
        }
        self.shorten_grants();
    }

    fn may_open(&self, client: &PublicKey, service: &str, wall: UnixTime) -> bool {
        let allows = |view: ClientView<'_>| view.policy().services.iter().any(|own| own.as_str() == service);
        self.keys
            .client(client)
            .is_some_and(|view| view.state(wall) == ClientState::Active && allows(view))
    }

    /// A client whose end was moved nearer takes its grants with it.
    fn shorten_grants(&mut self) {
        let now = clock::now();
        let over = |daemon: &Self, key: &GrantKey, grant: &Grant| {
            let left = grant.end?.saturating_sub(now.uptime);
            let allowed = daemon.until_expiry(&key.client?, now.wall, left);
            (allowed < left).then(|| (key.clone(), now.uptime + allowed))
        };
        let shortened: Vec<_> = self
            .grants
            .live()
            .filter_map(|(key, grant)| over(self, key, grant))
            .collect();
        for (key, end) in shortened {
            if let Some(door) = self.grants.shorten(&key, end) {
                self.owe_grant(&key);
                self.audit_shortened(&key);
                self.shut(&door);
            }
        }
        if let Err(error) = self.journal.commit() {
            warn!("a nearer end could not be recorded: {error}");
        }
    }
}

/// All findings in one line for the log and for status.
fn told(findings: &[Finding]) -> String {
    let tell = |finding: &Finding| match finding.line {
        Some(line) => format!("line {line}: {}", finding.text),
        None => finding.text.clone(),
    };
    findings
        .iter()
        .filter(|finding| finding.is_error())
        .map(tell)
        .collect::<Vec<_>>()
        .join("; ")
}

//! Another configuration, other clients: built beside the old, swapped only when all of it is good.

use std::fmt;
use std::time::Duration;

use spa_keys::directory::{ClientState, ClientView, Kind, Reload};
use spa_keys::gateway::GatewayKey;
use spa_keys::{Changes, Exit, Failure};
use spa_proto::{Gateway, PublicKey, UnixTime};
use tracing::{error, info, warn};

use super::sequences::Prepared;
use super::{Daemon, Loaded, start};
use crate::audit::event::told as audited;
use crate::audit::{Event, How};
use crate::capture::Capture;
use crate::clock;
use crate::config::{Config, Finding, changes};
use crate::confirm::Intent;
use crate::firewall::Refused;
use crate::firewall::message::Which;
use crate::grant::{Grant, GrantKey};
use crate::logging;
use crate::sequences::Sequences;

impl Loaded {
    pub(super) const fn at(at: UnixTime) -> Self {
        Self { at, rejected: None }
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

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Findings(findings) => Self::Findings(findings),
            other => Self::Failure(other.into()),
        }
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
        self.notify.reloading(clock::monotonic());
        let on_trial = matches!(intent, Intent::Trial(_));
        let outcome = self.try_load(intent);
        self.notify.reloaded();
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
        let source = self.partner.read(Which::File)?;
        let (config, warnings) = Config::from_source(&self.paths.config, &source).map_err(Refusal::Findings)?;
        for finding in &warnings {
            warn!(code = %finding.code, "{}", finding.text);
        }
        let identities = GatewayKey::load(&self.paths.gateway_key).map_err(|error| Refusal::Failure(error.into()))?;
        self.refuse_unusable(&config)?;
        let changes = changes(&self.config, &config);
        self.put_in_force(config, Some(identities))?;
        self.loaded = Loaded::at(clock::wall());
        if self.remember_loaded(intent) {
            return Ok((changes, warnings));
        }
        // Undone or taken back by another process while it was loaded here.
        self.return_to_confirmed();
        let what = "it was undone before it was loaded: the confirmed copy is in force again";
        Err(Refusal::Failure(Failure::new(Exit::Failed, what)))
    }

    /// Everything by the new configuration, which the partner has read last, or everything by the old one. Without
    /// identities the old ones stay.
    pub(super) fn put_in_force(&mut self, config: Config, identities: Option<GatewayKey>) -> Result<(), Refusal> {
        // The new rules over the old ones; on failure the old ones are there again.
        self.partner.stage()?;
        let (gateway, capture) = match self.capture_anew(&config, identities) {
            Ok(built) => built,
            Err(why) => {
                self.partner.abort();
                return Err(why);
            }
        };
        let prepared = match self.prepare_sequences(&config) {
            Ok(prepared) => prepared,
            Err(why) => {
                self.partner.abort();
                return Err(why);
            }
        };
        self.take_gateway(gateway);
        logging::take_up(config.log);
        // By the old backends, which know how such a service's doors and connections are ended.
        self.end_grants(How::ServiceGone, |key, _| {
            !config.services.iter().any(|service| service.name == key.service)
        });
        self.partner.commit(&config)?;
        self.config = config;
        if let Some(capture) = capture {
            self.interfaces
                .retain(|name, _| self.config.listen.interfaces.contains(name));
            self.capture = capture;
        }
        let addresses = start::listen(&self.config).addresses;
        self.sequences.take(prepared, addresses);
        self.refresh_addresses();
        self.review_grants();
        self.configure_guard();
        let openings = self.openings();
        if let Err(error) = self.partner.reconcile(&openings) {
            warn!("doors may be shut that should be open: {error}");
        }
        Ok(())
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

    fn cap_of(&self, service: &str) -> Duration {
        let service = self.config.services.iter().find(|known| known.name == service);
        service.map_or(Duration::ZERO, |service| service.max_duration)
    }

    /// A client whose end was moved nearer takes its grants with it, and so does a service whose cap was lowered: the
    /// firewall process would not have them any more.
    fn shorten_grants(&mut self) {
        let now = clock::now();
        let over = |daemon: &Self, key: &GrantKey, grant: &Grant| {
            let left = grant.end?.saturating_sub(now.uptime);
            let capped = left.min(daemon.cap_of(&key.service));
            let allowed = match &key.client {
                Some(client) => daemon.until_expiry(client, now.wall, capped),
                None => capped,
            };
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

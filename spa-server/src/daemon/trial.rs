//! `apply`, and the change that undoes itself unless it is confirmed, as the daemon sees them.
//!
//! The armed process acts at the deadline; so does the daemon, should that process be gone. The record is the firewall
//! process's: it is asked, and never does the daemon's loop wait for the record's lock for longer than [`PATIENCE`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use spa_keys::units::format_time;
use spa_keys::{Exit, GatewayKey, Paths};
use tracing::{error, info, warn};

use super::reload::Refusal;
use super::{Daemon, Loaded};
use crate::audit::Event;
use crate::clock;
use crate::config::{Config, Source};
use crate::confirm::armed::OTHER_CONFIG;
use crate::confirm::ledger::Stamp;
use crate::confirm::{Intent, Ledger};
use crate::control::{ControlError, Reply};
use crate::firewall::Refused;
use crate::firewall::message::{Undo, Waiting, Which};

/// How long a request waits for the lock: commands hold it for milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// How soon a lock that somebody holds is tried again.
const BUSY: Duration = Duration::from_millis(200);
/// How soon what could not be undone is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What the daemon knows of a change that waits to be confirmed.
pub(super) struct Trial {
    /// Which server.toml, from the root.
    config: PathBuf,
    seen: Stamp,
    /// Why it is not known whether a change waits; said once.
    unknown: Option<String>,
    /// The change that waits, and when the daemon looks after it, on the clock of the boot.
    waits: Option<(String, Duration)>,
    /// When the way back to the confirmed configuration is tried again.
    returns: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplyParameters {
    config: PathBuf,
    nonce: Option<String>,
}

impl Trial {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            config: Ledger::of(paths).config,
            seen: None,
            unknown: None,
            waits: None,
            returns: None,
        }
    }

    /// The change that waited before the configuration was read.
    pub(super) fn expect(&mut self, nonce: Option<String>) {
        self.waits = nonce.map(|nonce| (nonce, Duration::ZERO));
    }

    /// When the daemon must look after it.
    pub(super) fn due(&self) -> Option<Duration> {
        let waits = self.waits.as_ref().map(|(_, due)| *due);
        waits.into_iter().chain(self.returns).min()
    }

    /// What status says: how long the change waits yet.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        self.waits.as_ref().map(|(_, due)| due.saturating_sub(now))
    }

    fn put_off(&mut self, length: Duration) {
        if let Some((_, due)) = &mut self.waits {
            *due = clock::uptime() + length;
        }
    }

    fn say_unknown(&mut self, why: &Refused) {
        let why = why.to_string();
        if self.unknown.as_ref() != Some(&why) {
            warn!("whether a change waits to be confirmed is not known: {why}");
        }
        self.unknown = Some(why);
    }

    fn follow(&mut self, waiting: &Waiting) {
        self.waits.clone_from(&waiting.waits);
    }
}

impl Daemon {
    /// Notices what other processes have made of the record: armed, confirmed, undone.
    pub(super) fn watch_record(&mut self) {
        if self.dry_run {
            return;
        }
        let waiting = match self.partner.waiting() {
            Ok(waiting) => waiting,
            Err(why) => return self.trial.say_unknown(&why),
        };
        self.trial.unknown = None;
        if waiting.stamp == self.trial.seen {
            return;
        }
        self.trial.seen = waiting.stamp;
        let ours = self.trial.waits.take().map(|(nonce, _)| nonce);
        self.trial.follow(&waiting);
        match (ours, waiting.undone) {
            (Some(ours), Some(undone)) if undone.nonce == ours => {
                warn!(at = undone.at, "the last change was undone by another process");
                self.return_to_confirmed();
            }
            (Some(_), _) if self.trial.waits.is_none() => {
                info!("no change waits to be confirmed any more");
                self.audit(Event::Confirmed);
            }
            _ => {}
        }
    }

    /// What is in force was undone by another process: nothing may be mended by it any more.
    pub(super) fn return_to_confirmed(&mut self) {
        let confirmed = self.partner.read(Which::Confirmed).map_err(|why| why.to_string());
        let outcome = confirmed.and_then(|source| self.put_back_in_force(&source));
        self.trial.returns = match outcome {
            Ok(()) => {
                info!("the confirmed configuration is in force");
                self.audit(Event::Undone);
                None
            }
            Err(why) => {
                error!("the confirmed configuration cannot be loaded, it is tried again: {why}");
                Some(clock::uptime() + RETRY)
            }
        };
    }

    /// Undoes a change whose time is over, should the armed process not have done it.
    pub(super) fn look_after_trial(&mut self, now: Duration) {
        if self.trial.returns.is_some_and(|due| due <= now) {
            self.return_to_confirmed();
        }
        if self.trial.waits.as_ref().is_none_or(|(_, due)| *due > now) {
            return;
        }
        match self.undo_trial(Duration::ZERO) {
            Ok(()) => self.watch_record(),
            Err((why, pause)) => {
                if pause == RETRY {
                    error!("the last change cannot be undone, it is tried again: {why}");
                }
                self.trial.put_off(pause);
            }
        }
    }

    /// The file, then everything that is in force; a trial that is settled or has time left stays as it is.
    fn undo_trial(&mut self, patience: Duration) -> Result<(), (String, Duration)> {
        let begun = self.partner.begin_undo(patience);
        match begun.map_err(|why| (why.to_string(), RETRY))? {
            // By another process: looked at in full by whoever notices.
            Undo::Settled => {
                self.trial.seen = None;
                Ok(())
            }
            Undo::Busy(why) => Err((why, BUSY)),
            Undo::Begun(source) => self.finish_undo(&source).map_err(|what| {
                self.partner.leave_undo();
                (what, RETRY)
            }),
        }
    }

    fn finish_undo(&mut self, source: &Source) -> Result<(), String> {
        self.put_back_in_force(source)?;
        self.partner.finish_undo().map_err(|why| why.to_string())?;
        self.audit(Event::Undone);
        self.trial.waits = None;
        Ok(())
    }

    /// A gateway.key that cannot be read is no reason to stay with rules that may shut somebody out.
    fn put_back_in_force(&mut self, source: &Source) -> Result<(), String> {
        let read = Config::from_source(&self.paths.config, source);
        let (config, _) = read.map_err(|findings| Refusal::Findings(findings).to_string())?;
        let key = GatewayKey::load(&self.paths.gateway_key);
        let key = key
            .map_err(|error| warn!("the identities stay as they were: {error}"))
            .ok();
        self.put_in_force(config, key).map_err(|refusal| refusal.to_string())?;
        self.loaded = Loaded::at(clock::wall());
        Ok(())
    }

    /// Remembers what is in force now. False when it is a trial that was undone while it was loaded.
    pub(super) fn remember_loaded(&mut self, intent: Intent<'_>) -> bool {
        if self.dry_run {
            return true;
        }
        let known = self.trial.waits.clone().map(|(nonce, _)| nonce);
        let intent = match intent {
            Intent::Plain(_) => Intent::Plain(known.as_deref()),
            applied => applied,
        };
        match self.partner.remember(intent.into()) {
            Ok((is_wanted, waiting)) => {
                self.trial.follow(&waiting);
                is_wanted
            }
            Err(why) => {
                warn!("what is in force cannot be kept as the confirmed copy: {why}");
                true
            }
        }
    }

    /// `apply --confirm`, before it is armed: the confirmed copy is kept, and the new file is good as far as can be
    /// told without changing anything.
    pub(super) fn prepare(&mut self, asked: &ApplyParameters) -> Reply {
        self.check_config(&asked.config)?;
        if self.dry_run {
            return Err(ControlError::failed(
                "this daemon is a dry run and changes no firewall: there is nothing that could be confirmed",
            ));
        }
        self.watch_record();
        if self.trial.waits.is_none() && !self.keep_copy() {
            return Err(ControlError::failed(
                "the confirmed copy cannot be kept; the daemon's log says why",
            ));
        }
        let read = self.partner.read(Which::File).map_err(Refusal::from);
        let checked =
            read.and_then(|source| Config::from_source(&self.paths.config, &source).map_err(Refusal::Findings));
        Ok(checked.map_or_else(|refusal| refusal.to_json(), |_| json!({ "ok": true })))
    }

    /// What is in force is what comes back; kept again should the disk have refused it when it was loaded.
    fn keep_copy(&mut self) -> bool {
        self.partner.keep_copy().is_ok_and(|(is_kept, waiting)| {
            self.trial.follow(&waiting);
            is_kept
        })
    }

    /// `apply`: loads server.toml and says what came of it.
    pub(super) fn apply(&mut self, asked: &ApplyParameters, uid: u32) -> Reply {
        self.check_config(&asked.config)?;
        let nonce = asked.nonce.as_deref();
        info!(uid, confirm = nonce.is_some(), "apply, by command");
        self.audit_command("apply", uid, None);
        if let Some(nonce) = nonce {
            let waiting = self.partner.waiting();
            let waiting = waiting.map_err(|why| ControlError::failed(why.to_string()))?;
            if !waiting.is_for(nonce) {
                return Err(ControlError::failed("this change was taken back before it was loaded"));
            }
        }
        Ok(match self.load(nonce.map_or(Intent::Confirmed, Intent::Trial)) {
            Ok((changes, warnings)) => self.applied(&changes, &warnings),
            Err(refusal) => refusal.to_json(),
        })
    }

    fn applied(&self, changes: &[String], warnings: &[crate::config::Finding]) -> Value {
        json!({
            "ok": true,
            "loaded": format_time(self.loaded.at),
            "changes": changes,
            "findings": warnings,
        })
    }

    /// The armed process asks: the file is back, the rules are to be.
    pub(super) fn undo(&mut self, asked: &ApplyParameters) -> Reply {
        self.check_config(&asked.config)?;
        if self.dry_run {
            return Err(ControlError::failed("this daemon is a dry run and puts no rules back"));
        }
        let nonce = asked.nonce.as_deref().unwrap_or_default();
        self.undo_trial(PATIENCE)
            .map_err(|(why, _)| ControlError::failed(why))?;
        self.watch_record();
        let waiting = self.partner.waiting();
        let waiting = waiting.map_err(|why| ControlError::failed(why.to_string()))?;
        if waiting.is_for(nonce) {
            return Err(ControlError::failed("its time is not over"));
        }
        Ok(json!({}))
    }

    fn check_config(&self, config: &Path) -> Result<(), ControlError> {
        if config == self.trial.config {
            return Ok(());
        }
        let own = self.trial.config.display();
        Err(ControlError {
            error: OTHER_CONFIG.into(),
            message: format!("the daemon runs with another configuration: {own}"),
        })
    }
}

/// What a refused configuration is answered with.
impl Refusal {
    fn to_json(&self) -> Value {
        let (exit, findings, hints) = match self {
            Self::Findings(findings) => (Exit::Config, findings.as_slice(), Vec::new()),
            Self::Failure(failure) => (failure.exit, [].as_slice(), failure.hints.clone()),
        };
        json!({
            "ok": false,
            "exit": exit as u8,
            "message": self.to_string(),
            "hints": hints,
            "findings": findings,
            "rendered": crate::config::render(findings, crate::config::Colour::Never),
        })
    }
}

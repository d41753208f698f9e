//! What the control socket is answered with (DESIGN: Formats).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use spa_keys::state::State;
use spa_keys::text;
use spa_keys::units::format_time;
use tracing::info;

use super::Daemon;
use super::audit::Ending;
use crate::clock;
use crate::control::{ControlError, Reply, Request};
use crate::grant::{Grant, GrantKey};
use crate::journal::RecordState;
use crate::metrics;
use crate::netlink::link::links_up;
use crate::refusals::Reason;

const EXPLAINED: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseParameters {
    client: Option<String>,
    address: Option<IpNet>,
    service: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainParameters {
    count: Option<usize>,
    client: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LastKnocksParameters {
    keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyParameters {
    pub(super) key: String,
}

impl Daemon {
    pub(super) fn answer(&mut self, request: Request) {
        let Request {
            method,
            parameters,
            uid,
            reply,
        } = request;
        let answer = match method.as_str() {
            "spa.Status" => {
                self.watch_record();
                Ok(self.status())
            }
            "spa.Prepare" => read(parameters).and_then(|asked| self.prepare(&asked)),
            "spa.Apply" => read(parameters).and_then(|asked| self.apply(&asked, uid)),
            "spa.Undo" => read(parameters).and_then(|asked| self.undo(&asked)),
            "spa.AuditHead" => Ok(self.audit_head()),
            "spa.Bans" => Ok(self.list_bans()),
            "spa.Unban" => read(parameters).and_then(|asked| self.unban(&asked, uid)),
            metrics::METHOD => Ok(self.metrics()),
            "spa.Grants" => Ok(self.list_grants()),
            "spa.Explain" => read(parameters).map(|asked| self.explain(&asked)),
            "spa.Close" => read(parameters).and_then(|asked| self.close_grants(&asked, uid)),
            "spa.LastKnocks" => read(parameters).and_then(|asked| self.last_knocks(&asked)),
            "spa.Record" => read(parameters).and_then(|asked| self.key_record(&asked)),
            "spa.LoadIdentities" => self.load_identities(uid),
            "spa.ResetReplay" => read(parameters).and_then(|asked| self.reset_replay(&asked, uid)),
            other => Err(ControlError::unknown_method(other)),
        };
        // Who asked may be gone; that is their matter.
        let _ = reply.send(answer);
    }

    pub(super) fn status(&mut self) -> Value {
        let (backends, changed) = self.partner.states();
        let now = clock::now();
        let counts = self.keys.counts(now.wall);
        let counters = self.capture.counters();
        let mut status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started": format_time(self.started),
            "dry_run": self.dry_run,
            "gateway": self.fingerprints(),
            "config": self.config_state(changed),
            "interfaces": self.interface_states(),
            "backends": backends,
            "record": self.record_state(now.uptime),
            "clock": { "synchronised": clock::is_synchronised(), "warning": self.clock_warning() },
            "clients": {
                "active": counts.active, "expired": counts.expired, "revoked": counts.revoked, "broken": counts.broken,
            },
            "grants": self.grants.live().count(),
            "accepted": { "open": self.accepted.open, "close": self.accepted.close, "enroll": self.accepted.enroll },
            "refused": self.refused_counts(),
            "dropped": {
                "kernel": load(&counters.kernel), "queue": load(&counters.queue), "twice": load(&counters.twice),
            },
            "forwarded": load(&counters.forwarded),
        });
        // Off unless written: their keys are there with them.
        let more = [
            ("scans", self.scans()),
            ("sequences", self.sequence_state()),
            ("metrics", self.exporter_state()),
            ("audit", self.audit_trouble()),
        ];
        for (key, facts) in more.into_iter().filter_map(|(key, facts)| Some((key, facts?))) {
            status[key] = facts;
        }
        status
    }

    fn config_state(&self, changed: bool) -> Value {
        let (state, note) = match (&self.loaded.rejected, self.unconfirmed(changed)) {
            (_, Some(note)) => ("unconfirmed", Some(note)),
            (Some(why), None) => ("rejected", Some(why.clone())),
            (None, None) if changed => ("changed", Some("the file is not the one that is in force".into())),
            (None, None) => ("current", None),
        };
        json!({ "loaded": format_time(self.loaded.at), "state": state, "note": note })
    }

    /// Until when, and what else there is to know of the file.
    fn unconfirmed(&self, changed: bool) -> Option<String> {
        let now = clock::now();
        let until = format_time(now.wall.saturating_add(self.trial.left(now.uptime)?));
        let mut note = format!("until {until}, then the confirmed copy comes back; to keep it: spa-server confirm");
        if let Some(why) = &self.loaded.rejected {
            // Writing to a String cannot fail.
            let _ = write!(note, "; a later file was rejected: {why}");
        } else if changed {
            note.push_str("; the file is not the one that is in force");
        }
        Some(note)
    }

    fn interface_states(&self) -> Vec<Value> {
        // What libpcap captures stays silent while a link is down, and goes on when it is up again.
        let up = links_up().ok();
        let is_link_up = |name: &String| name == "any" || up.as_ref().is_none_or(|up| up.contains(name));
        let state = |name: &String| {
            let captured = self.interfaces.get(name).is_some_and(|interface| interface.up);
            let up = captured && is_link_up(name);
            json!({ "name": name, "state": if up { "up" } else { "waiting" } })
        };
        self.config.listen.interfaces.iter().map(state).collect()
    }

    fn record_state(&self, now: Duration) -> Value {
        let (state, ready_in_s) = match self.journal.record_state(now) {
            RecordState::Ok => ("ok", None),
            RecordState::Waiting { left } => ("waiting", Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))),
            RecordState::Failing { .. } => ("failing", None),
        };
        json!({ "state": state, "ready_in_s": ready_in_s })
    }

    fn refused_counts(&self) -> Map<String, Value> {
        let counters = self.capture.counters();
        let of_threads = |reason| match reason {
            Reason::Shape => load(&counters.shape),
            Reason::Tag => load(&counters.tag),
            Reason::Copy => load(&counters.copy),
            _ => 0,
        };
        let count = |reason: Reason| {
            (
                reason.name().to_string(),
                (self.refusals.count(reason) + of_threads(reason)).into(),
            )
        };
        Reason::ALL.into_iter().map(count).collect()
    }

    fn list_grants(&self) -> Value {
        let now = clock::now();
        let grants: Vec<_> = self
            .grants
            .live()
            .map(|(key, grant)| self.grant(key, grant, &now))
            .collect();
        json!({ "grants": grants })
    }

    fn grant(&self, key: &GrantKey, grant: &Grant, now: &spa_proto::Moment) -> Value {
        let remaining = grant.end.unwrap_or_default().saturating_sub(now.uptime);
        json!({
            "client": key.client.map(|client| self.name_of(&client)),
            "service": key.service,
            "address": key.address,
            "opened": grant.opened,
            "via": if key.client.is_some() { "knock" } else { "sequence" },
            "since": format_time(grant.since),
            "until": format_time(now.wall.saturating_add(remaining)),
            "remaining_s": remaining.as_secs(),
            "backends": self.partner.names(&key.service),
        })
    }

    fn explain(&self, asked: &ExplainParameters) -> Value {
        let most = asked.count.unwrap_or(EXPLAINED);
        let refused: Vec<_> = match &asked.client {
            Some(client) => self.refusals.newest_of(client, most).collect(),
            None => self.refusals.newest(most).collect(),
        };
        json!({ "refused": refused })
    }

    /// Ends grants of a client or for an address; the keys stay good.
    fn close_grants(&mut self, asked: &CloseParameters, uid: u32) -> Reply {
        let key = match &asked.client {
            Some(name) => Some(
                self.keys
                    .client_named(name)
                    .map(|view| *view.public_key())
                    .ok_or_else(|| ControlError::failed(format!("there is no client {}", name.escape_debug())))?,
            ),
            None => None,
        };
        if key.is_none() && asked.address.is_none() {
            return Err(ControlError::parameters("neither a client nor an address is named"));
        }
        info!(uid, client = asked.client, address = ?asked.address, service = asked.service, "close, by command");
        let ended = self.end_grants(Ending::by_command(uid), |grant_key, _| {
            key.is_none_or(|key| grant_key.client == Some(key))
                && asked.address.is_none_or(|address| address.contains(&grant_key.address))
                && asked
                    .service
                    .as_ref()
                    .is_none_or(|service| *service == grant_key.service)
        });
        Ok(json!({ "closed": ended }))
    }

    fn last_knocks(&mut self, asked: &LastKnocksParameters) -> Reply {
        let mut knocks = Vec::new();
        for key in &asked.keys {
            let public = text::public_key(key).map_err(|error| ControlError::parameters(error.to_string()))?;
            let knock = self.journal.state().map(|state| state.last_knock(&public)).transpose();
            let knock = knock
                .map_err(|error| ControlError::failed(error.to_string()))?
                .flatten();
            if let Some(knock) = knock {
                let (at, identity) = (format_time(knock.at), text::fingerprint(&knock.gateway));
                knocks.push(json!({ "key": key, "at": at, "address": knock.address, "identity": identity }));
            }
        }
        let since = self.journal.state().map(State::began).transpose();
        let since = since
            .map_err(|error| ControlError::failed(error.to_string()))?
            .flatten();
        Ok(json!({ "knocks": knocks, "since": since.map(format_time) }))
    }

    fn reset_replay(&mut self, asked: &KeyParameters, uid: u32) -> Reply {
        let key = text::public_key(&asked.key).map_err(|error| ControlError::parameters(error.to_string()))?;
        self.journal
            .reset(&key)
            .map_err(|error| ControlError::failed(error.to_string()))?;
        self.codes.forget(&key);
        info!(
            uid,
            client = self.name_of(&key),
            "the replay record was reset, by command"
        );
        self.audit_command("reset-replay", uid, self.name_of(&key));
        Ok(json!({}))
    }
}

fn read<T: DeserializeOwned>(parameters: Value) -> Result<T, ControlError> {
    let parameters = if parameters.is_null() { json!({}) } else { parameters };
    serde_json::from_value(parameters).map_err(|error| ControlError::parameters(error.to_string()))
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

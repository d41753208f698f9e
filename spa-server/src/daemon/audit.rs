//! What the daemon tells the audit log: one call for each decision, one write for each turn of the loop.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};
use spa_keys::directory::{Kind, Reload};
use spa_keys::units::format_time;
use spa_keys::{Paths, text};
use spa_proto::Moment;

use super::Daemon;
use super::knocks::Who;
use crate::audit::event::told;
use crate::audit::quota::{Quota, Refusal};
use crate::audit::strangers::Strangers;
use crate::audit::{Access, AuditLog, Event, How, Limits, Opened, Via};
use crate::clock;
use crate::config::{Audit, Config};
use crate::grant::{Grant, GrantKey};
use crate::refusals::{Reason, Refused};
use crate::sequences::Kind as SequenceKind;

/// Changes of a configuration that one line names.
const MOST_CHANGES: usize = 50;

/// The audit log, and what keeps it small.
pub(super) struct Auditor {
    log: AuditLog,
    quota: Quota,
    strangers: Strangers,
    /// Refusals of nobody in particular, by reason.
    of_nobody: BTreeMap<&'static str, u64>,
}

/// Why a grant ends, and by whose command.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    pub(super) how: How,
    uid: Option<u32>,
}

impl From<How> for Ending {
    fn from(how: How) -> Self {
        Self { how, uid: None }
    }
}

impl Ending {
    pub(super) const fn by_command(uid: u32) -> Self {
        Self {
            how: How::Command,
            uid: Some(uid),
        }
    }
}

impl Auditor {
    /// Opens the log, before rights are given up; a dry run keeps none.
    pub(super) fn start(config: &Config, paths: &Paths, boot: &str, dry_run: bool, now: Moment) -> Self {
        let mut log = if dry_run {
            AuditLog::none()
        } else {
            AuditLog::open(&paths.state, limits(&config.audit), now)
        };
        let (version, boot) = (env!("CARGO_PKG_VERSION").to_owned(), boot.to_owned());
        log.note(now, Event::Started { version, boot });
        Self {
            log,
            quota: Quota::default(),
            strangers: Strangers::default(),
            of_nobody: BTreeMap::new(),
        }
    }
}

fn limits(audit: &Audit) -> Limits {
    Limits {
        file_size: audit.file_size,
        files: audit.files,
    }
}

impl Daemon {
    /// One line of the audit log.
    pub(super) fn audit(&mut self, event: Event) {
        self.auditor.log.note(clock::now(), event);
    }

    /// What was noted since the last turn of the loop is written.
    pub(super) fn flush_audit(&mut self) {
        self.auditor.log.flush(clock::now());
    }

    pub(super) fn audit_opened(&mut self, who: &Who, key: &GrantKey, end: Duration, is_renewed: bool) {
        let Some(mut opened) = self.opened(key, who.source.ip(), end) else {
            return;
        };
        opened.access.client = Some(who.name.clone());
        self.audit_opening(opened, is_renewed);
    }

    pub(super) fn audit_sequence(
        &mut self,
        name: &str,
        kind: SequenceKind,
        source: IpAddr,
        key: &GrantKey,
        end: Duration,
        is_renewed: bool,
    ) {
        let Some(opened) = self.opened(key, source, end) else {
            return;
        };
        let opened = Opened {
            via: kind.into(),
            sequence: Some(name.to_owned()),
            ..opened
        };
        self.audit_opening(opened, is_renewed);
    }

    fn audit_opening(&mut self, opened: Opened, is_renewed: bool) {
        self.audit(if is_renewed {
            Event::Renewed(opened)
        } else {
            Event::Opened(opened)
        });
    }

    fn opened(&self, key: &GrantKey, source: IpAddr, end: Duration) -> Option<Opened> {
        Some(Opened {
            access: self.access(key, self.grants.get(key)?),
            source: source.to_canonical(),
            via: Via::Knock,
            sequence: None,
            until: until(end),
        })
    }

    pub(super) fn audit_ended(&mut self, key: &GrantKey, ending: impl Into<Ending>) {
        let Some(access) = self.grants.get(key).map(|grant| self.access(key, grant)) else {
            return;
        };
        let Ending { how, uid } = ending.into();
        self.audit(Event::Ended { access, how, uid });
    }

    /// The same for a door that its grant has left.
    pub(super) fn audit_left(&mut self, who: &Who, key: &GrantKey, opened: ipnet::IpNet, how: How) {
        let Some(access) = self.grants.get(key).map(|grant| self.access(key, grant)) else {
            return;
        };
        let access = Access {
            client: Some(who.name.clone()),
            opened,
            ..access
        };
        self.audit(Event::Ended { access, how, uid: None });
    }

    pub(super) fn audit_restored(&mut self, key: &GrantKey) {
        let Some((access, end)) = self.live(key) else {
            return;
        };
        let until = until(end);
        self.audit(Event::Restored { access, until });
    }

    pub(super) fn audit_shortened(&mut self, key: &GrantKey) {
        let Some((access, end)) = self.live(key) else {
            return;
        };
        let until = until(end);
        self.audit(Event::Shortened { access, until });
    }

    fn live(&self, key: &GrantKey) -> Option<(Access, Duration)> {
        let grant = self.grants.get(key)?;
        Some((self.access(key, grant), grant.end?))
    }

    fn access(&self, key: &GrantKey, grant: &Grant) -> Access {
        let name = |client| Some(self.keys.client(&client)?.name().to_string());
        Access {
            client: key.client.and_then(name),
            key: key.client.map(|client| text::fingerprint(&client)),
            service: key.service.clone(),
            address: key.address,
            opened: grant.opened,
            since: format_time(grant.since),
        }
    }

    /// A refusal: a line for a client's, a count for everybody else's.
    pub(super) fn audit_refused(&mut self, refused: &Refused) {
        let Some(client) = refused.client.clone() else {
            *self.auditor.of_nobody.entry(refused.reason.name()).or_default() += refused.count;
            return;
        };
        let refusal = Refusal {
            client,
            source: refused.source.clone(),
            reason: refused.reason.name().to_owned(),
            detail: told(&refused.detail),
        };
        if let Some(event) = self.auditor.quota.take(clock::uptime(), refusal) {
            self.audit(event);
        }
    }

    /// A file of clients.d or invites.d is another now.
    pub(super) fn audit_file(&mut self, kind: Kind, name: &str, outcome: Reload) {
        let state = match outcome {
            Reload::Unchanged => return,
            Reload::Loaded => "loaded",
            Reload::Removed => "gone",
            Reload::Broken => "broken",
        };
        let client = self.keys.client_named(name).filter(|_| kind == Kind::Client);
        let services = client.map_or(Vec::new(), |view| {
            view.policy().services.iter().map(ToString::to_string).collect()
        });
        self.audit(Event::File {
            kind: if kind == Kind::Client { "client" } else { "invite" }.to_owned(),
            name: told(name),
            state: state.to_owned(),
            services,
        });
    }

    /// Another configuration is in force.
    pub(super) fn audit_loaded(&mut self, changes: &[String], on_trial: bool) {
        let changes = changes.iter().take(MOST_CHANGES).map(|change| told(change)).collect();
        self.audit(Event::Loaded { changes, on_trial });
        self.auditor.log.set_limits(limits(&self.config.audit));
    }

    /// An operator's command.
    pub(super) fn audit_command(&mut self, name: &str, uid: u32, about: Option<String>) {
        let (name, about) = (name.to_owned(), about.map(|about| told(&about)));
        self.audit(Event::Command { name, uid, about });
    }

    /// Now and then: what was only counted.
    pub(super) fn look_after_audit(&mut self, now: Duration) {
        let more = self.auditor.quota.settle(now);
        for event in more {
            self.audit(event);
        }
        self.tell_of_strangers(now);
    }

    fn tell_of_strangers(&mut self, now: Duration) {
        let counters = self.capture.counters();
        let captured = [
            (Reason::Shape, &counters.shape),
            (Reason::Tag, &counters.tag),
            (Reason::Copy, &counters.copy),
        ];
        let captured = |reason: &str| {
            let counter = captured.iter().find(|(own, _)| own.name() == reason);
            counter.map_or(0, |(_, count)| count.load(Relaxed))
        };
        let judged = |reason: &str| self.auditor.of_nobody.get(reason).copied().unwrap_or(0);
        let names = Reason::ALL.into_iter().map(Reason::name);
        let counts: Vec<_> = names.map(|name| (name, captured(name) + judged(name))).collect();
        if let Some(event) = self.auditor.strangers.tell(now, counts.into_iter()) {
            self.audit(event);
        }
    }

    /// The last lines; returns when they are durable.
    pub(super) fn close_audit(&mut self, doors_kept: bool) {
        let more = self.auditor.quota.settle_all();
        for event in more {
            self.audit(event);
        }
        self.auditor.strangers.hurry();
        self.tell_of_strangers(clock::uptime());
        self.audit(Event::Stopped { doors_kept });
        self.auditor.log.close(clock::now());
    }

    /// Of status; none where none is kept.
    pub(super) fn audit_trouble(&self) -> Option<Value> {
        let note = self.auditor.log.state()?.failure?;
        Some(json!({ "state": "failing", "note": note }))
    }

    /// The last line, for `spa-server audit verify`; no lines where none is kept.
    pub(super) fn audit_head(&self) -> Value {
        let state = self.auditor.log.state();
        json!({
            "lines": state.as_ref().map_or(0, |state| state.head.n),
            "head": state.map(|state| text::encode(&state.head.hash)),
        })
    }
}

/// The time of an end on the clock that starts with the boot.
fn until(end: Duration) -> String {
    let now = clock::now();
    format_time(now.wall.saturating_add(end.saturating_sub(now.uptime)))
}

//! What time and other people's changes ask for.

use std::time::Duration;

use spa_keys::state::Change;
use spa_proto::UnixTime;
use tracing::{debug, error, info, warn};

use super::stage::row;
use super::{Daemon, start};
use crate::capture::Interface;
use crate::clock;

/// How often the sets are looked at (DESIGN: "2 s for set contents").
const DOORS_EVERY: Duration = Duration::from_secs(2);
/// How long the rules may settle after a change before they are looked at.
const SETTLE: Duration = Duration::from_millis(150);
/// The clock went back further than any window while the record knows better.
const CLOCK_TOLERANCE: Duration = Duration::from_hours(1);
/// How often what is old is swept out.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// Nothing is waited for more finely: what is due within it is due.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// What is due when, on the clock that starts with the boot.
pub(super) struct Timers {
    doors: Duration,
    rules: Option<Duration>,
    sweep: Duration,
}

impl Timers {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            doors: now + DOORS_EVERY,
            rules: None,
            // The first one once everything stands.
            sweep: now + DOORS_EVERY,
        }
    }
}

impl Daemon {
    /// How long nothing is due.
    pub(super) fn until_next(&self, now: Duration) -> Duration {
        let due = [
            Some(self.timers.doors),
            Some(self.timers.sweep),
            self.timers.rules,
            self.grants.next_event(),
            self.journal.waits_until(),
            self.trial.due(),
            self.sightings_due(),
            self.sequences.due(),
            self.notify.due(),
        ];
        let next = due.into_iter().flatten().min().unwrap_or(now + LONGEST_PAUSE);
        next.saturating_sub(now).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self) {
        let now = clock::uptime();
        self.tell_manager(now);
        // First: nothing below may mend rules by a configuration that is not to be in force any more.
        self.look_after_trial(now);
        self.end_wait(now);
        self.judge_pending(now);
        if self.grants.next_event().is_some_and(|next| next <= now) {
            self.end_due_grants(now);
            self.forget_grants(now);
        }
        if self.timers.doors <= now {
            self.timers.doors = now + DOORS_EVERY;
            self.watch_record();
            let openings = self.openings();
            self.partner.check_doors(&openings);
            self.watch_scans(now);
            self.look_after_audit(now);
            if self.journal.owes()
                && let Err(error) = self.journal.commit()
            {
                debug!("ends of grants cannot be recorded yet: {error}");
            }
        }
        self.look_after_sequences(now);
        if self.timers.sweep <= now {
            self.timers.sweep = now + SWEEP_EVERY;
            self.sweep();
        }
        if self.timers.rules.is_some_and(|due| due <= now) {
            self.timers.rules = None;
            let openings = self.openings();
            self.partner.check_rules(&openings);
        }
    }

    fn end_wait(&mut self, now: Duration) {
        match self.journal.end_wait(now, clock::wall()) {
            Ok(true) => {
                info!("a new replay record is begun");
                self.forget_sequences();
                self.roll_forward();
            }
            Ok(false) => {}
            Err(error) => error!("a new replay record cannot be begun: {error}"),
        }
    }

    fn forget_grants(&mut self, now: Duration) {
        let forgotten = self.grants.forget(now);
        if forgotten.is_empty() {
            return;
        }
        for (key, grant) in forgotten {
            self.journal
                .stage(Change::ForgetGrant(row(&key, &grant, &self.boot_id)));
        }
        if let Err(error) = self.journal.commit() {
            warn!("grants long over could not be forgotten: {error}");
        }
    }

    /// The firewall was changed, perhaps by ourselves: look at it once it has settled.
    pub(super) fn on_tables(&mut self) {
        if !self.watches.tables.as_ref().is_some_and(|bell| bell.get().drain()) {
            self.watches.tables = None;
        } else if self.timers.rules.is_none() {
            self.timers.rules = Some(clock::uptime() + SETTLE);
        }
    }

    pub(super) fn on_addresses(&mut self) {
        let changed = self.watches.addresses.as_ref().map(|addresses| addresses.get().drain());
        match changed {
            Some(Ok(true)) => self.refresh_addresses(),
            Some(Err(error)) => {
                warn!("address changes are not told any more: {error}");
                self.watches.addresses = None;
            }
            _ => {}
        }
    }

    /// Tells the sieves which addresses are the gateway's own now.
    pub(super) fn refresh_addresses(&mut self) {
        let listen = start::listen(&self.config);
        self.sequences.read_addresses(listen.addresses.clone());
        self.gateway.sieve_mut().listen(listen);
        self.capture.set_sieve(self.gateway.sieve().clone());
        self.look_around_anew();
    }

    pub(super) fn on_interface(&mut self, interface: Interface) {
        let name = &interface.name;
        match &interface.note {
            None => info!(interface = name, "captured"),
            Some(note) => warn!(interface = name, "waited for: {note}"),
        }
        self.interfaces.insert(name.clone(), interface);
        self.say_ready();
    }

    /// What is wrong with the gateway's own clock, as far as the record can tell (step 6).
    pub(super) fn clock_warning(&self) -> Option<String> {
        let (now, greatest) = (clock::wall(), self.journal.greatest());
        is_behind(now, greatest).then(|| {
            let time = spa_keys::units::format_time;
            format!(
                "this gateway's clock shows {}, but a knock of {} was accepted already: the clock is likely wrong",
                time(now),
                time(greatest)
            )
        })
    }

    pub(super) fn say_clock(&self) {
        if let Some(warning) = self.clock_warning() {
            error!("{warning}");
        }
    }
}

fn is_behind(now: UnixTime, greatest: UnixTime) -> bool {
    now.saturating_add(CLOCK_TOLERANCE) < greatest
}

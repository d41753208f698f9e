//! A pair of commands: one runs when a door opens, the other when it closes.
//!
//! `open` runs when a door opens for the first time and, if it is told `{end}`, whenever the end moves; `close` runs at
//! the end, at a close, a revocation and a stop, and at the next start for what is overdue. What is open, or may be, is
//! in the `ledger` on disk before a command runs: after `kill -9` or a reboot it is closed all the same. An `open` that
//! was cut short is closed first. A `close` that fails is tried again, ever more seldom.
//!
//! The daemon waits for a command, at most for [`TIME_LIMIT`]: knocks go on being captured, but are judged afterwards.

pub mod argv;
pub mod inspect;
pub mod ledger;
pub mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use spa_keys::Paths;
use tracing::{info, warn};

use super::{Backend, BackendError, Door, Opening, Repairs};
use crate::clock;
use crate::config::{BackendKind, Config};
use argv::Values;
use ledger::{Entry, Ledger};

const NAME: &str = "command";
/// How long a command may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);
/// What has not begun by then is left to the next look, 2 s later: many commands that hang must not hold up everybody.
const RECONCILE_LIMIT: Duration = Duration::from_secs(20);
/// When a command that failed is tried again; twice as long after each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// An end that differs by less is the same end, looked at a moment later.
const SLACK: Duration = Duration::from_secs(2);

/// What a service runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// argv with placeholders.
    pub open: Vec<String>,
    /// argv with placeholders; may be empty.
    pub close: Vec<String>,
    /// Whom they run as.
    pub user: Option<String>,
}

/// The backend for `backends = ["command"]`.
#[derive(Debug)]
pub struct Command {
    pairs: BTreeMap<String, Pair>,
    ledger: Ledger,
    /// Doors whose command failed, and when it is tried again.
    patience: BTreeMap<Door, Patience>,
}

#[derive(Clone, Debug)]
struct Patience {
    until: Duration,
    pause: Duration,
    /// It was `close` that failed.
    closing: bool,
    /// What went wrong, to be said once and not at every look.
    fault: BackendError,
}

impl Command {
    /// The part of a configuration that concerns this backend; nothing is run yet.
    ///
    /// # Errors
    ///
    /// When what is open cannot be read.
    pub fn from_config(config: &Config, paths: &Paths) -> Result<Self, BackendError> {
        let own = config
            .services
            .iter()
            .filter(|service| service.backends.contains(&BackendKind::Command));
        let pair = |service: &crate::config::Service| Pair {
            open: service.open.clone(),
            close: service.close.clone(),
            user: service.user.clone(),
        };
        let pairs = own.map(|service| (service.name.clone(), pair(service))).collect();
        Self::new(pairs, &ledger_file(paths))
    }

    /// The same for these services and this ledger; without services it can only close.
    ///
    /// # Errors
    ///
    /// When what is open cannot be read.
    pub fn new(pairs: BTreeMap<String, Pair>, ledger: &std::path::Path) -> Result<Self, BackendError> {
        Ok(Self {
            pairs,
            ledger: Ledger::load(ledger)?,
            patience: BTreeMap::new(),
        })
    }

    fn run_open(&mut self, opening: &Opening, pair: &Pair) -> Result<(), BackendError> {
        let Opening {
            door,
            client,
            remaining,
        } = opening;
        let values = Values {
            opened: door.opened,
            client: client.as_deref(),
            service: &door.service,
            end: clock::wall().saturating_add(*remaining),
        };
        let entry = Entry {
            door: door.clone(),
            client: client.clone(),
            end: clock::uptime() + *remaining,
            boot_id: clock::boot_id(),
            is_open: false,
            close: argv::fill(&pair.close, &values),
            user: pair.user.clone(),
        };
        let again = self.ledger.get(door).is_some_and(|before| before.is_open);
        self.ledger.put(Entry {
            is_open: again,
            ..entry.clone()
        })?;
        run_logged(door, "open", &argv::fill(&pair.open, &values), pair.user.as_deref())?;
        self.ledger.put(Entry { is_open: true, ..entry })
    }

    /// Remembers another end without running anything.
    fn renew(&mut self, mut entry: Entry, opening: &Opening) -> Result<(), BackendError> {
        entry.end = clock::uptime() + opening.remaining;
        entry.client.clone_from(&opening.client);
        self.ledger.put(entry)
    }

    /// Runs `close` for one of the ledger and forgets it.
    fn run_close(&mut self, entry: &Entry) -> Result<(), BackendError> {
        if !entry.close.is_empty() {
            run_logged(&entry.door, "close", &entry.close, entry.user.as_deref())?;
        }
        self.patience.remove(&entry.door);
        self.ledger.remove(&entry.door)
    }

    /// A door of the ledger that nobody can vouch for: of another boot, or opened half.
    fn is_doubtful(entry: &Entry) -> bool {
        !entry.is_open || entry.boot_id != clock::boot_id()
    }

    /// What is open and should not be, what should be and is not, what ends at another time.
    fn differences(&self, openings: &[Opening]) -> (Vec<Entry>, Vec<Opening>) {
        let wanted: BTreeMap<&Door, &Opening> = openings
            .iter()
            .filter(|opening| !opening.remaining.is_zero())
            .map(|opening| (&opening.door, opening))
            .collect();
        let over = self.ledger.iter().filter(|entry| !wanted.contains_key(&entry.door));
        let missing = wanted.values().filter(|opening| {
            let entry = self.ledger.get(&opening.door);
            entry.is_none_or(|entry| Self::is_doubtful(entry) || has_moved(entry, opening))
        });
        (over.cloned().collect(), missing.copied().cloned().collect())
    }

    fn must_wait(&self, door: &Door) -> bool {
        self.patience
            .get(door)
            .is_some_and(|patience| clock::uptime() < patience.until)
    }

    fn wait_longer(&mut self, door: &Door, fault: &BackendError, closing: bool) {
        let before = self.patience.get(door);
        let pause = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
        let patience = Patience {
            until: clock::uptime() + pause,
            pause,
            closing,
            fault: fault.clone(),
        };
        self.patience.insert(door.clone(), patience);
    }

    fn close_entries(&mut self, entries: Vec<Entry>, closed: &mut Vec<Door>) -> Vec<BackendError> {
        let mut faults = Vec::new();
        for entry in entries {
            match self.run_close(&entry) {
                Ok(()) => closed.push(entry.door),
                Err(error) => {
                    self.wait_longer(&entry.door, &error, true);
                    faults.push(error);
                }
            }
        }
        faults
    }
}

impl Backend for Command {
    fn name(&self) -> &'static str {
        NAME
    }

    /// There is no static part.
    fn protect(&mut self) -> Result<Repairs, BackendError> {
        Ok(Repairs::default())
    }

    /// A command cannot be tried without doing what it does.
    fn self_test(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn open(&mut self, opening: &Opening) -> Result<(), BackendError> {
        let door = &opening.door;
        if opening.remaining.is_zero() {
            return self.close(door);
        }
        let Some(pair) = self.pairs.get(&door.service).cloned() else {
            let service = door.service.escape_debug();
            return Err(fault(format!("there is no service {service} in this backend")));
        };
        match self.ledger.get(door).cloned() {
            Some(entry) if Self::is_doubtful(&entry) => {
                // Reported; what it would have closed is about to be opened again.
                let _ = self.run_close(&entry);
            }
            Some(entry) if !argv::tells_end(&pair.open) => return self.renew(entry, opening),
            Some(_) | None => {}
        }
        let outcome = self.run_open(opening, &pair);
        match &outcome {
            Ok(()) => drop(self.patience.remove(door)),
            Err(error) => self.wait_longer(door, error, false),
        }
        outcome
    }

    fn close(&mut self, door: &Door) -> Result<(), BackendError> {
        // It has just failed, or hung: the same again at once would only hold up everybody else.
        let failed = self
            .patience
            .get(door)
            .filter(|patience| patience.closing && self.must_wait(door));
        if let Some(patience) = failed {
            return Err(patience.fault.clone());
        }
        let entries: Vec<Entry> = self.ledger.get(door).cloned().into_iter().collect();
        unless(self.close_entries(entries, &mut Vec::new()), ())
    }

    fn list(&mut self) -> Result<Vec<Opening>, BackendError> {
        let (now, boot_id) = (clock::uptime(), clock::boot_id());
        let opening = |entry: &Entry| Opening {
            door: entry.door.clone(),
            client: entry.client.clone(),
            remaining: if entry.boot_id == boot_id {
                entry.end.saturating_sub(now)
            } else {
                Duration::ZERO
            },
        };
        Ok(self.ledger.iter().map(opening).collect())
    }

    fn reconcile(&mut self, openings: &[Opening]) -> Result<Repairs, BackendError> {
        let (over, missing) = self.differences(openings);
        let mut repairs = Repairs::default();
        let mut faults = Vec::new();
        let latest = clock::uptime() + RECONCILE_LIMIT;
        for entry in over {
            if !self.must_wait(&entry.door) && clock::uptime() < latest {
                faults.extend(self.close_entries(vec![entry], &mut repairs.removed));
            }
        }
        for opening in missing {
            if self.must_wait(&opening.door) || clock::uptime() >= latest {
                continue;
            }
            let was_open = self
                .ledger
                .get(&opening.door)
                .is_some_and(|entry| !Self::is_doubtful(entry));
            match self.open(&opening) {
                Ok(()) if was_open => {}
                Ok(()) => repairs.reopened.push(opening.door),
                Err(error) => faults.push(error),
            }
        }
        unless(faults, repairs)
    }

    fn doors_intact(&mut self, openings: &[Opening]) -> Result<bool, BackendError> {
        let (over, missing) = self.differences(openings);
        let doors = over.iter().map(|entry| &entry.door);
        let mut doors = doors.chain(missing.iter().map(|opening| &opening.door));
        let Some(first) = doors.clone().next() else {
            return Ok(true);
        };
        match self.patience.get(first) {
            // It is not time to try again.
            Some(patience) if doors.all(|door| self.must_wait(door)) => Err(patience.fault.clone()),
            _ => Ok(false),
        }
    }

    fn close_all(&mut self) -> Result<(), BackendError> {
        let entries = self.ledger.iter().cloned().collect();
        unless(self.close_entries(entries, &mut Vec::new()), ())
    }

    fn uninstall(&mut self) -> Result<(), BackendError> {
        self.close_all()
    }
}

/// Where what is open is remembered.
#[must_use]
pub fn ledger_file(paths: &Paths) -> PathBuf {
    paths.firewall.join("command.json")
}

fn has_moved(entry: &Entry, opening: &Opening) -> bool {
    let end = clock::uptime() + opening.remaining;
    end.abs_diff(entry.end) > SLACK
}

/// Runs a command, with what it says in the log.
fn run_logged(door: &Door, verb: &str, argv: &[String], user: Option<&str>) -> Result<(), BackendError> {
    let run::Outcome { said, failure } = run::run(argv, user, TIME_LIMIT);
    let (service, opened) = (&door.service, door.opened);
    for line in &said {
        if failure.is_some() {
            warn!(backend = NAME, service, %opened, "{verb} said: {line}");
        } else {
            info!(backend = NAME, service, %opened, "{verb} said: {line}");
        }
    }
    match failure {
        None => Ok(()),
        Some(how) => Err(fault(format!("{service}, {opened}: {verb} failed: {how}"))
            .with_hint(format!("run it by hand: {}", argv.join(" ")))),
    }
}

fn unless<T>(faults: Vec<BackendError>, done: T) -> Result<T, BackendError> {
    BackendError::unless(NAME, faults, done)
}

fn fault(what: String) -> BackendError {
    BackendError::new(NAME, what)
}

#[cfg(test)]
mod tests;

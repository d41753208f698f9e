//! `spa-server close-overdue`: closes what no kernel closes, when there is no daemon to do it.
//!
//! A line of a pattern file, what a command has opened, and where there is no ipset a rule, end only by a hand. While
//! the daemon runs the hand is its own; a unit runs this after it has stopped for whatever reason. The state is locked
//! for the moment of looking and closing only, never while the next end is waited for, so that a daemon can start
//! meanwhile.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::json;
use spa_keys::state::{GrantRow, State, StateError, StateLock};
use spa_keys::units::format_time;
use spa_keys::{Control, Exit, Failure, Paths};
use tracing::{info, warn};

use super::run::start_logging;
use crate::backend::{Backend, BackendError, Door, ShutOut};
use crate::clock;
use crate::confirm::{Ledger, Verdict, armed};
use crate::doors::endless;
use crate::guard::ends::{self, Ends};

/// A daemon that starts in between takes over; this is how soon that is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Stands where a ban is looked after with the doors; no service has this name.
const BANS: &str = "ban";

/// What one look came to.
struct Look {
    closed: usize,
    /// The doors that are open by right, each with the time left.
    left: BTreeMap<Door, Duration>,
    /// How long a change of server.toml waits yet to be confirmed.
    trial: Option<Duration>,
    faults: Vec<BackendError>,
}

/// Closes, and with `wait` goes on until nothing is open.
pub(super) fn close_overdue(paths: &Paths, wait: bool, as_json: bool) -> Result<(), Failure> {
    start_logging();
    let mut closed = 0;
    loop {
        let Some(look) = look(paths)? else {
            say(as_json, true, closed, &BTreeMap::new());
            return Ok(());
        };
        closed += look.closed;
        let next = look.left.values().copied().chain(look.trial).min();
        let Some(next) = next.filter(|_| wait) else {
            say(as_json, false, closed, &look.left);
            return outcome(&look.faults);
        };
        sleep_unless_daemon(paths, next);
    }
}

/// Until the next end, or until a daemon answers: the state is not locked meanwhile.
fn sleep_unless_daemon(paths: &Paths, length: Duration) {
    let end = clock::uptime() + length;
    loop {
        // Also where a socket answers: a dry run has one, and closes nothing.
        let left = end.saturating_sub(clock::uptime());
        thread::sleep(left.min(LOOK_EVERY));
        if clock::uptime() >= end || Control::connect(&paths.control_socket()).is_ok() {
            return;
        }
    }
}

fn say(as_json: bool, daemon: bool, closed: usize, left: &BTreeMap<Door, Duration>) {
    let again = left
        .values()
        .min()
        .map(|next| format_time(clock::wall().saturating_add(*next)));
    if as_json {
        println!(
            "{}",
            json!({ "daemon": daemon, "closed": closed, "left": left.len(), "again": again })
        );
    } else if daemon {
        println!("the daemon runs and closes by itself");
    } else if let Some(again) = again {
        println!(
            "closed {closed}; {} stay open: run it again at {again}, or now with --wait",
            left.len()
        );
    } else {
        println!("closed {closed}; nothing stays open");
    }
}

fn outcome(faults: &[BackendError]) -> Result<(), Failure> {
    let Some(first) = faults.first() else { return Ok(()) };
    let what: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let failure = Failure::new(Exit::Failed, what.join("\n"));
    Err(match &first.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// Closes once what is overdue; nothing when a daemon holds the state.
fn look(paths: &Paths) -> Result<Option<Look>, Failure> {
    let held = match StateLock::acquire(&paths.state) {
        Ok(held) => held,
        Err(StateError::Locked(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Held until all is closed: a daemon that starts now is told that the state is in use, and starts again.
    let mut state = State::open(&paths.state, held);
    let rows = state
        .as_mut()
        .map_err(|error| error.to_string())
        .and_then(|state| state.grants().map_err(|e| e.to_string()));
    let live = live_doors(rows.unwrap_or_else(|error| {
        warn!("grants cannot be read, so all doors are shut: {error}");
        Vec::new()
    }));
    let ends = Ends::load(&ends::file(paths), &clock::boot_id());
    let (mut backends, faults) = endless(paths);
    let mut look = Look {
        closed: 0,
        left: BTreeMap::new(),
        trial: None,
        faults,
    };
    match undo_overdue(paths) {
        Ok(trial) => look.trial = trial,
        Err(failure) => look.faults.push(BackendError::new("apply", failure.what)),
    }
    for backend in &mut backends {
        let closed = close_by(backend.as_mut(), &live, &mut look);
        let let_in = closed.and_then(|()| unban_by(backend.as_mut(), &ends, &mut look));
        look.faults.extend(let_in.err());
    }
    Ok(Some(look))
}

/// Undoes a change of server.toml that nobody confirmed in time; how long one waits that has time left.
fn undo_overdue(paths: &Paths) -> Result<Option<Duration>, Failure> {
    let ledger = Ledger::of(paths);
    let record = ledger.read()?;
    match record.verdict(clock::uptime(), &clock::boot_id()) {
        Verdict::Settled => Ok(None),
        Verdict::Waits(left) => Ok(Some(left)),
        Verdict::Undo(_) => {
            let nonce = record.pending.map(|pending| pending.nonce).unwrap_or_default();
            armed::undo_directly(paths, &ledger, &nonce).map(|()| None)
        }
    }
}

fn close_by(backend: &mut dyn Backend, live: &BTreeMap<Door, Duration>, look: &mut Look) -> Result<(), BackendError> {
    for opening in backend.list()? {
        let Door { service, opened } = &opening.door;
        if let Some(left) = live.get(&opening.door) {
            look.left.insert(opening.door, *left);
            continue;
        }
        match backend.close(&opening.door) {
            Ok(()) => {
                info!(backend = backend.name(), service, %opened, "closed: no grant accounts for it");
                look.closed += 1;
            }
            Err(error) => look.faults.push(error),
        }
    }
    Ok(())
}

/// Who is shut out by what no kernel ends is let in again at the end, or when nobody can say when that is.
fn unban_by(backend: &mut dyn Backend, ends: &Ends, look: &mut Look) -> Result<(), BackendError> {
    let now = clock::uptime();
    for ShutOut { network, .. } in backend.bans()?.unwrap_or_default() {
        let left = ends.end(&network).and_then(|end| end.checked_sub(now));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            let door = Door {
                service: BANS.to_owned(),
                opened: network,
            };
            look.left.insert(door, left);
            continue;
        }
        match backend.unban(network) {
            Ok(()) => {
                info!(backend = backend.name(), source = %network, "let in again: its time is over");
                look.closed += 1;
            }
            Err(error) => look.faults.push(error),
        }
    }
    Ok(())
}

/// The doors of live grants. Without a record there are none: what nobody can vouch for is shut.
fn live_doors(rows: Vec<GrantRow>) -> BTreeMap<Door, Duration> {
    let (boot_id, now) = (clock::boot_id(), clock::uptime());
    let left = |row: &GrantRow| {
        let end = Duration::from_nanos(row.end_boottime?);
        end.checked_sub(now)
            .filter(|left| row.boot_id == boot_id && !left.is_zero())
    };
    let mut doors: BTreeMap<Door, Duration> = BTreeMap::new();
    for row in rows {
        let Some(left) = left(&row) else { continue };
        let door = Door {
            service: row.service,
            opened: row.opened,
        };
        let longest = doors.entry(door).or_default();
        *longest = left.max(*longest);
    }
    doors
}

//! The armed process: undoes a change at its deadline, whatever has become of its caller, the terminal and the daemon.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;
use spa_keys::{Control, ControlError, Exit, Failure, Paths};
use tracing::{info, warn};

use super::bell::Bell;
use super::detach::keep_descriptors;
use super::ledger::{Ledger, PATIENCE};
use super::record::{Verdict, Why};
use super::start::say;
use super::undoing::Undoing;
use crate::clock;
use crate::doors::Doors;

/// The hidden command that an armed process runs.
pub const COMMAND: &str = "undo-unless-confirmed";
/// How long the daemon may take to answer before the rules are put back without it.
const DAEMON_PATIENCE: Duration = Duration::from_secs(3);
/// What could not be undone is tried again so soon.
const RETRY: Duration = Duration::from_secs(2);
/// A daemon that has refused so often is not waited for any more.
const REFUSALS: u32 = 3;
const ARMED: &str = "armed";

/// Starts the armed process for the change called `nonce` and returns when it waits. `places` are the options that
/// name the files, from the root.
///
/// # Errors
///
/// When it cannot be started, or ended at once.
pub fn spawn(nonce: &str, places: &[OsString]) -> io::Result<()> {
    keep_descriptors();
    // This very program, also when its file was replaced meanwhile.
    let mut child = Command::new("/proc/self/exe")
        .arg0("spa-server")
        .arg(COMMAND)
        .arg(nonce)
        .args(places)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    if let Some(said) = child.stdout.take() {
        BufReader::new(said).read_line(&mut line)?;
    }
    if line.trim_end() == ARMED {
        Ok(())
    } else {
        Err(io::Error::other("it ended before it was armed"))
    }
}

/// What the armed process does: waits until the change is confirmed, taken over by another or overdue, and undoes it.
///
/// # Errors
///
/// When it cannot begin to wait; after that it tries until the change is settled.
pub fn undo_unless_confirmed(paths: &Paths, nonce: &str) -> Result<(), Failure> {
    // A session of its own: a hang-up of the terminal does not reach it.
    let _ = rustix::process::setsid();
    let failed = |error| Failure::new(Exit::Failed, error);
    let ledger = Ledger::of(paths);
    let bell = Bell::new(ledger.folder()).map_err(failed)?;
    let mut said = io::stdout();
    writeln!(said, "{ARMED}").and_then(|()| said.flush()).map_err(failed)?;
    let mut refusals = 0;
    while let Some(pause) = look(paths, &ledger, nonce, &mut refusals) {
        bell.sleep(pause).map_err(failed)?;
    }
    Ok(())
}

/// One look: how long to wait for the next one, nothing when there is nothing left to do.
fn look(paths: &Paths, ledger: &Ledger, nonce: &str, refusals: &mut u32) -> Option<Duration> {
    let record = match ledger.read() {
        Ok(record) => record,
        Err(error) => {
            warn!("{error}");
            return Some(RETRY);
        }
    };
    if !record.waits_for(nonce) {
        return None;
    }
    match record.verdict(clock::uptime(), &clock::boot_id()) {
        Verdict::Settled => None,
        Verdict::Waits(left) => Some(left),
        Verdict::Undo(_) => match undo(paths, ledger, nonce, refusals) {
            Ok(()) => None,
            Err(failure) => {
                note(ledger, nonce, &failure);
                // Not by the bell: what was just written to the record would ring it at once.
                thread::sleep(RETRY);
                Some(Duration::ZERO)
            }
        },
    }
}

/// That a daemon says yes is no proof that it was done.
fn believe(ledger: &Ledger, nonce: &str) -> Result<(), ControlError> {
    if ledger.read().is_ok_and(|record| record.waits_for(nonce)) {
        return Err(ControlError::Refused {
            error: "spa.Failed".into(),
            parameters: serde_json::Map::new(),
        });
    }
    Ok(())
}

/// Nobody reads what this process says; `check` and `confirm` read the record.
fn note(ledger: &Ledger, nonce: &str, failure: &Failure) {
    warn!("{failure}");
    if let Err(error) = ledger.change(PATIENCE, |record| record.failed(nonce, &failure.what)) {
        warn!("why a change is not undone cannot be remembered: {error}");
    }
}

/// The file by this process, the rules through the daemon, or without it.
fn undo(paths: &Paths, ledger: &Ledger, nonce: &str, refusals: &mut u32) -> Result<(), Failure> {
    // The lock is let go before the daemon is asked, which takes it.
    drop(begin(ledger, nonce)?);
    let answer = ask_daemon(paths, ledger, nonce).and_then(|()| believe(ledger, nonce));
    match Next::after(answer, refusals) {
        Next::Done => Ok(()),
        Next::FileAlone => directly(ledger, nonce, |_| Ok(())),
        Next::Again(why) => Err(why.into()),
        Next::Directly(why) => {
            info!("the daemon does not do it: {why}");
            undo_directly(paths, ledger, nonce)
        }
    }
}

/// What is to be done after the daemon's answer.
#[derive(Debug)]
enum Next {
    Done,
    FileAlone,
    Again(ControlError),
    Directly(ControlError),
}

impl Next {
    fn after(answer: Result<(), ControlError>, refusals: &mut u32) -> Self {
        match answer {
            Ok(()) => Self::Done,
            Err(ControlError::Refused { error, .. }) if error == OTHER_CONFIG => Self::FileAlone,
            Err(why @ ControlError::Refused { .. }) => {
                *refusals = refusals.saturating_add(1);
                if *refusals < REFUSALS {
                    Self::Again(why)
                } else {
                    Self::Directly(why)
                }
            }
            Err(why) => Self::Directly(why),
        }
    }
}

/// What the daemon says when it runs with another server.toml: the rules are then not ours to put back.
pub const OTHER_CONFIG: &str = "spa.OtherConfig";

fn ask_daemon(paths: &Paths, ledger: &Ledger, nonce: &str) -> Result<(), ControlError> {
    let mut control = Control::connect_within(&paths.control_socket(), DAEMON_PATIENCE)?;
    let parameters = json!({ "config": ledger.config, "nonce": nonce });
    control.call("spa.Undo", &parameters).map(drop)
}

/// Undoes the change called `nonce` without a daemon: the file, then the static rules.
///
/// # Errors
///
/// When something of it cannot be put back; it may be tried again.
pub fn undo_directly(paths: &Paths, ledger: &Ledger, nonce: &str) -> Result<(), Failure> {
    directly(ledger, nonce, |undoing| {
        let config = undoing.config().map_err(|_| {
            let what = "the confirmed copy is not valid on this host any more";
            Failure::new(Exit::Config, what).hint("spa-server check")
        })?;
        let doors = Doors::new(&config, paths).and_then(|mut doors| doors.protect());
        doors.map_err(crate::daemon::failure)
    })
}

fn directly(ledger: &Ledger, nonce: &str, rules: impl FnOnce(&Undoing) -> Result<(), Failure>) -> Result<(), Failure> {
    let Some((undoing, why)) = begin(ledger, nonce)? else {
        return Ok(());
    };
    rules(&undoing)?;
    say(&undoing, why);
    undoing.finish().map(drop)
}

/// Nothing when the change is settled meanwhile.
fn begin(ledger: &Ledger, nonce: &str) -> Result<Option<(Undoing, Why)>, Failure> {
    let held = ledger.lock(PATIENCE)?;
    let record = ledger.read()?;
    match record.verdict(clock::uptime(), &clock::boot_id()) {
        Verdict::Undo(why) if record.waits_for(nonce) => Ok(Some((Undoing::begin(ledger, held, record), why))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: &str) -> Result<(), ControlError> {
        Err(ControlError::Refused {
            error: error.into(),
            parameters: serde_json::Map::new(),
        })
    }

    #[test]
    fn a_daemon_that_keeps_refusing_is_done_without() {
        let mut refusals = 0;
        for _ in 1..REFUSALS {
            let next = Next::after(refused("spa.Failed"), &mut refusals);
            assert!(matches!(next, Next::Again(_)), "{next:?}");
        }
        for _ in 0..2 {
            let next = Next::after(refused("spa.Failed"), &mut refusals);
            assert!(matches!(next, Next::Directly(_)), "{next:?}");
        }
    }

    #[test]
    fn other_answers_are_no_reason_to_ask_again() {
        let mut refusals = 0;
        assert!(matches!(Next::after(Ok(()), &mut refusals), Next::Done));
        assert!(matches!(
            Next::after(refused(OTHER_CONFIG), &mut refusals),
            Next::FileAlone
        ));
        let gone = Next::after(Err(ControlError::Ended), &mut refusals);
        assert!(matches!(gone, Next::Directly(_)), "{gone:?}");
        assert_eq!(refusals, 0);
    }
}

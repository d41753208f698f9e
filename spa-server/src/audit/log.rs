//! The log as the daemon writes it: noted in memory, written with the batch, made durable behind its back.
//!
//! Nothing here stops the daemon. What cannot be written waits, up to a bound, is tried again every second, and the log
//! says afterwards that it was late and what is lost.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spa_keys::units::format_time;
use spa_proto::{Moment, UnixTime};
use tracing::{error, info, warn};

use super::chain::Head;
use super::event::Event;
use super::files::{self, look, rotate};
use super::ink::Ink;
use super::scribe::Scribe;
use super::sync::Syncer;
use super::tail;

/// How soon a log that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// So many lines are not kept in memory until the batch is done.
const FLUSH_AT: usize = 256;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets after which a new file is begun.
    pub file_size: u64,
    /// Files, the one that is written included; at least 2.
    pub files: u32,
}

/// How the log is, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Why it cannot be written.
    pub failure: Option<String>,
    /// The last line that is written.
    pub head: Head,
}

/// The audit log.
#[derive(Debug)]
pub struct AuditLog {
    folder: PathBuf,
    limits: Limits,
    scribe: Option<Scribe>,
    ink: Option<Ink>,
    syncer: Option<Syncer>,
    failing: Option<Failing>,
    /// Where the log ends is known; before that nothing may be written behind it.
    is_found: bool,
    is_full_said: bool,
}

#[derive(Debug)]
struct Failing {
    since: UnixTime,
    why: String,
    /// Lines that came too late for the moment they were decided in.
    late: u64,
    retry: Duration,
}

impl AuditLog {
    /// Goes on behind what lies in `folder`. A log that cannot be opened is tried again later; the daemon goes on.
    #[must_use]
    pub fn open(folder: &Path, limits: Limits, now: Moment) -> Self {
        let mut log = Self {
            folder: folder.to_owned(),
            limits,
            scribe: Some(Scribe::default()),
            ink: None,
            syncer: None,
            failing: None,
            is_found: false,
            is_full_said: false,
        };
        if let Err(error) = log.take_up(now) {
            log.fail(error.to_string(), now);
        }
        log
    }

    /// One that keeps nothing, for a dry run.
    #[must_use]
    pub fn none() -> Self {
        Self {
            folder: PathBuf::new(),
            limits: Limits { file_size: 0, files: 0 },
            scribe: None,
            ink: None,
            syncer: None,
            failing: None,
            is_found: false,
            is_full_said: false,
        }
    }

    /// Other limits, from the next line on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// One line more. It is written by the next [`flush`](Self::flush).
    pub fn note(&mut self, now: Moment, event: Event) {
        let Some(scribe) = &mut self.scribe else {
            return;
        };
        scribe.note(format_time(now.wall), event);
        if scribe.waiting() >= FLUSH_AT {
            self.flush(now);
        }
    }

    /// Writes what was noted.
    pub fn flush(&mut self, now: Moment) {
        if let Some(why) = self.syncer.as_ref().and_then(Syncer::failure) {
            self.fail(why, now);
        }
        let is_idle = self.failing.is_none() && self.scribe.as_ref().is_none_or(|scribe| scribe.waiting() == 0);
        if is_idle || self.failing.as_ref().is_some_and(|failing| failing.retry > now.uptime) {
            return;
        }
        match self.write(now) {
            Ok(()) => {}
            Err(error) => self.fail(error.to_string(), now),
        }
    }

    /// Writes what was noted, and waits until it is durable.
    pub fn close(&mut self, now: Moment) {
        if let Some(failing) = &mut self.failing {
            failing.retry = Duration::ZERO;
        }
        self.flush(now);
    }

    /// How it is; none for one that keeps nothing.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.scribe.as_ref().map(|scribe| State {
            failure: self.failing.as_ref().map(|failing| failing.why.clone()),
            head: scribe.head(),
        })
    }

    fn write(&mut self, now: Moment) -> io::Result<()> {
        self.take_up(now)?;
        self.make_room();
        self.write_waiting(now)?;
        if let (Some(failing), Some(scribe)) = (&self.failing, &mut self.scribe) {
            let (since, why) = (failing.since, failing.why.clone());
            let gap = Event::Gap {
                since: format_time(since),
                why,
                late: failing.late,
                lost: scribe.lost(),
            };
            scribe.note(format_time(now.wall), gap);
            self.write_waiting(now)?;
            self.recovered();
        }
        Ok(())
    }

    fn recovered(&mut self) {
        let lost = self.scribe.as_mut().map_or(0, Scribe::take_lost);
        self.failing = None;
        if lost > 0 {
            error!(
                lost,
                "the audit log is written again; lines of it are lost, and it says so"
            );
        } else {
            info!("the audit log is written again; nothing of it is lost");
        }
    }

    /// The file is there and as it was left; or that it is not is said in the log.
    fn take_up(&mut self, now: Moment) -> io::Result<()> {
        let there = look(&files::path(&self.folder, 0))?;
        let what = match (&self.ink, there) {
            (None, _) => None,
            (Some(_), None) => Some("the file was taken away".to_owned()),
            (Some(ink), Some((identity, _))) if identity != ink.identity => {
                Some("another file lies in its place".to_owned())
            }
            (Some(ink), Some((_, length))) if length != ink.length => {
                let due = ink.length;
                Some(format!("the file is {length} octets long, and {due} were written"))
            }
            (Some(_), Some(_)) => return Ok(()),
        };
        if self.syncer.is_none() {
            self.syncer = Some(Syncer::start()?);
        }
        self.find_end()?;
        self.ink = Some(Ink::open(&self.folder)?);
        let is_midline = tail::is_midline(&self.folder)?;
        let Some(scribe) = &mut self.scribe else {
            return Ok(());
        };
        scribe.turn_to(is_midline);
        if let Some(what) = what {
            warn!("the audit log was changed by somebody else: {what}; `spa-server audit verify` tells what is whole");
            scribe.note_first(format_time(now.wall), Event::Altered { what });
        }
        Ok(())
    }

    /// Once: from then on this process knows where it is.
    fn find_end(&mut self) -> io::Result<()> {
        if let Some(scribe) = self.scribe.as_mut().filter(|_| !self.is_found) {
            scribe.go_on_behind(tail::find(&self.folder)?);
            self.is_found = true;
        }
        Ok(())
    }

    /// Begins a new file when this one is full. A disk that refuses that leaves the old one in use.
    fn make_room(&mut self) {
        let Some(ink) = self.ink.as_ref().filter(|ink| ink.length >= self.limits.file_size) else {
            return;
        };
        let full = Arc::clone(&ink.file);
        let rotated = rotate(&self.folder, self.limits.files).and_then(|()| Ink::open(&self.folder));
        match rotated {
            Ok(ink) => {
                self.is_full_said = false;
                if let (Some(syncer), Ok(folder)) = (&self.syncer, File::open(&self.folder)) {
                    syncer.ask(&full);
                    syncer.ask(&Arc::new(folder));
                }
                if let Some(scribe) = &mut self.scribe {
                    scribe.turn_to(false);
                }
                self.ink = Some(ink);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_full_said, true) {
                    warn!("a new file of the audit log cannot be begun, the old one grows on: {error}");
                }
                self.ink = Ink::open(&self.folder).ok();
            }
        }
    }

    fn write_waiting(&mut self, now: Moment) -> io::Result<()> {
        let now = format_time(now.wall);
        let (Some(scribe), Some(ink)) = (&mut self.scribe, &mut self.ink) else {
            return Err(io::Error::other("it is not open"));
        };
        while let Some(page) = scribe.page(&now) {
            let (written, outcome) = ink.append(page.octets());
            let told = scribe.settle(&page, written);
            if let Some(failing) = &mut self.failing {
                failing.late += told as u64;
            }
            outcome?;
            if let Some(syncer) = &self.syncer {
                syncer.ask(&ink.file);
            }
        }
        Ok(())
    }

    fn fail(&mut self, why: String, now: Moment) {
        let retry = now.uptime + RETRY;
        if let Some(failing) = &mut self.failing {
            failing.retry = retry;
            return;
        }
        error!("the audit log cannot be written, it is tried again: {why}");
        self.failing = Some(Failing {
            since: now.wall,
            why,
            late: 0,
            retry,
        });
    }
}

#[cfg(test)]
mod tests;

//! The record around the judgement: what was taken is staged here and made durable before anything opens (step 7).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spa_keys::state::{Change, State, StateError, StateLock};
use spa_proto::{PublicKey, ReplayRecord, ReplaySet, UnixTime, Verdict};

use crate::clock;
use crate::metrics::{COMMIT_BOUNDS, Histogram};

/// How many clients' sets stay in memory; the others are read again when they knock.
const SETS_KEPT: usize = 4096;
/// How soon a new record is tried again when it cannot be made.
const RETRY: Duration = Duration::from_secs(10);

/// The durable state as the daemon uses it: one commit for all that wait together.
#[derive(Debug)]
pub struct Journal {
    phase: Phase,
    sets: HashMap<PublicKey, ReplaySet>,
    /// Keys whose set was changed since the last commit that succeeded.
    touched: Vec<PublicKey>,
    staged: Vec<Change>,
    /// What holds already, recorded or not: it waits for a commit that succeeds.
    owed: Vec<Change>,
    greatest: UnixTime,
    failure: Option<String>,
    commits: Histogram,
}

#[derive(Debug)]
enum Phase {
    Open(State),
    /// The record was missing or damaged: everything is refused until then, and a new one is begun.
    Waiting {
        until: Duration,
        directory: PathBuf,
        lock: Option<StateLock>,
    },
    /// A dry run remembers in memory.
    Memory,
}

/// The record's state, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// In use.
    Ok,
    /// Everything is refused for so long.
    Waiting {
        /// How long.
        left: Duration,
    },
    /// It cannot be written now.
    Failing {
        /// What the system said.
        note: String,
    },
}

impl Journal {
    /// Opens the record. When it is missing or damaged, waits until `now` + `wait` instead and says why.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] when it cannot be read.
    pub fn open(
        directory: &Path,
        lock: StateLock,
        now: Duration,
        wait: Duration,
    ) -> Result<(Self, Option<StateError>), StateError> {
        match State::open(directory, lock) {
            Ok(mut state) => {
                let greatest = state.greatest()?;
                Ok((Self::new(Phase::Open(state), greatest), None))
            }
            Err(error @ (StateError::Missing(_) | StateError::Damaged(..))) => {
                let lock = Some(StateLock::acquire(directory)?);
                let phase = Phase::Waiting {
                    until: now + wait,
                    directory: directory.into(),
                    lock,
                };
                Ok((Self::new(phase, UnixTime::default()), Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    /// A record in memory, for a dry run.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Phase::Memory, UnixTime::default())
    }

    fn new(phase: Phase, greatest: UnixTime) -> Self {
        Self {
            phase,
            sets: HashMap::new(),
            touched: Vec::new(),
            staged: Vec::new(),
            owed: Vec::new(),
            greatest,
            failure: None,
            commits: Histogram::new(&COMMIT_BOUNDS),
        }
    }

    /// When the wait for a new record is over; nothing when none is waited for.
    #[must_use]
    pub const fn waits_until(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Begins a new record when the wait is over; says whether it did.
    ///
    /// # Errors
    ///
    /// [`StateError`] when it cannot be made; everything stays refused.
    pub fn end_wait(&mut self, now: Duration, wall: UnixTime) -> Result<bool, StateError> {
        let Phase::Waiting { until, directory, lock } = &mut self.phase else {
            return Ok(false);
        };
        if now < *until {
            return Ok(false);
        }
        // Without a damaged file there is nothing to set aside.
        let _ = State::set_aside(directory, wall);
        // Should it fail, it is tried again, but not at once.
        *until = now + RETRY;
        let held = lock.take().map_or_else(|| StateLock::acquire(directory), Ok)?;
        self.phase = Phase::Open(State::create(directory, held)?);
        Ok(true)
    }

    /// Stages one change for the next commit.
    pub fn stage(&mut self, change: Change) {
        self.staged.push(change);
    }

    /// The same for what holds whatever the disk says, such as the end of a grant: it stays staged until it is durable.
    pub fn owe(&mut self, change: Change) {
        self.owed.push(change);
    }

    /// Whether something that holds is not recorded yet.
    #[must_use]
    pub const fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether a commit would write anything.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.touched.is_empty() && self.staged.is_empty() && self.owed.is_empty()
    }

    /// Makes everything since the last commit durable.
    ///
    /// # Errors
    ///
    /// [`StateError`]: nothing may open because of what was staged, and it is no longer staged. What was claimed stays
    /// taken in memory, and is written with the next commit.
    pub fn commit(&mut self) -> Result<(), StateError> {
        // What is owed is older than what is staged.
        let owed = self.owed.len();
        let mut changes = std::mem::take(&mut self.owed);
        changes.append(&mut self.staged);
        self.touched.sort_unstable();
        self.touched.dedup();
        let sets = self
            .touched
            .iter()
            .filter_map(|key| Some(Change::Replay(*key, self.sets.get(key)?.clone())));
        changes.extend(sets);
        let outcome = match &mut self.phase {
            Phase::Open(state) => {
                let began = clock::uptime();
                let outcome = state.commit(&changes);
                self.commits
                    .observe(clock::uptime().saturating_sub(began).as_secs_f64());
                outcome
            }
            Phase::Waiting { .. } | Phase::Memory => Ok(()),
        };
        self.failure = outcome.as_ref().err().map(ToString::to_string);
        if outcome.is_err() {
            changes.truncate(owed);
            self.owed = changes;
        }
        outcome?;
        self.touched.clear();
        if self.sets.len() > SETS_KEPT && !matches!(self.phase, Phase::Memory) {
            self.sets.clear();
        }
        Ok(())
    }

    /// Forgets one key's record and its one-time codes, at an operator's command.
    ///
    /// # Errors
    ///
    /// [`StateError`] when that could not be made durable.
    pub fn reset(&mut self, key: &PublicKey) -> Result<(), StateError> {
        if let Phase::Waiting { directory, .. } = &self.phase {
            return Err(StateError::Missing(directory.clone()));
        }
        self.sets.remove(key);
        self.touched.retain(|touched| touched != key);
        self.stage(Change::ForgetReplay(*key));
        self.stage(Change::ForgetCode(*key));
        self.commit()
    }

    /// The state behind it, where there is one.
    pub const fn state(&mut self) -> Option<&mut State> {
        match &mut self.phase {
            Phase::Open(state) => Some(state),
            Phase::Waiting { .. } | Phase::Memory => None,
        }
    }

    /// The timestamps of a key that were accepted, durable or not yet.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the record cannot be read.
    pub fn accepted(&mut self, key: &PublicKey) -> Result<ReplaySet, StateError> {
        match (self.sets.get(key), &mut self.phase) {
            (Some(set), _) => Ok(set.clone()),
            (None, Phase::Open(state)) => Ok(state.replay(key)?.unwrap_or_default()),
            (None, Phase::Waiting { .. } | Phase::Memory) => Ok(ReplaySet::default()),
        }
    }

    /// How long commits took that wrote to the disk.
    #[must_use]
    pub const fn commits(&self) -> &Histogram {
        &self.commits
    }

    /// The greatest timestamp ever accepted.
    #[must_use]
    pub const fn greatest(&self) -> UnixTime {
        self.greatest
    }

    /// What status says of it.
    #[must_use]
    pub fn record_state(&self, now: Duration) -> RecordState {
        match (&self.phase, &self.failure) {
            (Phase::Waiting { until, .. }, _) => RecordState::Waiting {
                left: until.saturating_sub(now),
            },
            (_, Some(note)) => RecordState::Failing { note: note.clone() },
            _ => RecordState::Ok,
        }
    }

    fn set(&mut self, key: &PublicKey) -> Result<&mut ReplaySet, StateError> {
        if !self.sets.contains_key(key) {
            let set = match &mut self.phase {
                Phase::Open(state) => state.replay(key)?,
                Phase::Waiting { .. } | Phase::Memory => None,
            };
            self.sets.insert(*key, set.unwrap_or_default());
        }
        Ok(self.sets.entry(*key).or_default())
    }
}

impl ReplayRecord for Journal {
    fn claim(&mut self, client: &PublicKey, timestamp: UnixTime, retention: Duration) -> Verdict {
        if matches!(self.phase, Phase::Waiting { .. }) {
            return Verdict::Unavailable;
        }
        match self.set(client).map(|set| set.accept(timestamp, retention)) {
            Ok(true) => {
                self.touched.push(*client);
                self.greatest = self.greatest.max(timestamp);
                Verdict::Fresh
            }
            Ok(false) => Verdict::Replayed,
            Err(error) => {
                self.failure = Some(error.to_string());
                Verdict::Unavailable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey([7; 32]);
    const RETENTION: Duration = Duration::from_mins(10);

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    /// As `spa-server init` makes state/.
    fn lock(directory: &Path) -> StateLock {
        StateLock::acquire(directory).unwrap()
    }

    fn folder() -> tempfile::TempDir {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        tempfile::Builder::new().permissions(private).tempdir().unwrap()
    }

    fn fresh(directory: &Path) -> Journal {
        drop(State::create(directory, StateLock::acquire(directory).unwrap()).unwrap());
        Journal::open(directory, lock(directory), Duration::ZERO, RETENTION)
            .unwrap()
            .0
    }

    #[test]
    fn what_was_committed_is_refused_after_a_restart() {
        let dir = folder();
        let mut journal = fresh(dir.path());
        assert_eq!(journal.claim(&KEY, at(100), RETENTION), Verdict::Fresh);
        journal.commit().unwrap();
        drop(journal);
        let (mut journal, why) = Journal::open(dir.path(), lock(dir.path()), Duration::ZERO, RETENTION).unwrap();
        assert_eq!((why, journal.greatest()), (None, at(100)));
        assert_eq!(journal.claim(&KEY, at(100), RETENTION), Verdict::Replayed);
        assert_eq!(journal.claim(&KEY, at(101), RETENTION), Verdict::Fresh);
    }

    #[test]
    fn a_lost_record_refuses_everything_for_a_while() {
        let dir = folder();
        let start = Duration::from_secs(50);
        let (mut journal, why) = Journal::open(dir.path(), lock(dir.path()), start, RETENTION).unwrap();
        assert!(matches!(why, Some(StateError::Missing(_))));
        assert_eq!(journal.claim(&KEY, at(100), RETENTION), Verdict::Unavailable);
        assert_eq!(journal.record_state(start), RecordState::Waiting { left: RETENTION });
        assert!(
            !journal
                .end_wait(start + RETENTION.saturating_sub(Duration::from_nanos(1)), at(1))
                .unwrap()
        );
        assert!(journal.end_wait(start + RETENTION, at(1)).unwrap());
        assert_eq!(journal.claim(&KEY, at(100), RETENTION), Verdict::Fresh);
        journal.commit().unwrap();
        assert_eq!(journal.record_state(start), RecordState::Ok);
    }

    #[test]
    fn a_wait_that_is_cut_short_begins_anew() {
        let dir = folder();
        let record = dir.path().join("record.redb");
        std::fs::write(&record, b"junk").unwrap();
        std::fs::set_permissions(&record, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        for start in [0, 300] {
            let start = Duration::from_secs(start);
            let (mut journal, why) = Journal::open(dir.path(), lock(dir.path()), start, RETENTION).unwrap();
            assert!(matches!(why, Some(StateError::Damaged(..))));
            assert!(!journal.end_wait(start + RETENTION / 2, at(1)).unwrap());
        }
    }

    #[test]
    fn a_record_that_cannot_be_begun_is_tried_again_later() {
        let dir = folder();
        let gone = dir.path().join("state");
        let (mut journal, _) = Journal::open(&gone, lock(&gone), Duration::ZERO, RETENTION).unwrap();
        std::fs::remove_dir_all(&gone).unwrap();
        assert!(journal.end_wait(RETENTION, at(1)).is_err());
        assert_eq!(journal.waits_until(), Some(RETENTION + RETRY));
        assert_eq!(journal.claim(&KEY, at(100), RETENTION), Verdict::Unavailable);
        std::fs::create_dir(&gone).unwrap();
        assert!(journal.end_wait(RETENTION + RETRY, at(1)).unwrap());
    }

    #[test]
    fn a_reset_key_may_begin_again() {
        let dir = folder();
        let mut journal = fresh(dir.path());
        journal.claim(&KEY, at(100), RETENTION);
        journal.commit().unwrap();
        journal.reset(&KEY).unwrap();
        assert_eq!(journal.claim(&KEY, at(100), RETENTION), Verdict::Fresh);
    }
}

//! The state as it was at one moment, for who only looks: read into memory, without the lock, never written.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, StorageBackend};
use serde::{Deserialize, Serialize};
use spa_proto::{PublicKey, ReplaySet};

use super::{CodeRow, FILE, GrantRow, StateError, builder, code_in, grants_in, guarded, private, replay_in, row};

/// A greater record is not read into memory.
const LARGEST: u64 = 1 << 30;
/// How often it is read again when somebody writes it meanwhile.
const TRIES: u32 = 5;

/// What the record knows of one key: enough to judge its next knock by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The timestamps that were accepted.
    #[serde(with = "row::times")]
    pub replay: ReplaySet,
    /// Its one-time codes, without the wrong ones, of which one may be right but for a digit.
    pub code: Option<CodeRow>,
    /// Its grants, live and remembered.
    pub grants: Vec<GrantRow>,
}

impl KeyRecord {
    /// Puts it together, and leaves out what nobody needs to see.
    #[must_use]
    pub fn new(replay: ReplaySet, code: Option<CodeRow>, grants: Vec<GrantRow>) -> Self {
        let without_wrong = |row| CodeRow {
            wrong: Vec::new(),
            ..row
        };
        Self {
            replay,
            code: code.map(without_wrong),
            grants,
        }
    }
}

/// The state of one moment, in memory.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    database: Database,
    grants: Vec<GrantRow>,
}

impl Snapshot {
    /// Reads the state of a gateway that does not run. One that was cut off is made whole in memory.
    ///
    /// # Errors
    ///
    /// As [`State::open`](super::State::open); [`StateError::Io`] also when it is too long, or written again and again.
    pub fn read(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(FILE);
        if directory.is_dir() {
            private(directory, 0o700)?;
        }
        let octets = octets(&path)?;
        let (database, grants) = guarded(&path, || {
            let backend = InMemoryBackend::new();
            backend.set_len(u64::try_from(octets.len()).unwrap_or(u64::MAX))?;
            backend.write(0, &octets)?;
            let database = builder().create_with_backend(backend)?;
            let grants = grants_in(&database.begin_read()?)?;
            Ok((database, grants))
        })?;
        Ok(Self { path, database, grants })
    }

    /// What it knows of one key.
    ///
    /// # Errors
    ///
    /// [`StateError`] when it cannot be understood.
    pub fn of(&self, key: &PublicKey) -> Result<KeyRecord, StateError> {
        let (replay, code) = guarded(&self.path, || {
            let transaction = self.database.begin_read()?;
            Ok((replay_in(&transaction, key)?, code_in(&transaction, key)?))
        })?;
        let grants = self.grants.iter().filter(|grant| grant.client == Some(*key));
        Ok(KeyRecord::new(
            replay.unwrap_or_default(),
            code,
            grants.cloned().collect(),
        ))
    }
}

/// All of a file that nobody wrote meanwhile.
fn octets(path: &Path) -> Result<Vec<u8>, StateError> {
    for _ in 0..TRIES {
        let before = looked_at(path)?;
        if before.len() > LARGEST || before.len() == 0 {
            return Err(StateError::Damaged(
                path.into(),
                format!("{} octets long", before.len()),
            ));
        }
        private(path, 0o600)?;
        let octets = fs::read(path).map_err(|error| StateError::io(path, &error))?;
        if same(&before, &looked_at(path)?) {
            return Ok(octets);
        }
    }
    Err(StateError::Io(
        path.into(),
        "it is being written by another process".into(),
    ))
}

fn looked_at(path: &Path) -> Result<Metadata, StateError> {
    path.symlink_metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StateError::Missing(path.into()),
        _ => StateError::io(path, &error),
    })
}

fn same(before: &Metadata, after: &Metadata) -> bool {
    let mark = |found: &Metadata| (found.ino(), found.len(), found.mtime(), found.mtime_nsec());
    mark(before) == mark(after)
}

#[cfg(test)]
mod tests {
    use spa_proto::UnixTime;

    use super::super::{Change, State, StateLock};
    use super::*;

    const KEY: PublicKey = PublicKey([1; 32]);

    fn folder() -> tempfile::TempDir {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        tempfile::Builder::new().permissions(private).tempdir().unwrap()
    }

    #[test]
    fn it_is_read_without_the_lock_and_without_a_trace() {
        let dir = folder();
        let mut state = State::create(dir.path(), StateLock::acquire(dir.path()).unwrap()).unwrap();
        let mut set = ReplaySet::default();
        set.accept(UnixTime::from_secs(10), std::time::Duration::MAX);
        let code = CodeRow {
            step: Some(3),
            wrong: vec![123_456],
            ..CodeRow::default()
        };
        state
            .commit(&[Change::Replay(KEY, set.clone()), Change::Code(KEY, code)])
            .unwrap();
        let before = fs::read(dir.path().join(FILE)).unwrap();
        // The other one still holds the lock, as a daemon that was stopped in between would.
        let snapshot = Snapshot::read(dir.path()).unwrap();
        let known = snapshot.of(&KEY).unwrap();
        assert_eq!(known.replay, set);
        let code = known.code.clone().unwrap();
        assert_eq!(
            (code.step, code.wrong),
            (Some(3), vec![]),
            "wrong codes stay where they are"
        );
        assert_eq!(snapshot.of(&PublicKey([2; 32])).unwrap(), KeyRecord::default());
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), before);
        let travelled: KeyRecord = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
        assert_eq!(travelled, known);
    }

    #[test]
    fn what_is_none_is_said() {
        let dir = folder();
        assert!(matches!(Snapshot::read(dir.path()), Err(StateError::Missing(_))));
        let path = dir.path().join(FILE);
        fs::write(&path, vec![7; 5000]).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(Snapshot::read(dir.path()), Err(StateError::Damaged(..))));
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(Snapshot::read(dir.path()), Err(StateError::Open(..))));
    }
}

//! Where a configuration's record lies: one file in the firewall process's own folder, replaced in one step, and a lock beside it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Error;
use sha2::{Digest, Sha256};
use spa_keys::file::{self, FileError, Limits, Lock};
use spa_keys::{Failure, Fault, LoadError, Paths};
use tracing::warn;

use super::record::Record;
use crate::backend::place::{self, create_folder};

/// How long a command waits for another one; the longest that holds the lock is one that puts rules back.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// A record holds two or three texts of server.toml.
const RECORD: Limits = Limits {
    mode: 0o600,
    most: 64 << 20,
};

/// The record of one server.toml.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Which server.toml, from the root.
    pub config: PathBuf,
    folder: PathBuf,
    file: PathBuf,
}

/// The lock on all records of a state directory. Dropping it lets go.
#[derive(Debug)]
pub struct Held {
    _lock: Lock,
}

/// Tells one version of the file from the next.
pub type Stamp = Option<(u64, i64, i64)>;

impl Ledger {
    /// The record of the configuration of `paths`: another `--config` has another one.
    #[must_use]
    pub fn of(paths: &Paths) -> Self {
        let config = from_root(&paths.config);
        let folder = folder(paths);
        let digest = Sha256::digest(config.as_os_str().as_encoded_bytes());
        // Told apart, not proven: eight octets are plenty, and a path would be too long for a name.
        let number = digest.first_chunk().copied().map_or(0, u64::from_be_bytes);
        Self {
            file: folder.join(format!("{number:016x}.json")),
            config,
            folder,
        }
    }

    /// The folder that changes when the record does.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is remembered; an empty record when nothing is.
    ///
    /// # Errors
    ///
    /// When it may not be read, belongs to somebody else, is open to others or makes no sense.
    pub fn read(&self) -> Result<Record, LoadError> {
        let text = match file::read_text(&self.file, RECORD) {
            Ok(text) => text,
            Err(error) if error.is_absent() => return Ok(self.empty()),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_str(&text).map_err(|error: Error| LoadError::fault(&self.file, Fault::whole(error)))
    }

    fn empty(&self) -> Record {
        Record {
            config: self.config.clone(),
            ..Record::default()
        }
    }

    /// Which version of the record is there.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let facts = fs::metadata(&self.file).ok()?;
        Some((facts.ino(), facts.mtime(), facts.mtime_nsec()))
    }

    /// Keeps everybody else from changing a record.
    ///
    /// # Errors
    ///
    /// [`FileError::Busy`] when somebody else holds it for longer than `patience`, or what the system said.
    pub fn lock(&self, patience: Duration) -> Result<Held, FileError> {
        for folder in [self.folder.parent(), Some(&self.folder)].into_iter().flatten() {
            if !folder.is_dir() {
                create_folder(folder, 0o700).map_err(|error| FileError::io(folder, "make", error))?;
            }
        }
        let lock = Lock::take(&self.folder.join(".lock"), patience)?;
        Ok(Held { _lock: lock })
    }

    /// Makes `record` durable.
    ///
    /// # Errors
    ///
    /// When it cannot be written; what was remembered before stays.
    pub fn write(&self, _held: &Held, record: &Record) -> Result<(), FileError> {
        let text = serde_json::to_vec(record).unwrap_or_default();
        place::keep(&self.file, text).map_err(|error| FileError::io(&self.file, "write", error))
    }

    /// Changes the record under the lock.
    ///
    /// # Errors
    ///
    /// As [`Ledger::lock`], [`Ledger::read`] and [`Ledger::write`].
    pub fn change<T>(&self, patience: Duration, change: impl FnOnce(&mut Record) -> T) -> Result<T, Failure> {
        let held = self.lock(patience)?;
        let mut record = self.read()?;
        let before = record.clone();
        let outcome = change(&mut record);
        if record != before {
            self.write(&held, &record)?;
        }
        Ok(outcome)
    }

    /// The same; a record that makes no sense is begun anew, since what is in force is known.
    ///
    /// # Errors
    ///
    /// As [`Ledger::lock`] and [`Ledger::write`].
    pub fn change_or_begin<T>(&self, patience: Duration, change: impl FnOnce(&mut Record) -> T) -> Result<T, Failure> {
        let held = self.lock(patience)?;
        let read = self.read();
        if let Err(why) = &read {
            warn!("what was confirmed last is not known any more: {why}");
        }
        let before = read.ok();
        let mut record = before.clone().unwrap_or_else(|| self.empty());
        let outcome = change(&mut record);
        if before.as_ref() != Some(&record) {
            self.write(&held, &record)?;
        }
        Ok(outcome)
    }
}

/// Ends every trial of a state directory without undoing it: for `uninstall`. The armed processes notice and end.
///
/// # Errors
///
/// When a record cannot be taken away.
pub fn forget_all(paths: &Paths) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(folder(paths)) else {
        return Ok(());
    };
    let _held = Ledger::of(paths).lock(PATIENCE)?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            file::remove(&path)?;
        }
    }
    Ok(())
}

fn folder(paths: &Paths) -> PathBuf {
    from_root(&paths.firewall).join("config")
}

/// The same name for the same file, wherever a command was typed; the file itself may be a link or not be there.
fn from_root(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok());
    match (parent, path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::confirm::Intent;
    use std::os::unix::fs::PermissionsExt;

    fn ledger(dir: &Path) -> Ledger {
        fs::create_dir_all(dir.join("state")).unwrap();
        Ledger::of(&Paths::new(Some(dir), None))
    }

    fn source() -> Source {
        Source {
            text: "ü = 1\n".into(),
            mode: 0o640,
            owner: (0, 0),
        }
    }

    #[test]
    fn what_is_written_is_read_by_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        assert_eq!(ledger.read().unwrap().confirmed, None);
        let before = ledger.stamp();
        assert!(
            ledger
                .change(PATIENCE, |record| record.loaded(&source(), Intent::Plain(None)))
                .unwrap()
        );
        assert_eq!(ledger.read().unwrap().confirmed, Some(source()));
        assert_ne!(ledger.stamp(), before);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&ledger.file), mode(&ledger.folder)), (0o600, 0o700));
    }

    #[test]
    fn each_config_has_its_own_record_however_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let own = ledger(dir.path());
        let named = |config: &Path| Ledger::of(&Paths::new(Some(dir.path()), Some(config)));
        assert_eq!(named(&dir.path().join("state/../server.toml")).file, own.file);
        assert_ne!(named(&dir.path().join("other.toml")).file, own.file);
    }

    #[test]
    fn a_damaged_record_is_an_error_until_something_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        ledger
            .change(PATIENCE, |record| record.loaded(&source(), Intent::Plain(None)))
            .unwrap();
        fs::write(&ledger.file, "{").unwrap();
        assert!(ledger.read().is_err());
        assert!(ledger.change(PATIENCE, |_| ()).is_err());
        ledger
            .change_or_begin(PATIENCE, |record| record.loaded(&source(), Intent::Plain(None)))
            .unwrap();
        assert_eq!(ledger.read().unwrap().confirmed, Some(source()));
    }

    #[test]
    fn forgotten_for_uninstall() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        forget_all(&Paths::new(Some(dir.path()), None)).unwrap();
        ledger
            .change(PATIENCE, |record| record.arm("a", "boot", PATIENCE))
            .unwrap();
        forget_all(&Paths::new(Some(dir.path()), None)).unwrap();
        assert_eq!(ledger.read().unwrap().pending, None);
    }
}

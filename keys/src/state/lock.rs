//! One process at a time has the state.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::StateError;
use crate::file::{FileError, Lock};

const FILE: &str = "lock";
/// How long somebody else may hold the lock before it counts as taken.
const PATIENCE: Duration = Duration::from_millis(500);

/// The lock on the state directory. Dropping it lets go.
#[derive(Debug)]
pub struct StateLock {
    _lock: Lock,
}

impl StateLock {
    /// Takes the lock, making the directory (mode 0700) if need be. A command that reads the record holds it for
    /// milliseconds, and a program that is being started for as long as it is a copy of this process: both are waited
    /// for.
    ///
    /// # Errors
    ///
    /// [`StateError::Locked`] when another process keeps it; [`StateError::Io`] for the rest.
    pub fn acquire(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(FILE);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| StateError::io(&path, &error))?;
        match Lock::take(&path, PATIENCE) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(FileError::Busy { .. }) => Err(StateError::Locked(path)),
            Err(FileError::Io { error, .. }) => Err(StateError::io(&path, &error)),
            Err(error) => Err(StateError::Io(path, error.to_string())),
        }
    }
}

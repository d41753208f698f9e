//! One process at a time has the state.

use std::path::Path;
use std::time::Duration;

use super::StateError;
use crate::file::{FileError, Lock, create_dir};

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
        let taken = create_dir(directory, 0o700).and_then(|()| Lock::take(&path, PATIENCE));
        match taken {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(FileError::Busy { .. }) => Err(StateError::Locked(path)),
            Err(FileError::Io { error, .. }) => Err(StateError::io(&path, &error)),
            Err(error) => Err(StateError::Io(path, error.to_string())),
        }
    }
}

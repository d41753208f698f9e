//! One command at a time changes a directory.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::error::FileError;
use super::owner::owner_of_secrets;

const PAUSE: Duration = Duration::from_millis(20);

/// An exclusive lock, held until dropped; the kernel releases it when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// A new one belongs to whom the directory's files belong, who locks it too.
    fn make(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        fchown(&file, owner_of_secrets(), None)?;
        Ok(file)
    }

    fn open(path: &Path) -> io::Result<File> {
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        OpenOptions::new().write(true).custom_flags(flags).open(path)
    }

    /// Takes the lock file at `path`, made if need be, waiting at most `patience`.
    ///
    /// # Errors
    ///
    /// [`FileError::Busy`] when somebody else holds it all that time, [`FileError::Io`] when it cannot be opened.
    pub fn take(path: &Path, patience: Duration) -> Result<Self, FileError> {
        let opened = Self::make(path).or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists => Self::open(path),
            _ => Err(error),
        });
        let file = opened.map_err(|error| FileError::io(path, "lock", error))?;
        let end = Instant::now() + patience;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(FileError::Busy { path: path.to_owned() }),
                Err(error) => return Err(FileError::io(path, "lock", error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let held = Lock::take(&path, Duration::ZERO).unwrap();
        assert!(matches!(Lock::take(&path, Duration::ZERO), Err(FileError::Busy { .. })));
        drop(held);
        Lock::take(&path, Duration::ZERO).unwrap();
    }
}

//! What can be wrong with a file, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// What is wrong with a file.
#[derive(Debug)]
pub enum FileError {
    /// It does not exist.
    Absent {
        /// Which.
        path: PathBuf,
    },
    /// It exists already and is not overwritten.
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// A symbolic link, a directory, a pipe.
    NotRegular {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Somebody owns it who could have put anything there.
    Owner {
        /// Which.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// Others may read or write it.
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The widest mode it may have.
        allowed: u32,
    },
    /// Larger than such a file ever is.
    Large {
        /// Which.
        path: PathBuf,
        /// The most bytes it may have.
        most: usize,
    },
    /// Not UTF-8.
    NotText {
        /// Which.
        path: PathBuf,
    },
    /// Another command holds the lock.
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// The system refused.
    Io {
        /// Which.
        path: PathBuf,
        /// What was attempted: `read`, `write`.
        verb: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl FileError {
    /// What the system said about an attempt on `path`.
    #[must_use]
    pub fn io(path: &Path, verb: &'static str, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Io { path, verb, error },
        }
    }

    /// Whether the file does not exist.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Which file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Absent { path }
            | Self::Exists { path }
            | Self::NotRegular { path, .. }
            | Self::Owner { path, .. }
            | Self::Mode { path, .. }
            | Self::Large { path, .. }
            | Self::NotText { path }
            | Self::Busy { path }
            | Self::Io { path, .. } => path,
        }
    }

    /// The exit code of a command that ends with this.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => Exit::NoPermission,
            Self::Io { .. } | Self::Exists { .. } | Self::Busy { .. } => Exit::Failed,
            _ => Exit::Config,
        }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let path = self.path().display();
        match self {
            Self::Owner { .. } => Some(format!("chown root {path}, after you have looked at what is in it")),
            Self::Mode { allowed, .. } => Some(format!("chmod {allowed:o} {path}")),
            Self::Busy { .. } => Some("again when the other command has ended".into()),
            Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("the same as root".into())
            }
            Self::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull => Some(format!("df -h {path}")),
            _ => None,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        match self {
            Self::Absent { .. } => write!(f, "{path} does not exist"),
            Self::Exists { .. } => write!(f, "{path} exists already"),
            Self::NotRegular { kind, .. } => write!(f, "{path} is {kind}, where only a regular file is read"),
            Self::Owner { owner, .. } => write!(f, "{path} belongs to user {owner}, who could have put anything there"),
            Self::Mode { mode, allowed, .. } => {
                write!(f, "{path} is open to others (mode {mode:04o}, at most {allowed:04o})")
            }
            Self::Large { most, .. } => write!(f, "{path} is larger than {most} bytes"),
            Self::NotText { .. } => write!(f, "{path} is not UTF-8 text"),
            Self::Busy { .. } => write!(f, "{path} is held by another command"),
            Self::Io { verb, error, .. } => write!(f, "cannot {verb} {path}: {error}"),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let failure = Self::new(error.exit(), &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

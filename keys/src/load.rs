//! Why a file could not be loaded: it may not be read, or its text is wrong.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use crate::fault::Fault;
use crate::file::FileError;

/// Why a file could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// It may not or cannot be read.
    File(FileError),
    /// Its text is wrong.
    Fault {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        fault: Fault,
    },
}

impl LoadError {
    /// A fault in the file at `path`.
    #[must_use]
    pub fn fault(path: &Path, fault: Fault) -> Self {
        let path = path.to_owned();
        Self::Fault { path, fault }
    }

    /// Whether the file does not exist.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::File(error) if error.is_absent())
    }
}

impl From<FileError> for LoadError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Fault { path, fault } => write!(f, "{}, {fault}", path.display()),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::File(error) => error.into(),
            LoadError::Fault { .. } => Self::new(Exit::Config, error),
        }
    }
}

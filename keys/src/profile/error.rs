//! What can be wrong with a profile.

use std::fmt;
use std::path::PathBuf;

use super::{ProfileName, SealedError};
use crate::escape::escape;
use crate::exit::{Exit, Failure};
use crate::fault::Fault;
use crate::file::FileError;

/// A text that is no profile: where, and why. It never holds a value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// What is wrong, and where.
    pub fault: Fault,
    /// The line as far as its key, with the column marked under it; empty where there is no key.
    cited: String,
}

impl SyntaxError {
    pub(super) fn locate(text: &str, error: &toml::de::Error) -> Self {
        let what = error.message().trim().replace('\n', ", ");
        let fault = Fault::at(text, &error.span().unwrap_or_default(), what);
        let line = text.lines().nth(fault.line - 1).unwrap_or_default();
        let cited = cite(line, fault.column);
        Self { fault, cited }
    }
}

/// What stands after the equals sign may be a secret.
fn cite(line: &str, column: usize) -> String {
    let Some((key, _)) = line.split_once('=') else {
        return String::new();
    };
    let key = escape(key);
    let value = key.chars().count() + 3;
    format!("\n  {key}= ...\n  {:>width$}", '^', width = column.min(value))
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.fault, self.cited)
    }
}

impl std::error::Error for SyntaxError {}

/// A profile that cannot be read or written.
#[derive(Debug)]
pub enum ProfileError {
    /// There is none of that name.
    Unknown {
        /// The name.
        name: ProfileName,
        /// Those that exist.
        others: Vec<String>,
    },
    /// There is one of that name already.
    Taken {
        /// The name.
        name: ProfileName,
        /// Its file.
        path: PathBuf,
    },
    /// The file is not as it must be, or the system refused.
    File(FileError),
    /// What it holds is no profile.
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where, and why.
        error: SyntaxError,
    },
    /// It lies under a passphrase.
    Locked {
        /// The name.
        name: ProfileName,
    },
    /// It lies under a passphrase and cannot be opened, or cannot be put there.
    Sealed {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: SealedError,
    },
    /// The name that it was to have is another profile's.
    NameTaken {
        /// The name.
        name: ProfileName,
        /// Its file.
        path: PathBuf,
    },
    /// A name for the old profile that no file can have.
    LongName {
        /// The name.
        text: String,
    },
    /// The environment does not say where profiles are.
    NoFolder,
}

impl ProfileError {
    /// The exit code of a command that ends with this.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Taken { .. } | Self::NameTaken { .. } | Self::LongName { .. } => Exit::Failed,
            Self::File(error) => error.exit(),
            Self::Sealed { error, .. } => sealed_exit(error),
            Self::Unknown { .. } | Self::Syntax { .. } | Self::Locked { .. } | Self::NoFolder => Exit::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { others, .. } if others.is_empty() => {
                Some("spa-client enroll, with an invite from who runs the gateway".into())
            }
            Self::Unknown { others, .. } => Some(format!("one of those that exist: {}", others.join(", "))),
            Self::Taken { .. } => {
                Some("another name with --profile NAME, or --replace, which keeps the old one".into())
            }
            Self::NameTaken { .. } => Some("another name".into()),
            Self::LongName { .. } => Some("spa-client rename, to a shorter name".into()),
            Self::File(error) => error.hint(),
            Self::Locked { .. } => Some("--passphrase-fd N".into()),
            Self::Sealed { error, .. } => sealed_hint(error),
            Self::Syntax { .. } => None,
            Self::NoFolder => Some("export SPA_CONFIG_DIR=/a/folder/of/yours".into()),
        }
    }
}

const fn sealed_exit(error: &SealedError) -> Exit {
    match error {
        SealedError::Empty => Exit::Usage,
        SealedError::Passphrase | SealedError::Memory(_) | SealedError::Randomness => Exit::Failed,
        SealedError::Damaged | SealedError::Version { .. } | SealedError::Cost(_) | SealedError::Syntax(_) => {
            Exit::Config
        }
    }
}

fn sealed_hint(error: &SealedError) -> Option<String> {
    let hint = match error {
        SealedError::Passphrase => "again; nobody can open it without the passphrase, so else a new invite",
        SealedError::Damaged => "a copy of the file, or a new invite",
        SealedError::Version { .. } => "a newer spa-client",
        _ => return None,
    };
    Some(hint.into())
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, .. } => write!(f, "there is no profile {name}"),
            Self::Taken { name, path } => write!(
                f,
                "there is a profile {name} already, and it was not made from this invite: {}",
                path.display()
            ),
            Self::File(error) => error.fmt(f),
            Self::NameTaken { name, path } => write!(f, "there is a profile {name} already: {}", path.display()),
            Self::LongName { text } => write!(f, "no profile can be called {text}"),
            Self::Locked { name } => write!(f, "the profile {name} is under a passphrase"),
            Self::Sealed { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Syntax { path, error } => write!(f, "{}, {error}", path.display()),
            Self::NoFolder => f.write_str("none of SPA_CONFIG_DIR, XDG_CONFIG_HOME and HOME says where profiles are"),
        }
    }
}

impl std::error::Error for ProfileError {}

impl From<FileError> for ProfileError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        let failure = Self::new(error.exit(), &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

//! Why a profile cannot be sealed or opened.

use std::fmt;

use super::{Cost, SyntaxError, VERSION};

/// Why a profile cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedError {
    /// No passphrase at all.
    Empty,
    /// The wrong one.
    Passphrase,
    /// Cut, or changed since it was written.
    Damaged,
    /// A version that this program does not know.
    Version {
        /// Which.
        version: u32,
    },
    /// It asks for too much or too little.
    Cost(Cost),
    /// There is not so much memory.
    Memory(Cost),
    /// No randomness.
    Randomness,
    /// What is wrong in the text.
    Syntax(SyntaxError),
}

impl fmt::Display for SealedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a passphrase has at least one character"),
            Self::Passphrase => f.write_str("wrong passphrase"),
            Self::Damaged => f.write_str("the sealed profile is damaged or cut"),
            Self::Version { version } => write!(f, "sealed in version {version}, where {VERSION} is known"),
            Self::Cost(Cost { memory_kib, passes }) => write!(
                f,
                "sealed with {memory_kib} KiB and {passes} passes, where {} to {} KiB and 1 to {} passes are taken, \
                 together at most 8 GiB",
                Cost::LEAST_KIB,
                Cost::MOST_KIB,
                Cost::MOST_PASSES
            ),
            Self::Memory(cost) => write!(f, "no {} KiB of memory to try the passphrase with", cost.memory_kib),
            Self::Randomness => f.write_str("the system gives no randomness"),
            Self::Syntax(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SealedError {}

//! How a command ends: exit codes, and what a person is told.

use std::fmt;
use std::process::ExitCode;

use crate::escape::escape;

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The thing asked for failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 64,
    /// The daemon cannot be reached.
    Unreachable = 69,
    /// No permission.
    NoPermission = 77,
    /// Bad configuration, bad file mode.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command's failure: what is wrong, and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and where, in one plain clause or several lines.
    pub what: String,
    /// What to try, each a command or a line to write.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self {
            exit,
            what: what.to_string(),
            hints: Vec::new(),
        }
    }

    /// The same failure with one thing more to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", lines(&self.what))?;
        self.hints
            .iter()
            .try_for_each(|hint| write!(f, "\n  try: {}", escape(hint)))
    }
}

impl std::error::Error for Failure {}

/// Escapes each line by itself: line ends are ours, all else may come from a file or a name.
fn lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_and_what_to_try() {
        let failure = Failure::new(Exit::Config, "gateway.key: mode\u{1b}[2J 0644").hint("chmod 600 gateway.key");
        assert_eq!(
            failure.to_string(),
            "error: gateway.key: mode\\u{1b}[2J 0644\n  try: chmod 600 gateway.key"
        );
    }
}

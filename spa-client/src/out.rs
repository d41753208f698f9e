//! What a person or a script reads.

use std::io::{self, Write};

use serde::Serialize;
use spa_keys::escape::escape;

/// Who reads stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A person.
    Text,
    /// A script: one object.
    Json,
}

impl Form {
    pub(crate) const fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Prints a line of facts. A reader that went away is no failure of what was done.
pub(crate) fn fact(line: &str) {
    let _ = writeln!(io::stdout(), "{}", escape(line));
}

/// The same after a mark, which may carry colour.
pub(crate) fn fact_marked(mark: &str, line: &str) {
    let _ = writeln!(io::stdout(), "{mark}{}", escape(line));
}

/// Prints the one object.
pub(crate) fn object(object: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(object) {
        let _ = writeln!(io::stdout(), "{text}");
    }
}

/// Tells the person something, beside the facts.
pub(crate) fn tell(kind: &str, line: &str) {
    let _ = writeln!(io::stderr(), "{kind}: {}", escape(line));
}

/// Tells the person why it failed. A failure escapes its own lines.
pub(crate) fn failure(failure: &spa_keys::Failure) {
    let _ = writeln!(io::stderr(), "{failure}");
}

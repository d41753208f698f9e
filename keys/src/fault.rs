//! What is wrong in a text file, and where.

use std::fmt;
use std::ops::Range;

use crate::escape::escape;

/// Something wrong in a text file. It never quotes the line, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// How many characters are meant, for a caret; at least 1.
    pub width: usize,
    /// What is wrong, in one clause.
    pub what: String,
}

impl Fault {
    /// Something wrong with the bytes `span` of `text`.
    #[must_use]
    pub fn at(text: &str, span: &Range<usize>, what: impl fmt::Display) -> Self {
        let start = text.floor_char_boundary(span.start);
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let meant = text.get(start..text.floor_char_boundary(span.end)).unwrap_or_default();
        let meant = meant.lines().next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            width: meant.chars().count().max(1),
            what: what.to_string(),
        }
    }

    /// Something wrong with a file as a whole.
    #[must_use]
    pub fn whole(what: impl fmt::Display) -> Self {
        Self {
            line: 1,
            column: 1,
            width: 1,
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, escape(&self.what))
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters_from_one() {
        let text = "a = 1\nü = \"x\"\n";
        let fault = Fault::at(text, &(11..14), "wrong");
        assert_eq!((fault.line, fault.column, fault.width), (2, 5, 3));
        let fault = Fault::at(text, &(99..200), "past the end");
        assert_eq!((fault.line, fault.column, fault.width), (3, 1, 1));
        let fault = Fault::at("", &(0..0), "empty");
        assert_eq!((fault.line, fault.column, fault.width), (1, 1, 1));
    }
}

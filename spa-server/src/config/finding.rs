//! What a check found: where, what, and what to try.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::code::Code;
use spa_keys::escape::escape;

/// One thing a person should know about a file. All text in it is free of control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether it stands in the way of running.
    pub level: Level,
    /// The file, as it was named.
    pub file: Option<String>,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// A stable name for this kind of finding, such as `bad-port`.
    pub code: Code,
    /// What is wrong, in one line.
    pub text: String,
    /// What to try.
    #[serde(rename = "try")]
    pub remedy: Option<String>,
    /// The line itself, for the caret; it does not travel.
    #[serde(skip)]
    pub(super) cited: Option<Cited>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The file cannot be used.
    Error,
    /// It can be used; somebody may regret it.
    Warning,
}

/// One line of a file, escaped, and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cited {
    pub(super) line: String,
    pub(super) span: Range<usize>,
}

impl Finding {
    /// A finding that stops the show.
    #[must_use]
    pub fn error(code: Code, text: impl AsRef<str>) -> Self {
        Self::new(Level::Error, code, text.as_ref())
    }

    /// A finding that does not.
    #[must_use]
    pub fn warning(code: Code, text: impl AsRef<str>) -> Self {
        Self::new(Level::Warning, code, text.as_ref())
    }

    fn new(level: Level, code: Code, text: &str) -> Self {
        let text = escape(text).into_owned();
        Self {
            level,
            file: None,
            line: None,
            column: None,
            code,
            text,
            remedy: None,
            cited: None,
        }
    }

    /// The same, about this file.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        self.file = Some(escape(&file.to_string_lossy()).into_owned());
        self
    }

    /// The same, with what to try.
    #[must_use]
    pub fn with_try(mut self, remedy: impl AsRef<str>) -> Self {
        self.remedy = Some(escape(remedy.as_ref()).into_owned());
        self
    }

    /// The same, at `span` (octets) of the file whose whole text is `source`. A span that runs over several lines is
    /// cut at the end of its first one; one out of range is moved into it.
    #[must_use]
    pub fn at(mut self, source: &str, span: &Range<usize>) -> Self {
        let start = source.floor_char_boundary(span.start);
        let begin = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let rest = source[start..]
            .find('\n')
            .map_or(source.len(), |newline| start + newline);
        let end = source.floor_char_boundary(span.end).clamp(start, rest);
        self.line = Some(source[..begin].matches('\n').count() + 1);
        self.column = Some(source[begin..start].chars().count() + 1);
        self.cited = Some(Cited::new([
            &source[begin..start],
            &source[start..end],
            &source[end..rest],
        ]));
        self
    }

    /// Whether it stands in the way of running.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }
}

impl Cited {
    /// From what stands before, in and behind the place.
    fn new([before, meant, behind]: [&str; 3]) -> Self {
        let (before, meant) = (readable(before), readable(meant));
        let span = before.len()..before.len() + meant.len();
        let line = before + &meant + &readable(behind.trim_end_matches('\r'));
        Self { line, span }
    }
}

/// Escaped; a tab is a blank, as its width is anybody's guess.
fn readable(text: &str) -> String {
    escape(&text.replace('\t', " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_exact() {
        let finding = Finding::error(Code::BadPort, "a \u{202e} b").in_file(Path::new("server.toml"));
        insta::assert_snapshot!(serde_json::to_string(&finding.at("x\nports = 5", &(10..11))).unwrap(), @r#"{"level":"error","file":"server.toml","line":2,"column":9,"code":"bad-port","text":"a \\u{202e} b","try":null}"#);
        let finding = Finding::warning(Code::NoHost, "t").with_try("u");
        insta::assert_snapshot!(serde_json::to_string(&finding).unwrap(), @r#"{"level":"warning","file":null,"line":null,"column":null,"code":"no-host","text":"t","try":"u"}"#);
    }

    #[test]
    fn places_are_counted_in_characters_and_cut_at_the_line() {
        let source = "äö = [\n1,\n2]\n";
        let finding = Finding::error(Code::Syntax, "y").at(source, &(7..14));
        assert_eq!((finding.line, finding.column), (Some(1), Some(6)));
        assert_eq!(
            finding.cited,
            Some(Cited {
                line: "äö = [".into(),
                span: 7..8
            })
        );
    }

    #[test]
    fn a_place_out_of_range_is_moved_into_it() {
        let finding = Finding::error(Code::Syntax, "y").at("ä", &(1..99));
        assert_eq!((finding.line, finding.column), (Some(1), Some(1)));
        let finding = Finding::error(Code::Syntax, "y").at("a\n", &(50..60));
        assert_eq!((finding.line, finding.column), (Some(2), Some(1)));
    }
}

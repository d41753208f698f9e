//! The list that every check writes into.

use std::ops::Range;
use std::path::Path;

use super::finding::Finding;

/// All findings about one text so far.
pub(super) struct Findings<'a> {
    file: &'a Path,
    source: &'a str,
    list: Vec<Finding>,
    damaged: bool,
}

impl<'a> Findings<'a> {
    /// None yet about `file`, whose whole text is `source`.
    pub(super) fn new(file: &'a Path, source: &'a str) -> Self {
        Self {
            file,
            source,
            list: Vec::new(),
            damaged: false,
        }
    }

    /// Adds one that points at `span`.
    pub(super) fn at(&mut self, span: &Range<usize>, finding: Finding) {
        self.list.push(finding.in_file(self.file).at(self.source, span));
    }

    /// Adds one about something that is not there. It says nothing once keys have been left out for being wrong: what
    /// is missed is then most likely one of these.
    pub(super) fn absent(&mut self, span: Option<&Range<usize>>, finding: Finding) {
        match span {
            _ if self.damaged => {}
            Some(span) => self.at(span, finding),
            None => self.list.push(finding.in_file(self.file)),
        }
    }

    /// From here on the text is known to have more in it than could be read.
    pub(super) fn mark_damaged(&mut self) {
        self.damaged = true;
    }

    /// All of them in the order of the file; those without a place last.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.list
            .sort_by_key(|finding| (finding.line.unwrap_or(usize::MAX), finding.column));
        self.list
    }
}

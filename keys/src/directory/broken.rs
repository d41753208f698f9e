//! Files that cannot be believed, and those that clash over one key.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use spa_proto::PublicKey;

use super::{BrokenFiles, FileId, Kind};
use crate::load::LoadError;

/// A file that disables its client or invite until it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenFile {
    /// Which.
    pub path: PathBuf,
    /// The line, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong; without the file's name.
    pub what: String,
    /// What to try, where that is known.
    pub hint: Option<String>,
    /// The key that another file has too.
    key: Option<PublicKey>,
}

impl BrokenFile {
    pub(super) fn new(path: PathBuf, error: &LoadError) -> Self {
        let (line, what, hint) = match error {
            LoadError::File(error) => (None, error.to_string(), error.hint()),
            LoadError::Fault { fault, .. } => (Some(fault.line), fault.what.clone(), None),
        };
        Self {
            path,
            line,
            what,
            hint,
            key: None,
        }
    }
}

/// All broken files.
#[derive(Debug, Default)]
pub(super) struct Broken {
    files: BrokenFiles,
    clashes: HashMap<PublicKey, Vec<FileId>>,
}

impl Broken {
    pub(super) fn files(&self) -> &BrokenFiles {
        &self.files
    }

    pub(super) fn stems(&self, kind: Kind) -> impl Iterator<Item = Arc<str>> + '_ {
        let of_kind = self.files.keys().filter(move |(found, _)| *found == kind);
        of_kind.map(|(_, stem)| stem.clone())
    }

    pub(super) fn insert(&mut self, id: FileId, file: BrokenFile) {
        self.files.insert(id, file);
    }

    pub(super) fn insert_clash(&mut self, id: FileId, path: PathBuf, key: PublicKey) {
        let file = BrokenFile {
            path,
            line: None,
            what: format!(
                "another file has the same public key {}; none of them is used",
                crate::text::encode(key.as_bytes())
            ),
            hint: Some("remove all of them but one".into()),
            key: Some(key),
        };
        self.clashes.entry(key).or_default().push(id.clone());
        self.files.insert(id, file);
    }

    pub(super) fn has_clash(&self, key: &PublicKey) -> bool {
        self.clashes.contains_key(key)
    }

    /// Whether this file is set aside for the very key that it has.
    pub(super) fn still_clashes(&self, id: &FileId, key: &PublicKey) -> bool {
        self.files.get(id).is_some_and(|file| file.key.as_ref() == Some(key))
    }

    /// Takes a file out, if it was here; names the one file that it had clashed with and that clashes no more.
    #[expect(clippy::option_option, reason = "was it here; and is one whole again")]
    pub(super) fn remove(&mut self, id: &FileId) -> Option<Option<FileId>> {
        let file = self.files.remove(id)?;
        let Some((key, others)) = file.key.and_then(|key| Some((key, self.clashes.get_mut(&key)?))) else {
            return Some(None);
        };
        others.retain(|other| other != id);
        if others.len() > 1 {
            return Some(None);
        }
        let last = self.clashes.remove(&key).and_then(|mut others| others.pop());
        if let Some(last) = &last {
            self.files.remove(last);
        }
        Some(last)
    }
}

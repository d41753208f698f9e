//! What commands have opened: written before they run, so that it is known whatever happens to the daemon or the host.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault;
use crate::backend::place;
use crate::backend::tcp_wrappers::plan::expect_own;
use crate::backend::{BackendError, Door};

/// One door that a command has opened, or may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    pub door: Door,
    /// For whom.
    pub client: Option<String>,
    /// When it ends, on the clock that starts with the boot.
    pub end: Duration,
    /// Which boot that is.
    pub boot_id: String,
    /// The command said that it is open; else it was being opened, and nobody knows how far that went.
    pub is_open: bool,
    /// What closes it, filled in, whatever is configured then. Nothing where open is told the end.
    pub close: Vec<String>,
    /// Whom that runs as.
    pub user: Option<String>,
}

/// All of them, as they are on disk.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    entries: BTreeMap<Door, Entry>,
}

impl Ledger {
    /// Reads it; it is empty when nothing is open.
    ///
    /// # Errors
    ///
    /// When it cannot be read or somebody else may have written it: it names programs that are run.
    pub fn load(file: &Path) -> Result<Self, BackendError> {
        let refused = |error: &dyn std::fmt::Display| {
            fault(format!("{}: {error}", file.display()))
                .with_hint("look into the file and close by hand what it says is open; then take it away")
        };
        let content = place::read(file).map_err(|error| refused(&error))?;
        let entries: Vec<Entry> = match content {
            None => Vec::new(),
            Some(content) => {
                expect_own(file).map_err(|error| refused(&error))?;
                serde_json::from_slice(&content.text).map_err(|error| refused(&error))?
            }
        };
        Ok(Self {
            file: file.to_owned(),
            entries: entries.into_iter().map(|entry| (entry.door.clone(), entry)).collect(),
        })
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, door: &Door) -> Option<&Entry> {
        self.entries.get(door)
    }

    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Remembers one, durably.
    ///
    /// # Errors
    ///
    /// When it could not be written: then it is not remembered.
    pub fn put(&mut self, entry: Entry) -> Result<(), BackendError> {
        if self.entries.get(&entry.door) == Some(&entry) {
            return Ok(());
        }
        self.change(|entries| drop(entries.insert(entry.door.clone(), entry)))
    }

    /// Forgets one, durably.
    ///
    /// # Errors
    ///
    /// When it could not be written: then it is still remembered.
    pub fn remove(&mut self, door: &Door) -> Result<(), BackendError> {
        self.change(|entries| drop(entries.remove(door)))
    }

    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<Door, Entry>)) -> Result<(), BackendError> {
        let mut entries = self.entries.clone();
        change(&mut entries);
        self.write(&entries)
            .map_err(|error| fault(format!("{}: {error}", self.file.display())))?;
        self.entries = entries;
        Ok(())
    }

    fn write(&self, entries: &BTreeMap<Door, Entry>) -> io::Result<()> {
        if entries.is_empty() {
            return place::remove(&self.file);
        }
        let rows: Vec<&Entry> = entries.values().collect();
        place::keep(&self.file, serde_json::to_vec(&rows)?)
    }
}

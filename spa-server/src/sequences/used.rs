//! What is used up of one-time and rolling sequences, as the record has it.

use std::collections::BTreeMap;

use spa_keys::state::SequenceRow;

/// Rows by the names of their sequences, and which of them are not durable yet.
#[derive(Debug, Default)]
pub struct Used {
    rows: BTreeMap<String, SequenceRow>,
    changed: Vec<String>,
}

impl Used {
    /// From the record.
    #[must_use]
    pub fn new(rows: Vec<SequenceRow>) -> Self {
        let rows = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        let changed = Vec::new();
        Self { rows, changed }
    }

    /// The rows that have changed since the last time, to be made durable.
    pub fn take_changed(&mut self) -> Vec<SequenceRow> {
        let names = std::mem::take(&mut self.changed);
        names.iter().filter_map(|name| self.rows.get(name).cloned()).collect()
    }

    /// Whether one of a list was used or passed over.
    #[must_use]
    pub fn is_passed(&self, name: &str, digest: u64) -> bool {
        self.rows.get(name).is_some_and(|row| row.used.contains(&digest))
    }

    /// The first step that may be used with this key.
    #[must_use]
    pub fn next_step(&self, name: &str, key: &[u8; 32]) -> u64 {
        let row = self.rows.get(name).filter(|row| row.key == *key);
        row.map_or(0, |row| row.next)
    }

    /// Uses those of a list up.
    pub fn pass(&mut self, name: &str, digests: impl IntoIterator<Item = u64>) {
        let row = self.row(name);
        for digest in digests {
            if !row.used.contains(&digest) {
                row.used.push(digest);
            }
        }
    }

    /// Uses every step before `next` up. With another key it begins anew.
    pub fn step_to(&mut self, name: &str, key: [u8; 32], next: u64) {
        let row = self.row(name);
        if row.key != key {
            (row.key, row.next) = (key, 0);
        }
        row.next = row.next.max(next);
    }

    fn row(&mut self, name: &str) -> &mut SequenceRow {
        if !self.changed.iter().any(|changed| changed == name) {
            self.changed.push(name.to_owned());
        }
        self.rows.entry(name.to_owned()).or_insert_with(|| SequenceRow {
            name: name.to_owned(),
            key: [0; 32],
            next: 0,
            used: Vec::new(),
        })
    }
}

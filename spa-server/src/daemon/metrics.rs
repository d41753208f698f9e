//! The page of metrics: what status says, and what was measured.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Daemon;
use crate::metrics::{self, Exporter, Observed};

impl Daemon {
    pub(super) fn metrics(&mut self) -> Value {
        let status = self.status();
        let observed = Observed {
            commits: self.journal.commits().clone(),
            ..self.observed.clone()
        };
        let none = self.config.services.iter().map(|service| (service.name.as_str(), 0));
        let mut grants: BTreeMap<&str, usize> = none.collect();
        for (key, _) in self.grants.live() {
            *grants.entry(&key.service).or_default() += 1;
        }
        json!({ "text": metrics::page(&status, &observed, grants) })
    }

    /// Off unless written.
    pub(super) fn exporter_state(&self) -> Option<Value> {
        self.exporter.as_ref().map(Exporter::state)
    }
}

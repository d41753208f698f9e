//! What the record knows of one key, for who judges recorded packets beside the daemon (`simulate`).

use serde_json::json;
use spa_keys::state::KeyRecord;
use spa_keys::text;

use super::Daemon;
use super::answers::KeyParameters;
use super::stage::row;
use crate::clock;
use crate::control::{ControlError, Reply};
use crate::journal::RecordState;

impl Daemon {
    /// Changes nothing. What is shown opens nothing: timestamps, which step of the codes was used, grants.
    pub(super) fn key_record(&mut self, asked: &KeyParameters) -> Reply {
        let failed = |error: &dyn std::fmt::Display| ControlError::failed(error.to_string());
        let key = text::public_key(&asked.key).map_err(|error| ControlError::parameters(error.to_string()))?;
        let replay = self.journal.accepted(&key).map_err(|error| failed(&error))?;
        let code = self.journal.state().map(|state| state.code(&key)).transpose();
        let code = code.map_err(|error| failed(&error))?.flatten();
        let grants = self.grants.all_of(Some(key));
        let grants = grants.map(|(key, grant)| row(key, grant, &self.boot_id)).collect();
        let waiting = matches!(self.journal.record_state(clock::uptime()), RecordState::Waiting { .. });
        Ok(json!({ "waiting": waiting, "record": KeyRecord::new(replay, code, grants) }))
    }
}

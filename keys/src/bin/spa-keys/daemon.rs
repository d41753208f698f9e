//! What the commands ask of a running daemon.

use serde_json::{Value, json};
use spa_keys::{Control, ControlError, Failure, Paths};

/// What a daemon does with the identities that were just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It judges by them from now on.
    Live,
    /// None runs: the next start will.
    Absent,
}

/// Asks a running daemon for one thing; nothing when none runs.
pub fn ask(
    paths: &Paths,
    method: &str,
    parameters: &Value,
) -> Result<Option<serde_json::Map<String, Value>>, ControlError> {
    match Control::connect(&paths.control_socket()) {
        Ok(mut control) => control.call(method, parameters).map(Some),
        Err(ControlError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has a running daemon load gateway.key.
pub fn load_identities(paths: &Paths) -> Result<Told, Failure> {
    match ask(paths, "spa.LoadIdentities", &json!({})) {
        Ok(Some(_)) => Ok(Told::Live),
        Ok(None) => Ok(Told::Absent),
        Err(error) => {
            let failure = Failure::from(error);
            let what = format!(
                "gateway.key is written, but the running daemon did not load it: {}",
                failure.what
            );
            Err(Failure { what, ..failure }.hint("kill -HUP the daemon, then: spa-keys gateway reinvite"))
        }
    }
}

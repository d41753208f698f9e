//! When each client knocked last, and for which address.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use spa_keys::state::{State, StateError, StateLock};
use spa_keys::{Control, ControlError, Exit, Failure, Paths, text, units};
use spa_proto::PublicKey;

use crate::daemon;

/// How many clients are asked for at once, so that the daemon is not kept busy.
const AT_ONCE: usize = 1000;

/// A client's last knock.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct LastKnock {
    pub at: Option<String>,
    pub address: Option<String>,
    /// The fingerprint of the gateway identity it was sealed for.
    pub identity: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    #[serde(flatten)]
    knock: LastKnock,
}

/// The last knocks of clients by their keys.
pub type LastKnocks = HashMap<PublicKey, LastKnock>;

/// The last knocks of these keys, as far as they are known; what keeps them from being known is said, and no error.
pub fn last_knocks(paths: &Paths, keys: &[PublicKey]) -> LastKnocks {
    all(paths, keys).unwrap_or_else(|failure| {
        eprintln!("warning: last knocks are not known: {}", failure.what);
        LastKnocks::default()
    })
}

/// The same for a decision that rests on them: not knowing is an error.
pub fn surely(paths: &Paths, keys: &[PublicKey]) -> Result<LastKnocks, Failure> {
    let unsure = |what: &str| Failure::new(Exit::Failed, format_args!("who has knocked cannot be told: {what}"));
    if !daemon::record_is_whole(paths)? {
        return Err(unsure("the daemon's record is not whole").hint("spa-server status"));
    }
    let known = all(paths, keys)?;
    if known.is_empty() && !paths.state.join("record.redb").exists() {
        return Err(unsure("there is no record"));
    }
    Ok(known)
}

/// The daemon is asked; when it does not run, its state is read.
fn all(paths: &Paths, keys: &[PublicKey]) -> Result<LastKnocks, Failure> {
    let mut control = match Control::connect(&paths.control_socket()) {
        Ok(control) => control,
        Err(ControlError::NotRunning { .. }) => return from_state(paths, keys),
        Err(error) => return Err(error.into()),
    };
    let mut knocks = HashMap::new();
    for part in keys.chunks(AT_ONCE) {
        let keys: Vec<String> = part.iter().map(|key| text::encode(key.as_bytes())).collect();
        let mut reply = control.call("spa.LastKnocks", &json!({ "keys": keys }))?;
        knocks.extend(rows(reply.remove("knocks")));
    }
    Ok(knocks)
}

/// Under the lock that the daemon would hold.
fn from_state(paths: &Paths, keys: &[PublicKey]) -> Result<LastKnocks, Failure> {
    // Asking must not make a state where there is none.
    if !paths.state.is_dir() {
        return Ok(LastKnocks::default());
    }
    let failed = |error: StateError| Failure::new(Exit::Failed, error);
    let lock = StateLock::acquire(&paths.state).map_err(failed)?;
    let mut state = match State::open(&paths.state, lock) {
        Err(StateError::Missing(_)) => return Ok(LastKnocks::default()),
        state => state.map_err(failed)?,
    };
    let mut knocks = LastKnocks::default();
    for key in keys {
        if let Some(knock) = state.last_knock(key).map_err(failed)? {
            let last = LastKnock {
                at: Some(units::format_time(knock.at)),
                address: Some(knock.address.to_string()),
                identity: Some(text::fingerprint(&knock.gateway)),
            };
            knocks.insert(*key, last);
        }
    }
    Ok(knocks)
}

fn rows(reply: Option<Value>) -> Vec<(PublicKey, LastKnock)> {
    let rows: Vec<Row> = reply
        .and_then(|rows| serde_json::from_value(rows).ok())
        .unwrap_or_default();
    let pair = |row: Row| Some((text::public_key(&row.key).ok()?, row.knock));
    rows.into_iter().filter_map(pair).collect()
}

//! When each client knocked last, and for which address.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use spa_keys::state::{State, StateError, StateLock};
use spa_keys::{Control, ControlError, Exit, Failure, Paths, text, units};
use spa_proto::{PublicKey, UnixTime};

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

/// The last knocks of clients by their keys, as far as they are known.
#[derive(Debug, Default)]
pub struct LastKnocks {
    pub knocks: HashMap<PublicKey, LastKnock>,
    /// Since when they are remembered; nothing where nobody remembers any.
    pub since: Option<UnixTime>,
}

/// The last knocks of these keys; what keeps them from being known is said, and no error.
pub fn last_knocks(paths: &Paths, keys: &[PublicKey]) -> LastKnocks {
    all(paths, keys).unwrap_or_else(|failure| {
        eprintln!("warning: last knocks are not known: {}", failure.what);
        LastKnocks::default()
    })
}

/// The same for a decision that rests on them: not knowing is an error.
pub fn surely(paths: &Paths, keys: &[PublicKey]) -> Result<LastKnocks, Failure> {
    let known = all(paths, keys)?;
    if known.since.is_none() {
        let failure = Failure::new(Exit::Failed, "there is no record now that tells who has knocked");
        return Err(failure.hint("spa-server status"));
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
    let mut last = LastKnocks::default();
    // Without any key it is still asked since when there is a record.
    let parts = if keys.is_empty() {
        vec![keys]
    } else {
        keys.chunks(AT_ONCE).collect()
    };
    for part in parts {
        let keys: Vec<String> = part.iter().map(|key| text::encode(key.as_bytes())).collect();
        let mut reply = control.call("spa.LastKnocks", &json!({ "keys": keys }))?;
        last.knocks.extend(rows(reply.remove("knocks")));
        let since = reply.get("since").and_then(Value::as_str);
        last.since = since.and_then(|since| units::parse_time(since).ok());
    }
    Ok(last)
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
    let mut last = LastKnocks {
        since: state.began().map_err(failed)?,
        ..LastKnocks::default()
    };
    for key in keys {
        if let Some(knock) = state.last_knock(key).map_err(failed)? {
            let knock = LastKnock {
                at: Some(units::format_time(knock.at)),
                address: Some(knock.address.to_string()),
                identity: Some(text::fingerprint(&knock.gateway)),
            };
            last.knocks.insert(*key, knock);
        }
    }
    Ok(last)
}

fn rows(reply: Option<Value>) -> Vec<(PublicKey, LastKnock)> {
    let rows: Vec<Row> = reply
        .and_then(|rows| serde_json::from_value(rows).ok())
        .unwrap_or_default();
    let pair = |row: Row| Some((text::public_key(&row.key).ok()?, row.knock));
    rows.into_iter().filter_map(pair).collect()
}

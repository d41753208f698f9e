//! When each client knocked last, and for which address.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use spa_keys::state::{State, StateLock};
use spa_keys::{Control, Paths, text, units};
use spa_proto::PublicKey;

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

/// The last knocks of these keys, as far as they are known. The daemon is asked; when it does not run, its state is
/// read.
pub fn last_knocks(paths: &Paths, keys: &[PublicKey]) -> HashMap<PublicKey, LastKnock> {
    let mut knocks = HashMap::new();
    let Ok(mut control) = Control::connect(&paths.control_socket()) else {
        return from_state(paths, keys);
    };
    for part in keys.chunks(AT_ONCE) {
        let keys: Vec<String> = part.iter().map(|key| text::encode(key.as_bytes())).collect();
        match control.call("spa.LastKnocks", &json!({ "keys": keys })) {
            Ok(mut reply) => knocks.extend(rows(reply.remove("knocks"))),
            Err(error) => {
                eprintln!("warning: last knocks are not known: {error}");
                break;
            }
        }
    }
    knocks
}

/// Under the lock that the daemon would hold; a state that cannot be read is its matter, not this command's.
fn from_state(paths: &Paths, keys: &[PublicKey]) -> HashMap<PublicKey, LastKnock> {
    // Asking must not make a state where there is none.
    let lock = if paths.state.is_dir() {
        StateLock::acquire(&paths.state).ok()
    } else {
        None
    };
    let Some(Ok(mut state)) = lock.map(|lock| State::open(&paths.state, lock)) else {
        return HashMap::new();
    };
    let knock = |key: &PublicKey| {
        let knock = state.last_knock(key).ok()??;
        let (at, address) = (Some(units::format_time(knock.at)), Some(knock.address.to_string()));
        Some((
            *key,
            LastKnock {
                at,
                address,
                identity: Some(text::fingerprint(&knock.gateway)),
            },
        ))
    };
    keys.iter().filter_map(knock).collect()
}

fn rows(reply: Option<Value>) -> Vec<(PublicKey, LastKnock)> {
    let rows: Vec<Row> = reply
        .and_then(|rows| serde_json::from_value(rows).ok())
        .unwrap_or_default();
    let pair = |row: Row| Some((text::public_key(&row.key).ok()?, row.knock));
    rows.into_iter().filter_map(pair).collect()
}

//! When each client knocked last, and for which address.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use spa_keys::{Control, Paths, text};
use spa_proto::PublicKey;

/// How many clients are asked for at once, so that the daemon is not kept busy.
const AT_ONCE: usize = 1000;

/// A client's last knock.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct LastKnock {
    pub at: Option<String>,
    pub address: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    #[serde(flatten)]
    knock: LastKnock,
}

/// The last knocks of these keys, as far as they are known. The daemon is asked; when it does not run, nothing is
/// known yet.
pub fn last_knocks(paths: &Paths, keys: &[PublicKey]) -> HashMap<PublicKey, LastKnock> {
    let mut knocks = HashMap::new();
    let Ok(mut control) = Control::connect(&paths.control_socket()) else {
        return knocks;
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

fn rows(reply: Option<Value>) -> Vec<(PublicKey, LastKnock)> {
    let rows: Vec<Row> = reply
        .and_then(|rows| serde_json::from_value(rows).ok())
        .unwrap_or_default();
    let pair = |row: Row| Some((text::public_key(&row.key).ok()?, row.knock));
    rows.into_iter().filter_map(pair).collect()
}

//! `spa-keys gateway rotate --status`

use serde_json::{Value, json};
use spa_keys::{Failure, text};

use super::{keys_of, newest, rotation};
use crate::context::Context;
use crate::describe;
use crate::last;

const COLUMNS: [(&str, &str); 5] = [
    ("CLIENT", "name"),
    ("PROGRESS", "progress"),
    ("SUCCESSOR", "successor"),
    ("LAST KNOCK", "last_knock"),
    ("IDENTITY", "identity"),
];

pub fn run(context: &Context) -> Result<(), Failure> {
    let key = context.gateway_key()?;
    let directory = context.directory()?;
    let last = last::surely(&context.paths, &keys_of(&directory))?;
    let rotation = rotation(&directory, &last, context);
    let newest = newest(&key);
    let describe = |client: &spa_keys::ClientView<'_>| {
        let client = *client;
        let successor = rotation.successor(client).map(|view| view.name().to_owned());
        let invited = || rotation.invited(client).map(|invite| invite.name.to_string());
        json!({
            "name": client.name(),
            "progress": rotation.progress(client, &newest).to_string(),
            "successor": successor.or_else(invited),
            "last_knock": last.knocks.get(client.public_key()).and_then(|knock| knock.at.clone()),
            "identity": rotation.identity_of(client),
        })
    };
    let clients: Vec<Value> = rotation.active().iter().map(describe).collect();
    let own = key
        .identities()
        .iter()
        .map(|dated| text::fingerprint(dated.identity.public()));
    let identities: Vec<String> = own.collect();
    let facts = json!({ "newest": newest, "identities": identities, "clients": clients });
    context.answer(&facts, || plain(&newest, &clients))
}

fn plain(newest: &str, clients: &[Value]) -> String {
    let left = clients
        .iter()
        .filter(|client| !matches!(client["progress"].as_str(), Some("moved" | "replaced")));
    let left = left.count();
    let table = describe::table(&COLUMNS, clients);
    format!(
        "newest identity {newest}\n\n{table}\n\n{left} of {} have not moved yet",
        clients.len()
    )
}

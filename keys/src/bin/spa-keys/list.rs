//! `spa-keys list` and `show`

use serde_json::{Value, json};
use spa_keys::{ClientName, Exit, Failure, Invite, Kind};
use spa_proto::PublicKey;

use crate::context::Context;
use crate::describe;
use crate::last::last_knocks;

const CLIENT_COLUMNS: [(&str, &str); 7] = [
    ("CLIENT", "name"),
    ("STATE", "state"),
    ("SERVICES", "services"),
    ("EXPIRES", "expires"),
    ("LAST KNOCK", "last_knock"),
    ("FROM", "last_address"),
    ("IDENTITY", "identity"),
];
const INVITE_COLUMNS: [(&str, &str); 4] = [
    ("INVITE", "name"),
    ("STATE", "state"),
    ("SERVICES", "services"),
    ("ENDS", "ends"),
];

pub fn list(context: &Context) -> Result<(), Failure> {
    let directory = context.directory()?;
    let keys: Vec<PublicKey> = directory.clients().map(|client| *client.public_key()).collect();
    let last = last_knocks(&context.paths, &keys);
    let whole = directory
        .clients()
        .map(|client| describe::client(client, context.now, last.knocks.get(client.public_key())));
    let broken = directory.broken().filter(|(kind, ..)| *kind == Kind::Client);
    let mut clients: Vec<Value> = whole.chain(broken.map(|(_, name, _)| describe::broken(name))).collect();
    clients.sort_by_cached_key(|client| describe::cell(client, "name"));
    let mut invites: Vec<&Invite> = directory.invites().collect();
    invites.sort_by_key(|invite| (invite.name.as_str(), invite.ends));
    let invites: Vec<Value> = invites
        .into_iter()
        .map(|invite| describe::invite(invite, context.now))
        .collect();
    for (_, _, file) in directory.broken() {
        eprintln!("warning: {}", describe::complaint(file));
    }
    let facts = json!({ "clients": clients, "invites": invites });
    context.answer(&facts, || {
        let clients: Vec<Value> = clients
            .iter()
            .map(|client| describe::for_people(client, context.now))
            .collect();
        plain(&clients, &invites)
    })
}

fn plain(clients: &[Value], invites: &[Value]) -> String {
    match (clients, invites) {
        ([], []) => "no client and no invite\n  try: spa-keys invite NAME --services ssh".into(),
        (clients, []) => describe::table(&CLIENT_COLUMNS, clients),
        ([], invites) => describe::table(&INVITE_COLUMNS, invites),
        (clients, invites) => {
            let clients = describe::table(&CLIENT_COLUMNS, clients);
            format!("{clients}\n\n{}", describe::table(&INVITE_COLUMNS, invites))
        }
    }
}

pub fn show(context: &Context, name: &ClientName) -> Result<(), Failure> {
    let directory = context.directory()?;
    if let Some(file) = directory.broken_client(name.as_str()) {
        let facts = describe::broken(name.as_str());
        context.answer(&facts, || lines(&facts))?;
        return Err(Failure::new(Exit::Config, describe::complaint(file)));
    }
    let client = directory
        .client_named(name.as_str())
        .ok_or_else(|| no_client(&directory, name, context))?;
    let last = last_knocks(&context.paths, &[*client.public_key()]);
    let facts = describe::client(client, context.now, last.knocks.get(client.public_key()));
    context.answer(&facts, || lines(&facts))
}

/// Says that there is no such client, and why that may be.
pub fn no_client(directory: &spa_keys::KeyDirectory, name: &ClientName, context: &Context) -> Failure {
    let failure = Failure::new(Exit::Failed, format_args!("there is no client {name}"));
    if directory.has_name(name.as_str(), context.now) {
        let waiting = Failure::new(
            Exit::Failed,
            format_args!("{name} has an invite and has not enrolled yet"),
        );
        return waiting.hint(format!("spa-keys remove {name}, to withdraw the invite"));
    }
    failure.hint("spa-keys list")
}

fn lines(facts: &Value) -> String {
    let keys = [
        "name",
        "label",
        "state",
        "public_key",
        "services",
        "expires",
        "enrolled",
        "last_knock",
        "last_address",
        "identity",
    ];
    let line = |key: &str| format!("{:13} {}", key.replace('_', " "), describe::cell(facts, key));
    keys.map(line).join("\n")
}

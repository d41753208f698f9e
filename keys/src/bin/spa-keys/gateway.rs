//! `spa-keys gateway show`

use serde_json::{Value, json};
use spa_keys::units::format_time;
use spa_keys::{DatedIdentity, Failure, text};

use crate::context::Context;
use crate::describe::cell;

pub fn show(context: &Context, secrets: bool) -> Result<(), Failure> {
    let server = context.server()?;
    let key = context.gateway_key()?;
    let identities: Vec<Value> = key.identities().iter().map(|dated| describe(dated, secrets)).collect();
    let host = server.host.as_ref().map(ToString::to_string);
    let facts = json!({ "host": host, "ports": server.ports, "identities": identities });
    context.answer(&facts, || {
        let ports: Vec<String> = server.ports.iter().map(|port| format!("udp/{port}")).collect();
        let mut lines = vec![
            format!("host         {}", cell(&facts, "host")),
            format!("ports        {}", ports.join(", ")),
        ];
        lines.extend(identities.iter().map(|identity| plain(identity, secrets)));
        lines.join("\n")
    })
}

fn describe(DatedIdentity { created, identity }: &DatedIdentity, secrets: bool) -> Value {
    let hmac_key = secrets.then(|| text::encode(identity.hmac_key().expose()));
    json!({
        "public_key": text::encode(identity.public().as_bytes()),
        "fingerprint": text::fingerprint(identity.public()),
        "created": format_time(*created),
        "hmac_key": hmac_key,
    })
}

fn plain(identity: &Value, secrets: bool) -> String {
    let mut lines = format!(
        "\nfingerprint  {}\npublic key   {}\ncreated      {}",
        cell(identity, "fingerprint"),
        cell(identity, "public_key"),
        cell(identity, "created")
    );
    if secrets {
        lines.push_str("\nHMAC key     ");
        lines.push_str(&cell(identity, "hmac_key"));
    }
    lines
}

//! A client as one object, and as lines for people.

use serde_json::{Value, json};
use spa_keys::escape::escape;
use spa_keys::units::{format_time, parse_time};
use spa_keys::{BrokenFile, ClientState, ClientView, Invite, text};
use spa_proto::{ServiceName, UnixTime};

use crate::last::LastKnock;

/// `SHA256:` and 8 characters of a fingerprint.
const SHORT: usize = 15;

/// A client with every key that DESIGN promises; null when unknown.
pub fn client(client: ClientView<'_>, now: UnixTime, last: Option<&LastKnock>) -> Value {
    json!({
        "name": client.name(),
        "label": Some(client.label()).filter(|label| !label.is_empty()),
        "state": client.state(now).to_string(),
        "public_key": text::encode(client.public_key().as_bytes()),
        "services": names(&client.policy().services),
        "expires": client.expires().map(format_time),
        "enrolled": client.enrolled().map(format_time),
        "last_knock": last.and_then(|last| last.at.clone()),
        "last_address": last.and_then(|last| last.address.clone()),
        "identity": last.and_then(|last| last.identity.clone()),
    })
}

/// A client whose file cannot be believed: nothing but its name is known.
pub fn broken(name: &str) -> Value {
    json!({
        "name": name, "label": null, "state": ClientState::Broken.to_string(), "public_key": null, "services": null,
        "expires": null, "enrolled": null, "last_knock": null, "last_address": null, "identity": null,
    })
}

/// The same for a table: how many days are left, and as much of the identity as is needed to tell it from others.
pub fn for_people(client: &Value, now: UnixTime) -> Value {
    let mut client = client.clone();
    if let Some(end) = client["expires"].as_str().and_then(|time| parse_time(time).ok()) {
        let left = if end > now {
            format!("{} d", end.distance(now).as_secs() / 86_400)
        } else {
            "over".into()
        };
        client["expires"] = format!("{} ({left})", format_time(end)).into();
    }
    if let Some(identity) = client["identity"].as_str() {
        client["identity"] = identity.chars().take(SHORT).collect::<String>().into();
    }
    client
}

pub fn invite(invite: &Invite, now: UnixTime) -> Value {
    json!({
        "name": invite.name.as_str(),
        "state": invite.state(now).to_string(),
        "services": names(&invite.terms.policy.services),
        "ends": format_time(invite.ends),
    })
}

pub fn names(services: &[ServiceName]) -> Vec<&str> {
    services.iter().map(ServiceName::as_str).collect()
}

/// What is wrong with a file, where, and what to try.
pub fn complaint(file: &BrokenFile) -> String {
    let line = file.line.map(|line| format!(", line {line}")).unwrap_or_default();
    let hint = file
        .hint
        .as_ref()
        .map(|hint| format!("\n  try: {}", escape(hint)))
        .unwrap_or_default();
    let path = file.path.display().to_string();
    if file.what.contains(&path) {
        return format!("{}{hint}", escape(&file.what));
    }
    format!("{}{line}: {}{hint}", escape(&path), escape(&file.what))
}

/// A value of such an object for people: `-` for none, lists with commas.
pub fn cell(facts: &Value, key: &str) -> String {
    match facts.get(key) {
        Some(Value::String(text)) => escape(text).into_owned(),
        Some(Value::Array(items)) if items.is_empty() => "(none)".into(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        _ => "-".into(),
    }
}

/// Rows under their headings, each column as wide as it must be.
pub fn table(headings: &[(&str, &str)], rows: &[Value]) -> String {
    let mut lines = vec![
        headings
            .iter()
            .map(|(heading, _)| (*heading).to_owned())
            .collect::<Vec<_>>(),
    ];
    lines.extend(
        rows.iter()
            .map(|row| headings.iter().map(|(_, key)| cell(row, key)).collect()),
    );
    let width = |at: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(at))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..headings.len()).map(|at| width(at).unwrap_or_default()).collect();
    let line = |cells: &Vec<String>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

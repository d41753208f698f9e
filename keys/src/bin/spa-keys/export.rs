//! `spa-keys export`

use std::io::Write;
use std::path::Path;

use serde_json::json;
use spa_keys::export::{Secrets, export};
use spa_keys::file::{Limits, create_new, read_text};
use spa_keys::{ClientName, Exit, Failure, LoadError};

use crate::context::Context;
use crate::list::no_client;

pub fn run(context: &Context, name: &ClientName, secrets: bool, out: Option<&Path>) -> Result<(), Failure> {
    let path = context.paths.clients.join(format!("{name}.toml"));
    let text = match read_text(&path, Limits::SECRET) {
        Err(error) if error.is_absent() => return Err(no_client(&context.directory()?, name, context)),
        text => text?,
    };
    let included = if secrets || out.is_some() {
        Secrets::Included
    } else {
        Secrets::LeftOut
    };
    let text = export(&text, included).map_err(|fault| LoadError::fault(&path, fault))?;
    if let Some(file) = out {
        create_new(file, text.as_bytes(), 0o600)?;
        let facts = json!({ "name": name.as_str(), "file": file, "secrets": true });
        return context.answer(&facts, || format!("{name} written to {}: a secret", file.display()));
    }
    if context.json {
        return context.answer(
            &json!({ "name": name.as_str(), "text": text.as_str(), "secrets": secrets }),
            String::new,
        );
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::new(Exit::Failed, format_args!("cannot write the client: {error}")))
}

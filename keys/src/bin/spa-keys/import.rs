//! `spa-keys import`

use std::path::Path;

use serde_json::json;
use spa_keys::export::with_psk;
use spa_keys::file::{Limits, create_new, read_text, replace};
use spa_keys::{Client, ClientName, Exit, Failure, KeyDirectory, LoadError, text};
use zeroize::Zeroizing;

use crate::add::{check_key, read_psk, read_secret};
use crate::cli::ImportArgs;
use crate::context::Context;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Added,
    Replaced,
    Unchanged,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
        }
    }
}

pub fn run(context: &Context, args: ImportArgs) -> Result<(), Failure> {
    let name = args.name.map_or_else(|| name_of(&args.file), Ok)?;
    let text = read(&args.file, args.psk_file.as_deref())?;
    let client = Client::parse(&text).map_err(|fault| LoadError::fault(&args.file, fault))?;
    context.server()?.check(&client.terms.policy.services)?;
    let _lock = context.lock()?;
    let directory = context.directory()?;
    let outcome = put(context, &directory, &name, &client, &text, args.replace)?;
    context.answer(&json!({ "name": name.as_str(), "outcome": outcome.as_str() }), || {
        format!("{name} {}", outcome.as_str())
    })
}

/// The text, with the PSK from elsewhere where it is told where.
fn read(file: &Path, psk_file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let Some(psk_file) = psk_file else {
        return read_secret(file).map_err(|failure| failure_with_hint(file, failure));
    };
    // Without secrets in it, it may be open to others; nobody but its owner may have written it.
    let text = if file == Path::new("-") {
        read_secret(file)?
    } else {
        read_text(
            file,
            Limits {
                mode: 0o644,
                ..Limits::SECRET
            },
        )?
    };
    let psk = read_psk(psk_file)?;
    let whole = with_psk(&text, &text::encode_secret(psk.expose()));
    whole.map_err(|fault| LoadError::fault(file, fault).into())
}

fn failure_with_hint(file: &Path, failure: Failure) -> Failure {
    failure.hint(format!("with --psk-file, where {} holds no secret", file.display()))
}

fn put(
    context: &Context,
    directory: &KeyDirectory,
    name: &ClientName,
    client: &Client,
    text: &str,
    may_replace: bool,
) -> Result<Outcome, Failure> {
    let path = context.paths.clients.join(format!("{name}.toml"));
    let known = directory
        .client_named(name.as_str())
        .is_some_and(|view| *view.public_key() == client.public_key);
    if !known {
        context.check_name(directory, name.as_str())?;
        let checked = check_key(&client.public_key, &context.gateway_key()?, directory);
        checked.map_err(|what| Failure::new(Exit::Failed, format_args!("public-key: {what}")))?;
        create_new(&path, text.as_bytes(), 0o600)?;
        return Ok(Outcome::Added);
    }
    if *read_text(&path, Limits::SECRET)? == *text {
        return Ok(Outcome::Unchanged);
    }
    if !may_replace {
        let what = format_args!("{name} is known here, with the same key and other settings");
        return Err(Failure::new(Exit::Failed, what).hint("the same with --replace"));
    }
    replace(&path, text.as_bytes(), 0o600)?;
    Ok(Outcome::Replaced)
}

fn name_of(file: &Path) -> Result<ClientName, Failure> {
    let stem = file
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix(".toml"));
    let name = stem.and_then(|stem| stem.parse().ok());
    name.ok_or_else(|| Failure::new(Exit::Usage, "the file's name is no client's name with .toml").hint("--name NAME"))
}

//! `spa-keys import`

use std::path::{Path, PathBuf};

use serde_json::json;
use spa_keys::export::{Kept, keep, lacks_code, with_psk};
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
    let server = context.server()?;
    let _lock = context.lock()?;
    let directory = context.directory()?;
    let refused = |fault| LoadError::fault(&args.file, fault);
    let known = is_known(&directory, &name, &text);
    let kept = if known {
        let present = Client::load(&path(context, &name))?;
        keep(&text, &present, args.restore).map_err(refused)?
    } else {
        as_it_is(text)
    };
    let client = Client::parse(&kept.text).map_err(|fault| with_code_hint(&name, &kept.text, refused(fault).into()))?;
    server.check(&client.terms.policy.services)?;
    let outcome = if known {
        change(&path(context, &name), &name, &kept.text, args.replace)?
    } else {
        add(context, &directory, &name, &client, &kept.text)?
    };
    tell_kept(&name, &kept);
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

/// Whether it is the text of a client that this gateway knows by this name.
fn is_known(directory: &KeyDirectory, name: &ClientName, text: &str) -> bool {
    let client = directory.client_named(name.as_str());
    client.is_some_and(|view| Client::key_in(text) == Some(*view.public_key()))
}

const fn as_it_is(text: Zeroizing<String>) -> Kept {
    Kept {
        text,
        code: false,
        revoked: false,
    }
}

fn with_code_hint(name: &ClientName, text: &str, failure: Failure) -> Failure {
    if lacks_code(text) {
        failure.hint(format!(
            "spa-keys export {name} --out FILE, where it comes from, and import that"
        ))
    } else {
        failure
    }
}

fn add(
    context: &Context,
    directory: &KeyDirectory,
    name: &ClientName,
    client: &Client,
    text: &str,
) -> Result<Outcome, Failure> {
    context.check_name(directory, name.as_str())?;
    let checked = check_key(&client.public_key, &context.gateway_key()?, directory);
    checked.map_err(|what| Failure::new(Exit::Failed, format_args!("public-key: {what}")))?;
    create_new(&path(context, name), text.as_bytes(), 0o600)?;
    Ok(Outcome::Added)
}

fn change(path: &Path, name: &ClientName, text: &str, may_replace: bool) -> Result<Outcome, Failure> {
    if *read_text(path, Limits::SECRET)? == *text {
        return Ok(Outcome::Unchanged);
    }
    if !may_replace {
        let what = format_args!("{name} is known here, with the same key and other settings");
        return Err(Failure::new(Exit::Failed, what).hint("the same with --replace"));
    }
    replace(path, text.as_bytes(), 0o600)?;
    Ok(Outcome::Replaced)
}

fn tell_kept(name: &ClientName, kept: &Kept) {
    if kept.code {
        eprintln!("{name} keeps its one-time code; to take it out: spa-keys set {name} --one-time-code none");
    }
    if kept.revoked {
        eprintln!("{name} stays revoked; --replace --restore makes its key good again");
    }
}

fn path(context: &Context, name: &ClientName) -> PathBuf {
    context.paths.clients.join(format!("{name}.toml"))
}

fn name_of(file: &Path) -> Result<ClientName, Failure> {
    let stem = file
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix(".toml"));
    let name = stem.and_then(|stem| stem.parse().ok());
    name.ok_or_else(|| Failure::new(Exit::Usage, "the file's name is no client's name with .toml").hint("--name NAME"))
}

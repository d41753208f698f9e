//! `spa-keys gateway rotate` and `reinvite`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::{Value, json};
use spa_keys::file::{FileError, create_dir, create_new, remove};
use spa_keys::rotation::{Progress, Rotation, Seen, next_name, taken_names};
use spa_keys::units::{format_time, parse_time};
use spa_keys::{Client, ClientName, ClientView, Exit, Failure, GatewayKey, KeyDirectory, Kind, LoadError, text};
use spa_proto::PublicKey;
use zeroize::Zeroizing;

use crate::cli::ReinviteArgs;
use crate::context::Context;
use crate::daemon::{self, Told};
use crate::describe;
use crate::invite::write_picture;
use crate::last::{LastKnock, LastKnocks};
use crate::list::no_client;
use crate::maker::{Maker, check_valid};

pub mod drop;
pub mod status;

const COLUMNS: [(&str, &str); 4] = [
    ("INVITE", "name"),
    ("REPLACES", "replaces"),
    ("ENDS", "ends"),
    ("FILE", "file"),
];

/// A new identity, first for the daemon, then in invites: whoever enrolls by one of them is understood.
pub fn run(context: &Context, args: &ReinviteArgs) -> Result<(), Failure> {
    check_valid(args.valid)?;
    // Checks what an invite needs before anything is changed.
    let (server, mut key) = (context.server()?, context.gateway_key()?);
    Maker::new(&server, &key)?;
    let _lock = context.lock()?;
    let directory = context.directory()?;
    warn_of_broken(&directory);
    let names = to_reinvite(&no_knocks(&directory, context));
    let refused = |fault| LoadError::fault(&context.paths.gateway_key, fault);
    key.rotate(context.now, &mut UnwrapErr(SysRng)).map_err(refused)?;
    let folder = make_folder(context, args.out.as_deref())?;
    key.save(&context.paths.gateway_key)?;
    let told = daemon::load_identities(&context.paths)?;
    if told == Told::Absent {
        eprintln!("No daemon runs; the new identity is good from its next start on.");
    }
    let invites = invite_all(context, &key, &directory, &names, &folder, args)?;
    announce(context, &key, &folder, &invites)
}

/// Invites with the newest identity, for those named or for all who have neither moved nor an invite.
pub fn reinvite(context: &Context, names: &[ClientName], args: &ReinviteArgs) -> Result<(), Failure> {
    check_valid(args.valid)?;
    let key = context.gateway_key()?;
    let _lock = context.lock()?;
    let mut directory = context.directory()?;
    let names = if names.is_empty() {
        let last = last_of_all(context, &directory);
        let rotation = rotation(&directory, &last, context);
        let newest = newest(&key);
        let lagging = |client: &&ClientView<'_>| rotation.progress(**client, &newest) == Progress::Lagging;
        let lagging = rotation.active().iter().filter(lagging);
        lagging.map(|client| client.name().to_owned()).collect()
    } else {
        names
            .iter()
            .try_for_each(|name| withdraw(context, &mut directory, name))?;
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    if names.is_empty() {
        let facts = json!({ "identity": newest(&key), "folder": null, "invites": [] });
        return context.answer(&facts, || "everybody has moved or has an invite".into());
    }
    let folder = make_folder(context, args.out.as_deref())?;
    let invites = invite_all(context, &key, &directory, &names, &folder, args)?;
    announce(context, &key, &folder, &invites)
}

/// An invite that waits for the same purpose is lost or was never given: its name is free again.
fn withdraw(context: &Context, directory: &mut KeyDirectory, name: &ClientName) -> Result<(), Failure> {
    if directory.client_named(name.as_str()).is_none() {
        return Err(no_client(directory, name, context));
    }
    let waiting = no_knocks(directory, context)
        .invited(name.as_str())
        .map(spa_keys::Invite::file_name);
    if let Some(file) = waiting {
        remove(&context.paths.invites.join(&file))?;
        directory.reload_all()?;
    }
    Ok(())
}

/// All active clients but those whose successors stand for them.
fn to_reinvite(rotation: &Rotation<'_>) -> Vec<String> {
    let active = rotation.active().iter();
    let alone = active.filter(|client| rotation.successor(client.name()).is_none());
    alone.map(|client| client.name().to_owned()).collect()
}

/// For questions that no knock answers.
fn no_knocks<'a>(directory: &'a KeyDirectory, context: &Context) -> Rotation<'a> {
    rotation(directory, &LastKnocks::default(), context)
}

/// With the clients' last knocks.
fn rotation<'a>(directory: &'a KeyDirectory, last: &LastKnocks, context: &Context) -> Rotation<'a> {
    let seen = |knock: &LastKnock| {
        let at = parse_time(knock.at.as_ref()?).ok()?;
        let identity = knock.identity.clone()?;
        Some(Seen { at, identity })
    };
    let seen = last.knocks.iter().filter_map(|(key, knock)| Some((*key, seen(knock)?)));
    Rotation::new(
        directory,
        seen.collect(),
        last.since.unwrap_or(context.now),
        context.now,
    )
}

/// Nobody can say what a broken file's client may do, so it gets no invite.
fn warn_of_broken(directory: &KeyDirectory) {
    for (_, _, file) in directory.broken().filter(|(kind, ..)| *kind == Kind::Client) {
        eprintln!("warning: not counted here: {}", describe::complaint(file));
    }
}

fn last_of_all(context: &Context, directory: &KeyDirectory) -> LastKnocks {
    crate::last::last_knocks(&context.paths, &keys_of(directory))
}

fn keys_of(directory: &KeyDirectory) -> Vec<PublicKey> {
    directory.clients().map(|client| *client.public_key()).collect()
}

fn newest(key: &GatewayKey) -> String {
    key.newest()
        .map(|own| text::fingerprint(own.public()))
        .unwrap_or_default()
}

/// A folder of mode 0700 that was not there before.
fn make_folder(context: &Context, out: Option<&Path>) -> Result<PathBuf, Failure> {
    let standard = || {
        let time = format_time(context.now).replace(':', "");
        context.paths.gateway_key.with_file_name(format!("rotation-{time}"))
    };
    let folder = out.map_or_else(standard, Path::to_owned);
    if folder.symlink_metadata().is_ok() {
        return Err(Failure::from(FileError::Exists { path: folder }).hint("--out with another folder"));
    }
    create_dir(&folder, 0o700)?;
    Ok(folder)
}

fn invite_all(
    context: &Context,
    key: &GatewayKey,
    directory: &KeyDirectory,
    names: &[String],
    folder: &Path,
    args: &ReinviteArgs,
) -> Result<Vec<Value>, Failure> {
    let server = context.server()?;
    let maker = Maker::new(&server, key)?;
    let mut taken = taken_names(directory, context.now);
    let mut invite = |name: &String| invite_one(context, &maker, &mut taken, name, folder, args);
    names.iter().map(&mut invite).collect()
}

/// The text first, the invite after it: what is cut off between leaves no name reserved by an invite that nobody has.
fn invite_one(
    context: &Context,
    maker: &Maker<'_>,
    taken: &mut BTreeSet<String>,
    old: &str,
    folder: &Path,
    args: &ReinviteArgs,
) -> Result<Value, Failure> {
    let mut terms = Client::load(&context.paths.clients.join(format!("{old}.toml")))?.terms;
    terms.replaces = old.parse().ok();
    let name = next_name(taken, old);
    let name = name.ok_or_else(|| Failure::new(Exit::Failed, format_args!("no name is free after {old}")))?;
    let ends = context.now.saturating_add(args.valid);
    let (invite, text) = maker.make(name, ends, terms, args.pin)?;
    let file = folder.join(format!("{}.txt", invite.name));
    let picture = folder.join(format!("{}.svg", invite.name));
    let line = Zeroizing::new(format!("{}\n", *text.to_text()));
    create_new(&file, line.as_bytes(), 0o600)?;
    write_picture(&picture, &text)?;
    invite.create(&context.paths.invites)?;
    taken.insert(invite.name.to_string());
    Ok(json!({
        "name": invite.name.as_str(),
        "replaces": old,
        "ends": format_time(invite.ends),
        "file": file,
        "qr_file": picture,
        "pin": invite.pin_text().as_ref().map(|pin| pin.as_str()),
    }))
}

fn announce(context: &Context, key: &GatewayKey, folder: &Path, invites: &[Value]) -> Result<(), Failure> {
    let facts = json!({ "identity": newest(key), "folder": folder, "invites": invites });
    context.answer(&facts, || {
        let table = describe::table(&COLUMNS, invites);
        format!("newest identity {}\n\n{table}", newest(key))
    })?;
    if context.json {
        return Ok(());
    }
    for invite in invites.iter().filter(|invite| invite["pin"].is_string()) {
        let (name, pin) = (describe::cell(invite, "name"), describe::cell(invite, "pin"));
        eprintln!("PIN of {name}: {pin}    (shown only now; tell it by another channel)");
    }
    eprintln!("Give each its invite, then remove the folder: the texts are secrets until they are used.");
    eprintln!("Old keys stay good until the old identity is dropped. Who has moved: spa-keys gateway rotate --status");
    Ok(())
}

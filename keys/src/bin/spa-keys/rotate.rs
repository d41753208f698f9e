//! `spa-keys gateway rotate` and `reinvite`

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;
use spa_keys::file::remove;
use spa_keys::rotation::{Progress, Rotation, Seen};
use spa_keys::units::parse_time;
use spa_keys::{
    ClientName, ClientState, ClientView, Exit, Failure, GatewayKey, Invite, KeyDirectory, Kind, LoadError, text,
};
use spa_proto::PublicKey;

use crate::cli::ReinviteArgs;
use crate::context::Context;
use crate::daemon::{self, Told};
use crate::describe;
use crate::last::{LastKnock, LastKnocks};
use crate::list::no_client;
use crate::maker::{Maker, check_valid};

mod invites;

use invites::Invites;

pub mod drop;
pub mod status;

/// A new identity, first for the daemon, then in invites: whoever enrolls by one of them is understood.
pub fn run(context: &Context, args: &ReinviteArgs) -> Result<(), Failure> {
    check_valid(args.valid)?;
    let server = context.server()?;
    let _lock = context.lock()?;
    let mut key = context.gateway_key()?;
    // What an invite needs is there, before anything is changed.
    Maker::new(&server, &key)?;
    let directory = context.directory()?;
    warn_of_broken(&directory);
    let names = to_reinvite(&no_knocks(&directory, context));
    let refused = |fault| LoadError::fault(&context.paths.gateway_key, fault);
    key.rotate(context.now, &mut UnwrapErr(SysRng)).map_err(refused)?;
    let invites = Invites::new(context, args)?;
    key.save(&context.paths.gateway_key)?;
    if daemon::load_identities(&context.paths)? == Told::Absent {
        eprintln!("No daemon runs; the new identity is good from its next start on.");
    }
    invites.make(&Maker::new(&server, &key)?, &directory, &names)
}

/// Invites with the newest identity, for those named or for all who have neither moved nor an invite.
pub fn reinvite(context: &Context, names: &[ClientName], args: &ReinviteArgs) -> Result<(), Failure> {
    check_valid(args.valid)?;
    let server = context.server()?;
    let _lock = context.lock()?;
    let key = context.gateway_key()?;
    let maker = Maker::new(&server, &key)?;
    let mut directory = context.directory()?;
    warn_of_broken(&directory);
    names
        .iter()
        .try_for_each(|name| check_active(context, &directory, name))?;
    let chosen = if names.is_empty() {
        lagging(context, &directory, &newest(&key))
    } else {
        names.iter().map(ToString::to_string).collect()
    };
    if chosen.is_empty() {
        let facts = json!({ "identity": newest(&key), "folder": null, "invites": [] });
        return context.answer(&facts, || "everybody has moved or has an invite".into());
    }
    let invites = Invites::new(context, args)?;
    names
        .iter()
        .try_for_each(|name| withdraw(context, &mut directory, name))?;
    invites.make(&maker, &directory, &chosen)
}

fn check_active(context: &Context, directory: &KeyDirectory, name: &ClientName) -> Result<(), Failure> {
    let client = directory.client_named(name.as_str());
    match client
        .ok_or_else(|| no_client(directory, name, context))?
        .state(context.now)
    {
        ClientState::Active => Ok(()),
        state => Err(Failure::new(Exit::Failed, format_args!("{name} is {state}"))),
    }
}

fn lagging(context: &Context, directory: &KeyDirectory, newest: &str) -> Vec<String> {
    let last = crate::last::last_knocks(&context.paths, &keys_of(directory));
    let rotation = rotation(directory, &last, context);
    let lagging = |client: &&ClientView<'_>| rotation.progress(**client, newest) == Progress::Lagging;
    let lagging = rotation.active().iter().filter(lagging);
    lagging.map(|client| client.name().to_owned()).collect()
}

/// An invite that waits for the same purpose is lost or was never given: its name is free again.
fn withdraw(context: &Context, directory: &mut KeyDirectory, name: &ClientName) -> Result<(), Failure> {
    let waiting = directory
        .client_named(name.as_str())
        .and_then(|client| no_knocks(directory, context).invited(client))
        .map(Invite::file_name);
    if let Some(file) = waiting {
        remove(&context.paths.invites.join(&file))?;
        directory.remove_file(Kind::Invite, file.trim_end_matches(".toml"));
    }
    Ok(())
}

/// All active clients but those whose successors stand for them.
fn to_reinvite(rotation: &Rotation<'_>) -> Vec<String> {
    let active = rotation.active().iter();
    let alone = active.filter(|client| rotation.successor(**client).is_none());
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

fn keys_of(directory: &KeyDirectory) -> Vec<PublicKey> {
    directory.clients().map(|client| *client.public_key()).collect()
}

fn newest(key: &GatewayKey) -> String {
    key.newest()
        .map(|own| text::fingerprint(own.public()))
        .unwrap_or_default()
}

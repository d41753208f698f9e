//! `spa-keys revoke`, `restore`, `remove` and `set`

use std::path::PathBuf;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;
use spa_keys::file::{Limits, read_text};
use spa_keys::{
    Client, ClientEdit, ClientName, ClientView, Exit, Failure, InviteState, KeyDirectory, Kind, OneTimeCode, file,
};

use crate::cli::{SetArgs, Setting};
use crate::context::Context;
use crate::describe;
use crate::list::no_client;
use crate::{show, successors};

pub fn revoke(context: &Context, name: &ClientName) -> Result<(), Failure> {
    // First: nobody enrolls by it between the two.
    withdraw_invites(context, name)?;
    let edit = ClientEdit {
        revoked: Some(Some(context.now)),
        ..ClientEdit::default()
    };
    change(
        context,
        name,
        "revoked; its doors shut within a second",
        "was revoked before",
        |directory| {
            let revoked = directory.client_named(name.as_str()).and_then(ClientView::revoked);
            revoked.is_none().then_some(edit)
        },
    )
}

fn withdraw_invites(context: &Context, name: &ClientName) -> Result<(), Failure> {
    let _lock = context.lock()?;
    let directory = context.directory()?;
    match directory.client_named(name.as_str()) {
        Some(client) => successors::withdraw_invites(context, &directory, client.public_key()),
        None => Ok(()),
    }
}

pub fn restore(context: &Context, name: &ClientName) -> Result<(), Failure> {
    let edit = ClientEdit {
        revoked: Some(None),
        ..ClientEdit::default()
    };
    change(context, name, "restored", "was not revoked", |directory| {
        let revoked = directory.client_named(name.as_str()).and_then(ClientView::revoked);
        revoked.is_some().then_some(edit)
    })
}

pub fn set(context: &Context, args: SetArgs) -> Result<(), Failure> {
    if let Some(services) = &args.services {
        context.server()?.check(&services.0)?;
    }
    let cleared = args.sources.iter().any(|source| matches!(source, Setting::Cleared));
    let sources: Vec<_> = args.sources.iter().filter_map(|source| source.into_option()).collect();
    if cleared && !sources.is_empty() {
        return Err(Failure::new(Exit::Usage, "--sources: either any or networks, not both"));
    }
    let rng = &mut UnwrapErr(SysRng);
    let edit = ClientEdit {
        services: args.services.map(|services| services.0),
        label: args.label,
        expires: args.expires.map(Setting::into_option),
        address: args.address,
        sources: (!args.sources.is_empty()).then_some(sources),
        max_duration: args.max_duration.map(Setting::into_option),
        widen: args.widen.map(|widen| widen.into_option().unwrap_or_default()),
        one_time_code: args
            .one_time_code
            .map(|digits| Some(OneTimeCode::generate(digits.into_option()?, rng))),
        revoked: None,
    };
    if edit == ClientEdit::default() {
        let failure = Failure::new(Exit::Usage, "nothing to set");
        return Err(failure.hint(format!("spa-keys set {} --expires 2027-01-01", args.name)));
    }
    let has_code = matches!(edit.one_time_code, Some(Some(_)));
    change(context, &args.name, "changed", "is as it was", |_| Some(edit))?;
    if has_code {
        let host = context.server().ok().and_then(|server| server.host);
        let client = Client::load(&path(context, &args.name))?;
        show::one_time_code(&args.name, &client.terms, host.as_ref())?;
    }
    Ok(())
}

/// Changes a client's file under the lock and shows the client. No edit means that nothing is to be done.
fn change(
    context: &Context,
    name: &ClientName,
    done: &str,
    nothing: &str,
    edit: impl FnOnce(&KeyDirectory) -> Option<ClientEdit>,
) -> Result<(), Failure> {
    let _lock = context.lock()?;
    let mut directory = context.directory()?;
    if let Some(file) = directory.broken_client(name.as_str()) {
        let failure = Failure::new(Exit::Config, describe::complaint(file));
        return Err(failure.hint(format!("to mend the file, or: spa-keys remove {name}")));
    }
    if directory.client_named(name.as_str()).is_none() {
        return Err(no_client(&directory, name, context));
    }
    let edit = edit(&directory);
    if let Some(edit) = &edit {
        edit.apply(&path(context, name))?;
        directory.reload_file(Kind::Client, name.as_str());
    }
    if let Some(client) = directory.client_named(name.as_str()) {
        if edit.is_some() {
            successors::warn(context, &directory, name, client.public_key());
        }
        let said = if edit.is_some() { done } else { nothing };
        context.answer(&describe::client(client, context.now, None), || {
            format!("{name} {said}")
        })?;
    }
    Ok(())
}

/// Removes a client, or the live invites of that name. Spent invites stay: they are remembered until two days after
/// their end.
pub fn remove(context: &Context, name: &ClientName) -> Result<(), Failure> {
    let _lock = context.lock()?;
    let directory = context.directory()?;
    let live = directory
        .invite_files()
        .filter(|(_, invite)| invite.name == *name && invite.state(context.now) == InviteState::Live);
    let invites: Vec<PathBuf> = live.map(|(path, _)| path).collect();
    let client = directory.client_named(name.as_str()).is_some() || directory.broken_client(name.as_str()).is_some();
    if !client && invites.is_empty() {
        return Err(no_client(&directory, name, context));
    }
    if client {
        remove_client(context, &directory, name)?;
    }
    invites.iter().try_for_each(|path| file::remove(path))?;
    let facts = json!({ "name": name.as_str(), "client_removed": client, "invites_removed": invites.len() });
    context.answer(&facts, || match (client, invites.len()) {
        (true, 0) => format!("client {name} removed"),
        (true, _) => format!("client {name} and its unused invite removed"),
        (false, _) => format!("invite for {name} withdrawn"),
    })
}

/// A client's file, after the invite by which it would come back.
fn remove_client(context: &Context, directory: &KeyDirectory, name: &ClientName) -> Result<(), Failure> {
    let path = path(context, name);
    // The key stands in many a broken file too.
    let key = read_text(&path, Limits::SECRET)
        .ok()
        .and_then(|text| Client::key_in(&text));
    match &key {
        Some(key) => successors::withdraw_invites(context, directory, key)?,
        None => eprintln!("warning: the key of {name} cannot be read; an invite that would take its place stays"),
    }
    file::remove(&path)?;
    if let Some(key) = &key {
        successors::warn_of_client(context, directory, name, key);
    }
    Ok(())
}

fn path(context: &Context, name: &ClientName) -> PathBuf {
    context.paths.clients.join(format!("{name}.toml"))
}

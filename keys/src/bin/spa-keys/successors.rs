//! Who took a client's place after a rotation, or will by an invite.

use spa_keys::{ClientName, ClientState, Failure, Invite, InviteState, KeyDirectory, file};

use crate::context::Context;

/// Whoever is revoked must not come back by the invite that a rotation made.
pub fn withdraw_invite(context: &Context, name: &ClientName) -> Result<(), Failure> {
    let _lock = context.lock()?;
    let directory = context.directory()?;
    if directory.client_named(name.as_str()).is_none() {
        return Ok(());
    }
    let is_meant = |invite: &Invite| {
        invite.state(context.now) == InviteState::Live && invite.terms.replaces.as_ref() == Some(name)
    };
    for (path, invite) in directory.invite_files().filter(|(_, invite)| is_meant(invite)) {
        file::remove(&path)?;
        eprintln!(
            "The invite for {}, which would have taken its place, is withdrawn.",
            invite.name
        );
    }
    Ok(())
}

/// What a change of a client does not reach: who took its place, or will, has terms of its own.
pub fn warn(context: &Context, directory: &KeyDirectory, name: &ClientName) {
    let took = directory
        .clients()
        .filter(|view| view.replaces() == Some(name.as_str()));
    for view in took.filter(|view| view.state(context.now) == ClientState::Active) {
        eprintln!("warning: {} took the place of {name} and stays as it is", view.name());
    }
    let will = directory
        .invites()
        .filter(|invite| invite.state(context.now) == InviteState::Live);
    for invite in will.filter(|invite| invite.terms.replaces.as_ref() == Some(name)) {
        eprintln!(
            "warning: the invite for {}, which will take the place of {name}, stays as it is",
            invite.name
        );
    }
}

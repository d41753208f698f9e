//! Who took a client's place after a rotation, or will by an invite.

use spa_keys::{ClientName, ClientState, Failure, Invite, InviteState, KeyDirectory, file};
use spa_proto::PublicKey;

use crate::context::Context;

/// Whoever is taken away must not come back by the invite that a rotation made. Under the lock.
pub fn withdraw_invites(context: &Context, directory: &KeyDirectory, key: &PublicKey) -> Result<(), Failure> {
    let is_meant =
        |invite: &Invite| invite.state(context.now) == InviteState::Live && invite.terms.replaces.as_ref() == Some(key);
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
pub fn warn(context: &Context, directory: &KeyDirectory, name: &ClientName, key: &PublicKey) {
    warn_of_client(context, directory, name, key);
    warn_of_invite(context, directory, name, key);
}

/// Who took its place stays when it is gone.
pub fn warn_of_client(context: &Context, directory: &KeyDirectory, name: &ClientName, key: &PublicKey) {
    let took = directory.clients().filter(|view| view.replaces() == Some(key));
    for view in took.filter(|view| view.state(context.now) == ClientState::Active) {
        eprintln!("warning: {} took the place of {name} and stays as it is", view.name());
    }
}

fn warn_of_invite(context: &Context, directory: &KeyDirectory, name: &ClientName, key: &PublicKey) {
    let will = directory
        .invites()
        .filter(|invite| invite.state(context.now) == InviteState::Live);
    for invite in will.filter(|invite| invite.terms.replaces.as_ref() == Some(key)) {
        eprintln!(
            "warning: the invite for {}, which will take the place of {name}, stays as it is",
            invite.name
        );
    }
}

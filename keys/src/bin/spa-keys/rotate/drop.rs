//! `spa-keys gateway drop`

use serde_json::json;
use spa_keys::{ClientView, Exit, Failure, GatewayKey, Invite, LoadError, file, text};
use spa_proto::PublicKey;

use super::{keys_of, rotation, warn_of_broken};
use crate::context::Context;
use crate::daemon::{self, Told};
use crate::last;

/// Takes an identity away, unless somebody would be shut out by it.
pub fn run(context: &Context, fingerprint: &str, force: bool, remove_replaced: bool) -> Result<(), Failure> {
    let _lock = context.lock()?;
    let mut key = context.gateway_key()?;
    let old = find(&key, fingerprint)?;
    let directory = context.directory()?;
    let last = match last::surely(&context.paths, &keys_of(&directory)) {
        Err(failure) if !force => return Err(failure.hint("--force, which may shut clients out")),
        last => last.unwrap_or_default(),
    };
    warn_of_broken(&directory);
    let rotation = rotation(&directory, &last, context);
    let refused = |fault| LoadError::fault(&context.paths.gateway_key, fault);
    key.drop_identity(&old).map_err(refused)?;
    let needing = rotation.needs(fingerprint);
    let invites = rotation.invites_with(&old);
    let is_needed = !needing.is_empty() || !invites.is_empty();
    if is_needed && !force {
        return Err(refuse(fingerprint, &needing, &invites));
    }
    // Whoever knocked with this identity and was replaced cannot knock any more.
    let gone = |client: &ClientView<'_>| {
        rotation.is_replaced(*client) && rotation.identity_of(*client).as_deref() == Some(fingerprint)
    };
    let replaced = rotation.active().iter().filter(|client| gone(client));
    let replaced: Vec<String> = replaced.map(|client| client.name().to_owned()).collect();
    key.save(&context.paths.gateway_key)?;
    let told = daemon::load_identities(&context.paths)?;
    if remove_replaced {
        for name in &replaced {
            file::remove(&context.paths.clients.join(format!("{name}.toml")))?;
        }
    }
    let shut_out: Vec<&str> = needing.iter().map(|client| client.name()).collect();
    let facts = json!({
        "dropped": fingerprint,
        "live": told == Told::Live,
        "replaced": replaced,
        "replaced_removed": remove_replaced,
        "shut_out": shut_out,
    });
    context.answer(&facts, || plain(fingerprint, &replaced, remove_replaced, &shut_out))
}

fn find(key: &GatewayKey, fingerprint: &str) -> Result<PublicKey, Failure> {
    let mut own = key.identities().iter();
    let found = own.find(|dated| text::fingerprint(dated.identity.public()) == fingerprint);
    let found = found.map(|dated| *dated.identity.public());
    let absent = || Failure::new(Exit::Failed, "this gateway holds no identity with that fingerprint");
    found.ok_or_else(|| absent().hint("spa-keys gateway show"))
}

fn refuse(fingerprint: &str, needing: &[ClientView<'_>], invites: &[&Invite]) -> Failure {
    let mut lines = vec![format!("{fingerprint} is needed; nothing was changed")];
    for client in needing {
        let name = client.name();
        lines.push(format!("  {name} has used it, or may have been given it"));
    }
    for invite in invites {
        lines.push(format!("  the invite for {} carries it", invite.name));
    }
    let failure = Failure::new(Exit::Failed, lines.join("\n"));
    let failure = failure.hint("spa-keys gateway rotate --status");
    let failure = match invites.first() {
        Some(invite) => failure.hint(format!("spa-keys remove {}, to withdraw its invite", invite.name)),
        None => failure,
    };
    let failure = match needing.first() {
        Some(client) => failure.hint(format!(
            "spa-keys revoke {}, if it is never to come back",
            client.name()
        )),
        None => failure,
    };
    failure.hint("--force, which shuts them out")
}

fn plain(fingerprint: &str, replaced: &[String], removed: bool, shut_out: &[&str]) -> String {
    let mut lines = vec![format!("{fingerprint} is dropped")];
    for name in shut_out {
        lines.push(format!(
            "{name} is shut out until it is invited again: spa-keys gateway reinvite {name}"
        ));
    }
    for name in replaced {
        lines.push(if removed {
            format!("{name} removed: another took its place")
        } else {
            format!("{name} can knock no more, another took its place; to remove it: spa-keys remove {name}")
        });
    }
    lines.join("\n")
}

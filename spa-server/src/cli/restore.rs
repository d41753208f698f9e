//! `spa-server restore`: a gateway from a backup.

use std::io::Read;
use std::path::Path;

use serde_json::json;
use spa_keys::backup::{Backup, Place};
use spa_keys::file::{self, Limits};
use spa_keys::units::{format_duration, format_time};
use spa_keys::{Exit, Failure, GatewayKey, KeyDirectory, Paths};
use zeroize::Zeroizing;

use super::init::refuse_what_exists;

/// Some hundred thousand clients.
const MOST: usize = 512 << 20;

/// Writes every file of the backup, and no replay record: the daemon then refuses everything for twice its greatest
/// window, as after the loss of one (step 7). What was accepted between the backup and now can then be replayed by
/// nobody, whatever the backup's age.
///
/// # Errors
///
/// When the backup is not whole, or anything of a gateway exists already.
pub(super) fn restore(paths: &Paths, from: &Path, as_json: bool) -> Result<(), Failure> {
    let backup = read(from)?;
    refuse_what_exists(paths)?;
    write(paths, &backup)?;
    let directory = KeyDirectory::load(&paths.clients, &paths.invites)?;
    let (wait, made) = (directory.greatest_window() * 2, format_time(backup.made));
    let (clients, invites) = (directory.len(), directory.invites().count());
    if as_json {
        println!(
            "{}",
            json!({ "made": made, "clients": clients, "invites": invites, "wait_s": wait.as_secs() })
        );
    } else {
        println!("restored as of {made}: {clients} clients, {invites} invites");
    }
    eprintln!("Whoever was revoked or removed after {made} is good again here: spa-keys list, then revoke them anew.");
    eprintln!("Whoever was enrolled after it is unknown here, and invites spent after it are good again.");
    eprintln!(
        "The first run refuses every knock for {}, since it cannot know what was accepted before.",
        format_duration(wait)
    );
    eprintln!("Never run the old gateway again beside this one.");
    Ok(())
}

fn read(from: &Path) -> Result<Backup, Failure> {
    let text = if from == Path::new("-") {
        let mut text = Zeroizing::new(String::new());
        let read = std::io::stdin().take(MOST as u64).read_to_string(&mut text);
        read.map_err(|error| Failure::new(Exit::Failed, format!("cannot read the backup from stdin: {error}")))?;
        text
    } else {
        let limits = Limits {
            most: MOST,
            ..Limits::SECRET
        };
        file::read_text(from, limits)?
    };
    let wrong = |what: &dyn std::fmt::Display| Failure::new(Exit::Config, format!("{}: {what}", from.display()));
    let backup = Backup::parse(&text).map_err(|error| wrong(&error))?;
    let key = backup.files.iter().find(|(place, _)| *place == Place::GatewayKey);
    let (_, key) = key.ok_or_else(|| wrong(&"there is no gateway.key in it"))?;
    GatewayKey::parse(key).map_err(|fault| wrong(&format_args!("gateway.key, {fault}")))?;
    if backup.files.iter().all(|(place, _)| *place != Place::Config) {
        return Err(wrong(&"there is no server.toml in it"));
    }
    Ok(backup)
}

fn write(paths: &Paths, backup: &Backup) -> Result<(), Failure> {
    let etc = paths.gateway_key.parent().unwrap_or(Path::new("."));
    file::create_dir(etc, 0o755)?;
    for secret in [&paths.clients, &paths.invites, &paths.state] {
        file::create_dir(secret, 0o700)?;
    }
    let put = |place: &Place, text: &str| file::create_new(&place.path(paths), text.as_bytes(), place.mode());
    let (last, first): (Vec<_>, Vec<_>) = backup.files.iter().partition(|(place, _)| *place == Place::Config);
    // The configuration last: what is half made has none, and nothing runs without one.
    first
        .into_iter()
        .chain(last)
        .try_for_each(|(place, text)| put(place, text))?;
    Ok(())
}

//! `spa-keys backup`

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use spa_keys::backup::{Backup, Place};
use spa_keys::directory::stem_of;
use spa_keys::escape::escape;
use spa_keys::file::{FileError, Limits, create_new, read_text};
use spa_keys::{Exit, Failure};

use crate::context::Context;

const WARNING: &str = "\
The backup holds every secret of this gateway: who has it can be the gateway.
It is of now. Whoever is enrolled, revoked or changed later is not so in it.
It holds no replay record. `spa-server restore` makes a gateway that refuses every knock for twice its greatest window
(10 minutes by default) and then begins a new record.
Never run two gateways from one backup: each would accept what the other has accepted already.";

pub fn run(context: &Context, file: &Path) -> Result<(), Failure> {
    let _lock = context.lock()?;
    let backup = Backup {
        made: context.now,
        files: read_all(context)?,
    };
    let text = backup.to_text();
    let to_stdout = file == Path::new("-");
    if to_stdout {
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::new(Exit::Failed, format_args!("cannot write the backup: {error}")))?;
    } else {
        create_new(file, text.as_bytes(), 0o600)?;
    }
    eprintln!("{WARNING}");
    if to_stdout {
        return Ok(());
    }
    let count = |wanted: fn(&Place) -> bool| backup.files.iter().filter(|(place, _)| wanted(place)).count();
    let clients = count(|place| matches!(place, Place::Client(_)));
    let invites = count(|place| matches!(place, Place::Invite(_)));
    let facts = json!({ "file": file, "clients": clients, "invites": invites });
    context.answer(&facts, || {
        format!("written to {}: {clients} clients, {invites} invites", file.display())
    })
}

/// Every file that makes the gateway, as it is; one that may not be believed ends it.
fn read_all(context: &Context) -> Result<Vec<(Place, zeroize::Zeroizing<String>)>, Failure> {
    let paths = &context.paths;
    let mut places = vec![Place::Config, Place::GatewayKey];
    places.extend(stems(&paths.clients)?.into_iter().map(Place::Client));
    places.extend(stems(&paths.invites)?.into_iter().map(Place::Invite));
    places.extend(names(&paths.sequences)?.into_iter().map(Place::Sequence));
    let read = |place: Place| {
        let limits = if place == Place::Config {
            Limits::CONFIG
        } else {
            Limits::SECRET
        };
        let text = read_text(&place.path(paths), limits)?;
        Ok((place, text))
    };
    places.into_iter().map(read).collect()
}

/// The names of a folder's files without `.toml`, sorted. No client and no invite has a name that is not on one line of
/// text, and the backup could not be read.
fn stems(folder: &Path) -> Result<Vec<String>, Failure> {
    let refused = |error| Failure::from(FileError::io(folder, "list", error));
    let mut stems = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let name = entry.map_err(refused)?.file_name();
        match name.to_str().filter(|name| !name.contains('\n')) {
            Some(name) => stems.extend(stem_of(name).map(str::to_owned)),
            None => eprintln!(
                "warning: left out, no name of a client: {}",
                escaped(&folder.join(name))
            ),
        }
    }
    stems.sort_unstable();
    Ok(stems)
}

fn escaped(path: &Path) -> String {
    escape(&path.to_string_lossy()).into_owned()
}

/// The names of the files of a folder that need not be there, sorted; hidden ones are nobody's.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let refused = |error| Failure::from(FileError::io(folder, "list", error));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(refused)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(refused)?.file_name();
        names.extend(
            name.to_str()
                .filter(|name| !name.starts_with('.') && !name.contains('\n'))
                .map(str::to_owned),
        );
    }
    names.sort_unstable();
    Ok(names)
}

//! `spa-server restore`: a gateway from a backup.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;
use spa_keys::backup::{Backup, Place};
use spa_keys::file::{self, FileError, Limits};
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
/// When the backup is not whole, anything of a gateway exists already, or a file cannot be written: nothing stays then.
pub(super) fn restore(paths: &Paths, from: &Path, as_json: bool) -> Result<(), Failure> {
    let backup = read(from)?;
    refuse_what_exists(paths)?;
    let mut made = Made::default();
    if let Err(error) = write(paths, &backup, &mut made) {
        made.take_away();
        let failure = Failure::from(error);
        let what = format!("{}; what was written before is taken away again", failure.what);
        return Err(Failure { what, ..failure });
    }
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

fn write(paths: &Paths, backup: &Backup, made: &mut Made) -> Result<(), FileError> {
    let etc = paths.gateway_key.parent().unwrap_or(Path::new("."));
    made.folder(etc, 0o755)?;
    for secret in [&paths.clients, &paths.invites, &paths.state] {
        made.folder(secret, 0o700)?;
    }
    if backup
        .files
        .iter()
        .any(|(place, _)| matches!(place, Place::Sequence(_)))
    {
        made.folder(&paths.sequences, 0o700)?;
    }
    let (last, first): (Vec<_>, Vec<_>) = backup.files.iter().partition(|(place, _)| *place == Place::Config);
    // The configuration last: what is half made has none, and nothing runs without one.
    first
        .into_iter()
        .chain(last)
        .try_for_each(|(place, text)| made.file(place.path(paths), text, place.mode()))
}

/// What others may read is no secret, and root's alone to change: as `init` does.
const fn is_secret(mode: u32) -> bool {
    matches!(mode, 0o600 | 0o700)
}

/// What this run made.
#[derive(Debug, Default)]
struct Made {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Made {
    fn folder(&mut self, path: &Path, mode: u32) -> Result<(), FileError> {
        if path.symlink_metadata().is_err() {
            self.folders.push(path.to_owned());
        }
        if is_secret(mode) {
            file::create_dir(path, mode)
        } else {
            file::create_own_dir(path, mode)
        }
    }

    fn file(&mut self, path: PathBuf, text: &str, mode: u32) -> Result<(), FileError> {
        let put = if is_secret(mode) {
            file::create_new(&path, text.as_bytes(), mode)
        } else {
            file::create_own(&path, text.as_bytes(), mode)
        };
        // It may be there although the system refused to say that it is durable; another's is never taken.
        if !matches!(put, Err(FileError::Exists { .. })) {
            self.files.push(path);
        }
        put
    }

    /// Takes it away, the last first, so that it can be tried again. A folder goes only when it is empty.
    fn take_away(&self) {
        let files = self.files.iter().rev().map(|path| (path, fs::remove_file(path)));
        let folders = self.folders.iter().rev().map(|path| (path, fs::remove_dir(path)));
        for (path, removed) in files.chain(folders) {
            if let Err(error) = removed
                && path.symlink_metadata().is_ok()
            {
                eprintln!("warning: cannot remove {}: {error}", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use getrandom::SysRng;
    use getrandom::rand_core::UnwrapErr;
    use spa_proto::UnixTime;

    use super::*;

    fn put_backup(folder: &Path, more: &[Place]) -> PathBuf {
        let key = GatewayKey::generate(UnixTime::from_secs(1_800_000_000), &mut UnwrapErr(SysRng));
        let file = folder.join("gateway.key");
        key.create(&file).unwrap();
        let empty = |place: &Place| (place.clone(), Zeroizing::new(String::new()));
        let mut files = vec![
            empty(&Place::Config),
            (Place::GatewayKey, file::read_text(&file, Limits::SECRET).unwrap()),
            empty(&Place::Sequence("card.key".into())),
        ];
        files.extend(more.iter().map(empty));
        let made = UnixTime::from_secs(1_800_000_000);
        let path = folder.join(format!("{}.backup", more.len()));
        let text = Backup { made, files }.to_text();
        file::create_new(&path, text.as_bytes(), 0o600).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_fails_leaves_nothing_and_can_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        // Longer than any file system lets a name be.
        let bad = put_backup(folder.path(), &[Place::Client("a".repeat(300))]);
        let dir = folder.path().join("gateway");
        let paths = Paths::new(Some(&dir), None);
        let failure = restore(&paths, &bad, true).unwrap_err();
        assert!(
            failure.what.ends_with("what was written before is taken away again"),
            "{}",
            failure.what
        );
        assert!(!dir.exists());

        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("notes"), "mine").unwrap();
        assert!(restore(&paths, &bad, true).is_err());
        assert_eq!(names(&dir), ["notes"], "what was there stays");
        fs::remove_file(folder.path().join("gateway.key")).unwrap();
        restore(&paths, &put_backup(folder.path(), &[]), true).unwrap();
        let all = [
            "clients.d",
            "gateway.key",
            "invites.d",
            "notes",
            "sequences.d",
            "server.toml",
            "state",
        ];
        assert_eq!(names(&dir), all);
    }

    #[test]
    fn keys_of_sequences_are_never_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let backup = put_backup(folder.path(), &[]);
        let dir = folder.path().join("gateway");
        fs::create_dir_all(dir.join("sequences.d")).unwrap();
        let failure = restore(&Paths::new(Some(&dir), None), &backup, true).unwrap_err();
        assert!(
            failure
                .what
                .ends_with("sequences.d exists already; nothing was written"),
            "{}",
            failure.what
        );
        assert_eq!(names(&dir), ["sequences.d"]);
    }
}

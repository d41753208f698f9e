//! Drafts that a killed process left behind: nobody reads them, but they hold secrets.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use spa_proto::UnixTime;

use super::error::FileError;

/// Whoever writes is done long before.
const OLD: Duration = Duration::from_hours(1);

/// Removes the drafts in a directory that were last written more than an hour before `now`; says how many.
///
/// # Errors
///
/// [`FileError`] when the directory cannot be listed or a draft cannot be removed.
pub fn sweep_drafts(directory: &Path, now: UnixTime) -> Result<usize, FileError> {
    let entries = match fs::read_dir(directory).map_err(|error| FileError::io(directory, "list", error)) {
        Err(error) if error.is_absent() => return Ok(0),
        entries => entries?,
    };
    let mut count = 0;
    for entry in entries {
        let entry = entry.map_err(|error| FileError::io(directory, "list", error))?;
        if is_draft(entry.file_name().as_bytes()) && is_old(&entry, now) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| FileError::io(&path, "remove", error))?;
            count += 1;
        }
    }
    Ok(count)
}

/// `.NAME.0123456789abcdef.tmp`
fn is_draft(name: &[u8]) -> bool {
    let random = name.strip_prefix(b".").and_then(|name| name.strip_suffix(b".tmp"));
    let random = random.and_then(|name| name.split_last_chunk::<17>());
    random.is_some_and(|(name, [dot, hex @ ..])| {
        let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        !name.is_empty() && *dot == b'.' && hex.iter().all(is_hex)
    })
}

/// Of the entry itself, were it a link.
fn is_old(entry: &fs::DirEntry, now: UnixTime) -> bool {
    let written = entry
        .metadata()
        .ok()
        .filter(fs::Metadata::is_file)
        .and_then(|metadata| metadata.modified().ok());
    let since = written.and_then(|written| written.duration_since(std::time::UNIX_EPOCH).ok());
    since.is_some_and(|since| UnixTime::default().saturating_add(since).saturating_add(OLD) < now)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn old_drafts_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_hours(2);
        let names = [
            ".a.toml.0123456789abcdef.tmp",
            ".lock",
            "a.toml",
            ".a.toml.tmp",
            "..0123456789abcdef.tmp",
        ];
        for name in names {
            File::create_new(dir.path().join(name))
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        File::create_new(dir.path().join(".b.toml.0123456789abcdef.tmp")).unwrap();
        // The link's target is a file of this test's own, and must stay.
        std::os::unix::fs::symlink(
            dir.path().join("a.toml"),
            dir.path().join(".c.toml.0123456789abcdef.tmp"),
        )
        .unwrap();
        assert_eq!(sweep_drafts(dir.path(), crate::units::now()).unwrap(), 1);
        assert!(!dir.path().join(names[0]).exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
        assert_eq!(
            sweep_drafts(&dir.path().join("absent"), crate::units::now()).unwrap(),
            0
        );
    }
}

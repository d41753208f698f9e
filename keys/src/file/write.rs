//! Writing a file that holds secrets: built beside its place, made durable, then put there in one step.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::error::FileError;
use super::owner::owner_of_secrets;

/// Puts `contents` at `path`, whatever is there. A crash or a full disk leaves the old file whole.
///
/// # Errors
///
/// [`FileError`] when the system refused; the old file is then as it was, or the new one is there but may not survive
/// a power cut.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    let draft = Draft::write(path, contents, mode, owner_of_secrets())?;
    fs::rename(&draft.0, path).map_err(|error| FileError::io(path, "write", error))?;
    sync_directory(path)
}

/// Puts `contents` at `path` where nothing is; never overwrites.
///
/// # Errors
///
/// [`FileError::Exists`] when something is there, even a broken link; else as [`replace`].
pub fn create_new(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    create_for(path, contents, mode, owner_of_secrets())
}

/// The same for what only this process's user may change, such as server.toml.
///
/// # Errors
///
/// As [`create_new`].
pub fn create_own(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    create_for(path, contents, mode, None)
}

fn create_for(path: &Path, contents: &[u8], mode: u32, owner: Option<u32>) -> Result<(), FileError> {
    let draft = Draft::write(path, contents, mode, owner)?;
    let placed = match renameat_with(CWD, &draft.0, CWD, path, RenameFlags::NOREPLACE) {
        // Some file systems do not know this flag; all that keep modes know links, which never replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::hard_link(&draft.0, path),
        renamed => renamed.map_err(io::Error::from),
    };
    placed.map_err(|error| FileError::io(path, "write", error))?;
    sync_directory(path)
}

/// Gives the file at `path` the name `new` as well, durably; never overwrites.
///
/// # Errors
///
/// As [`create_new`], and [`FileError::Absent`] when there is no file at `path`.
pub fn link(path: &Path, new: &Path) -> Result<(), FileError> {
    match fs::hard_link(path, new) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(FileError::io(new, "write", error)),
        linked => linked.map_err(|error| FileError::io(path, "link", error)),
    }?;
    sync_directory(new)
}

/// Gives the file at `path` the name `new` instead, durably; never overwrites.
///
/// # Errors
///
/// As [`link`].
pub fn rename_new(path: &Path, new: &Path) -> Result<(), FileError> {
    match renameat_with(CWD, path, CWD, new, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => return Err(FileError::io(new, "write", Errno::EXIST.into())),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            link(path, new)?;
            return remove(path);
        }
        renamed => renamed.map_err(|error| FileError::io(path, "rename", error.into()))?,
    }
    sync_directory(new)
}

/// Makes a directory of exactly this mode, with its parents (mode 0755); one that exists is left as it is.
///
/// # Errors
///
/// [`FileError`] when it cannot be made or something else has its name.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    create_dir_for(path, mode, owner_of_secrets())
}

/// The same for one that only this process's user may change, such as the folder of server.toml.
///
/// # Errors
///
/// As [`create_dir`].
pub fn create_own_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    create_dir_for(path, mode, None)
}

fn create_dir_for(path: &Path, mode: u32, owner: Option<u32>) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let refused = |error| FileError::io(path, "make", error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(refused)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // Another command made it just now.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        outcome => outcome.map_err(refused)?,
    }
    let directory = File::open(path).map_err(refused)?;
    fchown(&directory, owner, None).map_err(refused)?;
    // The umask may have taken bits away.
    directory
        .set_permissions(Permissions::from_mode(mode))
        .map_err(refused)?;
    sync_directory(path)
}

/// Takes a file away, durably.
///
/// # Errors
///
/// [`FileError`] when it does not exist or the system refused.
pub fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(|error| FileError::io(path, "remove", error))?;
    sync_directory(path)
}

/// A name, once given or taken, is durable only when its directory is.
fn sync_directory(path: &Path) -> Result<(), FileError> {
    let parent = parent_of(path);
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(|error| FileError::io(parent, "sync", error))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file on its way, with its final mode and owner from the first byte; taken away again unless it was renamed.
struct Draft(PathBuf);

impl Draft {
    fn write(path: &Path, contents: &[u8], mode: u32, owner: Option<u32>) -> Result<Self, FileError> {
        let refused = |error| FileError::io(path, "write", error);
        let place = Self::place(path).map_err(refused)?;
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&place);
        let mut file = opened.map_err(refused)?;
        let draft = Self(place);
        fchown(&file, owner, None).map_err(refused)?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(refused)?;
        file.write_all(contents).map_err(refused)?;
        file.sync_all().map_err(refused)?;
        Ok(draft)
    }

    /// `.NAME.RANDOM.tmp` in the same directory: a leading dot, so that no reader takes it for a client.
    fn place(path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let random = getrandom::u64().map_err(io::Error::other)?;
        let mut place = std::ffi::OsString::from(".");
        place.push(name);
        place.push(format!(".{random:016x}.tmp"));
        Ok(parent_of(path).join(place))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Renamed, it is gone already; else nobody wants it, and nobody reads it if this fails.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn replaces_with_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        fs::write(&path, "old").unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(dir.path()), ["a.toml"]);
    }

    #[test]
    fn a_link_is_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        replace(&link, b"new", 0o600).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn create_new_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let (path, broken) = (dir.path().join("a"), dir.path().join("broken"));
        create_new(&path, b"first", 0o600).unwrap();
        symlink("nowhere", &broken).unwrap();
        for taken in [&path, &broken] {
            let error = create_new(taken, b"second", 0o600).unwrap_err();
            assert!(matches!(error, FileError::Exists { .. }), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        if !std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(dir.path())
            .status()
            .is_ok_and(|status| status.success())
        {
            eprintln!("skipped: no right to mount a small file system");
            return;
        }
        replace(&path, b"old", 0o600).unwrap();
        let written = replace(&path, &vec![b'x'; 100_000], 0o600);
        let (left, text) = (names(dir.path()), fs::read_to_string(&path));
        let _ = std::process::Command::new("umount").arg(dir.path()).status();
        assert!(matches!(written, Err(FileError::Io { .. })));
        assert_eq!(text.unwrap(), "old");
        assert_eq!(left, ["a"]);
    }

    #[test]
    fn a_new_name_takes_nobodys_place() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, taken) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        fs::write(&from, "a").unwrap();
        // A link to nowhere is somebody's place too.
        symlink(dir.path().join("nowhere"), &taken).unwrap();
        assert!(matches!(rename_new(&from, &taken), Err(FileError::Exists { .. })));
        rename_new(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "a");
        assert!(rename_new(&from, &taken).unwrap_err().is_absent());
    }

    #[test]
    fn an_absent_directory_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = replace(&dir.path().join("no/such"), b"", 0o600).unwrap_err();
        assert!(error.is_absent());
    }

    #[test]
    fn directories_have_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        create_dir(&path, 0o700).unwrap();
        create_dir(&path, 0o755).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    }
}

//! Files that other programs read: replaced in one step, durably, with the owner and the mode they had.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr, renameat_with};
use rustix::io::Errno;

/// The whole of a file that is meant to be short; more is refused.
const LARGEST: u64 = 16 << 20;
/// How often a file that somebody else writes meanwhile is set aside.
const ATTEMPTS: u32 = 100;
/// How many names are tried for what is set aside.
const MOST_ASIDE: u32 = 10_000;

/// What a file holds, and what is to stay as it is when its text changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Every byte.
    pub text: Vec<u8>,
    /// Owner and group; none for this process's own.
    pub owner: Option<(u32, u32)>,
    /// The permission bits.
    pub mode: u32,
}

impl Content {
    /// What a new file of this process is made of.
    #[must_use]
    pub fn new(text: Vec<u8>, mode: u32) -> Self {
        Self {
            text,
            owner: None,
            mode,
        }
    }
}

/// Reads a file; nothing when it does not exist.
///
/// # Errors
///
/// What the system said, or that it is no regular file, or one of more than 16 MiB.
pub fn read(path: &Path) -> io::Result<Option<Content>> {
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = match OpenOptions::new().read(true).custom_flags(nonblock).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let facts = file.metadata()?;
    if !facts.is_file() || facts.len() > LARGEST {
        return Err(io::Error::other("no regular file of at most 16 MiB"));
    }
    let mut text = Vec::new();
    Read::by_ref(&mut file).take(LARGEST).read_to_end(&mut text)?;
    Ok(Some(Content {
        text,
        owner: Some((facts.uid(), facts.gid())),
        mode: facts.mode() & 0o7777,
    }))
}

/// Puts `content` at `path`: after a crash there is the old file or the new one, whole. A symbolic link stays, what it
/// points at is replaced. Where a file cannot be replaced because something is mounted on it, it is written in place.
///
/// # Errors
///
/// What the system said; the file is as it was.
pub fn replace(path: &Path, content: &Content) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = Draft::write(&path, content)?;
    match fs::rename(&draft.0, &path) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => write_over(&path, &content.text),
        renamed => renamed.and_then(|()| sync_parent(&path)),
    }
}

/// Puts what this process alone remembers at `path` (mode 0600), in a folder that nobody else may look into.
///
/// # Errors
///
/// What the system said; the file is as it was.
pub fn keep(path: &Path, text: Vec<u8>) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        create_folder(folder, 0o700)?;
    }
    replace(path, &Content::new(text, 0o600))
}

/// Puts `content` at `path`, and what is there under the first free one of `asides`, whatever it is; says which.
///
/// Nothing is overwritten, also when somebody puts another file there at the same time. Where what is there has this
/// text already, nothing is done.
///
/// # Errors
///
/// What the system said. What was at `path` is there or under one of `asides`.
pub fn put_instead(path: &Path, content: &Content, asides: impl Fn(u32) -> PathBuf) -> io::Result<Option<PathBuf>> {
    let mut aside = None;
    for _ in 0..ATTEMPTS {
        if read(path).is_ok_and(|there| there.is_some_and(|there| there.text == content.text)) {
            return Ok(aside);
        }
        let draft = Draft::write(path, content)?;
        match set_aside(path, &asides) {
            Ok(name) => aside = name.or(aside),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                return copy_aside(path, &content.text, &asides).map(Some);
            }
            Err(error) => return Err(error),
        }
        match rename_new(&draft.0, path) {
            // Somebody was quicker: that is kept too.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            renamed => return renamed.and_then(|()| sync_parent(path)).map(|()| aside),
        }
    }
    Err(io::Error::other("another program writes this file again and again"))
}

/// Under which name it is now; nothing when nothing was there.
fn set_aside(path: &Path, asides: impl Fn(u32) -> PathBuf) -> io::Result<Option<PathBuf>> {
    for number in 0..MOST_ASIDE {
        let name = asides(number);
        match rename_new(path, &name) {
            Ok(()) => return Ok(Some(name)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// For a file that something is mounted on.
fn copy_aside(path: &Path, text: &[u8], asides: impl Fn(u32) -> PathBuf) -> io::Result<PathBuf> {
    let there = read(path)?.ok_or(ErrorKind::NotFound)?;
    let free = |name: &PathBuf| name.symlink_metadata().is_err();
    let name = (0..MOST_ASIDE).map(asides).find(free).ok_or(ErrorKind::AlreadyExists)?;
    replace(&name, &there)?;
    write_over(path, text)?;
    Ok(name)
}

/// A rename that never overwrites.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // This file system cannot do it in one step.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if to.symlink_metadata().is_err() => fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Err(ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

/// Takes a file away, durably, with what a crash may have left beside it; one that is gone already is no error.
///
/// # Errors
///
/// What the system said.
pub fn remove(path: &Path) -> io::Result<()> {
    remove_one(&Draft::place(path)?)?;
    remove_one(path)
}

fn remove_one(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_parent(path)),
    }
}

/// Makes a directory and its parents; one that exists gets this mode.
///
/// # Errors
///
/// What the system said.
pub fn create_folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// One call that writes all, so that a reader beside it hardly ever sees half; then the rest of the old text goes.
fn write_over(path: &Path, text: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(text, 0)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)?.sync_all()
}

/// A file on its way; taken away again unless it was renamed.
struct Draft(PathBuf);

impl Draft {
    fn write(path: &Path, content: &Content) -> io::Result<Self> {
        let place = Self::place(path)?;
        remove_one(&place)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place)?;
        let draft = Self(place);
        file.write_all(&content.text)?;
        if let Some((uid, gid)) = content.owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        copy_attributes(path, &file);
        file.set_permissions(Permissions::from_mode(content.mode))?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Always the same name, so that what a crash leaves is found again.
    fn place(path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
        Ok(path.with_file_name(format!(".{}.spa-server.tmp", name.to_string_lossy())))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Renamed, it is gone already; else nobody wants it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Access lists and labels, as far as the file system has and takes them.
fn copy_attributes(from: &Path, to: &File) {
    let Ok(from) = File::open(from) else { return };
    let mut names = vec![0; 64 * 1024];
    let Ok(len) = flistxattr(&from, &mut names) else { return };
    for name in names[..len].split(|octet| *octet == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        if let Ok(len) = fgetxattr(&from, name, &mut value) {
            // A label that is refused is the file system's own to give.
            let _ = fsetxattr(to, name, &value[..len], XattrFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_mode_and_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a"), dir.path().join("link"));
        fs::write(&file, "old\r\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        let before = read(&link).unwrap().unwrap();
        let after = Content {
            text: b"new\r\n".to_vec(),
            ..before
        };
        replace(&link, &after).unwrap();
        assert_eq!(read(&file).unwrap(), Some(after));
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_not_there_is_nothing_and_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        assert_eq!(read(&file).unwrap(), None);
        remove(&file).unwrap();
        fs::write(dir.path().join(".a.spa-server.tmp"), "left by a crash").unwrap();
        replace(&file, &Content::new(b"x".to_vec(), 0o644)).unwrap();
        assert_eq!(read(&file).unwrap().unwrap().mode, 0o644);
        remove(&file).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    fn aside(dir: &Path) -> impl Fn(u32) -> PathBuf {
        move |number| dir.join(format!("aside{number}"))
    }

    #[test]
    fn what_was_there_is_kept_under_a_free_name() {
        let dir = tempfile::tempdir().unwrap();
        let (file, taken) = (dir.path().join("a"), dir.path().join("aside0"));
        let old = Content::new(b"old".to_vec(), 0o640);
        assert_eq!(
            put_instead(&file, &old, aside(dir.path())).unwrap(),
            None,
            "nothing was there"
        );
        assert_eq!(
            put_instead(&file, &old, aside(dir.path())).unwrap(),
            None,
            "it was that already"
        );
        fs::write(&taken, "earlier").unwrap();
        fs::write(&file, "edited").unwrap();
        let name = put_instead(&file, &old, aside(dir.path())).unwrap().unwrap();
        assert_eq!(name, dir.path().join("aside1"));
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!([text(&file), text(&name), text(&taken)], ["old", "edited", "earlier"]);
        assert_eq!(read(&file).unwrap().unwrap().mode, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_link_or_a_folder_in_its_place_is_set_aside_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (file, target) = (dir.path().join("a"), dir.path().join("target"));
        fs::write(&target, "edited").unwrap();
        std::os::unix::fs::symlink("target", &file).unwrap();
        let content = Content::new(b"old".to_vec(), 0o600);
        put_instead(&file, &content, aside(dir.path())).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "edited");
        assert_eq!(fs::read_to_string(dir.path().join("aside0")).unwrap(), "edited");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        put_instead(&file, &content, aside(dir.path())).unwrap();
        assert!(dir.path().join("aside1").is_dir());
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    }

    #[test]
    fn a_folder_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_err());
        assert!(replace(dir.path(), &Content::new(Vec::new(), 0o644)).is_err());
    }
}

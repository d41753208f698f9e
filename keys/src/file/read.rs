//! Reading a file that holds secrets.

use std::ffi::OsStr;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::error::FileError;
use super::owner::is_trusted;

/// How a file must be to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The widest mode it may have.
    pub mode: u32,
    /// The most bytes it may have.
    pub most: usize,
}

impl Limits {
    /// A secret: mode 0600, at most 64 KiB.
    pub const SECRET: Self = Self {
        mode: 0o600,
        most: 64 * 1024,
    };
    /// server.toml: mode 0640, at most 4 MiB.
    pub const CONFIG: Self = Self {
        mode: 0o640,
        most: 4 * 1024 * 1024,
    };
}

// A link is not followed, a pipe is not waited for, no child process inherits it.
const FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Reads a text whose owner and mode are as they must be; it is wiped when dropped.
///
/// # Errors
///
/// [`FileError`] when it is a link or no regular file, belongs to somebody else, is open to others, is too large or is
/// not UTF-8.
pub fn read_text(path: &Path, limits: Limits) -> Result<Zeroizing<String>, FileError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(FLAGS.bits()).unwrap_or_default())
        .open(path);
    read_opened(opened.map_err(|error| not_opened(path, error))?, path, limits)
}

/// The same for the file `name` of an open directory; `path` is for messages. Thousands are read faster so.
///
/// # Errors
///
/// As [`read_text`].
pub fn read_text_at(
    directory: impl AsFd,
    name: &OsStr,
    path: &Path,
    limits: Limits,
) -> Result<Zeroizing<String>, FileError> {
    let opened = rustix::fs::openat(directory, name, FLAGS | OFlags::RDONLY, Mode::empty());
    let opened = opened.map_err(|error| not_opened(path, error.into()))?;
    read_opened(opened.into(), path, limits)
}

fn not_opened(path: &Path, error: std::io::Error) -> FileError {
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => FileError::NotRegular {
            path: path.to_owned(),
            kind: "a symbolic link",
        },
        Some(Errno::NXIO) => FileError::NotRegular {
            path: path.to_owned(),
            kind: "a socket or device",
        },
        _ => FileError::io(path, "read", error),
    }
}

fn read_opened(mut file: File, path: &Path, limits: Limits) -> Result<Zeroizing<String>, FileError> {
    let length = check(&file, path, limits)?;
    // One more than expected, so that the buffer is never moved and a file that grows meanwhile is noticed.
    let mut octets = Zeroizing::new(Vec::with_capacity(length + 1));
    let read = file.by_ref().take(length as u64 + 1).read_to_end(&mut octets);
    read.map_err(|error| FileError::io(path, "read", error))?;
    if octets.len() > length.max(1).min(limits.most) {
        return Err(FileError::Large {
            path: path.to_owned(),
            most: limits.most,
        });
    }
    match String::from_utf8(std::mem::take(&mut *octets)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(FileError::NotText { path: path.to_owned() })
        }
    }
}

/// Checks that nobody else owns, reads or writes what is at `path`: a directory or file of state, which is opened
/// elsewhere.
///
/// # Errors
///
/// [`FileError::Owner`] or [`FileError::Mode`] with what to type, or what the system said.
pub fn check_private(path: &Path, allowed: u32) -> Result<(), FileError> {
    let metadata = std::fs::metadata(path).map_err(|error| FileError::io(path, "read", error))?;
    check_facts(&metadata, path, allowed)
}

fn check_facts(metadata: &Metadata, path: &Path, allowed: u32) -> Result<(), FileError> {
    let (path, mode) = (path.to_owned(), metadata.mode() & 0o7777);
    if !is_trusted(metadata.uid()) {
        let owner = metadata.uid();
        return Err(FileError::Owner { path, owner });
    }
    if mode & 0o077 & !allowed != 0 {
        return Err(FileError::Mode { path, mode, allowed });
    }
    Ok(())
}

/// Checks what the opened file is, so that nothing can be put in its place between; returns its length.
fn check(file: &File, path: &Path, limits: Limits) -> Result<usize, FileError> {
    let metadata = file.metadata().map_err(|error| FileError::io(path, "read", error))?;
    if !metadata.is_file() {
        let (path, kind) = (path.to_owned(), kind_of(metadata.file_type()));
        return Err(FileError::NotRegular { path, kind });
    }
    check_facts(&metadata, path, limits.mode)?;
    let (path, most) = (path.to_owned(), limits.most);
    let length = usize::try_from(metadata.len()).ok().filter(|length| *length <= most);
    length.ok_or(FileError::Large { path, most })
}

fn kind_of(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a pipe",
        _ => "a socket or device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_good_file_is_read() {
        for mode in [0o600, 0o400, 0o700] {
            let (_dir, path) = file(b"x = 1\n", mode);
            assert_eq!(*read_text(&path, Limits::SECRET).unwrap(), "x = 1\n");
        }
        let (_dir, path) = file(b"", 0o600);
        assert_eq!(*read_text(&path, Limits::SECRET).unwrap(), "");
    }

    #[test]
    fn a_wide_mode_is_refused_with_what_to_type() {
        for mode in [0o640, 0o604, 0o620, 0o602, 0o666, 0o644, 0o610] {
            let (_dir, path) = file(b"x", mode);
            let error = read_text(&path, Limits::SECRET).unwrap_err();
            assert!(matches!(error, FileError::Mode { .. }), "{mode:o}");
            assert_eq!(error.hint().unwrap(), format!("chmod 600 {}", path.display()));
            assert_eq!(error.exit(), crate::Exit::Config);
        }
        let (_dir, path) = file(b"x", 0o640);
        assert!(read_text(&path, Limits::CONFIG).is_ok());
    }

    #[test]
    fn links_directories_and_pipes_are_refused() {
        let (dir, path) = file(b"x", 0o600);
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
        let socket = dir.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for odd in [&link, &pipe, &socket, &dir.path().to_owned()] {
            let error = read_text(odd, Limits::SECRET).unwrap_err();
            assert!(matches!(error, FileError::NotRegular { .. }), "{error}");
        }
    }

    #[test]
    fn a_strange_owner_is_refused() {
        let (_dir, path) = file(b"x", 0o600);
        if chown(&path, Some(12_345), None).is_err() {
            eprintln!("skipped: only root can give a file away");
            return;
        }
        let error = read_text(&path, Limits::SECRET).unwrap_err();
        assert!(matches!(error, FileError::Owner { owner: 12_345, .. }), "{error}");
    }

    #[test]
    fn large_binary_and_absent_files_are_refused() {
        let (_dir, path) = file(&[b'x'; 11], 0o600);
        let limits = Limits { mode: 0o600, most: 10 };
        assert!(matches!(read_text(&path, limits), Err(FileError::Large { .. })));
        let (_dir, path) = file(b"\xff\xfe", 0o600);
        assert!(matches!(
            read_text(&path, Limits::SECRET),
            Err(FileError::NotText { .. })
        ));
        let absent = read_text(&path.with_file_name("absent"), Limits::SECRET).unwrap_err();
        assert!(absent.is_absent());
    }
}

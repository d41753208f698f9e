//! Where the log lies: `audit.log`, and the older ones `audit.log.1` and on, the greatest number the oldest.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use spa_keys::file::owner_of_secrets;

/// The file that is written.
pub const NAME: &str = "audit.log";
/// A listing that was overtaken by a rotation is made again so often.
const TRIES: usize = 5;

/// Its path, or that of the so-many-eth before it.
#[must_use]
pub fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(name(number))
}

/// The name alone.
#[must_use]
pub fn name(number: u32) -> String {
    match number {
        0 => NAME.to_owned(),
        number => format!("{NAME}.{number}"),
    }
}

/// Which files are there, newest first. What else begins with `audit.log` is none of the log's.
///
/// # Errors
///
/// When the folder cannot be read; one that is not there has none.
pub fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(number));
    }
    found.sort_unstable();
    Ok(found)
}

fn number(file: &str) -> Option<u32> {
    let rest = file.strip_prefix(NAME)?;
    if rest.is_empty() {
        return Some(0);
    }
    let number: u32 = rest.strip_prefix('.')?.parse().ok()?;
    (number > 0 && name(number) == file).then_some(number)
}

/// The file of this process and no other's: dev and inode.
pub type Identity = (u64, u64);

/// Which file lies at a path, and how long it is; none when there is none.
///
/// # Errors
///
/// When that cannot be told.
pub fn look(path: &Path) -> io::Result<Option<(Identity, u64)>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(((found.dev(), found.ino()), found.len()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the file to append to it, and makes it if need be, mode 0600. No link is followed.
///
/// # Errors
///
/// When the system refuses, and when it is no plain file.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.append(true).read(true).mode(0o600).custom_flags(no_follow);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = options.create_new(true).open(path)?;
            fchown(&file, owner_of_secrets(), None)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no plain file"))
    }
}

/// Gives each file the next number and takes the oldest away, so that `keep` are left when a new one is begun.
///
/// # Errors
///
/// When the system refuses; whatever was renamed keeps its new name, and no file has taken another's place.
pub fn rotate(folder: &Path, keep: u32) -> io::Result<()> {
    let numbers = numbers(folder)?;
    // Those without a gap between them: what lies behind one need not move.
    let row = (0..).zip(&numbers).take_while(|(due, number)| due == *number).count();
    let row: Vec<u32> = numbers.iter().copied().take(row).collect();
    let is_over = |number: &&u32| **number >= keep || (**number + 1 == keep && row.contains(number));
    for number in numbers.iter().filter(is_over) {
        fs::remove_file(path(folder, *number))?;
    }
    for number in row.iter().rev().filter(|number| **number + 1 < keep) {
        fs::rename(path(folder, *number), path(folder, number + 1))?;
    }
    Ok(())
}

/// Opens all of them for reading, oldest first, with their names; a rotation meanwhile loses none.
///
/// # Errors
///
/// When one cannot be opened.
pub fn open_all(folder: &Path) -> io::Result<Vec<(String, File)>> {
    for _ in 0..TRIES {
        if let Some(opened) = try_open_all(folder)? {
            return Ok(opened);
        }
    }
    Err(io::Error::other("the files are renamed faster than they can be opened"))
}

/// None when they were renamed meanwhile.
fn try_open_all(folder: &Path) -> io::Result<Option<Vec<(String, File)>>> {
    let listed = numbers(folder)?;
    let mut opened = Vec::new();
    for number in &listed {
        match File::open(path(folder, *number)) {
            Ok(file) => opened.push((*number, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    for (number, file) in &opened {
        let own = file.metadata()?;
        if look(&path(folder, *number))?.is_none_or(|(identity, _)| identity != (own.dev(), own.ino())) {
            return Ok(None);
        }
    }
    let named = opened.into_iter().rev().map(|(number, file)| (name(number), file));
    Ok(Some(named.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(numbers: &[u32]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for number in numbers {
            fs::write(path(dir.path(), *number), number.to_string()).unwrap();
        }
        dir
    }

    fn contents(dir: &Path) -> Vec<(u32, String)> {
        let read = |number| (number, fs::read_to_string(path(dir, number)).unwrap());
        numbers(dir).unwrap().into_iter().map(read).collect()
    }

    #[test]
    fn other_names_are_left_alone() {
        let dir = folder(&[0, 1, 10]);
        for other in [
            "audit.log.gz",
            "audit.log.01",
            "audit.log.0",
            "audit.log.1.gz",
            "audit.logs",
            "record.redb",
        ] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(numbers(dir.path()).unwrap(), [0, 1, 10]);
        assert_eq!(numbers(Path::new("/nonexistent")).unwrap(), [0; 0]);
    }

    #[test]
    fn the_oldest_goes_first() {
        let dir = folder(&[0, 1, 2]);
        rotate(dir.path(), 4).unwrap();
        assert_eq!(
            contents(dir.path()),
            [(1, "0".into()), (2, "1".into()), (3, "2".into())]
        );
        fs::write(path(dir.path(), 0), "new").unwrap();
        rotate(dir.path(), 3).unwrap();
        assert_eq!(contents(dir.path()), [(1, "new".into()), (2, "0".into())]);
        rotate(dir.path(), 3).unwrap();
        assert_eq!(
            contents(dir.path()),
            [(1, "new".into()), (2, "0".into())],
            "nothing to rotate"
        );
    }

    #[test]
    fn a_gap_in_the_row_is_filled() {
        let dir = folder(&[0, 2, 3]);
        rotate(dir.path(), 9).unwrap();
        assert_eq!(
            contents(dir.path()),
            [(1, "0".into()), (2, "2".into()), (3, "3".into())]
        );
    }

    #[test]
    fn all_are_opened_oldest_first() {
        let dir = folder(&[0, 1, 2]);
        let names: Vec<_> = open_all(dir.path())
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["audit.log.2", "audit.log.1", "audit.log"]);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = folder(&[]);
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), path(dir.path(), 0)).unwrap();
        assert!(open_to_append(&path(dir.path(), 0)).is_err());
        assert!(!dir.path().join("elsewhere").exists());
        let file = open_to_append(&path(dir.path(), 1)).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    }
}

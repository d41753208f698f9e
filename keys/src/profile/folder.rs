//! Where profiles are, and what they are called.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::{Cost, Passphrase, Profile, ProfileError, Sealed, SealedError};
use crate::file::{self, FileError, Limits};
use crate::name::Host;

/// A profile's name: `[a-z0-9]` first and `[a-z0-9._-]` after, so that it is a plain file name and no option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(Box<str>);

impl ProfileName {
    /// The most characters a name has: what a host and a file name have, less `.toml`.
    pub const MOST: usize = 240;

    /// The name that a gateway's profile has unless another is chosen: its host, with `:` as `-`.
    ///
    /// # Errors
    ///
    /// [`ProfileNameError`] when the host is too long for a file's name.
    pub fn of(host: &Host) -> Result<Self, ProfileNameError> {
        // `::1` would begin like an option.
        host.as_str().replace(':', "-").trim_start_matches('-').parse()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = ProfileNameError;

    fn from_str(name: &str) -> Result<Self, ProfileNameError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good_first = name.bytes().next().is_some_and(alphanumeric);
        let good_rest = name.bytes().all(|byte| alphanumeric(byte) || b"._-".contains(&byte));
        if good_first && good_rest && name.len() <= Self::MOST {
            Ok(Self(name.into()))
        } else {
            Err(ProfileNameError)
        }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that no profile can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileNameError;

impl fmt::Display for ProfileNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a profile's name is 1 to 240 characters, a-z or 0-9 first, then a-z 0-9 . _ -")
    }
}

impl std::error::Error for ProfileNameError {}

/// A profile as it lies in its file.
#[derive(Debug)]
pub enum Stored {
    /// As it is.
    Plain(Box<Profile>),
    /// Under a passphrase.
    Sealed(Sealed),
}

/// The folder of a person's profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// `SPA_CONFIG_DIR`, else `XDG_CONFIG_HOME/spa`, else `HOME/.config/spa`.
    ///
    /// # Errors
    ///
    /// [`ProfileError::NoFolder`] when the environment has none of them.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ProfileError> {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The XDG specification has relative paths ignored.
        let xdg = path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        path("SPA_CONFIG_DIR")
            .or_else(|| xdg.map(|path| path.join("spa")))
            .or_else(|| path("HOME").map(|path| path.join(".config/spa")))
            .map(Self)
            .ok_or(ProfileError::NoFolder)
    }

    /// This path.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The file of a profile.
    #[must_use]
    pub fn file(&self, name: &ProfileName) -> PathBuf {
        self.0.join(format!("{name}.toml"))
    }

    /// Reads a profile as it lies there.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] when there is none, its file is open to others, or what it holds is no profile.
    pub fn read(&self, name: &ProfileName) -> Result<Stored, ProfileError> {
        let path = self.file(name);
        let text = match file::read_text(&path, Limits::SECRET) {
            Err(error) if error.is_absent() => return Err(self.unknown(name)),
            read => read?,
        };
        match Sealed::parse(&text) {
            Ok(Some(sealed)) => Ok(Stored::Sealed(sealed)),
            Ok(None) => match Profile::parse(&text) {
                Ok(profile) => Ok(Stored::Plain(Box::new(profile))),
                Err(error) => Err(ProfileError::Syntax { path, error }),
            },
            Err(error) => Err(ProfileError::Sealed { path, error }),
        }
    }

    /// Reads a profile that lies there without a passphrase.
    ///
    /// # Errors
    ///
    /// As [`Folder::read`], and [`ProfileError::Locked`] when it is under one.
    pub fn load(&self, name: &ProfileName) -> Result<Profile, ProfileError> {
        match self.read(name)? {
            Stored::Plain(profile) => Ok(*profile),
            Stored::Sealed(_) => Err(ProfileError::Locked { name: name.clone() }),
        }
    }

    /// Opens a profile that lies there under a passphrase.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Sealed`].
    pub fn open(&self, name: &ProfileName, sealed: &Sealed, passphrase: &Passphrase) -> Result<Profile, ProfileError> {
        sealed.open(passphrase).map_err(|error| self.refused(name, error))
    }

    /// Writes a new profile, durably, into a folder of mode 0700; under a passphrase where one is given.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Taken`] when there is one of that name; it is never overwritten.
    pub fn create(
        &self,
        name: &ProfileName,
        profile: &Profile,
        passphrase: Option<&Passphrase>,
    ) -> Result<(), ProfileError> {
        let text = self.text(name, profile, passphrase)?;
        self.make()?;
        let path = self.file(name);
        match file::create_new(&path, text.as_bytes(), 0o600) {
            Err(FileError::Exists { path }) => {
                let name = name.clone();
                return Err(ProfileError::Taken { name, path });
            }
            written => written?,
        }
        keep(&path);
        Ok(())
    }

    /// Puts a profile in the place of the one of that name.
    ///
    /// # Errors
    ///
    /// [`ProfileError::File`] when the system refused; the old one is then whole.
    pub fn replace(
        &self,
        name: &ProfileName,
        profile: &Profile,
        passphrase: Option<&Passphrase>,
    ) -> Result<(), ProfileError> {
        let text = self.text(name, profile, passphrase)?;
        let path = self.file(name);
        file::replace(&path, text.as_bytes(), 0o600)?;
        keep(&path);
        Ok(())
    }

    /// Gives a profile a second name beside its own: `NAME.old`, or the first of `NAME.old.2` and so on that is free.
    /// From then on its place may be taken, and nothing is lost.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] when it is not there, or the system refused.
    pub fn keep_old(&self, name: &ProfileName) -> Result<ProfileName, ProfileError> {
        let others = (2..).map(|number| format!("{name}.old.{number}"));
        for text in std::iter::once(format!("{name}.old")).chain(others) {
            let old: ProfileName = text.parse().map_err(|_| ProfileError::LongName { text })?;
            match file::link(&self.file(name), &self.file(&old)) {
                Err(FileError::Exists { .. }) => {}
                linked => return linked.map(|()| old).map_err(ProfileError::from),
            }
        }
        Err(self.unknown(name))
    }

    /// Gives a profile another name.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Taken`] when a profile has that name, [`ProfileError::Unknown`] when there is none to rename.
    pub fn rename(&self, name: &ProfileName, new: &ProfileName) -> Result<(), ProfileError> {
        match file::rename_new(&self.file(name), &self.file(new)) {
            Err(FileError::Exists { path }) => Err(ProfileError::NameTaken {
                name: new.clone(),
                path,
            }),
            Err(error) if error.is_absent() => Err(self.unknown(name)),
            renamed => renamed.map_err(ProfileError::from),
        }
    }

    /// Takes a profile away, durably.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Unknown`] when there is none.
    pub fn forget(&self, name: &ProfileName) -> Result<(), ProfileError> {
        match file::remove(&self.file(name)) {
            Err(error) if error.is_absent() => Err(self.unknown(name)),
            removed => removed.map_err(ProfileError::from),
        }
    }

    fn text(
        &self,
        name: &ProfileName,
        profile: &Profile,
        passphrase: Option<&Passphrase>,
    ) -> Result<Zeroizing<String>, ProfileError> {
        let Some(passphrase) = passphrase else {
            return Ok(profile.to_text());
        };
        let sealed = Sealed::seal(profile, passphrase, Cost::DEFAULT);
        let sealed = sealed.map_err(|error| self.refused(name, error))?;
        Ok(Zeroizing::new(sealed.to_text()))
    }

    fn refused(&self, name: &ProfileName, error: SealedError) -> ProfileError {
        let path = self.file(name);
        ProfileError::Sealed { path, error }
    }

    fn make(&self) -> Result<(), ProfileError> {
        // Whoever owns a folder that is there already keeps it.
        if !self.0.is_dir() {
            file::create_dir(&self.0, 0o700)?;
            keep(&self.0);
        }
        Ok(())
    }

    /// The names of the files that look like profiles, sorted; no folder is an empty one.
    ///
    /// # Errors
    ///
    /// [`ProfileError::File`] when the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, ProfileError> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| FileError::io(&self.0, "read", error))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names
            .filter(|name| !name.starts_with('.'))
            .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn unknown(&self, name: &ProfileName) -> ProfileError {
        let name = name.clone();
        let others = self.names().unwrap_or_default();
        ProfileError::Unknown { name, others }
    }
}

/// What is written here belongs to the person and not, like a gateway's secrets, to the daemon's user.
fn keep(path: &Path) {
    // Only root's files were given away, and root reads and changes them all the same.
    let _ = chown(path, Some(geteuid().as_raw()), None);
}

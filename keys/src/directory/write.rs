//! What an enrollment writes. The daemon has recorded it durably before, and says it again after a crash: both halves
//! may be repeated.

use std::fmt;
use std::path::PathBuf;

use spa_proto::{PublicKey, UnixTime};

use super::{KeyDirectory, Kind};
use crate::client::Client;
use crate::exit::Failure;
use crate::file::{self, FileError};
use crate::invites::{Invite, Spent};
use crate::load::LoadError;
use crate::name::ClientName;

/// What came of writing what an enrollment brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was written now.
    New,
    /// It was there already.
    Already,
    /// The invite's file is gone: a person took it away.
    Gone,
}

/// Why an enrollment could not be written.
#[derive(Debug)]
pub enum EnrollError {
    /// Another client has that name.
    NameTaken {
        /// Its file.
        path: PathBuf,
    },
    /// The invite was spent for another key: somebody else had it too.
    SpentBefore {
        /// For whom, and when.
        spent: Spent,
    },
    /// A file could not be read or written.
    Load(LoadError),
}

impl From<FileError> for EnrollError {
    fn from(error: FileError) -> Self {
        Self::Load(error.into())
    }
}

impl fmt::Display for EnrollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { path } => write!(f, "{} is another client's", path.display()),
            Self::SpentBefore { spent } => match spent.public_key() {
                Some(key) => {
                    let key = crate::text::fingerprint(&key);
                    write!(f, "the invite was spent before, for the key {key}")
                }
                None => f.write_str("the invite was spent before, by wrong PINs"),
            },
            Self::Load(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EnrollError {}

impl From<EnrollError> for Failure {
    fn from(error: EnrollError) -> Self {
        match error {
            EnrollError::Load(error) => error.into(),
            other => Self::new(crate::Exit::Failed, other),
        }
    }
}

impl KeyDirectory {
    /// Writes a client's file where none is, and takes the client in. Said again for the same key and PSK it changes
    /// nothing, not even what a person changed in the file since.
    ///
    /// # Errors
    ///
    /// [`EnrollError::NameTaken`] when the name is another client's; else what kept the file from being written.
    pub fn write_enrolled(&mut self, name: &ClientName, client: &Client) -> Result<Written, EnrollError> {
        let path = self.clients_dir.join(format!("{name}.toml"));
        match file::create_new(&path, client.to_text().as_bytes(), 0o600) {
            Ok(()) => {
                self.reload_file(Kind::Client, name.as_str());
                Ok(Written::New)
            }
            Err(FileError::Exists { .. }) => match Client::load(&path) {
                Ok(known) if known.public_key == client.public_key && known.psk == client.psk => Ok(Written::Already),
                _ => Err(EnrollError::NameTaken { path }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Notes in an invite's file what it was spent for. Said again for the same key and PSK it changes nothing.
    ///
    /// # Errors
    ///
    /// [`EnrollError::SpentBefore`] when it was spent for another; else what kept the file from being written.
    pub fn write_spent(&mut self, invite: &PublicKey, spent: &Spent) -> Result<Written, EnrollError> {
        let found = self.invites.iter().find(|slot| slot.invite.public_key == *invite);
        let Some(stem) = found.map(|slot| slot.stem.clone()) else {
            return Ok(Written::Gone);
        };
        let path = self.path(&(Kind::Invite, stem.clone()));
        let Some(slot) = self.invites.named_mut(&stem) else {
            return Ok(Written::Gone);
        };
        match &slot.invite.spent {
            Some(known) if known.by != spent.by => {
                return Err(EnrollError::SpentBefore { spent: known.clone() });
            }
            // In memory it may have been spent while the disk was full.
            Some(_) if Invite::load(&path).is_ok_and(|invite| invite.spent.is_some()) => return Ok(Written::Already),
            _ => slot.invite.spent = Some(spent.clone()),
        }
        slot.invite.save(&path)?;
        Ok(Written::New)
    }

    /// Removes the files of invites whose end is more than two days ago, and drafts that a crash left; returns the
    /// invites' names.
    ///
    /// # Errors
    ///
    /// [`FileError`] when one cannot be removed.
    pub fn sweep(&mut self, now: UnixTime) -> Result<Vec<ClientName>, FileError> {
        let old = self.invites.iter().filter(|slot| slot.invite.is_forgettable(now));
        let old: Vec<_> = old.map(|slot| (slot.stem.clone(), slot.invite.name.clone())).collect();
        for (stem, _) in &old {
            let removed = file::remove(&self.path(&(Kind::Invite, stem.clone())));
            removed.or_else(|error| if error.is_absent() { Ok(()) } else { Err(error) })?;
            self.remove_file(Kind::Invite, stem);
        }
        file::sweep_drafts(&self.clients_dir, now)?;
        file::sweep_drafts(&self.invites_dir, now)?;
        Ok(old.into_iter().map(|(_, name)| name).collect())
    }
}

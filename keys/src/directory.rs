//! KeyDirectory: clients.d and invites.d in memory, as a [`Keyring`].

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spa_proto::{Enrolled, Keyring, PublicKey, Role};
use zeroize::Zeroizing;

use crate::client::Client;
use crate::fault::Fault;
use crate::file::{self, FileError, Limits};
use crate::invites::Invite;
use crate::load::LoadError;
use crate::name::ClientName;
use crate::watch::Changes;

mod broken;
mod gateway;
mod shelf;
mod slot;
mod view;
mod write;

use broken::Broken;
pub use broken::BrokenFile;
use shelf::Shelf;
use slot::{ClientSlot, InviteSlot, Policies};
pub use view::{ClientState, ClientView, Counts};
pub use write::{EnrollError, Written};

/// The clients and invites of a gateway.
///
/// A client that never knocked takes one slot, its name, and its places in two tables; services and policies that are
/// equal are kept once.
#[derive(Debug)]
pub struct KeyDirectory {
    clients_dir: PathBuf,
    invites_dir: PathBuf,
    keys: HashMap<PublicKey, Place>,
    clients: Shelf<ClientSlot>,
    invites: Shelf<InviteSlot>,
    policies: Policies,
    broken: Broken,
}

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A client's, in clients.d.
    Client,
    /// An invite's, in invites.d.
    Invite,
}

/// A file by its directory and its name without `.toml`.
type FileId = (Kind, Arc<str>);

/// Where a key's owner is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Client(u32),
    Invite(u32),
}

/// What came of reading a file again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It says what it said before.
    Unchanged,
    /// It is new, or says something else now.
    Loaded,
    /// It is not there any more.
    Removed,
    /// It cannot be believed; see [`KeyDirectory::broken`].
    Broken,
}

/// What a file says.
enum Contents {
    Client(Client),
    Invite(Invite),
}

impl Contents {
    const fn key(&self) -> &PublicKey {
        match self {
            Self::Client(client) => &client.public_key,
            Self::Invite(invite) => &invite.public_key,
        }
    }
}

impl KeyDirectory {
    /// Loads both directories; one that does not exist holds nothing. Broken files are set aside, see
    /// [`broken`](Self::broken).
    ///
    /// # Errors
    ///
    /// [`FileError`] when a directory cannot be listed.
    pub fn load(clients_dir: &Path, invites_dir: &Path) -> Result<Self, FileError> {
        let mut directory = Self {
            clients_dir: clients_dir.to_owned(),
            invites_dir: invites_dir.to_owned(),
            keys: HashMap::new(),
            clients: Shelf::default(),
            invites: Shelf::default(),
            policies: Policies::default(),
            broken: Broken::default(),
        };
        directory.read_all(|_, _, _| ())?;
        Ok(directory)
    }

    /// Reads every file again, and forgets those that are gone. Who did not change keeps its seat. What changed, and
    /// what is broken, is returned.
    ///
    /// # Errors
    ///
    /// [`FileError`] when a directory cannot be listed; what was known of it stays.
    pub fn reload_all(&mut self) -> Result<Vec<(Kind, String, Reload)>, FileError> {
        let mut outcomes = Vec::new();
        self.read_all(|kind, stem, outcome| {
            if outcome != Reload::Unchanged {
                outcomes.push((kind, stem.to_owned(), outcome));
            }
        })?;
        Ok(outcomes)
    }

    fn read_all(&mut self, mut done: impl FnMut(Kind, &str, Reload)) -> Result<(), FileError> {
        for kind in [Kind::Client, Kind::Invite] {
            let gone = |stem: &Arc<str>| self.path(&(kind, stem.clone())).symlink_metadata().is_err();
            for stem in self.known(kind).filter(gone).collect::<Vec<_>>() {
                let outcome = self.forget(&(kind, stem.clone()));
                done(kind, &stem, outcome);
            }
            self.read_dir(kind, &mut done)?;
        }
        self.policies.prune();
        Ok(())
    }

    /// Reads a directory twice, first to count: a list of all names would leave its holes in the memory.
    fn read_dir(&mut self, kind: Kind, mut done: impl FnMut(Kind, &str, Reload)) -> Result<(), FileError> {
        let dir = self.dir(kind).to_owned();
        if kind == Kind::Client {
            let mut count = 0;
            each_stem(&dir, |_| count += 1)?;
            self.reserve(count);
        }
        let opened = File::open(&dir).ok();
        each_stem(&dir, |stem| {
            let contents = self.read(kind, stem, opened.as_ref());
            let outcome = self.put((kind, stem.into()), contents);
            done(kind, stem, outcome);
        })
    }

    /// Takes in what a [`Watch`](crate::Watch) saw.
    ///
    /// # Errors
    ///
    /// [`FileError`] when everything had to be read again and a directory cannot be listed.
    pub fn apply(&mut self, changes: &Changes) -> Result<Vec<(Kind, String, Reload)>, FileError> {
        if changes.all {
            return self.reload_all();
        }
        let clients = changes.clients.iter().map(|stem| (Kind::Client, stem));
        let all = clients.chain(changes.invites.iter().map(|stem| (Kind::Invite, stem)));
        Ok(all
            .map(|(kind, stem)| (kind, stem.clone(), self.reload_file(kind, stem)))
            .collect())
    }

    /// Reads one file again by its name without `.toml`.
    pub fn reload_file(&mut self, kind: Kind, stem: &str) -> Reload {
        let contents = self.read(kind, stem, None);
        let outcome = self.put((kind, stem.into()), contents);
        self.policies.prune_if_grown();
        outcome
    }

    /// Forgets one file by its name without `.toml`; the next reading of all brings it back if it is still there.
    pub fn remove_file(&mut self, kind: Kind, stem: &str) {
        self.forget(&(kind, stem.into()));
    }

    fn dir(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Client => &self.clients_dir,
            Kind::Invite => &self.invites_dir,
        }
    }

    fn path(&self, (kind, stem): &FileId) -> PathBuf {
        self.dir(*kind).join(format!("{stem}.toml"))
    }

    fn reserve(&mut self, clients: usize) {
        let more = clients.saturating_sub(self.clients.len());
        self.clients.reserve(more);
        self.keys.reserve(more);
    }

    fn known(&self, kind: Kind) -> impl Iterator<Item = Arc<str>> + '_ {
        let held: Vec<Arc<str>> = match kind {
            Kind::Client => self.clients.names().cloned().collect(),
            Kind::Invite => self.invites.names().cloned().collect(),
        };
        held.into_iter().chain(self.broken.stems(kind))
    }

    fn read(&self, kind: Kind, stem: &str, dir: Option<&File>) -> Result<Contents, LoadError> {
        let name = format!("{stem}.toml");
        let path = self.dir(kind).join(&name);
        let wrong = |fault| LoadError::fault(&path, fault);
        let text = read_at(dir, &name, &path)?;
        match kind {
            Kind::Client => {
                stem.parse::<ClientName>().map_err(|error| wrong(Fault::whole(error)))?;
                Client::parse(&text).map(Contents::Client).map_err(wrong)
            }
            Kind::Invite => Invite::parse(&text).map(Contents::Invite).map_err(wrong),
        }
    }

    /// Puts what a file says in the place of what it said before.
    fn put(&mut self, id: FileId, contents: Result<Contents, LoadError>) -> Reload {
        let contents = match contents {
            Ok(contents) => contents,
            Err(error) if error.is_absent() => return self.forget(&id),
            Err(error) => {
                self.forget(&id);
                let path = self.path(&id);
                self.broken.insert(id, BrokenFile::new(path, &error));
                return Reload::Broken;
            }
        };
        if self.broken.still_clashes(&id, contents.key()) {
            return Reload::Broken;
        }
        if let Some(outcome) = self.update(&id, &contents) {
            return outcome;
        }
        self.forget(&id);
        self.admit(id, contents)
    }

    /// Changes what is known under the same name and key, if there is such.
    fn update(&mut self, (kind, stem): &FileId, contents: &Contents) -> Option<Reload> {
        let changed = match (kind, contents) {
            (Kind::Client, Contents::Client(client)) => {
                let slot = self
                    .clients
                    .named_mut(stem)
                    .filter(|slot| slot.key == client.public_key)?;
                let policy = self.policies.intern(&client.terms.policy);
                slot.update(client, policy)
            }
            (Kind::Invite, Contents::Invite(invite)) => {
                let slot = self.invites.named_mut(stem)?;
                if slot.invite.public_key != invite.public_key {
                    return None;
                }
                slot.update(invite)
            }
            _ => return None,
        };
        Some(if changed { Reload::Loaded } else { Reload::Unchanged })
    }

    /// Takes a file out, whatever it was. One that had clashed with it alone is whole again.
    fn forget(&mut self, id: &FileId) -> Reload {
        let (kind, stem) = id;
        let key = match kind {
            Kind::Client => self.clients.remove(stem).map(|slot| slot.key),
            Kind::Invite => self.invites.remove(stem).map(|slot| slot.invite.public_key),
        };
        if let Some(key) = key {
            self.keys.remove(&key);
            return Reload::Removed;
        }
        let Some(last) = self.broken.remove(id) else {
            return Reload::Unchanged;
        };
        if let Some((kind, stem)) = last {
            let contents = self.read(kind, &stem, None);
            self.put((kind, stem), contents);
        }
        Reload::Removed
    }

    /// Takes a file in whose name and key are new here; a key that another file has breaks both.
    fn admit(&mut self, id: FileId, contents: Contents) -> Reload {
        let key = *contents.key();
        if let Some(other) = self.owner(&key) {
            self.clash(&other, key);
            self.clash(&id, key);
            return Reload::Broken;
        }
        if self.broken.has_clash(&key) {
            self.clash(&id, key);
            return Reload::Broken;
        }
        let place = match contents {
            Contents::Client(client) => {
                let policy = self.policies.intern(&client.terms.policy);
                Place::Client(self.clients.insert(id.1.clone(), ClientSlot::new(id.1, client, policy)))
            }
            Contents::Invite(invite) => Place::Invite(self.invites.insert(id.1.clone(), InviteSlot::new(id.1, invite))),
        };
        self.keys.insert(key, place);
        Reload::Loaded
    }

    fn owner(&self, key: &PublicKey) -> Option<FileId> {
        match *self.keys.get(key)? {
            Place::Client(at) => self.clients.get(at).map(|slot| (Kind::Client, slot.name.clone())),
            Place::Invite(at) => self.invites.get(at).map(|slot| (Kind::Invite, slot.stem.clone())),
        }
    }

    /// Sets a file aside because another one has the same key: nobody can say which of them is right.
    fn clash(&mut self, id: &FileId, key: PublicKey) {
        match id.0 {
            Kind::Client => drop(self.clients.remove(&id.1)),
            Kind::Invite => drop(self.invites.remove(&id.1)),
        }
        self.keys.remove(&key);
        let path = self.path(id);
        self.broken.insert_clash(id.clone(), path, key);
    }
}

impl Keyring for KeyDirectory {
    fn find(&mut self, key: &PublicKey) -> Option<Enrolled<'_>> {
        match *self.keys.get(key)? {
            Place::Client(at) => {
                let slot = self.clients.get_mut(at)?;
                Some(Enrolled {
                    standing: slot.standing(),
                    windows: slot.policy.windows(),
                    role: Role::Client,
                    psk: &slot.psk,
                    seat: &mut slot.seat,
                })
            }
            Place::Invite(at) => {
                let slot = self.invites.get_mut(at)?;
                Some(Enrolled {
                    standing: slot.standing(),
                    windows: spa_proto::Windows::default(),
                    role: slot.role(),
                    psk: &slot.invite.psk,
                    seat: &mut slot.seat,
                })
            }
        }
    }

    fn knows(&self, key: &PublicKey) -> bool {
        self.keys.contains_key(key) || self.broken.has_clash(key)
    }
}

fn read_at(dir: Option<&File>, name: &str, path: &Path) -> Result<Zeroizing<String>, FileError> {
    match dir {
        Some(dir) => file::read_text_at(dir, name.as_ref(), path, Limits::SECRET),
        None => file::read_text(path, Limits::SECRET),
    }
}

/// The names of the files in a directory that end in `.toml`, without it. Those that begin with a dot are drafts.
fn each_stem(dir: &Path, mut visit: impl FnMut(&str)) -> Result<(), FileError> {
    let refused = |error| FileError::io(dir, "list", error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(refused)?,
    };
    for entry in entries {
        let name = entry.map_err(refused)?.file_name();
        if let Some(stem) = stem_of(&name.to_string_lossy()) {
            visit(stem);
        }
    }
    Ok(())
}

/// The name of a client's or invite's file without `.toml`; nothing for files that are neither.
#[must_use]
pub fn stem_of(name: &str) -> Option<&str> {
    name.strip_suffix(".toml").filter(|stem| !stem.starts_with('.'))
}

/// Broken files in the order of their names.
type BrokenFiles = BTreeMap<FileId, BrokenFile>;

#[cfg(test)]
mod tests;

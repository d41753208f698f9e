//! The gateway's durable state: the replay record, last knocks, grants, enrollments, one-time codes and PINs, in one
//! database.
//!
//! Everything that must hold together is one [`State::commit`]: it is durable when the call returns, or nothing of it
//! is. One process at a time holds the lock.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use spa_proto::{Psk, PublicKey, ReplaySet, UnixTime};

use crate::exit::{Exit, Failure};
use crate::file::{check_private, owner_of_secrets};
use crate::units;

mod lock;
mod prune;
mod row;
mod snapshot;

pub use lock::StateLock;
pub use prune::Pruned;
pub use row::{CodeRow, EnrollmentRow, GrantRow, LastKnock, PinRow, SequenceRow};
pub use snapshot::{KeyRecord, Snapshot};

const FILE: &str = "record.redb";
/// The whole working set of a small gateway; redb's own default is a gigabyte.
const CACHE_BYTES: usize = 1 << 20;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REPLAY: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("replay");
const KNOCKS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("knocks");
const GRANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("grants");
const ENROLLMENTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("enrollments");
const PSKS: TableDefinition<'_, &[u8; 32], &[u8; 32]> = TableDefinition::new("psks");
const CODES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("codes");
const PINS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("pins");
const SEQUENCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sequences");
/// Since when a key of the record has been nobody's, in seconds.
const GONE: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("gone");

const FORMAT: &str = "format";
const FORMAT_NOW: u64 = 1;
const GREATEST: &str = "greatest-timestamp";
/// When the state was made, in seconds.
const BEGAN: &str = "began";

/// One thing to make durable.
#[derive(Debug)]
pub enum Change {
    /// The accepted timestamps of a key.
    Replay(PublicKey, ReplaySet),
    /// The record of a key, forgotten: an operator's command, never the gateway's own doing.
    ForgetReplay(PublicKey),
    /// A key's last accepted knock.
    Knock(PublicKey, LastKnock),
    /// A grant, live or remembered.
    Grant(GrantRow),
    /// A grant that need not be remembered any longer.
    ForgetGrant(GrantRow),
    /// A device that became a client, and the invite that was spent for it. The PSK stays until the client's file is
    /// written.
    Enrollment(EnrollmentRow, Psk),
    /// The enrolled client's file was written, by this invite key.
    EnrollmentWritten(PublicKey),
    /// An enrollment that need not be remembered any longer.
    ForgetEnrollment(PublicKey),
    /// What is remembered of a client's one-time codes.
    Code(PublicKey, CodeRow),
    /// The same, forgotten: an operator's command.
    ForgetCode(PublicKey),
    /// The wrong PINs that an invite's key has sent.
    Pin(PublicKey, PinRow),
    /// What is used up of a one-time or rolling sequence.
    Sequence(SequenceRow),
}

/// The open database, and the lock that keeps others out.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    /// Nothing after a failure: it is opened anew before the next use.
    database: Option<Database>,
    _lock: StateLock,
}

impl State {
    /// Makes a new, empty state. A gateway that is given one begins at once.
    ///
    /// # Errors
    ///
    /// [`StateError::Exists`] when there is one already; [`StateError::Io`] when it cannot be written.
    pub fn create(directory: &Path, lock: StateLock) -> Result<Self, StateError> {
        let path = directory.join(FILE);
        if path.symlink_metadata().is_ok() {
            return Err(StateError::Exists(path));
        }
        let database = guarded(&path, || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            fchown(&file, owner_of_secrets(), None)?;
            let database = builder().create_with_backend(redb::backends::FileBackend::new(file)?)?;
            let transaction = database.begin_write()?;
            open_tables(&transaction)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(FORMAT, FORMAT_NOW)?;
            meta.insert(BEGAN, units::now().as_secs())?;
            drop(meta);
            transaction.commit()?;
            File::open(directory)?.sync_all()?;
            Ok(database)
        });
        match database {
            Ok(database) => Ok(Self {
                directory: directory.into(),
                database: Some(database),
                _lock: lock,
            }),
            Err(error) => {
                // Half a record must not be taken for a damaged one by the next start.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Opens the state and checks all of it.
    ///
    /// # Errors
    ///
    /// [`StateError::Missing`] and [`StateError::Damaged`], after which nothing may open for a while (step 7);
    /// [`StateError::Open`] when its owner or mode, or the directory's, is wrong; [`StateError::Io`] when it cannot be read.
    pub fn open(directory: &Path, lock: StateLock) -> Result<Self, StateError> {
        Ok(Self {
            database: Some(open_database(directory)?),
            directory: directory.into(),
            _lock: lock,
        })
    }

    /// Moves a damaged record out of the way, so that a new one can be made; says where it went.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] when it cannot be moved.
    pub fn set_aside(directory: &Path, now: UnixTime) -> Result<PathBuf, StateError> {
        let path = directory.join(FILE);
        let aside = directory.join(format!("{FILE}.damaged-{}", now.as_secs()));
        std::fs::rename(&path, &aside).map_err(|error| StateError::io(&path, &error))?;
        Ok(aside)
    }

    /// Makes all of `changes` durable, or none.
    ///
    /// # Errors
    ///
    /// [`StateError`] when they are not durable: nothing may open because of them. The next call tries anew.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), StateError> {
        if changes.is_empty() {
            return Ok(());
        }
        let database = self.take_database()?;
        guarded(&self.directory.join(FILE), || write(&database, changes))?;
        self.database = Some(database);
        Ok(())
    }

    /// The accepted timestamps of a key.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the record cannot be read: nothing may open.
    pub fn replay(&mut self, key: &PublicKey) -> Result<Option<ReplaySet>, StateError> {
        self.read(|transaction| replay_in(transaction, key))
    }

    /// The last accepted knock of a key.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read.
    pub fn last_knock(&mut self, key: &PublicKey) -> Result<Option<LastKnock>, StateError> {
        self.read(|transaction| {
            let value = transaction.open_table(KNOCKS)?.get(key.as_bytes())?;
            Ok(value.and_then(|value| serde_json::from_slice(value.value()).ok()))
        })
    }

    /// The greatest timestamp ever accepted, of any key.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read.
    pub fn greatest(&mut self) -> Result<UnixTime, StateError> {
        self.read(|transaction| {
            let value = transaction.open_table(META)?.get(GREATEST)?;
            Ok(UnixTime::from_nanos(value.map_or(0, |value| value.value())))
        })
    }

    /// When it was made, by the gateway's clock: whatever came earlier it cannot know.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read.
    pub fn began(&mut self) -> Result<Option<UnixTime>, StateError> {
        self.read(|transaction| {
            let value = transaction.open_table(META)?.get(BEGAN)?;
            Ok(value.map(|value| UnixTime::from_secs(value.value())))
        })
    }

    /// Every grant that is live or remembered.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read.
    pub fn grants(&mut self) -> Result<Vec<GrantRow>, StateError> {
        self.read(grants_in)
    }

    /// Every enrollment that is remembered, with the PSK of those whose client file was not written yet.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read.
    pub fn enrollments(&mut self) -> Result<Vec<(EnrollmentRow, Option<Psk>)>, StateError> {
        self.read(|transaction| {
            let (table, psks) = (transaction.open_table(ENROLLMENTS)?, transaction.open_table(PSKS)?);
            let rows = table.iter()?.map(|entry| {
                let (invite, value) = entry?;
                let psk = psks.get(invite.value())?.map(|psk| Psk::from_bytes(psk.value()));
                Ok((serde_json::from_slice(value.value())?, psk))
            });
            rows.collect()
        })
    }

    /// What is remembered of one invite's enrollment.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read: nobody may be enrolled.
    pub fn enrollment(&mut self, invite: &PublicKey) -> Result<Option<EnrollmentRow>, StateError> {
        self.read(|transaction| {
            let value = transaction.open_table(ENROLLMENTS)?.get(invite.as_bytes())?;
            Ok(value.map(|value| serde_json::from_slice(value.value())).transpose()?)
        })
    }

    /// What is remembered of a client's one-time codes.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read: no code may be believed.
    pub fn code(&mut self, client: &PublicKey) -> Result<Option<CodeRow>, StateError> {
        self.read(|transaction| code_in(transaction, client))
    }

    /// The wrong PINs that an invite's key has sent.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read: no PIN may be believed.
    pub fn pin(&mut self, invite: &PublicKey) -> Result<Option<PinRow>, StateError> {
        self.read(|transaction| {
            let value = transaction.open_table(PINS)?.get(invite.as_bytes())?;
            Ok(value.map(|value| serde_json::from_slice(value.value())).transpose()?)
        })
    }

    /// Every invite that has sent wrong PINs.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read.
    pub fn pins(&mut self) -> Result<Vec<(PublicKey, PinRow)>, StateError> {
        self.read(|transaction| {
            let table = transaction.open_table(PINS)?;
            let rows = table.iter()?.map(|entry| {
                let (invite, value) = entry?;
                Ok((PublicKey(*invite.value()), serde_json::from_slice(value.value())?))
            });
            rows.collect()
        })
    }

    /// What is used up of every one-time and rolling sequence.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read: none of them may be believed.
    pub fn sequences(&mut self) -> Result<Vec<SequenceRow>, StateError> {
        self.read(|transaction| {
            let table = transaction.open_table(SEQUENCES)?;
            let rows = table.iter()?.map(|entry| Ok(serde_json::from_slice(entry?.1.value())?));
            rows.collect()
        })
    }

    fn read<T>(&mut self, body: impl FnOnce(&redb::ReadTransaction) -> Result<T, Fault>) -> Result<T, StateError> {
        let database = self.take_database()?;
        let value = guarded(&self.directory.join(FILE), || body(&database.begin_read()?))?;
        self.database = Some(database);
        Ok(value)
    }

    /// The database, opened anew after a failure: the library refuses to go on with one whose write failed.
    fn take_database(&mut self) -> Result<Database, StateError> {
        self.database.take().map_or_else(|| open_database(&self.directory), Ok)
    }
}

fn replay_in(transaction: &redb::ReadTransaction, key: &PublicKey) -> Result<Option<ReplaySet>, Fault> {
    let value = transaction.open_table(REPLAY)?.get(key.as_bytes())?;
    Ok(value.map(|value| row::replay_from_bytes(value.value())))
}

fn code_in(transaction: &redb::ReadTransaction, client: &PublicKey) -> Result<Option<CodeRow>, Fault> {
    let value = transaction.open_table(CODES)?.get(client.as_bytes())?;
    Ok(value.map(|value| serde_json::from_slice(value.value())).transpose()?)
}

fn grants_in(transaction: &redb::ReadTransaction) -> Result<Vec<GrantRow>, Fault> {
    let table = transaction.open_table(GRANTS)?;
    let rows = table.iter()?.map(|entry| Ok(serde_json::from_slice(entry?.1.value())?));
    rows.collect()
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn open_database(directory: &Path) -> Result<Database, StateError> {
    let path = directory.join(FILE);
    if directory.is_dir() {
        private(directory, 0o700)?;
    }
    if let Err(error) = path.symlink_metadata() {
        return Err(match error.kind() {
            io::ErrorKind::NotFound => StateError::Missing(path),
            _ => StateError::io(&path, &error),
        });
    }
    private(&path, 0o600)?;
    guarded(&path, || {
        let database = builder().open(&path)?;
        let transaction = database.begin_read()?;
        let format = transaction.open_table(META)?.get(FORMAT)?.map(|value| value.value());
        match format {
            Some(FORMAT_NOW) => with_all_tables(database, &transaction),
            other => Err(Fault::Damaged(format!(
                "format {other:?}, where this version knows {FORMAT_NOW}"
            ))),
        }
    })
}

/// An older state lacks the tables that came later.
fn with_all_tables(database: Database, found: &redb::ReadTransaction) -> Result<Database, Fault> {
    let names: Vec<String> = found.list_tables()?.map(|table| table.name().to_owned()).collect();
    let later = [CODES.name(), PINS.name(), SEQUENCES.name(), GONE.name()];
    if later.iter().any(|table| !names.iter().any(|name| name == table)) {
        let transaction = database.begin_write()?;
        open_tables(&transaction)?;
        transaction.commit()?;
    }
    Ok(database)
}

/// Whoever may write here could make a spent timestamp fresh again.
fn private(path: &Path, mode: u32) -> Result<(), StateError> {
    check_private(path, mode).map_err(|error| StateError::Open(path.into(), error.into()))
}

fn open_tables(transaction: &redb::WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(META)?;
    transaction.open_table(REPLAY)?;
    transaction.open_table(KNOCKS)?;
    transaction.open_table(GRANTS)?;
    transaction.open_table(ENROLLMENTS)?;
    transaction.open_table(PSKS)?;
    transaction.open_table(CODES)?;
    transaction.open_table(PINS)?;
    transaction.open_table(SEQUENCES)?;
    transaction.open_table(GONE)?;
    Ok(())
}

fn write(database: &Database, changes: &[Change]) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    for change in changes {
        apply(&transaction, change)?;
    }
    transaction.commit()?;
    Ok(())
}

fn apply(transaction: &redb::WriteTransaction, change: &Change) -> Result<(), Fault> {
    match change {
        Change::Replay(key, set) => {
            transaction
                .open_table(REPLAY)?
                .insert(key.as_bytes(), &*row::replay_to_bytes(set))?;
            raise_greatest(transaction, set.greatest())?;
        }
        Change::ForgetReplay(key) => drop(transaction.open_table(REPLAY)?.remove(key.as_bytes())?),
        Change::Knock(key, knock) => {
            transaction
                .open_table(KNOCKS)?
                .insert(key.as_bytes(), &*serde_json::to_vec(knock)?)?;
        }
        Change::Grant(grant) => {
            transaction
                .open_table(GRANTS)?
                .insert(&*grant.key(), &*serde_json::to_vec(grant)?)?;
        }
        Change::ForgetGrant(grant) => drop(transaction.open_table(GRANTS)?.remove(&*grant.key())?),
        Change::Enrollment(row, psk) => {
            transaction
                .open_table(ENROLLMENTS)?
                .insert(row.invite.as_bytes(), &*serde_json::to_vec(row)?)?;
            transaction
                .open_table(PSKS)?
                .insert(row.invite.as_bytes(), psk.expose())?;
        }
        Change::EnrollmentWritten(invite) => drop(transaction.open_table(PSKS)?.remove(invite.as_bytes())?),
        Change::ForgetEnrollment(invite) => {
            transaction.open_table(ENROLLMENTS)?.remove(invite.as_bytes())?;
            transaction.open_table(PSKS)?.remove(invite.as_bytes())?;
        }
        Change::Code(client, row) => {
            transaction
                .open_table(CODES)?
                .insert(client.as_bytes(), &*serde_json::to_vec(row)?)?;
        }
        Change::Sequence(row) => {
            transaction
                .open_table(SEQUENCES)?
                .insert(&*row.name, &*serde_json::to_vec(row)?)?;
        }
        Change::ForgetCode(client) => drop(transaction.open_table(CODES)?.remove(client.as_bytes())?),
        Change::Pin(invite, row) => {
            transaction
                .open_table(PINS)?
                .insert(invite.as_bytes(), &*serde_json::to_vec(row)?)?;
        }
    }
    Ok(())
}

fn raise_greatest(transaction: &redb::WriteTransaction, timestamp: UnixTime) -> Result<(), Fault> {
    let mut table = transaction.open_table(META)?;
    let before = table.get(GREATEST)?.map_or(0, |value| value.value());
    if timestamp.as_nanos() > before {
        table.insert(GREATEST, timestamp.as_nanos())?;
    }
    Ok(())
}

/// What can go wrong inside the database.
enum Fault {
    Damaged(String),
    Io(String),
}

/// Runs a piece of database work. A damaged file may make the database panic: that is damage too, not our end.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, StateError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Fault::Damaged(what))) => Err(StateError::Damaged(path.into(), what)),
        Ok(Err(Fault::Io(what))) => Err(StateError::Io(path.into(), what)),
        Err(_) => Err(StateError::Damaged(path.into(), "its structure makes no sense".into())),
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => Self::Io(error.to_string()),
            redb::Error::PreviousIo | redb::Error::DatabaseAlreadyOpen => Self::Io(error.to_string()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

macro_rules! fault_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

fault_from!(
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError
);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Why the state cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// Another process holds the lock.
    Locked(PathBuf),
    /// There is one already.
    Exists(PathBuf),
    /// There is none.
    Missing(PathBuf),
    /// There is one, but it cannot be trusted.
    Damaged(PathBuf, String),
    /// It cannot be read or written now.
    Io(PathBuf, String),
    /// Others may read or write it, or own it: what is in it could be anybody's.
    Open(PathBuf, Failure),
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Open(_, failure) => failure,
            error => Self::new(Exit::Failed, error),
        }
    }
}

impl StateError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io(path.into(), error.to_string())
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(path) => write!(f, "{}: another spa-server holds the lock", path.display()),
            Self::Exists(path) => write!(f, "{} exists already", path.display()),
            Self::Missing(path) => write!(f, "{} is missing", path.display()),
            Self::Damaged(path, what) => write!(f, "{} is damaged: {what}", path.display()),
            Self::Io(path, what) => write!(f, "{}: {what}", path.display()),
            Self::Open(_, failure) => f.write_str(&failure.what),
        }
    }
}

impl std::error::Error for StateError {}

#[cfg(test)]
mod tests;

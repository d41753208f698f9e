//! The gateway's disk: played in memory with every way a write can end, or a real record in a folder.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use spa_keys::state::{Change, GrantRow, State, StateLock};
use spa_proto::{PublicKey, ReplayRecord, ReplaySet, UnixTime, Verdict};
use spa_server::journal::Journal;

/// How long everything is refused when the record was lost: twice the greatest window.
pub const WAIT: Duration = Duration::from_mins(10);

/// What becomes of one durable write. Nothing is ever half written: that is the database's part, which
/// `keys/src/state/tests/crash.rs` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// The disk says no, and has kept nothing.
    Refused,
    /// The disk says no, and has kept all of it.
    RefusedYetKept,
    /// The process ends, and the write with it.
    CrashLost,
    /// The process ends after the write and before anything is done about it.
    CrashKept,
}

/// How a commit ended for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Yes,
    No,
    Crashed,
}

/// What is on the disk.
#[derive(Clone, Default)]
pub struct Image {
    replay: BTreeMap<PublicKey, (UnixTime, Vec<UnixTime>)>,
    grants: BTreeMap<String, GrantRow>,
}

impl Image {
    fn write(&mut self, change: &Change) {
        match change {
            Change::Replay(key, set) => {
                self.replay.insert(*key, (set.floor(), set.members().to_vec()));
            }
            Change::Grant(row) => drop(self.grants.insert(row.key(), row.clone())),
            Change::ForgetGrant(row) => drop(self.grants.remove(&row.key())),
            _ => {}
        }
    }
}

pub enum Disk {
    /// No image: the record was lost.
    Played(Rc<RefCell<Option<Image>>>),
    Real(PathBuf),
}

/// An old state of a disk.
pub enum Snapshot {
    Played(Option<Image>),
    Real(Vec<u8>),
}

impl Disk {
    pub fn played() -> Self {
        Self::Played(Rc::new(RefCell::new(Some(Image::default()))))
    }

    pub fn real(folder: &Path) -> Self {
        drop(State::create(folder, StateLock::acquire(folder).unwrap()).unwrap());
        Self::Real(folder.into())
    }

    pub const fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }

    pub fn snapshot(&self) -> Snapshot {
        match self {
            Self::Played(image) => Snapshot::Played(image.borrow().clone()),
            Self::Real(folder) => Snapshot::Real(std::fs::read(folder.join("record.redb")).unwrap_or_default()),
        }
    }

    pub fn restore(&self, snapshot: &Snapshot) {
        match (self, snapshot) {
            (Self::Played(image), Snapshot::Played(old)) => image.borrow_mut().clone_from(old),
            (Self::Real(folder), Snapshot::Real(old)) => {
                let record = folder.join("record.redb");
                std::fs::write(&record, old).unwrap();
                std::fs::set_permissions(&record, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            }
            _ => unreachable!("a disk has its own snapshots"),
        }
    }

    pub fn lose(&self) {
        match self {
            Self::Played(image) => *image.borrow_mut() = None,
            Self::Real(folder) => drop(std::fs::remove_file(folder.join("record.redb"))),
        }
    }

    /// What the process that starts reads.
    pub fn open(&self, uptime: Duration) -> Record {
        match self {
            Self::Played(image) => {
                let waits_until = image.borrow().is_none().then_some(uptime + WAIT);
                Record::Played(Played {
                    image: Rc::clone(image),
                    waits_until,
                    ..Played::default()
                })
            }
            Self::Real(folder) => Record::Real(
                Journal::open(folder, StateLock::acquire(folder).unwrap(), uptime, WAIT)
                    .unwrap()
                    .0,
            ),
        }
    }
}

/// The record as the process uses it.
pub enum Record {
    Played(Played),
    Real(Journal),
}

/// `Journal` once more, on a played disk.
#[derive(Default)]
pub struct Played {
    image: Rc<RefCell<Option<Image>>>,
    sets: BTreeMap<PublicKey, ReplaySet>,
    touched: Vec<PublicKey>,
    staged: Vec<Change>,
    owed: Vec<Change>,
    waits_until: Option<Duration>,
}

impl Record {
    pub fn grants(&mut self) -> Vec<GrantRow> {
        match self {
            Self::Played(played) => {
                let image = played.image.borrow();
                image.iter().flat_map(|image| image.grants.values().cloned()).collect()
            }
            Self::Real(journal) => journal.state().map_or_else(Vec::new, |state| state.grants().unwrap()),
        }
    }

    pub fn waits_until(&self) -> Option<Duration> {
        match self {
            Self::Played(played) => played.waits_until,
            Self::Real(journal) => journal.waits_until(),
        }
    }

    pub fn end_wait(&mut self, uptime: Duration, wall: UnixTime) {
        match self {
            Self::Played(played) => {
                if played.waits_until.is_some_and(|until| uptime >= until) {
                    played.waits_until = None;
                    *played.image.borrow_mut() = Some(Image::default());
                }
            }
            Self::Real(journal) => drop(journal.end_wait(uptime, wall).unwrap()),
        }
    }

    pub fn stage(&mut self, change: Change) {
        match self {
            Self::Played(played) => played.staged.push(change),
            Self::Real(journal) => journal.stage(change),
        }
    }

    pub fn owe(&mut self, change: Change) {
        match self {
            Self::Played(played) => played.owed.push(change),
            Self::Real(journal) => journal.owe(change),
        }
    }

    pub fn is_clean(&self) -> bool {
        match self {
            Self::Played(played) => played.touched.is_empty() && played.staged.is_empty() && played.owed.is_empty(),
            Self::Real(journal) => journal.is_clean(),
        }
    }

    pub fn commit(&mut self, fate: Fate) -> Committed {
        match self {
            Self::Played(played) => played.commit(fate),
            Self::Real(_) if fate == Fate::CrashLost => Committed::Crashed,
            Self::Real(journal) => {
                journal.commit().unwrap();
                if fate == Fate::CrashKept {
                    Committed::Crashed
                } else {
                    Committed::Yes
                }
            }
        }
    }
}

impl Played {
    fn commit(&mut self, fate: Fate) -> Committed {
        let owed = self.owed.len();
        let mut changes = std::mem::take(&mut self.owed);
        changes.append(&mut self.staged);
        let sets = self
            .touched
            .iter()
            .map(|key| Change::Replay(*key, self.sets[key].clone()));
        changes.extend(sets);
        if let (Some(image), Fate::Done | Fate::RefusedYetKept | Fate::CrashKept) =
            (&mut *self.image.borrow_mut(), fate)
        {
            for change in &changes {
                image.write(change);
            }
        }
        match fate {
            Fate::Done => {
                self.touched.clear();
                Committed::Yes
            }
            Fate::Refused | Fate::RefusedYetKept => {
                changes.truncate(owed);
                self.owed = changes;
                Committed::No
            }
            Fate::CrashLost | Fate::CrashKept => Committed::Crashed,
        }
    }

    fn set(&mut self, key: &PublicKey) -> &mut ReplaySet {
        let image = self.image.borrow();
        self.sets.entry(*key).or_insert_with(|| {
            let stored = image.as_ref().and_then(|image| image.replay.get(key));
            stored.map_or_else(ReplaySet::default, |(floor, members)| {
                ReplaySet::restore(*floor, members.iter().copied())
            })
        })
    }
}

impl ReplayRecord for Record {
    fn claim(&mut self, client: &PublicKey, timestamp: UnixTime, retention: Duration) -> Verdict {
        let played = match self {
            Self::Real(journal) => return journal.claim(client, timestamp, retention),
            Self::Played(played) => played,
        };
        if played.waits_until.is_some() {
            return Verdict::Unavailable;
        }
        let set = played.set(client);
        let fresh = set.accept(timestamp, retention);
        assert!(set.members().len() <= ReplaySet::MOST);
        if !fresh {
            return Verdict::Replayed;
        }
        played.touched.push(*client);
        Verdict::Fresh
    }
}

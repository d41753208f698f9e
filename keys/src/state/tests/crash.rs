//! The database on a disk that stops at any write: what was not synced is kept, lost or torn, as chance has it.

use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::*;

const KEY: PublicKey = PublicKey([7; 32]);
const SECTOR: usize = 512;

/// Numbers that are the same in every run of one seed (SplitMix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

#[derive(Clone, Debug)]
enum Write {
    Octets(usize, Vec<u8>),
    Length(usize),
}

impl Write {
    fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Length(length) => octets.resize(*length, 0),
            Self::Octets(at, data) => octets[*at..at + data.len()].copy_from_slice(data),
        }
    }
}

#[derive(Debug, Default)]
struct Platter {
    /// What a power cut leaves for certain.
    synced: Vec<u8>,
    /// What the database sees.
    seen: Vec<u8>,
    /// What lies between the two.
    pending: Vec<Write>,
    /// How many writes and syncs there are to be still; none: the power is off.
    left: usize,
}

impl Platter {
    fn spend(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| io::Error::other("power cut"))?;
        Ok(())
    }

    fn write(&mut self, write: Write) -> io::Result<()> {
        let end = self.spend();
        // The write that the cut falls into may be half done.
        if end.is_ok() {
            write.apply(&mut self.seen);
        }
        self.pending.push(write);
        end
    }

    /// What is found after the cut: of what was not synced, any part of any write, sector by sector, in any order.
    fn after_cut(&mut self, dice: &mut Dice) -> Vec<u8> {
        let mut octets = std::mem::take(&mut self.synced);
        let all = dice.below(3) == 0;
        for write in self.pending.drain(..) {
            match &write {
                // A file is never shorter afterwards than a write that was kept needs it to be.
                Write::Length(length) => octets.resize((*length).max(octets.len()), 0),
                Write::Octets(at, data) => {
                    let fate = dice.below(3);
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        let kept = all || fate == 0 || (fate == 1 && dice.below(2) == 0);
                        let place = at + n * SECTOR;
                        if kept && place + sector.len() <= octets.len() {
                            octets[place..place + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        octets
    }
}

#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn of(octets: Vec<u8>, left: usize) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            synced: octets.clone(),
            seen: octets,
            pending: Vec::new(),
            left,
        })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Platter) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.with(|platter| Ok(platter.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.with(|platter| {
            let there = platter
                .seen
                .get(at..at + out.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(there);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|platter| platter.write(Write::Length(usize::try_from(length).unwrap())))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|platter| {
            platter.spend()?;
            platter.synced.clone_from(&platter.seen);
            platter.pending.clear();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|platter| platter.write(Write::Octets(usize::try_from(offset).unwrap(), data.to_vec())))
    }
}

fn state(disk: &Disk, folder: &Path) -> Option<State> {
    let database = builder().create_with_backend(disk.clone()).ok()?;
    Some(State {
        directory: folder.into(),
        database: Some(database),
        _lock: lock(folder),
    })
}

/// An empty record, whole and synced.
fn new_record(folder: &Path) -> Vec<u8> {
    let disk = Disk::of(Vec::new(), usize::MAX);
    let state = state(&disk, folder).unwrap();
    let transaction = state.database.as_ref().unwrap().begin_write().unwrap();
    open_tables(&transaction).ok().unwrap();
    transaction.commit().unwrap();
    drop(state);
    disk.with(|platter| platter.seen.clone())
}

/// The nth commit: timestamps up to n are taken, and a grant says n.
fn nth(n: u64) -> [Change; 2] {
    let members = (1..=n).map(UnixTime::from_secs);
    let set = ReplaySet::restore(UnixTime::default(), members);
    let grant = GrantRow {
        changed: UnixTime::from_secs(n),
        ..grant()
    };
    [Change::Replay(KEY, set), Change::Grant(grant)]
}

/// How many commits the state has; both of its tables must say the same.
fn commits(state: &mut State) -> u64 {
    let set = state.replay(&KEY).unwrap().unwrap_or_default();
    let changed = state
        .grants()
        .unwrap()
        .first()
        .map_or(0, |grant| grant.changed.as_secs());
    assert_eq!(
        set,
        ReplaySet::restore(UnixTime::default(), (1..=changed).map(UnixTime::from_secs))
    );
    assert_eq!(state.greatest().unwrap().as_secs(), changed);
    changed
}

#[test]
fn a_commit_is_there_whole_or_not_at_all_wherever_the_power_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let first = new_record(folder.path());
    let (mut cuts, mut kept, mut lost) = (0, 0, 0);
    for seed in 0..15 {
        let mut dice = Dice(seed);
        let (mut octets, mut acknowledged) = (first.clone(), 0);
        for _ in 0..6 {
            let disk = Disk::of(octets, 1 + dice.below(60));
            // The cut may fall into the repair of an earlier one.
            if let Some(mut state) = state(&disk, folder.path()) {
                if disk.with(|platter| platter.left) > 0 {
                    let found = commits(&mut state);
                    assert!(
                        found == acknowledged || found == acknowledged + 1,
                        "seed {seed}: {found}"
                    );
                    (kept, lost) = (kept + found - acknowledged, lost + u64::from(found == acknowledged));
                    acknowledged = found;
                }
                while state.commit(&nth(acknowledged + 1)).is_ok() {
                    acknowledged += 1;
                }
            }
            cuts += 1;
            octets = disk.with(|platter| platter.after_cut(&mut dice));
        }
        let mut whole = state(&Disk::of(octets, usize::MAX), folder.path()).expect("it can be opened");
        let found = commits(&mut whole);
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "seed {seed}: {found}"
        );
    }
    assert!(cuts == 90 && kept > 0 && lost > 0, "{kept} kept, {lost} lost");
}

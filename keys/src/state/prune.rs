//! What need not be remembered any longer is forgotten, later than the protocol asks (step 7, "Enrollment in one packet").

use std::time::Duration;

use redb::ReadableTable;
use spa_proto::{PublicKey, UnixTime};

use super::{CODES, ENROLLMENTS, EnrollmentRow, FILE, Fault, GONE, KNOCKS, PINS, PSKS, PinRow, REPLAY};
use super::{State, StateError, guarded};

/// How long a record outlives its client: the protocol asks for two days, a clock may be wrong by some hours.
const RECORD: Duration = Duration::from_hours(3 * 24);
/// Longer than any invite lives and is remembered: 30 days and two.
const INVITE: Duration = Duration::from_hours(33 * 24);

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Keys with their replay record, last knock and one-time codes.
    pub keys: usize,
    /// Enrollments and wrong PINs of invites.
    pub invites: usize,
}

/// What is to be written.
#[derive(Default)]
struct Plan {
    gone: Vec<[u8; 32]>,
    back: Vec<[u8; 32]>,
    forget: Vec<[u8; 32]>,
    enrollments: Vec<[u8; 32]>,
    pins: Vec<[u8; 32]>,
}

impl State {
    /// Forgets the record of keys that have been nobody's for three days, and what is known of invites that ended long
    /// ago. `is_known` says whether a client or an invite has a key; it must not say no because a file is broken.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read or written; nothing is forgotten then.
    pub fn prune(&mut self, now: UnixTime, is_known: impl Fn(&PublicKey) -> bool) -> Result<Pruned, StateError> {
        let plan = self.read(|transaction| plan(transaction, now, &is_known))?;
        let pruned = Pruned {
            keys: plan.forget.len(),
            invites: plan.enrollments.len() + plan.pins.len(),
        };
        if !plan.is_empty() {
            let database = self.take_database()?;
            guarded(&self.directory.join(FILE), || {
                let transaction = database.begin_write()?;
                write(&transaction, &plan, now)?;
                Ok(transaction.commit()?)
            })?;
            self.database = Some(database);
        }
        Ok(pruned)
    }
}

impl Plan {
    fn is_empty(&self) -> bool {
        let all = [&self.gone, &self.back, &self.forget, &self.enrollments, &self.pins];
        all.iter().all(|keys| keys.is_empty())
    }
}

fn plan(
    transaction: &redb::ReadTransaction,
    now: UnixTime,
    is_known: &impl Fn(&PublicKey) -> bool,
) -> Result<Plan, Fault> {
    let mut plan = Plan::default();
    let gone = transaction.open_table(GONE)?;
    for entry in transaction.open_table(REPLAY)?.iter()? {
        let key = *entry?.0.value();
        let since = gone.get(&key)?.map(|since| UnixTime::from_secs(since.value()));
        match (is_known(&PublicKey(key)), since) {
            (true, Some(_)) => plan.back.push(key),
            (false, None) => plan.gone.push(key),
            (false, Some(since)) if now > since.saturating_add(RECORD) => plan.forget.push(key),
            _ => {}
        }
    }
    let psks = transaction.open_table(PSKS)?;
    for entry in transaction.open_table(ENROLLMENTS)?.iter()? {
        let (invite, row) = entry?;
        let row: EnrollmentRow = serde_json::from_slice(row.value())?;
        if now > row.at.saturating_add(INVITE) && psks.get(invite.value())?.is_none() {
            plan.enrollments.push(*invite.value());
        }
    }
    for entry in transaction.open_table(PINS)?.iter()? {
        let (invite, row) = entry?;
        let row: PinRow = serde_json::from_slice(row.value())?;
        if now > row.at.saturating_add(INVITE) {
            plan.pins.push(*invite.value());
        }
    }
    Ok(plan)
}

fn write(transaction: &redb::WriteTransaction, plan: &Plan, now: UnixTime) -> Result<(), Fault> {
    let mut gone = transaction.open_table(GONE)?;
    for key in &plan.gone {
        gone.insert(key, now.as_secs())?;
    }
    for key in plan.back.iter().chain(&plan.forget) {
        gone.remove(key)?;
    }
    let (mut replay, mut knocks) = (transaction.open_table(REPLAY)?, transaction.open_table(KNOCKS)?);
    let mut codes = transaction.open_table(CODES)?;
    for key in &plan.forget {
        replay.remove(key)?;
        knocks.remove(key)?;
        codes.remove(key)?;
    }
    let (mut enrollments, mut pins) = (transaction.open_table(ENROLLMENTS)?, transaction.open_table(PINS)?);
    for invite in &plan.enrollments {
        enrollments.remove(invite)?;
    }
    for invite in &plan.pins {
        pins.remove(invite)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use spa_proto::{Psk, ReplaySet};

    use super::super::{Change, CodeRow, StateLock};
    use super::*;

    const START: UnixTime = UnixTime::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_hours(1);

    fn state() -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::acquire(dir.path()).unwrap();
        let state = State::create(dir.path(), lock).unwrap();
        (dir, state)
    }

    fn after(hours: u32) -> UnixTime {
        START.saturating_add(HOUR * hours)
    }

    #[test]
    fn a_record_outlives_its_client_by_more_than_two_days() {
        let (_dir, mut state) = state();
        let key = PublicKey([1; 32]);
        let set = ReplaySet::restore(UnixTime::default(), [START]);
        let code = CodeRow::default();
        state
            .commit(&[Change::Replay(key, set), Change::Code(key, code)])
            .unwrap();
        let (known, gone) = (|_: &PublicKey| true, |_: &PublicKey| false);
        assert_eq!(state.prune(after(1000), known).unwrap(), Pruned::default());
        assert_eq!(
            state.prune(after(1000), gone).unwrap(),
            Pruned::default(),
            "gone since now"
        );
        assert_eq!(state.prune(after(1071), gone).unwrap(), Pruned::default());
        assert_eq!(
            state.prune(after(1072), known).unwrap(),
            Pruned::default(),
            "back again"
        );
        assert_eq!(state.prune(after(1080), gone).unwrap(), Pruned::default(), "gone anew");
        assert!(state.replay(&key).unwrap().is_some());
        assert_eq!(state.prune(after(1153), gone).unwrap().keys, 1);
        assert_eq!((state.replay(&key).unwrap(), state.code(&key).unwrap()), (None, None));
    }

    #[test]
    fn enrollments_outlive_every_invite() {
        let (_dir, mut state) = state();
        let row = |invite: u8| EnrollmentRow {
            invite: PublicKey([invite; 32]),
            public_key: PublicKey([9; 32]),
            psk_digest: [3; 32],
            name: "alice".into(),
            label: String::new(),
            at: START,
            source: "192.0.2.7".parse().unwrap(),
        };
        let wrong = PinRow {
            wrong: vec![1],
            at: START,
        };
        let psk = || Psk::from_bytes(&[4; 32]);
        let changes = [
            Change::Enrollment(row(1), psk()),
            Change::Enrollment(row(2), psk()),
            Change::EnrollmentWritten(PublicKey([1; 32])),
            Change::Pin(PublicKey([3; 32]), wrong),
        ];
        state.commit(&changes).unwrap();
        assert_eq!(state.prune(after(33 * 24), |_| false).unwrap().invites, 0);
        assert_eq!(state.prune(after(33 * 24 + 1), |_| false).unwrap().invites, 2);
        let left: Vec<_> = state
            .enrollments()
            .unwrap()
            .into_iter()
            .map(|(row, _)| row.invite)
            .collect();
        assert_eq!(left, [PublicKey([2; 32])], "one whose file was never written stays");
        assert!(state.pins().unwrap().is_empty());
    }
}

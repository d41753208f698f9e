//! The PIN of an invite ("Enrollment in one packet"). Pure: the invite, what came before and a code in, a verdict out.

use std::fmt;

use spa_keys::Invite;
use spa_keys::state::PinRow;
use spa_proto::{Code, UnixTime};

/// Why an enroll is refused because of its PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinError {
    /// None was sent. It counts nothing.
    Missing,
    /// A wrong one, for the first time: it must be recorded.
    Wrong {
        /// How many different ones there were.
        count: usize,
    },
    /// A wrong one that came before. It counts nothing.
    Again,
    /// The invite is spent by wrong ones.
    Spent,
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the PIN is missing"),
            Self::Wrong { count: PinRow::MOST.. } => f.write_str("the PIN is wrong, and the invite is spent by it"),
            Self::Wrong { count } => write!(f, "the PIN is wrong, {count} of {} different ones", PinRow::MOST),
            Self::Again => f.write_str("the PIN is wrong, the same as before"),
            Self::Spent => write!(f, "the invite was spent by {} wrong PINs", PinRow::MOST),
        }
    }
}

/// Judges the PIN that came with an enroll at `now`. No pause follows a wrong one: five spend the invite.
///
/// # Errors
///
/// [`PinError`]: nobody may be enrolled.
pub fn judge(row: &mut PinRow, invite: &Invite, code: Option<Code>, now: UnixTime) -> Result<(), PinError> {
    if row.is_spent() {
        return Err(PinError::Spent);
    }
    if invite.pin.is_none() {
        return Ok(());
    }
    let code = code.ok_or(PinError::Missing)?;
    if invite.is_pin(code) {
        return Ok(());
    }
    if row.wrong.contains(&code.number()) {
        return Err(PinError::Again);
    }
    row.wrong.push(code.number());
    row.at = now;
    Err(PinError::Wrong { count: row.wrong.len() })
}

#[cfg(test)]
mod tests {
    use getrandom::SysRng;
    use getrandom::rand_core::UnwrapErr;
    use spa_keys::Terms;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const PIN: u32 = 12_345_678;

    fn invite(pin: Option<u32>) -> Invite {
        let name = "bob".parse().unwrap();
        let (_, mut invite) = Invite::generate(name, NOW, Terms::default(), &mut UnwrapErr(SysRng));
        invite.pin = pin.map(|pin| Code::new(pin).unwrap());
        invite
    }

    fn fresh() -> PinRow {
        PinRow {
            wrong: Vec::new(),
            at: NOW,
        }
    }

    fn send(row: &mut PinRow, code: u32) -> Result<(), PinError> {
        judge(row, &invite(Some(PIN)), Some(Code::new(code).unwrap()), NOW)
    }

    #[test]
    fn a_missing_one_counts_nothing() {
        let mut row = fresh();
        for _ in 0..20 {
            assert_eq!(judge(&mut row, &invite(Some(PIN)), None, NOW), Err(PinError::Missing));
        }
        assert_eq!(row, fresh());
    }

    #[test]
    fn five_different_wrong_ones_spend_the_invite() {
        let mut row = fresh();
        for (wrong, count) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
            assert_eq!(send(&mut row, wrong), Err(PinError::Wrong { count }));
            assert_eq!(send(&mut row, wrong), Err(PinError::Again));
            assert_eq!(send(&mut row, 1), Err(PinError::Again));
        }
        assert_eq!(send(&mut row.clone(), PIN), Ok(()), "four are forgiven");
        assert_eq!(send(&mut row, 5), Err(PinError::Wrong { count: 5 }));
        assert_eq!(send(&mut row, PIN), Err(PinError::Spent));
    }

    #[test]
    fn one_that_is_not_demanded_is_ignored() {
        assert_eq!(judge(&mut fresh(), &invite(None), None, NOW), Ok(()));
        assert_eq!(judge(&mut fresh(), &invite(None), Code::new(7).ok(), NOW), Ok(()));
    }
}

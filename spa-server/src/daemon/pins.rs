//! PINs around their judgement ("Enrollment in one packet"): a wrong one is counted durably, and in memory where the disk
//! refuses.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use spa_keys::directory::Written;
use spa_keys::invites::Spent;
use spa_keys::state::{Change, PinRow, State};
use spa_proto::{Code, PublicKey, UnixTime};
use tracing::{error, warn};

use super::Daemon;
use crate::journal::Journal;
use crate::pin::{self, PinError};
use crate::refusals::Reason;

/// The wrong PINs of invites that sent any since the start.
#[derive(Default)]
pub(super) struct Pins(HashMap<PublicKey, PinRow>);

impl Pins {
    fn row(&mut self, invite: &PublicKey, now: UnixTime, journal: &mut Journal) -> Result<&mut PinRow, String> {
        match self.0.entry(*invite) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let row = journal.state().map(|state: &mut State| state.pin(invite)).transpose();
                let row = row.map_err(|error| error.to_string())?.flatten();
                let none = PinRow {
                    wrong: Vec::new(),
                    at: now,
                };
                Ok(place.insert(row.unwrap_or(none)))
            }
        }
    }
}

impl Daemon {
    /// Checks the PIN of an enroll where one is demanded. A wrong one is durable before it is answered for.
    pub(super) fn check_pin(
        &mut self,
        now: UnixTime,
        invite: &PublicKey,
        code: Option<Code>,
    ) -> Result<(), (Reason, String)> {
        let Some(demanded) = self.keys.invite(invite).filter(|invite| invite.pin.is_some()) else {
            return Ok(());
        };
        let row = self.pins.row(invite, now, &mut self.journal);
        let row = row.map_err(|error| (Reason::Record, error))?;
        let judged = pin::judge(row, demanded, code, now);
        if let Err(PinError::Wrong { .. }) = judged {
            let row = row.clone();
            self.count_wrong(invite, row);
        }
        judged.map_err(|error| (Reason::Enroll, error.to_string()))
    }

    fn count_wrong(&mut self, invite: &PublicKey, row: PinRow) {
        let (spent, at) = (row.is_spent(), row.at);
        // Owed, not staged: it holds whatever the disk says.
        self.journal.owe(Change::Pin(*invite, row));
        if let Err(error) = self.journal.commit() {
            warn!("a wrong PIN could not be recorded: {error}");
        }
        if spent {
            let client = self.name_of(invite);
            error!(
                client,
                "an invite was spent by wrong PINs: somebody who should not have it tries it; nobody was enrolled"
            );
            self.write_spent_by_pins(invite, at);
        }
    }

    fn write_spent_by_pins(&mut self, invite: &PublicKey, at: UnixTime) {
        if self.dry_run {
            return;
        }
        match self.keys.write_spent(invite, &Spent::by_wrong_pins(at)) {
            Ok(Written::New | Written::Already | Written::Gone) => {}
            Err(error) => error!("that an invite was spent could not be written: {error}"),
        }
    }

    /// Notes in the files of invites what the state knows of wrong PINs: the daemon may have ended in between.
    pub(super) fn roll_pins_forward(&mut self) {
        match self.journal.state().map(State::pins) {
            Some(Ok(rows)) => {
                for (invite, row) in rows.into_iter().filter(|(_, row)| row.is_spent()) {
                    self.write_spent_by_pins(&invite, row.at);
                }
            }
            Some(Err(error)) => error!("wrong PINs could not be read: {error}"),
            None => {}
        }
    }
}

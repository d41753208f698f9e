//! One-time codes around their judgement (step 8): what was remembered, and what must be durable before anything opens.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use spa_keys::directory::ClientView;
use spa_keys::state::{Change, CodeRow, State};
use spa_proto::{Code, Moment, PublicKey};

use super::Daemon;
use crate::code::CodeGuard;
use crate::journal::Journal;
use crate::refusals::Reason;

/// What is kept of the clients that must send codes and have proved their key since the start.
#[derive(Default)]
pub(super) struct Codes(HashMap<PublicKey, CodeGuard>);

impl Codes {
    fn guard(&mut self, now: Moment, client: &PublicKey, journal: &mut Journal) -> Result<&mut CodeGuard, String> {
        match self.0.entry(*client) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let row = journal.state().map(|state: &mut State| state.code(client)).transpose();
                let row: CodeRow = row.map_err(|error| error.to_string())?.flatten().unwrap_or_default();
                Ok(place.insert(CodeGuard::restore(&row, now)))
            }
        }
    }

    /// Begins anew, at an operator's command.
    pub(super) fn forget(&mut self, client: &PublicKey) {
        self.0.remove(client);
    }
}

impl Daemon {
    /// Checks the code of an opening where one is demanded. What came of it is staged in either case, also of a repeat:
    /// the commit that its first use waited for may have failed.
    pub(super) fn check_code(
        &mut self,
        now: Moment,
        client: &PublicKey,
        code: Option<Code>,
    ) -> Result<(), (Reason, String)> {
        let Some(secret) = self.keys.client(client).and_then(ClientView::one_time_code) else {
            return Ok(());
        };
        let guard = self.codes.guard(now, client, &mut self.journal);
        let guard = guard.map_err(|error| (Reason::Record, error))?;
        let judged = guard.judge(now, secret, code);
        let row = guard.row(now);
        self.journal.stage(Change::Code(*client, row));
        judged.map_err(|error| (Reason::Code, error.to_string()))
    }
}

//! What waits to be confirmed, on the firewall process's side: it alone may read and write what `apply --confirm` remembers.

use std::time::Duration;

use tracing::warn;

use super::keeper::Keeper;
use super::message::{Answer, Manner, Refused, Reply, Undo, Waiting};
use crate::clock;
use crate::config::Source;
use crate::confirm::start::say;
use crate::confirm::{Record, Undoing, Verdict};

/// How long a request waits for the lock: commands hold it for milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

impl Keeper {
    pub(super) fn confirmed(&self) -> Result<Source, Refused> {
        let record = self.ledger.read().map_err(Refused::failed)?;
        record.confirmed.ok_or_else(|| Refused::failed("no copy was kept"))
    }

    pub(super) fn waiting(&self) -> Result<Waiting, Refused> {
        // Taken before: a change in between is then seen by the next look.
        let stamp = self.ledger.stamp();
        let record = self.ledger.read().map_err(Refused::failed)?;
        Ok(Waiting { stamp, ..told(&record) })
    }

    /// What is in force now is remembered.
    pub(super) fn remember(&mut self, manner: &Manner) -> Answer {
        let standing = self.standing.as_ref();
        let source = standing.ok_or_else(|| Refused::failed("no configuration is in force yet"))?;
        let source = source.source.clone();
        let remembered = self.ledger.change_or_begin(PATIENCE, |record| {
            let is_wanted = record.loaded(&source, manner.intent());
            (is_wanted, told(record))
        });
        let (is_wanted, waiting) = remembered?;
        Ok(Reply::Remembered(is_wanted, waiting))
    }

    /// Kept again should the disk have refused it when it was loaded.
    pub(super) fn keep_copy(&mut self) -> Answer {
        let standing = self.standing.as_ref().map(|standing| standing.source.clone());
        let is_kept = |record: Record| record.confirmed.is_some() && record.confirmed == standing;
        if !self.ledger.read().is_ok_and(is_kept)
            && let Err(why) = self.remember(&Manner::Plain(None))
        {
            warn!("what is in force cannot be kept as the confirmed copy: {why}");
        }
        let record = self.ledger.read().map_err(Refused::failed)?;
        let waiting = told(&record);
        Ok(Reply::Remembered(is_kept(record), waiting))
    }

    /// The file first; the rules are the partner's to ask for.
    pub(super) fn begin_undo(&mut self, patience: Duration) -> Answer {
        let held = match self.ledger.lock(patience.min(PATIENCE)) {
            Ok(held) => held,
            Err(error) => return Ok(Reply::Undo(Undo::Busy(error.to_string()))),
        };
        let record = self.ledger.read().map_err(Refused::failed)?;
        let Verdict::Undo(why) = record.verdict(clock::uptime(), &clock::boot_id()) else {
            return Ok(Reply::Undo(Undo::Settled));
        };
        let undoing = Undoing::begin(&self.ledger, held, record);
        let source = undoing.source().map_err(Refused::Findings)?;
        self.read = Some(source.clone());
        self.undoing = Some((undoing, Some(why)));
        Ok(Reply::Undo(Undo::Begun(source)))
    }

    pub(super) fn finish_undo(&mut self) -> Answer {
        let Some((undoing, why)) = self.undoing.take() else {
            return Err(Refused::failed("nothing is being undone"));
        };
        if let Some(why) = why {
            say(&undoing, why);
        }
        undoing.finish()?;
        Ok(Reply::Trial(self.waiting()?))
    }
}

fn told(record: &Record) -> Waiting {
    let deadline = |nanos| Duration::from_nanos(nanos);
    let waits = record.pending.as_ref();
    Waiting {
        stamp: None,
        waits: waits.map(|pending| (pending.nonce.clone(), deadline(pending.deadline))),
        undone: record.undone.clone(),
    }
}

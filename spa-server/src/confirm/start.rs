//! Which configuration a start begins with: the pending one in the same boot before its deadline, else the confirmed.

use spa_keys::Paths;
use tracing::{error, warn};

use super::ledger::{Ledger, PATIENCE};
use super::record::{Record, Verdict, Why};
use super::undoing::Undoing;
use crate::clock;
use crate::config::{Finding, Source};

/// What to begin with.
#[derive(Debug)]
pub struct Beginning {
    /// The text that is to be in force.
    pub source: Source,
    /// A change that is being undone by it: finished when the rules are in place.
    pub undoing: Option<Undoing>,
    /// The nonce of the change that waited before the text was read.
    pub waits: Option<String>,
}

impl Beginning {
    /// Reads what is to be in force, putting the confirmed copy back where a change was not confirmed.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be read.
    pub fn of(paths: &Paths) -> Result<Self, Vec<Finding>> {
        let ledger = Ledger::of(paths);
        let record = read(&ledger);
        match record.verdict(clock::uptime(), &clock::boot_id()) {
            Verdict::Settled => {
                if let Some(undone) = &record.undone {
                    let rejected = undone.rejected.as_ref().map(|path| path.display().to_string());
                    warn!(at = undone.at, rejected, "the last change of server.toml was undone");
                }
                Self::plain(paths)
            }
            Verdict::Waits(left) => {
                let left_s = left.as_secs();
                warn!(left_s, "this configuration is not confirmed: spa-server confirm");
                let waits = record.pending.map(|pending| pending.nonce);
                Ok(Self {
                    waits,
                    ..Self::plain(paths)?
                })
            }
            Verdict::Undo(_) => Self::undo(paths, &ledger),
        }
    }

    /// server.toml as it is, whatever is pending: for a dry run.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be read.
    pub fn plain(paths: &Paths) -> Result<Self, Vec<Finding>> {
        Ok(Self {
            source: Source::read(&paths.config)?,
            undoing: None,
            waits: None,
        })
    }

    fn undo(paths: &Paths, ledger: &Ledger) -> Result<Self, Vec<Finding>> {
        let held = match ledger.lock(PATIENCE) {
            Ok(held) => held,
            Err(error) => {
                // A disk that cannot be written yet, early at boot say: the confirmed copy counts all the same.
                error!("the change that nobody confirmed cannot be taken back on the disk yet: {error}");
                let confirmed = read(ledger).confirmed;
                let source = confirmed.map_or_else(|| Source::read(&paths.config), Ok)?;
                return Ok(Self {
                    source,
                    undoing: None,
                    waits: None,
                });
            }
        };
        // Another process may have undone it while the lock was waited for.
        let record = read(ledger);
        let Verdict::Undo(why) = record.verdict(clock::uptime(), &clock::boot_id()) else {
            return Self::plain(paths);
        };
        let undoing = Undoing::begin(ledger, held, record);
        say(&undoing, why);
        Ok(Self {
            source: undoing.source()?,
            undoing: Some(undoing),
            waits: None,
        })
    }
}

/// What cannot be read says nothing: server.toml is then what there is.
fn read(ledger: &Ledger) -> Record {
    ledger.read().unwrap_or_else(|error| {
        warn!("whether a change waits to be confirmed is not known: {error}");
        Record::default()
    })
}

/// Says loudly why another configuration is in force than the one last written.
pub fn say(undoing: &Undoing, why: Why) {
    let why = match why {
        Why::Overdue => "nobody confirmed it in time",
        Why::Reboot => "the host was started anew before anybody confirmed it",
        Why::Begun => "it was being undone already",
    };
    let rejected = undoing.rejected().map(|path| path.display().to_string());
    error!(
        rejected,
        "the last change of server.toml is undone: {why}; the confirmed copy is in force again"
    );
}

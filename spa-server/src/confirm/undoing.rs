//! Undoing a change, in an order that a crash at any point leaves something to go on from: first it is too late to
//! confirm, then the file is back, then the caller puts the rules back, and only then is it over.

use std::path::{Path, PathBuf};

use spa_keys::units::format_time;
use spa_keys::{Exit, Failure};
use tracing::{error, warn};

use super::ledger::{Held, Ledger};
use super::record::Record;
use crate::backend::place::{Content, put_instead};
use crate::clock;
use crate::config::{Config, Finding, Source};

/// A change that is being undone, and the lock that keeps others from it.
#[derive(Debug)]
pub struct Undoing {
    ledger: Ledger,
    held: Held,
    record: Record,
    /// What kept the file from being put back.
    fault: Option<String>,
}

impl Undoing {
    /// Makes it too late to confirm and puts the confirmed copy back as server.toml. What the disk refuses is no reason
    /// to leave the rules as they are: it is said, and tried again by whoever finishes.
    #[must_use]
    pub fn begin(ledger: &Ledger, held: Held, record: Record) -> Self {
        let ledger = ledger.clone();
        let mut undoing = Self {
            ledger,
            held,
            record,
            fault: None,
        };
        undoing.record.begin_undo();
        undoing.write();
        undoing.put_back();
        undoing.write();
        undoing
    }

    fn put_back(&mut self) {
        // Without a copy there is nothing that could come back; the edited file stays.
        let Some(confirmed) = &self.record.confirmed else {
            return;
        };
        let content = Content {
            text: confirmed.text.clone().into_bytes(),
            owner: Some(confirmed.owner),
            mode: confirmed.mode,
        };
        let file = &self.ledger.config;
        match put_instead(file, &content, |number| rejected(file, number)) {
            Ok(aside) => self.record.put_back(aside),
            Err(error) => {
                let fault = format!("{} cannot be put back: {error}", file.display());
                error!("{fault}");
                self.fault = Some(fault);
            }
        }
    }

    fn write(&self) {
        if let Err(error) = self.ledger.write(&self.held, &self.record) {
            warn!("how far a change is undone cannot be remembered: {error}");
        }
    }

    /// What is to be in force again: the confirmed copy, or server.toml where none was ever kept.
    ///
    /// # Errors
    ///
    /// When there is neither.
    pub fn source(&self) -> Result<Source, Vec<Finding>> {
        self.record
            .confirmed
            .clone()
            .map_or_else(|| Source::read(&self.ledger.config), Ok)
    }

    /// The same, checked.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn config(&self) -> Result<Config, Vec<Finding>> {
        let (config, _) = Config::from_source(&self.ledger.config, &self.source()?)?;
        Ok(config)
    }

    /// Where what was in server.toml is now.
    #[must_use]
    pub fn rejected(&self) -> Option<&Path> {
        self.record.pending.as_ref()?.rejected.as_deref()
    }

    /// The rules are back: it is over.
    ///
    /// # Errors
    ///
    /// When the file is not back or that it is over cannot be remembered: then it is to be tried again.
    pub fn finish(mut self) -> Result<Option<PathBuf>, Failure> {
        if let Some(fault) = self.fault {
            return Err(Failure::new(Exit::Failed, fault));
        }
        let rejected = self.rejected().map(Path::to_owned);
        self.record.undone(format_time(clock::wall()));
        self.ledger.write(&self.held, &self.record)?;
        Ok(rejected)
    }
}

/// `server.toml.rejected`, then `server.toml.rejected.1` and so on: what was rejected before stays.
fn rejected(file: &Path, number: u32) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".rejected");
    if number > 0 {
        name.push(format!(".{number}"));
    }
    file.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confirm::Intent;
    use crate::confirm::ledger::PATIENCE;
    use spa_keys::Paths;
    use std::fs;
    use std::time::Duration;

    const OLD: &str = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.7\"]\n";

    /// "old" confirmed, and something else on trial.
    fn trial(dir: &Path) -> Ledger {
        fs::create_dir_all(dir.join("state")).unwrap();
        let file = dir.join("server.toml");
        fs::write(&file, OLD).unwrap();
        let ledger = Ledger::of(&Paths::new(Some(dir), None));
        let old = Source::read(&file).unwrap();
        let arm = |record: &mut Record| {
            assert!(record.loaded(&old, Intent::Plain(None)));
            record.arm("a", "boot", Duration::from_secs(1));
        };
        ledger.change(PATIENCE, arm).unwrap();
        ledger
    }

    fn begin(ledger: &Ledger) -> Undoing {
        let held = ledger.lock(PATIENCE).unwrap();
        Undoing::begin(ledger, held, ledger.read().unwrap())
    }

    #[test]
    fn interrupted_it_goes_on_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = trial(dir.path());
        fs::write(&ledger.config, "edited").unwrap();
        drop(begin(&ledger));
        assert_eq!(fs::read_to_string(&ledger.config).unwrap(), OLD);
        assert!(ledger.read().unwrap().pending.unwrap().undoing);
        let again = begin(&ledger);
        assert_eq!(again.config().unwrap().host.as_deref(), Some("gw"));
        let rejected = again.finish().unwrap().unwrap();
        assert_eq!(
            rejected,
            dir.path().canonicalize().unwrap().join("server.toml.rejected")
        );
        assert_eq!(fs::read_to_string(&rejected).unwrap(), "edited");
        let record = ledger.read().unwrap();
        assert_eq!(
            (record.pending, record.undone.unwrap().rejected),
            (None, Some(rejected))
        );
    }

    #[test]
    fn a_file_that_was_taken_away_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = trial(dir.path());
        fs::remove_file(&ledger.config).unwrap();
        assert_eq!(begin(&ledger).finish().unwrap(), None);
        assert_eq!(fs::read_to_string(&ledger.config).unwrap(), OLD);
    }

    #[test]
    fn what_was_rejected_before_stays() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = trial(dir.path());
        fs::write(dir.path().join("server.toml.rejected"), "earlier").unwrap();
        fs::write(&ledger.config, "edited").unwrap();
        let rejected = begin(&ledger).finish().unwrap().unwrap();
        assert!(rejected.ends_with("server.toml.rejected.1"));
        assert_eq!(
            fs::read_to_string(dir.path().join("server.toml.rejected")).unwrap(),
            "earlier"
        );
    }
}

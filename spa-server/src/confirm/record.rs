//! What is remembered of server.toml: the copy that was confirmed, and the change that is not confirmed yet. Pure.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Source;

/// One configuration file's past and present; durable as one file, replaced in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which server.toml.
    pub config: PathBuf,
    /// What comes back when a change is not confirmed.
    pub confirmed: Option<Source>,
    /// The change that waits for `spa-server confirm`.
    pub pending: Option<Pending>,
    /// The last change, if it was undone.
    pub undone: Option<Undone>,
}

/// A change that undoes itself unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Whose the deadline is: only the armed process that knows it acts on it.
    pub nonce: String,
    /// The boot that the deadline belongs to.
    pub boot_id: String,
    /// When it is undone, in nanoseconds on the clock that starts with the boot.
    pub deadline: u64,
    /// What a daemon has loaded since; nothing when none got so far.
    pub candidate: Option<Source>,
    /// It is being undone: too late to confirm.
    pub undoing: bool,
    /// Where what was in server.toml has been put already.
    pub rejected: Option<PathBuf>,
    /// Why the last try to undo it failed.
    #[serde(default)]
    pub fault: Option<String>,
}

/// A change that came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// The change's nonce.
    pub nonce: String,
    /// When, RFC 3339.
    pub at: String,
    /// Where what was in server.toml is now; nothing when there was nothing.
    pub rejected: Option<PathBuf>,
}

/// What is to be done about a record at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing waits.
    Settled,
    /// A change waits for so much longer.
    Waits(Duration),
    /// A change is to be undone.
    Undo(Why),
}

/// Why a change is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody confirmed it in time.
    Overdue,
    /// The host was started anew in between.
    Reboot,
    /// Somebody had begun to undo it.
    Begun,
}

/// How a configuration came to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent<'a> {
    /// A start or a SIGHUP: confirms nothing while a change waits. With the nonce of the change that waited when the
    /// file was read.
    Plain(Option<&'a str>),
    /// `apply` without `--confirm`.
    Confirmed,
    /// `apply --confirm`, by its nonce.
    Trial(&'a str),
}

/// Why nothing was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotConfirmed {
    /// Nothing waits.
    Nothing,
    /// It was undone already.
    Undone(Undone),
    /// Its time is over, or the host was started anew: it is being undone, or will be by the next start.
    Late,
    /// No daemon has loaded it.
    NeverLoaded,
}

impl Pending {
    /// The time left at `now` on the clock of the boot.
    #[must_use]
    pub fn left(&self, now: Duration) -> Duration {
        Duration::from_nanos(self.deadline).saturating_sub(now)
    }

    fn verdict(&self, now: Duration, boot_id: &str) -> Verdict {
        let left = self.left(now);
        if self.undoing {
            Verdict::Undo(Why::Begun)
        } else if self.boot_id != boot_id {
            Verdict::Undo(Why::Reboot)
        } else if left.is_zero() {
            Verdict::Undo(Why::Overdue)
        } else {
            Verdict::Waits(left)
        }
    }
}

impl Record {
    /// What is to be done at `now`, on the clock of the boot `boot_id`.
    #[must_use]
    pub fn verdict(&self, now: Duration, boot_id: &str) -> Verdict {
        self.pending
            .as_ref()
            .map_or(Verdict::Settled, |pending| pending.verdict(now, boot_id))
    }

    /// Whether the change called `nonce` is the one that waits.
    #[must_use]
    pub fn waits_for(&self, nonce: &str) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.nonce == nonce)
    }

    /// Begins a trial; the confirmed copy stays what it is. What the change before it loaded stays what a confirm
    /// would confirm until the new one is loaded. Returns the trial whose place it takes.
    pub fn arm(&mut self, nonce: &str, boot_id: &str, deadline: Duration) -> Option<Pending> {
        let before = self.pending.take();
        self.undone = None;
        self.pending = Some(Pending {
            nonce: nonce.to_owned(),
            boot_id: boot_id.to_owned(),
            deadline: u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX),
            candidate: before.as_ref().and_then(|before| before.candidate.clone()),
            undoing: false,
            rejected: None,
            fault: None,
        });
        before
    }

    /// Takes a trial back whose change was refused; one that was there before goes on with its own deadline, now in
    /// the hands of the process that was armed last.
    pub fn disarm(&mut self, nonce: &str, before: Option<Pending>) {
        if self.waits_for(nonce) {
            let nonce = nonce.to_owned();
            self.pending = before.map(|before| Pending { nonce, ..before });
        }
    }

    /// A daemon has put `source` in force. False when that was read before a change was undone: what is in force is then
    /// not what should be.
    #[must_use]
    pub fn loaded(&mut self, source: &Source, intent: Intent<'_>) -> bool {
        let source = Some(source.clone());
        match (intent, &mut self.pending) {
            // One that was replaced by a later one meanwhile waits with that.
            (Intent::Trial(_), Some(pending)) if !pending.undoing => pending.candidate = source,
            (Intent::Trial(_), _) => return false,
            (Intent::Plain(_), Some(pending)) => pending.candidate = source,
            (Intent::Plain(Some(nonce)), None) if self.undone.as_ref().is_some_and(|undone| undone.nonce == nonce) => {
                return false;
            }
            (Intent::Plain(_), None) => {
                if self.confirmed != source {
                    self.undone = None;
                }
                self.confirmed = source;
            }
            (Intent::Confirmed, _) => {
                (self.confirmed, self.pending, self.undone) = (source, None, None);
            }
        }
        true
    }

    /// Somebody still gets in: the change stays, if its time is not over at `now` in the boot `boot_id`.
    ///
    /// # Errors
    ///
    /// [`NotConfirmed`]; a change that no daemon has loaded waits no longer either.
    pub fn confirm(&mut self, now: Duration, boot_id: &str) -> Result<(), NotConfirmed> {
        match self.verdict(now, boot_id) {
            Verdict::Settled => Err(self.undone.clone().map_or(NotConfirmed::Nothing, NotConfirmed::Undone)),
            Verdict::Undo(_) => Err(NotConfirmed::Late),
            Verdict::Waits(_) => {
                let candidate = self.pending.take().and_then(|pending| pending.candidate);
                self.confirmed = Some(candidate.ok_or(NotConfirmed::NeverLoaded)?);
                Ok(())
            }
        }
    }

    /// From here on it is too late to confirm.
    pub fn begin_undo(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.undoing = true;
        }
    }

    /// The confirmed copy is in its place again; what was there is at `rejected`.
    pub fn put_back(&mut self, rejected: Option<PathBuf>) {
        if let Some(pending) = &mut self.pending {
            pending.rejected = rejected.or_else(|| pending.rejected.take());
        }
    }

    /// Undoing the change called `nonce` has failed, and why.
    pub fn failed(&mut self, nonce: &str, why: &str) {
        if let Some(pending) = self.pending.as_mut().filter(|pending| pending.nonce == nonce) {
            pending.fault = Some(why.to_owned());
        }
    }

    /// Why the last try to undo what waits failed.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.pending.as_ref()?.fault.as_deref()
    }

    /// The confirmed copy and its rules are back, at `at`.
    pub fn undone(&mut self, at: String) {
        if let Some(Pending { nonce, rejected, .. }) = self.pending.take() {
            self.undone = Some(Undone { nonce, at, rejected });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "boot";

    fn source(text: &str) -> Source {
        Source {
            text: text.into(),
            mode: 0o640,
            owner: (0, 0),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Confirmed "old", and "new" on trial until 100 s.
    fn trial() -> Record {
        let mut record = Record::default();
        assert!(record.loaded(&source("old"), Intent::Plain(None)));
        assert_eq!(record.arm("a", BOOT, at(100)), None);
        assert!(record.loaded(&source("new"), Intent::Trial("a")));
        record
    }

    fn confirmed(record: &Record) -> &str {
        &record.confirmed.as_ref().unwrap().text
    }

    #[test]
    fn decided_by_boot_and_deadline() {
        assert_eq!(Record::default().verdict(at(9), BOOT), Verdict::Settled);
        let mut record = trial();
        assert_eq!(record.verdict(at(99), BOOT), Verdict::Waits(at(1)));
        assert_eq!(record.verdict(at(100), BOOT), Verdict::Undo(Why::Overdue));
        assert_eq!(record.verdict(at(5), "another"), Verdict::Undo(Why::Reboot));
        record.begin_undo();
        assert_eq!(record.verdict(at(5), BOOT), Verdict::Undo(Why::Begun));
    }

    #[test]
    fn confirmed_it_is_what_comes_back_next_time() {
        let mut record = trial();
        assert_eq!(confirmed(&record), "old");
        record.confirm(at(9), BOOT).unwrap();
        assert_eq!(confirmed(&record), "new");
        assert_eq!(record.verdict(at(200), BOOT), Verdict::Settled);
        assert_eq!(record.confirm(at(9), BOOT), Err(NotConfirmed::Nothing));
    }

    #[test]
    fn too_late_is_too_late_also_where_nobody_has_undone_it_yet() {
        let mut record = trial();
        assert_eq!(record.confirm(at(100), BOOT), Err(NotConfirmed::Late));
        assert_eq!(record.confirm(at(9), "another"), Err(NotConfirmed::Late));
        assert_eq!(record.verdict(at(99), BOOT), Verdict::Waits(at(1)), "it still waits");
    }

    #[test]
    fn confirm_and_undo_exclude_each_other() {
        let mut record = trial();
        record.begin_undo();
        assert_eq!(record.confirm(at(9), BOOT), Err(NotConfirmed::Late));
        record.put_back(Some("r".into()));
        record.put_back(None);
        record.undone("then".into());
        assert_eq!(confirmed(&record), "old");
        let Err(NotConfirmed::Undone(undone)) = record.confirm(at(9), BOOT) else {
            panic!("{record:?}")
        };
        assert_eq!((undone.nonce.as_str(), undone.rejected), ("a", Some("r".into())));
    }

    #[test]
    fn a_start_or_sighup_neither_confirms_nor_shortens() {
        let mut record = trial();
        assert!(record.loaded(&source("newer"), Intent::Plain(None)));
        assert_eq!(confirmed(&record), "old");
        assert_eq!(record.verdict(at(99), BOOT), Verdict::Waits(at(1)));
        record.confirm(at(9), BOOT).unwrap();
        assert_eq!(confirmed(&record), "newer", "what is in force is what is confirmed");
    }

    #[test]
    fn what_was_read_before_an_undo_is_not_taken_for_confirmed() {
        let mut record = trial();
        record.begin_undo();
        record.undone("then".into());
        assert!(!record.loaded(&source("new"), Intent::Plain(Some("a"))));
        assert_eq!(confirmed(&record), "old");
        assert!(record.loaded(&source("old"), Intent::Plain(None)));
    }

    #[test]
    fn that_a_change_was_undone_is_told_until_another_file_is_loaded() {
        let mut record = trial();
        record.begin_undo();
        record.undone("then".into());
        assert!(record.loaded(&source("old"), Intent::Plain(None)));
        assert!(record.undone.is_some());
        assert!(record.loaded(&source("mended"), Intent::Plain(None)));
        assert_eq!(record.undone, None);
    }

    #[test]
    fn apply_without_confirm_settles() {
        let mut record = trial();
        assert!(record.loaded(&source("third"), Intent::Confirmed));
        assert_eq!(confirmed(&record), "third");
        assert_eq!(record.pending, None);
    }

    #[test]
    fn a_second_trial_keeps_the_first_copy_and_sets_the_deadline() {
        let mut record = trial();
        let before = record.arm("b", BOOT, at(300)).unwrap();
        assert_eq!(before.nonce, "a");
        assert!(!record.waits_for("a"));
        assert!(record.loaded(&source("third"), Intent::Trial("b")));
        assert_eq!(record.verdict(at(299), BOOT), Verdict::Waits(at(1)));
        record.begin_undo();
        record.undone("then".into());
        assert_eq!(confirmed(&record), "old");
    }

    #[test]
    fn a_refused_second_trial_leaves_the_first_to_its_deadline() {
        let mut record = trial();
        let before = record.arm("b", BOOT, at(300));
        record.disarm("b", before);
        assert!(record.waits_for("b"), "the process armed last acts for it");
        assert_eq!(record.verdict(at(99), BOOT), Verdict::Waits(at(1)));
        record.confirm(at(9), BOOT).unwrap();
        assert_eq!(confirmed(&record), "new");
    }

    #[test]
    fn a_refused_trial_leaves_nothing_and_another_ones_is_not_touched() {
        let mut record = trial();
        record.disarm("x", None);
        assert!(record.waits_for("a"));
        record.disarm("a", None);
        assert_eq!(record.verdict(at(0), BOOT), Verdict::Settled);
    }

    #[test]
    fn a_trial_that_was_undone_while_it_was_loaded_is_noticed() {
        let mut record = trial();
        record.begin_undo();
        assert!(!record.loaded(&source("new"), Intent::Trial("a")));
        record.undone("then".into());
        assert!(!record.loaded(&source("new"), Intent::Trial("a")));
        assert_eq!(confirmed(&record), "old");
    }

    #[test]
    fn what_was_never_loaded_cannot_be_confirmed() {
        let mut record = Record::default();
        assert!(record.loaded(&source("old"), Intent::Plain(None)));
        record.arm("a", BOOT, at(100));
        assert_eq!(record.confirm(at(9), BOOT), Err(NotConfirmed::NeverLoaded));
        assert_eq!(confirmed(&record), "old");
        assert_eq!(record.pending, None, "it waits no longer");
    }

    #[test]
    fn why_it_is_not_undone_is_known_until_it_is() {
        let mut record = trial();
        record.failed("another", "no");
        assert_eq!(record.fault(), None);
        record.begin_undo();
        record.failed("a", "the disk is full");
        assert_eq!(record.fault(), Some("the disk is full"));
        record.undone("then".into());
        assert_eq!(record.fault(), None);
    }

    #[test]
    fn what_an_older_version_wrote_is_read() {
        let mut written = serde_json::to_value(trial()).unwrap();
        written["pending"].as_object_mut().unwrap().remove("fault").unwrap();
        assert_eq!(serde_json::from_value::<Record>(written).unwrap(), trial());
    }

    #[test]
    fn it_survives_being_written_down() {
        let record = trial();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}

//! The replay record as far as it is known, and what this capture would have added to it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use spa_keys::state::{KeyRecord, Snapshot};
use spa_keys::{Control, text};
use spa_proto::{PublicKey, ReplayRecord, ReplaySet, UnixTime, Verdict};

/// Where the record is known from.
#[derive(Debug)]
pub enum Known {
    /// It is not: only replays within the capture are found.
    Nothing,
    /// Its file, of a gateway that does not run.
    File(Box<Snapshot>),
    /// The running daemon, at its control socket.
    Daemon(PathBuf),
}

impl Known {
    fn of(&self, key: &PublicKey) -> Result<KeyRecord, String> {
        match self {
            Self::Nothing => Ok(KeyRecord::default()),
            Self::File(snapshot) => snapshot.of(key).map_err(|error| error.to_string()),
            Self::Daemon(socket) => ask(socket, key),
        }
    }
}

fn ask(socket: &std::path::Path, key: &PublicKey) -> Result<KeyRecord, String> {
    let parameters = json!({ "key": text::encode(key.as_bytes()) });
    let answer = Control::connect(socket).and_then(|mut control| control.call("spa.Record", &parameters));
    let mut answer = answer.map_err(|error| error.to_string())?;
    if answer.get("waiting") == Some(&json!(true)) {
        return Err("the daemon waits until a new record can be trusted".into());
    }
    let record = answer.remove("record").unwrap_or_default();
    serde_json::from_value(record).map_err(|error| error.to_string())
}

/// The record of one key: as it is, and with what came in this capture.
#[derive(Debug)]
struct Page {
    before: ReplaySet,
    now: ReplaySet,
    rest: KeyRecord,
}

/// All pages that were needed.
#[derive(Debug)]
pub struct Book {
    known: Known,
    pages: HashMap<PublicKey, Page>,
    last: Option<Last>,
}

/// The last claim.
#[derive(Debug)]
struct Last {
    timestamp: UnixTime,
    /// Whether the record itself refuses it, and not only what came before in the capture.
    recorded: bool,
    failure: Option<String>,
}

impl Book {
    /// No page was needed yet.
    #[must_use]
    pub fn new(known: Known) -> Self {
        Self {
            known,
            pages: HashMap::new(),
            last: None,
        }
    }

    /// The next claim is another packet's.
    pub fn begin(&mut self) {
        self.last = None;
    }

    /// The timestamp that was claimed last.
    #[must_use]
    pub fn claimed(&self) -> Option<UnixTime> {
        self.last.as_ref().map(|last| last.timestamp)
    }

    /// Where the last timestamp was used before.
    #[must_use]
    pub fn why_replayed(&self) -> String {
        if self.last.as_ref().is_some_and(|last| last.recorded) {
            "its timestamp is in this gateway's record, or not above its floor: it was accepted before".into()
        } else {
            "its timestamp was used before in this capture".into()
        }
    }

    /// Why the record cannot be used.
    #[must_use]
    pub fn why_unavailable(&self) -> String {
        let why = self.last.as_ref().and_then(|last| last.failure.as_deref());
        format!("the replay record cannot be used now: {}", why.unwrap_or("unknown"))
    }

    /// What else the record knew of a key whose timestamp was claimed.
    pub(super) fn rest(&self, key: &PublicKey) -> Option<&KeyRecord> {
        self.pages.get(key).map(|page| &page.rest)
    }

    fn page(&mut self, key: &PublicKey) -> Result<&mut Page, String> {
        if !self.pages.contains_key(key) {
            let rest = self.known.of(key)?;
            let page = Page {
                before: rest.replay.clone(),
                now: rest.replay.clone(),
                rest,
            };
            self.pages.insert(*key, page);
        }
        self.pages.get_mut(key).ok_or_else(String::new)
    }
}

impl ReplayRecord for Book {
    fn claim(&mut self, client: &PublicKey, timestamp: UnixTime, retention: Duration) -> Verdict {
        let outcome = self.page(client).map(|page| {
            let fresh = page.now.accept(timestamp, retention);
            (fresh, !fresh && !page.before.clone().accept(timestamp, retention))
        });
        let (verdict, recorded, failure) = match outcome {
            Ok((true, _)) => (Verdict::Fresh, false, None),
            Ok((false, recorded)) => (Verdict::Replayed, recorded, None),
            Err(why) => (Verdict::Unavailable, false, Some(why)),
        };
        self.last = Some(Last {
            timestamp,
            recorded,
            failure,
        });
        verdict
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use spa_keys::state::{Change, State, StateLock};

    use super::*;

    const KEY: PublicKey = PublicKey([7; 32]);
    const RETENTION: Duration = Duration::from_mins(10);

    fn claim(book: &mut Book, secs: u64) -> Verdict {
        book.claim(&KEY, UnixTime::from_secs(secs), RETENTION)
    }

    #[test]
    fn a_replay_of_the_record_is_told_from_one_of_the_capture() {
        let dir = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        let mut state = State::create(dir.path(), StateLock::acquire(dir.path()).unwrap()).unwrap();
        let set = ReplaySet::restore(UnixTime::from_secs(1), [UnixTime::from_secs(100)]);
        state.commit(&[Change::Replay(KEY, set)]).unwrap();
        let mut book = Book::new(Known::File(Box::new(Snapshot::read(dir.path()).unwrap())));
        assert_eq!(claim(&mut book, 100), Verdict::Replayed);
        assert!(book.why_replayed().contains("this gateway's record"));
        assert_eq!(claim(&mut book, 101), Verdict::Fresh);
        assert_eq!(book.claimed(), Some(UnixTime::from_secs(101)));
        assert_eq!(claim(&mut book, 101), Verdict::Replayed);
        assert!(book.why_replayed().contains("in this capture"));
        book.begin();
        assert_eq!(book.claimed(), None);
    }

    #[test]
    fn a_daemon_that_does_not_answer_makes_no_replay_fresh() {
        let mut book = Book::new(Known::Daemon("/nonexistent/control.sock".into()));
        assert_eq!(claim(&mut book, 100), Verdict::Unavailable);
        assert!(
            book.why_unavailable()
                .starts_with("the replay record cannot be used now: ")
        );
        assert_eq!(claim(&mut Book::new(Known::Nothing), 100), Verdict::Fresh);
    }
}

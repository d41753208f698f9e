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

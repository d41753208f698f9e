//! How the daemon is, for the service manager: a sign of life, and one line for people.

use std::time::Duration;

use super::Daemon;
use crate::clock;
use crate::journal::RecordState;
use crate::notify::Health;

impl Daemon {
    pub(super) fn tell_manager(&mut self, now: Duration) {
        if self.notify.due().is_some_and(|due| due <= now) {
            let health = self.health();
            self.notify.beat(now, &health);
        }
    }

    /// Only what a restart mends counts as not working: an interface that is away and a full disk are waited for.
    pub(super) fn health(&self) -> Health {
        let works = self.capture.is_alive() && self.sequences.is_alive();
        let line = if works {
            let troubles: Vec<_> = [self.deafness(), self.record_trouble()].into_iter().flatten().collect();
            if troubles.is_empty() {
                self.doors_open()
            } else {
                troubles.join("; ")
            }
        } else {
            "a capture thread has ended: only a restart helps".to_owned()
        };
        Health { works, line }
    }

    fn deafness(&self) -> Option<String> {
        let waited_for: Vec<_> = self.interfaces.values().filter(|interface| !interface.up).collect();
        let names: Vec<_> = waited_for.iter().map(|interface| interface.name.as_str()).collect();
        match names.len() {
            0 => None,
            all if all == self.interfaces.len() => Some(format!("deaf: waiting for {}", names.join(", "))),
            _ => Some(format!("waiting for {}", names.join(", "))),
        }
    }

    fn record_trouble(&self) -> Option<String> {
        match self.journal.record_state(clock::uptime()) {
            RecordState::Ok => None,
            // No countdown: each number would be another message.
            RecordState::Waiting { .. } => {
                Some("everything is refused until a new replay record can be trusted".into())
            }
            RecordState::Failing { note } => Some(format!("the replay record cannot be written: {note}")),
        }
    }

    fn doors_open(&self) -> String {
        let knocks = self.accepted.open + self.accepted.close + self.accepted.enroll;
        format!("open doors: {}, accepted knocks: {knocks}", self.grants.live().count())
    }
}

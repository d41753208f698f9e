//! What was refused: counted, kept for explain, logged within a bound.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use spa_proto::{Claim, DropReason, EnrollError, Moment, PublicKey, Refusal};
use tracing::{info, warn};

use super::Daemon;
use crate::capture::Sample;
use crate::clock;
use crate::refusals::{Reason, Refused};

impl Daemon {
    pub(super) fn refuse(&mut self, now: Moment, source: SocketAddr, refusal: &Refusal) {
        let client = match &refusal.claim {
            Claim::Proven(key) => self.name_of(key),
            Claim::Nobody => None,
        };
        let reason = Reason::from(&refusal.reason);
        let detail = match (&refusal.reason, &refusal.claim) {
            (DropReason::Enroll(EnrollError::Spent), Claim::Proven(invite)) => self.say_raced(invite, source),
            _ => refusal.reason.to_string(),
        };
        // Two copies that came together: the capture thread could not know the first of them yet.
        if refusal.reason == (DropReason::Copy { forwarded: true }) {
            self.capture.counters().forwarded.fetch_add(1, Relaxed);
        }
        let refused = Refused::new(now.wall, Some(source), reason, detail);
        self.refused(refused.of(client).off(refusal.reason.difference_s()));
    }

    /// The name of a client, or of the one that an invite is for.
    pub(super) fn name_of(&self, key: &PublicKey) -> Option<String> {
        let client = self.keys.client(key).map(|view| view.name().to_string());
        client.or_else(|| Some(self.keys.invite(key)?.name.to_string()))
    }

    /// Counts, keeps and logs a refusal.
    pub(super) fn refused(&mut self, refused: Refused) {
        self.log_limit.log(&refused, clock::uptime());
        self.audit_refused(&refused);
        self.refusals.add(refused);
    }

    /// Keeps and logs a refusal that is counted elsewhere.
    pub(super) fn note_refused(&mut self, refused: Refused) {
        self.log_limit.log(&refused, clock::uptime());
        self.refusals.keep(refused);
    }

    /// Keeps and logs a refusal that a capture thread has counted.
    pub(super) fn note_sample(&mut self, sample: &Sample) {
        let detail = sample.reason.to_string();
        let refused = Refused::new(clock::wall(), sample.source, Reason::from(&sample.reason), detail);
        self.note_refused(refused);
    }
}

/// A bound on the log's lines about refusals; counts are kept all the same.
#[derive(Default)]
pub(super) struct LogLimit {
    since: Duration,
    lines: u32,
    held_back: u64,
}

impl LogLimit {
    const LINES_PER_SECOND: u32 = 20;

    fn log(&mut self, refused: &Refused, now: Duration) {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            if self.held_back > 0 {
                warn!(
                    held_back = self.held_back,
                    "more was refused than is logged; status counts all of it"
                );
            }
            *self = Self {
                since: now,
                lines: 0,
                held_back: 0,
            };
        }
        self.lines += 1;
        if self.lines > Self::LINES_PER_SECOND {
            self.held_back += 1;
            return;
        }
        let Refused {
            client,
            source,
            difference_s,
            detail,
            ..
        } = refused;
        let (source, reason, step) = (source.as_deref().unwrap_or("-"), refused.reason.name(), refused.step);
        if let Some(client) = client {
            warn!(client, source, reason, step, difference_s, "refused: {detail}");
        } else {
            info!(source, reason, step, "refused: {detail}");
        }
    }
}

//! What `status --watch` shows: what the daemon answered, what changed since, and how that looks. Pure: the clock is the
//! caller's, and lines come out.

mod events;
mod rates;
mod view;

use std::time::Duration;

use serde_json::Value;
use spa_proto::{Moment, UnixTime};

use events::Events;
use rates::Rates;

pub use view::{Line, Span, Style, view};

/// What the daemon said at one moment.
#[derive(Clone, Debug)]
pub struct Heard {
    /// `status`.
    pub status: Value,
    /// `grants`.
    pub grants: Value,
    /// `explain`.
    pub refused: Value,
}

/// Everything that is known of a daemon that is watched.
#[derive(Debug)]
pub struct Watched {
    last: Heard,
    heard_at: Duration,
    rates: Rates,
    events: Events,
    away: Option<(UnixTime, String)>,
}

impl Watched {
    /// Begins with what was heard first.
    #[must_use]
    pub fn new(now: Moment, heard: Heard) -> Self {
        let mut watched = Self {
            last: heard.clone(),
            heard_at: now.uptime,
            rates: Rates::default(),
            events: Events::default(),
            away: None,
        };
        watched.take(now, Ok(heard));
        watched
    }

    /// Takes what the daemon answered at `now`, or why it did not.
    pub fn take(&mut self, now: Moment, answer: Result<Heard, String>) {
        let heard = match answer {
            Ok(heard) => heard,
            Err(why) => {
                let since = self.away.as_ref().map_or(now.wall, |(since, _)| *since);
                self.away = Some((since, why));
                return;
            }
        };
        let instance = |heard: &Heard| (heard.status["pid"].clone(), heard.status["started"].clone());
        if instance(&heard) != instance(&self.last) {
            self.rates = Rates::default();
            self.events.another_daemon(now.wall);
        }
        let elapsed = now.uptime.saturating_sub(self.heard_at);
        self.rates.take(now.uptime, &heard.status);
        self.events.take(now.wall, elapsed, &self.last.grants, &heard);
        self.last = heard;
        self.heard_at = now.uptime;
        self.away = None;
    }
}

#[cfg(test)]
mod tests;

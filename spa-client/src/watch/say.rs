//! What `watch` says: a line or an object for each event, and on a terminal a countdown.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use spa_keys::escape::escape;
use spa_keys::units::{format_time, now};
use spa_proto::ServiceName;

use crate::cli::WatchArgs;
use crate::fire::listed;
use crate::out;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    /// It was seen open.
    Open,
    /// It was asked for; nothing can tell whether it is open.
    Sent,
    /// It was asked for again before its end.
    Renewed,
    /// It could not be asked for.
    Failed,
    /// The address of this device changed.
    Moved,
    /// The watch ended, and the door stays open until its end.
    Left,
    /// The watch ended, and the gateway was asked to shut the door.
    Closed,
}

#[derive(Debug, Serialize)]
struct Object<'a> {
    event: Event,
    services: &'a [String],
    until: Option<String>,
    remaining_s: u64,
    text: Option<&'a str>,
}

/// Says it to a person or to a script.
pub(super) struct Voice {
    profile: String,
    services: Vec<String>,
    is_json: bool,
    /// A person looks on.
    is_terminal: bool,
    counting: bool,
}

impl Voice {
    pub(super) fn new(args: &WatchArgs, is_terminal: bool) -> Self {
        Self {
            profile: args.profile.to_string(),
            services: args.services.iter().map(ServiceName::to_string).collect(),
            is_json: args.json,
            is_terminal,
            counting: false,
        }
    }

    pub(super) const fn counts_down(&self) -> bool {
        self.is_terminal
    }

    pub(super) fn tell(&mut self, event: Event, left: Duration) {
        let until = format_time(now().saturating_add(left));
        let services = self.services.join(" ");
        let text = match event {
            Event::Open => format!("open: {services}, asked for until {until}"),
            Event::Sent => format!("sent: open {services}, until {until}"),
            Event::Renewed => format!("sent: renewal of {services}, until {until}"),
            Event::Closed => format!("sent: close {services}"),
            Event::Left | Event::Failed | Event::Moved => format!(
                "left: {services} stays open until {until} at most; `spa-client close {} {services}` shuts it",
                self.profile
            ),
        };
        let until = (event != Event::Closed).then_some(until);
        self.say(event, until, left, &text, None);
    }

    pub(super) fn moved(&mut self, there: &[IpAddr]) {
        let text = format!("address changed: {}; knocking again", listed(there));
        self.say(Event::Moved, None, Duration::ZERO, &text, Some(&text));
    }

    pub(super) fn failed(&mut self, what: &str) {
        self.clear();
        if self.is_json {
            self.say(Event::Failed, None, Duration::ZERO, what, Some(what));
        }
        out::tell("warning", &format!("{what}; trying again"));
    }

    /// The time that is left, on a line that is written over.
    pub(super) fn count_down(&mut self, left: Duration) {
        if self.is_terminal {
            let (minutes, seconds) = (left.as_secs() / 60, left.as_secs() % 60);
            let services = self.services.join(" ");
            let line = format!("\r\u{1b}[K{} {minutes}:{seconds:02} (Ctrl-C ends)", escape(&services));
            let _ = io::stderr().write_all(line.as_bytes());
            self.counting = true;
        }
    }

    fn say(&mut self, event: Event, until: Option<String>, left: Duration, line: &str, text: Option<&str>) {
        self.clear();
        if self.is_json {
            out::object(&Object {
                event,
                services: &self.services,
                until,
                remaining_s: left.as_secs(),
                text,
            });
        } else {
            out::fact(line);
        }
    }

    fn clear(&mut self) {
        if self.counting {
            let _ = io::stderr().write_all(b"\r\x1b[K");
            self.counting = false;
        }
    }
}

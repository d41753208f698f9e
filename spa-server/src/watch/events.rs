//! What happened lately: doors that opened and shut, and refusals.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;
use spa_keys::units::{format_time, parse_time};
use spa_proto::UnixTime;

use super::Heard;

const KEPT: usize = 100;
/// An end that is no further off than this has come by itself.
const ABOUT: u64 = 2;

/// The last events, newest first.
#[derive(Debug, Default)]
pub(super) struct Events(VecDeque<Event>);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// When, RFC 3339.
    pub(super) at: String,
    /// In one word.
    pub(super) what: &'static str,
    /// What makes another one the same again.
    who: String,
    /// The rest, unescaped.
    pub(super) text: String,
    /// How many times, where the daemon counts them together.
    count: u64,
}

impl Events {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.0.iter()
    }

    /// Another daemon answers than before.
    pub(super) fn another_daemon(&mut self, now: UnixTime) {
        self.add(Event {
            at: format_time(now),
            what: "started",
            who: String::new(),
            text: "spa-server".into(),
            count: 1,
        });
    }

    /// Takes what is new in what was `heard`, `elapsed` after `before`.
    pub(super) fn take(&mut self, now: UnixTime, elapsed: Duration, before: &Value, heard: &Heard) {
        let (old, new) = (grants(before), grants(&heard.grants));
        for grant in &old {
            if !new.iter().any(|other| same(grant, other)) {
                let left = grant["remaining_s"].as_u64().unwrap_or(0);
                let what = if left <= elapsed.as_secs() + ABOUT {
                    "ended"
                } else {
                    "closed"
                };
                self.add(of_grant(format_time(now), what, grant));
            }
        }
        for grant in &new {
            match old.iter().find(|other| same(grant, other)) {
                None => self.add(of_grant(text(&grant["since"]), "opened", grant)),
                Some(before) if ends(grant) > ends(before).saturating_add(ABOUT) => {
                    self.add(of_grant(format_time(now), "renewed", grant));
                }
                Some(_) => {}
            }
        }
        // Oldest first, so that the newest is on top.
        for refused in heard.refused["refused"].as_array().into_iter().flatten().rev() {
            self.refused(refused);
        }
        self.0.make_contiguous().sort_by(|a, b| b.at.cmp(&a.at));
        self.0.truncate(KEPT);
    }

    fn refused(&mut self, refused: &Value) {
        let whose = refused["client"].as_str().or(refused["source"].as_str()).unwrap_or("-");
        let (reason, source, detail) = (
            text(&refused["reason"]),
            text(&refused["source"]),
            text(&refused["detail"]),
        );
        let count = refused["count"].as_u64().unwrap_or(1);
        let event = Event {
            at: text(&refused["at"]),
            what: "refused",
            who: format!("{whose} {reason} {source} {} {detail}", refused["source_port"]),
            text: if count > 1 {
                format!("{whose}: {reason}, {count} times: {detail}")
            } else {
                format!("{whose}: {reason}: {detail}")
            },
            count,
        };
        let known = self
            .0
            .iter()
            .any(|known| known.who == event.who && known.at == event.at && known.count == count);
        if !known {
            // It was counted on.
            self.0.retain(|known| known.what != "refused" || known.who != event.who);
            self.add(event);
        }
    }

    fn add(&mut self, event: Event) {
        self.0.push_front(event);
        self.0.truncate(KEPT);
    }
}

fn of_grant(at: String, what: &'static str, grant: &Value) -> Event {
    let client = grant["client"].as_str().unwrap_or("(sequence)");
    let (service, opened) = (text(&grant["service"]), text(&grant["opened"]));
    Event {
        at,
        what,
        who: String::new(),
        text: format!("{client}: {service} for {opened}"),
        count: 1,
    }
}

fn grants(answer: &Value) -> Vec<&Value> {
    answer["grants"].as_array().into_iter().flatten().collect()
}

fn same(one: &Value, other: &Value) -> bool {
    ["client", "service", "address"]
        .into_iter()
        .all(|key| one[key] == other[key])
}

fn ends(grant: &Value) -> u64 {
    parse_time(&text(&grant["until"])).map_or(0, UnixTime::as_secs)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

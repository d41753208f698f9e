//! Who could reach what, when: the log's lines made into periods of access. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use spa_keys::units::parse_time;
use spa_proto::UnixTime;

use super::event::{Access, Event, How, Opened, Via};
use super::line::Line;

/// Whom and what is asked about; everything unless told.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// From then on.
    pub since: Option<UnixTime>,
    /// Until then.
    pub until: Option<UnixTime>,
    /// This client only.
    pub client: Option<String>,
    /// This service only.
    pub service: Option<String>,
    /// Addresses that have something in common with this.
    pub address: Option<IpNet>,
}

/// A time in which a door was open for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Period {
    /// When it was opened.
    pub from: String,
    /// When it ended, or will end.
    pub until: String,
    /// The client; none for a sequence.
    pub client: Option<String>,
    /// The service.
    pub service: String,
    /// Whose address it was asked for.
    pub address: IpAddr,
    /// What was opened.
    pub opened: IpNet,
    /// Where the request came from; none where the log has lost it.
    pub source: Option<IpAddr>,
    /// `knock` or, say, `sequence (replayable)`; none where the log has lost it.
    pub via: Option<Via>,
    /// The sequence's name.
    pub sequence: Option<String>,
    /// How it ended; none while the log knows of no end.
    pub ended: Option<How>,
    /// The user who ended it by a command.
    pub uid: Option<u32>,
}

/// A refusal, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedLine {
    /// When.
    pub at: String,
    /// Who.
    pub client: String,
    /// From where.
    pub source: Option<String>,
    /// Why.
    pub reason: String,
    /// In one clause.
    pub detail: String,
    /// How many.
    pub count: u64,
}

/// A time in which the log was not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapLine {
    /// Since when.
    pub since: String,
    /// Until when.
    pub until: String,
    /// Lines that are lost.
    pub lost: u64,
    /// Why.
    pub why: String,
}

/// The answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answer {
    /// In the order of their beginnings.
    pub access: Vec<Period>,
    /// In the order of the log.
    pub refused: Vec<RefusedLine>,
    /// Times about which less is known.
    pub gaps: Vec<GapLine>,
}

/// A client by its key where the log has it: names can be given anew.
type Whose = (Option<String>, String, IpAddr);

/// What is made of the lines so far.
#[derive(Debug, Default)]
pub struct History {
    question: Question,
    open: BTreeMap<Whose, Period>,
    /// Since when a daemon runs that may not have taken these up.
    left: BTreeMap<Whose, Period>,
    started: String,
    answer: Answer,
}

impl History {
    /// Nothing yet of an answer to this.
    #[must_use]
    pub fn of(question: Question) -> Self {
        Self {
            question,
            ..Self::default()
        }
    }

    /// Takes the next line of the log.
    pub fn take(&mut self, line: Line) {
        let at = line.at;
        match line.event {
            Some(Event::Started { .. }) => self.start(at),
            Some(Event::Opened(mut opened)) => {
                // Where what is opened was replaced, the grant is older than this opening.
                opened.access.since = at;
                self.open(opened);
            }
            Some(Event::Renewed(opened)) => self.open(opened),
            Some(Event::Restored { access, until } | Event::Shortened { access, until }) => self.go_on(access, until),
            Some(Event::Ended { access, how, uid }) => self.end(access, &at, how, uid),
            Some(Event::Refused {
                client,
                source,
                reason,
                detail,
                count,
            }) => self.refused(RefusedLine {
                at,
                client,
                source,
                reason,
                detail,
                count,
            }),
            Some(Event::Gap { since, why, lost, .. }) => self.gap(GapLine {
                since,
                until: at,
                lost,
                why,
            }),
            _ => {}
        }
    }

    /// The whole answer. What has no end in the log ends when it was to.
    #[must_use]
    pub fn end_of_log(mut self) -> Answer {
        self.drop_left();
        for period in std::mem::take(&mut self.open).into_values() {
            self.keep(period);
        }
        self.answer
            .access
            .sort_by(|a, b| (&a.from, &a.service, a.address).cmp(&(&b.from, &b.service, b.address)));
        self.answer
    }

    /// What is open and is not taken up by a new daemon ended before it, without a line to say so.
    fn start(&mut self, at: String) {
        self.drop_left();
        self.left = std::mem::take(&mut self.open);
        self.started = at;
    }

    fn drop_left(&mut self) {
        for mut period in std::mem::take(&mut self.left).into_values() {
            period.until = period.until.min(self.started.clone());
            self.keep(period);
        }
    }

    /// The period that a line goes on with, if the log has its beginning.
    fn known(&mut self, access: &Access) -> Option<Period> {
        let whose = whose(access);
        self.open.remove(&whose).or_else(|| self.left.remove(&whose))
    }

    fn open(&mut self, opened: Opened) {
        let Opened {
            access,
            source,
            via,
            sequence,
            until,
        } = opened;
        let known = self.known(&access);
        let mut period = known.unwrap_or_else(|| period(access.clone(), String::new()));
        (period.source, period.via, period.sequence) = (Some(source), Some(via), sequence);
        (period.opened, period.until) = (access.opened, until);
        self.open.insert(whose(&access), period);
    }

    /// One whose opening the log may have lost.
    fn go_on(&mut self, access: Access, until: String) {
        let (whose, known) = (whose(&access), self.known(&access));
        let mut period = known.unwrap_or_else(|| period(access, String::new()));
        period.until = until;
        self.open.insert(whose, period);
    }

    fn end(&mut self, access: Access, at: &str, how: How, uid: Option<u32>) {
        let known = self.known(&access);
        let mut period = known.unwrap_or_else(|| period(access, at.to_owned()));
        // What ended by itself while no daemon was there to see it did so in time.
        let in_time = matches!(how, How::Expired | How::Reboot) && !period.until.is_empty() && *period.until < *at;
        if !in_time {
            at.clone_into(&mut period.until);
        }
        (period.ended, period.uid) = (Some(how), uid);
        self.keep(period);
    }

    fn refused(&mut self, line: RefusedLine) {
        let question = &self.question;
        let source = line.source.as_ref().and_then(|source| source.parse::<IpAddr>().ok());
        let is_meant = question.covers(&line.at, &line.at)
            && question.client.as_ref().is_none_or(|client| *client == line.client)
            && question
                .address
                .is_none_or(|net| source.is_some_and(|source| net.contains(&source)));
        // Which service was asked for is not said of every refusal.
        if is_meant && question.service.is_none() {
            self.answer.refused.push(line);
        }
    }

    fn gap(&mut self, gap: GapLine) {
        if self.question.covers(&gap.since, &gap.until) {
            self.answer.gaps.push(gap);
        }
    }

    fn keep(&mut self, period: Period) {
        let question = &self.question;
        let touches = |net: IpNet| {
            let opened = period.opened;
            net.contains(&period.address) || net.contains(&opened) || opened.contains(&net)
        };
        let is_meant = question.covers(&period.from, &period.until)
            && question
                .client
                .as_ref()
                .is_none_or(|client| period.client.as_ref() == Some(client))
            && question
                .service
                .as_ref()
                .is_none_or(|service| *service == period.service)
            && question.address.is_none_or(touches);
        if is_meant {
            self.answer.access.push(period);
        }
    }
}

impl Question {
    /// Whether a time has something in common with the one that is asked about.
    fn covers(&self, from: &str, until: &str) -> bool {
        let begins_in_time = parse_time(from)
            .ok()
            .zip(self.until)
            .is_none_or(|(from, end)| from <= end);
        let ends_in_time = parse_time(until)
            .ok()
            .zip(self.since)
            .is_none_or(|(until, start)| until >= start);
        begins_in_time && ends_in_time
    }
}

fn whose(access: &Access) -> Whose {
    (access.key.clone(), access.service.clone(), access.address)
}

fn period(access: Access, until: String) -> Period {
    Period {
        from: access.since,
        until,
        client: access.client,
        service: access.service,
        address: access.address,
        opened: access.opened,
        source: None,
        via: None,
        sequence: None,
        ended: None,
        uid: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(client: &str, since: &str) -> Access {
        Access {
            client: Some(client.to_owned()),
            key: Some(format!("SHA256:{client}")),
            service: "ssh".to_owned(),
            address: "192.0.2.7".parse().unwrap(),
            opened: "192.0.2.7/32".parse().unwrap(),
            since: time(since),
        }
    }

    /// `10:00` on that day.
    fn time(clock: &str) -> String {
        format!("2026-11-22T{clock}:00Z")
    }

    fn opened(client: &str, since: &str, until: &str) -> Opened {
        Opened {
            access: access(client, since),
            source: "192.0.2.7".parse().unwrap(),
            via: Via::Knock,
            sequence: None,
            until: time(until),
        }
    }

    fn ended(client: &str, since: &str, how: How) -> Event {
        let uid = (how == How::Command).then_some(1000);
        Event::Ended {
            access: access(client, since),
            how,
            uid,
        }
    }

    fn answer(question: Question, lines: Vec<(&str, Event)>) -> Answer {
        let mut history = History::of(question);
        for (at, event) in lines {
            history.take(Line {
                n: 1,
                at: time(at),
                event: Some(event),
                prev: [0; 32],
                hash: [0; 32],
            });
        }
        history.end_of_log()
    }

    fn told(question: Question, lines: Vec<(&str, Event)>) -> Vec<String> {
        let tell = |period: &Period| {
            let clock = |time: &str| time[11..16].to_owned();
            let (from, until) = (clock(&period.from), clock(&period.until));
            let client = period.client.as_deref().unwrap_or("-");
            let ended = period.ended.map_or("-", How::name);
            format!("{from} {until} {client} {ended}")
        };
        answer(question, lines).access.iter().map(tell).collect()
    }

    fn a_day() -> Vec<(&'static str, Event)> {
        vec![
            ("10:00", Event::Opened(opened("alice", "10:00", "10:30"))),
            ("10:20", Event::Renewed(opened("alice", "10:00", "11:00"))),
            ("10:40", Event::Opened(opened("bob", "10:40", "12:00"))),
            ("11:00", ended("alice", "10:00", How::Expired)),
            ("11:30", ended("bob", "10:40", How::Command)),
            ("13:00", Event::Opened(opened("alice", "13:00", "14:00"))),
        ]
    }

    #[test]
    fn openings_and_ends_make_periods() {
        let lines = [
            "10:00 11:00 alice expired",
            "10:40 11:30 bob command",
            "13:00 14:00 alice -",
        ];
        assert_eq!(told(Question::default(), a_day()), lines);
        assert_eq!(answer(Question::default(), a_day()).access[1].uid, Some(1000));
    }

    #[test]
    fn a_question_leaves_out_the_rest() {
        let at = |clock: &str| parse_time(&time(clock)).ok();
        let (since, until) = (at("11:10"), at("12:30"));
        assert_eq!(
            told(
                Question {
                    since,
                    until,
                    ..Question::default()
                },
                a_day()
            ),
            ["10:40 11:30 bob command"]
        );
        let client = Some("alice".to_owned());
        assert_eq!(
            told(
                Question {
                    since,
                    client,
                    ..Question::default()
                },
                a_day()
            ),
            ["13:00 14:00 alice -"]
        );
        let service = Some("db".to_owned());
        assert!(
            told(
                Question {
                    service,
                    ..Question::default()
                },
                a_day()
            )
            .is_empty()
        );
        for (net, count) in [
            ("192.0.2.0/24", 3),
            ("192.0.2.7/32", 3),
            ("192.0.2.8/32", 0),
            ("2001:db8::/32", 0),
        ] {
            let address = net.parse().ok();
            assert_eq!(
                told(
                    Question {
                        address,
                        ..Question::default()
                    },
                    a_day()
                )
                .len(),
                count,
                "{net}"
            );
        }
    }

    #[test]
    fn what_the_log_has_lost_is_still_told_of_by_its_end() {
        let lines = vec![
            ("11:00", ended("alice", "10:00", How::NotAllowed)),
            (
                "12:00",
                Event::Restored {
                    access: access("bob", "09:00"),
                    until: time("12:10"),
                },
            ),
            ("15:00", ended("bob", "09:00", How::Reboot)),
        ];
        let expected = ["09:00 12:10 bob reboot", "10:00 11:00 alice not-allowed"];
        assert_eq!(told(Question::default(), lines), expected);
    }

    #[test]
    fn what_a_new_daemon_does_not_take_up_ended_before_it() {
        let started = || Event::Started {
            version: "0".to_owned(),
            boot: "b".to_owned(),
        };
        let restored = Event::Restored {
            access: access("alice", "10:00"),
            until: time("11:00"),
        };
        let lines = vec![
            ("10:00", Event::Opened(opened("alice", "10:00", "11:00"))),
            ("10:00", Event::Opened(opened("bob", "10:00", "11:00"))),
            ("10:20", started()),
            ("10:20", restored),
            ("10:30", started()),
        ];
        assert_eq!(
            told(Question::default(), lines),
            ["10:00 10:20 bob -", "10:00 10:30 alice -"]
        );
    }

    #[test]
    fn a_client_that_is_gone_keeps_its_name() {
        let mut gone = access("alice", "10:00");
        gone.client = None;
        let end = Event::Ended {
            access: gone,
            how: How::NotAllowed,
            uid: None,
        };
        let lines = vec![
            ("10:00", Event::Opened(opened("alice", "10:00", "10:30"))),
            ("10:05", end),
        ];
        assert_eq!(told(Question::default(), lines), ["10:00 10:05 alice not-allowed"]);
    }

    #[test]
    fn refusals_and_gaps_are_kept_apart() {
        let refused = Event::Refused {
            client: "alice".to_owned(),
            source: Some("192.0.2.7".to_owned()),
            reason: "time".to_owned(),
            detail: "d".to_owned(),
            count: 1,
        };
        let gap = Event::Gap {
            since: time("09:00"),
            why: "w".to_owned(),
            late: 1,
            lost: 2,
        };
        let answer = answer(Question::default(), vec![("10:00", refused), ("10:30", gap)]);
        assert_eq!(
            (answer.access.len(), answer.refused.len(), answer.gaps[0].lost),
            (0, 1, 2)
        );
    }
}

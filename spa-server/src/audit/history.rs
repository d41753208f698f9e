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
mod tests;

//! `spa-server audit show`.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde_json::{Value, json};
use spa_keys::escape::escape;
use spa_keys::units::{format_time, parse_duration, parse_time};
use spa_keys::{Failure, Paths};
use spa_proto::UnixTime;

use super::super::network;
use super::super::report::table;
use super::{none_there, unread};
use crate::audit::history::{Answer, History, Period, Question};
use crate::audit::read::{Reading, read};
use crate::clock;

/// Whom and what is asked about.
#[derive(Args, Debug)]
pub(in super::super) struct ShowArguments {
    /// From then on: a length of time before now, such as 7d, or a time, such as 2026-12-31
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
    /// Until then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<When>,
    /// This client only
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// This service only
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// This address or network only
    #[arg(long, value_name = "A", value_parser = network)]
    address: Option<IpNet>,
    /// The clients that were refused, too
    #[arg(long)]
    refused: bool,
}

/// A time, said either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Ago(Duration),
    At(UnixTime),
}

fn when(text: &str) -> Result<When, String> {
    let time = parse_time(text).map(When::At);
    time.or_else(|_| parse_duration(text).map(When::Ago)).map_err(|_| {
        "expected a length of time such as 7d, or a time such as 2026-12-31 or 2026-12-31T18:00:00Z".into()
    })
}

impl When {
    fn before(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Ago(length) => {
                let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
                UnixTime::from_nanos(now.as_nanos().saturating_sub(nanos))
            }
            Self::At(time) => time,
        }
    }
}

pub(super) fn show(paths: &Paths, as_json: bool, arguments: ShowArguments) -> Result<(), Failure> {
    let now = clock::wall();
    let since = arguments.since.map(|since| since.before(now));
    let mut history = History::of(Question {
        since,
        until: arguments.until.map(|until| until.before(now)),
        client: arguments.client,
        service: arguments.service,
        address: arguments.address,
    });
    let mut begins = None;
    let reading = read(&paths.state, |line| {
        begins.get_or_insert_with(|| (line.n, line.at.clone()));
        history.take(line);
    });
    let reading = reading.map_err(|error| unread(&paths.state, &error))?;
    if reading.files.is_empty() {
        return Err(none_there(&paths.state));
    }
    let answer = history.end_of_log();
    let doubts = doubts(&reading, &answer, begins.as_ref(), since);
    for doubt in &doubts {
        eprintln!("warning: {doubt}");
    }
    if as_json {
        println!(
            "{}",
            to_json(&answer, begins.as_ref().map(|(_, at)| at.as_str()), &doubts)
        );
    } else {
        print!("{}", render(&answer, now, arguments.refused));
    }
    Ok(())
}

/// Why the answer may be less than the truth.
fn doubts(reading: &Reading, answer: &Answer, begins: Option<&(u64, String)>, since: Option<UnixTime>) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Err((place, broken)) = &reading.chain {
        doubts.push(format!("the log cannot be believed: {place}: {broken}"));
    }
    let is_late = |at: &str| since.is_none_or(|since| parse_time(at).is_ok_and(|at| at > since));
    if let Some((_, at)) = begins.filter(|(first, at)| *first > 1 && is_late(at)) {
        doubts.push(format!(
            "the log begins at {}: what was before is not kept any more",
            escape(at)
        ));
    }
    let lost = answer.gaps.iter().filter(|gap| gap.lost > 0);
    doubts.extend(lost.map(|gap| {
        let (since, until, why) = (escape(&gap.since), escape(&gap.until), escape(&gap.why));
        format!(
            "from {since} to {until} the log could not be written, {} lines are lost: {why}",
            gap.lost
        )
    }));
    doubts
}

fn to_json(answer: &Answer, begins: Option<&str>, doubts: &[String]) -> Value {
    json!({
        "begins": begins,
        "access": answer.access,
        "refused": answer.refused,
        "gaps": answer.gaps,
        "doubts": doubts,
    })
}

fn render(answer: &Answer, now: UnixTime, with_refused: bool) -> String {
    let rows: Vec<_> = answer
        .access
        .iter()
        .map(|period| row(period, &format_time(now)))
        .collect();
    let mut out = if rows.is_empty() {
        "nobody could reach anything\n".to_owned()
    } else {
        table(["from", "until", "client", "service", "address", "ended"], &rows)
    };
    if with_refused {
        out += "\n";
        out += &refused(answer);
    }
    out
}

fn row(period: &Period, now: &str) -> [String; 6] {
    let who = match (&period.client, &period.sequence, period.via) {
        (Some(client), ..) => client.clone(),
        (None, Some(sequence), Some(via)) => format!("{sequence}, {}", via.name()),
        _ => "(not known)".to_owned(),
    };
    let ended = match (period.ended, period.uid) {
        (Some(how), Some(uid)) => format!("{} by uid {uid}", how.name()),
        (Some(how), None) => how.name().to_owned(),
        (None, _) if *period.until > *now => "open".to_owned(),
        (None, _) => "not recorded".to_owned(),
    };
    let cells = [
        &period.from,
        &period.until,
        &who,
        &period.service,
        &period.opened.to_string(),
        &ended,
    ];
    cells.map(|cell| escape(cell).into_owned())
}

fn refused(answer: &Answer) -> String {
    let row = |line: &crate::audit::history::RefusedLine| {
        let times = if line.count > 1 {
            format!(" ({} times)", line.count)
        } else {
            String::new()
        };
        let source = line.source.as_deref().unwrap_or("-");
        let cells = [&*line.at, &line.client, source, &line.reason, &line.detail];
        let [at, client, source, reason, detail] = cells.map(|cell| escape(cell).into_owned());
        [at, client, source, reason, detail + &times]
    };
    let rows: Vec<_> = answer.refused.iter().map(row).collect();
    if rows.is_empty() {
        "no client was refused\n".to_owned()
    } else {
        table(["refused", "client", "source", "reason", "why"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::history::RefusedLine;
    use crate::audit::{How, Via};

    fn period(client: Option<&str>, ended: Option<How>, until: &str) -> Period {
        Period {
            from: "2026-11-22T22:00:00Z".into(),
            until: until.into(),
            client: client.map(str::to_owned),
            service: "ssh".into(),
            address: "192.0.2.7".parse().unwrap(),
            opened: "192.0.2.7/32".parse().unwrap(),
            source: None,
            via: client.is_none().then_some(Via::Replayable),
            sequence: client.is_none().then(|| "card".to_owned()),
            ended,
            uid: (ended == Some(How::Command)).then_some(1000),
        }
    }

    #[test]
    fn periods_in_columns() {
        let refused = RefusedLine {
            at: "2026-11-22T22:00:00Z".into(),
            client: "a\u{1b}[2J".into(),
            source: None,
            reason: "time".into(),
            detail: "off".into(),
            count: 3,
        };
        let answer = Answer {
            access: vec![
                period(Some("alice"), Some(How::Expired), "2026-11-22T22:00:30Z"),
                period(Some("bob"), Some(How::Command), "2026-11-22T22:00:30Z"),
                period(None, None, "2026-11-22T22:00:30Z"),
                period(Some("carol"), None, "2026-11-22T23:00:00Z"),
            ],
            refused: vec![refused],
            gaps: vec![],
        };
        let now = parse_time("2026-11-22T22:30:00Z").unwrap();
        insta::assert_snapshot!(render(&answer, now, true), @r#"
        from                  until                 client                       service  address       ended
        2026-11-22T22:00:00Z  2026-11-22T22:00:30Z  alice                        ssh      192.0.2.7/32  expired
        2026-11-22T22:00:00Z  2026-11-22T22:00:30Z  bob                          ssh      192.0.2.7/32  command by uid 1000
        2026-11-22T22:00:00Z  2026-11-22T22:00:30Z  card, sequence (replayable)  ssh      192.0.2.7/32  not recorded
        2026-11-22T22:00:00Z  2026-11-22T23:00:00Z  carol                        ssh      192.0.2.7/32  open

        refused               client      source  reason  why
        2026-11-22T22:00:00Z  a\u{1b}[2J  -       time    off (3 times)
        "#);
        let none = "nobody could reach anything\n\nno client was refused\n";
        assert_eq!(render(&Answer::default(), now, true), none);
    }

    #[test]
    fn times_are_said_either_way() {
        let now = UnixTime::from_secs(1_795_384_800);
        assert_eq!(when("1h").unwrap().before(now), UnixTime::from_secs(1_795_381_200));
        assert_eq!(
            when("2026-12-31").unwrap().before(now),
            UnixTime::from_secs(1_798_675_200)
        );
        assert!(when("yesterday").is_err());
    }
}

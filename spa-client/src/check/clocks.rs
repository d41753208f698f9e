//! The clock here, against others.

use std::path::Path;
use std::thread;
use std::time::Duration;

use spa_keys::profile::{Profile, Server};
use spa_keys::units::{format_time, now};

use super::findings::{Findings, State};
use crate::cli::CheckArgs;
use crate::clock::{self, Clock, Offset};
use crate::ntp;

/// A fresh request takes this long at most on its way; the gateway allows a minute.
const GOOD: Duration = Duration::from_secs(5);
/// The least window that a gateway has unless told otherwise (step 6).
const WINDOW: Duration = Duration::from_mins(1);
/// Written by systemd-timesyncd when it has set the clock.
const TIMESYNC: &str = "/run/systemd/timesync/synchronized";

pub(super) fn look(args: &CheckArgs, profile: &Profile, clock: Clock, findings: &mut Findings) {
    if let Some(warning) = clock::warning(clock.now(), clock::built()) {
        findings.add(
            "clock",
            State::Error,
            warning,
            Some("date, and a time server with --ntp".into()),
        );
    }
    let servers = if args.ntp.is_empty() { &profile.ntp } else { &args.ntp };
    if servers.is_empty() {
        return alone(findings);
    }
    let answers = ask(servers);
    for (server, answer) in servers.iter().zip(&answers) {
        if let Err(why) = answer {
            findings.add("clock", State::Unknown, format!("{server}: {why}"), None);
        }
    }
    let offsets: Vec<_> = answers.into_iter().flatten().collect();
    let (state, text, hint) = judge(&offsets, clock.0);
    findings.add("clock", state, text, hint);
}

/// Nobody was named who could tell.
fn alone(findings: &mut Findings) {
    let time = format_time(now());
    if Path::new(TIMESYNC).exists() {
        let text = format!("it shows {time} and is kept in time by systemd-timesyncd");
        return findings.add("clock", State::Ok, text, None);
    }
    findings.add(
        "clock",
        State::Unknown,
        format!("it shows {time}; compare it, the gateway allows a minute"),
        Some("--ntp with a time server that you trust".into()),
    );
}

/// All at once: each may take its time.
fn ask(servers: &[Server]) -> Vec<Result<Offset, String>> {
    let asked: Vec<_> = servers
        .iter()
        .cloned()
        .map(|server| thread::spawn(move || ntp::ask(&server)))
        .collect();
    let answers = asked.into_iter().map(thread::JoinHandle::join);
    answers
        .map(|answer| answer.unwrap_or_else(|_| Err("no answer".into())))
        .collect()
}

/// What the sources say of the clock, and of the offset that is used.
fn judge(offsets: &[Offset], used: Offset) -> (State, String, Option<String>) {
    let mut nanos: Vec<_> = offsets.iter().map(|offset| offset.nanos()).collect();
    nanos.sort_unstable();
    let (Some(least), Some(most)) = (nanos.first(), nanos.last()) else {
        return (State::Unknown, "no time server answered".into(), None);
    };
    if Offset::of_nanos(most - least).length() > GOOD {
        let said: Vec<_> = offsets.iter().map(|offset| offset.typed()).collect();
        return (
            State::Unknown,
            format!("the time servers do not agree: {}", said.join(", ")),
            None,
        );
    }
    let median = Offset::of_nanos(nanos[nanos.len() / 2]);
    let wrong = Offset::of_nanos(median.nanos() - used.nanos()).length();
    let (far, sources) = (median.typed(), offsets.len());
    match wrong {
        _ if wrong <= GOOD => (
            State::Ok,
            format!("right to a few seconds, by {sources} of the time servers"),
            None,
        ),
        _ => (
            if wrong < WINDOW { State::Warning } else { State::Error },
            format!("the time is {far} from what the clock here says, by {sources} of the time servers"),
            Some(format!("setting the clock, or --clock-offset {far}")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(seconds: &[i64], used: &str) -> (State, Option<String>) {
        let offset = |seconds: &i64| Offset::of_nanos(i128::from(*seconds) * 1_000_000_000);
        let offsets: Vec<_> = seconds.iter().map(offset).collect();
        let (state, _, hint) = judge(&offsets, used.parse().unwrap());
        (state, hint)
    }

    #[test]
    fn how_far_off() {
        assert_eq!(judged(&[0, 1, -1], "0s").0, State::Ok);
        assert_eq!(judged(&[20, 21], "0s").0, State::Warning);
        let (state, hint) = judged(&[75, 76, 75], "0s");
        assert_eq!(state, State::Error);
        assert_eq!(hint.unwrap(), "setting the clock, or --clock-offset +75s");
        assert_eq!(judged(&[75, 76, 75], "+75s").0, State::Ok, "corrected");
        assert_eq!(judged(&[0, 0], "-2h").0, State::Error, "corrected without need");
        assert_eq!(judged(&[0, 300], "0s").0, State::Unknown, "one of them lies");
        assert_eq!(judged(&[], "0s").0, State::Unknown);
    }
}

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

use serde_json::json;

use super::*;

const START: u64 = 1_795_384_800;

fn at(second: u64) -> Moment {
    Moment {
        wall: UnixTime::from_secs(START + second),
        uptime: Duration::from_secs(1000 + second),
    }
}

fn status(tag: u64, open: u64) -> Value {
    json!({
        "version": "0.1.0", "pid": 4711, "started": "2026-11-22T12:00:00Z", "dry_run": false,
        "config": { "loaded": "2026-11-22T12:00:00Z", "state": "current", "note": null },
        "interfaces": [{ "name": "any", "state": "up" }],
        "backends": [{ "name": "iptables", "state": "ok", "note": null }],
        "record": { "state": "ok", "ready_in_s": null },
        "clock": { "synchronised": true, "warning": null },
        "accepted": { "open": open, "close": 0, "enroll": 0 },
        "refused": { "shape": 0, "tag": tag, "copy": 0 },
        "dropped": { "kernel": 0, "queue": 0, "twice": 0 },
    })
}

fn grant(client: &str, remaining_s: u64, until: &str) -> Value {
    json!({
        "client": client, "service": "ssh", "address": "10.77.1.2", "opened": "10.77.1.2/32", "via": "knock",
        "since": "2026-11-22T22:00:01Z", "until": until, "remaining_s": remaining_s, "backends": ["iptables"],
    })
}

fn refused(source: &str, second: u64, count: u64) -> Value {
    json!({
        "at": format!("2026-11-22T22:00:{second:02}Z"), "step": 2, "reason": "tag", "client": null, "source": source,
        "source_port": 7, "difference_s": null, "detail": "not tagged with a key of this gateway", "count": count,
    })
}

fn heard(status: Value, grants: &[Value], refused: &[Value]) -> Heard {
    Heard {
        status,
        grants: json!({ "grants": grants }),
        refused: json!({ "refused": refused }),
    }
}

fn shown(watched: &Watched, now: Moment, width: usize, height: usize) -> String {
    let lines = view(watched, now, width, height);
    assert!(lines.len() <= height);
    let plain = |line: &Line| line.iter().map(|span| span.text.as_str()).collect::<String>();
    let lines: Vec<String> = lines.iter().map(plain).collect();
    assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// A minute and a half: a door opens, is renewed, and junk comes.
fn busy() -> Watched {
    let mut watched = Watched::new(at(0), heard(status(0, 0), &[], &[]));
    let alice = grant("alice", 29, "2026-11-22T22:00:31Z");
    watched.take(at(2), Ok(heard(status(3, 1), &[alice], &[refused("10.77.2.2", 1, 3)])));
    let again = grant("alice", 30, "2026-11-22T22:00:50Z");
    let bob = grant("bob", 7205, "2026-11-23T00:00:25Z");
    let junk = refused("10.77.2.2", 19, 90);
    watched.take(at(20), Ok(heard(status(90, 3), &[again, bob], &[junk])));
    watched
}

#[test]
fn a_busy_gateway_on_a_common_terminal() {
    insta::assert_snapshot!(shown(&busy(), at(21), 80, 24), @r"
    spa-server 0.1.0  pid 4711, since 2026-11-22T12:00:00Z; now 2026-11-22T22:00:21Z
    config current  record ok  clock ok  iptables ok  any up

    OPEN DOORS 2
          29 s  alice  ssh  10.77.1.2/32
       2:00:04  bob    ssh  10.77.1.2/32

    KNOCKS                  last 20 s     in all
      accepted open                 3          3  ##
      refused  tag                 90         90  ################################

    LAST EVENTS
      22:00:20  renewed  alice: ssh for 10.77.1.2/32
      22:00:19  refused  10.77.2.2: tag, 90 times: not tagged with a key of this g..
      22:00:01  opened   bob: ssh for 10.77.1.2/32
      22:00:01  opened   alice: ssh for 10.77.1.2/32
    q quits
    ");
}

#[test]
fn little_room() {
    insta::assert_snapshot!(shown(&busy(), at(21), 40, 14), @r"
    spa-server 0.1.0  pid 4711, since 2026..
    config current  record ok  clock ok  i..

    OPEN DOORS 2
          29 s  alice  ssh  10.77.1.2/32
       2:00:04  bob    ssh  10.77.1.2/32

    KNOCKS                  last 20 s     ..
      accepted open                 3     ..
      refused  tag                 90     ..

    LAST EVENTS
      and 4 more
    q quits
    ");
}

#[test]
fn any_size_will_do() {
    let watched = busy();
    for width in 0..100 {
        for height in 0..40 {
            shown(&watched, at(25), width, height);
        }
    }
}

#[test]
fn a_daemon_that_is_gone_and_comes_back() {
    let mut watched = busy();
    watched.take(at(22), Err("the daemon does not run".into()));
    watched.take(at(30), Err("the daemon does not run".into()));
    let gone = shown(&watched, at(30), 90, 12);
    insta::assert_snapshot!(gone, @r"
    spa-server 0.1.0  pid 4711, since 2026-11-22T12:00:00Z; now 2026-11-22T22:00:30Z
    no daemon since 2026-11-22T22:00:22Z: the daemon does not run; it is looked for every se..

    OPEN DOORS 2
          20 s  alice  ssh  10.77.1.2/32
       1:59:55  bob    ssh  10.77.1.2/32

    KNOCKS                  last 20 s     in all
      accepted open                 3          3  ##
      refused  tag                 90         90  ################################

    q quits
    ");
    let mut other = status(0, 0);
    other["pid"] = json!(4712);
    watched.take(at(40), Ok(heard(other, &[], &[])));
    let back = shown(&watched, at(40), 80, 30);
    assert!(
        !back.contains("no daemon") && back.contains("started  spa-server"),
        "{back}"
    );
    assert!(
        back.contains("last 0 s"),
        "counters of another daemon are not compared: {back}"
    );
}

#[test]
fn an_end_is_told_from_a_close() {
    let mut watched = busy();
    let bob = grant("bob", 7200, "2026-11-23T00:00:25Z");
    watched.take(at(51), Ok(heard(status(90, 3), &[bob], &[])));
    assert_eq!(watched.events.iter().next().unwrap().what, "ended");
    watched.take(at(52), Ok(heard(status(90, 3), &[], &[])));
    assert_eq!(watched.events.iter().next().unwrap().what, "closed");
}

#[test]
fn what_is_not_well_comes_first() {
    let mut status = status(0, 0);
    status["config"] = json!({ "loaded": "", "state": "changed", "note": "the file is another" });
    status["metrics"] = json!({ "listen": "127.0.0.1:9798", "state": "failing", "note": "in use" });
    status["scans"] = json!({ "mode": "ban", "bans": 2, "noticed": [] });
    let shown = shown(&Watched::new(at(0), heard(status, &[], &[])), at(0), 120, 10);
    let second = shown.lines().nth(1).unwrap();
    insta::assert_snapshot!(second, @r"config changed (the file is another)  metrics failing (in use)  record ok  clock ok  iptables ok  any up  scan guard b..");
}

#[test]
fn many_doors_leave_room_for_the_rest() {
    let doors: Vec<_> = (0..50)
        .map(|n| grant(&format!("c{n}"), 60, "2026-11-22T22:01:00Z"))
        .collect();
    let watched = Watched::new(at(0), heard(status(1, 50), &doors, &[refused("10.77.2.2", 1, 1)]));
    let shown = shown(&watched, at(0), 80, 24);
    for part in ["OPEN DOORS 50", "more", "KNOCKS", "LAST EVENTS", "q quits"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

#[test]
fn nothing_reaches_the_terminal_unescaped() {
    let mut bad = status(1, 0);
    bad["backends"][0]["note"] = json!("\u{1b}[2J");
    let mut evil = refused("\u{202e}", 1, 1);
    evil["detail"] = json!("\u{7}\n");
    let grant = grant("\u{1b}c", 5, "2026-11-22T22:00:05Z");
    let shown = shown(&Watched::new(at(0), heard(bad, &[grant], &[evil])), at(0), 400, 40);
    let odd = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!shown.contains(odd), "{shown:?}");
}

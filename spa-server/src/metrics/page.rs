//! The page itself. Pure: what `status` says in, text out.

use std::fmt::{Display, Write};

use serde_json::{Map, Value};
use spa_keys::units::parse_time;
use spa_proto::UnixTime;

use super::{COMMIT_BOUNDS, DIFFERENCE_BOUNDS, Histogram};

/// What is measured beside what `status` counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// How long commits of the record took.
    pub commits: Histogram,
    /// How far genuine knocks were off this gateway's clock, either way.
    pub differences: Histogram,
    /// The last of them: the knock's timestamp minus the clock, in seconds.
    pub last_difference: Option<f64>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            commits: Histogram::new(&COMMIT_BOUNDS),
            differences: Histogram::new(&DIFFERENCE_BOUNDS),
            last_difference: None,
        }
    }
}

impl Observed {
    /// Takes the timestamp of a genuine knock that came at `now`.
    pub fn knock(&mut self, timestamp: UnixTime, now: UnixTime) {
        let difference = timestamp.distance(now).as_secs_f64();
        self.differences.observe(difference);
        self.last_difference = Some(if timestamp < now { -difference } else { difference });
    }
}

/// The page for what `status` says, `observed`, and how many grants of each service are live.
#[must_use]
pub fn page<'a>(status: &Value, observed: &Observed, grants: impl IntoIterator<Item = (&'a str, usize)>) -> String {
    let mut page = Page::default();
    about_itself(&mut page, status);
    knocks(&mut page, status);
    page.family("spa_grants", "gauge", "Grants that are live, by service.");
    for (service, live) in grants {
        page.sample("spa_grants", &[("service", service)], live);
    }
    parts(&mut page, status);
    distributions(&mut page, observed);
    optional(&mut page, status);
    page.0
}

fn about_itself(page: &mut Page, status: &Value) {
    page.family("spa_build_info", "gauge", "The version that runs.");
    page.sample("spa_build_info", &[("version", text(&status["version"]))], 1);
    page.time("process_start_time_seconds", "When it was started.", &status["started"]);
    page.one(
        "spa_dry_run",
        "gauge",
        "1 when nothing is opened.",
        u8::from(status["dry_run"] == true),
    );
    let config = &status["config"];
    page.time(
        "spa_config_loaded_time_seconds",
        "When server.toml was loaded.",
        &config["loaded"],
    );
    let outcomes = ["current", "changed", "rejected", "unconfirmed"];
    page.states(
        "spa_config_state",
        "1 for what became of server.toml.",
        &outcomes,
        &config["state"],
    );
    let phases = ["ok", "waiting", "failing"];
    page.states(
        "spa_record_state",
        "1 for how the replay record is.",
        &phases,
        &status["record"]["state"],
    );
    if let Some(synchronised) = status["clock"]["synchronised"].as_bool() {
        let help = "1 when the kernel believes that its clock is kept in time.";
        page.one("spa_clock_synchronised", "gauge", help, u8::from(synchronised));
    }
}

fn knocks(page: &mut Page, status: &Value) {
    page.counts(
        "spa_accepted_total",
        "counter",
        "Knocks that were accepted, by kind.",
        "kind",
        &status["accepted"],
    );
    page.counts(
        "spa_refused_total",
        "counter",
        "Knocks that were refused, by reason.",
        "reason",
        &status["refused"],
    );
    let dropped = status["dropped"].as_object();
    let lost: Map<_, _> = dropped
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "twice")
        .map(owned)
        .collect();
    let help = "Packets that were not judged: the kernel's ring or the daemon's queue was full.";
    page.counts("spa_dropped_total", "counter", help, "by", &lost.into());
    let help = "Packets seen through a second interface and not judged again.";
    page.one("spa_captured_twice_total", "counter", help, &status["dropped"]["twice"]);
    let help = "Exact copies that came from another address than the first.";
    page.one("spa_forwarded_total", "counter", help, &status["forwarded"]);
}

fn parts(page: &mut Page, status: &Value) {
    let parts = [
        (
            "spa_backend_up",
            "1 when the backend's last work succeeded.",
            "backend",
            &status["backends"],
            "ok",
        ),
        (
            "spa_interface_up",
            "1 when the interface is captured and up.",
            "interface",
            &status["interfaces"],
            "up",
        ),
    ];
    for (name, help, label, list, good) in parts {
        page.family(name, "gauge", help);
        for part in list.as_array().into_iter().flatten() {
            page.sample(name, &[(label, text(&part["name"]))], u8::from(part["state"] == good));
        }
    }
    page.counts(
        "spa_clients",
        "gauge",
        "Clients by the state of their key.",
        "state",
        &status["clients"],
    );
}

fn distributions(page: &mut Page, observed: &Observed) {
    let help = "How long it took to make the record durable.";
    page.histogram("spa_record_commit_seconds", help, &observed.commits);
    let help = "How far genuine knocks were off this gateway's clock, either way.";
    page.histogram("spa_knock_clock_difference_seconds", help, &observed.differences);
    if let Some(last) = observed.last_difference {
        let help = "The last genuine knock's timestamp minus this gateway's clock.";
        page.one("spa_knock_last_clock_difference_seconds", "gauge", help, last);
    }
}

/// What is off unless written.
fn optional(page: &mut Page, status: &Value) {
    let (scans, sequences) = (&status["scans"], &status["sequences"]);
    if !scans.is_null() {
        page.one(
            "spa_bans",
            "gauge",
            "Sources that the scan guard shuts out.",
            &scans["bans"],
        );
    }
    if !sequences.is_null() {
        page.one(
            "spa_sequences_opened_total",
            "counter",
            "Doors that sequences opened.",
            &sequences["opened"],
        );
        page.one(
            "spa_sequences_failed_total",
            "counter",
            "Sequences that opened nothing.",
            &sequences["failed"],
        );
    }
}

/// The text as it grows. Writing to a String cannot fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", quoted(text)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// One sample for each number of an object, told apart by `label`.
    fn counts(&mut self, name: &str, kind: &str, help: &str, label: &str, numbers: &Value) {
        self.family(name, kind, help);
        for (key, number) in numbers.as_object().into_iter().flatten() {
            self.sample(name, &[(label, key)], number);
        }
    }

    /// One sample for each state there is; the one that holds is 1.
    fn states(&mut self, name: &str, help: &str, states: &[&str], now: &Value) {
        self.family(name, "gauge", help);
        for state in states {
            self.sample(name, &[("state", state)], u8::from(now == state));
        }
    }

    fn time(&mut self, name: &str, help: &str, time: &Value) {
        if let Ok(time) = parse_time(text(time)) {
            self.one(name, "gauge", help, time.as_secs());
        }
    }

    fn histogram(&mut self, name: &str, help: &str, values: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in values.cumulative() {
            self.sample(&bucket, &[("le", &bound.to_string())], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], values.number());
        self.sample(&format!("{name}_sum"), &[], values.sum());
        self.sample(&format!("{name}_count"), &[], values.number());
    }
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A label's value as the format wants it.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "version": "0.1.0", "started": "2026-11-22T12:00:00Z", "dry_run": false,
            "config": { "loaded": "2026-11-22T12:00:01Z", "state": "changed" },
            "interfaces": [{ "name": "eth0", "state": "up" }, { "name": "wg\"0", "state": "waiting" }],
            "backends": [{ "name": "iptables", "state": "ok" }],
            "record": { "state": "ok" }, "clock": { "synchronised": true },
            "clients": { "active": 2, "revoked": 1 },
            "accepted": { "open": 3, "close": 1, "enroll": 0 },
            "refused": { "tag": 7, "replay": 1 },
            "dropped": { "kernel": 0, "queue": 2, "twice": 5 }, "forwarded": 1,
            "scans": { "bans": 4 }, "sequences": { "opened": 1, "failed": 2 },
        })
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a snapshot")]
    fn the_whole_page() {
        let mut observed = Observed::default();
        observed.commits.observe(0.000_3);
        observed.knock(UnixTime::from_secs(97), UnixTime::from_secs(100));
        let shown = page(&status(), &observed, [("ssh", 2), ("db", 0)]);
        insta::assert_snapshot!(shown, @r#"
        # HELP spa_build_info The version that runs.
        # TYPE spa_build_info gauge
        spa_build_info{version="0.1.0"} 1
        # HELP process_start_time_seconds When it was started.
        # TYPE process_start_time_seconds gauge
        process_start_time_seconds 1795348800
        # HELP spa_dry_run 1 when nothing is opened.
        # TYPE spa_dry_run gauge
        spa_dry_run 0
        # HELP spa_config_loaded_time_seconds When server.toml was loaded.
        # TYPE spa_config_loaded_time_seconds gauge
        spa_config_loaded_time_seconds 1795348801
        # HELP spa_config_state 1 for what became of server.toml.
        # TYPE spa_config_state gauge
        spa_config_state{state="current"} 0
        spa_config_state{state="changed"} 1
        spa_config_state{state="rejected"} 0
        spa_config_state{state="unconfirmed"} 0
        # HELP spa_record_state 1 for how the replay record is.
        # TYPE spa_record_state gauge
        spa_record_state{state="ok"} 1
        spa_record_state{state="waiting"} 0
        spa_record_state{state="failing"} 0
        # HELP spa_clock_synchronised 1 when the kernel believes that its clock is kept in time.
        # TYPE spa_clock_synchronised gauge
        spa_clock_synchronised 1
        # HELP spa_accepted_total Knocks that were accepted, by kind.
        # TYPE spa_accepted_total counter
        spa_accepted_total{kind="open"} 3
        spa_accepted_total{kind="close"} 1
        spa_accepted_total{kind="enroll"} 0
        # HELP spa_refused_total Knocks that were refused, by reason.
        # TYPE spa_refused_total counter
        spa_refused_total{reason="tag"} 7
        spa_refused_total{reason="replay"} 1
        # HELP spa_dropped_total Packets that were not judged: the kernel's ring or the daemon's queue was full.
        # TYPE spa_dropped_total counter
        spa_dropped_total{by="kernel"} 0
        spa_dropped_total{by="queue"} 2
        # HELP spa_captured_twice_total Packets seen through a second interface and not judged again.
        # TYPE spa_captured_twice_total counter
        spa_captured_twice_total 5
        # HELP spa_forwarded_total Exact copies that came from another address than the first.
        # TYPE spa_forwarded_total counter
        spa_forwarded_total 1
        # HELP spa_grants Grants that are live, by service.
        # TYPE spa_grants gauge
        spa_grants{service="ssh"} 2
        spa_grants{service="db"} 0
        # HELP spa_backend_up 1 when the backend's last work succeeded.
        # TYPE spa_backend_up gauge
        spa_backend_up{backend="iptables"} 1
        # HELP spa_interface_up 1 when the interface is captured and up.
        # TYPE spa_interface_up gauge
        spa_interface_up{interface="eth0"} 1
        spa_interface_up{interface="wg\"0"} 0
        # HELP spa_clients Clients by the state of their key.
        # TYPE spa_clients gauge
        spa_clients{state="active"} 2
        spa_clients{state="revoked"} 1
        # HELP spa_record_commit_seconds How long it took to make the record durable.
        # TYPE spa_record_commit_seconds histogram
        spa_record_commit_seconds_bucket{le="0.0001"} 0
        spa_record_commit_seconds_bucket{le="0.0005"} 1
        spa_record_commit_seconds_bucket{le="0.001"} 1
        spa_record_commit_seconds_bucket{le="0.0025"} 1
        spa_record_commit_seconds_bucket{le="0.005"} 1
        spa_record_commit_seconds_bucket{le="0.01"} 1
        spa_record_commit_seconds_bucket{le="0.025"} 1
        spa_record_commit_seconds_bucket{le="0.1"} 1
        spa_record_commit_seconds_bucket{le="0.5"} 1
        spa_record_commit_seconds_bucket{le="2.5"} 1
        spa_record_commit_seconds_bucket{le="+Inf"} 1
        spa_record_commit_seconds_sum 0.0003
        spa_record_commit_seconds_count 1
        # HELP spa_knock_clock_difference_seconds How far genuine knocks were off this gateway's clock, either way.
        # TYPE spa_knock_clock_difference_seconds histogram
        spa_knock_clock_difference_seconds_bucket{le="0.1"} 0
        spa_knock_clock_difference_seconds_bucket{le="0.5"} 0
        spa_knock_clock_difference_seconds_bucket{le="1"} 0
        spa_knock_clock_difference_seconds_bucket{le="2"} 0
        spa_knock_clock_difference_seconds_bucket{le="5"} 1
        spa_knock_clock_difference_seconds_bucket{le="15"} 1
        spa_knock_clock_difference_seconds_bucket{le="30"} 1
        spa_knock_clock_difference_seconds_bucket{le="60"} 1
        spa_knock_clock_difference_seconds_bucket{le="300"} 1
        spa_knock_clock_difference_seconds_bucket{le="3600"} 1
        spa_knock_clock_difference_seconds_bucket{le="+Inf"} 1
        spa_knock_clock_difference_seconds_sum 3
        spa_knock_clock_difference_seconds_count 1
        # HELP spa_knock_last_clock_difference_seconds The last genuine knock's timestamp minus this gateway's clock.
        # TYPE spa_knock_last_clock_difference_seconds gauge
        spa_knock_last_clock_difference_seconds -3
        # HELP spa_bans Sources that the scan guard shuts out.
        # TYPE spa_bans gauge
        spa_bans 4
        # HELP spa_sequences_opened_total Doors that sequences opened.
        # TYPE spa_sequences_opened_total counter
        spa_sequences_opened_total 1
        # HELP spa_sequences_failed_total Sequences that opened nothing.
        # TYPE spa_sequences_failed_total counter
        spa_sequences_failed_total 2
        "#);
    }

    #[test]
    fn what_is_unknown_or_off_is_left_out() {
        let mut status = status();
        status["clock"]["synchronised"] = Value::Null;
        status
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key != "scans" && key != "sequences");
        let shown = page(&status, &Observed::default(), []);
        for name in [
            "spa_clock_synchronised",
            "spa_bans",
            "spa_sequences",
            "last_clock_difference",
        ] {
            assert!(!shown.contains(name), "{name}\n{shown}");
        }
    }
}

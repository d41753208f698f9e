//! The daemon's answers for people.

use std::fmt::Write;

use serde_json::Value;
use spa_keys::escape::escape;

use super::bans::shortened;

/// Scans that are shown to people; `--json` tells of more.
const SCANS: usize = 10;

/// `status`.
pub(super) fn status(answer: &Value) -> String {
    let mut out = String::new();
    let dry = if answer["dry_run"] == true { ", dry run" } else { "" };
    line(
        &mut out,
        "spa-server",
        &format!(
            "{} (pid {}){dry}, since {}",
            text(&answer["version"]),
            answer["pid"],
            text(&answer["started"])
        ),
    );
    line(&mut out, "gateway", &list(&answer["gateway"], text));
    line(&mut out, "config", &noted(&answer["config"]));
    line(&mut out, "interfaces", &list(&answer["interfaces"], named));
    line(&mut out, "backends", &list(&answer["backends"], named));
    let record = &answer["record"];
    let wait = record["ready_in_s"]
        .as_u64()
        .map_or(String::new(), |s| format!(", everything is refused for {s} s"));
    line(&mut out, "record", &format!("{}{wait}", text(&record["state"])));
    if !answer["audit"].is_null() {
        line(&mut out, "audit log", &noted(&answer["audit"]));
    }
    line(&mut out, "clock", &clock(&answer["clock"]));
    line(&mut out, "clients", &counts(&answer["clients"], false));
    line(&mut out, "grants", &answer["grants"].to_string());
    line(&mut out, "accepted", &counts(&answer["accepted"], false));
    line(&mut out, "refused", &counts(&answer["refused"], true));
    line(&mut out, "dropped", &counts(&answer["dropped"], true));
    line(&mut out, "forwarded", &answer["forwarded"].to_string());
    if !answer["scans"].is_null() {
        line(&mut out, "scans", &scans(&answer["scans"]));
    }
    if !answer["metrics"].is_null() {
        let place = &answer["metrics"];
        line(
            &mut out,
            "metrics",
            &format!("{} {}", text(&place["listen"]), noted(place)),
        );
    }
    let sequences = &answer["sequences"];
    if !sequences.is_null() {
        let (opened, failed) = (&sequences["opened"], &sequences["failed"]);
        let names = list(&sequences["sequences"], text);
        line(
            &mut out,
            "sequences",
            &format!("{names}: opened {opened}, failed {failed}"),
        );
    }
    out
}

/// A scan on each line below how the guard stands.
fn scans(scans: &Value) -> String {
    let scan = |scan: &Value| {
        let ports: Vec<_> = scan["ports"].as_array().into_iter().flatten().map(text).collect();
        let state = match (scan["over"] == true, scan["banned"] == true) {
            (_, true) => ", shut out",
            (true, false) => ", over",
            (false, false) => "",
        };
        let (source, probes, last) = (text(&scan["source"]), list(&scan["probes"], text), text(&scan["last"]));
        format!("\n{:12}{source}: {}; {probes}; {last}{state}", "", shortened(&ports))
    };
    let noticed: String = scans["noticed"]
        .as_array()
        .into_iter()
        .flatten()
        .take(SCANS)
        .map(scan)
        .collect();
    format!("{}, {} shut out{noticed}", text(&scans["mode"]), scans["bans"])
}

/// `grants`.
pub(super) fn grants(answer: &Value) -> String {
    let row = |grant: &Value| {
        let who = grant["client"]
            .as_str()
            .map_or("(sequence)".into(), |name| escape(name).into_owned());
        let left = grant["remaining_s"].as_u64().unwrap_or(0);
        [
            who,
            text(&grant["service"]),
            text(&grant["opened"]),
            format!("{left} s"),
            text(&grant["until"]),
        ]
    };
    let rows: Vec<_> = answer["grants"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        "no door is open\n".into()
    } else {
        table(["client", "service", "opened", "left", "until"], &rows)
    }
}

/// `explain`.
pub(super) fn explain(answer: &Value) -> String {
    let row = |refused: &Value| {
        let count = refused["count"].as_u64().unwrap_or(1);
        let times = if count > 1 {
            format!(" ({count} times)")
        } else {
            String::new()
        };
        // Sequences are no part of the protocol: no step of it is theirs.
        let step = refused["step"].as_u64().filter(|step| *step > 0);
        let step = step.map_or(String::new(), |step| format!(" (step {step})"));
        let reason = text(&refused["reason"]) + &step;
        [
            text(&refused["at"]),
            text(&refused["source"]),
            text(&refused["client"]),
            reason,
            text(&refused["detail"]) + &times,
        ]
    };
    let rows: Vec<_> = answer["refused"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        "nothing was refused\n".into()
    } else {
        table(["at", "source", "client", "reason", "why"], &rows)
    }
}

/// `close`.
pub(super) fn closed(answer: &Value) -> String {
    match answer["closed"].as_u64().unwrap_or(0) {
        0 => "nothing was open\n".into(),
        1 => "1 grant ended\n".into(),
        ended => format!("{ended} grants ended\n"),
    }
}

fn line(out: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name:<12}{value}");
}

pub(super) fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| "-".into(), |text| escape(text).into_owned())
}

fn list(values: &Value, show: fn(&Value) -> String) -> String {
    let shown: Vec<_> = values.as_array().into_iter().flatten().map(show).collect();
    if shown.is_empty() {
        "none".into()
    } else {
        shown.join(", ")
    }
}

fn named(value: &Value) -> String {
    format!("{} {}", text(&value["name"]), noted(value))
}

fn noted(value: &Value) -> String {
    let note = value["note"]
        .as_str()
        .map_or(String::new(), |note| format!(" ({})", escape(note)));
    text(&value["state"]) + &note
}

fn clock(clock: &Value) -> String {
    let synchronised = match clock["synchronised"].as_bool() {
        Some(true) => "synchronised",
        Some(false) => "not synchronised by anybody",
        None => "unknown",
    };
    clock["warning"].as_str().map_or(synchronised.into(), |warning| {
        format!("{synchronised}; {}", escape(warning))
    })
}

fn counts(values: &Value, hide_zero: bool) -> String {
    let shown =
        |(name, count): (&String, &Value)| (!hide_zero || count.as_u64() != Some(0)).then(|| format!("{name} {count}"));
    let shown: Vec<_> = values.as_object().into_iter().flatten().filter_map(shown).collect();
    if shown.is_empty() {
        "none".into()
    } else {
        shown.join(", ")
    }
}

/// Columns as wide as what is in them.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in std::iter::once(head.map(String::from)).chain(rows.iter().cloned()) {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn grants_in_columns() {
        let grant = json!({ "client": "alice", "service": "ssh", "opened": "192.0.2.7/32", "remaining_s": 29, "until": "2026-11-22T15:00:00Z" });
        let shown = grants(&json!({ "grants": [grant] }));
        insta::assert_snapshot!(shown, @r"
        client  service  opened        left  until
        alice   ssh      192.0.2.7/32  29 s  2026-11-22T15:00:00Z
        ");
        assert_eq!(grants(&json!({ "grants": [] })), "no door is open\n");
    }

    #[test]
    fn nothing_reaches_a_terminal_unescaped() {
        let refused = json!({ "at": "t", "source": "s", "client": "\u{1b}[2J", "reason": "who", "step": 4, "detail": "\u{202e}", "count": 2 });
        let shown = explain(&json!({ "refused": [refused] }));
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
    }
}

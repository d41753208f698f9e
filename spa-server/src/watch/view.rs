//! From what is known to lines of a terminal of any size. All text is escaped here.

use std::time::Duration;

use serde_json::Value;
use spa_keys::escape::escape;
use spa_keys::units::format_time;
use spa_proto::Moment;

use super::Watched;
use super::rates::Count;

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A head.
    Head,
    /// Of less weight.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Free of control characters.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

/// A line, no wider than the terminal.
pub type Line = Vec<Span>;

/// Stands where a line is cut.
const CUT: &str = "..";
/// How many lines the doors have when there is little room.
const FEW: usize = 4;

/// The whole screen at `now`, at most `height` lines of `width` columns.
#[must_use]
pub fn view(watched: &Watched, now: Moment, width: usize, height: usize) -> Vec<Line> {
    let mut lines = head(watched, now);
    let foot = vec![span(Style::Dim, "q quits")];
    let mut room = height.saturating_sub(lines.len() + 1);
    for (section, most) in [
        (doors(watched, now), room.div_ceil(3).max(FEW)),
        (rates(watched, width), room / 2),
    ] {
        let section = shortened(section, most.min(room));
        room -= section.len();
        lines.extend(section);
    }
    let events = events(watched);
    lines.extend(shortened(events, room));
    lines.truncate(height.saturating_sub(1));
    lines.push(foot);
    lines.into_iter().take(height).map(|line| fit(line, width)).collect()
}

fn head(watched: &Watched, now: Moment) -> Vec<Line> {
    let status = &watched.last.status;
    let dry = if status["dry_run"] == true { ", dry run" } else { "" };
    let title = format!("spa-server {}", text(&status["version"]));
    let life = format!(
        "  pid {}{dry}, since {}; now {}",
        status["pid"],
        text(&status["started"]),
        format_time(now.wall)
    );
    let first = vec![span(Style::Head, &title), span(Style::Dim, &life)];
    let second = match &watched.away {
        Some((since, why)) => {
            let away = format!(
                "no daemon since {}: {why}; it is looked for every second",
                format_time(*since)
            );
            vec![span(Style::Bad, &away)]
        }
        None => states(status),
    };
    vec![first, second, Vec::new()]
}

/// Everything that should be well, in one line; what is not comes first.
fn states(status: &Value) -> Line {
    let mut parts = Vec::new();
    let mut tell = |name: &str, state: &str, good: &str, note: &Value| {
        let note = note.as_str().map_or_else(String::new, |note| format!(" ({note})"));
        parts.push((state == good, name.to_owned(), format!("{state}{note}")));
    };
    let config = &status["config"];
    tell("config", text(&config["state"]), "current", &config["note"]);
    let record = &status["record"];
    let wait = record["ready_in_s"]
        .as_u64()
        .map(|s| Value::from(format!("{s} s, all is refused")));
    tell("record", text(&record["state"]), "ok", &wait.unwrap_or_default());
    let clock = &status["clock"];
    let kept = match clock["synchronised"].as_bool() {
        Some(true) => "ok",
        Some(false) => "not synchronised",
        None => "unknown",
    };
    tell("clock", kept, "ok", &clock["warning"]);
    for (list, good) in [("backends", "ok"), ("interfaces", "up")] {
        for part in status[list].as_array().into_iter().flatten() {
            tell(text(&part["name"]), text(&part["state"]), good, &part["note"]);
        }
    }
    let (guard, metrics) = (&status["scans"], &status["metrics"]);
    if let Some(mode) = guard["mode"].as_str() {
        let state = format!("{mode}, {} shut out", guard["bans"]);
        tell("scan guard", &state, &state, &Value::Null);
    }
    if let Some(state) = metrics["state"].as_str() {
        tell("metrics", state, "ok", &metrics["note"]);
    }
    parts.sort_by_key(|(good, ..)| *good);
    let told = |(good, name, state): (bool, String, String)| {
        let style = if good { Style::Good } else { Style::Bad };
        [
            span(Style::Plain, &format!("{name} ")),
            span(style, &format!("{state}  ")),
        ]
    };
    parts.into_iter().flat_map(told).collect()
}

fn doors(watched: &Watched, now: Moment) -> Vec<Line> {
    let mut grants: Vec<_> = watched.last.grants["grants"].as_array().into_iter().flatten().collect();
    grants.sort_by_key(|grant| grant["remaining_s"].as_u64());
    let old = now.uptime.saturating_sub(watched.heard_at).as_secs();
    let mut lines = vec![vec![span(Style::Head, &format!("OPEN DOORS {}", grants.len()))]];
    let rows: Vec<_> = grants.iter().map(|grant| door(grant, old)).collect();
    let widest = |part: fn(&Door) -> &str| rows.iter().map(|row| part(row).chars().count()).max().unwrap_or(0);
    let (whom, what) = (widest(|row| &row.who), widest(|row| &row.service));
    for row in &rows {
        let style = if row.left <= 5 { Style::Warn } else { Style::Good };
        let facts = format!("  {:<whom$}  {:<what$}  {}", row.who, row.service, row.opened);
        lines.push(vec![
            span(style, &format!("  {:>8}", countdown(row.left))),
            span(Style::Plain, &facts),
        ]);
    }
    if lines.len() == 1 {
        lines.push(vec![span(Style::Dim, "  none")]);
    }
    lines.push(Vec::new());
    lines
}

/// A door as it is shown.
struct Door {
    left: u64,
    who: String,
    service: String,
    opened: String,
}

/// What was heard of it `old` seconds ago.
fn door(grant: &Value, old: u64) -> Door {
    let escaped = |value: &Value| escape(text(value)).into_owned();
    Door {
        left: grant["remaining_s"].as_u64().unwrap_or(0).saturating_sub(old),
        who: grant["client"]
            .as_str()
            .map_or("(sequence)".into(), |name| escape(name).into_owned()),
        service: escaped(&grant["service"]),
        opened: escaped(&grant["opened"]),
    }
}

fn rates(watched: &Watched, width: usize) -> Vec<Line> {
    let seconds = watched.rates.span().as_secs();
    let mut lines = vec![vec![
        span(Style::Head, &format!("{:<24}", "KNOCKS")),
        span(
            Style::Dim,
            &format!("{:>9} {:>10}", format!("last {seconds} s"), "in all"),
        ),
    ]];
    let counts = watched.rates.counts();
    let shown: Vec<&Count> = counts
        .iter()
        .filter(|count| count.total > 0 || count.name == "open")
        .collect();
    let most = shown.iter().map(|count| count.lately).max().unwrap_or(0).max(1);
    let room = width.saturating_sub(48).min(32);
    for count in shown {
        let style = match (count.group, count.lately) {
            (_, 0) => Style::Dim,
            ("accepted", _) => Style::Good,
            ("refused", _) => Style::Warn,
            _ if count.name == "twice" => Style::Dim,
            _ => Style::Bad,
        };
        let bar = bar(count.lately, most, room);
        lines.push(vec![
            span(Style::Plain, &format!("  {:<9}{:<13}", count.group, count.name)),
            span(style, &format!("{:>9}", count.lately)),
            span(Style::Dim, &format!(" {:>10}  ", count.total)),
            span(style, &bar),
        ]);
    }
    lines.push(Vec::new());
    lines
}

fn bar(value: u64, most: u64, room: usize) -> String {
    let room = u64::try_from(room).unwrap_or(0);
    let length = value.saturating_mul(room).div_ceil(most);
    "#".repeat(usize::try_from(length).unwrap_or(0))
}

fn events(watched: &Watched) -> Vec<Line> {
    let mut lines = vec![vec![span(Style::Head, "LAST EVENTS")]];
    for event in watched.events.iter() {
        let style = match event.what {
            "refused" => Style::Warn,
            "opened" | "renewed" => Style::Good,
            _ => Style::Plain,
        };
        // Of 2026-11-22T22:00:00Z the time is enough.
        let time = event.at.get(11..19).unwrap_or(&event.at);
        lines.push(vec![
            span(Style::Dim, &format!("  {time}  ")),
            span(style, &format!("{:<8}", event.what)),
            span(Style::Plain, &format!(" {}", event.text)),
        ]);
    }
    if lines.len() == 1 {
        lines.push(vec![span(Style::Dim, "  none since this watch began")]);
    }
    lines
}

/// As many lines as there is room for; the last of them says how many more there are.
fn shortened(mut lines: Vec<Line>, most: usize) -> Vec<Line> {
    if lines.len() <= most {
        return lines;
    }
    let ends_empty = lines.last().is_some_and(Vec::is_empty);
    let kept = most.saturating_sub(1 + usize::from(ends_empty));
    let more = lines.len() - kept - usize::from(ends_empty);
    lines.truncate(kept);
    if most > 1 {
        lines.push(vec![span(Style::Dim, &format!("  and {more} more"))]);
    }
    if ends_empty {
        lines.push(Vec::new());
    }
    lines.truncate(most);
    lines
}

/// Cut at the terminal's edge.
fn fit(line: Line, width: usize) -> Line {
    let mut room = width;
    let mut fitting = Vec::new();
    for Span { text, style } in line {
        let length = text.chars().count();
        if length > room {
            let kept = text.chars().take(room.saturating_sub(CUT.len()));
            let text = kept.chain(CUT.chars()).take(room).collect();
            fitting.push(Span { text, style });
            break;
        }
        room -= length;
        fitting.push(Span { text, style });
    }
    fitting
}

/// `27 s`, `4:05`, `7:59:59`.
fn countdown(seconds: u64) -> String {
    let length = Duration::from_secs(seconds).as_secs();
    let (hours, minutes, rest) = (length / 3600, length / 60 % 60, length % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

fn span(style: Style, text: &str) -> Span {
    Span {
        text: escape(text).into_owned(),
        style,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

//! `spa-server bans` and `unban`: who is shut out by the scan guard.

use clap::Args;
use ipnet::IpNet;
use serde_json::{Value, json};
use spa_keys::{Failure, Paths};

use super::report::{table, text};
use super::{ask, network};

/// Whom `unban` lets in again.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct UnbanArguments {
    /// An address or a network; a ban of a network that it lies in is lifted as a whole
    #[arg(value_name = "ADDRESS", value_parser = network)]
    network: Option<IpNet>,
    /// Everybody
    #[arg(long)]
    all: bool,
}

pub(super) fn bans(paths: &Paths, as_json: bool) -> Result<(), Failure> {
    ask(paths, as_json, "spa.Bans", &Value::Null, listed)
}

pub(super) fn unban(paths: &Paths, as_json: bool, arguments: &UnbanArguments) -> Result<(), Failure> {
    let parameters = json!({ "network": arguments.network, "all": arguments.all });
    ask(paths, as_json, "spa.Unban", &parameters, lifted)
}

fn listed(answer: &Value) -> String {
    let row = |ban: &Value| {
        let ports: Vec<_> = ban["ports"].as_array().into_iter().flatten().map(text).collect();
        let left = ban["remaining_s"].as_u64().unwrap_or(0);
        [
            text(&ban["network"]),
            format!("{left} s"),
            text(&ban["until"]),
            shortened(&ports),
        ]
    };
    let rows: Vec<_> = answer["bans"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        "nobody is shut out\n".into()
    } else {
        table(["source", "left", "until", "touched"], &rows)
    }
}

fn lifted(answer: &Value) -> String {
    match answer["lifted"].as_u64().unwrap_or(0) {
        0 => "nobody there was shut out\n".into(),
        1 => "1 ban lifted\n".into(),
        lifted => format!("{lifted} bans lifted\n"),
    }
}

/// As many as fit a line of a terminal.
pub(super) fn shortened(ports: &[String]) -> String {
    const FIT: usize = 6;
    let told = ports.iter().take(FIT).cloned().collect::<Vec<_>>().join(", ");
    match ports.len().saturating_sub(FIT) {
        0 if ports.is_empty() => "-".into(),
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_in_columns() {
        let ban = json!({ "network": "192.0.2.7/32", "remaining_s": 3599, "until": "2026-11-22T15:00:00Z",
            "ports": ["tcp/1", "tcp/3", "tcp/5", "tcp/7", "tcp/9", "tcp/11-20", "udp/53"], "backends": ["iptables"] });
        insta::assert_snapshot!(listed(&json!({ "bans": [ban] })), @r#"
        source        left    until                 touched
        192.0.2.7/32  3599 s  2026-11-22T15:00:00Z  tcp/1, tcp/3, tcp/5, tcp/7, tcp/9, tcp/11-20 and 1 more
        "#);
        assert_eq!(listed(&json!({ "bans": [] })), "nobody is shut out\n");
        assert_eq!(lifted(&json!({ "lifted": 2 })), "2 bans lifted\n");
        assert_eq!(shortened(&[]), "-");
    }
}

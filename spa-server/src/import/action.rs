//! What a door of knockd does, and what that is here: ports behind the firewall where that can be told, else commands.

use std::time::Duration;

use spa_keys::units::format_duration;

use super::knockd::{Command, Door};
use crate::config::{DEFAULT_DURATION, DEFAULT_MAX_DURATION, LONGEST_DURATION, Protocol};

/// What a service is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// What `iptables -I INPUT -s %IP% ... -j ACCEPT` did.
    Ports(Protocol, u16),
    /// Anything else: arguments at the beginning and at the end.
    Commands {
        name: String,
        open: Vec<String>,
        close: Vec<String>,
    },
}

/// The action, and notes with their lines; or why there is none.
type Outcome = Result<(Action, Vec<(usize, String)>), (usize, String)>;

pub(super) fn action(door: &Door) -> Outcome {
    let Some(start) = door.start.as_ref().or(door.start_6.as_ref()) else {
        return Err((door.line, "it has no start command".to_owned()));
    };
    let mut notes = Vec::new();
    for (six, four, what) in [
        (&door.start_6, &door.start, "Start_Command"),
        (&door.stop_6, &door.stop, "Stop_Command"),
    ] {
        match (six, four) {
            (Some(six), Some(four)) if !same_action(six, four) => {
                let text =
                    format!("{what}_6 is another command than {what}: both families run the latter, with {{address}}");
                notes.push((six.line, text));
            }
            _ => {}
        }
    }
    if let Some(ports) = accepted(&start.text) {
        let text = "the firewall service ends the door by itself; its stop command is not needed";
        notes.extend(door.stop.as_ref().map(|stop| (stop.line, text.to_owned())));
        if door.cmd_timeout.is_none() {
            let text = format!(
                "knockd left this door open; here it ends by itself after {}",
                format_duration(DEFAULT_DURATION)
            );
            notes.push((start.line, text));
        }
        return Ok((ports, notes));
    }
    if is_removal(&start.text) {
        let text = "it only shuts a door; doors end by themselves, or with spa-server close";
        return Err((start.line, text.to_owned()));
    }
    let close = door.stop.as_ref().map(arguments).transpose()?.unwrap_or_default();
    let action = Action::Commands {
        name: door.name.clone(),
        open: arguments(start)?,
        close,
    };
    Ok((action, notes))
}

fn same_action(a: &Command, b: &Command) -> bool {
    a.text == b.text || accepted(&a.text).is_some_and(|ports| accepted(&b.text) == Some(ports))
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn is_iptables(word: &str) -> bool {
    matches!(word.rsplit('/').next(), Some("iptables" | "ip6tables"))
}

fn is_removal(text: &str) -> bool {
    let words = words(text);
    words.first().is_some_and(|word| is_iptables(word)) && words.iter().any(|word| matches!(*word, "-D" | "--delete"))
}

/// The port that a plain iptables command lets the knocking address to; none for any other command.
fn accepted(text: &str) -> Option<Action> {
    let words = words(text);
    let mut words = words.into_iter();
    words.next().filter(|word| is_iptables(word))?;
    let (mut chain, mut source, mut protocol, mut port, mut target) = (None, None, None, None, None);
    while let Some(word) = words.next() {
        match word {
            "-A" | "-I" | "--append" | "--insert" => chain = words.next(),
            // The place in the chain.
            "1" => {}
            "-s" | "--source" | "--src" => source = words.next(),
            "-p" | "--protocol" | "--proto" => protocol = words.next(),
            "--dport" | "--destination-port" => port = words.next(),
            "-j" | "--jump" => target = words.next(),
            _ => return None,
        }
    }
    let protocol = match protocol? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let plain = (chain, source, target) == (Some("INPUT"), Some("%IP%"), Some("ACCEPT"));
    let port = port?.parse().ok().filter(|port| *port != 0 && plain)?;
    Some(Action::Ports(protocol, port))
}

/// There is no shell: what needs one cannot be carried over.
fn arguments(command: &Command) -> Result<Vec<String>, (usize, String)> {
    let Command { line, text } = command;
    if let Some(odd) = text.chars().find(|c| "|&;<>()$`\\\"'*?[]{}~#!".contains(*c)) {
        return Err((
            *line,
            format!("its command has {odd} in it, which only a shell understands; put it into a script"),
        ));
    }
    if !text.starts_with('/') {
        return Err((*line, "its command does not begin with a whole path".to_owned()));
    }
    Ok(words(text)
        .into_iter()
        .map(|word| word.replace("%IP%", "{address}"))
        .collect())
}

impl Action {
    /// Whether one service does for both.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        matches!(self, Self::Ports(..)) && self == other
    }

    /// The service's name; `door` is the sequence's.
    pub(super) fn service_name(&self, door: &str) -> String {
        match self {
            Self::Ports(Protocol::Tcp, 22) => "ssh".to_owned(),
            Self::Ports(protocol, port) => format!("{protocol}-{port}"),
            Self::Commands { .. } => door.to_owned(),
        }
    }

    /// The service for server.toml.
    pub(super) fn to_toml(&self, name: &str, cmd_timeout: Option<u64>) -> String {
        let length = cmd_timeout.map_or(DEFAULT_DURATION, Duration::from_secs);
        let length = length.clamp(Duration::from_secs(1), LONGEST_DURATION);
        let mut lines = vec!["\n[[service]]".to_owned(), format!("name = \"{name}\"")];
        match self {
            Self::Ports(protocol, port) => {
                lines.push("backends = [\"iptables\"]".to_owned());
                lines.push(format!("ports = [\"{protocol}/{port}\"]"));
                lines.push("# true hides the port from everybody else.\nprotect = false".to_owned());
            }
            Self::Commands { open, close, .. } => {
                lines.push(format!("backends = [\"command\"]\nopen = {}", list(open)));
                if !close.is_empty() {
                    lines.push(format!("close = {}", list(close)));
                }
            }
        }
        lines.push(format!("duration = \"{}\"", format_duration(length)));
        if length > DEFAULT_MAX_DURATION {
            lines.push(format!("max-duration = \"{}\"", format_duration(length)));
        }
        lines.join("\n") + "\n"
    }
}

fn list(arguments: &[String]) -> String {
    let items: Vec<String> = arguments
        .iter()
        .map(|argument| toml::Value::from(argument.as_str()).to_string())
        .collect();
    format!("[{}]", items.join(", "))
}

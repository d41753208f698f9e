//! One rule as iptables-save prints it: what it asks for and where it leads.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{PortRange, Protocol};

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As printed.
    pub text: String,
    /// What it asks for, in its order.
    pub conditions: Vec<Condition>,
    /// ACCEPT, DROP, or a chain; none when it only counts.
    pub target: Option<String>,
    /// It goes there and does not come back.
    pub is_goto: bool,
}

/// One thing that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Such as `--dport`.
    pub option: String,
    /// What stands behind it.
    pub value: String,
    /// It asks for the contrary.
    pub negated: bool,
}

impl Rule {
    /// Reads a line `-A CHAIN ...`.
    pub fn parse(line: &str) -> Self {
        let (mut target, mut is_goto) = (None, false);
        let (mut conditions, mut negated): (Vec<Condition>, _) = (Vec::new(), false);
        for word in words(line).into_iter().skip(2) {
            match conditions.last_mut() {
                _ if word == "!" => negated = true,
                _ if word.starts_with('-') => {
                    conditions.push(Condition {
                        option: word,
                        value: String::new(),
                        negated: std::mem::take(&mut negated),
                    });
                }
                Some(last) if last.value.is_empty() => last.value = word,
                _ => {}
            }
        }
        conditions.retain(|Condition { option, value, .. }| {
            let leads = option == "-j" || option == "-g";
            if leads {
                (target, is_goto) = (Some(value.clone()), option == "-g");
            }
            // What stands behind the target is its own business.
            !leads
                && target.as_ref().is_none_or(|_| option == "--to-destination")
                && option != "-m"
                && option != "--comment"
        });
        Self {
            text: line.to_owned(),
            conditions,
            target,
            is_goto,
        }
    }

    /// The ports that it sends elsewhere.
    pub fn published(&self) -> Vec<PortRange> {
        let of = |option: &str| {
            self.conditions
                .iter()
                .find(|found| found.option == option && !found.negated)
        };
        let protocol = match of("-p").map(|found| found.value.as_str()) {
            Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            _ => return Vec::new(),
        };
        if !matches!(self.target.as_deref(), Some("DNAT" | "REDIRECT")) {
            return Vec::new();
        }
        let ports = of("--dport").or_else(|| of("--dports")).and_then(Condition::ports);
        let range = |(first, last)| PortRange { protocol, first, last };
        ports.into_iter().flatten().map(range).collect()
    }

    /// Whether it is a plain jump to `chain`.
    pub fn leads_to(&self, chain: &str) -> bool {
        self.target.as_deref() == Some(chain) && self.conditions.is_empty()
    }

    /// Where DNAT sends a packet: the first address, and the port if it is changed.
    pub fn destination(&self) -> Option<(IpAddr, Option<u16>)> {
        let to = self
            .conditions
            .iter()
            .find(|condition| condition.option == "--to-destination")?;
        let text = to.value.as_str();
        let (addresses, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None if text.contains('.') => text.split_at(text.find(':').unwrap_or(text.len())),
            None => (text, ""),
        };
        let first = addresses.split('-').next()?.parse().ok()?;
        Some((first, port.strip_prefix(':').and_then(number)))
    }
}

/// The first of `80`, `80-81`.
fn number(text: &str) -> Option<u16> {
    text.split(['-', '/']).next()?.parse().ok()
}

impl Condition {
    /// Its value as a network.
    pub fn net(&self) -> Option<IpNet> {
        let address = || self.value.parse::<IpAddr>().map(IpNet::from);
        self.value.parse().or_else(|_| address()).ok()
    }

    /// Its value as ports: `22`, `60000:61000`, `22,80,1000:2000`.
    pub fn ports(&self) -> Option<Vec<(u16, u16)>> {
        let range = |text: &str| {
            let (first, last) = text.split_once(':').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        self.value.split(',').map(range).collect()
    }
}

/// Words as a shell would take them apart.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

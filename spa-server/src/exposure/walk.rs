//! A stranger's first packet on its way through the chains.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::rule::{Condition, Rule};
use super::ruleset::Ruleset;
use crate::backend::iptables::place::Place;
use crate::config::{PortRange, Protocol};

/// No sensible firewall is deeper, and iptables takes none with a loop.
const DEEPEST: usize = 16;

/// A new packet from an address that has no grant, or all of those to a range of ports.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// The port it carries here.
    pub ports: PortRange,
    /// The port it was sent to, where that is another.
    pub called: Option<PortRange>,
    /// Where to; empty means anywhere.
    pub to: Vec<IpAddr>,
    /// Who is no stranger.
    pub always_allow: &'a [IpNet],
}

/// A rule that does with the packet what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage<'a> {
    /// The chain it is in.
    pub chain: &'a str,
    /// Its number there, from 1.
    pub number: usize,
    /// The rule.
    pub rule: &'a Rule,
}

impl fmt::Display for Passage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} of {}", self.number, self.chain)
    }
}

/// Whether a rule is for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    Never,
    Maybe,
    Always,
}

/// What let a packet through before the own chain of `place` was asked; nothing where the jump is still to be put first.
pub fn let_through<'a>(rules: &'a Ruleset, place: Place, packet: &Packet<'_>) -> Vec<Passage<'a>> {
    let hook = rules.chain("filter", place.hook()).unwrap_or_default();
    let is_there = hook.iter().any(|rule| rule.leads_to(place.chain()));
    let stop = if is_there { place.chain() } else { place.hook() };
    let begin = if place.is_forwarded() { "FORWARD" } else { "INPUT" };
    if begin == stop {
        return Vec::new();
    }
    Walk::new(rules, "filter", &["ACCEPT"], stop).from(begin, packet)
}

/// What sends a packet to another host or port.
pub fn sent_elsewhere<'a>(rules: &'a Ruleset, packet: &Packet<'_>) -> Vec<Passage<'a>> {
    Walk::new(rules, "nat", &["DNAT", "REDIRECT"], "").from("PREROUTING", packet)
}

struct Walk<'a> {
    rules: &'a Ruleset,
    table: &'static str,
    sought: &'static [&'static str],
    /// The chain that ends it.
    stop: &'static str,
    found: Vec<Passage<'a>>,
}

/// Where a packet is after a chain.
#[derive(PartialEq, Eq)]
enum Flow {
    /// It has been judged.
    Over,
    /// It goes on behind the jump.
    Back,
}

impl<'a> Walk<'a> {
    fn new(rules: &'a Ruleset, table: &'static str, sought: &'static [&'static str], stop: &'static str) -> Self {
        Self {
            rules,
            table,
            sought,
            stop,
            found: Vec::new(),
        }
    }

    fn from(mut self, chain: &'a str, packet: &Packet<'_>) -> Vec<Passage<'a>> {
        self.chain(chain, packet, 0);
        self.found
    }

    fn chain(&mut self, chain: &'a str, packet: &Packet<'_>, depth: usize) -> Flow {
        let rules = self.rules.chain(self.table, chain).filter(|_| depth < DEEPEST);
        for (at, rule) in rules.unwrap_or_default().iter().enumerate() {
            let fits = packet.fits(rule);
            let Some(target) = rule.target.as_deref().filter(|_| fits != Match::Never) else {
                continue;
            };
            if self.sought.contains(&target) {
                let number = at + 1;
                self.found.push(Passage { chain, number, rule });
            }
            let flow = self.target(target, packet, depth);
            if fits == Match::Always && (target == "RETURN" || (rule.is_goto && flow == Some(Flow::Back))) {
                return Flow::Back;
            }
            if fits == Match::Always && flow == Some(Flow::Over) {
                return Flow::Over;
            }
        }
        Flow::Back
    }

    /// What a target does; none when it only looks on.
    fn target(&mut self, target: &'a str, packet: &Packet<'_>, depth: usize) -> Option<Flow> {
        let is_end = ["ACCEPT", "DROP", "REJECT", self.stop].contains(&target) || self.sought.contains(&target);
        if is_end {
            return Some(Flow::Over);
        }
        self.rules.chain(self.table, target)?;
        Some(self.chain(target, packet, depth + 1))
    }
}

impl Packet<'_> {
    fn fits(&self, rule: &Rule) -> Match {
        let all = rule.conditions.iter().map(|condition| self.meets(condition));
        all.min().unwrap_or(Match::Always)
    }

    fn meets(&self, condition: &Condition) -> Match {
        let Condition { option, value, negated } = condition;
        let plain = match option.as_str() {
            "-p" => self.is_protocol(value),
            "--dport" | "--dports" => within(self.ports, condition),
            "--ctorigdstport" => within(self.called.unwrap_or(self.ports), condition),
            "-i" if value == "lo" => Match::Never,
            "-s" => return self.from(condition),
            "-d" => self.is_to(condition),
            "--ctstate" | "--state" => self.is_state(value),
            "--ctdir" if value == "ORIGINAL" => Match::Always,
            "--ctdir" => Match::Never,
            "--dst-type" if value == "LOCAL" && self.called.is_none() => Match::Always,
            "--to-destination" => return Match::Always,
            _ => Match::Maybe,
        };
        match (plain, negated) {
            (Match::Never, true) => Match::Always,
            (Match::Always, true) => Match::Never,
            (plain, _) => plain,
        }
    }

    fn is_protocol(&self, value: &str) -> Match {
        let own = match self.ports.protocol {
            Protocol::Tcp => ["tcp", "6"],
            Protocol::Udp => ["udp", "17"],
        };
        always(own.contains(&value) || value == "all")
    }

    /// Whoever is let in anyway, or never comes from outside, is no stranger.
    fn from(&self, condition: &Condition) -> Match {
        let Some(net) = condition.net().filter(|_| !condition.negated) else {
            return Match::Maybe;
        };
        let is_known = self.always_allow.iter().any(|allowed| allowed.contains(&net));
        if is_known || net.addr().is_loopback() {
            Match::Never
        } else {
            Match::Maybe
        }
    }

    fn is_to(&self, condition: &Condition) -> Match {
        let Some(net) = condition.net() else {
            return Match::Maybe;
        };
        let hits = self.to.iter().filter(|address| net.contains(*address)).count();
        match (self.to.len(), hits) {
            (0, _) if net.addr().is_loopback() => Match::Never,
            (0, _) => Match::Maybe,
            (_, 0) => Match::Never,
            (all, hits) => {
                if all == hits {
                    Match::Always
                } else {
                    Match::Maybe
                }
            }
        }
    }

    fn is_state(&self, value: &str) -> Match {
        let mut states = value.split(',');
        always(states.any(|state| state == "NEW" || (state == "DNAT" && self.called.is_some())))
    }
}

fn always(is: bool) -> Match {
    if is { Match::Always } else { Match::Never }
}

/// How much of `ports` a condition names.
fn within(ports: PortRange, condition: &Condition) -> Match {
    let Some(named) = condition.ports() else {
        return Match::Maybe;
    };
    if named
        .iter()
        .any(|(first, last)| *first <= ports.first && ports.last <= *last)
    {
        return Match::Always;
    }
    if named
        .iter()
        .any(|(first, last)| *first <= ports.last && ports.first <= *last)
    {
        return Match::Maybe;
    }
    Match::Never
}

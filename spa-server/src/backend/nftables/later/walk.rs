//! Follows a new connection through the chains of a ruleset.

use std::fmt;

use serde_json::Value;

use super::fit::{Fit, Packet, fit, looked_up};
use crate::backend::nftables::place::OWN_TABLE;
use crate::config::{Config, PortRange};

/// Jumps deeper than the kernel allows are a loop.
pub const DEEPEST: usize = 16;

/// A base chain that drops, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Of the table: inet, ip or ip6.
    pub family: String,
    /// Its name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Policy,
    /// The rule with this number.
    Rule(u64),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family, table, chain, ..
        } = self;
        write!(f, "chain {chain} of table {family} {table} (")?;
        match self.why {
            Why::Policy => f.write_str("policy drop)"),
            Why::Rule(handle) => write!(f, "rule with handle {handle})"),
        }
    }
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    GoesOn,
    Accepted,
    Dropped(u64),
}

/// A whole ruleset, as nft prints it.
pub struct Ruleset<'a>(Vec<&'a Value>);

impl<'a> Ruleset<'a> {
    /// From the whole of what nft printed.
    pub fn new(json: &'a Value) -> Self {
        Self(
            json["nftables"]
                .as_array()
                .map(|items| items.iter().collect())
                .unwrap_or_default(),
        )
    }

    /// The chains and rules, in their order.
    pub fn all(&self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter_map(move |item| item.get(kind))
    }

    /// Whether there is such a chain.
    pub fn has(&self, family: &str, table: &str, chain: &str) -> bool {
        self.all("chain")
            .any(|found| found["family"] == family && found["table"] == table && found["name"] == chain)
    }

    /// The base chains for packets to this host that drop a new connection to the first of `ports`, or the last.
    pub fn drops(&self, config: &Config, ports: PortRange) -> Vec<Dropped> {
        let is_ours = |chain: &Value| {
            let own = config.nftables.as_ref().map_or(OWN_TABLE, |named| &named.table);
            chain["family"] == "inet" && (chain["table"] == own || chain["table"] == OWN_TABLE)
        };
        let families = ["inet", "ip", "ip6"];
        let base = self
            .all("chain")
            .filter(|chain| chain["hook"] == "input" && !is_ours(chain));
        let seen = base.filter(|chain| families.iter().any(|family| chain["family"] == *family));
        let packets = [ports.first, ports.last].map(|port| (ports.protocol, port));
        seen.filter_map(|chain| packets.iter().find_map(|packet| self.fate_in(chain, *packet)))
            .collect()
    }

    fn fate_in(&self, chain: &'a Value, packet: Packet) -> Option<Dropped> {
        let why = match self.walk(chain, packet, 0) {
            Fate::Dropped(handle) => Why::Rule(handle),
            Fate::GoesOn if chain["policy"] == "drop" => Why::Policy,
            Fate::GoesOn | Fate::Accepted => return None,
        };
        let text = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
        Some(Dropped {
            family: text("family"),
            table: text("table"),
            chain: text("name"),
            why,
        })
    }

    /// The rules of a chain, in their order.
    pub fn rules(&self, chain: &Value) -> impl Iterator<Item = &'a Value> {
        self.all("rule").filter(|rule| {
            rule["family"] == chain["family"] && rule["table"] == chain["table"] && rule["chain"] == chain["name"]
        })
    }

    /// The chain of this name in the same table.
    pub fn beside(&self, chain: &Value, name: &str) -> Option<&'a Value> {
        self.all("chain").find(|other| {
            other["family"] == chain["family"] && other["table"] == chain["table"] && other["name"] == name
        })
    }

    fn walk(&self, chain: &'a Value, packet: Packet, depth: usize) -> Fate {
        if depth > DEEPEST {
            return Fate::GoesOn;
        }
        for rule in self.rules(chain) {
            match self.judge(chain, rule, packet, depth) {
                Step::Next => {}
                Step::Return => return Fate::GoesOn,
                Step::End(fate) => return fate,
            }
        }
        Fate::GoesOn
    }

    fn judge(&self, chain: &Value, rule: &Value, packet: Packet, depth: usize) -> Step {
        let handle = rule["handle"].as_u64().unwrap_or(0);
        let mut all = Fit::Yes;
        for statement in rule["expr"].as_array().into_iter().flatten() {
            let statement = match statement.get("vmap") {
                Some(map) => match looked_up(map, packet) {
                    Some(verdict) => verdict,
                    None => return Step::Next,
                },
                None => statement,
            };
            match verdict(statement) {
                None => all = all.and(fit(statement, packet)),
                Some(Verdict::Accept) if matches!(all, Fit::Yes | Fit::Chosen) => return Step::End(Fate::Accepted),
                Some(Verdict::Drop) if all == Fit::Yes => return Step::End(Fate::Dropped(handle)),
                Some(Verdict::Return) if all == Fit::Yes => return Step::Return,
                Some(Verdict::Jump(name, goes)) if all == Fit::Yes || all == Fit::Chosen => {
                    return self.jump(chain, name, packet, depth, goes, all);
                }
                Some(_) => return Step::Next,
            }
            if all == Fit::No {
                return Step::Next;
            }
        }
        Step::Next
    }

    /// A chain that is reached on certain interfaces only may let in, but its drop is not everybody's.
    fn jump(&self, chain: &Value, name: &str, packet: Packet, depth: usize, goes: bool, fit: Fit) -> Step {
        let fate = self
            .beside(chain, name)
            .map_or(Fate::GoesOn, |to| self.walk(to, packet, depth + 1));
        match (fate, fit) {
            (Fate::GoesOn, Fit::Yes) if goes => Step::Return,
            (Fate::GoesOn, _) | (Fate::Dropped(_), Fit::Chosen) => Step::Next,
            (fate, _) => Step::End(fate),
        }
    }
}

enum Step {
    Next,
    Return,
    End(Fate),
}

/// What a statement decides.
pub enum Verdict<'a> {
    Accept,
    Drop,
    Return,
    /// To this chain, and whether it never comes back.
    Jump(&'a str, bool),
}

/// The verdict of a statement, if it is one.
pub fn verdict(statement: &Value) -> Option<Verdict<'_>> {
    let (name, value) = statement.as_object()?.iter().next()?;
    let target = || value["target"].as_str().unwrap_or_default();
    Some(match name.as_str() {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "return" => Verdict::Return,
        "jump" => Verdict::Jump(target(), false),
        "goto" => Verdict::Jump(target(), true),
        _ => return None,
    })
}

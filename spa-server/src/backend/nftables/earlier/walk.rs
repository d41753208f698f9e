//! Follows a stranger's new connection until our rules are asked, noting who may let it through before.

use std::fmt;

use ipnet::IpNet;
use serde_json::Value;

use crate::backend::nftables::later::fit::{Fit, Packet, candidates, fit};
use crate::backend::nftables::later::walk::{DEEPEST, Ruleset, Verdict, verdict};
use crate::backend::nftables::place::CHAIN;

/// What is looked for.
#[derive(Clone, Copy)]
pub enum Aim<'a> {
    /// Accepts before our rules, which the chain of this name leads to.
    Ours(&'a str),
    /// What gives the packet another destination.
    Elsewhere,
}

/// A rule that may let a stranger pass.
pub struct Passage<'a> {
    rule: &'a Value,
    /// What does it.
    pub statement: &'a Value,
}

/// One packet's way.
pub struct Walk<'a> {
    ruleset: &'a Ruleset<'a>,
    packet: Packet,
    always_allow: &'a [IpNet],
    aim: Aim<'a>,
    found: Vec<Passage<'a>>,
}

/// Where the packet is after a rule or a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// It has been judged.
    Over,
    /// It goes on behind the jump.
    Back,
    /// It goes on with the next rule.
    Next,
}

impl<'a> Walk<'a> {
    pub fn new(ruleset: &'a Ruleset<'a>, packet: Packet, always_allow: &'a [IpNet], aim: Aim<'a>) -> Self {
        Self {
            ruleset,
            packet,
            always_allow,
            aim,
            found: Vec::new(),
        }
    }

    /// Who may let it pass, from a base chain on.
    pub fn from(mut self, chain: &'a Value) -> Vec<Passage<'a>> {
        self.chain(chain, 0);
        self.found
    }

    fn chain(&mut self, chain: &'a Value, depth: usize) -> Flow {
        if depth > DEEPEST {
            return Flow::Back;
        }
        if self.is_to_come(chain) {
            return Flow::Over;
        }
        for rule in self.ruleset.rules(chain) {
            match self.rule(chain, rule, depth) {
                Flow::Next => {}
                flow => return flow,
            }
        }
        Flow::Back
    }

    /// Our jump is put first in the named chain, where it is not there yet.
    fn is_to_come(&self, chain: &'a Value) -> bool {
        let Aim::Ours(named) = self.aim else { return false };
        chain["name"] == named && !self.ruleset.rules(chain).any(leads_to_ours)
    }

    fn rule(&mut self, chain: &'a Value, rule: &'a Value, depth: usize) -> Flow {
        let mut fits = Fit::Yes;
        for statement in rule["expr"].as_array().into_iter().flatten() {
            let flow = match statement.get("vmap") {
                Some(map) => {
                    self.one_of(chain, rule, map, depth);
                    Some(Flow::Next)
                }
                None => self.statement(chain, rule, statement, (fits, depth)),
            };
            match flow {
                Some(flow) if fits == Fit::Yes => return flow,
                Some(_) => return Flow::Next,
                None => fits = fits.and(self.fit(statement)),
            }
            if fits == Fit::No {
                return Flow::Next;
            }
        }
        Flow::Next
    }

    /// A verdict map: each verdict that may be the packet's is taken for a maybe.
    fn one_of(&mut self, chain: &'a Value, rule: &'a Value, map: &'a Value, depth: usize) {
        for statement in candidates(map, self.packet) {
            self.statement(chain, rule, statement, (Fit::Unknown, depth));
        }
    }

    /// What a statement does if it is a verdict; none when it asks.
    fn statement(
        &mut self,
        chain: &'a Value,
        rule: &'a Value,
        statement: &'a Value,
        (fits, depth): (Fit, usize),
    ) -> Option<Flow> {
        if statement.get("dnat").or(statement.get("redirect")).is_some() {
            if matches!(self.aim, Aim::Elsewhere) && self.is_sent(statement) {
                self.found.push(Passage { rule, statement });
            }
            return Some(Flow::Over);
        }
        Some(match verdict(statement)? {
            Verdict::Accept => {
                if matches!(self.aim, Aim::Ours(_)) {
                    self.found.push(Passage { rule, statement });
                }
                Flow::Over
            }
            Verdict::Drop => Flow::Over,
            Verdict::Return => Flow::Back,
            Verdict::Jump(CHAIN, _) if matches!(self.aim, Aim::Ours(_)) => Flow::Over,
            Verdict::Jump(name, goes) => {
                let to = self.ruleset.beside(chain, name);
                match to.map_or(Flow::Back, |to| self.chain(to, depth + 1)) {
                    Flow::Over if fits == Fit::Yes => Flow::Over,
                    _ if goes => Flow::Back,
                    _ => Flow::Next,
                }
            }
        })
    }

    /// A map may have no destination for this packet.
    fn is_sent(&self, statement: &Value) -> bool {
        let map = &statement["dnat"]["addr"]["map"];
        map["data"]["set"].is_null() || candidates(map, self.packet).next().is_some()
    }

    /// Whoever may come in anyway is no stranger.
    fn fit(&self, statement: &Value) -> Fit {
        let matched = &statement["match"];
        let is_source = matched["op"] == "==" && matched["left"]["payload"]["field"] == "saddr";
        if is_source && is_known(&matched["right"], self.always_allow) {
            return Fit::No;
        }
        fit(statement, self.packet)
    }
}

/// Whether a chain is the one of this name, or jumps to it by whatever rule.
pub fn leads(ruleset: &Ruleset<'_>, chain: &Value, name: &str, depth: usize) -> bool {
    let statements = ruleset
        .rules(chain)
        .filter_map(|rule| rule["expr"].as_array())
        .flatten();
    let mut next = statements.filter_map(|statement| match verdict(statement)? {
        Verdict::Jump(to, _) => ruleset.beside(chain, to),
        _ => None,
    });
    chain["name"] == name || (depth < DEEPEST && next.any(|to| leads(ruleset, to, name, depth + 1)))
}

/// Whether a rule is a plain jump to our chain.
pub fn leads_to_ours(rule: &Value) -> bool {
    let statements = rule["expr"].as_array();
    statements.is_some_and(|all| all.len() == 1 && all[0]["jump"]["target"] == CHAIN)
}

/// Whether all of these addresses are always allowed, or loopback.
fn is_known(value: &Value, always_allow: &[IpNet]) -> bool {
    if let Some(items) = value["set"].as_array() {
        return items.iter().all(|item| is_known(item, always_allow));
    }
    let prefix = &value["prefix"];
    let text = match (prefix["addr"].as_str(), &prefix["len"]) {
        (Some(address), len) => format!("{address}/{len}"),
        (None, _) => value.as_str().unwrap_or_default().to_owned(),
    };
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    let Ok(net) = text.parse::<IpNet>().or_else(|_| address()) else {
        return false;
    };
    net.addr().is_loopback() || always_allow.iter().any(|allowed| allowed.contains(&net))
}

impl Passage<'_> {
    /// Family, table and chain, as nft takes them.
    pub fn place(&self) -> String {
        let word = |key: &str| self.rule[key].as_str().unwrap_or_default();
        format!("{} {} {}", word("family"), word("table"), word("chain"))
    }
}

impl fmt::Display for Passage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |key: &str| self.rule[key].as_str().unwrap_or_default();
        write!(
            f,
            "the rule with handle {} in chain {} of table {} {}",
            self.rule["handle"],
            word("chain"),
            word("family"),
            word("table")
        )
    }
}

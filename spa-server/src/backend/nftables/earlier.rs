//! Finds what lets a stranger's new connection in before our rules are asked, or sends it past them.
//!
//! An accept of another table ends nothing here, so only the named chain and those that lead to it can let in; address
//! translation sends away from any table. Judged with care: what may be for a stranger's packet is named, unless it is
//! for always-allow, loopback or established connections only.

mod walk;

use serde_json::Value;

use super::later::walk::Ruleset;
use super::place::CHAIN;
use crate::config::{BackendKind, Code, Config, Finding, NamedChain, PortRange, Service};
use walk::{Aim, Passage, Walk};

/// A finding for each way past our rules.
#[must_use]
pub fn findings_in(config: &Config, ruleset: &Value) -> Vec<Finding> {
    let ruleset = Ruleset::new(ruleset);
    let named = config.nftables.as_ref();
    let named = named.filter(|named| ruleset.has("inet", &named.table, &named.chain));
    let mut findings: Vec<Finding> = named.and_then(|named| jump(&ruleset, named)).into_iter().collect();
    for service in guarded(config) {
        for ports in &service.ports {
            let look = Look {
                ruleset: &ruleset,
                config,
                service,
                ports: *ports,
            };
            findings.extend(look.published());
            findings.extend(named.into_iter().flat_map(|named| look.before(named)));
        }
    }
    let mut once: Vec<Finding> = Vec::new();
    for finding in findings {
        if !once.contains(&finding) {
            once.push(finding);
        }
    }
    once
}

fn guarded(config: &Config) -> impl Iterator<Item = &Service> {
    let own = |service: &&Service| service.protect && service.backends.contains(&BackendKind::Nftables);
    config.services.iter().filter(own)
}

/// Our jump, when it is not the first rule of the named chain.
fn jump(ruleset: &Ruleset<'_>, named: &NamedChain) -> Option<Finding> {
    let NamedChain { table, chain } = named;
    let hook = ruleset
        .all("chain")
        .find(|found| found["family"] == "inet" && found["table"] == *table && found["name"] == *chain)?;
    let before = ruleset.rules(hook).position(walk::leads_to_ours).filter(|at| *at > 0)?;
    let text = format!(
        "the jump to {CHAIN} is rule {} of chain {chain} of table inet {table}: what stands before it judges first",
        before + 1
    );
    let remedy = format!(
        "nft insert rule inet {table} {chain} jump {CHAIN}; the daemon, or spa-server protect, makes one jump of the two"
    );
    Some(Finding::warning(Code::JumpNotFirst, text).with_try(remedy))
}

/// One range of ports of one service.
struct Look<'a> {
    ruleset: &'a Ruleset<'a>,
    config: &'a Config,
    service: &'a Service,
    ports: PortRange,
}

impl Look<'_> {
    /// Rules that are asked before ours, in all base chains of the named table that lead to ours.
    fn before(&self, named: &NamedChain) -> Vec<Finding> {
        let is_base =
            |chain: &&Value| chain["hook"] == "input" && chain["family"] == "inet" && chain["table"] == *named.table;
        let bases = self.ruleset.all("chain").filter(is_base);
        let leading: Vec<_> = bases
            .filter(|base| walk::leads(self.ruleset, base, &named.chain, 0))
            .collect();
        if leading.is_empty() {
            return vec![self.not_asked(named)];
        }
        let passages = self.passages(Aim::Ours(&named.chain), &leading);
        passages.iter().map(|passage| self.reachable(passage)).collect()
    }

    /// From each of these base chains, for the first of the ports and the last.
    fn passages<'b>(&'b self, aim: Aim<'b>, bases: &[&'b Value]) -> Vec<Passage<'b>> {
        let ports = [self.ports.first, self.ports.last];
        let ways = bases.iter().flat_map(|base| ports.map(|port| (*base, port)));
        let found = ways.flat_map(|(base, port)| {
            let packet = (self.ports.protocol, port);
            Walk::new(self.ruleset, packet, &self.config.lock_out.always_allow, aim).from(base)
        });
        found.collect()
    }

    fn not_asked(&self, named: &NamedChain) -> Finding {
        let NamedChain { table, chain } = named;
        let text = format!(
            "{} is not hidden: chain {chain} of table inet {table} is not asked about new connections to it",
            self.what()
        );
        let remedy = format!("[nftables] with a chain of hook input: nft list table inet {table}");
        Finding::warning(Code::NotAsked, text).with_try(remedy)
    }

    fn reachable(&self, passage: &Passage<'_>) -> Finding {
        let text = format!(
            "{} can be reached without a knock: {passage} lets it through before {CHAIN} is asked",
            self.what()
        );
        let remedy = format!(
            "take the rule out, or put it behind the jump to {CHAIN}: nft -a list chain {}",
            passage.place()
        );
        Finding::warning(Code::ReachableBefore, text).with_try(remedy)
    }

    /// Rules of address translation that send the port elsewhere.
    fn published(&self) -> Vec<Finding> {
        let is_base = |chain: &&Value| chain["hook"] == "prerouting" && chain["type"] == "nat";
        let bases: Vec<_> = self.ruleset.all("chain").filter(is_base).collect();
        let passages = self.passages(Aim::Elsewhere, &bases);
        passages.iter().map(|passage| self.sent(passage)).collect()
    }

    fn sent(&self, passage: &Passage<'_>) -> Finding {
        let text = format!(
            "{} never comes to our rules, so nothing hides it: {passage} sends it elsewhere",
            self.what()
        );
        let remedy = if passage.statement.get("redirect").is_some() {
            "ports = [..] with the port it is sent to"
        } else {
            "backends = [\"iptables\"] and chain = \"FORWARD\", or the port of this host itself"
        };
        Finding::warning(Code::PublishedPort, text).with_try(remedy)
    }

    fn what(&self) -> String {
        format!("{} of service {}", self.ports, self.service.name)
    }
}

#[cfg(test)]
mod tests;

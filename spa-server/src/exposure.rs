//! Finds protected ports that can be reached without a knock: pure functions of what the firewall and /proc say.
//!
//! Judged with care: a rule that might let a stranger's new packet through is named, whatever else it asks for.

mod rule;
mod ruleset;
mod walk;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::backend::iptables::existing::Listener;
use crate::backend::iptables::place::Place;
use crate::config::{BackendKind, Code, Config, Finding, PortRange, Service};
use crate::netlink::Family;
use rule::Rule;
pub use ruleset::Ruleset;
use walk::{Packet, Passage};

/// What the host looks like at this moment.
#[derive(Debug, Default)]
pub struct Host {
    /// All tables of each family that could be read.
    pub rules: Vec<(Family, Ruleset)>,
    /// Who listens.
    pub listeners: Vec<Listener>,
}

/// Whether there is anything to be looked for.
#[must_use]
pub fn concerns(config: &Config) -> bool {
    hidden(config).next().is_some()
}

/// What is reachable although protected, and what is protected although nobody is there.
#[must_use]
pub fn findings(config: &Config, host: &Host) -> Vec<Finding> {
    let mut findings: Vec<Finding> = jumps(config, host).collect();
    for service in hidden(config) {
        for ports in &service.ports {
            let look = Look {
                service,
                ports: *ports,
                always_allow: &config.lock_out.always_allow,
                host,
            };
            findings.extend(look.findings());
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

fn hidden(config: &Config) -> impl Iterator<Item = &Service> {
    let by_firewall = |service: &&Service| service.backends.iter().copied().any(BackendKind::is_firewall);
    let is_hidden = move |service: &&Service| service.protect && by_firewall(service);
    config.services.iter().filter(is_hidden)
}

/// Those that iptables hides; what comes before the rules of nftables,
/// [`earlier`](crate::backend::nftables::earlier) finds.
fn guarded(config: &Config) -> impl Iterator<Item = &Service> {
    hidden(config).filter(|service| is_by_iptables(service))
}

fn is_by_iptables(service: &Service) -> bool {
    service.backends.contains(&BackendKind::Iptables)
}

/// Own jumps that are not the first in their chains.
fn jumps<'a>(config: &'a Config, host: &'a Host) -> impl Iterator<Item = Finding> {
    let judged = [Place::Input, Place::Forward, Place::DockerUser].into_iter();
    let used = judged.filter(|place| guarded(config).any(|service| Place::of(service.chain) == *place));
    used.flat_map(|place| {
        host.rules
            .iter()
            .filter_map(move |(family, rules)| jump(place, *family, rules))
    })
}

fn jump(place: Place, family: Family, rules: &Ruleset) -> Option<Finding> {
    let (hook, chain) = (place.hook(), place.chain());
    let hooked = rules.chain("filter", hook)?;
    let before = hooked
        .iter()
        .position(|rule| rule.leads_to(chain))
        .filter(|at| *at > 0)?;
    let tool = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let number = before + 1;
    let text = format!("the jump to {chain} is rule {number} of {hook} ({family}): what stands before it judges first");
    // Deleting by number would take somebody else's rule once the daemon has made one jump of the two.
    let remedy = format!("{tool} -I {hook} 1 -j {chain}; the daemon, or spa-server protect, makes one jump of the two");
    Some(Finding::warning(Code::JumpNotFirst, text).with_try(remedy))
}

/// One range of ports of one service.
struct Look<'a> {
    service: &'a Service,
    ports: PortRange,
    always_allow: &'a [IpNet],
    host: &'a Host,
}

impl Look<'_> {
    fn findings(&self) -> Vec<Finding> {
        let place = Place::of(self.service.chain);
        let sent: Vec<(Family, &Ruleset, Vec<Passage<'_>>)> = self
            .host
            .rules
            .iter()
            .map(|(family, rules)| {
                let sent = walk::sent_elsewhere(rules, &self.packet(*family));
                (*family, rules, sent)
            })
            .collect();
        let is_sent = sent.iter().any(|(.., sent)| !sent.is_empty());
        let mut findings = Vec::new();
        for (family, rules, sent) in &sent {
            if place.is_forwarded() {
                let inside = sent.iter().filter_map(|passage| self.inside(*family, passage.rule));
                findings.extend(inside.flat_map(|packet| self.before(*family, rules, &packet)));
                findings.extend(self.not_judged(*family).filter(|_| sent.is_empty()));
            } else {
                findings.extend(sent.iter().map(|passage| self.published(*family, rules, passage)));
                if is_by_iptables(self.service) {
                    findings.extend(self.before(*family, rules, &self.packet(*family)));
                }
            }
        }
        findings.extend(self.nobody(place, is_sent));
        findings
    }

    /// A stranger's first packet as it comes in.
    fn packet(&self, family: Family) -> Packet<'_> {
        let to = self
            .service
            .to
            .iter()
            .copied()
            .filter(|address| family.has(*address))
            .collect();
        Packet {
            ports: self.ports,
            called: None,
            to,
            always_allow: self.always_allow,
        }
    }

    /// The same as it goes on to a container.
    fn inside(&self, family: Family, rule: &Rule) -> Option<Packet<'_>> {
        let (address, port) = rule.destination()?;
        let ports = port.map_or(self.ports, |port| PortRange {
            protocol: self.ports.protocol,
            first: port,
            last: port,
        });
        Some(Packet {
            ports,
            called: Some(self.ports),
            to: vec![address],
            ..self.packet(family)
        })
    }

    /// Rules that are asked before ours.
    fn before(&self, family: Family, rules: &Ruleset, packet: &Packet<'_>) -> Vec<Finding> {
        let place = Place::of(self.service.chain);
        let passages = walk::let_through(rules, place, packet);
        let found = passages.into_iter().map(|passage| {
            let text = format!(
                "{} can be reached without a knock: {passage} ({family}) lets it through before {} is asked: {}",
                self.what(),
                place.chain(),
                passage.rule.text
            );
            let remedy = format!("take the rule out, or put it behind the jump to {}", place.chain());
            Finding::warning(Code::ReachableBefore, text).with_try(remedy)
        });
        found.collect()
    }

    /// A port that another host or another port answers for.
    fn published(&self, family: Family, rules: &Ruleset, passage: &Passage<'_>) -> Finding {
        let text = format!(
            "{} never comes to INPUT, so nothing hides it: {passage} of table nat ({family}) sends it elsewhere: {}",
            self.what(),
            passage.rule.text
        );
        let remedy = if passage.rule.target.as_deref() == Some("REDIRECT") {
            "ports = [..] with the port it is sent to"
        } else if !is_by_iptables(self.service) {
            "backends = [\"iptables\"] and chain = \"FORWARD\", or \"DOCKER-USER\" where Docker runs"
        } else if rules.chain("filter", "DOCKER-USER").is_some() || passage.chain == "DOCKER" {
            "chain = \"DOCKER-USER\""
        } else {
            "chain = \"FORWARD\""
        };
        Finding::warning(Code::PublishedPort, text).with_try(remedy)
    }

    /// What listens here itself, while only what goes through is judged.
    fn not_judged(&self, family: Family) -> Option<Finding> {
        let listener = self
            .host
            .listeners
            .iter()
            .find(|listener| self.hears(listener) && reaches(family, listener))?;
        let text = format!(
            "{} is hidden in {} only, but a program of this host listens on it at {} ({family})",
            self.what(),
            Place::of(self.service.chain).hook(),
            listener.own
        );
        let remedy = "publish it for this family too, or let the program listen on 127.0.0.1 or 0.0.0.0 only";
        Some(Finding::warning(Code::ListenerNotJudged, text).with_try(remedy))
    }

    fn nobody(&self, place: Place, is_sent: bool) -> Option<Finding> {
        let is_heard = self.host.listeners.iter().any(|listener| self.hears(listener));
        if is_sent || (is_heard && !place.is_forwarded()) || self.host.rules.is_empty() {
            return None;
        }
        Some(if place.is_forwarded() {
            let text = format!(
                "{} is published by nobody: no rule of table nat sends it to a container",
                self.what()
            );
            Finding::warning(Code::NobodyPublishes, text)
                .with_try("start the container, or mend ports; chain = \"INPUT\" is for programs of this host")
        } else {
            let text = format!("{} is hidden, but no program listens on it", self.what());
            Finding::warning(Code::NobodyListens, text)
                .with_try("start the program, or mend ports: `ss -lntu` lists who listens where")
        })
    }

    fn hears(&self, listener: &Listener) -> bool {
        let to = &self.service.to;
        let is_to = to.is_empty() || listener.own.is_unspecified() || to.contains(&listener.own);
        is_to && self.ports.contains(listener.protocol, listener.port)
    }

    fn what(&self) -> String {
        format!("{} of service {}", self.ports, self.service.name)
    }
}

/// A socket of `::` may take IPv4 as well.
fn reaches(family: Family, listener: &Listener) -> bool {
    family.has(listener.own) || listener.own == IpAddr::from([0_u16; 8])
}

#[cfg(test)]
mod tests;

//! What of ours stands in the kernel, read without starting a program.

use std::collections::{BTreeMap, BTreeSet};

use super::line::Line;
use super::place::{CHAIN, OWN_HOOK, OWN_TABLE, Place, RAW};
use super::set::SetId;
use crate::backend::BackendError;
use crate::netlink::nftables::{INET, Rule, Verdict, rules};
use crate::netlink::ruleset::{self, Chain};

/// NF_INET_LOCAL_IN, filter - 10, accept.
const INPUT: (Option<(u32, i32)>, Option<u32>) = (Some((1, -10)), Some(1));
/// NF_INET_PRE_ROUTING, raw, accept.
const PREROUTING: (Option<(u32, i32)>, Option<u32>) = (Some((0, -300)), Some(1));

/// All of it. Equal ones are the same rules, by their numbers too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// The own table is there and awake.
    pub is_awake: bool,
    /// The rules of the own chain; none when there is no such chain.
    pub chain: Option<Vec<Rule>>,
    /// The rules of the hook that jump to it.
    pub jumps: Vec<Rule>,
    /// The rules of the chain `raw`; none when there is no such chain.
    pub raw: Option<Vec<Rule>>,
    /// Chains of the own table that do not stand where they should in the kernel.
    pub misplaced: Vec<&'static str>,
    /// The own sets, and whether each is of the right kind.
    pub sets: BTreeMap<SetId, bool>,
}

impl Found {
    /// Reads it.
    pub fn read(line: &mut Line, place: &Place) -> Result<Self, BackendError> {
        let own = Place::own();
        let sets = line.sets(place)?;
        line.ask("read the own rules", |socket| {
            let tables = ruleset::tables(socket, INET)?;
            let own_chains = ruleset::chains(socket, own.to_netlink())?;
            let chains = ruleset::chains(socket, place.to_netlink())?;
            let mut of = |table: &str, chain: &str| rules(socket, INET, table, chain);
            let has = |chains: &[Chain], name: &str| chains.iter().any(|chain| chain.name == name);
            let mut jumps = of(&place.table, &place.hook)?;
            jumps.retain(|rule| rule.leads_to(CHAIN));
            let chain = of(&place.table, CHAIN)?;
            let raw = of(OWN_TABLE, RAW)?;
            Ok(Self {
                place: place.clone(),
                is_awake: tables.iter().any(|table| table.name == OWN_TABLE && !table.is_dormant),
                chain: has(&chains, CHAIN).then_some(chain),
                jumps,
                raw: has(&own_chains, RAW).then_some(raw),
                misplaced: misplaced(&own_chains),
                sets,
            })
        })
    }

    /// Whether everything is there: as many rules as were put there, with the same verdicts in the same order, and sets
    /// of the right kind. The kernel took all of them or none.
    pub fn holds(&self, rules: &[String], raw: usize, sets: &BTreeSet<SetId>) -> bool {
        let expected = rules.iter().map(|rule| verdict(rule));
        let chain = self.chain.iter().flatten().map(Rule::verdict);
        self.is_awake
            && self.jumps.len() == 1
            && self.misplaced.is_empty()
            && chain.eq(expected)
            && self.raw.as_ref().is_some_and(|rules| rules.len() == raw)
            && sets.iter().all(|set| self.sets.get(set) == Some(&true))
    }

    /// One clause for each thing in which this falls short of `before`, or when that is not known, of being there.
    pub fn lacks(&self, before: Option<&Self>, sets: &BTreeSet<SetId>) -> Vec<String> {
        let before = before.filter(|before| before.place == self.place);
        let place = &self.place;
        let mut lacks = Vec::new();
        if !self.is_awake {
            lacks.push(format!("table inet {OWN_TABLE}"));
        }
        lacks.extend(
            self.misplaced
                .iter()
                .map(|chain| format!("place of chain {chain} in inet {OWN_TABLE}")),
        );
        let of_chain = |before: &Self| before.chain.clone();
        lacks.extend(lack(
            CHAIN,
            place,
            self.chain.as_ref(),
            before.and_then(of_chain).as_ref(),
        ));
        match self.jumps.len() {
            0 => lacks.push(format!("jump from {} in {place}", place.hook)),
            1 => {}
            _ => lacks.push(format!("single jump from {} in {place}", place.hook)),
        }
        let of_raw = |before: &Self| before.raw.clone();
        lacks.extend(lack(
            RAW,
            &Place::own(),
            self.raw.as_ref(),
            before.and_then(of_raw).as_ref(),
        ));
        let absent = sets.iter().filter(|set| !self.sets.contains_key(set));
        lacks.extend(absent.map(|set| format!("set {}", set.name())));
        lacks
    }
}

fn lack(name: &str, place: &Place, now: Option<&Vec<Rule>>, before: Option<&Vec<Rule>>) -> Option<String> {
    match (now, before) {
        (None, _) => Some(format!("chain {name} in {place}")),
        (Some(now), Some(before)) if !are_alike(now, before) => Some(format!("rules of chain {name} in {place}")),
        _ => None,
    }
}

fn are_alike(some: &[Rule], others: &[Rule]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| one.does_as(other))
}

fn misplaced(chains: &[Chain]) -> Vec<&'static str> {
    let expected = [(OWN_HOOK, INPUT), (RAW, PREROUTING)];
    let is_elsewhere = |(name, place): &(&str, _)| {
        chains
            .iter()
            .any(|chain| chain.name == *name && (chain.hook, chain.policy) != *place)
    };
    expected
        .into_iter()
        .filter(is_elsewhere)
        .map(|(name, _)| name)
        .collect()
}

fn verdict(rule: &str) -> Verdict {
    match rule.rsplit(' ').next() {
        Some("accept") => Verdict::Accept,
        Some("drop") => Verdict::Drop,
        _ => Verdict::Other,
    }
}

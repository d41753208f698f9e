//! The static part, put in place where it is not: sets, always-allow, rules, jump, in one transaction.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::found::Found;
use super::place::Place;
use super::script::{Work, raw_rules, rules, script};
use super::set::SetId;
use super::{Nftables, fault, remove, tool};
use crate::backend::ends::is_ending;
use crate::backend::{BackendError, Repairs, families};
use crate::netlink::ruleset::chains;

impl Nftables {
    /// Puts sets and rules in place where they are not.
    pub(super) fn settle(&mut self, repairs: &mut Repairs) -> Vec<BackendError> {
        repairs.notes.extend(families::missing(&self.families));
        let faults: Vec<_> = self.settle_or_retry(repairs).err().into_iter().collect();
        if faults.is_empty() {
            // Only now does no own rule name them any more; where somebody else's does, that is his to take out.
            repairs.notes.extend(self.sweep().into_iter().map(|fault| fault.what));
        }
        faults
    }

    /// Somebody else may change the table between our reading and writing; only then is it worth another attempt.
    fn settle_or_retry(&mut self, repairs: &mut Repairs) -> Result<(), BackendError> {
        let found = self.look()?;
        if self.is_settled(&found)? {
            return Ok(());
        }
        let Err(error) = self.install(&found, repairs) else {
            return Ok(());
        };
        let again = self.look()?;
        if again == found {
            Err(error)
        } else {
            self.install(&again, repairs)
        }
    }

    /// Makes room for networks of another length, if there is none yet.
    pub(super) fn make_room(&mut self, set: &SetId) -> Result<(), BackendError> {
        if self.sets.contains(set) {
            return Ok(());
        }
        self.sets.insert(set.clone());
        let found = self.look()?;
        let made = self.install(&found, &mut Repairs::default());
        if made.is_err() {
            self.sets.remove(set);
        }
        made
    }

    /// Where everything is as long as nobody changes it.
    pub(super) fn place(&self) -> Place {
        let installed = self.installed.as_ref().map(|found| found.place.clone());
        installed.unwrap_or_else(Place::own)
    }

    /// Where everything should go: the own table serves until the named one is there, or again when it is gone.
    pub(super) fn resolve(&mut self) -> Result<Place, BackendError> {
        let Some(named) = &self.named else {
            return Ok(Place::own());
        };
        let place = Place::named(named);
        let there = self
            .line
            .ask("look for the named chain", |socket| chains(socket, place.to_netlink()))?;
        let is_there = there.iter().any(|chain| chain.name == place.hook);
        Ok(if is_there { place } else { Place::own() })
    }

    fn look(&mut self) -> Result<Found, BackendError> {
        let place = self.resolve()?;
        Found::read(&mut self.line, &place)
    }

    fn is_settled(&mut self, found: &Found) -> Result<bool, BackendError> {
        Ok(self.installed.as_ref() == Some(found) && self.is_allowed(&found.place)?)
    }

    /// Whether the always-allow sets hold what they should, and nothing else that lasts.
    pub(super) fn is_allowed(&mut self, place: &Place) -> Result<bool, BackendError> {
        let wanted: BTreeSet<IpNet> = self.plan.always_allow.iter().copied().collect();
        let mut there = BTreeSet::new();
        for set in self.sets.iter().filter(|set| set.is_allow()) {
            for element in self.line.elements(place, set)? {
                if !is_ending(&element) {
                    there.insert((element.net, element.remaining));
                }
            }
        }
        Ok(there == wanted.into_iter().map(|net| (net, None)).collect())
    }

    fn install(&mut self, found: &Found, repairs: &mut Repairs) -> Result<(), BackendError> {
        self.keep_lengths(found);
        self.expect_kinds(found)?;
        let lacks = found.lacks(self.installed.as_ref(), &self.sets);
        if found.jumps.len() > 1 {
            remove::other_jumps(&mut self.line, &found.place)?;
        }
        let place = &found.place;
        let loses_hook = place.is_own() && found.misplaced.contains(&place.hook.as_str());
        let work = Work {
            misplaced: found.misplaced.clone(),
            has_jump: !found.jumps.is_empty() && !loses_hook,
            seeds: self.seeds(found)?,
        };
        tool::apply(&script(place, &self.plan, &self.sets, &work))?;
        let now = Found::read(&mut self.line, place)?;
        let raw = raw_rules(&self.plan).len();
        if !now.holds(&rules(&self.plan, &self.sets), raw, &self.sets) || !self.is_allowed(place)? {
            return Err(fault(format!(
                "what was put into table {place} is not there afterwards"
            )));
        }
        self.installed = Some(now);
        repairs.restored.extend(lacks);
        Ok(())
    }

    fn expect_kinds(&self, found: &Found) -> Result<(), BackendError> {
        let Some(set) = self.sets.iter().find(|set| found.sets.get(set) == Some(&false)) else {
            return Ok(());
        };
        let (name, place) = (set.name(), &found.place);
        let fault = fault(format!("set {name} in {place} is of another kind than time-outs need"));
        Err(fault.with_hint(format!("nft delete set {place} {name}")))
    }

    /// Sets of other lengths that an earlier process made: their networks are let in until their end.
    fn keep_lengths(&mut self, found: &Found) {
        let known = found
            .sets
            .iter()
            .filter(|(set, is_good)| **is_good && self.plan.has(&set.service));
        self.sets.extend(known.map(|(set, _)| set.clone()));
    }

    /// Takes away what earlier configurations left: sets of other services, and all of it at other places.
    fn sweep(&mut self) -> Vec<BackendError> {
        let place = self.place();
        let places = match remove::places(&mut self.line) {
            Ok(places) => places,
            Err(error) => return vec![error],
        };
        let swept = places.iter().map(|other| {
            if other.table == place.table {
                remove::stale_sets(&mut self.line, &place, &self.sets)
            } else if other.is_own() {
                remove::own_judgement(&mut self.line)
            } else {
                remove::everything(&mut self.line, other)
            }
        });
        let faults = swept.filter_map(Result::err).collect();
        // What was swept is no longer there, nor somebody else's doing.
        if let Ok(found) = Found::read(&mut self.line, &place) {
            let raw = raw_rules(&self.plan).len();
            if found.holds(&rules(&self.plan, &self.sets), raw, &self.sets) {
                self.installed = Some(found);
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_table_serves_until_told_otherwise() {
        let backend = Nftables::new(crate::backend::plan::Plan::default(), None);
        assert!(backend.place().is_own());
    }
}

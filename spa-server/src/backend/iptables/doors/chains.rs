//! Grants as rules, where there is no ipset: a chain for each service, a rule for each grant, written anew as a whole.
//!
//! The kernel ends nothing here: the ends are kept in memory, and whoever holds the grants closes them.

mod banned;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Doors;
use super::compare::{probe, wanted_in, whole_seconds};
use super::guests::GUEST_TIME_S;
use crate::backend::iptables::mark::{Mark, Marker};
use crate::backend::iptables::plan::{BANNED, Guarded, Plan, chain_name, service_of};
use crate::backend::iptables::rules::Keeping;
use crate::backend::iptables::{fault, tools};
use crate::backend::{BackendError, Door, Opening, Repairs, ShutOut};
use crate::config::LONGEST_DURATION;
use crate::netlink::Family;
use text::{Saved, grant_rules, nets, removal, restore};

const TABLE: &str = "filter";

/// The chains of this backend.
#[derive(Debug)]
pub struct Chains {
    /// Why there are no sets.
    why: String,
    kept: BTreeMap<(Family, String), Kept>,
    banned: BTreeMap<Family, BTreeSet<IpNet>>,
    marker: Marker,
}

/// A chain as it was written.
#[derive(Clone, Debug, Default)]
struct Kept {
    grants: Grants,
    /// As iptables-save prints them.
    rules: Vec<String>,
    mark: Option<Mark>,
}

type Grants = BTreeMap<IpNet, Grant>;

/// Who is let in, and until when.
#[derive(Clone, Copy, Debug)]
struct Grant {
    end: Instant,
    /// Connected before the door was shut: no opening accounts for him.
    is_guest: bool,
}

impl Chains {
    /// Nothing is read or written yet.
    #[must_use]
    pub fn new(why: String) -> Self {
        Self {
            why,
            kept: BTreeMap::new(),
            banned: BTreeMap::new(),
            marker: Marker::default(),
        }
    }

    /// Puts a chain in place, reads it back and remembers it.
    fn write(&mut self, service: &Guarded, family: Family, grants: Grants) -> Result<(), BackendError> {
        let chain = chain_name(&service.name);
        let wanted = grant_rules(service, grants.keys());
        tools::restore(family, &restore(&chain, &wanted))?;
        // Before reading back: what changes in between makes the mark differ.
        let mark = self.marker.take_chain(family, &chain);
        let mut saved = Saved::parse(&tools::save(family, TABLE)?);
        let rules = saved.take(&chain).unwrap_or_default();
        if rules.len() != wanted.len() {
            return Err(fault(format!(
                "the rules put into chain {chain} ({family}) are not there afterwards"
            )));
        }
        self.kept
            .insert((family, service.name.clone()), Kept { grants, rules, mark });
        Ok(())
    }

    /// The grants of a service as known, or as its chain says when this is the first look.
    fn grants(&mut self, service: &Guarded, family: Family) -> Result<Grants, BackendError> {
        if let Some(kept) = self.kept.get(&(family, service.name.clone())) {
            return Ok(kept.grants.clone());
        }
        let mut saved = Saved::parse(&tools::save(family, TABLE)?);
        Ok(inherited(&saved.take(&chain_name(&service.name)).unwrap_or_default()))
    }

    fn ensure_one(
        &mut self,
        service: &Guarded,
        family: Family,
        saved: &mut Saved,
    ) -> Result<Option<String>, BackendError> {
        let chain = chain_name(&service.name);
        let found = saved.take(&chain);
        let kept = self.kept.get(&(family, service.name.clone())).cloned();
        if found.is_some() && kept.as_ref().map(|kept| &kept.rules) == found.as_ref() {
            return Ok(None);
        }
        let lacks = match (&found, &kept) {
            (None, _) => Some(format!("chain {chain} in {TABLE} ({family})")),
            (Some(_), Some(_)) => Some(format!("rules of chain {chain} in {TABLE} ({family})")),
            (Some(_), None) => None,
        };
        let grants = kept.map_or_else(|| inherited(&found.unwrap_or_default()), |kept| kept.grants);
        self.write(service, family, grants)?;
        Ok(lacks)
    }

    fn mend_one(
        &mut self,
        service: &Guarded,
        family: Family,
        openings: &[Opening],
        repairs: &mut Repairs,
    ) -> Result<(), BackendError> {
        let now = Instant::now();
        let before = self.grants(service, family)?;
        let wanted = wanted_in(&service.name, family, openings);
        let granted = wanted.into_iter().filter(|(_, seconds)| *seconds > 0);
        let mut grants: Grants = granted
            .map(|(net, seconds)| (net, Grant::lasting(seconds, now)))
            .collect();
        for (net, guest) in before.iter().filter(|(_, grant)| grant.is_guest && grant.end > now) {
            grants.entry(*net).or_insert(*guest);
        }
        let door = |net: &IpNet| door(service, *net);
        let gone = before
            .iter()
            .filter(|(net, grant)| !grant.is_guest && !grants.contains_key(net));
        let (removed, new): (Vec<Door>, Vec<Door>) = (
            gone.map(|(net, _)| door(net)).collect(),
            grants
                .keys()
                .filter(|net| !before.contains_key(net))
                .map(door)
                .collect(),
        );
        self.replace(service, family, grants)?;
        repairs.removed.extend(removed);
        repairs.reopened.extend(new);
        Ok(())
    }

    /// Ends may change without a rule being touched.
    fn replace(&mut self, service: &Guarded, family: Family, grants: Grants) -> Result<(), BackendError> {
        match self.kept.get_mut(&(family, service.name.clone())) {
            Some(kept) if kept.grants.keys().eq(grants.keys()) => {
                kept.grants = grants;
                Ok(())
            }
            _ => self.write(service, family, grants),
        }
    }

    fn change(&mut self, plan: &Plan, door: &Door, change: impl FnOnce(&mut Grants)) -> Result<(), BackendError> {
        let unknown = || fault(format!("there is no service {}", door.service.escape_debug()));
        let service = plan.services.iter().find(|service| service.name == door.service);
        let (service, family) = (service.ok_or_else(unknown)?, Family::of(&door.opened));
        let mut grants = self.grants(service, family)?;
        change(&mut grants);
        self.replace(service, family, grants)
    }

    /// With iptables-legacy one mark is that of the whole table, which others change too: nothing is told by it here.
    fn is_intact(&mut self, service: &Guarded, family: Family, openings: &[Opening]) -> bool {
        let now = Instant::now();
        let Some(kept) = self.kept.get(&(family, service.name.clone())) else {
            return false;
        };
        let wanted = wanted_in(&service.name, family, openings);
        let granted = kept
            .grants
            .iter()
            .filter(|(net, grant)| !grant.is_guest || wanted.contains_key(*net));
        let is_over = |grant: &Grant| grant.is_guest && grant.end <= now;
        let is_written = match &kept.mark {
            Some(mark @ Mark::Rules { .. }) => {
                self.marker.take_chain(family, &chain_name(&service.name)).as_ref() == Some(mark)
            }
            Some(Mark::Digest(_)) | None => true,
        };
        is_written && granted.map(|(net, _)| net).eq(wanted.keys()) && !kept.grants.values().any(is_over)
    }
}

impl Doors for Chains {
    fn keeping(&self) -> Keeping {
        Keeping::Rules
    }

    fn note(&self) -> Option<String> {
        Some(format!(
            "there is no ipset ({}): grants are rules, which the kernel will not end; only this daemon closes them",
            self.why
        ))
    }

    fn ensure(&mut self, plan: &Plan, family: Family) -> Result<Vec<String>, BackendError> {
        let mut saved = Saved::parse(&tools::save(family, TABLE)?);
        let lacks = plan
            .services
            .iter()
            .map(|service| self.ensure_one(service, family, &mut saved));
        let mut lacks: Vec<String> = lacks.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        if plan.bans {
            lacks.extend(self.ensure_banned(family, &mut saved)?);
        }
        Ok(lacks)
    }

    fn open(&mut self, plan: &Plan, opening: &Opening) -> Result<(), BackendError> {
        let Some(seconds) = whole_seconds(opening.remaining) else {
            return self.close(plan, &opening.door);
        };
        let grant = Grant::lasting(seconds, Instant::now());
        let net = opening.door.opened.trunc();
        self.change(plan, &opening.door, |grants| {
            grants.insert(net, grant);
        })
    }

    fn close(&mut self, plan: &Plan, door: &Door) -> Result<(), BackendError> {
        self.change(plan, door, |grants| {
            grants.remove(&door.opened.trunc());
        })
    }

    fn admit(&mut self, plan: &Plan, guest: &Door) -> Result<(), BackendError> {
        let grant = Grant {
            is_guest: true,
            ..Grant::lasting(GUEST_TIME_S, Instant::now())
        };
        self.change(plan, guest, |grants| {
            grants.entry(guest.opened).or_insert(grant);
        })
    }

    /// What no opening accounts for is closed after a restart; nothing in a rule says for how long it was meant.
    fn adopt(&mut self, _: Family, _: &str, _: &[IpNet]) -> Result<(), BackendError> {
        Ok(())
    }

    fn list(&mut self, plan: &Plan, family: Family) -> Result<Vec<Opening>, BackendError> {
        let (now, mut openings) = (Instant::now(), Vec::new());
        for service in &plan.services {
            let grants = self.grants(service, family)?;
            openings.extend(grants.into_iter().map(|(net, grant)| Opening {
                door: door(service, net),
                client: None,
                remaining: grant.end.saturating_duration_since(now),
            }));
        }
        Ok(openings)
    }

    fn are_intact(&mut self, plan: &Plan, family: Family, openings: &[Opening]) -> Result<bool, BackendError> {
        Ok(plan
            .services
            .iter()
            .all(|service| self.is_intact(service, family, openings)))
    }

    fn are_settled(&mut self, plan: &Plan, family: Family) -> Result<bool, BackendError> {
        let mut saved = None;
        for service in &plan.services {
            let chain = chain_name(&service.name);
            let mark = self.marker.take_chain(family, &chain);
            let Some(kept) = self.kept.get_mut(&(family, service.name.clone())) else {
                return Ok(false);
            };
            if mark.is_some() && mark == kept.mark {
                continue;
            }
            let saved = match &mut saved {
                Some(saved) => saved,
                none => none.insert(Saved::parse(&tools::save(family, TABLE)?)),
            };
            if saved.take(&chain).as_ref() != Some(&kept.rules) {
                return Ok(false);
            }
            kept.mark = mark;
        }
        if plan.bans {
            let saved = match &mut saved {
                Some(saved) => saved,
                none => none.insert(Saved::parse(&tools::save(family, TABLE)?)),
            };
            return Ok(self.is_banned_settled(family, saved));
        }
        Ok(true)
    }

    fn mend(&mut self, plan: &Plan, family: Family, openings: &[Opening], repairs: &mut Repairs) -> Vec<BackendError> {
        let mend = |service| self.mend_one(service, family, openings, repairs).err();
        plan.services.iter().filter_map(mend).collect()
    }

    fn flush(&mut self, plan: &Plan, family: Family) -> Vec<BackendError> {
        let flush = |service| self.write(service, family, Grants::new()).err();
        plan.services.iter().filter_map(flush).collect()
    }

    /// Writing reads back.
    fn probe(&mut self, plan: &Plan, family: Family) -> Result<(), BackendError> {
        for service in &plan.services {
            let grants = self.grants(service, family)?;
            let mut probed = grants.clone();
            probed.insert(probe(family), Grant::lasting(1, Instant::now()));
            self.write(service, family, probed)?;
            self.write(service, family, grants)?;
        }
        Ok(())
    }

    fn ban(&mut self, _: &Plan, network: IpNet, _: u32) -> Result<(), BackendError> {
        self.change_banned(Family::of(&network), |banned| banned.insert(network))
    }

    fn unban(&mut self, _: &Plan, network: IpNet) -> Result<(), BackendError> {
        self.change_banned(Family::of(&network), |banned| banned.remove(&network))
    }

    fn bans(&mut self, family: Family) -> Result<Vec<ShutOut>, BackendError> {
        self.list_banned(family)
    }

    fn sweep(&mut self, plan: &Plan, families: &[Family], _: Duration) -> Vec<BackendError> {
        let is_kept = |service: &str| plan.services.iter().any(|own| own.name == service);
        self.kept.retain(|(_, service), _| is_kept(service));
        let services = plan.services.iter().map(|service| chain_name(&service.name));
        let keep = services.chain(plan.bans.then(|| chain_name(BANNED))).collect();
        sweep_chains(families, &keep)
    }
}

impl Grant {
    fn lasting(seconds: u32, now: Instant) -> Self {
        Self {
            end: now + Duration::from_secs(u64::from(seconds)),
            is_guest: false,
        }
    }
}

/// Takes away every chain of a service except those in `keep`; what could not be taken away.
pub fn sweep_chains(families: &[Family], keep: &BTreeSet<String>) -> Vec<BackendError> {
    let sweep = |family: &Family| sweep_family(*family, keep).err();
    families.iter().filter_map(sweep).collect()
}

fn sweep_family(family: Family, keep: &BTreeSet<String>) -> Result<(), BackendError> {
    let saved = Saved::parse(&tools::save(family, TABLE)?);
    let stale = saved
        .chains()
        .filter(|chain| service_of(chain).is_some() && !keep.contains(*chain));
    let stale: Vec<&str> = stale.collect();
    if stale.is_empty() {
        return Ok(());
    }
    tools::restore(family, &removal(&stale))
}

/// The services for which an earlier process has written rules: enough of a plan to list and to close by.
pub fn plan_found(families: &[Family]) -> Result<Plan, BackendError> {
    let mut services: BTreeMap<String, Guarded> = BTreeMap::new();
    for family in families {
        for found in Saved::parse(&tools::save(*family, TABLE)?).services() {
            let known = services.entry(found.name.clone()).or_insert_with(|| found.clone());
            // A chain without a grant does not tell where it leads.
            known.chain = known.chain.max(found.chain);
            known.protect |= found.protect;
        }
    }
    Ok(Plan {
        services: services.into_values().collect(),
        ..Plan::default()
    })
}

/// What an earlier process left: nothing says until when.
fn inherited(rules: &[String]) -> Grants {
    let end = Instant::now() + LONGEST_DURATION;
    let grant = Grant { end, is_guest: false };
    nets(rules).map(|net| (net, grant)).collect()
}

fn door(service: &Guarded, opened: IpNet) -> Door {
    Door {
        service: service.name.clone(),
        opened,
    }
}

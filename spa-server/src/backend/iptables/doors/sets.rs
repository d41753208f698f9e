//! The sets of ipset. Nothing here starts a program.

mod upkeep;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Doors;
use super::compare::{compare, is_ending, opening, shut_out, wanted_in, whole_seconds};
use super::guests::{GUEST_TIME_S, Guests};
use crate::backend::iptables::fault;
use crate::backend::iptables::plan::{Plan, allow_set, ban_set, set_name};
use crate::backend::iptables::rules::Keeping;
use crate::backend::{BackendError, Door, Opening, Repairs, ShutOut};
use crate::netlink::Element;
use crate::netlink::Family;
use crate::netlink::ipset::{Creation, Ipset, SET_TYPE, Set};

/// The sets of this backend, over one line to the kernel that is opened when first needed.
#[derive(Debug, Default)]
pub struct Sets {
    line: Option<Ipset>,
    guests: Guests,
}

/// One way in which a set is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    /// The set.
    pub set: String,
    /// Which door.
    pub door: Door,
    /// How long it should be open from now; none when it should not be.
    pub wanted: Option<u32>,
}

impl Doors for Sets {
    fn keeping(&self) -> Keeping {
        Keeping::Sets
    }

    fn note(&self) -> Option<String> {
        None
    }

    fn ensure(&mut self, plan: &Plan, family: Family) -> Result<Vec<String>, BackendError> {
        let mut restored = Vec::new();
        for name in plan.sets(family) {
            if self.ipset()?.create(&name, family)? == Creation::Created {
                restored.push(format!("set {name}"));
            }
        }
        restored.extend(self.ensure_allowed(plan, family)?);
        Ok(restored)
    }

    fn open(&mut self, plan: &Plan, opening: &Opening) -> Result<(), BackendError> {
        let Some(seconds) = whole_seconds(opening.remaining) else {
            return self.close(plan, &opening.door);
        };
        let set = set_of(&opening.door);
        self.ipset()?.add(&set, opening.door.opened.trunc(), seconds)?;
        self.guests.forget(&set, opening.door.opened.trunc());
        Ok(())
    }

    fn close(&mut self, _: &Plan, door: &Door) -> Result<(), BackendError> {
        let set = set_of(door);
        self.ipset()?.remove(&set, door.opened.trunc())?;
        self.guests.forget(&set, door.opened.trunc());
        Ok(())
    }

    fn admit(&mut self, _: &Plan, guest: &Door) -> Result<(), BackendError> {
        let set = set_of(guest);
        if self.ipset()?.add_absent(&set, guest.opened, GUEST_TIME_S)? {
            self.guests.remember(&set, guest.opened, GUEST_TIME_S);
        }
        Ok(())
    }

    fn adopt(&mut self, family: Family, service: &str, nets: &[IpNet]) -> Result<(), BackendError> {
        let set = set_name(family, service);
        for element in self.look(&set)?.unwrap_or_default().elements {
            let seconds = element.remaining.filter(|seconds| *seconds <= GUEST_TIME_S);
            if let Some(seconds) = seconds.filter(|_| nets.contains(&element.net)) {
                self.guests.remember(&set, element.net, seconds);
            }
        }
        Ok(())
    }

    fn list(&mut self, plan: &Plan, family: Family) -> Result<Vec<Opening>, BackendError> {
        let mut openings = Vec::new();
        for service in &plan.services {
            let set = self.look(&set_name(family, &service.name))?.unwrap_or_default();
            openings.extend(set.elements.into_iter().map(|element| opening(&service.name, element)));
        }
        Ok(openings)
    }

    fn are_intact(&mut self, plan: &Plan, family: Family, openings: &[Opening]) -> Result<bool, BackendError> {
        for name in plan.sets(family) {
            let kind = self.ipset()?.header(&name)?;
            if kind.is_none_or(|set| set.kind != SET_TYPE || set.family != family.number()) {
                return Ok(false);
            }
        }
        let wanted = always(plan, family);
        Ok(self.allowed(family)? == wanted && self.differences(plan, family, openings)?.is_empty())
    }

    fn are_settled(&mut self, _: &Plan, _: Family) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn mend(&mut self, plan: &Plan, family: Family, openings: &[Opening], repairs: &mut Repairs) -> Vec<BackendError> {
        let differences = match self.differences(plan, family, openings) {
            Ok(differences) => differences,
            Err(error) => return vec![error],
        };
        let mut faults = Vec::new();
        for difference in differences {
            match self.settle(&difference) {
                Ok(()) if difference.wanted.is_some() => repairs.reopened.push(difference.door),
                Ok(()) => repairs.removed.push(difference.door),
                Err(error) => faults.push(error),
            }
        }
        faults
    }

    fn flush(&mut self, plan: &Plan, family: Family) -> Vec<BackendError> {
        plan.services
            .iter()
            .filter_map(|service| self.flush_set(&set_name(family, &service.name)).err())
            .collect()
    }

    fn probe(&mut self, plan: &Plan, family: Family) -> Result<(), BackendError> {
        self.probe_sets(plan, family)
    }

    fn ban(&mut self, _: &Plan, network: IpNet, seconds: u32) -> Result<(), BackendError> {
        Ok(self.ipset()?.add(&ban_set(Family::of(&network)), network, seconds)?)
    }

    fn unban(&mut self, _: &Plan, network: IpNet) -> Result<(), BackendError> {
        Ok(self.ipset()?.remove(&ban_set(Family::of(&network)), network)?)
    }

    fn bans(&mut self, family: Family) -> Result<Vec<ShutOut>, BackendError> {
        let set = self.look(&ban_set(family))?.unwrap_or_default();
        Ok(set.elements.into_iter().map(shut_out).collect())
    }

    fn sweep(&mut self, plan: &Plan, families: &[Family], patience: Duration) -> Vec<BackendError> {
        let keep = families.iter().flat_map(|family| plan.sets(*family)).collect();
        self.sweep_except(&keep, patience)
    }
}

impl Sets {
    /// In what the services' sets of `family` differ from `openings`.
    fn differences(
        &mut self,
        plan: &Plan,
        family: Family,
        openings: &[Opening],
    ) -> Result<Vec<Difference>, BackendError> {
        self.guests.expire(Instant::now());
        let mut differences = Vec::new();
        for service in &plan.services {
            let set = set_name(family, &service.name);
            let there = self.look(&set)?.unwrap_or_default();
            let wanted = wanted_in(&service.name, family, openings);
            let found = compare(&there.elements, &wanted).into_iter();
            let unexplained = found.filter(|(net, end)| end.is_some() || !self.guests.contains(&set, *net));
            differences.extend(unexplained.map(|(opened, wanted)| {
                let door = Door {
                    service: service.name.clone(),
                    opened,
                };
                Difference {
                    set: set.clone(),
                    door,
                    wanted,
                }
            }));
        }
        Ok(differences)
    }

    /// Does away with one difference.
    fn settle(&mut self, difference: &Difference) -> Result<(), BackendError> {
        let Difference { set, door, wanted } = difference;
        let ipset = self.ipset()?;
        let mended = match wanted {
            Some(seconds) => ipset.add(set, door.opened, *seconds),
            None => ipset.remove(set, door.opened),
        };
        Ok(mended?)
    }

    fn ensure_allowed(&mut self, plan: &Plan, family: Family) -> Result<Vec<String>, BackendError> {
        let name = allow_set(family);
        let wanted = always(plan, family);
        let there = self.allowed(family)?;
        for element in there.difference(&wanted) {
            self.ipset()?.remove(&name, element.net)?;
        }
        let absent: Vec<IpNet> = wanted.difference(&there).map(|element| element.net).collect();
        for net in &absent {
            self.ipset()?.add(&name, *net, 0)?;
        }
        if self.allowed(family)? != wanted {
            return Err(fault(format!("the set {name} does not hold what was put into it")));
        }
        Ok(absent.iter().map(|net| format!("{net} in set {name}")).collect())
    }

    fn allowed(&mut self, family: Family) -> Result<BTreeSet<Element>, BackendError> {
        let set = self.look(&allow_set(family))?.unwrap_or_default();
        Ok(set.elements.into_iter().filter(|element| !is_ending(element)).collect())
    }

    fn flush_set(&mut self, set: &str) -> Result<(), BackendError> {
        self.ipset()?.flush(set)?;
        self.guests.keep(|of| of != set);
        Ok(())
    }

    fn look(&mut self, name: &str) -> Result<Option<Set>, BackendError> {
        Ok(self.ipset()?.list(name)?)
    }

    fn ipset(&mut self) -> Result<&mut Ipset, BackendError> {
        if self.line.is_none() {
            self.line = Some(Ipset::open()?);
        }
        self.line.as_mut().ok_or_else(|| fault("no line to ipset".to_owned()))
    }
}

/// The always-allow set as it should be.
fn always(plan: &Plan, family: Family) -> BTreeSet<Element> {
    plan.allowed(family)
        .map(|net| Element { net, remaining: None })
        .collect()
}

fn set_of(door: &Door) -> String {
    set_name(Family::of(&door.opened), &door.service)
}

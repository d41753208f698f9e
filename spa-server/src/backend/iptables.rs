//! iptables and ipset: a few static rules once, each grant an element of a set that ends by itself.
//!
//! [`plan`] says what should be and `place` where, `rules` writes it as text, `tools` feeds that to iptables-restore and
//! reads back what `found` understands, `settle` goes through all of it, `doors` holds the grants, `existing` finds who is
//! connected, `mark` and `xtables` tell whether anything changed, `lock` who holds the lock.

mod doors;
mod found;
mod lock;
mod mark;
pub mod place;
mod rules;
mod settle;
mod tools;
mod xtables;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;

use super::ends::whole_seconds;
use super::{Backend, BackendError, Banned, Door, Opening, Repairs, ShutOut, Watch, families};
pub use super::{existing, plan};
use crate::netlink::Family;
use crate::netlink::ipset::IpsetError;
use doors::{Chains, Doors};
use found::Found;
use mark::{Mark, Marker};
use place::Place;
use plan::Plan;
use settle::{look, take_out};
use tools::Variant;

const NAME: &str = "iptables";
/// How often rules are looked at where nothing tells of their change.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long the kernel may take to free a set after the last rule that names it.
const RELEASE: Duration = Duration::from_secs(2);

/// The backend for `backends = ["iptables"]`, in the network namespace of the thread that uses it.
#[derive(Debug)]
pub struct Iptables {
    plan: Plan,
    families: Vec<Family>,
    /// How grants are kept: chosen once.
    doors: Box<dyn Doors>,
    /// What was read back after it was put in place: any difference from it is somebody else's doing.
    installed: BTreeMap<(Family, Place), Installed>,
    marker: Marker,
}

/// What stands at a place since it was put there.
#[derive(Debug)]
struct Installed {
    found: Found,
    /// Where this is the same, nothing else needs to be read.
    mark: Option<Mark>,
}

impl Iptables {
    /// A backend that changes nothing yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self::with(plan, doors::choose())
    }

    /// The same for a host without ipset, or one where it is not to be used.
    #[must_use]
    pub fn without_ipset(plan: Plan) -> Self {
        Self::with(plan, Box::new(Chains::new("it is not to be used".to_owned())))
    }

    /// What lists and closes the grants that an earlier process left as rules, which no kernel ends; none where there
    /// are none. No configuration is needed: the rules tell.
    ///
    /// # Errors
    ///
    /// When the rules could not be read.
    pub fn left_open() -> Result<Option<Self>, BackendError> {
        if !tools::are_there() {
            return Ok(None);
        }
        let plan = doors::plan_found(&families::available())?;
        Ok((!plan.services.is_empty()).then(|| Self::without_ipset(plan)))
    }

    fn with(plan: Plan, doors: Box<dyn Doors>) -> Self {
        Self {
            plan,
            families: families::available(),
            doors,
            installed: BTreeMap::new(),
            marker: Marker::default(),
        }
    }

    fn expect_known(&self, door: &Door) -> Result<(), BackendError> {
        let family = Family::of(&door.opened);
        if !self.families.contains(&family) {
            return Err(fault(format!("{}: this kernel has no {family}", door.opened)));
        }
        let unknown = || {
            fault(format!(
                "there is no service {} in this backend",
                door.service.escape_debug()
            ))
        };
        self.plan.has(&door.service).then_some(()).ok_or_else(unknown)
    }
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        NAME
    }

    fn protect(&mut self) -> Result<Repairs, BackendError> {
        let mut repairs = Repairs::default();
        let faults = self.settle(&mut repairs);
        unless(faults, repairs)
    }

    fn self_test(&mut self) -> Result<(), BackendError> {
        self.families
            .iter()
            .try_for_each(|family| self.doors.probe(&self.plan, *family))
    }

    fn open(&mut self, opening: &Opening) -> Result<(), BackendError> {
        self.expect_known(&opening.door)?;
        self.doors.open(&self.plan, opening)
    }

    fn close(&mut self, door: &Door) -> Result<(), BackendError> {
        // The set of a service that is no longer configured went when this plan was put in place. And a name from the
        // other side of a process boundary must not reach the always-allow set.
        if self.plan.has(&door.service) {
            self.doors.close(&self.plan, door)
        } else {
            Ok(())
        }
    }

    fn list(&mut self) -> Result<Vec<Opening>, BackendError> {
        let lists = self.families.iter().map(|family| self.doors.list(&self.plan, *family));
        Ok(lists.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn reconcile(&mut self, openings: &[Opening]) -> Result<Repairs, BackendError> {
        let mut repairs = Repairs::default();
        let mut faults = self.settle(&mut repairs);
        for family in self.families.clone() {
            faults.extend(self.doors.mend(&self.plan, family, openings, &mut repairs));
        }
        unless(faults, repairs)
    }

    fn doors_intact(&mut self, openings: &[Opening]) -> Result<bool, BackendError> {
        let mut looks = self
            .families
            .iter()
            .map(|family| self.doors.are_intact(&self.plan, *family, openings));
        looks.try_fold(true, |intact, look| Ok(intact && look?))
    }

    fn rules_intact(&mut self) -> Result<bool, BackendError> {
        for family in self.families.clone() {
            if !self.doors.are_settled(&self.plan, family)? {
                return Ok(false);
            }
            for place in Place::all() {
                if !self.is_settled(family, place)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn watch(&self) -> Watch {
        match tools::variant() {
            Variant::NfTables => Watch::Tables(Place::TABLES.map(|(table, _)| table.to_owned()).to_vec()),
            Variant::Legacy => Watch::Every(LOOK_EVERY),
        }
    }

    fn ban(&mut self, banned: &Banned) -> Result<(), BackendError> {
        let family = Family::of(&banned.network);
        if !self.plan.bans || !self.families.contains(&family) {
            return Ok(());
        }
        match whole_seconds(banned.remaining) {
            Some(seconds) => self.doors.ban(&self.plan, banned.network, seconds),
            None => self.doors.unban(&self.plan, banned.network),
        }
    }

    fn unban(&mut self, network: IpNet) -> Result<(), BackendError> {
        if self.plan.bans {
            self.doors.unban(&self.plan, network)
        } else {
            Ok(())
        }
    }

    fn bans(&mut self) -> Result<Option<Vec<ShutOut>>, BackendError> {
        if !self.plan.bans {
            return Ok(None);
        }
        let bans = self.families.iter().map(|family| self.doors.bans(*family));
        Ok(Some(
            bans.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect(),
        ))
    }

    fn close_all(&mut self) -> Result<(), BackendError> {
        let families = self.families.iter();
        unless(
            families
                .flat_map(|family| self.doors.flush(&self.plan, *family))
                .collect(),
            (),
        )
    }

    fn uninstall(&mut self) -> Result<(), BackendError> {
        self.installed.clear();
        let mut faults = Vec::new();
        for family in &self.families {
            faults.extend(Place::all().filter_map(|place| remove(*family, place).err()));
        }
        faults.extend(doors::sweep_chains(&self.families, &BTreeSet::new()));
        faults.extend(self.doors.sweep(&Plan::default(), &[], RELEASE));
        unless(faults, ())
    }
}

/// Takes chain and jumps out of a place, once more if somebody else changed it meanwhile.
fn remove(family: Family, place: Place) -> Result<(), BackendError> {
    let found = look(family, place)?;
    let removed = take_out(family, place, &found);
    let again = look(family, place)?;
    if again == found {
        removed
    } else {
        take_out(family, place, &again)
    }
}

/// Whether this host has the programs of iptables.
#[must_use]
pub fn is_there() -> bool {
    tools::are_there()
}

/// All tables of a family, as iptables-save prints them.
///
/// # Errors
///
/// When iptables-save is missing or failed.
pub fn saved(family: Family) -> Result<String, BackendError> {
    tools::save_all(family)
}

/// Table nat of a family, as iptables-save prints it; nothing where nobody uses it, or there is no iptables.
///
/// # Errors
///
/// When iptables-save failed.
pub fn saved_nat(family: Family) -> Result<String, BackendError> {
    let is_used = || {
        let names = match family {
            Family::V4 => "/proc/net/ip_tables_names",
            Family::V6 => "/proc/net/ip6_tables_names",
        };
        std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "nat"))
    };
    // Looking at a table of iptables-legacy brings it to life.
    if !tools::are_there() || (tools::variant() == Variant::Legacy && !is_used()) {
        return Ok(String::new());
    }
    tools::save(family, "nat")
}

/// Why there can be no sets on this host, if there can be none.
#[must_use]
pub fn missing_ipset() -> Option<String> {
    doors::missing_ipset().map(|error| error.to_string())
}

fn unless<T>(faults: Vec<BackendError>, done: T) -> Result<T, BackendError> {
    BackendError::unless(NAME, faults, done)
}

fn fault(what: String) -> BackendError {
    BackendError::new(NAME, what)
}

impl From<IpsetError> for BackendError {
    fn from(error: IpsetError) -> Self {
        let fault = fault(error.to_string());
        match error.hint() {
            Some(hint) => fault.with_hint(hint),
            None => fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_the_kernel_lacks_is_refused() {
        let backend = Iptables {
            families: vec![Family::V4],
            ..Iptables::new(Plan::default())
        };
        let door = Door {
            service: "ssh".into(),
            opened: "2001:db8::5/128".parse().unwrap(),
        };
        assert_eq!(
            backend.expect_known(&door).unwrap_err().what,
            "2001:db8::5/128: this kernel has no IPv6"
        );
    }
}

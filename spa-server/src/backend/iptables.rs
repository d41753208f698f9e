//! iptables and ipset: a few static rules once, each grant an element of a set that ends by itself.
//!
//! [`plan`](super::plan) says what should be, `rules` writes it as text, `tools` feeds that to iptables-restore and reads back what
//! `table` understands, `settle` goes through all of it, `doors` speaks to the sets, [`existing`](super::existing) finds who is connected.

mod doors;
mod mark;
mod rules;
mod settle;
mod table;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::plan::Plan;
use super::{Backend, BackendError, Door, Opening, Repairs, Watch, families};
use crate::netlink::Family;
use crate::netlink::ipset::IpsetError;
use doors::Doors;
use mark::{Mark, Marker};
use table::{Found, Table};
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
    doors: Doors,
    /// What was read back after it was put in place: any difference from it is somebody else's doing.
    installed: BTreeMap<(Family, Table), Installed>,
    marker: Marker,
}

/// What stands in a table since it was put there.
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
        Self {
            plan,
            families: families::available(),
            doors: Doors::default(),
            installed: BTreeMap::new(),
            marker: Marker::default(),
        }
    }

    fn mend_doors(&mut self, family: Family, openings: &[Opening], repairs: &mut Repairs) -> Vec<BackendError> {
        let differences = match self.doors.differences(&self.plan, family, openings) {
            Ok(differences) => differences,
            Err(error) => return vec![error],
        };
        let mut faults = Vec::new();
        for difference in differences {
            match self.doors.mend(&difference) {
                Ok(()) if difference.wanted.is_some() => repairs.reopened.push(difference.door),
                Ok(()) => repairs.removed.push(difference.door),
                Err(error) => faults.push(error),
            }
        }
        faults
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
        self.doors.open(opening)
    }

    fn close(&mut self, door: &Door) -> Result<(), BackendError> {
        // The set of a service that is no longer configured went when this plan was put in place. And a name from the
        // other side of a process boundary must not reach the always-allow set.
        if self.plan.has(&door.service) {
            self.doors.close(door)
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
            faults.extend(self.mend_doors(family, openings, &mut repairs));
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
            for table in Table::ALL {
                if !self.is_settled(family, table)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn watch(&self) -> Watch {
        match tools::variant() {
            Variant::NfTables => Watch::Tables(Table::ALL.map(|table| table.name().to_owned()).to_vec()),
            Variant::Legacy => Watch::Every(LOOK_EVERY),
        }
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
            faults.extend(Table::ALL.into_iter().filter_map(|table| remove(*family, table).err()));
        }
        faults.extend(self.doors.sweep(&BTreeSet::new(), RELEASE));
        unless(faults, ())
    }
}

/// Takes chain and jumps out of a table, once more if somebody else changed it meanwhile.
fn remove(family: Family, table: Table) -> Result<(), BackendError> {
    let found = tools::read(family, table)?;
    let removed = take_out(family, table, &found);
    let again = tools::read(family, table)?;
    if again == found {
        removed
    } else {
        take_out(family, table, &again)
    }
}

fn take_out(family: Family, table: Table, found: &Found) -> Result<(), BackendError> {
    if *found == Found::default() {
        return Ok(());
    }
    tools::restore(family, &rules::removal(table, found.chain.is_some(), &found.references))
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

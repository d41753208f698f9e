//! nftables: a few static rules once, each grant an element of a plain set that ends by itself.
//!
//! [`plan`](super::plan) says what should be, `script` writes it as text, `tool` feeds that to nft in one transaction,
//! `found` reads back over netlink what stands there, `settle` goes through all of it, `seeds` finds who must be let in at
//! once, `doors` and `line` speak to the sets, `remove` takes own things away, [`later`] finds who would drop what was
//! let through here, [`earlier`] who lets in before.

mod doors;
pub mod earlier;
mod found;
pub mod later;
mod line;
mod place;
mod remove;
mod script;
mod seeds;
mod set;
mod settle;
mod tool;

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::ends::whole_seconds;
use super::guests::Guests;
use super::plan::Plan;
use super::{Backend, BackendError, Banned, Door, Opening, Repairs, ShutOut, Watch, families};
use crate::config::{BackendKind, Config, Finding, NamedChain, Service};
use crate::netlink::Family;
use found::Found;
use line::Line;
use place::{OWN_TABLE, Place};
use set::SetId;

const NAME: &str = "nftables";

/// The backend for `backends = ["nftables"]`, in the network namespace of the thread that uses it.
#[derive(Debug)]
pub struct Nftables {
    plan: Plan,
    /// The table and chain that the configuration names.
    named: Option<NamedChain>,
    families: Vec<Family>,
    line: Line,
    guests: Guests,
    /// The sets that rules name; more come into being with the first network of their length.
    sets: BTreeSet<SetId>,
    /// What was read back after it was put in place: any difference from it is somebody else's doing.
    installed: Option<Found>,
}

impl Nftables {
    /// A backend that changes nothing yet. Sets and rules go to the own table, or to the named one while that is there.
    #[must_use]
    pub fn new(plan: Plan, named: Option<NamedChain>) -> Self {
        Self {
            sets: set::needed(&plan),
            plan,
            named,
            families: families::available(),
            line: Line::default(),
            guests: Guests::default(),
            installed: None,
        }
    }

    fn expect_known(&self, door: &Door) -> Result<(), BackendError> {
        let family = Family::of(&door.opened);
        if !self.families.contains(&family) {
            return Err(fault(format!("{}: this kernel has no {family}", door.opened)));
        }
        let unknown = || {
            let name = door.service.escape_debug();
            fault(format!("there is no service {name} in this backend"))
        };
        self.plan.has(&door.service).then_some(()).ok_or_else(unknown)
    }
}

impl Backend for Nftables {
    fn name(&self) -> &'static str {
        NAME
    }

    fn protect(&mut self) -> Result<Repairs, BackendError> {
        let mut repairs = Repairs::default();
        let faults = self.settle(&mut repairs);
        unless(faults, repairs)
    }

    fn self_test(&mut self) -> Result<(), BackendError> {
        self.probe()
    }

    fn open(&mut self, opening: &Opening) -> Result<(), BackendError> {
        self.expect_known(&opening.door)?;
        match whole_seconds(opening.remaining) {
            Some(seconds) => self.open_for(&opening.door, seconds),
            None => self.shut(&opening.door),
        }
    }

    fn close(&mut self, door: &Door) -> Result<(), BackendError> {
        // A name from the other side of a process boundary must not reach the always-allow set.
        if self.plan.has(&door.service) {
            self.shut(door)
        } else {
            Ok(())
        }
    }

    fn list(&mut self) -> Result<Vec<Opening>, BackendError> {
        self.list_doors()
    }

    fn reconcile(&mut self, openings: &[Opening]) -> Result<Repairs, BackendError> {
        let mut repairs = Repairs::default();
        let mut faults = self.settle(&mut repairs);
        faults.extend(self.mend_doors(openings, &mut repairs));
        unless(faults, repairs)
    }

    fn doors_intact(&mut self, openings: &[Opening]) -> Result<bool, BackendError> {
        let place = self.place();
        let there = self.line.sets(&place)?;
        let complete = self.sets.iter().all(|set| there.get(set) == Some(&true));
        Ok(complete && self.is_allowed(&place)? && self.differences(openings)?.is_empty())
    }

    fn rules_intact(&mut self) -> Result<bool, BackendError> {
        let place = self.resolve()?;
        let found = Found::read(&mut self.line, &place)?;
        Ok(self.installed.as_ref() == Some(&found))
    }

    fn watch(&self) -> Watch {
        let named = self.named.iter().map(|named| named.table.clone());
        Watch::Tables(std::iter::once(OWN_TABLE.to_owned()).chain(named).collect())
    }

    fn ban(&mut self, banned: &Banned) -> Result<(), BackendError> {
        let family = Family::of(&banned.network);
        if !self.plan.bans || !self.families.contains(&family) {
            return Ok(());
        }
        match whole_seconds(banned.remaining) {
            Some(seconds) => self.ban_for(banned.network, seconds),
            None => self.let_in(banned.network),
        }
    }

    fn unban(&mut self, network: IpNet) -> Result<(), BackendError> {
        if self.plan.bans { self.let_in(network) } else { Ok(()) }
    }

    fn bans(&mut self) -> Result<Option<Vec<ShutOut>>, BackendError> {
        self.plan.bans.then(|| self.list_bans()).transpose()
    }

    fn close_all(&mut self) -> Result<(), BackendError> {
        let faults = self.flush_doors();
        unless(faults, ())
    }

    fn uninstall(&mut self) -> Result<(), BackendError> {
        self.installed = None;
        let places = remove::places(&mut self.line)?;
        let remove = |place: &Place| remove::everything(&mut self.line, place).err();
        let faults = places.iter().filter_map(remove).collect();
        unless(faults, ())
    }
}

fn unless<T>(faults: Vec<BackendError>, done: T) -> Result<T, BackendError> {
    BackendError::unless(NAME, faults, done)
}

/// What this host's own ruleset would do to the services of nftables, for `spa-server check`.
///
/// # Errors
///
/// When the ruleset could not be read.
pub fn inspect(config: &Config) -> Result<Vec<Finding>, BackendError> {
    let is_own = |service: &Service| service.backends.contains(&BackendKind::Nftables);
    if !config.services.iter().any(is_own) {
        return Ok(Vec::new());
    }
    let text = tool::ruleset()?;
    let ruleset = serde_json::from_str(&text).map_err(|error| fault(format!("nft -j list ruleset: {error}")))?;
    let mut findings = later::findings_in(config, &ruleset);
    findings.extend(earlier::findings_in(config, &ruleset));
    Ok(findings)
}

fn fault(what: String) -> BackendError {
    BackendError::new(NAME, what)
}

//! Who may come in, and until when.
//!
//! [`Sets`] keeps it in sets of ipset, whose elements the kernel ends; [`Chains`] in rules, where there is no ipset.

mod chains;
mod sets;

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use super::plan::Plan;
use super::rules::Keeping;
use crate::backend::{BackendError, Door, Opening, Repairs, ShutOut};
use crate::backend::{ends as compare, guests};
use crate::netlink::Family;
use crate::netlink::ipset::{Ipset, IpsetError};
pub use chains::{Chains, plan_found, sweep_chains};
pub use sets::Sets;

/// What holds the grants of all services.
pub trait Doors: fmt::Debug + Send {
    /// What the rules of the own chains lead to.
    fn keeping(&self) -> Keeping;

    /// What the operator must know of this way of keeping grants.
    fn note(&self) -> Option<String>;

    /// Makes what the rules will name where it is absent, grants in it kept. What was absent.
    fn ensure(&mut self, plan: &Plan, family: Family) -> Result<Vec<String>, BackendError>;

    /// Opens a door for what remains, or shuts it if nothing remains.
    fn open(&mut self, plan: &Plan, opening: &Opening) -> Result<(), BackendError>;

    /// Shuts a door.
    fn close(&mut self, plan: &Plan, door: &Door) -> Result<(), BackendError>;

    /// Lets somebody who is connected already come in for a minute, unless he may anyway.
    fn admit(&mut self, plan: &Plan, guest: &Door) -> Result<(), BackendError>;

    /// Takes those of `nets` for guests that another process has let in for a minute.
    fn adopt(&mut self, family: Family, service: &str, nets: &[IpNet]) -> Result<(), BackendError>;

    /// What stands open in `family`.
    fn list(&mut self, plan: &Plan, family: Family) -> Result<Vec<Opening>, BackendError>;

    /// Whether all of `family` is as `openings` say. Starts no program.
    fn are_intact(&mut self, plan: &Plan, family: Family, openings: &[Opening]) -> Result<bool, BackendError>;

    /// Whether rules, where grants are rules, are as they were written. May start a program.
    fn are_settled(&mut self, plan: &Plan, family: Family) -> Result<bool, BackendError>;

    /// Makes `family` as `openings` say; what could not be mended.
    fn mend(&mut self, plan: &Plan, family: Family, openings: &[Opening], repairs: &mut Repairs) -> Vec<BackendError>;

    /// Shuts all doors of `family`; what could not be shut.
    fn flush(&mut self, plan: &Plan, family: Family) -> Vec<BackendError>;

    /// Puts a probe into all that `family` has, reads it back and takes it out.
    fn probe(&mut self, plan: &Plan, family: Family) -> Result<(), BackendError>;

    /// Shuts a network out for so many seconds.
    fn ban(&mut self, plan: &Plan, network: IpNet, seconds: u32) -> Result<(), BackendError>;

    /// Lets a network in again.
    fn unban(&mut self, plan: &Plan, network: IpNet) -> Result<(), BackendError>;

    /// Who of `family` is shut out.
    fn bans(&mut self, family: Family) -> Result<Vec<ShutOut>, BackendError>;

    /// Takes away what belongs to services that `plan` does not have, waiting at most `patience` for the kernel to set
    /// each free; what could not be taken away.
    fn sweep(&mut self, plan: &Plan, families: &[Family], patience: Duration) -> Vec<BackendError>;
}

/// What this host can do: sets if it has them. A mere failure to ask is no reason to do with less.
#[must_use]
pub fn choose() -> Box<dyn Doors> {
    match missing_ipset() {
        Some(error) => Box::new(Chains::new(error.to_string())),
        None => Box::new(Sets::default()),
    }
}

/// Why there can be no sets on this host, if there can be none.
#[must_use]
pub fn missing_ipset() -> Option<IpsetError> {
    let asked = Ipset::open().and_then(|mut line| line.expect_type(Family::V4));
    let cannot = |error: &IpsetError| error.is_unsupported() || error.is_unknown_type() || error.is_denied();
    asked.err().filter(cannot)
}

//! What is done to the sets themselves: the self-test, and taking them away.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Sets;
use crate::backend::BackendError;
use crate::backend::iptables::doors::compare;
use crate::backend::iptables::fault;
use crate::backend::iptables::plan::{Plan, set_prefix};
use crate::netlink::Element;
use crate::netlink::Family;
use crate::netlink::ipset::Ipset;

const PROBE_TIME_S: u32 = 2;

impl Sets {
    /// Puts a probe into every set of `family`, reads it back and takes it out.
    pub fn probe_sets(&mut self, plan: &Plan, family: Family) -> Result<(), BackendError> {
        let net = compare::probe(family);
        plan.sets(family).try_for_each(|set| self.probe_set(&set, net))
    }

    fn probe_set(&mut self, name: &str, net: IpNet) -> Result<(), BackendError> {
        let ends = |element: &Element| element.net == net && element.remaining.is_some();
        self.ipset()?.add(name, net, PROBE_TIME_S)?;
        let is_seen = self.look(name)?.unwrap_or_default().elements.iter().any(ends);
        self.ipset()?.remove(name, net)?;
        let is_left = self.look(name)?.unwrap_or_default().elements.iter().any(ends);
        match (is_seen, is_left) {
            (true, false) => Ok(()),
            (false, _) => Err(fault(format!(
                "self-test: {net} was put into the set {name} but is not in it"
            ))),
            (true, true) => Err(fault(format!(
                "self-test: {net} was taken out of the set {name} but is in it"
            ))),
        }
    }

    /// Takes away every set with an own name except those in `keep`; what could not be taken away.
    ///
    /// A rule's hold on a set ends a little after the rule, since nf_tables frees it in the background: so long it is
    /// tried again, `patience` for each set.
    pub fn sweep_except(&mut self, keep: &BTreeSet<String>, patience: Duration) -> Vec<BackendError> {
        let names = match self.own_sets() {
            Ok(names) => names,
            Err(error) => return vec![error],
        };
        let stale: Vec<String> = names.into_iter().filter(|name| !keep.contains(name)).collect();
        self.guests.keep(|set| keep.contains(set));
        stale
            .iter()
            .filter_map(|name| self.destroy(name, patience).err())
            .collect()
    }

    fn own_sets(&mut self) -> Result<Vec<String>, BackendError> {
        if self.line.is_none() && matches!(Ipset::open(), Err(error) if error.is_unsupported()) {
            return Ok(Vec::new());
        }
        let names = self.ipset()?.names()?;
        let own = |name: &String| Family::BOTH.iter().any(|family| name.starts_with(set_prefix(*family)));
        Ok(names.into_iter().filter(own).collect())
    }

    fn destroy(&mut self, name: &str, patience: Duration) -> Result<(), BackendError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.ipset()?.destroy(name) {
                Err(error) if error.is_busy() && Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                other => return Ok(other?),
            }
        }
    }
}

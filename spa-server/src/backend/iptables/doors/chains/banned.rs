//! Who is shut out, as rules of a chain of their own: nothing of it ends by itself, the daemon lets in again.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use ipnet::IpNet;

use super::text::{Saved, nets, restore};
use super::{Chains, TABLE};
use crate::backend::iptables::plan::{BANNED, chain_name};
use crate::backend::iptables::{fault, tools};
use crate::backend::{BackendError, ShutOut};
use crate::netlink::Family;

impl Chains {
    /// Puts the chain in place where it is not as it was written; what was absent.
    pub(super) fn ensure_banned(&mut self, family: Family, saved: &mut Saved) -> Result<Option<String>, BackendError> {
        let chain = chain_name(BANNED);
        let found = saved.take(&chain).map(|rules| nets(&rules).collect::<BTreeSet<_>>());
        let kept = self.banned.get(&family).cloned();
        if found.is_some() && (kept.is_none() || kept == found) {
            self.banned.insert(family, found.unwrap_or_default());
            return Ok(None);
        }
        self.write_banned(family, kept.unwrap_or_default())?;
        Ok(Some(format!("chain {chain} in {TABLE} ({family})")))
    }

    /// Whether the chain holds what was written.
    pub(super) fn is_banned_settled(&self, family: Family, saved: &mut Saved) -> bool {
        let found = saved.take(&chain_name(BANNED));
        found.map(|rules| nets(&rules).collect()).as_ref() == self.banned.get(&family)
    }

    pub(super) fn change_banned(
        &mut self,
        family: Family,
        change: impl FnOnce(&mut BTreeSet<IpNet>) -> bool,
    ) -> Result<(), BackendError> {
        let mut banned = self.banned.get(&family).cloned().unwrap_or_default();
        if change(&mut banned) {
            self.write_banned(family, banned)
        } else {
            Ok(())
        }
    }

    pub(super) fn list_banned(&mut self, family: Family) -> Result<Vec<ShutOut>, BackendError> {
        let banned = match self.banned.entry(family) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let mut saved = Saved::parse(&tools::save(family, TABLE)?);
                let rules = saved.take(&chain_name(BANNED)).unwrap_or_default();
                unknown.insert(nets(&rules).collect())
            }
        };
        let shut_out = |network: &IpNet| ShutOut {
            network: *network,
            remaining: None,
        };
        Ok(banned.iter().map(shut_out).collect())
    }

    fn write_banned(&mut self, family: Family, banned: BTreeSet<IpNet>) -> Result<(), BackendError> {
        let chain = chain_name(BANNED);
        let rules: Vec<String> = banned.iter().map(|net| format!("-s {net} -j DROP")).collect();
        tools::restore(family, &restore(&chain, &rules))?;
        let mut saved = Saved::parse(&tools::save(family, TABLE)?);
        let there = saved.take(&chain).unwrap_or_default();
        if nets(&there).collect::<BTreeSet<_>>() != banned {
            return Err(fault(format!(
                "the rules put into chain {chain} ({family}) are not there afterwards"
            )));
        }
        self.banned.insert(family, banned);
        Ok(())
    }
}

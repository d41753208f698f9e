//! Who is let in by the same transaction that shuts the doors.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::found::Found;
use super::place::Place;
use super::set::SetId;
use super::{Nftables, fault, remove};
use crate::backend::guests::GUEST_TIME_S;
use crate::backend::{BackendError, existing};
use crate::netlink::{Element, Family};

impl Nftables {
    /// Who goes into the sets together with the drop: who stood in them at another place, and when the drop is new,
    /// for a minute, who is connected.
    pub(super) fn seeds(&mut self, found: &Found) -> Result<Vec<(SetId, Element)>, BackendError> {
        let mut seeds = Vec::new();
        if self.installed.as_ref().is_none_or(|before| before.place != found.place) {
            seeds = self.carried(&found.place)?;
        }
        if self.installed.is_none() {
            let is_new = found.chain.is_none() && seeds.is_empty();
            for (set, nets) in self.connected()? {
                let there = self.line.elements(&found.place, &set)?;
                if is_new {
                    let absent = nets
                        .into_iter()
                        .filter(|net| there.iter().all(|element| element.net != *net));
                    seeds.extend(absent.map(|net| (set.clone(), self.guest(&set, net))));
                } else {
                    self.guests.adopt(&set.name(), &there, &nets);
                }
            }
        }
        Ok(seeds)
    }

    fn guest(&mut self, set: &SetId, net: IpNet) -> Element {
        self.guests.remember(&set.name(), net, GUEST_TIME_S);
        Element {
            net,
            remaining: Some(GUEST_TIME_S),
        }
    }

    /// The peers of existing connections to protected services.
    fn connected(&self) -> Result<Vec<(SetId, Vec<IpNet>)>, BackendError> {
        let connections = existing::connections().map_err(|error| fault(format!("/proc/net: {error}")))?;
        let mut all = Vec::new();
        for service in self.plan.services.iter().filter(|service| service.protect) {
            let to_service = connections.iter().filter(|connection| service.has(connection));
            let peers: BTreeSet<IpNet> = to_service.map(|connection| IpNet::from(connection.peer)).collect();
            for family in Family::BOTH {
                let own = peers.iter().copied().filter(|net| Family::of(net) == family).collect();
                all.push((SetId::of_hosts(&service.name, family), own));
            }
        }
        Ok(all)
    }

    /// What ends by itself in sets of this plan at other places than `place`.
    fn carried(&mut self, place: &Place) -> Result<Vec<(SetId, Element)>, BackendError> {
        let mut carried = Vec::new();
        for other in remove::places(&mut self.line)? {
            if other.table == place.table {
                continue;
            }
            for (set, is_good) in self.line.sets(&other)? {
                if is_good && self.plan.has(&set.service) {
                    let elements = self.line.elements(&other, &set)?.into_iter();
                    let ending = elements.filter(|element| element.remaining.is_some());
                    carried.extend(ending.map(|element| (set.clone(), element)));
                    self.sets.insert(set);
                }
            }
        }
        Ok(carried)
    }
}

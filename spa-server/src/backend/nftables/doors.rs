//! The doors: elements of sets. Nothing here starts a program, except the first network of another length.

use std::time::Instant;

use ipnet::IpNet;

use super::place::Place;
use super::set::SetId;
use super::{Nftables, fault};
use crate::backend::ends::{compare, opening, shut_out, wanted_in};
use crate::backend::plan::BANNED;
use crate::backend::{BackendError, Door, Opening, Repairs, ShutOut};
use crate::netlink::{Element, Family};

/// What the self-test puts in; the kernel takes no packet from a multicast address.
const PROBES: [(Family, &str); 2] = [(Family::V4, "224.0.0.1"), (Family::V6, "ff02::1")];
const PROBE_TIME_S: u32 = 2;
/// A shorter prefix of a probe would hold addresses that somebody may have.
const SHORTEST_PROBE: u8 = 8;

/// One way in which a set is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    door: Door,
    /// How long it should be open from now; none when it should not be.
    wanted: Option<u32>,
}

impl Nftables {
    /// Opens a door, or makes its end anew. One whose set somebody took away is opened when that is back.
    pub(super) fn open_for(&mut self, door: &Door, seconds: u32) -> Result<(), BackendError> {
        let net = door.opened.trunc();
        let set = SetId::of(&door.service, &net);
        self.make_room(&set)?;
        self.guests.forget(&set.name(), net);
        if self.line.put(&self.place(), &set, net, seconds)? {
            return Ok(());
        }
        if let Some(error) = self.settle(&mut Repairs::default()).pop() {
            return Err(error);
        }
        if self.line.put(&self.place(), &set, net, seconds)? {
            Ok(())
        } else {
            Err(fault(format!("there is no set {}", set.name())))
        }
    }

    /// Shuts a door.
    pub(super) fn shut(&mut self, door: &Door) -> Result<(), BackendError> {
        let net = door.opened.trunc();
        let set = SetId::of(&door.service, &net);
        self.line.take(&self.place(), &set, net)?;
        self.guests.forget(&set.name(), net);
        Ok(())
    }

    /// What is in the sets of services.
    pub(super) fn list_doors(&mut self) -> Result<Vec<Opening>, BackendError> {
        let mut openings = Vec::new();
        for set in self.door_sets() {
            let elements = self.line.elements(&self.place(), &set)?;
            openings.extend(elements.into_iter().map(|element| opening(&set.service, element)));
        }
        Ok(openings)
    }

    /// In what the sets of services differ from `openings`.
    pub(super) fn differences(&mut self, openings: &[Opening]) -> Result<Vec<Difference>, BackendError> {
        self.guests.expire(Instant::now());
        let mut differences = Vec::new();
        let services: Vec<String> = self.plan.services.iter().map(|service| service.name.clone()).collect();
        for service in services {
            for family in self.families.clone() {
                let there = self.elements_of(&service, family)?;
                let wanted = wanted_in(&service, family, openings);
                let found = compare(&there, &wanted).into_iter();
                let unexplained = found.filter(|(net, end)| end.is_some() || !self.is_guest(&service, net));
                differences.extend(unexplained.map(|(opened, wanted)| Difference {
                    door: Door {
                        service: service.clone(),
                        opened,
                    },
                    wanted,
                }));
            }
        }
        Ok(differences)
    }

    /// Does away with every difference; what could not be mended.
    pub(super) fn mend_doors(&mut self, openings: &[Opening], repairs: &mut Repairs) -> Vec<BackendError> {
        let differences = match self.differences(openings) {
            Ok(differences) => differences,
            Err(error) => return vec![error],
        };
        let mut faults = Vec::new();
        for Difference { door, wanted } in differences {
            let mended = match wanted {
                Some(seconds) => self.open_for(&door, seconds),
                None => self.shut(&door),
            };
            match mended {
                Ok(()) if wanted.is_some() => repairs.reopened.push(door),
                Ok(()) => repairs.removed.push(door),
                Err(error) => faults.push(error),
            }
        }
        faults
    }

    /// Empties the sets of services; what could not be emptied.
    pub(super) fn flush_doors(&mut self) -> Vec<BackendError> {
        let place = self.place();
        self.guests.keep(|_| false);
        let sets = self.door_sets();
        sets.iter()
            .filter_map(|set| self.line.flush(&place, set).err())
            .collect()
    }

    /// Shuts a network out for so many seconds.
    pub(super) fn ban_for(&mut self, network: IpNet, seconds: u32) -> Result<(), BackendError> {
        let set = SetId::of(BANNED, &network);
        if self.line.put(&self.place(), &set, network, seconds)? {
            return Ok(());
        }
        if let Some(error) = self.settle(&mut Repairs::default()).pop() {
            return Err(error);
        }
        let is_in = self.line.put(&self.place(), &set, network, seconds)?;
        is_in
            .then_some(())
            .ok_or_else(|| fault(format!("there is no set {}", set.name())))
    }

    /// Lets a network in again.
    pub(super) fn let_in(&mut self, network: IpNet) -> Result<(), BackendError> {
        self.line.take(&self.place(), &SetId::of(BANNED, &network), network)
    }

    /// Who is shut out.
    pub(super) fn list_bans(&mut self) -> Result<Vec<ShutOut>, BackendError> {
        let mut bans = Vec::new();
        for set in self.sets.iter().filter(|set| set.is_ban()).cloned().collect::<Vec<_>>() {
            bans.extend(self.line.elements(&self.place(), &set)?.into_iter().map(shut_out));
        }
        Ok(bans)
    }

    /// Puts a probe into every set, reads it back and takes it out.
    pub(super) fn probe(&mut self) -> Result<(), BackendError> {
        let place = self.place();
        for set in self.sets.clone() {
            if set.prefix_len >= SHORTEST_PROBE && self.families.contains(&set.family) {
                self.probe_set(&place, &set)?;
            }
        }
        Ok(())
    }

    fn probe_set(&mut self, place: &Place, set: &SetId) -> Result<(), BackendError> {
        let name = set.name();
        let Some(net) = probe_of(set) else { return Ok(()) };
        let ends = |element: &Element| element.net == net && element.remaining.is_some();
        self.line.put(place, set, net, PROBE_TIME_S)?;
        let is_seen = self.line.elements(place, set)?.iter().any(ends);
        self.line.take(place, set, net)?;
        let is_left = self.line.elements(place, set)?.iter().any(ends);
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

    fn elements_of(&mut self, service: &str, family: Family) -> Result<Vec<Element>, BackendError> {
        let place = self.place();
        let mut elements = Vec::new();
        let own = |set: &&SetId| set.service == service && set.family == family;
        for set in self.sets.iter().filter(own) {
            elements.extend(self.line.elements(&place, set)?);
        }
        Ok(elements)
    }

    fn door_sets(&self) -> Vec<SetId> {
        self.sets
            .iter()
            .filter(|set| !set.is_allow() && !set.is_ban())
            .cloned()
            .collect()
    }

    fn is_guest(&self, service: &str, net: &IpNet) -> bool {
        self.guests.contains(&SetId::of(service, net).name(), *net)
    }
}

fn probe_of(set: &SetId) -> Option<IpNet> {
    let (_, text) = PROBES.iter().find(|(family, _)| *family == set.family)?;
    let net = IpNet::new(text.parse().ok()?, set.prefix_len).ok()?;
    Some(net.trunc())
}

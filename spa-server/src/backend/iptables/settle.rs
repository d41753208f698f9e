//! The static part, put in place where it is not: sets, always-allow, rules, jumps.

use std::time::Duration;

use ipnet::IpNet;

use super::found::Found;
use super::place::Place;
use super::{Installed, Iptables, existing, fault, rules, tools};
use crate::backend::{BackendError, Door, Repairs, families};
use crate::netlink::Family;

/// How long what belongs to yesterday's configuration is waited for until it can be taken away.
const BRIEFLY: Duration = Duration::from_millis(200);

impl Iptables {
    /// Puts everything in place where it is not, both families, and goes on past a failure.
    pub(super) fn settle(&mut self, repairs: &mut Repairs) -> Vec<BackendError> {
        let mut faults = Vec::new();
        for family in self.families.clone() {
            faults.extend(self.settle_family(family, repairs).err());
        }
        if faults.is_empty() {
            // Only now does no own rule name them any more; where somebody else's does, that is his to take out.
            let left = self.doors.sweep(&self.plan, &self.families, BRIEFLY);
            repairs.notes.extend(left.into_iter().map(|fault| fault.what));
        }
        repairs.notes.extend(families::missing(&self.families));
        repairs.notes.extend(self.doors.note());
        repairs.notes.extend(self.waiting());
        faults
    }

    /// What the rules name, and always-allow, first: no drop is ever put in before there is a way past it.
    fn settle_family(&mut self, family: Family, repairs: &mut Repairs) -> Result<(), BackendError> {
        repairs.restored.extend(self.doors.ensure(&self.plan, family)?);
        for (table, places) in Place::TABLES {
            let mut saved = None;
            for place in places.iter().copied() {
                if self.is_settled(family, place)? {
                    continue;
                }
                let text = match &saved {
                    Some(text) => text,
                    None => saved.insert(tools::save(family, table)?),
                };
                self.settle_place(family, place, &Found::parse(text, place), repairs)?;
            }
        }
        Ok(())
    }

    /// Whether a place is as it was put. Starts a program only where the mark does not answer.
    pub(super) fn is_settled(&mut self, family: Family, place: Place) -> Result<bool, BackendError> {
        let is_wanted = self.plan.wants(place);
        let Some(installed) = self.installed.get_mut(&(family, place)) else {
            return Ok(false);
        };
        let mark = self.marker.take(family, place, is_wanted);
        if mark.is_some() && mark == installed.mark {
            return Ok(true);
        }
        if look(family, place)? != installed.found {
            return Ok(false);
        }
        installed.mark = mark;
        Ok(true)
    }

    /// Somebody else may change the table between our reading and writing; only then is it worth another attempt.
    fn settle_place(
        &mut self,
        family: Family,
        place: Place,
        found: &Found,
        repairs: &mut Repairs,
    ) -> Result<(), BackendError> {
        let Err(error) = self.put(family, place, found, repairs) else {
            return Ok(());
        };
        let again = look(family, place)?;
        if again == *found {
            Err(error)
        } else {
            self.put(family, place, &again, repairs)
        }
    }

    fn put(&mut self, family: Family, place: Place, found: &Found, repairs: &mut Repairs) -> Result<(), BackendError> {
        if self.plan.wants(place) {
            return self.install(family, place, found, repairs);
        }
        take_out(family, place, found)?;
        let mark = self.marker.take(family, place, false);
        let found = Found {
            has_hook: found.has_hook,
            ..Found::default()
        };
        self.installed.insert((family, place), Installed { found, mark });
        Ok(())
    }

    fn install(
        &mut self,
        family: Family,
        place: Place,
        found: &Found,
        repairs: &mut Repairs,
    ) -> Result<(), BackendError> {
        let before = self.installed.get(&(family, place)).map(|installed| &installed.found);
        let lacks = found.lacks(before, place, family);
        if place == Place::Input && before.is_none() {
            self.welcome_connected(family, found.chain.is_none())?;
        }
        let rules = rules::rules(&self.plan, place, family, self.doors.keeping());
        tools::restore(family, &rules::restore(place, &rules, found))?;
        // Before reading back: what changes in between makes the mark differ, and then all is read again.
        let mark = self.marker.take(family, place, true);
        let now = look(family, place)?;
        if !now.holds(&rules) {
            let name = place.chain();
            return Err(fault(format!(
                "the rules put into chain {name} ({family}) are not there afterwards"
            )));
        }
        self.installed.insert((family, place), Installed { found: now, mark });
        repairs.restored.extend(lacks);
        Ok(())
    }

    /// Lets the peers of existing connections in for a minute if the drop is new, else remembers who was let in.
    /// Only those of this host's own services: what is forwarded to a container, conntrack has known all along.
    fn welcome_connected(&mut self, family: Family, is_new: bool) -> Result<(), BackendError> {
        let connections = existing::connections().map_err(|error| fault(format!("/proc/net: {error}")))?;
        for service in self.plan.services_at(Place::Input).filter(|service| service.protect) {
            let to_service = connections.iter().filter(|connection| service.has(connection));
            let peers = to_service.map(|connection| IpNet::from(connection.peer));
            let peers: Vec<IpNet> = peers.filter(|net| Family::of(net) == family).collect();
            if is_new {
                let guests = peers.into_iter().map(|opened| Door {
                    service: service.name.clone(),
                    opened,
                });
                guests
                    .into_iter()
                    .try_for_each(|guest| self.doors.admit(&self.plan, &guest))?;
            } else {
                self.doors.adopt(family, &service.name, &peers)?;
            }
        }
        Ok(())
    }

    /// What cannot be put in place because a chain is not there.
    fn waiting(&self) -> impl Iterator<Item = String> {
        let lacking = self.installed.iter().filter(|((_, place), installed)| {
            let has_hook = installed.found.has_hook;
            self.plan.services_at(*place).next().is_some() && !has_hook
        });
        lacking.map(|((family, place), _)| {
            format!(
                "there is no chain {} ({family}): its services are hidden as soon as somebody makes it",
                place.hook()
            )
        })
    }
}

/// What of ours is at a place.
pub(super) fn look(family: Family, place: Place) -> Result<Found, BackendError> {
    Ok(Found::parse(&tools::save(family, place.table())?, place))
}

/// Takes away what of ours was found at a place.
pub(super) fn take_out(family: Family, place: Place, found: &Found) -> Result<(), BackendError> {
    if found.is_nothing() {
        return Ok(());
    }
    tools::restore(family, &rules::removal(place, found))
}

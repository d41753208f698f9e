//! The static part, put in place where it is not: sets, always-allow, rules, jumps.

use std::time::Duration;

use ipnet::IpNet;

use super::table::{Found, Table};
use super::{Installed, Iptables, fault, rules, tools};
use crate::backend::plan::set_name;
use crate::backend::{BackendError, Repairs, existing, families};
use crate::netlink::Family;

/// How long a set of yesterday's configuration is waited for until it can be taken away.
const BRIEFLY: Duration = Duration::from_millis(200);

impl Iptables {
    /// Puts sets and rules in place where they are not, both families, and goes on past a failure.
    pub(super) fn settle(&mut self, repairs: &mut Repairs) -> Vec<BackendError> {
        repairs.notes.extend(families::missing(&self.families));
        let mut faults = Vec::new();
        for family in self.families.clone() {
            faults.extend(self.settle_family(family, repairs).err());
        }
        if faults.is_empty() {
            // Only now does no own rule name them any more; where somebody else's does, that is his to take out.
            let keep = self
                .families
                .iter()
                .flat_map(|family| self.plan.sets(*family))
                .collect();
            repairs
                .notes
                .extend(self.doors.sweep(&keep, BRIEFLY).into_iter().map(|fault| fault.what));
        }
        faults
    }

    /// The sets and always-allow first: no drop is ever put in before there is a way past it.
    fn settle_family(&mut self, family: Family, repairs: &mut Repairs) -> Result<(), BackendError> {
        repairs.restored.extend(self.doors.ensure(&self.plan, family)?);
        for table in Table::ALL {
            self.settle_table(family, table, repairs)?;
        }
        Ok(())
    }

    /// Whether a table is as it was put in place. Starts a program only where the mark does not answer.
    pub(super) fn is_settled(&mut self, family: Family, table: Table) -> Result<bool, BackendError> {
        let Some(installed) = self.installed.get_mut(&(family, table)) else {
            return Ok(false);
        };
        let mark = self.marker.take(family, table);
        if mark.is_some() && mark == installed.mark {
            return Ok(true);
        }
        if tools::read(family, table)? != installed.found {
            return Ok(false);
        }
        installed.mark = mark;
        Ok(true)
    }

    /// Somebody else may change the table between our reading and writing; only then is it worth another attempt.
    fn settle_table(&mut self, family: Family, table: Table, repairs: &mut Repairs) -> Result<(), BackendError> {
        if self.is_settled(family, table)? {
            return Ok(());
        }
        let found = tools::read(family, table)?;
        let Err(error) = self.install(family, table, &found, repairs) else {
            return Ok(());
        };
        let again = tools::read(family, table)?;
        if again == found {
            Err(error)
        } else {
            self.install(family, table, &again, repairs)
        }
    }

    fn install(
        &mut self,
        family: Family,
        table: Table,
        found: &Found,
        repairs: &mut Repairs,
    ) -> Result<(), BackendError> {
        let before = self.installed.get(&(family, table)).map(|installed| &installed.found);
        let lacks = found.lacks(before, table, family);
        if table == Table::Filter && before.is_none() {
            self.welcome_connected(family, found.chain.is_none())?;
        }
        let rules = rules::rules(&self.plan, table, family);
        tools::restore(family, &rules::restore(table, &rules, found.jumps))?;
        // Before reading back: what changes in between makes the mark differ, and then all is read again.
        let mark = self.marker.take(family, table);
        let now = tools::read(family, table)?;
        if !now.holds(&rules) {
            let name = table.name();
            return Err(fault(format!(
                "the rules put into table {name} ({family}) are not there afterwards"
            )));
        }
        self.installed.insert((family, table), Installed { found: now, mark });
        repairs.restored.extend(lacks);
        Ok(())
    }

    /// Lets the peers of existing connections in for a minute if the drop is new, else remembers who was let in.
    fn welcome_connected(&mut self, family: Family, is_new: bool) -> Result<(), BackendError> {
        let connections = existing::connections().map_err(|error| fault(format!("/proc/net: {error}")))?;
        for service in self.plan.services.iter().filter(|service| service.protect) {
            let to_service = connections
                .iter()
                .filter(|c| service.ports.iter().any(|ports| c.is_to(*ports)));
            let peers = to_service.map(|connection| IpNet::from(connection.peer));
            let peers: Vec<IpNet> = peers.filter(|net| Family::of(net) == family).collect();
            let set = set_name(family, &service.name);
            if is_new {
                peers.iter().try_for_each(|peer| self.doors.admit(&set, *peer))?;
            } else {
                self.doors.adopt(&set, &peers)?;
            }
        }
        Ok(())
    }
}

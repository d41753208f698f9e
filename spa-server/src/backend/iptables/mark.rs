//! A mark of what was put in place, compared without starting a program.

use super::table::{CHAIN, Table};
use crate::netlink::nftables::{Rule, rules};
use crate::netlink::socket::Socket;
use crate::netlink::{Family, NetlinkError, nftables};

/// The numbers of the own chain's rules and of the rules that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    own: Vec<u64>,
    leading: Vec<u64>,
}

/// Takes marks over one socket that is opened when first needed.
#[derive(Debug, Default)]
pub struct Marker(Option<Socket>);

impl Marker {
    /// The mark of a table as it is; none with iptables-legacy, or when there is nothing of ours.
    pub fn take(&mut self, family: Family, table: Table) -> Option<Mark> {
        self.try_take(family, table)
            .ok()
            .filter(|mark| !mark.own.is_empty() && !mark.leading.is_empty())
    }

    fn try_take(&mut self, family: Family, table: Table) -> Result<Mark, NetlinkError> {
        let socket = match &mut self.0 {
            Some(socket) => socket,
            none => none.insert(nftables::socket()?),
        };
        let own = rules(socket, family, table.name(), CHAIN)?;
        let hook = rules(socket, family, table.name(), table.hook())?;
        let leading = hook.iter().filter(|rule| rule.leads_to(CHAIN));
        Ok(Mark {
            own: numbers(own.iter()),
            leading: numbers(leading),
        })
    }
}

fn numbers<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<u64> {
    rules.map(|rule| rule.handle).collect()
}

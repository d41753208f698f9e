//! A mark of what was put in place, compared without starting a program.

use super::table::{CHAIN, Table};
use crate::netlink::nftables::{Rule, rules};
use crate::netlink::socket::Socket;
use crate::netlink::{Family, NetlinkError, nftables};

/// The own chain's rules and those that lead to it, as the kernel holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    own: Vec<Rule>,
    leading: Vec<Rule>,
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
        let own = rules(socket, family.number(), table.name(), CHAIN)?;
        let hook = rules(socket, family.number(), table.name(), table.hook())?;
        let leading = hook.into_iter().filter(|rule| rule.leads_to(CHAIN)).collect();
        Ok(Mark { own, leading })
    }
}

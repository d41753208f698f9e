//! A mark of what was put in place, compared without starting a program.

use super::place::Place;
use super::tools::{self, Variant};
use super::xtables;
use crate::netlink::batch::In;
use crate::netlink::nftables::{Rule, rules};
use crate::netlink::ruleset::chains;
use crate::netlink::socket::Socket;
use crate::netlink::{Family, NetlinkError, nftables};

/// What the kernel holds; equal marks mean that nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// With iptables-nft: an own chain's rules and those that lead to it.
    Rules {
        /// Of the own chain.
        own: Vec<Rule>,
        /// Of the hook.
        leading: Vec<Rule>,
    },
    /// With iptables-legacy: all of the table, somebody else's rules too.
    Digest(u64),
}

/// Takes marks over one socket that is opened when first needed.
#[derive(Debug, Default)]
pub struct Marker {
    socket: Option<Socket>,
    variant: Option<Variant>,
}

impl Marker {
    /// The mark of a place as it is; none when it cannot be told by this that all of ours is there, or where nothing is
    /// wanted, that nothing is.
    pub fn take(&mut self, family: Family, place: Place, is_wanted: bool) -> Option<Mark> {
        let mark = self.mark(family, place.table(), place.chain(), Some(place))?;
        let tells = match &mark {
            Mark::Rules { own, leading } => {
                let leads = !leading.is_empty() || (is_wanted && !self.has_hook(family, place));
                own.is_empty() != is_wanted && leads == is_wanted
            }
            Mark::Digest(_) => true,
        };
        tells.then_some(mark)
    }

    /// Whether the chain that is to lead to ours is there; taken for there where that cannot be told.
    fn has_hook(&mut self, family: Family, place: Place) -> bool {
        let table = In {
            family: family.number(),
            table: place.table(),
        };
        place.is_built_in()
            || self.socket.as_mut().is_none_or(|socket| {
                chains(socket, table).map_or(true, |found| found.iter().any(|chain| chain.name == place.hook()))
            })
    }

    /// The mark of a chain of the table filter, without what leads to it.
    pub fn take_chain(&mut self, family: Family, chain: &str) -> Option<Mark> {
        self.mark(family, Place::Input.table(), chain, None)
    }

    fn mark(&mut self, family: Family, table: &str, chain: &str, place: Option<Place>) -> Option<Mark> {
        match *self.variant.get_or_insert_with(tools::variant) {
            Variant::NfTables => self.rules(family, table, chain, place).ok(),
            Variant::Legacy => xtables::digest(family, table).ok().map(Mark::Digest),
        }
    }

    fn rules(&mut self, family: Family, table: &str, chain: &str, place: Option<Place>) -> Result<Mark, NetlinkError> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(nftables::socket()?),
        };
        let own = rules(socket, family.number(), table, chain)?;
        let mut leading = match place {
            Some(place) => rules(socket, family.number(), table, place.hook())?,
            None => Vec::new(),
        };
        leading.retain(|rule| rule.leads_to(chain));
        Ok(Mark::Rules { own, leading })
    }
}

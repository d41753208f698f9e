//! Where sets and rules go: the own table, or a table and chain that the person names.

use std::fmt;

use crate::config::NamedChain;
use crate::netlink::batch::In;
use crate::netlink::nftables::INET;

/// The own table, of family inet.
pub const OWN_TABLE: &str = "spa";
/// The own chain that holds what judges packets, in whichever table.
pub const CHAIN: &str = "SPA";
/// The chain of the own table that the kernel hands packets to this host.
pub const OWN_HOOK: &str = "input";
/// The chain of the own table for what makes no conntrack entry.
pub const RAW: &str = "raw";

/// A table of family inet, and the chain in it that jumps to the own one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The table's name.
    pub table: String,
    /// The chain with the jump.
    pub hook: String,
}

impl Place {
    /// The own table.
    #[must_use]
    pub fn own() -> Self {
        Self {
            table: OWN_TABLE.to_owned(),
            hook: OWN_HOOK.to_owned(),
        }
    }

    /// A table of somebody else's.
    #[must_use]
    pub fn named(named: &NamedChain) -> Self {
        Self {
            table: named.table.clone(),
            hook: named.chain.clone(),
        }
    }

    /// Whether the whole table is the backend's.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.table == OWN_TABLE
    }

    /// The same for netlink.
    #[must_use]
    pub fn to_netlink(&self) -> In<'_> {
        In {
            family: INET,
            table: &self.table,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inet {}", self.table)
    }
}

//! Where own rules stand: in which table, and which chain of somebody else's leads to which own one.

use crate::config::Chain;

/// A chain of somebody else's and the own chain that it jumps to.
///
/// Packets to this host and packets through it have a chain each: a grant means ACCEPT in the one and RETURN in the
/// other, where somebody else's rules still have their say, and ports are matched differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Who reaches a service of this host.
    Input,
    /// Who reaches a published port through this host.
    Forward,
    /// The same, in the chain that Docker leaves to others.
    DockerUser,
    /// What makes no conntrack entry.
    Raw,
}

impl Place {
    /// The places of each table; what hides comes before what only saves memory.
    pub const TABLES: [(&'static str, &'static [Self]); 2] = [
        ("filter", &[Self::Input, Self::Forward, Self::DockerUser]),
        ("raw", &[Self::Raw]),
    ];

    /// Every place, in the same order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::TABLES.into_iter().flat_map(|(_, places)| places).copied()
    }

    /// Where the packets of a service are judged.
    #[must_use]
    pub fn of(chain: Chain) -> Self {
        match chain {
            Chain::Input => Self::Input,
            Chain::Forward => Self::Forward,
            Chain::DockerUser => Self::DockerUser,
        }
    }

    /// The table's name.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Self::Input | Self::Forward | Self::DockerUser => "filter",
            Self::Raw => "raw",
        }
    }

    /// The chain that jumps to the own one.
    #[must_use]
    pub fn hook(self) -> &'static str {
        match self {
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::DockerUser => "DOCKER-USER",
            Self::Raw => "PREROUTING",
        }
    }

    /// The own chain.
    #[must_use]
    pub fn chain(self) -> &'static str {
        match self {
            Self::Input | Self::Raw => "SPA",
            Self::Forward => "SPA-FORWARD",
            Self::DockerUser => "SPA-DOCKER-USER",
        }
    }

    /// Whether the table never is without the hook; else somebody makes it, or does not.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        self != Self::DockerUser
    }

    /// Whether packets go through this host.
    #[must_use]
    pub fn is_forwarded(self) -> bool {
        matches!(self, Self::Forward | Self::DockerUser)
    }

    /// What becomes of packets that are let through.
    #[must_use]
    pub fn verdict(self) -> &'static str {
        if self.is_forwarded() { "RETURN" } else { "ACCEPT" }
    }
}

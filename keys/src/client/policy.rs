//! What a client may do: the terms that many clients share.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use spa_proto::{ServiceName, Windows};

/// What a client may do (step 8). Equal ones are kept once in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientPolicy {
    /// The services it may open; none opens nothing, there is no wildcard.
    pub services: Arc<[ServiceName]>,
    /// Which address forms it may use.
    pub address: AddressRule,
    /// Addresses it may open for; empty means any.
    pub sources: Box<[IpNet]>,
    /// Loopback and link-local addresses are allowed too.
    pub allow_local: bool,
    /// How far a timestamp may be off with address form 0.
    pub window_as_seen: Duration,
    /// How far a timestamp may be off with address forms 4 and 6.
    pub window_explicit: Duration,
    /// The cap on what it may ask for, beside the service's own.
    pub max_duration: Option<Duration>,
    /// What is opened instead of the one address.
    pub widen: Widen,
    /// Whether a grant follows the device to its next address.
    pub roam: bool,
}

impl Default for ClientPolicy {
    fn default() -> Self {
        let windows = Windows::default();
        Self {
            services: Arc::default(),
            address: AddressRule::default(),
            sources: Box::default(),
            allow_local: false,
            window_as_seen: windows.as_seen,
            window_explicit: windows.explicit,
            max_duration: None,
            widen: Widen::default(),
            roam: false,
        }
    }
}

impl ClientPolicy {
    /// How far a timestamp may be off.
    #[must_use]
    pub const fn windows(&self) -> Windows {
        Windows {
            as_seen: self.window_as_seen,
            explicit: self.window_explicit,
        }
    }

    /// Whether it may open this service.
    #[must_use]
    pub fn allows(&self, service: &ServiceName) -> bool {
        self.services.contains(service)
    }
}

/// Which address forms a client may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AddressRule {
    /// All.
    #[default]
    Any,
    /// Only forms 4 and 6: a datagram that is caught and sent on opens nothing for the thief.
    Explicit,
    /// Only form 0.
    AsSeen,
}

impl AddressRule {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Explicit => "explicit",
            Self::AsSeen => "as-seen",
        }
    }
}

impl FromStr for AddressRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Any, Self::Explicit, Self::AsSeen]
            .into_iter()
            .find(|rule| rule.as_str() == text)
            .ok_or("address is any, explicit or as-seen")
    }
}

/// The prefix lengths that are opened around an address, for networks that give TCP another egress than UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Widen {
    /// 16 to 32; 32 is the address alone.
    pub v4: u8,
    /// 48 to 128; 128 is the address alone.
    pub v6: u8,
}

impl Widen {
    /// Reads `/24` or `/64`: 16 to 32 is meant for IPv4, 48 to 128 for IPv6.
    pub(super) fn parse_length(text: &str) -> Result<u8, &'static str> {
        let length = text.strip_prefix('/').and_then(|digits| digits.parse::<u8>().ok());
        let written_so = |length: &u8| format!("/{length}") == text;
        match length.filter(written_so) {
            Some(length @ (16..=32 | 48..=128)) => Ok(length),
            _ => Err("widen takes /16 to /32 for IPv4 and /48 to /128 for IPv6"),
        }
    }

    /// At most one length of each family.
    pub(super) fn from_lengths(lengths: &[u8]) -> Option<Self> {
        let of = |v4: bool| {
            lengths
                .iter()
                .copied()
                .filter(|length| (*length <= 32) == v4)
                .collect::<Vec<_>>()
        };
        let (v4, v6) = (of(true), of(false));
        let both = v4.len() <= 1 && v6.len() <= 1;
        both.then(|| Self {
            v4: v4.first().copied().unwrap_or(32),
            v6: v6.first().copied().unwrap_or(128),
        })
    }
}

impl FromStr for Widen {
    type Err = &'static str;

    /// Reads `/24`, `/64` or `/24,/64`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lengths: Vec<u8> = text
            .split(',')
            .map(|length| Self::parse_length(length.trim()))
            .collect::<Result<_, _>>()?;
        Self::from_lengths(&lengths).ok_or("widen takes one length for IPv4 and one for IPv6")
    }
}

impl Default for Widen {
    fn default() -> Self {
        Self { v4: 32, v6: 128 }
    }
}

impl fmt::Display for Widen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[\"/{}\", \"/{}\"]", self.v4, self.v6)
    }
}

/// Reads a network, or an address as a network of itself.
///
/// # Errors
///
/// What is wrong, in one clause; host bits must be zero.
pub fn parse_source(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<std::net::IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text
            .parse()
            .map_err(|_| format!("{text:?} is no network such as 198.51.100.0/24"))?,
    };
    match network.trunc() {
        whole if whole == network => Ok(network),
        whole => Err(format!("{text} has host bits: write {whole}")),
    }
}

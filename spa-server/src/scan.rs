//! The scan guard: who walks along ports where nothing is, and what follows from it. Pure: the touches, the clock and
//! who is spared come from outside.
//!
//! A packet proves nothing about its source, so packets count by breadth alone: how many different ports they touch.
//! Whoever answers from the address that he claims, by completing a TCP handshake with a decoy, counts by number. The
//! score leaks away with time; memory is bounded however many sources come ([`Suspects`]).

use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use crate::config::Protocol;

mod bans;
mod ports;
mod suspects;

pub use bans::{Ban, Bans, Caps, Spared};
pub use ports::{Ports, ranges};
pub use suspects::{Suspect, Suspects};

/// How many points one completed handshake is worth; a port touched for the first time is worth one.
const HANDSHAKE_POINTS: u32 = 3;
/// Of an IPv6 host, the whole network: it may pick its addresses there as it likes.
pub const IPV6_PREFIX: u8 = 64;

/// What came to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Probe {
    /// TCP with SYN alone.
    Syn,
    /// TCP with FIN alone.
    Fin,
    /// TCP without any flag.
    Null,
    /// TCP with FIN, PSH and URG.
    Xmas,
    /// TCP with another set of flags that no connection begins or goes on with.
    Odd,
    /// A UDP datagram.
    Udp,
    /// A completed TCP handshake with a decoy port: the source was there to answer.
    Handshake,
}

impl Probe {
    /// Of what a TCP segment is a probe; none when it belongs to a connection, or may (RFC 9293, section 3.1).
    #[must_use]
    pub fn of_flags(flags: u8) -> Option<Self> {
        const FIN: u8 = 0x01;
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const PSH: u8 = 0x08;
        const ACK: u8 = 0x10;
        const URG: u8 = 0x20;
        let flags = flags & (FIN | SYN | RST | PSH | ACK | URG);
        match flags {
            SYN => Some(Self::Syn),
            FIN => Some(Self::Fin),
            0 => Some(Self::Null),
            _ if flags & (RST | ACK) != 0 => None,
            _ if flags == FIN | PSH | URG => Some(Self::Xmas),
            _ => Some(Self::Odd),
        }
    }

    /// The protocol of the ports that it touches.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        if self == Self::Udp {
            Protocol::Udp
        } else {
            Protocol::Tcp
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syn => "SYN",
            Self::Fin => "FIN",
            Self::Null => "NULL",
            Self::Xmas => "XMAS",
            Self::Odd => "odd flags",
            Self::Udp => "UDP",
            Self::Handshake => "handshake",
        })
    }
}

/// One touch of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Who seems to have sent it.
    pub source: IpAddr,
    /// The port.
    pub port: u16,
    /// What came.
    pub probe: Probe,
}

/// When a source is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// It is told of at so many points.
    pub report: u32,
    /// It ought to be shut out at so many points; none when nobody is.
    pub ban: Option<u32>,
    /// One point is forgotten in this time.
    pub forget: Duration,
}

/// What the guard has to say about a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The source: an address, or the network of an IPv6 one.
    pub source: IpNet,
    /// The first ports that it touched, in this order.
    pub ports: Vec<(Protocol, u16)>,
    /// How many packets and handshakes came, those to ports touched before too.
    pub touches: u64,
    /// In which ways, each once.
    pub probes: Vec<Probe>,
    /// Whether it goes on, or has come to its end.
    pub phase: Phase,
}

/// When in a scan a sighting was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is to be told of.
    Noticed,
    /// It ought to be shut out.
    Condemned,
    /// Nothing came for a while: these are all of its touches.
    Over,
}

/// The scan guard of one gateway. Times are those of the clock that starts with the boot.
#[derive(Debug)]
pub struct ScanGuard<S> {
    threshold: Threshold,
    suspects: Suspects<S>,
    /// Networks in which single addresses count: somebody lives there who must not share a neighbour's fate.
    shared: Vec<IpNet>,
}

impl<S: BuildHasher> ScanGuard<S> {
    /// A guard that has seen nothing. The hasher ought to be one that nobody outside can predict.
    pub fn new(threshold: Threshold, hasher: S) -> Self {
        Self {
            threshold,
            suspects: Suspects::new(hasher),
            shared: Vec::new(),
        }
    }

    /// From now on judged so; what was seen stays.
    pub fn judge_by(&mut self, threshold: Threshold) {
        self.threshold = threshold;
    }

    /// From now on single addresses count in the networks of all these.
    pub fn tell_apart(&mut self, spared: impl IntoIterator<Item = IpNet>) {
        let networks = spared.into_iter().filter(|net| net.prefix_len() > IPV6_PREFIX);
        self.shared = networks.map(|net| widened(net.addr())).collect();
        self.shared.sort_unstable();
        self.shared.dedup();
    }

    /// The network that a source counts as: an IPv6 host may pick its addresses in the whole of its network.
    #[must_use]
    pub fn counted_as(&self, source: IpAddr) -> IpNet {
        let network = widened(source.to_canonical());
        if self.shared.binary_search(&network).is_ok() {
            source.into()
        } else {
            network
        }
    }

    /// Takes note of a touch. Says so when its source is to be told of, once, and when it ought to be shut out, once a
    /// minute.
    pub fn observe(&mut self, touch: Touch, now: Duration) -> Option<Sighting> {
        let source = self.counted_as(touch.source);
        let suspect = self.suspects.of(source, now, self.threshold.forget);
        suspect.touch(touch.port, touch.probe, now);
        suspect.judge(&self.threshold, now)
    }

    /// Takes back touches of ports that serve something, and judges a source by what is left.
    pub fn reconsider(&mut self, source: IpNet, serves: &Ports) -> Option<Sighting> {
        let threshold = &self.threshold;
        let suspect = self.suspects.get(source)?;
        suspect.take_back(serves);
        if suspect.points() < threshold.report {
            suspect.acquit();
            return None;
        }
        Some(suspect.sighting(Phase::Noticed))
    }

    /// The scans that were noticed and have come to their end: nothing was seen of them for `quiet`.
    pub fn ended(&mut self, now: Duration, quiet: Duration) -> Vec<Sighting> {
        self.suspects.ended(now, quiet)
    }

    /// The scans that go on.
    pub fn noticed(&self) -> impl Iterator<Item = Sighting> + '_ {
        self.suspects.noticed().map(|suspect| suspect.sighting(Phase::Noticed))
    }

    /// Forgets everybody in a network: somebody there has knocked.
    pub fn clear(&mut self, network: IpNet) {
        self.suspects
            .remove(|source| source.contains(&network) || network.contains(source));
    }
}

/// The whole network of an IPv6 address.
fn widened(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => address.into(),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new_assert(address, IPV6_PREFIX).trunc()),
    }
}

#[cfg(test)]
mod tests;

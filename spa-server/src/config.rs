//! What was meant: the configuration after every check, ready to be acted upon.
//!
//! `raw` holds what was typed. [`Config`] is only ever made by checking all of it and finding no error.

mod changes;
pub mod code;
mod command;
mod defaults;
mod durations;
pub mod finding;
mod findings;
mod gateway;
mod listen;
mod load;
mod lock_out;
mod log;
mod metrics;
mod nearest;
mod nftables;
mod one_time;
mod port_range;
mod ports;
pub mod raw;
mod read;
pub mod render;
mod scan_guard;
mod sequence;
mod service;
mod source;
pub mod template;
#[cfg(test)]
mod testing;
pub mod way_back;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spa_proto::sequence::{Rolling, Stage};

pub use changes::changes;
pub use code::Code;
pub use defaults::{DEFAULT_DURATION, DEFAULT_MAX_DURATION, DEFAULT_PORT};
pub use finding::{Finding, Level};
#[cfg(test)]
pub(crate) use load::check as check_text;
pub use log::{Audit, Log, LogFormat, LogLevel};
pub use metrics::Metrics;
pub use one_time::{TurnsError, lines, turns};
pub use port_range::PortError;
pub use render::{Colour, render};
pub use scan_guard::{Guard, GuardMode};
pub use source::Source;
#[cfg(test)]
pub(crate) use source::unreadable;

/// A whole, checked server.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The name or address that invites carry.
    pub host: Option<String>,
    /// A start without the whole sandbox of the packet process is refused.
    #[serde(default)]
    pub sandbox_required: bool,
    /// Where knocks are listened for.
    pub listen: Listen,
    /// The way back in.
    pub lock_out: LockOut,
    /// Where nftables puts its rules; without it into a table of its own.
    pub nftables: Option<NamedChain>,
    /// Files of TCP Wrappers.
    pub tcp_wrappers: TcpWrappers,
    /// The services, in the order of the file; names are unique.
    pub services: Vec<Service>,
    /// What becomes of scanners; nothing is watched without it.
    pub guard: Option<Guard>,
    /// How the log is told.
    pub log: Log,
    /// How much of the audit log is kept.
    pub audit: Audit,
    /// Where metrics are asked for; nowhere without it.
    pub metrics: Option<Metrics>,
    /// The classic sequences, in the order of the file; names are unique. Secrets, which no backend has a use for.
    #[serde(skip)]
    pub sequences: Vec<Sequence>,
}

/// A classic sequence: packets to ports in a secret order open a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// At most 24 characters `[a-z0-9][a-z0-9._-]*`.
    pub name: String,
    /// The service it opens; exists.
    pub service: String,
    /// For whom; everybody when empty.
    pub sources: Vec<IpNet>,
    /// How long the last packet may come after the first; 1 s to 10 min.
    pub within: Duration,
    /// Which ports.
    pub kind: SequenceKind,
}

/// Which ports a sequence has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequenceKind {
    /// Always the same: 3 to 16.
    Fixed(Vec<Stage>),
    /// Those of a list, each once.
    OneTime(OneTime),
    /// Those that follow from a key and the time.
    Rolling(Rolling),
}

/// Where a list of one-time sequences is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneTime {
    /// In server.toml.
    List(Vec<Vec<Stage>>),
    /// In a file; a name without a folder is one of sequences.d.
    File(PathBuf),
}

/// A chain of somebody else's, in a table of family inet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedChain {
    /// The table's name, without its family.
    pub table: String,
    /// The chain's name.
    pub chain: String,
}

/// Where knocks are listened for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Interface names, or the one name `any`.
    pub interfaces: Vec<String>,
    /// UDP ports, 1 to 8 of them, none 0, none twice.
    pub ports: Vec<u16>,
}

/// What keeps the owner from being shut out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOut {
    /// Open to these for every protected service, whatever happens. Host bits are zero, none is a /0.
    pub always_allow: Vec<IpNet>,
    /// Protecting while `always_allow` is empty was asked for.
    pub allow_no_way_back: bool,
    /// A stop or restart leaves open doors in the kernel.
    pub keep_doors: bool,
}

/// Files of TCP Wrappers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpWrappers {
    /// Usually /etc/hosts.allow.
    pub hosts_allow: PathBuf,
    /// Usually /etc/hosts.deny.
    pub hosts_deny: PathBuf,
}

/// A named thing a client may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// At most 24 characters `[a-z0-9][a-z0-9._-]*`.
    pub name: String,
    /// What makes a grant of it real; not empty, none twice.
    pub backends: Vec<BackendKind>,
    /// The ports behind the firewall.
    pub ports: Vec<PortRange>,
    /// The gateway itself hides the ports from everybody without a grant.
    pub protect: bool,
    /// How long new connections may begin when the client does not say; at least 1 s, at most `max_duration`.
    pub duration: Duration,
    /// The cap on what a client may ask for; at most [`LONGEST_DURATION`].
    pub max_duration: Duration,
    /// What becomes of established connections when a grant ends.
    pub at_end: AtEnd,
    /// The chain of the filter table whose packets are judged.
    pub chain: Chain,
    /// Only these own addresses; empty means all.
    pub to: Vec<IpAddr>,
    /// The daemon's name in hosts.allow.
    pub daemon: Option<String>,
    /// argv of the command backend, at opening.
    pub open: Vec<String>,
    /// argv of the command backend, at the end.
    pub close: Vec<String>,
    /// The user the commands run as.
    pub user: Option<String>,
}

/// ipset's longest time-out is 2^31 milliseconds; no grant may outlast what the kernel can end by itself.
pub const LONGEST_DURATION: Duration = Duration::from_hours(24 * 24);

/// What makes a grant real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// iptables and ipset.
    Iptables,
    /// nftables.
    Nftables,
    /// hosts.allow.
    TcpWrappers,
    /// A pair of commands.
    Command,
}

/// What becomes of established connections when a grant ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtEnd {
    /// They go on.
    Keep,
    /// They are ended.
    Cut,
}

/// Where packets to a service are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Chain {
    /// Packets to this host.
    #[serde(rename = "INPUT")]
    Input,
    /// Packets through this host.
    #[serde(rename = "FORWARD")]
    Forward,
    /// Packets to published container ports.
    #[serde(rename = "DOCKER-USER")]
    DockerUser,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, protocol number 6.
    Tcp,
    /// UDP, protocol number 17.
    Udp,
}

/// One port or a range of ports of one protocol, written `tcp/22` or `udp/60000-61000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The first port, not 0.
    pub first: u16,
    /// The last port, not less than the first.
    pub last: u16,
}

//! What was refused and why: counted for status, the last ones kept for explain.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use spa_keys::units::format_time;
use spa_proto::{DropReason, UnixTime};

/// How many refusals explain can tell of.
const KEPT: usize = 1000;
/// How far back a refusal looks for one like it, to be counted with it.
const ALIKE: usize = 32;
/// How many of a kind from different ports are told apart.
const TOLD_APART: usize = 8;

/// The reasons as logs, status, explain and metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Step 1.
    Shape,
    /// Step 2.
    Tag,
    /// Step 3.
    Copy,
    /// Step 4.
    Who,
    /// Step 4.
    Rate,
    /// Step 5.
    Payload,
    /// Step 6.
    Time,
    /// Step 7.
    Replay,
    /// Step 8.
    Policy,
    /// Step 8.
    Code,
    /// Step 8.
    Enroll,
    /// Step 9.
    Older,
    /// The record cannot be written, or is waited for.
    Record,
    /// A backend could not open.
    Backend,
    /// An attempt at a classic sequence: no step of the protocol, and counted apart.
    Sequence,
}

impl Reason {
    /// Every reason that a knock is refused for, in the order of the steps.
    pub const ALL: [Self; 14] = [
        Self::Shape,
        Self::Tag,
        Self::Copy,
        Self::Who,
        Self::Rate,
        Self::Payload,
        Self::Time,
        Self::Replay,
        Self::Policy,
        Self::Code,
        Self::Enroll,
        Self::Older,
        Self::Record,
        Self::Backend,
    ];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Tag => "tag",
            Self::Copy => "copy",
            Self::Who => "who",
            Self::Rate => "rate",
            Self::Payload => "payload",
            Self::Time => "time",
            Self::Replay => "replay",
            Self::Policy => "policy",
            Self::Code => "code",
            Self::Enroll => "enroll",
            Self::Older => "older",
            Self::Record => "record",
            Self::Backend => "backend",
            Self::Sequence => "sequence",
        }
    }

    /// The protocol's step.
    #[must_use]
    pub const fn step(self) -> u8 {
        match self {
            Self::Shape => 1,
            Self::Tag => 2,
            Self::Copy => 3,
            Self::Who | Self::Rate => 4,
            Self::Payload => 5,
            Self::Time => 6,
            Self::Replay | Self::Record => 7,
            Self::Policy | Self::Code | Self::Enroll => 8,
            Self::Older | Self::Backend => 9,
            Self::Sequence => 0,
        }
    }
}

impl From<&DropReason> for Reason {
    fn from(reason: &DropReason) -> Self {
        match reason {
            DropReason::Frame(_) | DropReason::NotOurs | DropReason::Length(_) => Self::Shape,
            DropReason::Tag => Self::Tag,
            DropReason::Copy { .. } => Self::Copy,
            DropReason::StaticKey
            | DropReason::Unknown
            | DropReason::Seal
            | DropReason::Revoked
            | DropReason::Expired => Self::Who,
            DropReason::Rate => Self::Rate,
            DropReason::Payload(_) => Self::Payload,
            DropReason::Time { .. } | DropReason::TagDay { .. } => Self::Time,
            DropReason::Replay => Self::Replay,
            DropReason::Record => Self::Record,
            DropReason::Kind | DropReason::Enroll(_) => Self::Enroll,
        }
    }
}

/// One refusal, or several alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When the last of them came, RFC 3339.
    pub at: String,
    /// The protocol's step.
    pub step: u8,
    /// The reason.
    pub reason: Reason,
    /// Whose key sealed it, where that is proven.
    pub client: Option<String>,
    /// Where it came from.
    pub source: Option<String>,
    /// From which port.
    pub source_port: Option<u16>,
    /// The timestamp minus the gateway's clock, where that is the reason.
    pub difference_s: Option<i64>,
    /// One plain clause.
    pub detail: String,
    /// How many there were.
    pub count: u64,
}

impl Refused {
    /// A single one.
    #[must_use]
    pub fn new(at: UnixTime, source: Option<SocketAddr>, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            at: format_time(at),
            step: reason.step(),
            reason,
            client: None,
            source: source.map(|source| source.ip().to_canonical().to_string()),
            source_port: source.map(|source| source.port()),
            difference_s: None,
            detail: detail.into(),
            count: 1,
        }
    }

    /// The same, from this address and no one port of it.
    #[must_use]
    pub fn from_address(mut self, source: IpAddr) -> Self {
        self.source = Some(source.to_canonical().to_string());
        self
    }

    /// The same, known to be this client's.
    #[must_use]
    pub fn of(mut self, client: Option<String>) -> Self {
        self.client = client;
        self
    }

    /// The same, so far off the gateway's clock.
    #[must_use]
    pub const fn off(mut self, difference_s: Option<i64>) -> Self {
        self.difference_s = difference_s;
        self
    }

    fn is_like(&self, other: &Self) -> bool {
        self.reason == other.reason
            && self.source == other.source
            && self.client == other.client
            && self.detail == other.detail
    }
}

/// The refusals since the start: the last ones, and how many were not told apart.
#[derive(Debug, Default)]
pub struct Refusals {
    recent: VecDeque<Refused>,
    counts: [u64; Reason::ALL.len()],
}

impl Refusals {
    /// Counts a refusal and keeps it.
    pub fn add(&mut self, refused: Refused) {
        if let Some(count) = self.counts.get_mut(refused.reason as usize) {
            *count += refused.count;
        }
        self.keep(refused);
    }

    /// Keeps a refusal that was counted elsewhere already. The first few of a kind are told apart by their ports; the
    /// more there are, the more are counted together.
    pub fn keep(&mut self, mut refused: Refused) {
        let recent = || self.recent.iter().take(ALIKE).enumerate();
        let same = recent().find(|(_, kept)| kept.is_like(&refused) && kept.source_port == refused.source_port);
        let crowded = recent().filter(|(_, kept)| kept.is_like(&refused)).nth(TOLD_APART - 1);
        if let Some(before) = same
            .or(crowded)
            .map(|(place, _)| place)
            .and_then(|place| self.recent.remove(place))
        {
            refused.count += before.count;
        }
        self.recent.push_front(refused);
        self.recent.truncate(KEPT);
    }

    /// How many were counted here for a reason.
    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts.get(reason as usize).copied().unwrap_or(0)
    }

    /// The last ones, newest first.
    pub fn newest(&self, most: usize) -> impl Iterator<Item = &Refused> {
        self.recent.iter().take(most)
    }

    /// The last ones that are proven to be of this client, newest first.
    pub fn newest_of<'a>(&'a self, client: &'a str, most: usize) -> impl Iterator<Item = &'a Refused> {
        let is_its = move |refused: &&Refused| refused.client.as_deref() == Some(client);
        self.recent.iter().filter(is_its).take(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(port: u16, detail: &str) -> Refused {
        let source = format!("192.0.2.7:{port}").parse().unwrap();
        Refused::new(UnixTime::from_secs(1_800_000_000), Some(source), Reason::Time, detail)
    }

    #[test]
    fn alike_are_counted_together_newest_first() {
        let mut refusals = Refusals::default();
        for (port, detail) in [(1, "a"), (2, "b"), (1, "a"), (3, "a")] {
            refusals.add(refused(port, detail));
        }
        let newest: Vec<_> = refusals
            .newest(20)
            .map(|r| (r.detail.as_str(), r.source_port, r.count))
            .collect();
        assert_eq!(newest, [("a", Some(3), 1), ("a", Some(1), 2), ("b", Some(2), 1)]);
        assert_eq!(refusals.count(Reason::Time), 4);
        assert_eq!(refusals.count(Reason::Shape), 0);
    }

    #[test]
    fn many_of_a_kind_do_not_push_out_the_rest() {
        let mut refusals = Refusals::default();
        refusals.add(refused(1, "the one that matters"));
        (1..=5_000).for_each(|port| refusals.add(refused(port, "junk")));
        let counts: Vec<_> = refusals.newest(20).map(|r| r.count).collect();
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (TOLD_APART + 1, 5_001));
        assert_eq!(refusals.newest(20).last().unwrap().detail, "the one that matters");
    }

    #[test]
    fn memory_is_bounded() {
        let mut refusals = Refusals::default();
        (0..5_000).for_each(|n| refusals.add(refused(1, &n.to_string())));
        assert_eq!(refusals.newest(usize::MAX).count(), KEPT);
    }

    #[test]
    fn reasons_name_themselves_as_they_travel() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
            assert_eq!(reason as usize, place);
        }
    }
}

//! Rows of the state, as they are written.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spa_proto::{Enrollment, PublicKey, ReplaySet, UnixTime};
use subtle::ConstantTimeEq;

use crate::client::psk_digest;
use crate::text;

/// A key's last accepted knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastKnock {
    /// When, by the gateway's clock.
    #[serde(with = "nanos")]
    pub at: UnixTime,
    /// Where it came from.
    pub address: IpAddr,
    /// The gateway identity it was sealed for.
    #[serde(with = "key")]
    pub gateway: PublicKey,
}

/// A grant as it outlives the daemon (step 9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRow {
    /// Whose; none for a sequence.
    #[serde(with = "optional_key")]
    pub client: Option<PublicKey>,
    /// For which address.
    pub address: IpAddr,
    /// For which service.
    pub service: String,
    /// What was opened, wider than the address where the policy says so.
    pub opened: IpNet,
    /// When it was first opened, by the gateway's clock.
    #[serde(with = "nanos")]
    pub since: UnixTime,
    /// The timestamp of the last request that changed it.
    #[serde(with = "nanos")]
    pub changed: UnixTime,
    /// When it ends, in nanoseconds of the clock that starts with the boot; none when it has ended.
    pub end_boottime: Option<u64>,
    /// Which boot that is: the text of /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
}

impl GrantRow {
    /// What makes it this grant: client, address, service.
    #[must_use]
    pub fn key(&self) -> String {
        let client = self
            .client
            .map_or_else(String::new, |client| text::encode(client.as_bytes()));
        format!("{client} {} {}", self.address, self.service)
    }
}

/// What is used up of a one-time or rolling sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceRow {
    /// The sequence's name.
    pub name: String,
    /// A rolling sequence: which key and which length of a step `next` is of.
    #[serde(with = "digest")]
    pub key: [u8; 32],
    /// A rolling sequence: the first time step that was not used and did not pass.
    pub next: u64,
    /// One-time sequences: digests of those that were used or passed over.
    pub used: Vec<u64>,
}

/// A device that became a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentRow {
    /// The public key of the invite that was spent.
    #[serde(with = "key")]
    pub invite: PublicKey,
    /// The new client's public key.
    #[serde(with = "key")]
    pub public_key: PublicKey,
    /// SHA-256 of the new client's PSK: enough to know a repeat, not enough to knock.
    #[serde(with = "digest")]
    pub psk_digest: [u8; 32],
    /// The new client's name.
    pub name: String,
    /// What the device calls itself.
    pub label: String,
    /// When, by the gateway's clock.
    #[serde(with = "nanos")]
    pub at: UnixTime,
    /// Where it came from.
    pub source: IpAddr,
}

impl EnrollmentRow {
    /// Whether this is the same enroll again: same key, same PSK.
    #[must_use]
    pub fn is_repeat(&self, enrollment: &Enrollment) -> bool {
        let same_psk = self.psk_digest.ct_eq(&psk_digest(&enrollment.psk));
        self.public_key == enrollment.public_key && bool::from(same_psk)
    }
}

/// What is remembered of a client's one-time codes (step 8).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRow {
    /// The greatest time step whose code was accepted.
    pub step: Option<u64>,
    /// The different wrong codes since the last right one, or since the last pause.
    pub wrong: Vec<u32>,
    /// How many pauses there were since the last right code.
    pub pauses: u32,
    /// Until when no code is looked at, by the gateway's clock.
    #[serde(with = "nanos")]
    pub until: UnixTime,
}

/// Without the wrong codes, of which one may be right but for a digit.
impl fmt::Debug for CodeRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeRow")
            .field("step", &self.step)
            .field("wrong", &format_args!("{} codes", self.wrong.len()))
            .field("pauses", &self.pauses)
            .field("until", &self.until)
            .finish()
    }
}

/// The wrong PINs that came under an invite ("Enrollment in one packet").
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRow {
    /// The different wrong ones.
    pub wrong: Vec<u32>,
    /// When the last of them came.
    #[serde(with = "nanos")]
    pub at: UnixTime,
}

/// Without the wrong PINs, of which one may be right but for a digit.
impl fmt::Debug for PinRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinRow")
            .field("wrong", &format_args!("{} PINs", self.wrong.len()))
            .field("at", &self.at)
            .finish()
    }
}

impl PinRow {
    /// How many different wrong PINs spend an invite.
    pub const MOST: usize = 5;

    /// Whether the invite is spent by them.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.wrong.len() >= Self::MOST
    }
}

/// F, then R, rising; each 8 octets, big-endian.
pub(super) fn replay_to_bytes(set: &ReplaySet) -> Vec<u8> {
    let times = std::iter::once(set.floor()).chain(set.members().iter().copied());
    times.flat_map(|time| time.as_nanos().to_be_bytes()).collect()
}

pub(super) fn replay_from_bytes(bytes: &[u8]) -> ReplaySet {
    let (words, _) = bytes.as_chunks::<8>();
    let mut times = words.iter().map(|word| UnixTime::from_nanos(u64::from_be_bytes(*word)));
    let floor = times.next().unwrap_or_default();
    ReplaySet::restore(floor, times)
}

/// F, then R, as nanoseconds.
pub(super) mod times {
    use super::{Deserialize, Deserializer, ReplaySet, Serialize, Serializer, UnixTime};

    pub(in super::super) fn serialize<S: Serializer>(set: &ReplaySet, serializer: S) -> Result<S::Ok, S::Error> {
        let times = std::iter::once(set.floor()).chain(set.members().iter().copied());
        times.map(UnixTime::as_nanos).collect::<Vec<_>>().serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ReplaySet, D::Error> {
        let times = Vec::<u64>::deserialize(deserializer)?;
        let mut times = times.into_iter().map(UnixTime::from_nanos);
        let floor = times.next().unwrap_or_default();
        Ok(ReplaySet::restore(floor, times))
    }
}

mod nanos {
    use super::{Deserialize, Deserializer, Serialize, Serializer, UnixTime};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(time: &UnixTime, serializer: S) -> Result<S::Ok, S::Error> {
        time.as_nanos().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixTime, D::Error> {
        u64::deserialize(deserializer).map(UnixTime::from_nanos)
    }
}

mod key {
    use super::{Deserializer, PublicKey, Serialize, Serializer, text};

    pub(super) fn serialize<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
        text::encode(key.as_bytes()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        super::digest::deserialize(deserializer).map(PublicKey)
    }
}

mod optional_key {
    use super::{Deserialize, Deserializer, PublicKey, Serialize, Serializer, text};

    #[allow(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(key: &Option<PublicKey>, serializer: S) -> Result<S::Ok, S::Error> {
        key.map(|key| text::encode(key.as_bytes())).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PublicKey>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let bytes = text
            .map(|text| text::decode(&text))
            .transpose()
            .map_err(serde::de::Error::custom)?;
        Ok(bytes.map(|bytes| PublicKey(*bytes)))
    }
}

mod digest {
    use super::{Deserialize, Deserializer, Serialize, Serializer, text};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        text::encode(bytes).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let bytes = text::decode(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
        Ok(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_numbers_are_not_shown() {
        let code = CodeRow {
            wrong: vec![123_456],
            ..CodeRow::default()
        };
        let pin = PinRow {
            wrong: vec![123_456],
            at: UnixTime::default(),
        };
        let shown = format!("{code:?} {pin:?}");
        assert!(!shown.contains("123456"), "{shown}");
        assert!(
            shown.contains("wrong: 1 codes") && shown.contains("wrong: 1 PINs"),
            "{shown}"
        );
    }
}

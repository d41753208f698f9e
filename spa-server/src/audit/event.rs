//! What the audit log tells of.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::sequences::Kind;

/// Something that decides who could reach what, or that says how far this log can be believed.
///
/// Texts from files and from the network come in escaped ([`spa_keys::escape`]) and cut to [`LONGEST_TEXT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The daemon takes over.
    Started {
        /// Of spa-server.
        version: String,
        /// The text of /proc/sys/kernel/random/boot_id.
        boot: String,
    },
    /// The daemon ends in order.
    Stopped {
        /// Doors stay open in the kernel until their end.
        doors_kept: bool,
    },
    /// A door was opened.
    Opened(Opened),
    /// The same request again before its end: another end.
    Renewed(Opened),
    /// A door that was opened by an earlier process stands open still.
    Restored {
        /// Which.
        #[serde(flatten)]
        access: Access,
        /// When it will end.
        until: String,
    },
    /// The end of a grant was moved nearer, with the end of its client.
    Shortened {
        /// Which.
        #[serde(flatten)]
        access: Access,
        /// When it will end.
        until: String,
    },
    /// A grant has ended.
    Ended {
        /// Which.
        #[serde(flatten)]
        access: Access,
        /// Why.
        how: How,
        /// The user who ended it by a command.
        uid: Option<u32>,
    },
    /// A device became a client.
    Enrolled {
        /// Its name.
        client: String,
        /// The fingerprint of its key.
        key: String,
        /// Where the enroll came from.
        source: IpAddr,
        /// What the device calls itself.
        label: String,
    },
    /// A client whose key is proven was refused.
    Refused {
        /// Who.
        client: String,
        /// From where; the last of them, where several are counted.
        source: Option<String>,
        /// The protocol's word for why.
        reason: String,
        /// In one clause.
        detail: String,
        /// How many alike this line stands for.
        count: u64,
    },
    /// What was refused of strangers since the last such line, by reason.
    Strangers {
        /// How many for each reason.
        refused: BTreeMap<String, u64>,
    },
    /// The scan guard has shut a source out.
    Banned {
        /// Which.
        source: IpNet,
        /// Until when.
        until: String,
        /// What it touched.
        ports: String,
    },
    /// A source is let in again.
    Unbanned {
        /// Which.
        source: IpNet,
        /// Why.
        why: String,
    },
    /// Another configuration is in force.
    Loaded {
        /// What differs from the one before.
        changes: Vec<String>,
        /// It comes back by itself unless it is confirmed.
        on_trial: bool,
    },
    /// A configuration was offered and is not in force.
    Rejected {
        /// Why.
        why: String,
    },
    /// The change that was on trial stays.
    Confirmed,
    /// The change that was on trial is taken back.
    Undone,
    /// A file of clients.d or invites.d has changed.
    File {
        /// `client` or `invite`.
        kind: String,
        /// The file's name without `.toml`.
        name: String,
        /// `loaded`, `gone` or `broken`.
        state: String,
        /// What it may open now.
        services: Vec<String>,
    },
    /// An operator's command.
    Command {
        /// Which, such as `reset-replay`.
        name: String,
        /// The user who gave it.
        uid: u32,
        /// About whom or what.
        about: Option<String>,
    },
    /// What an interrupted write has left before this line.
    Torn {
        /// How many octets, line ends included.
        octets: u64,
        /// SHA-256 over them, base64url.
        sha256: String,
    },
    /// The file is not as this process left it: somebody else has written, cut or replaced it.
    Altered {
        /// What is otherwise.
        what: String,
    },
    /// The log could not be written for a while.
    Gap {
        /// Since when.
        since: String,
        /// What the system said.
        why: String,
        /// Lines that were written late, just before this one.
        late: u64,
        /// Lines that are lost.
        lost: u64,
    },
}

/// Whose grant, to what and for where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Access {
    /// The client's name; none for a sequence, and for a client that is gone.
    pub client: Option<String>,
    /// The fingerprint of its key; none for a sequence.
    pub key: Option<String>,
    /// The service.
    pub service: String,
    /// Whose address it was asked for.
    pub address: IpAddr,
    /// What was opened for it.
    pub opened: IpNet,
    /// When it was first opened.
    pub since: String,
}

/// An opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Which.
    #[serde(flatten)]
    pub access: Access,
    /// Where the request came from.
    pub source: IpAddr,
    /// How it was asked for.
    pub via: Via,
    /// The sequence's name.
    pub sequence: Option<String>,
    /// When it will end.
    pub until: String,
}

/// How a door was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// An authenticated knock.
    #[serde(rename = "knock")]
    Knock,
    /// A classic sequence that can be repeated by whoever has seen it.
    #[serde(rename = "sequence (replayable)")]
    Replayable,
    /// A classic sequence of a list, each of which works once.
    #[serde(rename = "sequence (one-time)")]
    OneTime,
    /// A classic sequence that follows from a key and the time, and works once.
    #[serde(rename = "sequence (rolling)")]
    Rolling,
}

/// How a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its time was over.
    Expired,
    /// Its client asked.
    Closed,
    /// By `spa-server close`.
    Command,
    /// The client is revoked, expired, gone, or may not open the service any more.
    NotAllowed,
    /// The service is gone.
    ServiceGone,
    /// The policy opens something else instead.
    Replaced,
    /// The client roams, and has come from elsewhere.
    Roamed,
    /// The daemon stopped, and keeps no doors.
    Stopped,
    /// The door could not be opened.
    NotOpened,
    /// Its request could not be recorded.
    NotRecorded,
    /// The host was started anew.
    Reboot,
}

impl Via {
    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Knock => "knock",
            Self::Replayable => Kind::Replayable.marked(),
            Self::OneTime => Kind::OneTime.marked(),
            Self::Rolling => Kind::Rolling.marked(),
        }
    }
}

impl From<Kind> for Via {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Replayable => Self::Replayable,
            Kind::OneTime => Self::OneTime,
            Kind::Rolling => Self::Rolling,
        }
    }
}

impl How {
    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Closed => "closed",
            Self::Command => "command",
            Self::NotAllowed => "not-allowed",
            Self::ServiceGone => "service-gone",
            Self::Replaced => "replaced",
            Self::Roamed => "roamed",
            Self::Stopped => "stopped",
            Self::NotOpened => "not-opened",
            Self::NotRecorded => "not-recorded",
            Self::Reboot => "reboot",
        }
    }
}

impl fmt::Display for How {
    /// In one clause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its time is over",
            Self::Closed => "its client closed it",
            Self::Command => "closed by command",
            Self::NotAllowed => "it is not allowed any more",
            Self::ServiceGone => "its service is gone",
            Self::Replaced => "the policy opens something else",
            Self::Roamed => "its client has moved",
            Self::Stopped => "the daemon stops",
            Self::NotOpened => "it could not be opened",
            Self::NotRecorded => "it could not be recorded",
            Self::Reboot => "the host was started anew",
        })
    }
}

/// The most characters of one text.
pub const LONGEST_TEXT: usize = 500;

/// A text of somebody else's as a line may carry it.
#[must_use]
pub fn told(text: &str) -> String {
    let cut: String = text.chars().take(LONGEST_TEXT).collect();
    spa_keys::escape::escape(&cut).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_they_are_written() {
        for how in [
            How::Expired,
            How::NotAllowed,
            How::ServiceGone,
            How::Reboot,
            How::Command,
        ] {
            assert_eq!(serde_json::to_value(how).unwrap(), how.name());
        }
        for via in [Via::Knock, Via::Replayable, Via::OneTime, Via::Rolling] {
            assert_eq!(serde_json::to_value(via).unwrap(), via.name());
        }
    }

    #[test]
    fn texts_are_escaped_and_bounded() {
        assert_eq!(told("a\u{1b}[2J\n\u{202e}"), "a\\u{1b}[2J\\u{a}\\u{202e}");
        assert_eq!(told(&"x".repeat(5_000)).len(), LONGEST_TEXT);
    }
}

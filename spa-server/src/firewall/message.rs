//! What the two processes say to each other: owned values without a key, a packet or a path in them.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spa_keys::{Exit, Failure};

use crate::backend::{BackendError, Banned, Door, Opening, ShutOut};
use crate::config::{Finding, PortRange, Source};
use crate::confirm::{Intent, Undone};
use crate::doors::BackendState;

/// Both ends are one program, but its file may be replaced while it runs.
pub const VERSION: u32 = 1;

/// What the packet process asks for. Each is answered by one [`Reply`], or by why not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Request {
    /// First of all: which version the asker speaks. Answered by [`Reply::Begun`].
    Begin(u32),
    /// Read a configuration; nothing is changed by it. Answered by [`Reply::Source`].
    Read(Which),
    /// Put the static part of the configuration read last in place, over the one in force, and try it.
    Stage,
    /// What was staged is in force.
    Commit,
    /// What was staged is forgotten, and what is in force put in place again.
    Abort,
    /// Open a door or renew it.
    Open(Timed),
    /// Close a door; who has one of these others to the same service is not cut off.
    Close(Door, Vec<IpNet>),
    /// Make exactly these doors stand open.
    Reconcile(Vec<Timed>),
    /// Look whether these doors stand open, cheaply, and mend.
    CheckDoors(Vec<Timed>),
    /// Look whether the static part is as it was put, and mend.
    CheckRules(Vec<Timed>),
    /// Close every door; what protects stays.
    CloseAll,
    /// Close what commands have opened.
    CloseCommands,
    /// Shut a network out.
    Ban(TimedBan),
    /// Let a network in again.
    Unban(IpNet),
    /// Who is shut out. Answered by [`Reply::Bans`].
    Bans,
    /// Which backends shut out. Answered by [`Reply::Names`].
    Banning,
    /// Make exactly these be shut out.
    CheckBans(Vec<TimedBan>),
    /// Listen on a decoy port of the configuration in force. Answered by [`Reply::Listening`], and then the sockets.
    Decoy(u16),
    /// What of this host only root may read. Answered by [`Reply::Surroundings`].
    Surroundings,
    /// How the backends are. Answered by [`Reply::States`].
    States,
    /// Whether a change waits to be confirmed. Answered by [`Reply::Trial`].
    Trial,
    /// What is in force was loaded in this manner: remember it. Answered by [`Reply::Remembered`].
    Remember(Manner),
    /// See to it that what is in force is kept as the confirmed copy. Answered by [`Reply::Remembered`].
    KeepCopy,
    /// Begin to undo a change whose time is over. Answered by [`Reply::Undo`].
    BeginUndo(Duration),
    /// The rules are back: it is undone. Answered by [`Reply::Trial`].
    FinishUndo,
    /// It could not be undone now.
    LeaveUndo,
    /// The packet process ends; these are the inodes of sockets in the file system that were its own.
    End(Vec<u64>),
}

impl Request {
    /// Whether it reads or writes what is to be confirmed or undone.
    pub(super) const fn is_of_a_trial(&self) -> bool {
        matches!(
            self,
            Self::Remember(_) | Self::KeepCopy | Self::BeginUndo(_) | Self::FinishUndo
        )
    }
}

/// Which configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// server.toml as it is now.
    File,
    /// The copy that was confirmed last.
    Confirmed,
}

/// A door that stands open until a moment on the clock that starts with the boot: a message that was held up opens
/// nothing for longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// Which door.
    pub door: Door,
    /// Who knocked last; none for a sequence.
    pub client: Option<String>,
    /// When it ends.
    pub until: Duration,
}

/// A network that is shut out until a moment on the same clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedBan {
    /// Whom.
    pub network: IpNet,
    /// When it ends.
    pub until: Duration,
}

/// How a configuration came to be loaded: [`Intent`] as it goes over the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// See [`Intent::Plain`].
    Plain(Option<String>),
    /// See [`Intent::Confirmed`].
    Confirmed,
    /// See [`Intent::Trial`].
    Trial(String),
}

/// What a request that was carried out is answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// What to begin with.
    Begun(Begun),
    /// What was read.
    Source(Source),
    /// Who is shut out.
    Bans(Vec<ShutOut>),
    /// Names of backends.
    Names(Vec<String>),
    /// So many listening sockets follow.
    Listening(usize),
    /// Ports that are published for others (Docker), and resolvers.
    Surroundings(Vec<PortRange>, Vec<IpNet>),
    /// The backends, and whether server.toml is another text than the one in force.
    States(Vec<BackendState>, bool),
    /// What waits to be confirmed.
    Trial(Waiting),
    /// Whether what is in force is what should be, and what waits.
    Remembered(bool, Waiting),
    /// What came of the wish to undo.
    Undo(Undo),
}

/// What the daemon begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The text that is to be in force.
    pub source: Source,
    /// A change is being undone by it.
    pub undoing: bool,
    /// The nonce of the change that waited before the text was read.
    pub waits: Option<String>,
}

/// What is remembered of a change, without the texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Tells one version of the record from the next.
    pub stamp: Option<(u64, i64, i64)>,
    /// The nonce of the change that waits, and its deadline on the clock of the boot.
    pub waits: Option<(String, Duration)>,
    /// The last change, if it was undone.
    pub undone: Option<Undone>,
}

impl Waiting {
    /// Whether the change called `nonce` is the one that waits.
    #[must_use]
    pub fn is_for(&self, nonce: &str) -> bool {
        self.waits.as_ref().is_some_and(|(waits, _)| waits == nonce)
    }
}

/// What came of the wish to undo a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Undo {
    /// It is settled, or has time left.
    Settled,
    /// Another process is at it.
    Busy(String),
    /// The file is back; this is to be in force.
    Begun(Source),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Refused {
    /// server.toml.
    Findings(Vec<Finding>),
    /// A backend.
    Backend(BackendError),
    /// Anything else: what is wrong, and what to try.
    Failed(String, Vec<String>),
}

/// One answer.
pub type Answer = Result<Reply, Refused>;

impl Refused {
    /// One without a hint.
    pub(super) fn failed(what: impl fmt::Display) -> Self {
        Self::Failed(what.to_string(), Vec::new())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Findings(findings) => {
                let texts: Vec<_> = findings.iter().map(|finding| finding.text.as_str()).collect();
                f.write_str(&texts.join("; "))
            }
            Self::Backend(error) => error.fmt(f),
            Self::Failed(what, _) => f.write_str(what),
        }
    }
}

impl From<BackendError> for Refused {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.what, failure.hints)
    }
}

impl From<Refused> for BackendError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Backend(error) => error,
            other => Self::new("firewall", other.to_string()),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let exit = match refused {
            Refused::Findings(_) => Exit::Config,
            Refused::Backend(_) | Refused::Failed(..) => Exit::Failed,
        };
        let hints = match &refused {
            Refused::Findings(_) => Vec::new(),
            Refused::Backend(error) => error.hint.iter().cloned().collect(),
            Refused::Failed(_, hints) => hints.clone(),
        };
        Self {
            exit,
            what: refused.to_string(),
            hints,
        }
    }
}

impl Timed {
    /// An opening that is asked for at `now`.
    pub(super) fn at(opening: &Opening, now: Duration) -> Self {
        Self {
            door: opening.door.clone(),
            client: opening.client.clone(),
            until: now + opening.remaining,
        }
    }

    /// The opening that is left of it at `now`.
    pub(super) fn left(&self, now: Duration) -> Opening {
        Opening {
            door: self.door.clone(),
            client: self.client.clone(),
            remaining: self.until.saturating_sub(now),
        }
    }
}

impl TimedBan {
    pub(super) fn at(banned: &Banned, now: Duration) -> Self {
        Self {
            network: banned.network,
            until: now + banned.remaining,
        }
    }

    pub(super) fn left(&self, now: Duration) -> Banned {
        Banned {
            network: self.network,
            remaining: self.until.saturating_sub(now),
        }
    }
}

impl From<Intent<'_>> for Manner {
    fn from(intent: Intent<'_>) -> Self {
        match intent {
            Intent::Plain(nonce) => Self::Plain(nonce.map(str::to_owned)),
            Intent::Confirmed => Self::Confirmed,
            Intent::Trial(nonce) => Self::Trial(nonce.to_owned()),
        }
    }
}

impl Manner {
    pub(super) fn intent(&self) -> Intent<'_> {
        match self {
            Self::Plain(nonce) => Intent::Plain(nonce.as_deref()),
            Self::Confirmed => Intent::Confirmed,
            Self::Trial(nonce) => Intent::Trial(nonce),
        }
    }
}

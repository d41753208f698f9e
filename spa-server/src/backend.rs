//! What makes a grant real: one small typed interface whose messages can cross a process boundary.

pub mod command;
mod ends;
pub mod exec;
pub mod existing;
pub mod families;
mod fault;
mod guests;
pub mod iptables;
pub mod nftables;
pub mod place;
pub mod plan;
pub mod recording;
pub mod tcp_wrappers;

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use fault::BackendError;

/// A door: one service for the addresses that are let through it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Door {
    /// The service's name as configured.
    pub service: String,
    /// Who is let through; a single address has length 32 or 128. Host bits are zero.
    pub opened: IpNet,
}

/// A door that stands open for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Which door.
    pub door: Door,
    /// Who knocked last; none for a sequence.
    pub client: Option<String>,
    /// How long from now new connections may begin.
    pub remaining: Duration,
}

/// A network that is shut out from every port of this host for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banned {
    /// Whom it shuts out; host bits are zero.
    pub network: IpNet,
    /// How long from now.
    pub remaining: Duration,
}

/// A network that a backend shuts out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutOut {
    /// Whom it shuts out.
    pub network: IpNet,
    /// How long from now; none where the backend has no place for ends, which are then the daemon's to keep.
    pub remaining: Option<Duration>,
}

/// What a backend found and mended when it compared the world with what should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// One plain clause for each thing that was absent and has been put back, such as `chain SPA (IPv6)`.
    pub restored: Vec<String>,
    /// Openings that no grant accounts for and that were taken out.
    pub removed: Vec<Door>,
    /// Openings that were missing, or had another end, and were put back.
    pub reopened: Vec<Door>,
    /// What the operator must know although it is no failure, such as `this kernel has no IPv6`. Said each time.
    pub notes: Vec<String>,
}

impl Repairs {
    /// Whether everything was found as it should be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.restored.is_empty() && self.removed.is_empty() && self.reopened.is_empty()
    }
}

/// How a change of the static part is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watch {
    /// It cannot be changed behind the backend's back.
    Nothing,
    /// [`Monitor::tables`](crate::netlink::monitor::Monitor::tables) with these names tells at once.
    Tables(Vec<String>),
    /// Nothing tells: look this often.
    Every(Duration),
}

/// A way to open and close doors.
///
/// Every call is idempotent: opening twice renews, closing what is closed is no error. A backend holds no grants of
/// its own; it is told what should be and says what is.
pub trait Backend: Send {
    /// The backend's name in configuration, status and logs.
    fn name(&self) -> &'static str;

    /// Puts the static part in place and reads it back: always-allow first, then what hides protected ports.
    ///
    /// # Errors
    ///
    /// When any of it could not be put in place or was not there afterwards. What stood before still stands.
    fn protect(&mut self) -> Result<Repairs, BackendError>;

    /// Inserts, reads back and removes a probe that can be nobody's address, in every set, both families.
    ///
    /// # Errors
    ///
    /// When the probe could not be seen: grants would not work either.
    fn self_test(&mut self) -> Result<(), BackendError>;

    /// Opens a door, or renews it so that it ends `remaining` from now, be that later or earlier than before.
    ///
    /// # Errors
    ///
    /// When the door could not be opened. A door that was open before stays open until its old end.
    fn open(&mut self, opening: &Opening) -> Result<(), BackendError>;

    /// Closes a door.
    ///
    /// # Errors
    ///
    /// When it could not be closed: it stays open until its end in the kernel.
    fn close(&mut self, door: &Door) -> Result<(), BackendError>;

    /// What stands open by this backend, with the time left.
    ///
    /// # Errors
    ///
    /// When the kernel could not be asked.
    fn list(&mut self) -> Result<Vec<Opening>, BackendError>;

    /// Makes exactly `openings` stand open: puts back what is missing (static part and doors), takes out what no
    /// opening accounts for, goes on past the first failure.
    ///
    /// # Errors
    ///
    /// What could not be mended, all of it.
    fn reconcile(&mut self, openings: &[Opening]) -> Result<Repairs, BackendError>;

    /// Whether the doors, and what holds them, are as `openings` say. Cheap, starts no program, changes nothing: for
    /// every 2 s. After a no, [`Backend::reconcile`] mends.
    ///
    /// # Errors
    ///
    /// When the kernel could not be asked.
    fn doors_intact(&mut self, openings: &[Opening]) -> Result<bool, BackendError> {
        let _ = openings;
        Ok(true)
    }

    /// Whether the static part is as it was read back after it was put in place. May start programs: for when
    /// [`Backend::watch`] says so. After a no, [`Backend::reconcile`] mends.
    ///
    /// # Errors
    ///
    /// When it could not be read.
    fn rules_intact(&mut self) -> Result<bool, BackendError> {
        Ok(true)
    }

    /// When to ask [`Backend::rules_intact`].
    fn watch(&self) -> Watch {
        Watch::Nothing
    }

    /// Shuts a network out, or makes its end anew. Whoever calls sees to it that nobody is hit who must come in.
    ///
    /// # Errors
    ///
    /// When it could not be shut out.
    fn ban(&mut self, banned: &Banned) -> Result<(), BackendError> {
        let _ = banned;
        Ok(())
    }

    /// Lets a network in again; that it was not shut out is no error.
    ///
    /// # Errors
    ///
    /// When it may still be shut out.
    fn unban(&mut self, network: IpNet) -> Result<(), BackendError> {
        let _ = network;
        Ok(())
    }

    /// Who is shut out; none for a backend that shuts nobody out, or is not asked to by its configuration. Starts no
    /// program.
    ///
    /// # Errors
    ///
    /// When the kernel could not be asked.
    fn bans(&mut self) -> Result<Option<Vec<ShutOut>>, BackendError> {
        Ok(None)
    }

    /// Closes every door; what protects stays, and so do bans.
    ///
    /// # Errors
    ///
    /// When doors may still be open; they end in the kernel.
    fn close_all(&mut self) -> Result<(), BackendError>;

    /// Takes out everything this backend ever put anywhere, present configuration or not.
    ///
    /// # Errors
    ///
    /// What could not be taken out, all of it; it goes on past the first failure.
    fn uninstall(&mut self) -> Result<(), BackendError>;
}

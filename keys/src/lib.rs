//! Everything about keys outside a packet: text forms, files, invites, and the clients a gateway knows.
//!
//! `spa-proto` computes; this crate reads and writes what it computes with. Section names in this documentation are
//! those of `docs/protocol.md`.

#![forbid(unsafe_code)]

pub mod backup;
pub mod client;
pub mod control;
pub mod directory;
pub mod escape;
pub mod exit;
pub mod export;
pub mod fault;
pub mod file;
pub mod gateway;
pub mod invite;
pub mod invites;
pub mod load;
pub mod manual;
pub mod name;
mod paths;
pub mod profile;
pub mod qr;
pub mod rolling;
pub mod rotation;
pub mod state;
mod table;
pub mod text;
pub mod units;
pub mod watch;

pub use client::{AddressRule, Client, ClientEdit, ClientPolicy, OneTimeCode, Terms, Widen};
pub use control::{Control, ControlError};
pub use directory::{BrokenFile, ClientState, ClientView, Counts, KeyDirectory, Kind, Reload};
pub use exit::{Exit, Failure};
pub use fault::Fault;
pub use gateway::{DatedIdentity, GatewayKey};
pub use invite::{Demands, InviteError, InviteText, Ports, ServiceHints};
pub use invites::{Invite, InviteState, Spent, SpentBy};
pub use load::LoadError;
pub use name::{ClientName, Host, Protocol, ServiceHint, ServicePort};
pub use paths::Paths;
pub use watch::{Changes, Watch};

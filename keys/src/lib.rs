//! Everything about keys outside a packet: text forms, files, invites, and the clients a gateway knows.
//!
//! `spa-proto` computes; this crate reads and writes what it computes with. Section names in this documentation are
//! those of `docs/protocol.md`.

#![forbid(unsafe_code)]

pub mod escape;
pub mod exit;
pub mod file;
pub mod invite;
pub mod name;
pub mod profile;
pub mod text;
pub mod units;

pub use exit::{Exit, Failure};
pub use invite::{Demands, InviteError, InviteText};
pub use name::{ClientName, Host, Protocol, ServiceHint, ServicePort};

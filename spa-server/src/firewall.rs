//! The boundary between the two processes of `spa-server run`.
//!
//! The packet process captures, judges and records; the firewall process holds the backends, hosts.allow and the memory of
//! `apply --confirm`. [`Partner`] is the packet process's end; `message` and `wire` are what goes over the socket between
//! them; [`Keeper`] is what the firewall process does with each request, once `bounds` has held it against the
//! configuration that the keeper read itself; `process` is the loop around it. For a dry run its backends
//! only remember.

mod bounds;
mod keeper;
pub mod message;
mod overdue;
mod partner;
pub mod process;
mod trial;
pub mod wire;

pub use keeper::Keeper;
pub use message::Refused;
pub use partner::{Bell, Line, Partner};

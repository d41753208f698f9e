//! The scan guard around its pure judge ([`scan`](crate::scan)): where touches come from, who is never shut out, and
//! what outlasts the daemon.

pub mod decoys;
pub mod ends;
pub mod patrol;
pub mod spared;
pub mod tell;

pub use decoys::Decoys;
pub use patrol::{Patrol, Scope};
pub use spared::{Spared, Why};

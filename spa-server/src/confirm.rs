//! `apply --confirm`: a change of server.toml that undoes itself unless it is confirmed in time.
//!
//! What is remembered is pure (`record`) and lies in the firewall process's folder (`ledger`). A process of its own, armed before the
//! change, waits for the deadline (`armed`); the daemon does the same, should that process be gone; what neither could
//! do, the next start does (`start`). Whoever undoes holds the ledger's lock (`undoing`), so exactly one of confirm and
//! undo wins.

pub mod armed;
mod bell;
mod detach;
pub mod ledger;
pub mod record;
pub mod start;
pub mod undoing;

pub use ledger::{Held, Ledger};
pub use record::{Intent, NotConfirmed, Pending, Record, Undone, Verdict, Why};
pub use undoing::Undoing;

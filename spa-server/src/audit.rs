//! The audit log: every decision about who could reach what, in lines of which none can be changed unseen.
//!
//! A line is one JSON object: its number, its time, what was decided, the hash of the line before and its own:
//!
//! ```text
//! {"n":2,"at":"2026-11-22T22:00:00Z","event":"opened",…,"prev":"HASH OF LINE 1","hash":"HASH OF LINE 2"}
//! ```
//!
//! `hash` is SHA-256 (FIPS 180-4) over the octets of the line before `,"hash":`, written as 43 characters of base64url.
//! Since these octets hold `prev`, each hash stands for everything before it. The first line of all has the number 1
//! and a `prev` of 32 zero octets. No key is in it: who may write the file can write another chain, and cut lines off
//! its end. Both show against a hash that was kept elsewhere (`spa-server audit verify --from HASH`).
//!
//! What is no line of the chain is passed over only where the line behind it says so: [`Event::Torn`] counts and hashes
//! the octets that an interrupted write has left. `docs/audit.md` says all this to people.
//!
//! `event`, `line`, `chain`, `scribe`, `quota`, `strangers` and `history` compute; `files`, `ink`, `tail`, `read`,
//! `sync` and `log` read and write.

pub mod chain;
pub mod event;
pub mod files;
pub mod history;
mod ink;
pub mod line;
pub mod log;
pub mod quota;
pub mod read;
pub mod scribe;
pub mod strangers;
mod sync;
pub mod tail;

pub use chain::{Break, Chain, Head};
pub use event::{Access, Event, How, Opened, Via};
pub use line::Line;
pub use log::{AuditLog, Limits};

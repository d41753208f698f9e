//! The gateway daemon: a pure middle (configuration, policy, grants) in a thin shell (capture, record, backends).

pub mod backend;
pub mod capture;
pub mod check;
pub mod cli;
pub mod clock;
pub mod code;
pub mod config;
pub mod confirm;
pub mod control;
pub mod cut;
pub mod daemon;
pub mod doors;
pub mod exposure;
pub mod grant;
pub mod guard;
pub mod import;
pub mod journal;
pub mod metrics;
pub mod netlink;
pub mod pin;
pub mod policy;
pub mod readable;
pub mod refusals;
pub mod scan;
pub mod sequences;
pub mod simulate;

//! The gateway daemon: a pure middle (configuration, policy, grants) in a thin shell (capture, record, backends).

pub mod backend;
pub mod config;
pub mod netlink;

//! The programs of iptables: what reads a table, what replaces a part of it in one transaction.

use std::time::Duration;

use super::table::{Found, Table};
use super::{fault, with_hint};
use crate::backend::BackendError;
use crate::backend::exec::{ExecError, Program};
use crate::netlink::Family;

/// How long iptables-restore waits for another program that holds the xtables lock.
const LOCK_WAIT_S: &str = "5";
/// Longer than the wait for the lock and any sensible table.
const LIMIT: Duration = Duration::from_secs(15);
/// iptables ends with this when something else is in use.
const RESOURCE_PROBLEM: i32 = 4;

/// Which of the two implementations the programs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Rules are kept by nf_tables, which tells of changes.
    NfTables,
    /// Rules are kept by x_tables, which does not.
    Legacy,
}

/// What of ours stands in a table. A table that nobody uses is not brought to life by looking.
///
/// # Errors
///
/// When iptables-save is missing or failed.
pub fn read(family: Family, table: Table) -> Result<Found, BackendError> {
    let saved = run(family, "save", &["-t", table.name()], "")?;
    Ok(Found::parse(&saved, table))
}

/// Does all of `text` or nothing of it, and flushes no chain that it does not name.
///
/// # Errors
///
/// When iptables-restore is missing or failed; then nothing was changed.
pub fn restore(family: Family, text: &str) -> Result<(), BackendError> {
    run(family, "restore", &["-w", LOCK_WAIT_S, "--noflush"], text).map(drop)
}

/// Which implementation this host uses; when that cannot be told, the one that needs more care.
#[must_use]
pub fn variant() -> Variant {
    match run(Family::V4, "restore", &["-V"], "") {
        Ok(version) if version.contains("nf_tables") => Variant::NfTables,
        _ => Variant::Legacy,
    }
}

fn run(family: Family, verb: &str, arguments: &[&str], input: &str) -> Result<String, BackendError> {
    let name = match family {
        Family::V4 => format!("iptables-{verb}"),
        Family::V6 => format!("ip6tables-{verb}"),
    };
    Program::find(&name)
        .and_then(|program| program.run(arguments, input, LIMIT))
        .map_err(|error| explain(&error))
}

fn explain(error: &ExecError) -> BackendError {
    let plain = fault(error.to_string());
    match error {
        ExecError::Missing(_) => with_hint(plain, "install the package iptables"),
        ExecError::Failed { status, complaint, .. } if status.code() == Some(RESOURCE_PROBLEM) => {
            if complaint.contains("xtables lock") {
                with_hint(
                    fault(format!("another program has held the xtables lock for {LOCK_WAIT_S} s")),
                    "see who it is: fuser -v /run/xtables.lock",
                )
            } else {
                plain
            }
        }
        ExecError::Failed { complaint, .. } if complaint.contains("ermission denied") => {
            with_hint(plain, "run as root, or give the process CAP_NET_ADMIN")
        }
        _ => plain,
    }
}

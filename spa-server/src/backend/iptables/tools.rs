//! The programs of iptables: what reads a table, what replaces a part of it in one transaction.

use std::time::Duration;

use super::{fault, lock};
use crate::backend::BackendError;
use crate::backend::exec::{ExecError, Program};
use crate::netlink::Family;

/// How long iptables-restore waits for another program that holds the xtables lock.
const LOCK_WAIT_S: &str = "5";
/// Longer than the wait for the lock and any sensible table.
const LIMIT: Duration = Duration::from_secs(15);

/// Which of the two implementations the programs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Rules are kept by nf_tables, which tells of changes.
    NfTables,
    /// Rules are kept by x_tables, which does not.
    Legacy,
}

/// What stands in a table, as text. A table that nobody uses is not brought to life by looking.
///
/// # Errors
///
/// When iptables-save is missing or failed.
pub fn save(family: Family, table: &str) -> Result<String, BackendError> {
    run(family, "save", &["-t", table], "")
}

/// All tables that are in use, as text.
///
/// # Errors
///
/// When iptables-save is missing or failed.
pub fn save_all(family: Family) -> Result<String, BackendError> {
    run(family, "save", &[], "")
}

/// Does all of `text` or nothing of it, and flushes no chain that it does not name.
///
/// # Errors
///
/// When iptables-restore is missing or failed; then nothing was changed.
pub fn restore(family: Family, text: &str) -> Result<(), BackendError> {
    run(family, "restore", &["-w", LOCK_WAIT_S, "--noflush"], text).map(drop)
}

/// Whether this host has them.
#[must_use]
pub fn are_there() -> bool {
    Program::find("iptables-save").is_ok()
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
        ExecError::Missing(_) => plain.with_hint("install the package iptables"),
        ExecError::Failed { complaint, .. } if complaint.contains("xtables lock") => fault(format!(
            "{} has held the xtables lock for {LOCK_WAIT_S} s",
            lock::holder().unwrap_or_else(|| "another program".to_owned())
        ))
        .with_hint("see who it is: fuser -v /run/xtables.lock"),
        ExecError::Failed { complaint, .. } if complaint.contains("ermission denied") => {
            plain.with_hint("run as root, or give the process CAP_NET_ADMIN")
        }
        // iptables asks ipset through a raw socket.
        ExecError::Failed { complaint, .. } if complaint.contains("open socket to ipset") => {
            plain.with_hint("run as root, or give the process CAP_NET_RAW")
        }
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn refusals_say_what_to_try() {
        let failed = |code: i32, complaint: &str| {
            let (path, complaint) = ("/usr/sbin/iptables-restore".into(), complaint.to_owned());
            explain(&ExecError::Failed {
                path,
                status: ExitStatus::from_raw(code << 8),
                complaint,
            })
        };
        let lock = failed(
            4,
            "Another app is currently holding the xtables lock; still 0s 0us time ahead",
        );
        assert_eq!(lock.what, "another program has held the xtables lock for 5 s");
        assert_eq!(lock.hint.as_deref(), Some("see who it is: fuser -v /run/xtables.lock"));
        let denied = failed(
            4,
            "Could not fetch rule set generation id: Permission denied (you must be root)",
        );
        assert_eq!(
            denied.hint.as_deref(),
            Some("run as root, or give the process CAP_NET_ADMIN")
        );
        let raw = failed(1, "Can't open socket to ipset.");
        assert_eq!(
            raw.hint.as_deref(),
            Some("run as root, or give the process CAP_NET_RAW")
        );
        let missing = explain(&ExecError::Missing("ip6tables-save".into()));
        assert_eq!(missing.hint.as_deref(), Some("install the package iptables"));
    }
}

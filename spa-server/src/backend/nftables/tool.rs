//! The program nft, which turns rules into what the kernel takes.

use std::time::Duration;

use super::fault;
use crate::backend::BackendError;
use crate::backend::exec::{ExecError, Program};

/// Longer than any sensible ruleset takes.
const LIMIT: Duration = Duration::from_secs(15);

/// Does all of `script` or nothing of it.
///
/// # Errors
///
/// When nft is missing or refused; then nothing was changed.
pub fn apply(script: &str) -> Result<(), BackendError> {
    run(&["-f", "-"], script).map(drop)
}

/// The whole ruleset of this host, anybody's, as JSON.
///
/// # Errors
///
/// When nft is missing or may not be asked.
pub fn ruleset() -> Result<String, BackendError> {
    run(&["-j", "list", "ruleset"], "")
}

fn run(arguments: &[&str], input: &str) -> Result<String, BackendError> {
    Program::find("nft")
        .and_then(|program| program.run(arguments, input, LIMIT))
        .map_err(|error| explain(&error))
}

fn explain(error: &ExecError) -> BackendError {
    let plain = fault(error.to_string());
    match error {
        ExecError::Missing(_) => plain.with_hint("install the package nftables"),
        ExecError::Failed { complaint, .. } if complaint.contains("not permitted") => {
            plain.with_hint("run as root, or give the process CAP_NET_ADMIN")
        }
        ExecError::Failed { complaint, .. } if complaint.contains("File exists") => {
            plain.with_hint("a set or chain of that name and another kind is there: nft list ruleset shows it")
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
        let failed = |complaint: &str| {
            explain(&ExecError::Failed {
                path: "/usr/sbin/nft".into(),
                status: ExitStatus::from_raw(1 << 8),
                complaint: complaint.to_owned(),
            })
        };
        let denied = failed("netlink: Error: cache initialization failed: Operation not permitted");
        assert_eq!(
            denied.hint.as_deref(),
            Some("run as root, or give the process CAP_NET_ADMIN")
        );
        let other = failed("/dev/stdin:3:1-9: Error: Could not process rule: File exists");
        assert!(other.hint.unwrap().contains("another kind"));
        let missing = explain(&ExecError::Missing("nft".into()));
        assert_eq!(missing.hint.as_deref(), Some("install the package nftables"));
    }
}

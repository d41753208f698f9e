//! `spa-server audit`: is the log whole, and who could reach what, when.

mod show;
mod verify;

use std::io;
use std::path::Path;

use clap::Subcommand;
use spa_keys::{Exit, Failure, Paths};

use show::ShowArguments;
use verify::VerifyArguments;

/// What is asked of the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Say whether every line is as it was written, and print the hash that stands for all of them
    Verify(VerifyArguments),
    /// Say who could reach what, from when until when
    Show(ShowArguments),
}

pub(super) fn audit(paths: &Paths, as_json: bool, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify(arguments) => verify::verify(paths, as_json, &arguments),
        AuditCommand::Show(arguments) => show::show(paths, as_json, arguments),
    }
}

fn unread(folder: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NoPermission,
        _ => Exit::Failed,
    };
    Failure::new(exit, format!("the audit log in {}: {error}", folder.display()))
}

fn none_there(folder: &Path) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("there is no audit log in {}", folder.display()));
    failure.hint("spa-server run, which begins one")
}

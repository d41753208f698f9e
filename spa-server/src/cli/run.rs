//! `spa-server run`, `protect` and `uninstall`: what changes the firewall.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use serde_json::json;
use spa_keys::{Control, Exit, Failure, Paths};
use tracing::warn;

use super::check::colour;
use super::end;
use crate::backend::tcp_wrappers::inspect::shut_without_block;
use crate::backend::tcp_wrappers::plan::Plan;
use crate::check::exit_code;
use crate::config::{Colour, Config, Finding, render};
use crate::confirm::Undoing;
use crate::confirm::ledger::forget_all;
use crate::confirm::start::Beginning;
use crate::daemon::{Daemon, StartError};
use crate::doors::{Doors, uninstall_all};
use crate::logging;

/// The daemon, until it is told to stop.
pub(super) fn run(paths: Paths, places: &[OsString], dry_run: bool) -> ExitCode {
    start_logging();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::new(Exit::Failed, format!("no runtime: {error}")))),
    };
    runtime.block_on(async {
        match Daemon::start(paths, places, dry_run) {
            Ok(daemon) => end(daemon.run().await),
            Err(StartError::Config(findings)) => refuse(&findings),
            Err(StartError::Failure(failure)) => end(Err(failure)),
        }
    })
}

/// The static part, then the end.
pub(super) fn protect(paths: &Paths, as_json: bool) -> ExitCode {
    start_logging();
    let begun = Beginning::of(paths).and_then(|Beginning { source, undoing, .. }| {
        Config::from_source(&paths.config, &source).map(|(config, _)| (config, undoing))
    });
    let (config, undoing) = match begun {
        Ok(begun) => begun,
        Err(findings) => return refuse(&findings),
    };
    logging::take_up(config.log);
    let protected = Doors::new(&config, paths).and_then(|mut doors| doors.protect());
    // What the disk refuses now is left to the daemon: the ports are hidden, and that is what this is for.
    let undone = undoing.filter(|_| protected.is_ok()).map(Undoing::finish);
    if let Some(Err(failure)) = undone {
        warn!("{}", failure.what);
    }
    end(protected.map_err(crate::daemon::failure).map(|()| {
        let hidden: Vec<_> = config
            .services
            .iter()
            .filter(|service| service.protect)
            .map(|s| s.name.clone())
            .collect();
        if as_json {
            println!("{}", json!({ "hidden": hidden }));
        } else {
            println!(
                "hidden: {}",
                if hidden.is_empty() {
                    "nothing".into()
                } else {
                    hidden.join(", ")
                }
            );
        }
    }))
}

/// Takes everything out, unless a daemon is there that would put it back.
pub(super) fn uninstall(paths: &Paths, unless_shut: bool, as_json: bool) -> Result<(), Failure> {
    if Control::connect(&paths.control_socket()).is_ok() {
        let failure = Failure::new(Exit::Failed, "the daemon is running and would put everything back");
        return Err(failure.hint("systemctl stop spa-server, or end it otherwise; then uninstall again"));
    }
    let shut = shut_then(paths);
    if unless_shut && !shut.is_empty() {
        let what = format!(
            "hosts.deny would refuse {} to everybody then; nothing was changed",
            shut.join(", ")
        );
        let failure = Failure::new(Exit::Failed, what);
        return Err(failure
            .hint("take its line out of hosts.deny, or write who may come in into hosts.allow")
            .hint("spa-server uninstall, from the console of this host"));
    }
    // First: nothing may put rules back afterwards.
    forget_all(paths)?;
    uninstall_all(paths).map_err(|errors| {
        let what: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::new(Exit::Failed, what.join("\n"))
    })?;
    if as_json {
        println!("{}", json!({ "uninstalled": true }));
    } else {
        println!("nothing of spa-server is left in the firewall and in hosts.allow");
    }
    for daemon in shut {
        eprintln!("warning: hosts.deny refuses {daemon} to everybody now, always-allow too");
        eprintln!("  try: take its line out of hosts.deny, or write who may come in into hosts.allow");
    }
    Ok(())
}

/// The daemons that nobody can reach once the block is out of hosts.allow.
fn shut_then(paths: &Paths) -> Vec<String> {
    let Ok(plan) = Plan::from_record(paths) else {
        return Vec::new();
    };
    let deny = Config::load(&paths.config).map_or_else(
        |_| "/etc/hosts.deny".into(),
        |(config, _)| config.tcp_wrappers.hosts_deny,
    );
    shut_without_block(&plan, &deny)
}

fn refuse(findings: &[Finding]) -> ExitCode {
    eprint!("{}", render(findings, colour(std::io::stderr().is_terminal())));
    ExitCode::from(exit_code(findings))
}

/// Text on stderr, until server.toml is read and says otherwise.
pub(super) fn start_logging() {
    logging::start(colour(std::io::stderr().is_terminal()) == Colour::Always);
}

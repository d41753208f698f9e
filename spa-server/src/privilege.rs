//! What the packet process may do: once everything is bound that only root can bind, it gives up all else for good.
//!
//! In this order: bounds on what it may use up (`limits`), the user `spa` (`user`), every capability but CAP_NET_RAW and
//! the way to new ones (`capabilities`), every file but its own (`files`, Landlock), every system call but those it needs
//! (`calls`, seccomp). What this host cannot do is done without, loudly, unless `[sandbox] required = true`.

mod calls;
mod capabilities;
mod files;
mod limits;
mod user;

use spa_keys::{Exit, Failure, Paths};
use tracing::{info, warn};

use crate::config::{Config, LogFormat};

pub use calls::{ALLOWED, Call};

/// What the firewall process gives up where no service runs a person's commands, which may need any right of root's.
pub fn keep_firewall() {
    match capabilities::keep_firewall() {
        Ok(()) => info!("the firewall process has given up every right but those that firewalls and their files take"),
        Err(kept) => warn!("{}", kept.0),
    }
}

/// One thing that was not given up, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept(String);

type Given = Result<(), Kept>;

/// Gives up everything that the packet process does not need, for this thread and all that it starts.
///
/// # Errors
///
/// With `[sandbox] required`, when this host lacks something of it. Without, it is said in the log.
pub fn give_up(paths: &Paths, config: &Config) -> Result<(), Failure> {
    let steps = [
        limits::limit(),
        user::become_spa(paths),
        capabilities::keep_net_raw(),
        files::keep_own(paths),
        calls::keep_needed(config.log.format == LogFormat::Journal),
    ];
    let kept: Vec<String> = steps.into_iter().filter_map(Result::err).map(|kept| kept.0).collect();
    if kept.is_empty() {
        info!("the packet process has given up every right but to capture");
    } else if config.sandbox_required {
        let failure = Failure::new(Exit::Failed, kept.join("\n"));
        return Err(failure.hint("[sandbox] required = false in server.toml, to do without it"));
    }
    for what in &kept {
        warn!("{what}");
    }
    Ok(())
}

fn unless<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Kept {
    move |why| Kept(format!("this process {what}: {why}"))
}

//! The files that are left, by Landlock: its own folders, and what the kernel tells of the host.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use spa_keys::Paths;
use tracing::info;

use super::{Given, Kept, unless};

/// The newest that this was written against; an older kernel enforces what it knows.
const NEWEST: ABI = ABI::V6;

/// Nothing else can be opened, no TCP connection made, nobody else signalled.
pub(super) fn keep_own(paths: &Paths) -> Given {
    let failed = unless("may open any file that its user may");
    match restrict(paths).map_err(failed)? {
        RulesetStatus::NotEnforced => Err(Kept(
            "this kernel has no Landlock: the packet process may open any file that its user may".into(),
        )),
        RulesetStatus::PartiallyEnforced => {
            info!("this kernel's Landlock is older than this program: a part of its rules is enforced");
            Ok(())
        }
        RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn restrict(paths: &Paths) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .set_compatibility(CompatLevel::BestEffort);
    // gateway.key, sequences.d, and the folders to be written.
    let etc = paths.gateway_key.parent().unwrap_or(Path::new("/"));
    // /proc: which boot this is, and which ports are served (net/tcp). /sys: what libpcap asks of an interface.
    for folder in [
        etc,
        Path::new("/proc"),
        Path::new("/sys/class/net"),
        Path::new("/sys/devices"),
    ] {
        rules = allow(rules, folder, AccessFs::ReadFile | AccessFs::ReadDir)?;
    }
    let writing = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    // Enrollments make client files and spend invites; the record is in state.
    for folder in [&paths.clients, &paths.invites, &paths.state] {
        rules = allow(rules, folder, writing)?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// A folder that is not there cannot be opened either.
fn allow(
    rules: RulesetCreated,
    folder: &Path,
    access: impl Into<landlock::BitFlags<AccessFs>>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(folder) {
        Ok(folder) => rules.add_rule(PathBeneath::new(folder, access)),
        Err(_) => Ok(rules),
    }
}

//! What the commands about profiles take.

use clap::Args;
use spa_keys::profile::ProfileName;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SshConfigArgs {
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// A block that only knocks, and leaves the connection to ssh
    #[arg(long = "match")]
    pub(crate) matching: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PasswdArgs {
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// Take the passphrase away
    #[arg(long, conflicts_with = "new_passphrase_fd")]
    pub(crate) remove: bool,
    /// Read the new passphrase from this file descriptor
    #[arg(long, value_name = "N")]
    pub(crate) new_passphrase_fd: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// Its new name
    pub(crate) name: ProfileName,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

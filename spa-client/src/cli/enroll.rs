//! What `enroll` takes.

use clap::Args;
use spa_keys::Host;
use spa_keys::profile::{ProfileName, host};

use super::access::ClockArgs;

#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct EnrollArgs {
    /// The invite's text; `-` or nothing reads it from standard input
    pub(crate) invite: Option<String>,
    /// Name of the profile to write [default: the invite's host, with `:` as `-`]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<ProfileName>,
    /// Put the gateway into a profile that exists, to be asked when the others stay shut
    #[arg(long, requires = "profile", conflicts_with = "replace")]
    pub(crate) also: bool,
    /// Take the place of a profile that exists; the old one is kept beside it as NAME.old
    #[arg(long)]
    pub(crate) replace: bool,
    /// Where the gateway is, instead of what the invite says
    #[arg(long, value_name = "HOST", value_parser = host)]
    pub(crate) host: Option<Host>,
    /// Send a PIN: asked for on the terminal, else read from standard input
    #[arg(long)]
    pub(crate) pin: bool,
    /// Read the PIN from this file descriptor
    #[arg(long, value_name = "N")]
    pub(crate) pin_fd: Option<u16>,
    /// Keep the profile under a passphrase
    #[arg(long)]
    pub(crate) passphrase: bool,
    /// Send the enrollment, and do not try whether it worked
    #[arg(long)]
    pub(crate) no_proof: bool,
    #[command(flatten)]
    pub(crate) clock: ClockArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

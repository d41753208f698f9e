//! What can be typed.

mod sequence;

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, ColorChoice, Parser, Subcommand};
use spa_keys::Host;
use spa_keys::profile::{ProfileName, host, seconds};
use spa_proto::{Address, ServiceName};

pub(crate) use sequence::KnockArgs;

// No `Debug` down to where an invite may stand: it is a secret until it is spent.

/// Opens doors that a spa gateway keeps shut.
#[derive(Parser)]
#[command(
    name = "spa-client",
    version,
    color = ColorChoice::Never,
    subcommand_required = true,
    after_help = "Example: spa-client open gw.example.net ssh --wait"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make this device a client of a gateway, with an invite
    #[command(after_help = "Example: spa-client enroll spa1-invite:AQAA...\n\
        The same command again repeats the same enrollment: do so when the first try was cut short.")]
    Enroll(EnrollArgs),
    /// Ask the gateway to open services
    #[command(after_help = "Example: spa-client open gw.example.net ssh --for 1h --wait")]
    Open(OpenArgs),
    /// Ask the gateway to close services again
    #[command(after_help = "Example: spa-client close gw.example.net ssh")]
    Close(CloseArgs),
    /// Knock a classic sequence: packets to ports in an order
    ///
    /// Works with knockd too. A sequence that is always the same can be recorded and repeated by whoever sees it.
    #[command(
        after_help = "Example: spa-client knock gw.example.net 7311/tcp 15002/udp 9040/tcp -d 200\n         \
        spa-client knock --rolling gw"
    )]
    Knock(KnockArgs),
    /// List the profiles
    #[command(after_help = "Example: spa-client profiles --json")]
    Profiles(ListArgs),
    /// Show a profile without its secrets
    #[command(after_help = "Example: spa-client show gw.example.net")]
    Show(ShowArgs),
}

#[derive(Args)]
pub(crate) struct EnrollArgs {
    /// The invite's text; `-` or nothing reads it from standard input
    pub(crate) invite: Option<String>,
    /// Name of the profile to write [default: the invite's host, with `:` as `-`]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<ProfileName>,
    /// Where the gateway is, instead of what the invite says
    #[arg(long, value_name = "HOST", value_parser = host)]
    pub(crate) host: Option<Host>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How long, such as 90s, 15m, 8h [default: the profile's, else the gateway's]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub(crate) duration: Option<NonZeroU32>,
    /// Connect to each service until it answers
    #[arg(long, conflicts_with = "once")]
    pub(crate) wait: bool,
    /// How long --wait tries
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s", requires = "wait")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// What `open` and `close` have in common.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// The services, as the gateway names them
    #[arg(required = true, value_name = "SERVICE")]
    pub(crate) services: Vec<ServiceName>,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
    /// Send the first round only, without the repeats after 0.5 s and 1.5 s
    #[arg(long)]
    pub(crate) once: bool,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct AddressArgs {
    /// For this public address; once more for the other family
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) address: Vec<Address>,
    /// For the address that the gateway sees
    #[arg(long)]
    pub(crate) as_seen: bool,
}

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

impl Cli {
    /// Reads the command line. Help and version are errors to clap too, of exit code 0.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(words)
    }
}

fn address(text: &str) -> Result<Address, String> {
    let address: IpAddr = text.parse().map_err(|_| "not an IPv4 or IPv6 address".to_owned())?;
    Address::explicit(address).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    seconds(text).map(|seconds| Duration::from_secs(seconds.get().into()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_are_of_one_host() {
        assert!(address("192.0.2.7").is_ok());
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert!(address("0.0.0.0").is_err());
        assert!(address("gw.example.net").is_err());
    }
}

//! What the commands that knock take.

use std::ffi::OsString;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use clap::Args;
use spa_keys::Host;
use spa_keys::profile::{ProfileName, Server, host, seconds};
use spa_proto::{Address, ServiceName};

use super::values;
use crate::clock::Offset;

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How long, such as 90s, 15m, 8h [default: the profile's, else the gateway's]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub(crate) duration: Option<NonZeroU32>,
    #[command(flatten)]
    pub(crate) code: CodeArgs,
    /// Connect to each service until it answers
    #[arg(long, conflicts_with = "once")]
    pub(crate) wait: bool,
    /// How long --wait tries each gateway
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s", requires = "wait")]
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
    #[command(flatten)]
    pub(crate) clock: ClockArgs,
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

/// For whom.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AddressArgs {
    /// For this public address; once more for the other family
    #[arg(long, value_name = "ADDRESS", value_parser = values::address, conflicts_with_all = ["as_seen", "resolve"])]
    pub(crate) address: Vec<Address>,
    /// For the address that the gateway sees
    #[arg(long, conflicts_with = "resolve")]
    pub(crate) as_seen: bool,
    /// For the public addresses that two STUN servers agree on
    #[arg(long)]
    pub(crate) resolve: bool,
    /// Ask this STUN server; at least twice, instead of the profile's
    #[arg(long, value_name = "HOST:PORT", value_parser = values::stun)]
    pub(crate) stun: Vec<Server>,
}

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct CodeArgs {
    /// Send a one-time code: asked for on the terminal
    #[arg(long)]
    pub(crate) one_time_code: bool,
    /// Read the one-time code from this file descriptor
    #[arg(long, value_name = "N")]
    pub(crate) one_time_code_fd: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct ClockArgs {
    /// The time is so much later (+75s) or earlier (-2h) than the clock here says
    #[arg(long, value_name = "+/-TIME", value_parser = values::offset, allow_hyphen_values = true)]
    pub(crate) clock_offset: Option<Offset>,
}

/// What `ssh`, `proxy` and `watch` have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct PassArgs {
    /// How long the door is open [default: the profile's, else the gateway's; for watch 5m]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub(crate) duration: Option<NonZeroU32>,
    /// How long each gateway is tried
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
    #[command(flatten)]
    pub(crate) code: CodeArgs,
    #[command(flatten)]
    pub(crate) clock: ClockArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SshArgs {
    #[command(flatten)]
    pub(crate) pass: PassArgs,
    /// The service to open [default: the one that answers at ssh's port]
    #[arg(long)]
    pub(crate) service: Option<ServiceName>,
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// ssh's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SSH ARGUMENTS")]
    pub(crate) ssh: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) pass: PassArgs,
    /// The service to open [default: the one that answers at PORT]
    #[arg(long)]
    pub(crate) service: Option<ServiceName>,
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// Where to connect to; the profile's own name means its gateway
    pub(crate) host: String,
    /// The port; the service that answers there is opened
    pub(crate) port: NonZeroU16,
    /// Hand the connection over on standard output: for ProxyUseFdpass
    #[arg(long)]
    pub(crate) fdpass: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    #[arg(value_parser = host)]
    pub(crate) host: Host,
    pub(crate) port: NonZeroU16,
    #[arg(long, value_parser = values::duration, default_value = "10s")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) pass: PassArgs,
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    /// The services, as the gateway names them
    #[arg(required = true, value_name = "SERVICE")]
    pub(crate) services: Vec<ServiceName>,
    /// Ask the gateway to close the doors at the end (Ctrl-C)
    #[arg(long)]
    pub(crate) close: bool,
    /// Print a JSON object for each event
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The profile, as `spa-client profiles` lists it
    pub(crate) profile: ProfileName,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
    #[command(flatten)]
    pub(crate) code: CodeArgs,
    #[command(flatten)]
    pub(crate) clock: ClockArgs,
    /// Compare the clock with this NTP server too; more than once for several
    #[arg(long, value_name = "HOST", value_parser = values::ntp)]
    pub(crate) ntp: Vec<Server>,
    /// Do not knock
    #[arg(long)]
    pub(crate) no_knock: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

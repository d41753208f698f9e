//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ColorChoice, Parser, Subcommand};
use spa_keys::manual::Manual;

mod access;
mod enroll;
mod profile;
mod sequence;
mod values;

pub(crate) use access::{
    AddressArgs, CheckArgs, CloseArgs, CodeArgs, OpenArgs, PassArgs, ProxyArgs, RelayArgs, SshArgs, TargetArgs,
    WatchArgs,
};
pub(crate) use enroll::EnrollArgs;
pub(crate) use profile::{ForgetArgs, ListArgs, PasswdArgs, RenameArgs, ShowArgs, SshConfigArgs};
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
    /// Read a profile's passphrase from this file descriptor instead of asking on the terminal
    #[arg(long, global = true, value_name = "N")]
    pub(crate) passphrase_fd: Option<u16>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What its pages say beside the options.
pub(crate) const MANUAL: Manual = Manual {
    section: "1",
    files: &[
        (
            "~/.config/spa/PROFILE.toml",
            "One gateway, and this device's key for it.",
        ),
        ("~/.config/spa/rolling/PROFILE.toml", "A rolling sequence."),
    ],
    see_also: &["spa-profile(5)", "spa-server(8)", "spa-keys(8)", "ssh(1)"],
    source: concat!("spa-client ", env!("CARGO_PKG_VERSION")),
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write man pages and shell completions into a folder
    #[command(hide = true)]
    Manual {
        /// Which must exist
        folder: PathBuf,
    },
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
    /// Open the door, wait until it is open, and run ssh
    #[command(after_help = "Examples: spa-client ssh gw.example.net -l anna\n          \
        spa-client ssh gw.example.net -l anna -- uptime\n          \
        spa-client ssh gw.example.net anna@inside.example.net\n\
        Options of spa-client stand before PROFILE, all after it is ssh's. Without a\n\
        host there, ssh goes to the gateway; what follows -- is then the command.")]
    Ssh(SshArgs),
    /// Open the door and be the connection: OpenSSH's ProxyCommand
    #[command(
        after_help = "Example, in ~/.ssh/config: ProxyCommand spa-client proxy gw.example.net %h %p\n\
        `spa-client ssh-config PROFILE` prints the whole block."
    )]
    Proxy(ProxyArgs),
    /// Connect, without a knock: what `ssh` gives to OpenSSH once the door is open
    #[command(hide = true)]
    Relay(RelayArgs),
    /// Print what to put into ~/.ssh/config
    #[command(after_help = "Example: spa-client ssh-config gw.example.net >>~/.ssh/config")]
    SshConfig(SshConfigArgs),
    /// Keep a door open: renew it before its end, and knock again when this device's address changes
    #[command(after_help = "Example: spa-client watch gw.example.net ssh --for 10m")]
    Watch(WatchArgs),
    /// Look what works from here: clock, names, routes, the gateway's ports
    #[command(after_help = "Example: spa-client check gw.example.net\n\
        It knocks at each port of the gateway and shuts the door again, unless --no-knock.")]
    Check(CheckArgs),
    /// List the profiles
    #[command(after_help = "Example: spa-client profiles --json")]
    Profiles(ListArgs),
    /// Show a profile without its secrets
    #[command(after_help = "Example: spa-client show gw.example.net")]
    Show(ShowArgs),
    /// Put a profile under a passphrase, change it, or take it away
    #[command(after_help = "Example: spa-client passwd gw.example.net")]
    Passwd(PasswdArgs),
    /// Give a profile another name
    #[command(after_help = "Example: spa-client rename gw.example.net work")]
    Rename(RenameArgs),
    /// Take a profile and its keys away
    #[command(after_help = "Example: spa-client forget gw.example.net")]
    Forget(ForgetArgs),
}

impl Cli {
    /// Reads the command line. Help and version are errors to clap too, of exit code 0.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(words)
    }
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
    fn what_follows_the_profile_is_ssh_s() {
        let words = [
            "spa-client",
            "ssh",
            "--for",
            "1m",
            "gw",
            "-v",
            "--",
            "uptime",
            "--pretty",
        ];
        let Command::Ssh(args) = Cli::read(words.map(OsString::from)).ok().unwrap().command else {
            panic!("another command");
        };
        assert_eq!(args.ssh, ["-v", "--", "uptime", "--pretty"]);
    }
}

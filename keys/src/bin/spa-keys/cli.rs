//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use ipnet::IpNet;
use spa_keys::client::{parse_length, parse_source};
use spa_keys::units::parse_time;
use spa_keys::{AddressRule, ClientName};
use spa_proto::{Label, PublicKey, ServiceName, UnixTime};

/// The gateway's keys and clients.
///
/// Changes take effect on a running daemon within a second.
#[derive(Debug, Parser)]
#[command(name = "spa-keys", version, arg_required_else_help = true)]
#[command(after_help = "Example: spa-keys invite alice-phone --services ssh")]
pub struct Cli {
    /// Everything below this directory instead of /etc/spa, /var/lib/spa and /run/spa
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The configuration instead of server.toml in its place
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One JSON object on stdout
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an invite: a text by which one device enrolls itself, once
    ///
    /// The invite goes to stdout, all else to stderr. It is a secret until it is used.
    #[command(after_help = "Example: spa-keys invite alice-phone --services ssh,db --valid 15m")]
    Invite(InviteArgs),
    /// Add a client whose key was made elsewhere
    #[command(after_help = "Example: spa-keys add ci-runner --public-key KEY --psk-file runner.psk --services ssh")]
    Add(AddArgs),
    /// List clients and invites
    #[command(after_help = "Example: spa-keys list --json")]
    List,
    /// Show one client
    #[command(after_help = "Example: spa-keys show alice-phone")]
    Show {
        /// The client's name
        name: ClientName,
    },
    /// Take a client's key away; its doors shut
    #[command(after_help = "Example: spa-keys revoke alice-phone")]
    Revoke {
        /// The client's name
        name: ClientName,
    },
    /// Make a revoked client's key good again
    #[command(after_help = "Example: spa-keys restore alice-phone")]
    Restore {
        /// The client's name
        name: ClientName,
    },
    /// Remove a client, or an invite nobody has used
    #[command(after_help = "Example: spa-keys remove alice-phone")]
    Remove {
        /// The client's or invite's name
        name: ClientName,
    },
    /// Change what a client may do; comments in its file stay
    #[command(after_help = "Example: spa-keys set alice-phone --services ssh,db --expires 2027-01-01")]
    Set(SetArgs),
    /// The key of a rolling sequence: make it, print a card, or a profile for a device
    #[command(after_help = "Example: spa-keys sequence card --new\n         spa-keys sequence card --next 10")]
    Sequence(SequenceArgs),
    /// The gateway's own keys
    Gateway {
        #[command(subcommand)]
        command: GatewayCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Show the gateway's identities
    #[command(after_help = "Example: spa-keys gateway show")]
    Show {
        /// Show the HMAC keys too
        #[arg(long)]
        secrets: bool,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct SequenceArgs {
    /// The sequence's name in server.toml
    pub name: ClientName,
    /// Make its key
    #[arg(long, group = "what")]
    pub new: bool,
    /// Print the next N sequences, the one of now first: a card to carry
    #[arg(long, group = "what", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub next: Option<u16>,
    /// Print the file of a device that knocks by itself; it holds the key
    #[arg(long, group = "what")]
    pub profile: bool,
}

/// What a new client may do.
#[derive(Debug, Args)]
pub struct TermsArgs {
    /// What it may open, comma-separated; each must exist in server.toml
    #[arg(long, required = true, value_name = "SERVICES", value_parser = services)]
    pub services: Services,
    /// When the client ends by itself: 2026-12-31 (the start of that day, UTC) or 2026-12-31T18:00:00+01:00
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub expires: Option<UnixTime>,
    /// The longest it may ask for: 30s, 15m, 8h
    #[arg(long, value_name = "LENGTH", value_parser = parse_length)]
    pub max_duration: Option<Duration>,
    /// Which addresses it may open for: any, explicit (named in the sealed request) or as-seen
    #[arg(long, value_name = "RULE", value_parser = address)]
    pub address: Option<AddressRule>,
    /// Only addresses within this network; may be given again
    #[arg(long, value_name = "CIDR", value_parser = parse_source)]
    pub sources: Vec<IpNet>,
}

#[derive(Debug, Args)]
pub struct InviteArgs {
    /// The name the client will have: a-z 0-9 . _ -
    pub name: ClientName,
    #[command(flatten)]
    pub terms: TermsArgs,
    /// How long the invite is good; at most 30d
    #[arg(long, value_name = "LENGTH", default_value = "15m", value_parser = parse_length)]
    pub valid: Duration,
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// The client's name: a-z 0-9 . _ -
    pub name: ClientName,
    /// The device's public key: 43 characters
    // One key in 64 begins with a hyphen.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, value_parser = spa_keys::text::public_key)]
    pub public_key: PublicKey,
    /// A file of mode 0600 with the PSK, 43 characters; - reads it from stdin
    #[arg(long, value_name = "FILE")]
    pub psk_file: PathBuf,
    #[command(flatten)]
    pub terms: TermsArgs,
    /// A text for people
    #[arg(long, default_value = "")]
    pub label: Label,
}

#[derive(Debug, Args)]
pub struct SetArgs {
    /// The client's name
    pub name: ClientName,
    /// What it may open, comma-separated
    #[arg(long, value_name = "SERVICES", value_parser = services)]
    pub services: Option<Services>,
    /// When the client ends by itself: 2026-12-31 (the start of that day, UTC), RFC 3339, or never
    #[arg(long, value_name = "TIME", value_parser = unless("never", parse_time))]
    pub expires: Option<Setting<UnixTime>>,
    /// The longest it may ask for: 30s, 15m, 8h, or none for the services' own
    #[arg(long, value_name = "LENGTH", value_parser = unless("none", parse_length))]
    pub max_duration: Option<Setting<Duration>>,
    /// Which addresses it may open for: any, explicit or as-seen
    #[arg(long, value_name = "RULE", value_parser = address)]
    pub address: Option<AddressRule>,
    /// Only addresses within this network, or any; may be given again
    #[arg(long, value_name = "CIDR", value_parser = unless("any", parse_source))]
    pub sources: Vec<Setting<IpNet>>,
    /// A text for people
    #[arg(long)]
    pub label: Option<Label>,
}

/// A value, or the word that takes it out.
#[derive(Clone, Copy, Debug)]
pub enum Setting<T> {
    Cleared,
    To(T),
}

impl<T> Setting<T> {
    pub fn into_option(self) -> Option<T> {
        match self {
            Self::Cleared => None,
            Self::To(value) => Some(value),
        }
    }
}

/// A reader of `T` that also knows the word for none.
fn unless<T, E>(
    word: &'static str,
    read: impl Fn(&str) -> Result<T, E> + Clone,
) -> impl Fn(&str) -> Result<Setting<T>, E> + Clone {
    move |text| {
        if text == word {
            Ok(Setting::Cleared)
        } else {
            read(text).map(Setting::To)
        }
    }
}

/// At least one service, none twice.
#[derive(Clone, Debug)]
pub struct Services(pub Vec<ServiceName>);

fn services(text: &str) -> Result<Services, String> {
    if text.trim().is_empty() {
        return Err("the list of services is empty: a client without a service can open nothing".into());
    }
    let mut names: Vec<ServiceName> = Vec::new();
    for name in text.split(',') {
        let name = name.trim().parse::<ServiceName>().map_err(|error| error.to_string())?;
        if names.contains(&name) {
            return Err(format!("the service {name} stands there twice"));
        }
        names.push(name);
    }
    Ok(Services(names))
}

fn address(text: &str) -> Result<AddressRule, &'static str> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_of_services() {
        assert_eq!(services("ssh, db").unwrap().0.len(), 2);
        for bad in ["", " ", ",", "ssh,", "ssh,ssh", "SSH", "*"] {
            assert!(services(bad).is_err(), "{bad:?}");
        }
    }
}

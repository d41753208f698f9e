//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use ipnet::IpNet;
use spa_keys::client::{parse_length, parse_source};
use spa_keys::manual::Manual;
use spa_keys::units::parse_time;
use spa_keys::{AddressRule, ClientName, Widen};
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

/// What its pages say beside the options.
pub const MANUAL: Manual = Manual {
    section: "8",
    files: &[
        ("/etc/spa/gateway.key", "The gateway's identities."),
        ("/etc/spa/clients.d/NAME.toml", "One client."),
        ("/etc/spa/invites.d/", "Invites, live and spent."),
        (
            "/etc/spa/sequences.d/",
            "Keys of rolling sequences, lists of one-time sequences.",
        ),
    ],
    see_also: &["spa-server(8)", "spa-client(1)", "spa-clients.d(5)", "server.toml(5)"],
    source: concat!("spa-keys ", env!("CARGO_PKG_VERSION")),
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write man pages and shell completions into a folder
    #[command(hide = true)]
    Manual {
        /// Which must exist
        folder: PathBuf,
    },
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
    /// Give a client another name; its key, its doors and its record stay
    #[command(after_help = "Example: spa-keys rename alice.2 alice")]
    Rename {
        /// The client's name
        name: ClientName,
        /// Its new name
        to: ClientName,
    },
    /// Write a client as another gateway takes it, always in the same form
    ///
    /// Without --secrets or --out the PSK and the secret of one-time codes are left out: such a text can lie in a
    /// repository, and `import --psk-file` makes it whole. Who has the PSK still needs the device's own key to knock.
    #[command(after_help = "Example: spa-keys export alice-phone --out alice-phone.toml")]
    Export {
        /// The client's name
        name: ClientName,
        /// With the secrets, on stdout
        #[arg(long)]
        secrets: bool,
        /// With the secrets, into a new file of mode 0600
        #[arg(long, value_name = "FILE", conflicts_with = "secrets")]
        out: Option<PathBuf>,
    },
    /// Take a client in that another gateway has exported
    ///
    /// The same again changes nothing and is no error.
    #[command(after_help = "Example: spa-keys import alice-phone.toml")]
    Import(ImportArgs),
    /// Write the whole gateway but its replay record into one file of mode 0600, to move it or to keep it
    #[command(after_help = "Example: spa-keys backup gateway.backup")]
    Backup {
        /// A new file; - writes to stdout
        file: PathBuf,
    },
    /// Forget which knocks of one client were accepted; says first what that means
    #[command(after_help = "Example: spa-keys reset-replay alice-phone")]
    ResetReplay {
        /// The client's name
        name: ClientName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
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
    /// Make a new identity beside the old ones, and new invites for all clients
    ///
    /// Each client gets an invite under its next name (alice, then alice.2) with what it may do now. Its old key stays
    /// good beside it: nobody is shut out. The invites and their QR codes go into a folder.
    #[command(after_help = "Example: spa-keys gateway rotate --valid 14d --out invites")]
    Rotate {
        /// Change nothing, say who has moved
        #[arg(long)]
        status: bool,
        #[command(flatten)]
        invites: ReinviteArgs,
    },
    /// Make new invites for those who have neither moved nor an invite
    #[command(after_help = "Example: spa-keys gateway reinvite alice-phone")]
    Reinvite {
        /// These clients only, whatever invites they have
        names: Vec<ClientName>,
        #[command(flatten)]
        invites: ReinviteArgs,
    },
    /// Drop an identity that nobody needs any more
    #[command(after_help = "Example: spa-keys gateway drop SHA256:Zmh6rfhivXdsj8GLjp-OIAiXFIVu4jOzkCpZHQ1fKSU")]
    Drop {
        /// Its fingerprint, as `gateway show` tells it
        fingerprint: String,
        /// Though somebody may need it: who has not moved is shut out
        #[arg(long)]
        force: bool,
        /// Remove the clients too whose successors have knocked
        #[arg(long)]
        remove_replaced: bool,
    },
}

/// How invites after a rotation are made.
#[derive(Debug, Args)]
pub struct ReinviteArgs {
    /// Where the invites go, a folder made for it [default: rotation-TIME beside gateway.key]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// How long the invites are good; at most 30d
    #[arg(long, value_name = "LENGTH", default_value = "30d", value_parser = parse_length)]
    pub valid: Duration,
    /// Each demands a PIN, shown once on stderr, to be told by another channel
    #[arg(long)]
    pub pin: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// What export wrote; - reads it from stdin
    pub file: PathBuf,
    /// The client's name [default: the file's, without .toml]
    #[arg(long)]
    pub name: Option<ClientName>,
    /// A file of mode 0600 with the PSK, where the text holds none
    #[arg(long, value_name = "FILE")]
    pub psk_file: Option<PathBuf>,
    /// Put it in the place of what this gateway knows of the same key; its one-time code and that it is revoked stay
    #[arg(long)]
    pub replace: bool,
    /// Make a revoked client's key good again, where the text does not say that it is revoked
    #[arg(long, requires = "replace")]
    pub restore: bool,
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
    /// Open a whole prefix around its address: /24, /64 or /24,/64, for networks that give TCP another egress than UDP
    #[arg(long, value_name = "LENGTHS", value_parser = widen)]
    pub widen: Option<Widen>,
    /// Each opening needs a one-time code of 6 or 8 digits; the secret is shown once on stderr, for an authenticator app
    #[arg(long, value_name = "DIGITS", num_args = 0..=1, require_equals = true, default_missing_value = "6", value_parser = digits)]
    pub one_time_code: Option<u8>,
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
    /// Demand a PIN, shown once on stderr, to be told by another channel
    #[arg(long)]
    pub pin: bool,
    /// Show the invite as a QR code on stderr
    #[arg(long)]
    pub qr: bool,
    /// Write the invite as a QR code (SVG) into a new file of mode 0600
    #[arg(long, value_name = "FILE")]
    pub qr_file: Option<PathBuf>,
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
    /// Open a whole prefix around its address: /24, /64 or /24,/64, or none
    #[arg(long, value_name = "LENGTHS", value_parser = unless("none", widen))]
    pub widen: Option<Setting<Widen>>,
    /// Each opening needs a one-time code of 6 or 8 digits, with a new secret that is shown once on stderr; or none
    #[arg(long, value_name = "DIGITS", value_parser = unless("none", digits))]
    pub one_time_code: Option<Setting<u8>>,
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

fn widen(text: &str) -> Result<Widen, &'static str> {
    text.parse()
}

fn digits(text: &str) -> Result<u8, &'static str> {
    match text {
        "6" => Ok(6),
        "8" => Ok(8),
        _ => Err("a one-time code has 6 or 8 digits"),
    }
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

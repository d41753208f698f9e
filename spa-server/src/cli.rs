//! The command line: what is typed, and which part of the program it calls.

mod apply;
mod audit;
mod bans;
mod check;
mod close_overdue;
mod confirm;
mod decoys;
mod import;
mod init;
mod report;
mod restore;
mod run;
mod simulate;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use ipnet::IpNet;
use serde_json::{Value, json};
use spa_keys::manual::Manual;
use spa_keys::{Control, Exit, Failure, Paths};

use crate::config::template::ServiceArgument;
use crate::confirm::armed;
use crate::firewall::process;

const EXAMPLES: &str = "\
Examples:
  spa-server init --host gw.example.net --service ssh=tcp/22 --always-allow 192.0.2.0/28
  spa-server check
  spa-server run
  spa-server status
Everything below one folder, without touching the system: add --dir ./trial to every command.";

/// The gateway of single-packet authorization: hides ports, and opens them for a while to who knocks right.
#[derive(Debug, Parser)]
#[command(name = "spa-server", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

/// Where the files are.
#[derive(Args, Debug)]
struct Places {
    /// Everything below this folder instead of the system's places
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Another server.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object on stdout
    #[arg(long, global = true)]
    json: bool,
}

impl Places {
    fn paths(&self) -> Paths {
        Paths::new(self.dir.as_deref(), self.config.as_deref())
    }

    fn options(&self, write: impl Fn(&Path) -> PathBuf) -> Vec<OsString> {
        let option = |name: &str, path: &Option<PathBuf>| {
            let path = path.as_deref().map(&write);
            path.map(|path| [name.into(), path.into_os_string()])
        };
        let options = [option("--dir", &self.dir), option("--config", &self.config)];
        options.into_iter().flatten().flatten().collect()
    }

    /// The options that name the same files wherever the command is typed.
    fn absolute(&self) -> Vec<OsString> {
        self.options(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
    }

    /// Another command for the same files, to be typed where this one was.
    fn command(&self, name: &str) -> String {
        let options = self.options(Path::to_owned);
        let words = options.iter().map(|word| format!(" {}", word.display()));
        format!("spa-server {name}{}", words.collect::<String>())
    }
}

/// What its pages say beside the options.
const MANUAL: Manual = Manual {
    section: "8",
    files: &[
        ("/etc/spa/server.toml", "The configuration: server.toml(5)."),
        ("/etc/spa/gateway.key", "The gateway's identities."),
        (
            "/var/lib/spa/",
            "Replay record, grants, enrollments. Losing it refuses every knock for ten minutes.",
        ),
        (
            "/run/spa/control.sock",
            "What `status` and the like talk to: for root and the group spa-admin.",
        ),
    ],
    see_also: &["spa-keys(8)", "spa-client(1)", "server.toml(5)", "spa-clients.d(5)"],
    source: concat!("spa-server ", env!("CARGO_PKG_VERSION")),
};

#[derive(Debug, Subcommand)]
enum Command {
    /// Write man pages and shell completions into a folder
    #[command(hide = true)]
    Manual {
        /// Which must exist
        folder: PathBuf,
    },
    /// Make a gateway: identity, empty record, a commented server.toml. Changes no firewall
    Init(InitArguments),
    /// Say everything that is wrong, who could open what, and what would be hidden
    Check,
    /// Run the daemon in the foreground
    Run {
        /// Record, spend, protect and open nothing; say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Put the static part of the firewall in place and end: for a unit that runs before the network comes up
    Protect,
    /// Load server.toml into the running daemon, and say what changed or all that is wrong with it
    Apply {
        /// Undo it by itself unless `spa-server confirm` comes within this time: 1s to 24h, such as 2m
        #[arg(long, value_name = "LENGTH", value_parser = apply::confirm_within)]
        confirm: Option<Duration>,
    },
    /// Keep what `apply --confirm` has loaded
    Confirm,
    /// The process that `apply --confirm` leaves behind
    #[command(name = armed::COMMAND, hide = true)]
    UndoUnlessConfirmed {
        /// Which change
        nonce: String,
    },
    /// The process that `run` starts for all that concerns the firewall
    #[command(name = process::COMMAND, hide = true)]
    FirewallProcess {
        /// Change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Say how the daemon is
    Status {
        /// Stay, and draw it anew every second; with --json an object on a line every second
        #[arg(long)]
        watch: bool,
    },
    /// List the open doors
    Grants,
    /// End grants of a client, or for an address; the key stays good
    Close(CloseArguments),
    /// Say why the last knocks were refused, newest first
    Explain {
        /// How many
        #[arg(default_value_t = 20, value_name = "N")]
        count: usize,
        /// Only those that are proven to be of this client
        #[arg(long, value_name = "NAME")]
        client: Option<String>,
    },
    /// Read the audit log: is it whole, and who could reach what, when
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Judge recorded packets, and say step by step why each was or was not accepted. Opens nothing
    Simulate(simulate::SimulateArguments),
    /// List who is shut out by the scan guard
    Bans,
    /// Let in again whom the scan guard has shut out
    Unban(bans::UnbanArguments),
    /// Close what is overdue and no kernel closes: for a unit that runs whenever the daemon has stopped
    CloseOverdue {
        /// Stay until the last end has come, or a daemon runs again
        #[arg(long)]
        wait: bool,
    },
    /// Turn a knockd.conf into sequences and services for server.toml
    Import(import::ImportArguments),
    /// Make a gateway from what `spa-keys backup` wrote; it begins with a wait, since it has no replay record
    Restore {
        /// The backup; - reads it from stdin
        file: PathBuf,
    },
    /// Take out everything that was ever put anywhere
    Uninstall {
        /// Do nothing where hosts.deny would then refuse a service to everybody
        #[arg(long)]
        unless_shut: bool,
    },
}

/// What `init` is told.
#[derive(Args, Debug)]
struct InitArguments {
    /// The name or address that invites carry
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The UDP port for knocks
    #[arg(long, value_name = "N", default_value_t = crate::config::DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// A service and its ports [default: ssh=tcp/22]
    #[arg(long = "service", value_name = "NAME=tcp/PORT")]
    services: Vec<ServiceArgument>,
    /// Addresses that stay open whatever happens [default: the peer of this ssh connection]
    #[arg(long, value_name = "CIDR", value_parser = network)]
    always_allow: Vec<IpNet>,
    /// Protect without any address that stays open
    #[arg(long, conflicts_with = "always_allow")]
    no_way_back: bool,
}

/// Whose grants `close` ends.
#[derive(Args, Debug)]
struct CloseArguments {
    /// The grants for this address or network
    #[arg(long, value_name = "A", value_parser = network)]
    address: Option<IpNet>,
    /// CLIENT [SERVICE], or with --address only SERVICE
    #[arg(value_name = "CLIENT [SERVICE]", num_args = 0..=2)]
    names: Vec<String>,
}

/// An address, or a network without host bits.
fn network(text: &str) -> Result<IpNet, String> {
    let net: IpNet = match text.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().into(),
        Err(_) => text
            .parse()
            .map_err(|_| "expected an address or a network, such as 192.0.2.0/28".to_string())?,
    };
    if net == net.trunc() {
        Ok(net)
    } else {
        Err(format!("bits are set behind the prefix; meant is {}?", net.trunc()))
    }
}

impl Cli {
    /// Does what was typed.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let Self { places, command } = self;
        let paths = places.paths();
        let outcome = match command {
            Command::Manual { folder } => MANUAL.write(Self::command(), &folder),
            Command::Init(arguments) => init::init(&paths, &arguments, places.json),
            Command::Check => return check::check(&paths, places.json),
            Command::Run { dry_run } => return run::run(paths, &places.absolute(), dry_run),
            Command::Protect => return run::protect(&paths, places.json),
            Command::Apply { confirm } => return apply::apply(&places, confirm),
            Command::Confirm => confirm::confirm(&paths, places.json),
            Command::UndoUnlessConfirmed { nonce } => armed::undo_unless_confirmed(&paths, &nonce),
            Command::FirewallProcess { dry_run } => {
                run::start_logging();
                process::serve(&paths, dry_run)
            }
            Command::Status { watch: true } if places.json => watch::watch_json(&paths),
            Command::Status { watch: true } => watch::watch(&paths),
            Command::Status { watch: false } => ask(&paths, places.json, "spa.Status", &Value::Null, report::status),
            Command::Grants => ask(&paths, places.json, "spa.Grants", &Value::Null, report::grants),
            Command::Close(arguments) => close(&paths, places.json, &arguments),
            Command::Explain { count, client } => ask(
                &paths,
                places.json,
                "spa.Explain",
                &json!({ "count": count, "client": client }),
                report::explain,
            ),
            Command::Audit(command) => audit::audit(&paths, places.json, command),
            Command::Simulate(arguments) => return simulate::simulate(&paths, &arguments, places.json),
            Command::Bans => bans::bans(&paths, places.json),
            Command::Unban(arguments) => bans::unban(&paths, places.json, &arguments),
            Command::CloseOverdue { wait } => close_overdue::close_overdue(&paths, wait, places.json),
            Command::Import(arguments) => import::run(&arguments, places.json),
            Command::Restore { file } => restore::restore(&paths, &file, places.json),
            Command::Uninstall { unless_shut } => run::uninstall(&paths, unless_shut, places.json),
        };
        end(outcome)
    }
}

fn close(paths: &Paths, as_json: bool, arguments: &CloseArguments) -> Result<(), Failure> {
    let (client, service) = match (&arguments.address, arguments.names.as_slice()) {
        (None, [client]) => (Some(client), None),
        (None, [client, service]) => (Some(client), Some(service)),
        (Some(_), []) => (None, None),
        (Some(_), [service]) => (None, Some(service)),
        _ => {
            let usage = Failure::new(Exit::Usage, "name a client, or an address with --address");
            return Err(usage
                .hint("spa-server close alice")
                .hint("spa-server close --address 192.0.2.7 ssh"));
        }
    };
    let parameters = json!({ "client": client, "address": arguments.address, "service": service });
    ask(paths, as_json, "spa.Close", &parameters, report::closed)
}

/// Asks the daemon, and prints its answer as it is or for people.
fn ask(
    paths: &Paths,
    as_json: bool,
    method: &str,
    parameters: &Value,
    render: fn(&Value) -> String,
) -> Result<(), Failure> {
    let answer = Control::connect(&paths.control_socket()).and_then(|mut control| control.call(method, parameters));
    let answer = Value::Object(answer.map_err(Failure::from)?);
    if as_json {
        println!("{answer}");
    } else {
        print!("{}", render(&answer));
    }
    Ok(())
}

fn end(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}

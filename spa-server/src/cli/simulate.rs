//! `spa-server simulate`: a capture file, packet by packet.

mod report;

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use pcap::{Capture, Offline, Precision};
use serde_json::Value;
use spa_keys::directory::KeyDirectory;
use spa_keys::escape::escape;
use spa_keys::gateway::GatewayKey;
use spa_keys::state::Snapshot;
use spa_keys::units::parse_time;
use spa_keys::{Control, ControlError, Exit, Failure, Paths};
use spa_proto::{LinkType, Listen, UnixTime};

use super::check::colour;
use super::end;
use crate::check::exit_code;
use crate::config::{Config, render};
use crate::netlink::address::own_addresses;
use crate::simulate::{Known, Setting, Simulation};
use report::Report;

/// What `simulate` is told.
#[derive(Args, Debug)]
pub(super) struct SimulateArguments {
    /// A capture: pcap or pcapng, as tcpdump and Wireshark write them; - reads it from stdin
    #[arg(long, value_name = "FILE")]
    capture: PathBuf,
    /// Judge as if the first packet had come at this time, such as 2026-12-31T18:00:00Z; the others keep their distance
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<UnixTime>,
    /// Judge as if the record were empty: what was accepted long ago is judged as if for the first time
    #[arg(long)]
    fresh: bool,
    /// Take knocks to any address: for a capture of another host
    #[arg(long)]
    any_address: bool,
    /// Tell also of packets that come to no knock port
    #[arg(long)]
    all: bool,
}

fn time(text: &str) -> Result<UnixTime, String> {
    parse_time(text).map_err(|error| error.to_string())
}

/// Where the record was known from, in one word for scripts and in a clause for people.
struct Source {
    state: &'static str,
    text: String,
}

/// Judges every packet of the file. Its exit code says whether the file could be read, whatever came of the packets.
pub(super) fn simulate(paths: &Paths, arguments: &SimulateArguments, as_json: bool) -> ExitCode {
    let config = match Config::load(&paths.config) {
        Ok((config, _)) => config,
        Err(findings) => {
            eprint!("{}", render(&findings, colour(io::stderr().is_terminal())));
            return ExitCode::from(exit_code(&findings));
        }
    };
    end(judge(paths, config, arguments, as_json))
}

fn judge(paths: &Paths, config: Config, arguments: &SimulateArguments, as_json: bool) -> Result<(), Failure> {
    let (mut capture, link) = open(&arguments.capture)?;
    let (known, source) = known(paths, arguments.fresh)?;
    let mut simulation = Simulation::new(Setting {
        listen: listen(&config, arguments.any_address),
        services: config.services,
        identities: GatewayKey::load(&paths.gateway_key)?.into_identities(),
        keys: KeyDirectory::load(&paths.clients, &paths.invites)?,
        known,
    });
    let mut report = Report::begin(arguments, &source, as_json);
    let mut shift = Shift::new(arguments.at);
    let outcome = loop {
        match capture.next_packet() {
            Ok(packet) => {
                let captured = stamp(packet.header);
                let cut = packet.header.caplen < packet.header.len;
                let at = shift.at(captured);
                let judged = simulation.judge(at, link, packet.data, cut);
                report.packet(captured, at, &judged).map_err(|error| stdout(&error))?;
            }
            Err(pcap::Error::NoMorePackets) => break Ok(()),
            Err(error) => break Err(unreadable(&arguments.capture, report.read, &error)),
        }
    };
    let failure = outcome.as_ref().err();
    report
        .end(failure.map(|failure| failure.what.as_str()))
        .map_err(|error| stdout(&error))?;
    outcome
}

fn open(file: &Path) -> Result<(Capture<Offline>, LinkType), Failure> {
    let failed = |what: String| Failure::new(Exit::Failed, format!("{}: {}", file.display(), escape(&what)));
    if file != Path::new("-") {
        // libpcap's own words do not tell a missing file from a forbidden one.
        let opened = File::open(file).and_then(|file| file.metadata());
        match opened {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(Failure::new(Exit::NoPermission, format!("{}: {error}", file.display())));
            }
            Err(error) => return Err(failed(error.to_string())),
            Ok(found) if found.is_dir() => return Err(failed("is a folder, not a capture".into())),
            Ok(_) => {}
        }
    }
    let hint = "tcpdump -i any -s 0 -w knocks.pcap udp port 62201";
    let capture = Capture::from_file_with_precision(file, Precision::Nano);
    let capture = capture.map_err(|error| failed(said(&error)).hint(hint))?;
    let number = capture.get_datalink().0;
    match LinkType::from_dlt(number) {
        Some(link) => Ok((capture, link)),
        None => Err(failed(format!("link type {number} is not understood")).hint(hint)),
    }
}

fn unreadable(file: &Path, read: u64, error: &pcap::Error) -> Failure {
    let what = format!(
        "{}: packet {} cannot be read: {}",
        file.display(),
        read + 1,
        escape(&said(error))
    );
    Failure::new(Exit::Failed, what).hint("what comes before it was judged; capture again what comes after it")
}

fn said(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text.clone(),
        error => error.to_string(),
    }
}

fn stdout(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("stdout: {error}"))
}

/// The record of the running daemon, or its file when none runs.
fn known(paths: &Paths, fresh: bool) -> Result<(Known, Source), Failure> {
    let source = |state, text: String| Source { state, text };
    if fresh {
        let text = "not looked at: only replays within the capture are found";
        return Ok((Known::Nothing, source("ignored", text.into())));
    }
    let socket = paths.control_socket();
    match Control::connect(&socket).and_then(|mut control| control.call("spa.Status", &Value::Null)) {
        Ok(status) if status["dry_run"] == false => {
            return Ok((
                Known::Daemon(socket),
                source("daemon", "asked of the running daemon".into()),
            ));
        }
        // A dry run leaves the record alone, as a gateway does that does not run.
        Ok(_) | Err(ControlError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match Snapshot::read(&paths.state) {
        Ok(snapshot) => {
            let text = "read from its file: no daemon runs".into();
            Ok((Known::File(Box::new(snapshot)), source("file", text)))
        }
        Err(error) => {
            let text = format!("not known, only replays within the capture are found: {error}");
            Ok((Known::Nothing, source("unknown", text)))
        }
    }
}

fn listen(config: &Config, any_address: bool) -> Listen {
    Listen {
        ports: config.listen.ports.clone(),
        // Where they cannot be read the daemon takes any, too.
        addresses: if any_address { None } else { own_addresses().ok() },
    }
}

/// A time that no clock shows becomes the nearest one.
fn stamp(header: &pcap::PacketHeader) -> UnixTime {
    let seconds = u64::try_from(header.ts.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(header.ts.tv_usec).unwrap_or(0);
    UnixTime::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// From when a packet was captured to when it is judged.
struct Shift {
    first_at: Option<UnixTime>,
    first: Option<UnixTime>,
}

impl Shift {
    const fn new(first_at: Option<UnixTime>) -> Self {
        Self { first_at, first: None }
    }

    fn at(&mut self, captured: UnixTime) -> UnixTime {
        let first = *self.first.get_or_insert(captured);
        match self.first_at {
            None => captured,
            Some(at) if captured >= first => at.saturating_add(captured.distance(first)),
            Some(at) => at.saturating_sub(captured.distance(first)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    #[test]
    fn the_first_packet_sets_the_clock_and_the_others_keep_their_distance() {
        let mut shift = Shift::new(Some(at(1000)));
        let judged = [50, 53, 40].map(|captured| shift.at(at(captured)));
        assert_eq!(judged, [at(1000), at(1003), at(990)]);
        assert_eq!(Shift::new(None).at(at(50)), at(50));
    }
}

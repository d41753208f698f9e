//! `spa-keys sequence`: the key of a rolling sequence, a card to carry, a profile for a device.

use std::fmt::Write as _;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;
use spa_keys::file::FileError;
use spa_keys::rolling::{RollingProfile, create_key, key_file, load_key};
use spa_keys::units::{format_duration, format_time};
use spa_keys::{Exit, Failure};
use spa_proto::sequence::{Rolling, RollingKey, Stage};

use crate::cli::SequenceArgs;
use crate::context::Context;
use crate::server::RollingServer;

/// Whoever reads a card off needs longer than this for a line.
const CARD_STEP_S: u64 = 3600;

pub fn run(context: &Context, args: &SequenceArgs) -> Result<(), Failure> {
    let server = RollingServer::load(&context.paths.config, args.name.as_str())?;
    if args.new {
        return new(context, args);
    }
    let key = load_key(&context.paths.sequences, args.name.as_str()).map_err(|error| {
        let absent = error.is_absent();
        let failure = Failure::from(error);
        if absent {
            failure.hint(format!("spa-keys sequence {} --new", args.name))
        } else {
            failure
        }
    })?;
    match args.next {
        Some(next) => card(context, &server, &key, next.into()),
        None => profile(server, key),
    }
}

fn new(context: &Context, args: &SequenceArgs) -> Result<(), Failure> {
    let name = args.name.as_str();
    let key = RollingKey::generate(&mut UnwrapErr(SysRng));
    let file = key_file(&context.paths.sequences, name);
    match create_key(&context.paths.sequences, name, &key) {
        Err(error @ FileError::Exists { .. }) => {
            let hint = "the old file moved away first: its devices and cards are then worth nothing";
            return Err(Failure::from(error).hint(hint));
        }
        written => written?,
    }
    let facts = json!({ "name": name, "file": file });
    let reload = "a running daemon uses it after spa-server apply, or SIGHUP";
    context.answer(&facts, || format!("{} written; {reload}", file.display()))
}

/// The next sequences, as a text made for print.
fn card(context: &Context, server: &RollingServer, key: &RollingKey, next: u64) -> Result<(), Failure> {
    let rolling = &server.rolling;
    let first = rolling.step_at(context.now);
    let lines: Vec<(u64, Vec<Stage>)> = (first..first + next)
        .map(|step| (step, rolling.at(key, step)))
        .collect();
    let step_s = rolling.step.as_secs();
    if step_s < CARD_STEP_S {
        let step = format_duration(rolling.step);
        eprintln!(
            "hint: each line is good for {step} and its neighbours; for a card write step = \"1d\" in server.toml"
        );
    }
    let sequences = lines.iter().map(|(step, stages)| {
        let knocks: Vec<String> = stages.iter().map(Stage::to_string).collect();
        let (begins, ends) = (
            format_time(rolling.begin_of(*step)),
            format_time(rolling.begin_of(step + 1)),
        );
        json!({ "begins": begins, "ends": ends, "knocks": knocks })
    });
    let facts = json!({ "name": rolling.name, "service": server.service, "step_s": step_s, "sequences": sequences.collect::<Vec<_>>() });
    context.answer(&facts, || print(server, &lines))
}

fn print(server: &RollingServer, lines: &[(u64, Vec<Stage>)]) -> String {
    let Rolling { name, .. } = &server.rolling;
    let host = server
        .host
        .as_ref()
        .map_or_else(|| "the gateway".to_owned(), ToString::to_string);
    let mut text = format!(
        "{name}: opens {} at {host}\nEach line works once, from its time (UTC) on, and ends those above it.\n\n",
        server.service
    );
    let short = |time: &str| time.replace('T', " ").trim_end_matches(":00Z").to_owned();
    for (step, stages) in lines {
        let knocks: Vec<String> = stages.iter().map(Stage::to_string).collect();
        let begins = short(&format_time(server.rolling.begin_of(*step)));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[ ] {begins:<19}  {}", knocks.join("  "));
    }
    let example = lines.first().map_or_else(String::new, |(_, stages)| {
        let knocks: Vec<String> = stages.iter().map(|stage| stage.to_string().replace('/', ":")).collect();
        knocks.join(" ")
    });
    let _ = write!(text, "\nWith any knock program:  knock -d 200 {host} {example}");
    text
}

/// The text of the file that `spa-client knock --rolling` reads. It holds the key.
fn profile(server: RollingServer, key: RollingKey) -> Result<(), Failure> {
    let Some(host) = server.host else {
        let failure = Failure::new(Exit::Config, "server.toml does not say the gateway's host");
        return Err(failure.hint("host = \"gw.example.net\" under [gateway]"));
    };
    let profile = RollingProfile {
        host,
        rolling: server.rolling,
        key,
    };
    print!("{}", &*profile.to_text());
    eprintln!("to be put into ~/.config/spa/rolling/PROFILE.toml of one device, mode 0600; it holds the key");
    Ok(())
}

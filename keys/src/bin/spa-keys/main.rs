//! spa-keys: the gateway's keys and clients.

#![forbid(unsafe_code)]

mod add;
mod change;
mod cli;
mod context;
mod describe;
mod gateway;
mod invite;
mod last;
mod list;
mod sequence;
mod server;

use std::process::ExitCode;

use clap::Parser;
use spa_keys::{Exit, Failure};

use cli::{Cli, Command, GatewayCommand};
use context::Context;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}

/// Prints help or what is wrong with the arguments; help is no error.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage.into()
    } else {
        Exit::Done.into()
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let context = Context::new(&cli);
    match cli.command {
        Command::Invite(args) => invite::run(&context, args),
        Command::Add(args) => add::run(&context, args),
        Command::List => list::list(&context),
        Command::Show { name } => list::show(&context, &name),
        Command::Revoke { name } => change::revoke(&context, &name),
        Command::Restore { name } => change::restore(&context, &name),
        Command::Remove { name } => change::remove(&context, &name),
        Command::Set(args) => change::set(&context, args),
        Command::Sequence(args) => sequence::run(&context, &args),
        Command::Gateway {
            command: GatewayCommand::Show { secrets },
        } => gateway::show(&context, secrets),
    }
}

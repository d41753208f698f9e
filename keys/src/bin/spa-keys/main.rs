//! spa-keys: the gateway's keys and clients.

#![forbid(unsafe_code)]

mod add;
mod backup;
mod change;
mod cli;
mod context;
mod daemon;
mod describe;
mod export;
mod gateway;
mod import;
mod invite;
mod last;
mod list;
mod maker;
mod rename;
mod reset;
mod rotate;
mod sequence;
mod server;
mod show;
mod successors;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
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
        Command::Manual { folder } => cli::MANUAL.write(Cli::command(), &folder),
        Command::Invite(args) => invite::run(&context, args),
        Command::Add(args) => add::run(&context, args),
        Command::List => list::list(&context),
        Command::Show { name } => list::show(&context, &name),
        Command::Revoke { name } => change::revoke(&context, &name),
        Command::Restore { name } => change::restore(&context, &name),
        Command::Remove { name } => change::remove(&context, &name),
        Command::Set(args) => change::set(&context, args),
        Command::Sequence(args) => sequence::run(&context, &args),
        Command::Rename { name, to } => rename::run(&context, &name, &to),
        Command::Export { name, secrets, out } => export::run(&context, &name, secrets, out.as_deref()),
        Command::Import(args) => import::run(&context, args),
        Command::Backup { file } => backup::run(&context, &file),
        Command::ResetReplay { name, yes } => reset::run(&context, &name, yes),
        Command::Gateway { command } => gateway(&context, command),
    }
}

fn gateway(context: &Context, command: GatewayCommand) -> Result<(), Failure> {
    match command {
        GatewayCommand::Show { secrets } => gateway::show(context, secrets),
        GatewayCommand::Rotate { status: true, .. } => rotate::status::run(context),
        GatewayCommand::Rotate { invites, .. } => rotate::run(context, &invites),
        GatewayCommand::Reinvite { names, invites } => rotate::reinvite(context, &names, &invites),
        GatewayCommand::Drop {
            fingerprint,
            force,
            remove_replaced,
        } => rotate::drop::run(context, &fingerprint, force, remove_replaced),
    }
}

//! `spa-client`: the person's side. Enrolls a device and knocks.

use std::process::ExitCode;

use spa_keys::Exit;

mod cli;
mod clock;
mod enroll;
mod fire;
mod host;
mod invite;
mod knock;
mod label;
mod list;
mod out;
mod plan;
mod report;
mod salvo;
mod sequence;
mod verdict;
mod wait;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let exit = match Cli::read(std::env::args_os()) {
        Ok(cli) => run(&cli.command),
        Err(error) => refuse(&error),
    };
    exit.into()
}

fn run(command: &Command) -> Exit {
    match command {
        Command::Enroll(args) => enroll::run(args),
        Command::Open(args) => knock::open(args),
        Command::Close(args) => knock::close(args),
        Command::Knock(args) => sequence::run(args),
        Command::Profiles(args) => list::profiles(args),
        Command::Show(args) => list::show(args),
    }
}

/// Help and version come here too: they go to stdout and are no failure.
fn refuse(error: &clap::Error) -> Exit {
    // Nothing is left to tell it to when this fails.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

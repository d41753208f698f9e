//! `spa-client`: the person's side. Enrolls a device, knocks, and goes through the doors that open.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use spa_keys::Exit;

mod check;
mod cli;
mod clock;
mod code;
mod door;
mod enroll;
mod fire;
mod host;
mod invite;
mod knock;
mod label;
mod list;
mod load;
mod ntp;
mod out;
mod passwd;
mod plan;
mod proxy;
mod quote;
mod race;
mod relay;
mod report;
mod resolve;
mod salvo;
mod secret;
mod sequence;
mod signals;
mod ssh;
mod ssh_config;
mod stun;
mod verdict;
mod wait;
mod watch;
mod whom;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let exit = match Cli::read(std::env::args_os()) {
        Ok(cli) => run(&cli),
        Err(error) => refuse(&error),
    };
    exit.into()
}

fn run(cli: &Cli) -> Exit {
    load::passphrases_from(cli.passphrase_fd);
    match &cli.command {
        Command::Manual { folder } => manual(folder),
        Command::Enroll(args) => enroll::run(args),
        Command::Open(args) => knock::open(args),
        Command::Close(args) => knock::close(args),
        Command::Knock(args) => sequence::run(args),
        Command::Ssh(args) => ssh::ssh(args),
        Command::Proxy(args) => proxy::proxy(args),
        Command::Relay(args) => proxy::relay(args),
        Command::SshConfig(args) => ssh_config::ssh_config(args),
        Command::Profiles(args) => list::profiles(args),
        Command::Show(args) => list::show(args),
        Command::Passwd(args) => passwd::passwd(args),
        Command::Rename(args) => passwd::rename(args),
        Command::Forget(args) => passwd::forget(args),
        Command::Watch(args) => watch::watch(args),
        Command::Check(args) => check::check(args),
    }
}

fn manual(folder: &Path) -> Exit {
    match cli::MANUAL.write(Cli::command(), folder) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit
        }
    }
}

/// Help and version come here too: they go to stdout and are no failure.
fn refuse(error: &clap::Error) -> Exit {
    // Nothing is left to tell it to when this fails.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

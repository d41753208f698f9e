//! The gateway daemon and what talks to it.

use std::process::ExitCode;

use clap::Parser;
use spa_server::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}

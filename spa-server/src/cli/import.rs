//! `spa-server import`: from a knockd.conf to sequences and services.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use spa_keys::{Exit, Failure, escape::escape, file};

use crate::config::{Colour, render};
use crate::import::{import, noted};

/// What `import` is told.
#[derive(Args, Debug)]
pub(super) struct ImportArguments {
    /// A knockd.conf
    #[arg(value_name = "KNOCKD.CONF")]
    file: PathBuf,
    /// Write into this file, which must not exist; stdout unless told
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the text; what could not be carried over is told on stderr.
///
/// # Errors
///
/// When the file cannot be read or understood, when nothing could be carried over, when the output exists.
pub(super) fn run(arguments: &ImportArguments, as_json: bool) -> Result<(), Failure> {
    let file = &arguments.file;
    let text = read(file)?;
    let imported = import(&text).map_err(|error| Failure::new(Exit::Config, format!("{}, {error}", file.display())))?;
    for note in &imported.notes {
        eprintln!("note: {}", escape(&noted(file, note)));
    }
    if !imported.findings.is_empty() {
        eprint!("{}", render(&imported.findings, Colour::Never));
    }
    if imported.sequences == 0 {
        let what = format!("{}: nothing of it could be carried over", file.display());
        return Err(Failure::new(Exit::Failed, what));
    }
    if let Some(output) = &arguments.output {
        // It holds sequences, which are secret.
        file::create_new(output, imported.toml.as_bytes(), 0o600)?;
    }
    if as_json {
        println!(
            "{}",
            json!({ "toml": imported.toml, "notes": imported.notes, "sequences": imported.sequences })
        );
    } else if arguments.output.is_none() {
        print!("{}", imported.toml);
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
            _ => Exit::Config,
        };
        Failure::new(exit, format!("{}: {error}", file.display()))
    };
    // Nothing is lost by octets that are no UTF-8: they stand in comments, or a path that cannot be carried over.
    let octets = std::fs::read(file).map_err(failed)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

//! Reads files of test vectors and says how many pass: `check-vectors FILE...`.

mod checker;

use std::process::ExitCode;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: check-vectors FILE...");
        return ExitCode::from(64);
    }
    let mut tally = checker::Tally::default();
    for file in &files {
        match std::fs::read_to_string(file) {
            Ok(text) => tally.check_file(file, &text),
            Err(error) => tally.note(file, Err(error.to_string())),
        }
    }
    tally.failures.iter().for_each(|failure| println!("FAILED {failure}"));
    println!("{} passed, {} failed", tally.passed, tally.failures.len());
    if tally.failures.is_empty() && tally.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

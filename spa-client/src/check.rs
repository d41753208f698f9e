//! `check`: what works from here, and what does not, in plain words.

use spa_keys::profile::Profile;
use spa_keys::{Exit, Failure};

use crate::cli::CheckArgs;
use crate::clock::Clock;
use crate::load::{folder, load};
use crate::out::Form;

mod clocks;
mod findings;
mod network;
mod ports;

use findings::{Findings, State};

/// `spa-client check`.
pub(crate) fn check(args: &CheckArgs) -> Exit {
    let mut findings = Findings::new(&args.profile);
    let exit = match load(&args.profile) {
        Ok(profile) => {
            look(args, &profile, &mut findings);
            findings.exit()
        }
        Err(failure) => {
            findings.add_failure("file", &failure);
            findings.conclude(format!("nothing can be tried: {}", failure.what));
            failure.exit
        }
    };
    findings.print(Form::of(args.json));
    exit
}

fn look(args: &CheckArgs, profile: &Profile, findings: &mut Findings) {
    file(args, findings);
    let clock = Clock(args.clock.clock_offset.unwrap_or_default());
    clocks::look(args, profile, clock, findings);
    let reached = network::look(args, profile, findings);
    if args.no_knock {
        findings.add("port", State::Unknown, "not tried (--no-knock)".into(), None);
    } else {
        ports::look(args, profile, clock, &reached, findings);
    }
    let verdict = findings.verdict();
    findings.conclude(verdict);
}

/// Whoever may write the folder may put another file into a profile's place.
fn file(args: &CheckArgs, findings: &mut Findings) {
    use std::os::unix::fs::MetadataExt;
    let path = folder().map(|folder| folder.file(&args.profile)).unwrap_or_default();
    let Some(parent) = path.parent() else { return };
    match parent.metadata() {
        Ok(metadata) if metadata.mode() & 0o022 != 0 => findings.add(
            "file",
            State::Warning,
            format!(
                "{} may be written by others (mode {:04o})",
                parent.display(),
                metadata.mode() & 0o7777
            ),
            Some(format!("chmod go-w {}", parent.display())),
        ),
        Ok(_) => findings.add(
            "file",
            State::Ok,
            format!("{} is whole and yours alone", path.display()),
            None,
        ),
        Err(error) => {
            let failure = Failure::new(Exit::Failed, format!("cannot look at {}: {error}", parent.display()));
            findings.add_failure("file", &failure);
        }
    }
}

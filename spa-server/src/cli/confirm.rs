//! `spa-server confirm`: the change that was applied stays. It needs no daemon.

use serde_json::json;
use spa_keys::{Exit, Failure, Paths};

use crate::clock;
use crate::config::Source;
use crate::confirm::ledger::PATIENCE;
use crate::confirm::{Ledger, NotConfirmed, Record};

/// Confirms what waits.
///
/// # Errors
///
/// When nothing waits or it was undone already.
pub(super) fn confirm(paths: &Paths, as_json: bool) -> Result<(), Failure> {
    let ledger = Ledger::of(paths);
    // Asking must not make a state where there is none.
    let mut record = ledger.read()?;
    if record.pending.is_none() {
        let nothing = record.confirm(clock::uptime(), &clock::boot_id());
        return say(&ledger, &record, nothing, as_json);
    }
    let (outcome, record) = ledger.change(PATIENCE, |record| {
        (record.confirm(clock::uptime(), &clock::boot_id()), record.clone())
    })?;
    say(&ledger, &record, outcome, as_json)
}

fn say(ledger: &Ledger, record: &Record, outcome: Result<(), NotConfirmed>, as_json: bool) -> Result<(), Failure> {
    if as_json {
        println!("{}", facts(outcome.as_ref().err()));
    }
    if let Err(why) = outcome {
        return Err(refused(why, record.fault()));
    }
    if !as_json {
        println!("confirmed: the configuration in force stays");
    }
    if is_edited(ledger, record) {
        eprintln!(
            "warning: {} was edited since it was applied; that is not in force",
            ledger.config.display()
        );
        eprintln!("  try: spa-server apply --confirm 2m");
    }
    Ok(())
}

fn facts(why: Option<&NotConfirmed>) -> serde_json::Value {
    let undone = match why {
        Some(NotConfirmed::Undone(undone)) => Some(undone),
        _ => None,
    };
    json!({
        "confirmed": why.is_none(),
        "undone": undone.map(|undone| &undone.at),
        "rejected": undone.and_then(|undone| undone.rejected.as_ref()),
    })
}

fn refused(why: NotConfirmed, fault: Option<&str>) -> Failure {
    let failed = |what: String| Failure::new(Exit::Failed, what);
    match why {
        NotConfirmed::Nothing => failed("nothing waits to be confirmed".into()).hint("spa-server status"),
        NotConfirmed::Late => {
            let fault = fault.map_or_else(String::new, |fault| format!("; the last try failed: {fault}"));
            let what =
                format!("too late: its time is over, and it is being undone, or will be by the next start{fault}");
            failed(what).hint("spa-server status")
        }
        NotConfirmed::NeverLoaded => failed(
            "no daemon has loaded the change, so there is nothing to confirm; it is not undone any more either".into(),
        )
        .hint("spa-server apply --confirm 2m"),
        NotConfirmed::Undone(undone) => {
            let failure = failed(format!("too late: it was undone at {}", undone.at));
            match undone.rejected {
                Some(path) => failure.hint(format!("look at {}, where the edited file is now", path.display())),
                None => failure.hint("spa-server status"),
            }
        }
    }
}

fn is_edited(ledger: &Ledger, record: &Record) -> bool {
    let text = |source: &Source| source.text.clone();
    let there = Source::read(&ledger.config).ok();
    there.as_ref().map(text) != record.confirmed.as_ref().map(text)
}

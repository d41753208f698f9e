//! `spa-server apply`: server.toml into the running daemon, for good or until it is confirmed.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use spa_keys::escape::escape;
use spa_keys::units::{format_duration, format_time, parse_duration};
use spa_keys::{Control, ControlError, Exit, Failure, Paths};

use super::{Places, end};
use crate::clock;
use crate::config::{Colour, Finding, render};
use crate::confirm::ledger::PATIENCE;
use crate::confirm::{Ledger, Pending, armed};

/// How long the daemon may take: it judges what has come before, and a host may have many rules.
const DAEMON_PATIENCE: Duration = Duration::from_mins(1);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(24);

/// How long a change may wait to be confirmed.
pub(super) fn confirm_within(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text).map_err(|error| error.to_string())?;
    if (SHORTEST..=LONGEST).contains(&length) {
        Ok(length)
    } else {
        Err("expected between 1s and 24h, such as 2m".to_owned())
    }
}

/// What came of it: the exit code, the facts for `--json`, and the text for people.
struct Outcome {
    exit: Exit,
    facts: Value,
    text: String,
}

/// Loads server.toml, with a way back where `confirm` says how long it is open.
pub(super) fn apply(places: &Places, confirm: Option<Duration>) -> ExitCode {
    let paths = places.paths();
    let outcome = match confirm {
        None => load(&paths, None).map(|answer| outcome(&answer, None)),
        Some(length) => on_trial(places, &paths, length),
    };
    match outcome {
        Ok(outcome) => say(&outcome, places.json),
        Err(failure) => {
            if places.json {
                println!("{}", facts(&json!({ "message": failure.what }), None));
            }
            end(Err(failure))
        }
    }
}

fn say(outcome: &Outcome, as_json: bool) -> ExitCode {
    if as_json {
        println!("{}", outcome.facts);
    }
    if outcome.exit != Exit::Done {
        eprint!("{}", outcome.text);
    } else if !as_json {
        print!("{}", outcome.text);
    }
    outcome.exit.into()
}

fn ask(paths: &Paths, method: &str, nonce: Option<&str>) -> Result<Value, ControlError> {
    let mut control = Control::connect_within(&paths.control_socket(), DAEMON_PATIENCE)?;
    let parameters = match method {
        "spa.Prepare" => json!({ "config": Ledger::of(paths).config }),
        _ => json!({ "config": Ledger::of(paths).config, "nonce": nonce }),
    };
    control.call(method, &parameters).map(Value::Object)
}

fn load(paths: &Paths, nonce: Option<&str>) -> Result<Value, Failure> {
    ask(paths, "spa.Apply", nonce).map_err(Failure::from)
}

/// A trial that was written down, and the one whose place it took.
struct Armed {
    nonce: String,
    before: Option<Pending>,
    until: String,
}

fn on_trial(places: &Places, paths: &Paths, length: Duration) -> Result<Outcome, Failure> {
    let prepared = ask(paths, "spa.Prepare", None).map_err(Failure::from)?;
    if prepared["ok"] != true {
        return Ok(outcome(&prepared, None));
    }
    let ledger = Ledger::of(paths);
    let armed = arm(&ledger, length)?;
    if let Err(error) = armed::spawn(&armed.nonce, &places.absolute()) {
        disarm(&ledger, armed)?;
        let what = format!("nothing was changed: the process that would undo it cannot be started: {error}");
        return Err(Failure::new(Exit::Failed, what));
    }
    match ask(paths, "spa.Apply", Some(&armed.nonce)) {
        Ok(answer) if answer["ok"] == true => Ok(outcome(&answer, Some((&armed.until, length, places)))),
        Ok(answer) => {
            disarm(&ledger, armed)?;
            Ok(outcome(&answer, None))
        }
        Err(error @ ControlError::Refused { .. }) => {
            disarm(&ledger, armed)?;
            Err(error.into())
        }
        Err(error) => Err(unheard(error, &armed.until, places)),
    }
}

fn arm(ledger: &Ledger, length: Duration) -> Result<Armed, Failure> {
    let random = getrandom::u64().map_err(|error| Failure::new(Exit::Failed, error))?;
    let nonce = format!("{random:016x}");
    let until = format_time(clock::wall().saturating_add(length));
    let before = ledger.change(PATIENCE, |record| {
        record.arm(&nonce, &clock::boot_id(), clock::uptime() + length)
    })?;
    Ok(Armed { nonce, before, until })
}

fn disarm(ledger: &Ledger, armed: Armed) -> Result<(), Failure> {
    ledger.change(PATIENCE, |record| record.disarm(&armed.nonce, armed.before))
}

/// The daemon ended or is stuck: whatever it has done by now is undone in time.
fn unheard(error: ControlError, until: &str, places: &Places) -> Failure {
    let failure = Failure::from(error);
    let what = format!(
        "{}\nwhether the new configuration is in force is not known; at {until} the old one comes back by itself",
        failure.what
    );
    Failure::new(failure.exit, what).hint(places.command("status"))
}

/// A trial's end, its length, and the options for the command to type.
type Until<'a> = (&'a str, Duration, &'a Places);

fn outcome(answer: &Value, until: Option<Until<'_>>) -> Outcome {
    let exit = match answer["exit"].as_u64() {
        None => Exit::Done,
        Some(78) => Exit::Config,
        Some(77) => Exit::NoPermission,
        Some(_) => Exit::Failed,
    };
    Outcome {
        exit,
        facts: facts(answer, until),
        text: if exit == Exit::Done {
            applied(answer, until)
        } else {
            refused(answer)
        },
    }
}

fn facts(answer: &Value, until: Option<Until<'_>>) -> Value {
    let ok = answer["ok"] == true;
    json!({
        "applied": ok,
        "confirmed": ok && until.is_none(),
        "until": until.map(|(until, ..)| until),
        "changes": answer.get("changes").unwrap_or(&json!([])),
        "findings": answer.get("findings").unwrap_or(&json!([])),
        "message": answer["message"],
    })
}

fn applied(answer: &Value, until: Option<Until<'_>>) -> String {
    let findings: Vec<Finding> = serde_json::from_value(answer["findings"].clone()).unwrap_or_default();
    let mut text = render(&findings, Colour::Never);
    let changes: Vec<_> = answer["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    text += "the new configuration is in force";
    text += if changes.is_empty() { "; it means the same" } else { ":" };
    for change in changes {
        text += "\n  ";
        text += &escape(change);
    }
    text.push('\n');
    let Some((until, length, places)) = until else {
        return text;
    };
    let confirm = places.command("confirm");
    text + &format!(
        "it is not confirmed. Within {}, until {until}:\n  1. open a NEW connection to this host; leave this one open\n  2. if that works: {confirm}\n\
        Otherwise the edited file is renamed to {}.rejected, and the old one comes back with its rules.\n",
        format_duration(length),
        places.paths().config.file_name().unwrap_or_default().display(),
    )
}

fn refused(answer: &Value) -> String {
    let rendered = answer["rendered"].as_str().unwrap_or_default();
    if !rendered.is_empty() {
        let lines: Vec<_> = rendered.lines().map(escape).collect();
        return lines.join("\n") + "\nthe old configuration stays in force\n";
    }
    let what = answer["message"].as_str().unwrap_or("the daemon refused");
    let mut failure = Failure::new(Exit::Failed, format!("{what}\nthe old configuration stays in force"));
    failure.hints = answer["hints"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    format!("{failure}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_second_to_a_day() {
        assert_eq!(confirm_within("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(
            (confirm_within("1s").is_ok(), confirm_within("24h").is_ok()),
            (true, true)
        );
        for wrong in ["0s", "25h", "120", "soon", ""] {
            assert!(confirm_within(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_trial_says_what_to_do_and_until_when() {
        let places = Places {
            dir: Some("/x".into()),
            config: None,
            json: false,
        };
        let answer = json!({ "ok": true, "changes": ["service web: new"], "findings": [] });
        let said = outcome(&answer, Some(("2026-11-22T19:00:00Z", Duration::from_mins(2), &places)));
        insta::assert_snapshot!(said.text, @r"
        the new configuration is in force:
          service web: new
        it is not confirmed. Within 2m, until 2026-11-22T19:00:00Z:
          1. open a NEW connection to this host; leave this one open
          2. if that works: spa-server confirm --dir /x
        Otherwise the edited file is renamed to server.toml.rejected, and the old one comes back with its rules.
        ");
        insta::assert_snapshot!(said.facts.to_string(), @r#"{"applied":true,"confirmed":false,"until":"2026-11-22T19:00:00Z","changes":["service web: new"],"findings":[],"message":null}"#);
    }

    #[test]
    fn a_refusal_ends_with_its_code() {
        let answer = json!({ "ok": false, "exit": 1, "message": "iptables: no", "hints": ["modprobe x"], "findings": [], "rendered": "" });
        let said = outcome(&answer, None);
        assert_eq!(said.exit, Exit::Failed);
        assert_eq!(
            said.text,
            "error: iptables: no\nthe old configuration stays in force\n  try: modprobe x\n"
        );
        assert_eq!(said.facts["applied"], false);
    }
}

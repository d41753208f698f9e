//! `spa-server audit verify`.

use clap::Args;
use serde_json::{Value, json};
use spa_keys::escape::escape;
use spa_keys::{Control, Exit, Failure, Paths, text};

use super::{none_there, unread};
use crate::audit::chain::Followed;
use crate::audit::line::digest;
use crate::audit::read::{Place, Reading, read};
use crate::audit::{Break, Line};

/// What was seen before.
#[derive(Args, Debug)]
pub(in super::super) struct VerifyArguments {
    /// A hash that an earlier verify printed: fails unless the log still holds all that was there then
    #[arg(long, value_name = "HASH", value_parser = hash)]
    from: Option<[u8; 32]>,
    /// The hash that the log must end with: fails when anything was cut off or added
    #[arg(long, value_name = "HASH", value_parser = hash)]
    head: Option<[u8; 32]>,
}

fn hash(text: &str) -> Result<[u8; 32], String> {
    digest(text).ok_or_else(|| "expected the 43 characters that `audit verify` prints".to_owned())
}

/// What is said of the log.
#[derive(Default)]
struct Verdict {
    files: Vec<String>,
    chain: Option<Followed>,
    bad: Option<(Place, Break)>,
    last_at: Option<String>,
    /// The line whose hash was seen before.
    from: Option<u64>,
    /// Whether the last line of a running daemon is in it.
    daemon: Option<bool>,
    faults: Vec<String>,
}

pub(super) fn verify(paths: &Paths, as_json: bool, arguments: &VerifyArguments) -> Result<(), Failure> {
    // Asked first: what it has written by then must be there when the files are read.
    let written = head_of_daemon(paths);
    let verdict = judge(paths, arguments, written)?;
    if as_json {
        println!("{}", verdict.to_json());
    } else if verdict.faults.is_empty() {
        print!("{}", verdict.render());
    }
    if verdict.faults.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Failed, verdict.faults.join("\n"));
    Err(failure.hint("docs/audit.md says what each of this means; keep a copy of the files before anything else"))
}

fn judge(paths: &Paths, arguments: &VerifyArguments, written: Option<[u8; 32]>) -> Result<Verdict, Failure> {
    let mut verdict = Verdict {
        daemon: written.map(|_| false),
        ..Verdict::default()
    };
    let each = |line: Line| {
        if arguments.from == Some(line.hash) {
            verdict.from = Some(line.n);
        }
        if written == Some(line.hash) {
            verdict.daemon = Some(true);
        }
        verdict.last_at = Some(line.at);
    };
    let Reading { files, chain } = read(&paths.state, each).map_err(|error| unread(&paths.state, &error))?;
    if files.is_empty() {
        return Err(none_there(&paths.state));
    }
    verdict.files = files;
    match chain {
        Ok(chain) => verdict.chain = Some(chain),
        Err(bad) => verdict.bad = Some(bad),
    }
    verdict.faults = verdict.faults(arguments);
    Ok(verdict)
}

/// The last line that a running daemon has written, where one can be asked.
fn head_of_daemon(paths: &Paths) -> Option<[u8; 32]> {
    let mut control = Control::connect(&paths.control_socket()).ok()?;
    let audit = control.call("spa.AuditHead", &Value::Null).ok()?;
    (audit["lines"].as_u64()? > 0).then(|| digest(audit["head"].as_str()?))?
}

impl Verdict {
    fn faults(&self, arguments: &VerifyArguments) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some((place, broken)) = &self.bad {
            faults.push(format!("{place}: {broken}"));
        }
        if arguments.from.is_some() && self.from.is_none() {
            faults.push(match self.chain.and_then(|chain| chain.first) {
                Some(first) if first > 1 => format!(
                    "the line with the hash of --from is not there; lines before number {first} are not kept any more"
                ),
                _ => "the line with the hash of --from is not there: what was seen then was changed or cut off".into(),
            });
        }
        let head = self.chain.and_then(|chain| chain.head);
        if let Some(due) = arguments.head.filter(|_| self.bad.is_none())
            && head.is_none_or(|head| head.hash != due)
        {
            faults.push("the log does not end with the hash of --head: lines were cut off or added".into());
        }
        if self.daemon == Some(false) {
            faults.push("the last line that the running daemon has written is not there".into());
        }
        faults
    }

    fn render(&self) -> String {
        let Some(Followed {
            first,
            head: Some(head),
            unfinished,
            torn,
        }) = self.chain
        else {
            return "the audit log has no line yet\n".into();
        };
        let first = first.unwrap_or(1);
        let mut told = vec![format!(
            "whole: lines {first} to {} in {}",
            head.n,
            self.files.join(", ")
        )];
        if first > 1 {
            told.push(format!("older lines, 1 to {}, are not kept any more", first - 1));
        }
        if torn > 0 {
            told.push(format!(
                "interrupted writes, each accounted for by the line behind it: {torn}"
            ));
        }
        if unfinished > 0 {
            told.push(format!(
                "{unfinished} octets at the end are a line that is not finished"
            ));
        }
        if let Some(from) = self.from {
            let since = head.n - from;
            told.push(format!(
                "what is kept of what was seen before, lines {first} to {from}, is unchanged; lines since: {since}"
            ));
        }
        if self.daemon == Some(true) {
            told.push("the running daemon's last line is there".to_owned());
        }
        let at = escape(self.last_at.as_deref().unwrap_or_default());
        told.push(format!("head: {} (line {}, {at})", text::encode(&head.hash), head.n));
        told.join("\n") + "\n"
    }

    fn to_json(&self) -> Value {
        let chain = self.chain;
        let head = chain.and_then(|chain| chain.head);
        let bad = self
            .bad
            .as_ref()
            .map(|(place, broken)| json!({ "file": place.file, "line": place.line, "text": broken.to_string() }));
        json!({
            "ok": self.faults.is_empty(),
            "files": self.files,
            "first": chain.and_then(|chain| chain.first),
            "lines": head.map_or(0, |head| head.n),
            "head": head.map(|head| text::encode(&head.hash)),
            "at": self.last_at,
            "torn": chain.map(|chain| chain.torn),
            "unfinished": chain.map(|chain| chain.unfinished),
            "from": self.from,
            "daemon": self.daemon,
            "bad": bad,
            "faults": self.faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::audit::{Event, Head, files, line};

    /// Three lines; with them the hash of each.
    fn log() -> (tempfile::TempDir, Vec<[u8; 32]>) {
        let dir = tempfile::tempdir().unwrap();
        let (mut head, mut text, mut hashes) = (Head::default(), String::new(), Vec::new());
        for _ in 0..3 {
            let (line, next) = line::seal(&head, "2026-11-22T22:00:00Z", &Event::Confirmed);
            text += &(line + "\n");
            hashes.push(next.hash);
            head = next;
        }
        let paths = Paths::new(Some(dir.path()), None);
        fs::create_dir(&paths.state).unwrap();
        fs::write(files::path(&paths.state, 0), text).unwrap();
        (dir, hashes)
    }

    fn verdict(dir: &Path, from: Option<[u8; 32]>, head: Option<[u8; 32]>, daemon: Option<[u8; 32]>) -> Verdict {
        let arguments = VerifyArguments { from, head };
        judge(&Paths::new(Some(dir), None), &arguments, daemon).unwrap()
    }

    #[test]
    fn a_whole_log_is_said_to_be_whole() {
        let (dir, hashes) = log();
        let said = verdict(dir.path(), Some(hashes[0]), Some(hashes[2]), Some(hashes[1]));
        assert_eq!(said.faults, [""; 0]);
        insta::assert_snapshot!(said.render(), @r#"
        whole: lines 1 to 3 in audit.log
        what is kept of what was seen before, lines 1 to 1, is unchanged; lines since: 2
        the running daemon's last line is there
        head: znBF_C8gAEW9eLheYtPdhMWG1qDPMIgs8IP1C7QEmAI (line 3, 2026-11-22T22:00:00Z)
        "#);
        insta::assert_snapshot!(said.to_json(), @r#"{"ok":true,"files":["audit.log"],"first":1,"lines":3,"head":"znBF_C8gAEW9eLheYtPdhMWG1qDPMIgs8IP1C7QEmAI","at":"2026-11-22T22:00:00Z","torn":0,"unfinished":0,"from":1,"daemon":true,"bad":null,"faults":[]}"#);
    }

    #[test]
    fn a_tail_that_was_cut_off_shows_against_what_is_known_elsewhere() {
        let (dir, hashes) = log();
        let file = files::path(&dir.path().join("state"), 0);
        let text = fs::read_to_string(&file).unwrap();
        let two: String = text.split_inclusive('\n').take(2).collect();
        fs::write(&file, two).unwrap();
        assert_eq!(verdict(dir.path(), None, None, None).faults, [""; 0]);
        let said = verdict(dir.path(), Some(hashes[2]), Some(hashes[2]), Some(hashes[2]));
        insta::assert_snapshot!(said.faults.join("\n"), @r#"
        the line with the hash of --from is not there: what was seen then was changed or cut off
        the log does not end with the hash of --head: lines were cut off or added
        the last line that the running daemon has written is not there
        "#);
        assert!(verdict(dir.path(), Some(hashes[1]), None, None).faults.is_empty());
    }

    #[test]
    fn a_bad_line_is_named() {
        let (dir, _) = log();
        let file = files::path(&dir.path().join("state"), 0);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen("\"n\":2", "\"n\":9", 1)).unwrap();
        let said = verdict(dir.path(), None, None, None);
        insta::assert_snapshot!(said.to_json(), @r#"{"ok":false,"files":["audit.log"],"first":null,"lines":0,"head":null,"at":"2026-11-22T22:00:00Z","torn":null,"unfinished":null,"from":null,"daemon":null,"bad":{"file":"audit.log","line":2,"text":"the line was changed: its hash is another"},"faults":["audit.log, line 2: the line was changed: its hash is another"]}"#);
    }

    #[test]
    fn without_a_log_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = VerifyArguments { from: None, head: None };
        let failure = verify(&Paths::new(Some(dir.path()), None), false, &arguments).unwrap_err();
        assert_eq!((failure.exit, failure.hints.len()), (Exit::Failed, 1));
    }
}

//! What `check` found, to a person and to a script.

use std::io::{self, IsTerminal};

use serde::Serialize;
use spa_keys::profile::ProfileName;
use spa_keys::{Exit, Failure};

use crate::out::{self, Form};

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Warning,
    Error,
    /// Nothing here can tell.
    Unknown,
}

#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    text: String,
    #[serde(rename = "try")]
    hint: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    profile: String,
    ok: bool,
    verdict: String,
    checks: Vec<Finding>,
}

impl Findings {
    pub(super) fn new(profile: &ProfileName) -> Self {
        Self {
            profile: profile.to_string(),
            ok: true,
            verdict: String::new(),
            checks: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, name: &'static str, state: State, text: String, hint: Option<String>) {
        self.ok &= state != State::Error;
        self.checks.push(Finding {
            name,
            state,
            text,
            hint,
        });
    }

    pub(super) fn add_failure(&mut self, name: &'static str, failure: &Failure) {
        self.add(name, State::Error, failure.what.clone(), failure.hints.first().cloned());
    }

    pub(super) fn conclude(&mut self, verdict: String) {
        self.verdict = verdict;
    }

    /// What it comes to: the first error is the likeliest cause of those after it.
    pub(super) fn verdict(&self) -> String {
        let of = |state| move |finding: &&Finding| finding.state == state;
        let doors: Vec<_> = self.checks.iter().filter(|finding| finding.name == "port").collect();
        let open: Vec<_> = doors.iter().filter(|finding| finding.state == State::Ok).collect();
        let shut = doors
            .iter()
            .any(|finding| matches!(finding.state, State::Warning | State::Error));
        let worst = self.checks.iter().find(of(State::Error));
        let worst = worst.or_else(|| self.checks.iter().find(of(State::Warning)));
        match (open.is_empty(), shut, worst) {
            (false, false, None) => "all is well: the door opens from here".into(),
            (false, false, Some(worst)) => format!("the door opens from here; but {}", worst.text),
            (false, true, _) => "the door opens from here, but not by every way: see the lines `port`".into(),
            (true, _, Some(worst)) => format!("likely cause: {}", worst.text),
            (true, _, None) => "nothing wrong was found; no door was tried".into(),
        }
    }

    pub(super) const fn exit(&self) -> Exit {
        if self.ok { Exit::Done } else { Exit::Failed }
    }

    pub(super) fn print(&self, form: Form) {
        match form {
            Form::Json => out::object(self),
            Form::Text => self.print_text(),
        }
    }

    fn print_text(&self) {
        let is_coloured =
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        for finding in &self.checks {
            out::fact_marked(
                finding.state.mark(is_coloured),
                &format!("{:6} {}", finding.name, finding.text),
            );
            if let Some(hint) = &finding.hint {
                out::fact(&format!("                try: {hint}"));
            }
        }
        out::fact(&self.verdict);
    }
}

impl State {
    /// Of one width.
    const fn mark(self, is_coloured: bool) -> &'static str {
        match (self, is_coloured) {
            (Self::Ok, false) => "ok       ",
            (Self::Ok, true) => "\u{1b}[32mok\u{1b}[m       ",
            (Self::Warning, false) => "warning  ",
            (Self::Warning, true) => "\u{1b}[33mwarning\u{1b}[m  ",
            (Self::Error, false) => "error    ",
            (Self::Error, true) => "\u{1b}[31merror\u{1b}[m    ",
            (Self::Unknown, _) => "unknown  ",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(found: &[(&'static str, State)]) -> String {
        let mut findings = Findings::new(&"gw".parse().unwrap());
        for (name, state) in found {
            findings.add(name, *state, format!("{name} is so"), None);
        }
        findings.verdict()
    }

    #[test]
    fn verdicts_are_plain() {
        use State::{Error, Ok, Unknown, Warning};
        assert_eq!(
            verdict(&[("clock", Ok), ("port", Ok)]),
            "all is well: the door opens from here"
        );
        assert_eq!(
            verdict(&[("clock", Warning), ("port", Ok)]),
            "the door opens from here; but clock is so"
        );
        assert!(verdict(&[("port", Ok), ("port", Warning)]).contains("not by every way"));
        assert_eq!(
            verdict(&[("clock", Warning), ("route", Error), ("port", Error)]),
            "likely cause: route is so"
        );
        assert_eq!(
            verdict(&[("clock", Ok), ("port", Unknown)]),
            "nothing wrong was found; no door was tried"
        );
    }
}

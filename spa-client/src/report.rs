//! What `open` and `close` answer, to a person and to a script.

use serde::Serialize;
use spa_keys::{Exit, Failure};
use spa_proto::ServiceName;

use crate::out::{self, Form};
use crate::salvo::{Sent, Tally};

/// What is known of a service's door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Asked for.
    Sent,
    /// A connection stood.
    Open,
    /// Not asked for, or no connection stood.
    Closed,
}

/// The answer, as it comes together.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    sent: Vec<Sent>,
    services: Vec<ServiceState>,
    hints: Vec<String>,
    /// Lines for a person, printed when all went well.
    #[serde(skip)]
    facts: Vec<String>,
    /// Why it probably did not, printed otherwise.
    #[serde(skip)]
    causes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ServiceState {
    name: String,
    state: State,
}

impl Report {
    /// Nothing sent yet.
    pub(crate) fn new(services: &[ServiceName]) -> Self {
        let closed = |name: &ServiceName| ServiceState {
            name: name.to_string(),
            state: State::Closed,
        };
        Self {
            sent: Vec::new(),
            services: services.iter().map(closed).collect(),
            hints: Vec::new(),
            facts: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Warns at once, and keeps the warning for the script.
    pub(crate) fn warn(&mut self, warning: impl IntoIterator<Item = String>) {
        for warning in warning {
            out::tell("warning", &warning);
            self.hints.push(warning);
        }
    }

    /// Takes over what was sent.
    pub(crate) fn take(&mut self, tally: Tally) {
        self.warn(tally.hints());
        self.sent.extend(tally.sent);
    }

    /// Says for service after service how its door is.
    pub(crate) fn set(&mut self, states: impl IntoIterator<Item = State>) {
        for (service, state) in self.services.iter_mut().zip(states) {
            service.state = state;
        }
    }

    /// Adds a line for a person.
    pub(crate) fn fact(&mut self, line: String) {
        self.facts.push(line);
    }

    /// Adds what a script should know; a person sees it in the facts.
    pub(crate) fn hint(&mut self, hint: &str) {
        self.hints.push(hint.into());
    }

    /// Adds what probably went wrong.
    pub(crate) fn causes(&mut self, causes: Vec<String>) {
        self.causes = causes;
    }

    /// Prints it all.
    pub(crate) fn finish(mut self, outcome: Result<(), Failure>, form: Form) -> Exit {
        let exit = match outcome {
            Ok(()) => Exit::Done,
            Err(failure) => self.fail(failure),
        };
        match form {
            Form::Json => out::object(&self),
            Form::Text if exit == Exit::Done => self.facts.iter().for_each(|line| out::fact(line)),
            Form::Text => {}
        }
        exit
    }

    fn fail(&mut self, failure: Failure) -> Exit {
        out::failure(&failure);
        for cause in &self.causes {
            out::tell("likely cause", cause);
        }
        self.hints.push(failure.what);
        self.hints.extend(failure.hints);
        self.hints.append(&mut self.causes);
        failure.exit
    }
}

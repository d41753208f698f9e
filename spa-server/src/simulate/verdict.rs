//! What came of one packet: the steps it passed and the one it did not, for people and as JSON.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::refusals::Reason;

/// A step that was passed, with what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The reason that it would have been refused for, which names it.
    pub reason: Reason,
    /// What was found.
    pub fact: String,
}

impl Step {
    /// A step of that name.
    #[must_use]
    pub fn of(reason: Reason, fact: impl Into<String>) -> Self {
        Self {
            reason,
            fact: fact.into(),
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("step", &self.reason.step())?;
        map.serialize_entry("name", self.reason.name())?;
        map.serialize_entry("fact", &self.fact)?;
        map.end()
    }
}

/// Why a packet was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The protocol's step.
    pub step: u8,
    /// The reason.
    pub reason: Reason,
    /// One plain clause.
    pub detail: String,
    /// The timestamp minus the gateway's clock, where that is the reason.
    pub difference_s: Option<i64>,
    /// What to try.
    pub tries: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It would do this.
    Accepted(Vec<String>),
    /// It would do nothing.
    Refused(Refused),
    /// It was seen through another interface a moment before, and judged then.
    Twice,
}

/// One packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The steps that it passed.
    pub steps: Vec<Step>,
    /// Whose key sealed it, where that is proven.
    pub client: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

impl Verdict {
    pub(super) const fn new(steps: Vec<Step>, client: Option<String>, outcome: Outcome) -> Self {
        Self { steps, client, outcome }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "  {} {:<8} {}", step.reason.step(), step.reason.name(), step.fact)?;
        }
        match &self.outcome {
            Outcome::Twice => writeln!(f, "  seen through another interface before: not judged again"),
            Outcome::Accepted(acts) => acts.iter().try_for_each(|act| writeln!(f, "  accepted: {act}")),
            Outcome::Refused(refused) => {
                let Refused {
                    step, reason, detail, ..
                } = refused;
                writeln!(f, "  refused at step {step}, {}: {detail}", reason.name())?;
                refused.tries.iter().try_for_each(|hint| writeln!(f, "    try: {hint}"))
            }
        }
    }
}

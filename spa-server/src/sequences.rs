//! Which sequences are looked for at a moment: their ports, what is used up of them, and what a complete one opens.
//!
//! Loading reads key files and lists; everything after that is pure.

mod inspect;
mod used;

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};
use spa_keys::file::{Limits, read_text};
use spa_keys::{Failure, Paths, rolling};
use spa_proto::UnixTime;
use spa_proto::sequence::{Pattern, Rolling, RollingKey, SequenceId, Stage};

use crate::config::{OneTime, Sequence, SequenceKind, TurnsError, lines, turns};

pub use inspect::inspect;
pub use used::Used;

/// How many of a list are looked for: who believes that one was used, though it never arrived, may go on.
const LOOK_AHEAD: usize = 3;

/// Every sequence with what it is made of.
#[derive(Debug, Default)]
pub struct Sequences {
    list: Vec<Ready>,
    /// The place of the first: a sequence that was completed under another configuration is nobody's.
    first: usize,
}

/// A sequence and its secret.
#[derive(Debug)]
struct Ready {
    sequence: Sequence,
    ports: Ports,
}

#[derive(Debug)]
enum Ports {
    Fixed(Vec<Stage>),
    List(Vec<Vec<Stage>>),
    Rolling(Rolling, RollingKey),
}

/// A sequence whose key or list cannot be used.
#[derive(Clone, Debug)]
pub struct Unusable {
    /// Its name.
    pub sequence: String,
    /// What is wrong, with what to try.
    pub failure: Failure,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sequence {}: {}", self.sequence, self.failure.what)
    }
}

/// What a complete sequence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whoever has seen it can repeat it.
    Replayable,
    /// One of a list.
    OneTime,
    /// Today's.
    Rolling,
}

impl Kind {
    /// What the log calls it.
    #[must_use]
    pub const fn marked(self) -> &'static str {
        match self {
            Self::Replayable => "sequence (replayable)",
            Self::OneTime => "sequence (one-time)",
            Self::Rolling => "sequence (rolling)",
        }
    }
}

impl Sequences {
    /// Reads what the sequences of a configuration are made of. Those that cannot be used are left out, each with why.
    #[must_use]
    pub fn load(config: &[Sequence], paths: &Paths) -> (Self, Vec<Unusable>) {
        let (mut list, mut unusable) = (Vec::new(), Vec::new());
        for sequence in config {
            match ports(sequence, paths) {
                Ok(ports) => list.push(Ready {
                    sequence: sequence.clone(),
                    ports,
                }),
                Err(failure) => unusable.push(Unusable {
                    sequence: sequence.name.clone(),
                    failure,
                }),
            }
        }
        (Self { list, first: 0 }, unusable)
    }

    /// The same, in the place of these.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.first = before.first + before.list.len();
        self
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What to look for at `now`.
    #[must_use]
    pub fn patterns(&self, now: UnixTime, used: &Used) -> Vec<Pattern> {
        let all = self.list.iter().enumerate().flat_map(|(place, ready)| {
            let turns = ready.turns(now, used);
            turns.into_iter().map(move |(turn, stages)| Pattern {
                id: SequenceId {
                    place: self.first + place,
                    turn,
                },
                stages,
                within: ready.sequence.within,
            })
        });
        all.collect()
    }

    /// The sequence that was completed; none of another configuration.
    #[must_use]
    pub fn get(&self, id: SequenceId) -> Option<(&Sequence, Kind)> {
        let ready = self.ready(id)?;
        Some((&ready.sequence, ready.kind()))
    }

    /// Uses it up; none when it was used already or its time is over. What changed is to be made durable before
    /// anything opens.
    pub fn spend(&self, id: SequenceId, now: UnixTime, used: &mut Used) -> Option<()> {
        let ready = self.ready(id)?;
        let stages = ready.turns(now, used).into_iter().find(|(turn, _)| *turn == id.turn)?.1;
        match &ready.ports {
            Ports::Fixed(_) => {}
            Ports::List(list) => {
                let passed = list.iter().take_while(|other| **other != stages).chain([&stages]);
                used.pass(&ready.sequence.name, passed.map(|stages| digest(stages)));
            }
            Ports::Rolling(rolling, key) => used.step_to(&ready.sequence.name, key_digest(rolling, key), id.turn + 1),
        }
        Some(())
    }

    /// What was used is not known any more: nothing that may have been works again.
    pub fn spend_all(&self, now: UnixTime, used: &mut Used) {
        for ready in &self.list {
            let name = &ready.sequence.name;
            match &ready.ports {
                Ports::Fixed(_) => {}
                Ports::List(list) => used.pass(name, list.iter().map(|stages| digest(stages))),
                // Also the next step's may have been used.
                Ports::Rolling(rolling, key) => {
                    used.step_to(name, key_digest(rolling, key), rolling.step_at(now).saturating_add(2));
                }
            }
        }
    }

    /// What people should be told: lists that run out, keys that were used at a later time than now.
    #[must_use]
    pub fn warnings(&self, now: UnixTime, used: &Used) -> Vec<String> {
        let warning = |ready: &Ready| {
            let name = &ready.sequence.name;
            match &ready.ports {
                Ports::Fixed(_) => None,
                Ports::List(list) => {
                    let left = list
                        .iter()
                        .filter(|stages| !used.is_passed(name, digest(stages)))
                        .count();
                    (left <= LOOK_AHEAD).then(|| format!("sequence {name}: {left} of its list are left"))
                }
                Ports::Rolling(rolling, key) => {
                    let next = used.next_step(name, &key_digest(rolling, key));
                    let why = "it was used at a later time than this clock shows, so it opens nothing until then";
                    (next > rolling.step_at(now).saturating_add(2)).then(|| format!("sequence {name}: {why}"))
                }
            }
        };
        self.list.iter().filter_map(warning).collect()
    }

    fn ready(&self, id: SequenceId) -> Option<&Ready> {
        self.list.get(id.place.checked_sub(self.first)?)
    }
}

impl Ready {
    const fn kind(&self) -> Kind {
        match self.ports {
            Ports::Fixed(_) => Kind::Replayable,
            Ports::List(_) => Kind::OneTime,
            Ports::Rolling(..) => Kind::Rolling,
        }
    }

    /// Which of its sequences count at `now`, each with its turn.
    fn turns(&self, now: UnixTime, used: &Used) -> Vec<(u64, Vec<Stage>)> {
        let name = &self.sequence.name;
        match &self.ports {
            Ports::Fixed(stages) => vec![(0, stages.clone())],
            Ports::List(list) => {
                let fresh = (0..)
                    .zip(list)
                    .filter(|(_, stages)| !used.is_passed(name, digest(stages)));
                fresh
                    .take(LOOK_AHEAD)
                    .map(|(turn, stages)| (turn, stages.clone()))
                    .collect()
            }
            Ports::Rolling(rolling, key) => {
                let next = used.next_step(name, &key_digest(rolling, key));
                let today = rolling.step_at(now);
                let steps = today.saturating_sub(1)..=today.saturating_add(1);
                let fresh = steps.filter(|step| *step >= next);
                fresh.map(|step| (step, rolling.at(key, step))).collect()
            }
        }
    }
}

fn ports(sequence: &Sequence, paths: &Paths) -> Result<Ports, Failure> {
    match &sequence.kind {
        SequenceKind::Fixed(stages) => Ok(Ports::Fixed(stages.clone())),
        SequenceKind::OneTime(OneTime::List(list)) => Ok(Ports::List(list.clone())),
        SequenceKind::OneTime(OneTime::File(file)) => read_list(&paths.sequences.join(file)).map(Ports::List),
        SequenceKind::Rolling(rolling) => {
            let name = &sequence.name;
            let key = rolling::load_key(&paths.sequences, name).map_err(|error| {
                let absent = error.is_absent();
                let failure = Failure::from(error);
                if absent {
                    failure.hint(format!("spa-keys sequence {name} --new"))
                } else {
                    failure
                }
            })?;
            Ok(Ports::Rolling(rolling.clone(), key))
        }
    }
}

fn read_list(file: &Path) -> Result<Vec<Vec<Stage>>, Failure> {
    let text = read_text(file, Limits::SECRET)?;
    turns(lines(&text)).map_err(|TurnsError { place, what }| {
        let failure = Failure::new(
            spa_keys::Exit::Config,
            format!("{}, line {place}: {what}", file.display()),
        );
        failure.hint("one sequence on a line, such as 7311/tcp 15002/udp 9040/tcp")
    })
}

/// Eight octets are enough to tell those of one list apart.
fn digest(stages: &[Stage]) -> u64 {
    let text: Vec<String> = stages.iter().map(ToString::to_string).collect();
    let digest = Sha256::digest(text.join(" "));
    digest.first_chunk().map_or(0, |octets| u64::from_be_bytes(*octets))
}

/// Steps of another length have other numbers.
fn key_digest(rolling: &Rolling, key: &RollingKey) -> [u8; 32] {
    let hash = Sha256::new_with_prefix(key.expose()).chain_update(rolling.step.as_secs().to_be_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests;

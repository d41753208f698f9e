//! `spa-server import`: a knockd.conf becomes sequences and services. Pure: text in, text and notes out.

mod action;
mod knockd;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use spa_proto::sequence::FEWEST_STAGES;

use crate::config::{Config, Finding};
use action::{Action, action};
use knockd::{Door, Knocks};

pub use knockd::ImportError;

const HEAD: &str = "# From a knockd.conf: to be added to server.toml, then: spa-server check\n";
const LONGEST_NAME: usize = 24;

/// What came of a knockd.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Sequences and services for server.toml.
    pub toml: String,
    /// What could not be carried over as it was, with its line.
    pub notes: Vec<Note>,
    /// What `check` says of the text by itself.
    pub findings: Vec<Finding>,
    /// How many sequences there are.
    pub sequences: usize,
}

/// Something that could not be carried over.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The line of knockd.conf.
    pub line: usize,
    /// What became of it.
    pub text: String,
}

/// Reads a knockd.conf and writes what it means here.
///
/// # Errors
///
/// [`ImportError`] for a directive that knockd does not have, and for values that make no sense.
pub fn import(text: &str) -> Result<Imported, ImportError> {
    let file = knockd::parse(text)?;
    let mut writer = Writer {
        notes: file.notes,
        ..Writer::default()
    };
    for door in &file.doors {
        writer.door(door);
    }
    let mut toml = HEAD.to_owned();
    writer.services.iter().for_each(|(_, text)| toml.push_str(text));
    toml.push_str(&writer.sequences);
    let findings = match Config::from_text("", &toml) {
        Ok((_, findings)) | Err(findings) => findings,
    };
    writer.notes.sort_by_key(|note| note.line);
    Ok(Imported {
        toml,
        notes: writer.notes,
        findings,
        sequences: writer.names.len(),
    })
}

/// The text as it grows.
#[derive(Default)]
struct Writer {
    /// Each service once, by what it does.
    services: Vec<(Action, String)>,
    sequences: String,
    /// Names given so far, and how often.
    names: BTreeMap<String, u32>,
    notes: Vec<Note>,
}

impl Writer {
    fn note(&mut self, line: usize, text: impl Into<String>) {
        let text = text.into();
        self.notes.push(Note { line, text });
    }

    fn door(&mut self, door: &Door) {
        let name = &door.name;
        if let Knocks::Fixed(stages) = &door.knocks
            && stages.len() < FEWEST_STAGES
        {
            let text = format!("[{name}] is left out: it has fewer than {FEWEST_STAGES} ports");
            return self.note(door.line, text);
        }
        let action = match action(door) {
            Ok((action, notes)) => {
                for (line, text) in notes {
                    self.note(line, text);
                }
                action
            }
            Err((line, text)) => return self.note(line, format!("[{name}] is left out: {text}")),
        };
        let name = self.unique(name);
        let service = self.service(&name, action, door);
        self.sequence(&name, &service, door);
    }

    /// The name of the service that does this, made if need be.
    fn service(&mut self, name: &str, action: Action, door: &Door) -> String {
        let service = action.service_name(name);
        if !self.services.iter().any(|(other, _)| other.is_same(&action)) {
            let text = action.to_toml(&service, door.cmd_timeout);
            self.services.push((action, text));
            return service;
        }
        let first = self.services.iter().find(|(other, _)| other.is_same(&action));
        first.map_or(service, |(other, _)| other.service_name(name))
    }

    fn sequence(&mut self, name: &str, service: &str, door: &Door) {
        let out = &mut self.sequences;
        // Writing to a String cannot fail.
        let _ = write!(out, "\n[[sequence]]\nname = \"{name}\"\nservice = \"{service}\"\n");
        let _ = match &door.knocks {
            Knocks::Fixed(stages) => {
                let stages: Vec<String> = stages.iter().map(|stage| format!("\"{stage}\"")).collect();
                writeln!(out, "knocks = [{}]", stages.join(", "))
            }
            Knocks::OneTime(file) => writeln!(out, "one-time = {}", toml::Value::from(file.as_str())),
        };
        let _ = writeln!(out, "within = \"{}s\"", door.within.clamp(1, 600));
        if let Some(flags) = door.flags.as_ref().filter(|flags| flags.as_slice() != ["syn"]) {
            let _ = writeln!(out, "tcp-flags = {flags:?}");
        }
    }

    /// A name that may stand in server.toml and was not given before.
    fn unique(&mut self, name: &str) -> String {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let name: String = name
            .to_ascii_lowercase()
            .chars()
            .map(|c| if good(c) { c } else { '-' })
            .collect();
        let name = name.trim_start_matches(['.', '_', '-']);
        let mut name: String = name.chars().take(LONGEST_NAME - 3).collect();
        if name.is_empty() {
            name.push_str("door");
        }
        let count = self.names.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            let _ = write!(name, "-{count}");
        }
        name
    }
}

/// Where the notes point, for a person.
#[must_use]
pub fn noted(file: &Path, note: &Note) -> String {
    format!("{}, line {}: {}", file.display(), note.line, note.text)
}

#[cfg(test)]
mod tests;

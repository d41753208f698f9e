//! knockd.conf as knockd 0.8 reads it: sections of `key = value`, keys in any case, `#` and `;` begin comments.

use std::fmt;

use spa_proto::sequence::Stage;

use super::Note;

/// Everything in the file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) doors: Vec<Door>,
    pub(super) notes: Vec<Note>,
}

/// One section but `[options]`.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) knocks: Knocks,
    /// In seconds.
    pub(super) within: u64,
    /// Control bits that must be set; none where the section has no TCPFlags.
    pub(super) flags: Option<Vec<String>>,
    pub(super) start: Option<Command>,
    pub(super) start_6: Option<Command>,
    pub(super) stop: Option<Command>,
    pub(super) stop_6: Option<Command>,
    /// In seconds.
    pub(super) cmd_timeout: Option<u64>,
}

/// A command line and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) text: String,
}

/// The ports of a door.
#[derive(Debug)]
pub(super) enum Knocks {
    Fixed(Vec<Stage>),
    OneTime(String),
}

/// A knockd.conf that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ImportError {}

fn error<T>(line: usize, what: impl Into<String>) -> Result<T, ImportError> {
    let what = what.into();
    Err(ImportError { line, what })
}

/// A section with its lines.
struct Section<'t> {
    name: &'t str,
    line: usize,
    pairs: Vec<(usize, String, &'t str)>,
}

pub(super) fn parse(text: &str) -> Result<File, ImportError> {
    let mut file = File::default();
    for section in sections(text)? {
        if section.name.eq_ignore_ascii_case("options") {
            file.notes.extend(options(&section)?);
        } else {
            let door = door(&section, &mut file.notes)?;
            file.doors.push(door);
        }
    }
    Ok(file)
}

fn sections(text: &str) -> Result<Vec<Section<'_>>, ImportError> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let (number, line) = (place + 1, line.trim());
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section {
                name: name.trim(),
                line: number,
                pairs: Vec::new(),
            });
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return error(number, "a line in front of the first section");
        };
        let (key, value) = line
            .split_once('=')
            .map_or((line, ""), |(key, value)| (key.trim(), value.trim()));
        section.pairs.push((number, key.to_ascii_lowercase(), value));
    }
    Ok(sections)
}

/// Nothing of these belongs into server.toml; each is told of.
fn options(section: &Section<'_>) -> Result<Vec<Note>, ImportError> {
    let note = |(line, key, value): &(usize, String, &str)| {
        let text = match key.as_str() {
            "usesyslog" => "UseSyslog: the log goes to stderr, where the journal has it".to_owned(),
            "logfile" => format!("LogFile: the log goes to stderr, not to {value}"),
            "pidfile" => "PidFile: there is none; status tells the process id".to_owned(),
            "interface" => format!("Interface: write interfaces = [\"{value}\"] under [listen]"),
            _ => return error(*line, format!("knockd has no option {key}")),
        };
        Ok(Note { line: *line, text })
    };
    section.pairs.iter().map(note).collect()
}

fn door(section: &Section<'_>, notes: &mut Vec<Note>) -> Result<Door, ImportError> {
    let (mut knocks, name) = (None, section.name.to_owned());
    let mut door = Door {
        name,
        line: section.line,
        knocks: Knocks::Fixed(Vec::new()),
        // knockd's own default.
        within: 25,
        flags: None,
        start: None,
        start_6: None,
        stop: None,
        stop_6: None,
        cmd_timeout: None,
    };
    for (line, key, value) in &section.pairs {
        let (line, command) = (*line, || {
            Some(Command {
                line: *line,
                text: (*value).to_owned(),
            })
        });
        match key.as_str() {
            "sequence" => knocks = Some(Knocks::Fixed(stages(line, value)?)),
            "one_time_sequences" => knocks = Some(Knocks::OneTime((*value).to_owned())),
            "seq_timeout" | "timeout" => door.within = seconds(line, value)?,
            "cmd_timeout" => door.cmd_timeout = Some(seconds(line, value)?),
            "tcpflags" => door.flags = flags(line, value, notes)?,
            "start_command" | "command" => door.start = command(),
            "start_command_6" => door.start_6 = command(),
            "stop_command" => door.stop = command(),
            "stop_command_6" => door.stop_6 = command(),
            "target" => notes.push(Note {
                line,
                text: "Target: knocks at every own address count; others do not".to_owned(),
            }),
            _ => return error(line, format!("knockd has no directive {key}")),
        }
    }
    match knocks {
        Some(knocks) => Ok(Door { knocks, ..door }),
        None => error(
            section.line,
            format!("[{}] has neither Sequence nor One_Time_Sequences", section.name),
        ),
    }
}

fn stages(line: usize, value: &str) -> Result<Vec<Stage>, ImportError> {
    let read = |text: &str| {
        // A bare port is one of TCP.
        let full = if text.contains(':') {
            text.to_owned()
        } else {
            format!("{text}/tcp")
        };
        full.to_ascii_lowercase()
            .parse::<Stage>()
            .or_else(|wrong| error(line, format!("{text:?} {wrong}")))
    };
    value.split(',').map(|text| read(text.trim())).collect()
}

fn seconds(line: usize, value: &str) -> Result<u64, ImportError> {
    let number = value.parse().ok();
    number.map_or_else(|| error(line, format!("{value:?} is no number of seconds")), Ok)
}

fn flags(line: usize, value: &str, notes: &mut Vec<Note>) -> Result<Option<Vec<String>>, ImportError> {
    let mut set = Vec::new();
    for flag in value.split(',').map(|flag| flag.trim().to_ascii_lowercase()) {
        let bare = flag.strip_prefix('!').unwrap_or(&flag);
        if spa_proto::TcpFlags::from_names([bare]).is_none() {
            return error(line, format!("{bare:?} is no TCP flag"));
        }
        if bare == flag {
            set.push(flag);
        }
    }
    if set.is_empty() {
        let text =
            "TCPFlags: only flags that must not be set; here the packet that begins a connection counts".to_owned();
        notes.push(Note { line, text });
        return Ok(None);
    }
    Ok(Some(set))
}

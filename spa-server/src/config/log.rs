//! `[log]` and `[audit]`: how the log is told, and how much of the audit log is kept.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawConfig, Text};
use super::scan_guard::number;

/// How the log is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// As what.
    pub format: LogFormat,
    /// How much; the environment's `SPA_LOG` has the last word.
    pub level: LogLevel,
}

/// As what the log is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people, on stderr.
    Text,
    /// One JSON object for each line, on stderr.
    Json,
    /// To journald by its own protocol, with fields.
    Journal,
}

/// How much the log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What does not work.
    Error,
    /// What an operator should look at; refused clients.
    Warn,
    /// Doors, and what strangers were refused for.
    Info,
    /// Everything that is decided.
    Debug,
    /// Everything that is done.
    Trace,
}

/// How much of the audit log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Octets after which a new file is begun.
    pub file_size: u64,
    /// Files, the one that is written included.
    pub files: u32,
}

const FORMATS: [(&str, LogFormat); 3] = [
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("journal", LogFormat::Journal),
];
const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const LEAST_SIZE: u64 = 64 << 10;
const MOST_SIZE: u64 = 1 << 30;
const MOST_FILES: i64 = 10_000;

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            file_size: 16 << 20,
            files: 16,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            LEVELS
                .iter()
                .find(|(_, level)| level == self)
                .map_or("", |(name, _)| name),
        )
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            FORMATS
                .iter()
                .find(|(_, format)| format == self)
                .map_or("", |(name, _)| name),
        )
    }
}

pub(super) fn log(raw: &RawConfig, findings: &mut Findings<'_>) -> Log {
    let default = Log::default();
    let (format, level) = (raw.log.format.as_ref(), raw.log.level.as_ref());
    Log {
        format: word(format, "format", &FORMATS, Code::BadLogFormat, findings).unwrap_or(default.format),
        level: word(level, "level", &LEVELS, Code::BadLogLevel, findings).unwrap_or(default.level),
    }
}

pub(super) fn audit(raw: &RawConfig, findings: &mut Findings<'_>) -> Audit {
    let default = Audit::default();
    Audit {
        file_size: size(raw.audit.file_size.as_ref(), findings).unwrap_or(default.file_size),
        files: number(raw.audit.files.as_ref(), "files", 2, MOST_FILES, findings).unwrap_or(default.files),
    }
}

fn word<T: Copy>(
    typed: Option<&Text>,
    key: &str,
    words: &[(&str, T)],
    code: Code,
    findings: &mut Findings<'_>,
) -> Option<T> {
    let typed = typed?;
    if let Some((_, meant)) = words.iter().find(|(word, _)| word == typed.get_ref()) {
        return Some(*meant);
    }
    let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let finding = Finding::error(code, format!("{:?} is no {key} of the log", typed.get_ref()));
    findings.at(&typed.span(), finding.with_try(format!("one of {}", known.join(", "))));
    None
}

/// `16MiB`.
fn size(typed: Option<&Text>, findings: &mut Findings<'_>) -> Option<u64> {
    let typed = typed?;
    let finding = match parse_size(typed.get_ref()) {
        Some(size) if (LEAST_SIZE..=MOST_SIZE).contains(&size) => return Some(size),
        Some(_) => Finding::error(Code::OutOfRange, "file-size goes from 64KiB to 1GiB"),
        None => {
            let text = format!(
                "file-size: {:?} is no size: write a whole number and KiB, MiB or GiB",
                typed.get_ref()
            );
            Finding::error(Code::BadSize, text)
        }
    };
    findings.at(&Spanned::span(typed), finding.with_try("file-size = \"16MiB\""));
    None
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| digits.parse::<u64>().ok()?.checked_mul(*unit))?
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::{told_of_each, with_tables};
    use super::*;

    fn of(tables: &str) -> (Log, Audit) {
        let head = "gateway.host = \"gw\"\n";
        let (config, findings) = Config::from_text("s", &with_tables(&format!("{head}{tables}"))).unwrap();
        assert_eq!(findings, []);
        (config.log, config.audit)
    }

    #[test]
    fn unless_written_the_defaults_hold() {
        assert_eq!(of(""), (Log::default(), Audit::default()));
        assert_eq!(of("[log]\n[audit]\n"), (Log::default(), Audit::default()));
        let log = Log {
            format: LogFormat::Journal,
            level: LogLevel::Warn,
        };
        let audit = Audit {
            file_size: 65_536,
            files: 3,
        };
        let written = "[log]\nformat = \"journal\"\nlevel = \"warn\"\n[audit]\nfile-size = \"64KiB\"\nfiles = 3\n";
        assert_eq!(of(written), (log, audit));
    }

    #[test]
    fn what_is_no_log() {
        let tables = "gateway.host = \"gw\"\n{}\n";
        let keys = [
            "log.format = \"syslog\"",
            "log.format = true",
            "log.level = \"INFO\"",
            "log.file = \"/x\"",
            "audit.file-size = \"16\"",
            "audit.file-size = \"16 MiB\"",
            "audit.file-size = \"63KiB\"",
            "audit.file-size = \"99999999999999999999GiB\"",
            "audit.file-size = 16",
            "audit.files = 1",
            "audit.files = \"9\"",
            "audit = []",
        ];
        insta::assert_snapshot!(told_of_each(&with_tables(tables), &keys), @r#"
        `log.format = "syslog"`
            error bad-log-format 2:14 "syslog" is no format of the log -> one of "text", "json", "journal"
        `log.format = true`
            error wrong-type 2:14 format takes a text in quotes; this is of type boolean -> format = "text"
        `log.level = "INFO"`
            error bad-log-level 2:13 "INFO" is no level of the log -> one of "error", "warn", "info", "debug", "trace"
        `log.file = "/x"`
            error unknown-key 2:5 file is no key of [log] -> one of format, level
        `audit.file-size = "16"`
            error bad-size 2:19 file-size: "16" is no size: write a whole number and KiB, MiB or GiB -> file-size = "16MiB"
        `audit.file-size = "16 MiB"`
            error bad-size 2:19 file-size: "16 MiB" is no size: write a whole number and KiB, MiB or GiB -> file-size = "16MiB"
        `audit.file-size = "63KiB"`
            error out-of-range 2:19 file-size goes from 64KiB to 1GiB -> file-size = "16MiB"
        `audit.file-size = "99999999999999999999GiB"`
            error bad-size 2:19 file-size: "99999999999999999999GiB" is no size: write a whole number and KiB, MiB or GiB -> file-size = "16MiB"
        `audit.file-size = 16`
            error wrong-type 2:19 file-size takes a text in quotes; this is of type integer -> file-size = "16MiB"
        `audit.files = 1`
            error out-of-range 2:15 files is 1; it goes from 2 to 10000 -> files = 2
        `audit.files = "9"`
            error wrong-type 2:15 files takes a number without quotes; this is of type string -> files = 16
        `audit = []`
            error wrong-type 2:1 audit is not written as [audit] -> [audit] on a line of its own, its keys below
        "#);
    }
}

//! Rolling sequences beside their mathematics: their settings as people type them, their key files, a device's profile.

mod profile;

use std::path::{Path, PathBuf};
use std::time::Duration;

use spa_proto::sequence::{FEWEST_STAGES, MOST_ROLLING, PortPool, Rolling, RollingKey, RollingTransport};

use crate::fault::Fault;
use crate::file::{self, Limits};
use crate::load::LoadError;
use crate::text;
use crate::units::{format_duration, parse_duration};

pub use profile::RollingProfile;

const RANGE: &str = "20000-39999";
const LENGTH: u8 = 4;
const STEP: Duration = Duration::from_mins(1);
/// Clocks differ, people are slow: neighbouring steps help only if a step is not over before it is typed.
const SHORTEST_STEP: Duration = Duration::from_secs(30);
const LONGEST_STEP: Duration = Duration::from_hours(24 * 7);
const TRANSPORTS: [(&str, RollingTransport); 3] = [
    ("udp", RollingTransport::Udp),
    ("tcp", RollingTransport::Tcp),
    ("mixed", RollingTransport::Mixed),
];

/// The settings of a rolling sequence as they were typed; what was not has a default.
#[derive(Clone, Copy, Debug, Default)]
pub struct RollingTyped<'a> {
    /// Its name.
    pub name: &'a str,
    /// The ports to choose from: 20000-39999 unless typed.
    pub range: Option<&'a str>,
    /// Ports of the range that are in use.
    pub except: &'a [i64],
    /// How many stages: 4 unless typed.
    pub length: Option<i64>,
    /// How long each sequence is today's: 1m unless typed.
    pub step: Option<&'a str>,
    /// `udp` unless typed, `tcp` or `mixed`.
    pub transport: Option<&'a str>,
}

/// What is wrong with one of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollingFault {
    /// Which key.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to write.
    pub example: &'static str,
}

impl std::fmt::Display for RollingFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} (such as {} = {})",
            self.key, self.what, self.key, self.example
        )
    }
}

impl RollingTyped<'_> {
    /// What was meant.
    ///
    /// # Errors
    ///
    /// [`RollingFault`] for the first setting that is wrong.
    pub fn read(&self) -> Result<Rolling, RollingFault> {
        Ok(Rolling {
            name: self.name.to_owned(),
            pool: self.pool()?,
            stages: self.stages()?,
            transport: self.transport()?,
            step: self.step()?,
        })
    }

    fn pool(&self) -> Result<PortPool, RollingFault> {
        let fault = |what: String| RollingFault {
            key: "range",
            what,
            example: "\"20000-39999\"",
        };
        let typed = self.range.unwrap_or(RANGE);
        let port = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| text.parse().ok())?
        };
        let range = typed
            .split_once('-')
            .and_then(|(first, last)| Some((port(first)?, port(last)?)));
        let (first, last) = range.ok_or_else(|| fault(format!("{typed:?} is no range of ports")))?;
        let except = self.except.iter().map(|number| {
            u16::try_from(*number).map_err(|_| RollingFault {
                key: "except",
                what: format!("{number} is no port"),
                example: "[27017, 30303]",
            })
        });
        let except: Vec<u16> = except.collect::<Result<_, _>>()?;
        PortPool::new(first, last, except).map_err(|error| fault(error.to_string()))
    }

    fn stages(&self) -> Result<u8, RollingFault> {
        let typed = self.length.unwrap_or(LENGTH.into());
        let good = usize::try_from(typed).is_ok_and(|length| (FEWEST_STAGES..=MOST_ROLLING).contains(&length));
        u8::try_from(typed).ok().filter(|_| good).ok_or_else(|| RollingFault {
            key: "length",
            what: format!("{typed} is not between {FEWEST_STAGES} and {MOST_ROLLING}"),
            example: "4",
        })
    }

    fn transport(&self) -> Result<RollingTransport, RollingFault> {
        let typed = self.transport.unwrap_or("udp");
        let found = TRANSPORTS.iter().find(|(name, _)| *name == typed);
        found.map(|(_, transport)| *transport).ok_or_else(|| RollingFault {
            key: "transport",
            what: format!("{typed:?} is not udp, tcp or mixed"),
            example: "\"udp\"",
        })
    }

    fn step(&self) -> Result<Duration, RollingFault> {
        let fault = |what: String| RollingFault {
            key: "step",
            what,
            example: "\"1m\"",
        };
        let step = self.step.map_or(Ok(STEP), parse_duration);
        let step = step.map_err(|error| fault(error.to_string()))?;
        if (SHORTEST_STEP..=LONGEST_STEP).contains(&step) {
            return Ok(step);
        }
        let (short, long) = (format_duration(SHORTEST_STEP), format_duration(LONGEST_STEP));
        Err(fault(format!(
            "{} is not between {short} and {long}",
            format_duration(step)
        )))
    }
}

/// The name of a transport in files.
#[must_use]
pub fn transport_name(transport: RollingTransport) -> &'static str {
    let found = TRANSPORTS.iter().find(|(_, known)| *known == transport);
    found.map_or("udp", |(name, _)| name)
}

/// Where the key of a sequence lies: NAME.key in sequences.d.
#[must_use]
pub fn key_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.key"))
}

/// Reads the key of a sequence.
///
/// # Errors
///
/// [`LoadError`] when its file is absent, open to others, or holds no key.
pub fn load_key(folder: &Path, name: &str) -> Result<RollingKey, LoadError> {
    let path = key_file(folder, name);
    let contents = file::read_text(&path, Limits::SECRET)?;
    let line = contents.strip_suffix('\n').unwrap_or(&contents);
    let bytes = text::decode(line).map_err(|error| LoadError::fault(&path, Fault::whole(error)))?;
    Ok(RollingKey::from_bytes(&bytes))
}

/// Writes a new key's file, mode 0600; never overwrites.
///
/// # Errors
///
/// [`file::FileError`] when there is one already, or it cannot be written.
pub fn create_key(folder: &Path, name: &str, key: &RollingKey) -> Result<(), file::FileError> {
    file::create_dir(folder, 0o700)?;
    let mut line = text::encode_secret(key.expose());
    line.push('\n');
    file::create_new(&key_file(folder, name), line.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_what_is_typed() {
        let typed = RollingTyped {
            name: "card",
            ..RollingTyped::default()
        };
        let rolling = typed.read().unwrap();
        assert_eq!((rolling.pool.count(), rolling.stages, rolling.step), (20_000, 4, STEP));
        let typed = RollingTyped {
            range: Some("1024-65535"),
            except: &[5432],
            length: Some(8),
            step: Some("1d"),
            transport: Some("mixed"),
            ..typed
        };
        let rolling = typed.read().unwrap();
        assert_eq!((rolling.pool.count(), rolling.stages), (64_511, 8));
        assert_eq!(transport_name(rolling.transport), "mixed");
    }

    #[test]
    fn each_fault_names_its_key() {
        let good = RollingTyped {
            name: "card",
            ..RollingTyped::default()
        };
        let cases = [
            (
                RollingTyped {
                    range: Some("20000"),
                    ..good
                },
                "range",
            ),
            (
                RollingTyped {
                    range: Some("1-70000"),
                    ..good
                },
                "range",
            ),
            (
                RollingTyped {
                    range: Some("+1-9999"),
                    ..good
                },
                "range",
            ),
            (
                RollingTyped {
                    range: Some("20000-20999"),
                    ..good
                },
                "range",
            ),
            (
                RollingTyped {
                    except: &[70_000],
                    ..good
                },
                "except",
            ),
            (
                RollingTyped {
                    length: Some(2),
                    ..good
                },
                "length",
            ),
            (
                RollingTyped {
                    length: Some(-1),
                    ..good
                },
                "length",
            ),
            (
                RollingTyped {
                    length: Some(9),
                    ..good
                },
                "length",
            ),
            (
                RollingTyped {
                    step: Some("5s"),
                    ..good
                },
                "step",
            ),
            (
                RollingTyped {
                    step: Some("60"),
                    ..good
                },
                "step",
            ),
            (
                RollingTyped {
                    transport: Some("sctp"),
                    ..good
                },
                "transport",
            ),
        ];
        for (typed, key) in cases {
            assert_eq!(typed.read().unwrap_err().key, key, "{typed:?}");
        }
    }

    #[test]
    fn a_key_is_written_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("sequences.d");
        let key = RollingKey::from_bytes(&[9; 32]);
        create_key(&folder, "card", &key).unwrap();
        assert_eq!(load_key(&folder, "card").unwrap().expose(), key.expose());
        assert!(create_key(&folder, "card", &key).is_err());
        assert!(load_key(&folder, "other").unwrap_err().is_absent());
        std::fs::write(key_file(&folder, "card"), "short\n").unwrap();
        assert!(load_key(&folder, "card").is_err());
    }
}

//! A gateway in one text, to move it or to keep it: configuration, identities, clients, invites, keys and lists of
//! sequences. Not the replay record, which is true only where it is kept.
//!
//! ```text
//! spa-backup 1 2026-11-22T18:30:00Z
//! file gateway.key 412
//! (412 bytes, then a line end)
//! ...
//! end SHA-256-of-all-above
//! ```

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use spa_proto::UnixTime;
use zeroize::Zeroizing;

use crate::directory::stem_of;
use crate::{Paths, text, units};

const HEADER: &str = "spa-backup 1 ";

/// The files of a gateway at one time.
#[derive(Debug)]
pub struct Backup {
    /// When it was made, by the gateway's clock.
    pub made: UnixTime,
    /// The files, in the order of their places.
    pub files: Vec<(Place, Zeroizing<String>)>,
}

/// Which file it is. There are no others: a backup can write nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// server.toml.
    Config,
    /// gateway.key.
    GatewayKey,
    /// A client's file by its name without `.toml`.
    Client(String),
    /// An invite's file by its name without `.toml`.
    Invite(String),
    /// A key or a list of sequences by its name.
    Sequence(String),
}

impl Place {
    fn parse(name: &str) -> Option<Self> {
        let stem = |name: &str| stem_of(name).filter(|stem| is_on_one_line(stem)).map(str::to_owned);
        match name.split_once('/') {
            None if name == "server.toml" => Some(Self::Config),
            None if name == "gateway.key" => Some(Self::GatewayKey),
            Some(("clients.d", name)) => stem(name).map(Self::Client),
            Some(("invites.d", name)) => stem(name).map(Self::Invite),
            Some(("sequences.d", name)) => is_plain(name).then(|| Self::Sequence(name.to_owned())),
            _ => None,
        }
    }

    /// Where it lies on this gateway.
    #[must_use]
    pub fn path(&self, paths: &Paths) -> PathBuf {
        match self {
            Self::Config => paths.config.clone(),
            Self::GatewayKey => paths.gateway_key.clone(),
            Self::Client(stem) => toml_in(&paths.clients, stem),
            Self::Invite(stem) => toml_in(&paths.invites, stem),
            Self::Sequence(name) => paths.sequences.join(name),
        }
    }

    /// The mode it has.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        match self {
            Self::Config => 0o640,
            _ => 0o600,
        }
    }
}

/// Whether it names a file of a folder and no other place, on one line.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && is_on_one_line(name)
}

fn is_on_one_line(name: &str) -> bool {
    !name.contains(['/', '\0', '\n'])
}

fn toml_in(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}.toml"))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("server.toml"),
            Self::GatewayKey => f.write_str("gateway.key"),
            Self::Client(stem) => write!(f, "clients.d/{stem}.toml"),
            Self::Invite(stem) => write!(f, "invites.d/{stem}.toml"),
            Self::Sequence(name) => write!(f, "sequences.d/{name}"),
        }
    }
}

impl Backup {
    /// The text: the same for the same files and time.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let lengths = self
            .files
            .iter()
            .map(|(place, text)| place.to_string().len() + text.len() + 64);
        // Room for all, so that the secrets in it are never moved.
        let mut out = Zeroizing::new(String::with_capacity(256 + lengths.sum::<usize>()));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{HEADER}{}", units::format_time(self.made));
        for (place, text) in &self.files {
            let _ = writeln!(out, "file {place} {}", text.len());
            out.push_str(text);
            out.push('\n');
        }
        let end = check(&out);
        let _ = writeln!(out, "end {end}");
        out
    }

    /// Reads a backup.
    ///
    /// # Errors
    ///
    /// [`BackupError`] when it is cut, changed, or no backup.
    pub fn parse(text: &str) -> Result<Self, BackupError> {
        let rest = text.strip_prefix(HEADER).ok_or(BackupError::Header)?;
        let body = text.strip_suffix('\n').ok_or(BackupError::Cut)?;
        let (_, end) = body.rsplit_once('\n').ok_or(BackupError::Cut)?;
        let sum = end.strip_prefix("end ").ok_or(BackupError::Cut)?;
        let contents = text.get(..body.len() - end.len()).ok_or(BackupError::Cut)?;
        if check(contents) != sum {
            return Err(BackupError::Changed);
        }
        let (made, _) = rest.split_once('\n').ok_or(BackupError::Cut)?;
        let made_at = units::parse_time(made).map_err(|_| BackupError::Header)?;
        let mut left = contents.get(HEADER.len() + made.len() + 1..).ok_or(BackupError::Cut)?;
        let mut files = Vec::new();
        while !left.is_empty() {
            let (file, rest) = cut_file(left)?;
            if files.iter().any(|(place, _)| *place == file.0) {
                return Err(BackupError::Name);
            }
            files.push(file);
            left = rest;
        }
        Ok(Self { made: made_at, files })
    }
}

/// One file from the front, and what follows it.
fn cut_file(text: &str) -> Result<((Place, Zeroizing<String>), &str), BackupError> {
    let (line, rest) = text.split_once('\n').ok_or(BackupError::Cut)?;
    let (name, length) = line
        .strip_prefix("file ")
        .and_then(|line| line.rsplit_once(' '))
        .ok_or(BackupError::Name)?;
    let place = Place::parse(name).ok_or(BackupError::Name)?;
    let length: usize = length.parse().map_err(|_| BackupError::Name)?;
    let (contents, rest) = rest.split_at_checked(length).ok_or(BackupError::Cut)?;
    let rest = rest.strip_prefix('\n').ok_or(BackupError::Cut)?;
    Ok(((place, Zeroizing::new(contents.to_owned())), rest))
}

fn check(contents: &str) -> String {
    text::encode(&Sha256::digest(contents).into())
}

/// A text that is no whole backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupError {
    /// Does not begin as one, or is of another version.
    Header,
    /// Ends too early.
    Cut,
    /// Its checksum is another.
    Changed,
    /// Names a file that no gateway has, or one twice.
    Name,
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "this is no backup of a gateway that this version knows",
            Self::Cut => "the backup is cut short",
            Self::Changed => "the backup was changed or damaged: its checksum does not match",
            Self::Name => "the backup names a file that no gateway has, or one twice",
        })
    }
}

impl std::error::Error for BackupError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backup() -> Backup {
        let file = |place, text: &str| (place, Zeroizing::new(text.to_owned()));
        Backup {
            made: UnixTime::from_secs(1_800_000_000),
            files: vec![
                file(Place::Config, "[gateway]\n"),
                file(Place::GatewayKey, "no line end"),
                file(Place::Client("anna".into()), "end x\nfile y 3\n\u{e4}\n"),
                file(Place::Invite("bob@00000001".into()), ""),
            ],
        }
    }

    fn ended(contents: &str) -> String {
        format!("{contents}end {}\n", check(contents))
    }

    #[test]
    fn what_is_written_is_read() {
        let text = backup().to_text();
        let read = Backup::parse(&text).unwrap();
        assert_eq!((read.made, read.files.len()), (backup().made, 4));
        assert_eq!(read.files, backup().files);
        assert_eq!(*read.to_text(), *text);
    }

    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let text = backup().to_text();
        for length in 0..text.len() {
            assert!(
                text.get(..length).is_none_or(|cut| Backup::parse(cut).is_err()),
                "{length}"
            );
        }
        assert_eq!(
            Backup::parse(&text.replace("anna", "otto")).unwrap_err(),
            BackupError::Changed
        );
        assert_eq!(Backup::parse("junk").unwrap_err(), BackupError::Header);
    }

    #[test]
    fn it_can_name_no_other_file() {
        for name in [
            "../x.toml",
            "clients.d/../x.toml",
            "clients.d/a/b.toml",
            "clients.d/.lock.toml",
            "clients.d/x",
            "clients.d/a\nb.toml",
            "sequences.d/../x.key",
            "sequences.d/.x",
            "sequences.d/",
            "/etc/passwd",
            "state/record.redb",
            "",
        ] {
            assert_eq!(Place::parse(name), None, "{name}");
            let text = ended(&format!("{HEADER}2026-11-22T18:30:00Z\nfile {name} 0\n\n"));
            assert_eq!(Backup::parse(&text).unwrap_err(), BackupError::Name, "{name}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(body: String) {
            let _ = Backup::parse(&body);
            let _ = Backup::parse(&ended(&format!("{HEADER}2026-11-22T18:30:00Z\n{body}")));
        }
    }
}

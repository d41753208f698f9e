//! What the backend is to bring about, taken from the configuration; and what it has put where, remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spa_keys::Paths;

use super::{Line, fault};
use crate::backend::BackendError;
use crate::backend::place;
use crate::config::{BackendKind, Config};

/// libwrap's word for them.
const EVERY_DAEMON: &str = "ALL";

/// Everything that the files follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where the block belongs.
    pub hosts_allow: PathBuf,
    /// What is asked when hosts.allow lets nobody in. Only read, unless scanners are shut out.
    pub hosts_deny: PathBuf,
    /// Scanners are shut out.
    pub bans: bool,
    /// Where pattern files lie; absolute, and fit to stand in hosts.allow.
    pub folder: PathBuf,
    /// Where what was done is remembered.
    pub record: PathBuf,
    /// The daemon of each service, no daemon twice.
    pub daemons: BTreeMap<String, String>,
    /// Daemons that had a service once. Their line stays for always-allow until `uninstall`: to take it out would shut
    /// out everybody where hosts.deny refuses the daemon.
    pub retired: BTreeSet<String>,
    /// Open to these, whatever happens.
    pub always_allow: BTreeSet<IpNet>,
}

/// What was put where, whatever is configured now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Files with a block.
    pub hosts_allow: BTreeSet<PathBuf>,
    /// Files with a block that shuts scanners out.
    pub hosts_deny: BTreeSet<PathBuf>,
    /// Those of them that were not there before.
    pub created: BTreeSet<PathBuf>,
    /// The daemon of each service, at last.
    pub daemons: BTreeMap<String, String>,
    /// Daemons whose line is kept although no service names them.
    pub retired: BTreeSet<String>,
    /// Who is always let in, at last.
    pub always_allow: BTreeSet<IpNet>,
}

impl Plan {
    /// The part of a configuration that concerns this backend.
    ///
    /// # Errors
    ///
    /// When hosts.allow could not carry it, or the record of what was done cannot be read.
    pub fn from_config(config: &Config, paths: &Paths) -> Result<Self, BackendError> {
        let own = config
            .services
            .iter()
            .filter(|service| service.backends.contains(&BackendKind::TcpWrappers));
        let daemons = own.filter_map(|service| Some((service.name.clone(), service.daemon.clone()?)));
        Self {
            hosts_allow: config.tcp_wrappers.hosts_allow.clone(),
            hosts_deny: config.tcp_wrappers.hosts_deny.clone(),
            bans: config.bans(),
            daemons: daemons.collect(),
            always_allow: config.lock_out.always_allow.iter().copied().collect(),
            ..Self::at(paths)
        }
        .checked()
    }

    /// What was put in place last, without any configuration: for closing what nobody else closes, and for taking all
    /// of it out.
    ///
    /// # Errors
    ///
    /// When the record cannot be read.
    pub fn from_record(paths: &Paths) -> Result<Self, BackendError> {
        let plan = Self::at(paths);
        let record = Record::load(&plan.record)?;
        Ok(Self {
            hosts_allow: record.hosts_allow.iter().next().cloned().unwrap_or_default(),
            hosts_deny: record.hosts_deny.iter().next().cloned().unwrap_or_default(),
            bans: !record.hosts_deny.is_empty(),
            daemons: record.daemons,
            retired: record.retired,
            always_allow: record.always_allow,
            ..plan
        })
    }

    fn at(paths: &Paths) -> Self {
        let run = std::path::absolute(&paths.run).unwrap_or_else(|_| paths.run.clone());
        Self {
            folder: run.join("wrappers"),
            record: record_file(paths),
            ..Self::default()
        }
    }

    fn checked(mut self) -> Result<Self, BackendError> {
        if !is_plain(&self.folder) {
            let what = format!(
                "{}: hosts.allow cannot name files in this folder",
                self.folder.display()
            );
            return Err(fault(what).with_hint("a folder of letters, digits and . _ - / for --dir"));
        }
        let daemons: BTreeSet<&String> = self.daemons.values().collect();
        if daemons.len() < self.daemons.len() {
            return Err(fault("two services have the same daemon".into()));
        }
        let record = Record::load(&self.record)?;
        let before = record.daemons.values().chain(&record.retired);
        self.retired = before.filter(|daemon| !daemons.contains(daemon)).cloned().collect();
        Ok(self)
    }

    /// The lines of the block.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let daemons: BTreeSet<&String> = self.daemons.values().chain(&self.retired).collect();
        let line = |daemon: &String| Line {
            daemon: daemon.clone(),
            file: self.file(daemon),
        };
        daemons.into_iter().map(line).collect()
    }

    /// The lines of the block in hosts.deny.
    #[must_use]
    pub fn deny_lines(&self) -> Vec<Line> {
        let line = || Line {
            daemon: EVERY_DAEMON.to_owned(),
            file: self.banned_file(),
        };
        self.bans.then(line).into_iter().collect()
    }

    /// The pattern file of who is shut out; no daemon of a service has this name.
    #[must_use]
    pub fn banned_file(&self) -> PathBuf {
        self.file(EVERY_DAEMON)
    }

    /// The pattern file of a daemon.
    #[must_use]
    pub fn file(&self, daemon: &str) -> PathBuf {
        self.folder.join(daemon)
    }
}

/// Where the record lies.
#[must_use]
pub fn record_file(paths: &Paths) -> PathBuf {
    paths.firewall.join("tcp-wrappers.json")
}

/// Colons, blanks, commas and brackets mean something in hosts.allow.
fn is_plain(path: &Path) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    path.to_str().is_some_and(|text| text.bytes().all(good))
}

impl Record {
    /// What was put where; nothing when nothing ever was.
    ///
    /// # Errors
    ///
    /// When it cannot be read or another user wrote it.
    pub fn load(file: &Path) -> Result<Self, BackendError> {
        let refused = |what: String| fault(format!("{}: {what}", file.display()));
        let content = place::read(file).map_err(|error| refused(error.to_string()))?;
        let Some(content) = content else {
            return Ok(Self::default());
        };
        expect_own(file).map_err(|error| refused(error.to_string()))?;
        serde_json::from_slice(&content.text).map_err(|error| refused(error.to_string()))
    }

    /// Remembers that this plan is about to be put in place.
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub fn note(plan: &Plan) -> Result<(), BackendError> {
        let before = Self::load(&plan.record)?;
        let mut record = Self {
            daemons: plan.daemons.clone(),
            retired: plan.retired.clone(),
            always_allow: plan.always_allow.clone(),
            ..before.clone()
        };
        if record.hosts_allow.insert(plan.hosts_allow.clone()) && !plan.hosts_allow.exists() {
            record.created.insert(plan.hosts_allow.clone());
        }
        if plan.bans && record.hosts_deny.insert(plan.hosts_deny.clone()) && !plan.hosts_deny.exists() {
            record.created.insert(plan.hosts_deny.clone());
        }
        if record == before {
            return Ok(());
        }
        record.save(&plan.record)
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub fn save(&self, file: &Path) -> Result<(), BackendError> {
        let refused = |error: io::Error| fault(format!("{}: {error}", file.display()));
        let text = serde_json::to_vec(self).map_err(io::Error::other).map_err(refused)?;
        place::keep(file, text).map_err(refused)
    }
}

/// What is done by it is done with this process's rights: nobody else may have written it.
pub(in crate::backend) fn expect_own(file: &Path) -> io::Result<()> {
    let facts = std::fs::metadata(file)?;
    if facts.uid() == rustix::process::geteuid().as_raw() && facts.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::other("somebody else may have written this file"))
    }
}

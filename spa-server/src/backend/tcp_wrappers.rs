//! TCP Wrappers: one block in hosts.allow that names a pattern file for each daemon; grants are lines of that file.
//!
//! Nothing here ends by itself: the daemon's timer closes, its next start closes what is overdue, and
//! `spa-server close-overdue` closes when there is no daemon. `pattern` and `block` are the two texts, `plan` what they
//! follow from, `rules` reads the language of hosts.allow, `inspect` says what is wrong around it, `program` finds out
//! whether a daemon asks libwrap at all.

mod banned;
pub mod block;
pub mod inspect;
pub mod pattern;
pub mod plan;
pub mod program;
pub mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::place::{self, Content};
use super::{Backend, BackendError, Banned, Door, Opening, Repairs, ShutOut};
use crate::clock;
use plan::{Plan, Record};

const NAME: &str = "tcp-wrappers";
/// Daemons that are not root read it too.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
/// How often a change of hosts.allow by somebody else is waited out.
const ATTEMPTS: usize = 5;

/// One line of the block: who comes to this daemon from an address in this file is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The daemon's name.
    pub daemon: String,
    /// The pattern file.
    pub file: PathBuf,
}

/// The backend for `backends = ["tcp-wrappers"]`.
#[derive(Debug)]
pub struct TcpWrappers {
    plan: Plan,
    /// What was opened since the start and when it ends, on the clock that starts with the boot: the pattern file has
    /// no place for it.
    ends: BTreeMap<Door, Duration>,
}

impl TcpWrappers {
    /// A backend that changes nothing yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            ends: BTreeMap::new(),
        }
    }

    /// Puts the pattern files, then the block in place. `wanted` says who is to be let in by a daemon, given who is.
    fn settle(&self, wanted: impl Fn(&str, &BTreeSet<IpNet>) -> BTreeSet<IpNet>) -> (Repairs, Vec<BackendError>) {
        let (mut repairs, mut faults) = (Repairs::default(), Vec::new());
        if let Err(error) = place::create_folder(&self.plan.folder, FOLDER_MODE) {
            faults.push(refused(&self.plan.folder, &error));
        }
        for line in self.plan.lines() {
            faults.extend(self.settle_file(&line, &wanted, &mut repairs).err());
        }
        faults.extend(self.settle_banned(&mut repairs).err());
        match Record::note(&self.plan).and_then(|()| self.settle_block()) {
            Ok(false) => {}
            Ok(true) => repairs
                .restored
                .push(format!("the block in {}", self.plan.hosts_allow.display())),
            Err(error) => faults.push(error),
        }
        (repairs, faults)
    }

    fn settle_file(
        &self,
        line: &Line,
        wanted: impl Fn(&str, &BTreeSet<IpNet>) -> BTreeSet<IpNet>,
        repairs: &mut Repairs,
    ) -> Result<(), BackendError> {
        let found = place::read(&line.file).map_err(|error| refused(&line.file, &error))?;
        let before = found
            .as_ref()
            .map_or_else(BTreeSet::new, |found| pattern::parse(&found.text));
        let service = self.service_of(&line.daemon);
        let wanted = wanted(service.unwrap_or_default(), &before);
        if is_as_wanted(found.as_ref(), &wanted) {
            return Ok(());
        }
        write(&line.file, &wanted)?;
        let always = &self.plan.always_allow;
        let is_ours = found.is_some_and(|found| found.mode == FILE_MODE && found.text == pattern::render(&before));
        if !is_ours || !always.is_subset(&before) {
            repairs
                .restored
                .push(format!("the pattern file {}", line.file.display()));
        }
        let doors = |nets: BTreeSet<IpNet>| {
            let nets = nets.into_iter().filter(|net| !always.contains(net));
            let service = service.unwrap_or(&line.daemon).to_owned();
            nets.map(move |opened| Door {
                service: service.clone(),
                opened,
            })
        };
        repairs.removed.extend(doors(&before - &wanted));
        repairs.reopened.extend(doors(&wanted - &before));
        Ok(())
    }

    /// Puts the block into hosts.allow unless it is there as it should be; says whether it was not. What somebody else
    /// writes meanwhile is not lost.
    fn settle_block(&self) -> Result<bool, BackendError> {
        let lines = self.plan.lines();
        edit(&self.plan.hosts_allow, |text| block::with_block(text, &lines))
    }

    /// Who is let in by the file of this service now, or should be by what this process has opened.
    fn nets(&self, service: &str) -> Result<Option<(PathBuf, BTreeSet<IpNet>)>, BackendError> {
        let Some(daemon) = self.plan.daemons.get(service) else {
            return Ok(None);
        };
        let file = self.plan.file(daemon);
        let found = place::read(&file).map_err(|error| refused(&file, &error))?;
        let mut nets = found.map_or_else(BTreeSet::new, |found| pattern::parse(&found.text));
        nets.extend(&self.plan.always_allow);
        let own = self.ends.keys().filter(|door| door.service == service);
        nets.extend(own.map(|door| door.opened));
        Ok(Some((file, nets)))
    }

    fn service_of(&self, daemon: &str) -> Option<&str> {
        let mut daemons = self.plan.daemons.iter();
        daemons.find_map(|(service, own)| (own == daemon).then_some(service.as_str()))
    }

    fn wanted(&self, service: &str, openings: &[Opening]) -> BTreeSet<IpNet> {
        let own = openings
            .iter()
            .filter(|opening| opening.door.service == service && !opening.remaining.is_zero());
        let nets = own.map(|opening| opening.door.opened);
        nets.chain(self.plan.always_allow.iter().copied()).collect()
    }
}

impl Backend for TcpWrappers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn protect(&mut self) -> Result<Repairs, BackendError> {
        // Who has been let in stays in until `reconcile` says who should be; a daemon without a service has no doors.
        let (repairs, faults) = self.settle(|service, before| {
            let kept = if service.is_empty() { &BTreeSet::new() } else { before };
            kept | &self.plan.always_allow
        });
        let notes = inspect::essentials(&self.plan).into_iter().map(|finding| finding.text);
        let repairs = Repairs {
            reopened: Vec::new(),
            notes: notes.collect(),
            ..repairs
        };
        unless(faults, repairs)
    }

    fn self_test(&mut self) -> Result<(), BackendError> {
        let probes = BTreeSet::from(probes());
        for service in self.plan.daemons.keys() {
            let Some((file, nets)) = self.nets(service)? else {
                continue;
            };
            let outcome = write(&file, &(&nets | &probes));
            write(&file, &(&nets - &probes))?;
            outcome?;
        }
        Ok(())
    }

    fn open(&mut self, opening: &Opening) -> Result<(), BackendError> {
        let Opening { door, remaining, .. } = opening;
        if remaining.is_zero() {
            return self.close(door);
        }
        let Some((file, mut nets)) = self.nets(&door.service)? else {
            let service = door.service.escape_debug();
            return Err(fault(format!("there is no service {service} in this backend")));
        };
        nets.insert(door.opened);
        write(&file, &nets)?;
        self.ends.insert(door.clone(), clock::uptime() + *remaining);
        Ok(())
    }

    fn close(&mut self, door: &Door) -> Result<(), BackendError> {
        self.ends.remove(door);
        let Some((file, mut nets)) = self.nets(&door.service)? else {
            return Ok(());
        };
        if !self.plan.always_allow.contains(&door.opened) {
            nets.remove(&door.opened);
        }
        write(&file, &nets)
    }

    fn list(&mut self) -> Result<Vec<Opening>, BackendError> {
        let now = clock::uptime();
        let mut openings = Vec::new();
        for (service, daemon) in &self.plan.daemons {
            let file = self.plan.file(daemon);
            let found = place::read(&file).map_err(|error| refused(&file, &error))?;
            for opened in found.map_or_else(BTreeSet::new, |found| pattern::parse(&found.text)) {
                let door = Door {
                    service: service.clone(),
                    opened,
                };
                let end = self.ends.get(&door).copied();
                if end.is_some() || !self.plan.always_allow.contains(&opened) {
                    let remaining = end.unwrap_or_default().saturating_sub(now);
                    openings.push(Opening {
                        door,
                        client: None,
                        remaining,
                    });
                }
            }
        }
        Ok(openings)
    }

    fn reconcile(&mut self, openings: &[Opening]) -> Result<Repairs, BackendError> {
        let now = clock::uptime();
        let end = |opening: &Opening| (opening.door.clone(), now + opening.remaining);
        self.ends = openings.iter().map(end).collect();
        let (repairs, faults) = self.settle(|service, _| self.wanted(service, openings));
        unless(faults, repairs)
    }

    fn doors_intact(&mut self, openings: &[Opening]) -> Result<bool, BackendError> {
        for line in self.plan.lines() {
            let wanted = self.wanted(self.service_of(&line.daemon).unwrap_or_default(), openings);
            let found = place::read(&line.file).map_err(|error| refused(&line.file, &error))?;
            if !is_as_wanted(found.as_ref(), &wanted) {
                return Ok(false);
            }
        }
        self.rules_intact()
    }

    fn rules_intact(&mut self) -> Result<bool, BackendError> {
        let file = &self.plan.hosts_allow;
        let found = place::read(file).map_err(|error| refused(file, &error))?;
        let lines = self.plan.lines();
        let is_whole = found.is_some_and(|found| block::with_block(&found.text, &lines) == found.text);
        Ok(is_whole && self.is_banned_settled()?)
    }

    fn ban(&mut self, banned: &Banned) -> Result<(), BackendError> {
        self.change_banned(|nets| {
            nets.insert(banned.network);
        })
    }

    fn unban(&mut self, network: IpNet) -> Result<(), BackendError> {
        self.change_banned(|nets| {
            nets.remove(&network);
        })
    }

    fn bans(&mut self) -> Result<Option<Vec<ShutOut>>, BackendError> {
        self.list_banned()
    }

    fn close_all(&mut self) -> Result<(), BackendError> {
        self.ends.clear();
        let files = self.plan.lines().into_iter();
        let faults = files.filter_map(|line| write(&line.file, &self.plan.always_allow).err());
        unless(faults.collect(), ())
    }

    fn uninstall(&mut self) -> Result<(), BackendError> {
        self.ends.clear();
        let record = Record::load(&self.plan.record)?;
        let mut faults: Vec<_> = record
            .hosts_deny
            .iter()
            .chain(&record.hosts_allow)
            .filter_map(|file| take_out(file, &record).err())
            .collect();
        if faults.is_empty() {
            let daemons = record.daemons.values().chain(&record.retired);
            let files = daemons
                .map(|daemon| self.plan.file(daemon))
                .chain([self.plan.banned_file(), self.plan.record.clone()]);
            faults = files
                .filter_map(|file| place::remove(&file).map_err(|e| refused(&file, &e)).err())
                .collect();
            // It is not empty when somebody else has put something there.
            let _ = std::fs::remove_dir(&self.plan.folder);
        }
        unless(faults, ())
    }
}

/// Takes the block out of a file, and the file away if it came with the block and holds nothing else.
fn take_out(file: &Path, record: &Record) -> Result<(), BackendError> {
    let found = place::read(file).map_err(|error| refused(file, &error))?;
    let Some(found) = found else { return Ok(()) };
    if record.created.contains(file) && block::without_block(&found.text).is_empty() {
        return place::remove(file).map_err(|error| refused(file, &error));
    }
    edit(file, block::without_block).map(drop)
}

/// Changes a file of somebody else; says whether it had to be changed. A change that comes between is kept.
fn edit(file: &Path, change: impl Fn(&[u8]) -> Vec<u8>) -> Result<bool, BackendError> {
    let read = || place::read(file).map_err(|error| refused(file, &error));
    let mut changed = false;
    for _ in 0..ATTEMPTS {
        let found = read()?;
        let before = found.clone().unwrap_or_else(|| Content::new(Vec::new(), FILE_MODE));
        let text = change(&before.text);
        if text == before.text {
            return Ok(changed);
        }
        if read()? == found {
            place::replace(file, &Content { text, ..before }).map_err(|error| refused(file, &error))?;
            changed = true;
        }
    }
    Err(fault(format!(
        "{} is changed by somebody else all the time",
        file.display()
    )))
}

/// Writes a pattern file and reads it back.
fn write(file: &Path, nets: &BTreeSet<IpNet>) -> Result<(), BackendError> {
    let content = Content::new(pattern::render(nets), FILE_MODE);
    place::replace(file, &content).map_err(|error| refused(file, &error))?;
    let found = place::read(file).map_err(|error| refused(file, &error))?;
    if is_as_wanted(found.as_ref(), nets) {
        Ok(())
    } else {
        Err(fault(format!("{} is not as it was written", file.display())))
    }
}

fn is_as_wanted(found: Option<&Content>, nets: &BTreeSet<IpNet>) -> bool {
    found.is_some_and(|found| found.mode == FILE_MODE && found.text == pattern::render(nets))
}

/// Multicast: nobody's address.
fn probes() -> [IpNet; 2] {
    let v4 = Ipv4Net::from(std::net::Ipv4Addr::new(224, 0, 0, 1));
    let v6 = Ipv6Net::from(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    [v4.into(), v6.into()]
}

fn refused(file: &Path, error: &io::Error) -> BackendError {
    let fault = fault(format!("{}: {error}", file.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => fault.with_hint("the same as root"),
        io::ErrorKind::ReadOnlyFilesystem => fault
            .with_hint("ReadWritePaths= of the unit must name this file's folder: it is replaced, not written over"),
        _ => fault,
    }
}

fn unless<T>(faults: Vec<BackendError>, done: T) -> Result<T, BackendError> {
    BackendError::unless(NAME, faults, done)
}

fn fault(what: String) -> BackendError {
    BackendError::new(NAME, what)
}

#[cfg(test)]
mod tests;

//! What the firewall process does with each request: held against the configuration it read itself, then done by the
//! backends.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use spa_keys::Paths;
use tracing::{error, warn};

use super::bounds::{Bounds, MOST_DOORS, check_ban, check_network, check_opening};
use super::message::{Answer, Begun, Refused, Reply, Request, Timed, TimedBan, VERSION, Which};
use super::overdue::Overdue;
use crate::backend::command;
use crate::backend::iptables::saved_nat;
use crate::backend::{BackendError, Door, Opening, families};
use crate::clock;
use crate::config::{BackendKind, Config, Metrics, Source};
use crate::confirm::start::Beginning;
use crate::confirm::{Ledger, Undoing, Why};
use crate::doors::Doors;
use crate::exposure::Ruleset;
use crate::guard::decoys;
use crate::guard::spared::resolvers;
use crate::logging;

/// Everything that only the firewall process may do.
pub struct Keeper {
    pub(super) paths: Paths,
    dry_run: bool,
    pub(super) ledger: Ledger,
    /// What was read last; the next to be staged.
    pub(super) read: Option<Source>,
    staged: Option<Standing>,
    pub(super) standing: Option<Standing>,
    pub(super) undoing: Option<(Undoing, Option<Why>)>,
    bounds: Bounds,
    overdue: Overdue,
    /// Sockets that follow an answer.
    sockets: Vec<OwnedFd>,
}

/// One configuration and its backends.
pub(super) struct Standing {
    pub(super) source: Source,
    config: Config,
    doors: Doors,
}

impl Keeper {
    /// One that has read and done nothing yet. For a dry run its backends only remember.
    #[must_use]
    pub fn new(paths: Paths, dry_run: bool) -> Self {
        Self {
            ledger: Ledger::of(&paths),
            paths,
            dry_run,
            read: None,
            staged: None,
            standing: None,
            undoing: None,
            bounds: Bounds::new(clock::uptime()),
            overdue: Overdue::default(),
            sockets: Vec::new(),
        }
    }

    /// Does what is asked, or says why not.
    ///
    /// # Errors
    ///
    /// [`Refused`]; what stood before still stands.
    pub fn answer(&mut self, request: Request) -> Answer {
        if self.dry_run && request.is_of_a_trial() {
            return Err(Refused::failed("a dry run confirms and undoes nothing"));
        }
        match request {
            Request::Begin(VERSION) => self.begin(),
            Request::Begin(_) => Err(Refused::failed("the program was replaced while it was being started")),
            Request::Read(which) => self.read(which),
            Request::Stage => self.stage(),
            Request::Commit => self.commit(),
            Request::Abort => {
                self.staged = None;
                self.put_back();
                Ok(Reply::Done)
            }
            Request::Open(asked) => self.open(&asked),
            Request::Close(door, others) => self.close(&door, &others),
            Request::Reconcile(asked) => {
                let openings = self.expect(&asked)?;
                done(self.doors()?.reconcile(&openings))
            }
            Request::CheckDoors(asked) => {
                let openings = self.expect(&asked)?;
                self.doors()?.check_doors(&openings);
                Ok(Reply::Done)
            }
            Request::CheckRules(asked) => {
                let openings = self.expect(&asked)?;
                self.doors()?.check_rules(&openings);
                Ok(Reply::Done)
            }
            Request::CloseAll => {
                self.overdue.clear();
                self.doors()?.close_all();
                Ok(Reply::Done)
            }
            Request::CloseCommands => {
                self.doors()?.close_commands();
                Ok(Reply::Done)
            }
            Request::Ban(asked) => {
                self.check_ban(&asked)?;
                done(self.doors()?.ban(&asked.left(clock::uptime())))
            }
            Request::Unban(network) => done(self.doors()?.unban(network)),
            Request::Bans => Ok(Reply::Bans(self.doors()?.bans())),
            Request::Banning => {
                let names = self.doors()?.banning();
                Ok(Reply::Names(names.into_iter().map(str::to_owned).collect()))
            }
            Request::CheckBans(asked) => self.check_bans(&asked),
            Request::Decoy(port) => self.decoy(port),
            Request::Surroundings => Ok(surroundings()),
            Request::States => self.states(),
            Request::Trial => Ok(Reply::Trial(self.waiting()?)),
            Request::Remember(manner) => self.remember(&manner),
            Request::KeepCopy => self.keep_copy(),
            Request::BeginUndo(patience) => self.begin_undo(patience),
            Request::FinishUndo => self.finish_undo(),
            Request::LeaveUndo => {
                self.undoing = None;
                Ok(Reply::Done)
            }
            Request::End(sockets) => {
                self.remove_sockets(&sockets);
                Ok(Reply::Done)
            }
        }
    }

    /// The partner's own, which it cannot take away itself; another program's in the same place stays.
    fn remove_sockets(&self, inodes: &[u64]) {
        let config = self.standing.as_ref().map(|standing| &standing.config);
        let metrics = match config.and_then(|config| config.metrics.as_ref()) {
            Some(Metrics::Socket(path)) => Some(path.clone()),
            _ => None,
        };
        for path in metrics.into_iter().chain([self.paths.control_socket()]) {
            let facts = path.symlink_metadata();
            if facts.is_ok_and(|facts| facts.file_type().is_socket() && inodes.contains(&facts.ino())) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// The sockets that follow the last answer.
    pub(super) fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    /// Whether what stands runs commands.
    pub(super) fn runs_commands(&self) -> bool {
        let services = self.standing.iter().flat_map(|standing| &standing.config.services);
        let mut backends = services.flat_map(|service| &service.backends);
        // What an earlier configuration opened by commands is closed by them.
        backends.any(|backend| *backend == BackendKind::Command) || command::ledger_file(&self.paths).exists()
    }

    /// The nftables tables whose changes call for a look at the rules; none where nothing stands.
    pub(super) fn tables(&self) -> Vec<String> {
        self.standing
            .as_ref()
            .map_or_else(Vec::new, |standing| standing.doors.tables())
    }

    /// How often to look where nothing tells.
    pub(super) fn look_every(&self) -> Option<Duration> {
        self.standing.as_ref()?.doors.look_every()
    }

    /// When [`Keeper::close_overdue`] has something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        self.overdue.due()
    }

    /// Closes what should have been closed by now.
    pub(super) fn close_overdue(&mut self) {
        for door in self.overdue.take(clock::uptime()) {
            warn!(
                service = door.service, opened = %door.opened,
                "closed: its time is over, and the packet process did not say so"
            );
            let others = self.overdue.others(&door.service);
            if let Some(standing) = &mut self.standing {
                // A failure has been reported; the next start closes it.
                let _ = standing.doors.close(&door, &others);
            }
        }
    }

    fn begin(&mut self) -> Answer {
        let beginning = if self.dry_run {
            Beginning::plain(&self.paths)
        } else {
            Beginning::of(&self.paths)
        };
        let Beginning { source, undoing, waits } = beginning.map_err(Refused::Findings)?;
        self.read = Some(source.clone());
        let begun = Begun {
            source,
            undoing: undoing.is_some(),
            waits,
        };
        self.undoing = undoing.map(|undoing| (undoing, None));
        Ok(Reply::Begun(begun))
    }

    fn read(&mut self, which: Which) -> Answer {
        let source = match which {
            Which::File => Source::read(&self.paths.config).map_err(Refused::Findings)?,
            Which::Confirmed => self.confirmed()?,
        };
        self.read = Some(source.clone());
        Ok(Reply::Source(source))
    }

    /// The new rules over the old ones; on failure the old ones again.
    fn stage(&mut self) -> Answer {
        let source = self.read.clone().ok_or_else(|| Refused::failed("nothing was read"))?;
        let (config, _) = Config::from_source(&self.paths.config, &source).map_err(Refused::Findings)?;
        let mut doors = if self.dry_run {
            Doors::recording(&config)
        } else {
            Doors::new(&config, &self.paths)?
        };
        // Nothing is in force yet: there is no other log to stay with, should this configuration be refused.
        if self.standing.is_none() {
            logging::take_up(config.log);
        }
        if let Err(error) = doors.protect().and_then(|()| doors.self_test()) {
            self.put_back();
            return Err(error.into());
        }
        self.staged = Some(Standing { source, config, doors });
        Ok(Reply::Done)
    }

    fn commit(&mut self) -> Answer {
        let staged = self
            .staged
            .take()
            .ok_or_else(|| Refused::failed("nothing was staged"))?;
        logging::take_up(staged.config.log);
        self.standing = Some(staged);
        Ok(Reply::Done)
    }

    fn put_back(&mut self) {
        if let Some(standing) = &mut self.standing
            && let Err(worse) = standing.doors.protect()
        {
            error!("the old rules could not be put back: {worse}");
        }
    }

    fn open(&mut self, asked: &Timed) -> Answer {
        let now = clock::uptime();
        let Self { standing, bounds, .. } = self;
        let standing = standing.as_mut().ok_or_else(nothing_stands)?;
        bounds
            .check_open(&standing.config, asked, now)
            .map_err(|why| refused(&asked.door, &why))?;
        if self.overdue.len() >= MOST_DOORS && !self.overdue.contains(&asked.door) {
            return Err(refused(&asked.door, "too many doors stand open"));
        }
        // Also when it fails: what was open before ends at its old end, and nobody knows how far this one got.
        self.overdue.opened(asked);
        done(standing.doors.open(&asked.left(now)))
    }

    fn close(&mut self, door: &Door, others: &[ipnet::IpNet]) -> Answer {
        check_network(door.opened).map_err(|why| refused(door, &why))?;
        self.overdue.closed(door);
        done(self.doors()?.close(door, others))
    }

    /// What should stand open, without what must not.
    fn expect(&mut self, asked: &[Timed]) -> Result<Vec<Opening>, Refused> {
        let now = clock::uptime();
        let standing = self.standing.as_ref().ok_or_else(nothing_stands)?;
        let mut allowed = Vec::with_capacity(asked.len().min(MOST_DOORS));
        for timed in asked.iter().take(MOST_DOORS) {
            match check_opening(&standing.config, timed, now) {
                Ok(()) => allowed.push(timed.clone()),
                Err(why) => drop(refused(&timed.door, &why)),
            }
        }
        self.overdue.replace(&allowed);
        Ok(allowed.iter().map(|timed| timed.left(now)).collect())
    }

    fn check_ban(&mut self, asked: &TimedBan) -> Result<(), Refused> {
        let left = asked.until.saturating_sub(clock::uptime());
        let standing = self.standing.as_ref().ok_or_else(nothing_stands)?;
        check_ban(&standing.config, asked.network, left).map_err(|why| {
            error!(source = %asked.network, "the packet process asked to shut out what it may not: {why}");
            Refused::Backend(BackendError::new("firewall", why))
        })
    }

    fn check_bans(&mut self, asked: &[TimedBan]) -> Answer {
        let now = clock::uptime();
        let mut wanted = Vec::with_capacity(asked.len().min(MOST_DOORS));
        for timed in asked.iter().take(MOST_DOORS) {
            if self.check_ban(timed).is_ok() {
                wanted.push(timed.left(now));
            }
        }
        self.doors()?.check_bans(&wanted);
        Ok(Reply::Done)
    }

    fn decoy(&mut self, port: u16) -> Answer {
        let standing = self.standing.as_ref().ok_or_else(nothing_stands)?;
        let guard = standing.config.guard.as_ref();
        if !guard.is_some_and(|guard| guard.decoys.contains(&port)) {
            return Err(Refused::failed("no such decoy is configured"));
        }
        let sockets = decoys::listen_on(port).map_err(Refused::failed)?;
        self.sockets = sockets.into_iter().map(OwnedFd::from).collect();
        Ok(Reply::Listening(self.sockets.len()))
    }

    fn states(&mut self) -> Answer {
        let standing = self.standing.as_ref().ok_or_else(nothing_stands)?;
        let now = std::fs::read(&self.paths.config).unwrap_or_default();
        let changed = now != standing.source.text.as_bytes();
        Ok(Reply::States(standing.doors.states(), changed))
    }

    fn doors(&mut self) -> Result<&mut Doors, Refused> {
        Ok(&mut self.standing.as_mut().ok_or_else(nothing_stands)?.doors)
    }
}

fn surroundings() -> Reply {
    let saved = families::available()
        .into_iter()
        .filter_map(|family| saved_nat(family).ok());
    let published = saved.flat_map(|text| Ruleset::parse(&text).published()).collect();
    Reply::Surroundings(published, resolvers())
}

fn nothing_stands() -> Refused {
    Refused::failed("no configuration is in force yet")
}

/// Said loudly: our own packet process never asks for it.
fn refused(door: &Door, why: &str) -> Refused {
    error!(
        service = door.service.escape_debug().to_string(), opened = %door.opened,
        "the packet process asked to open what it may not: {why}"
    );
    Refused::Backend(BackendError::new("firewall", why))
}

fn done(outcome: Result<(), BackendError>) -> Answer {
    outcome.map(|()| Reply::Done).map_err(Refused::from)
}

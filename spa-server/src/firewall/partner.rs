//! The packet process's end: asks the firewall process.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use ipnet::IpNet;
use rustix::net::RecvFlags;
use tracing::error;

use super::message::{Answer, Begun, Manner, Refused, Reply, Request, Timed, TimedBan, Undo, VERSION, Waiting, Which};
use super::wire;
use crate::backend::{BackendError, Banned, Door, Opening, ShutOut};
use crate::clock;
use crate::config::{AtEnd, Config, PortRange, Source};
use crate::doors::BackendState;

/// Longer than the slowest backend takes: commands have 10 s each, and begin within 20 s of one request.
const PATIENCE: Duration = Duration::from_secs(90);

/// The way to the backends.
pub struct Partner {
    socket: UnixStream,
    child: Child,
    /// The backends of each service, for status.
    config: Option<Config>,
    /// Why nothing can be asked any more.
    lost: Option<String>,
}

/// Becomes readable when the firewall was changed by whomever.
#[derive(Debug)]
pub struct Bell(ChildStdout);

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Bell {
    /// Takes what has come; false when nothing will come any more.
    #[must_use]
    pub fn drain(&self) -> bool {
        let mut octets = [0; 64];
        loop {
            match rustix::io::read(&self.0, &mut octets) {
                Ok(1..) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Ok(0) | Err(_) => return false,
            }
        }
    }
}

/// The socket, to wait for its end.
#[derive(Debug)]
pub struct Line(OwnedFd);

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Partner {
    /// Starts the firewall process; one for a dry run changes nothing. `places` are the options that name the files, from
    /// the root.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(places: &[OsString], dry_run: bool) -> io::Result<(Self, Bell)> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // This very program, also when its file was replaced meanwhile. Its input is the socket, its output the bell.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("spa-server")
            .arg(super::process::COMMAND)
            .args(places)
            .args(dry_run.then_some("--dry-run"))
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| KEPT.iter().any(|kept| name == kept)))
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let bell = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        rustix::io::ioctl_fionbio(&bell, true)?;
        let partner = Self {
            socket,
            child,
            config: None,
            lost: None,
        };
        Ok((partner, Bell(bell)))
    }

    /// What becomes readable when the firewall process is gone.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn line(&self) -> io::Result<Line> {
        Ok(Line(self.socket.as_fd().try_clone_to_owned()?))
    }

    /// Why nothing can be asked any more, if so: it is gone, or it says what nobody asked for.
    pub fn lost(&mut self) -> Option<String> {
        if self.lost.is_none() {
            let peeked = rustix::net::recv(&self.socket, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            let why = match peeked {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return None,
                Ok((0, _)) => "it ended".to_owned(),
                Ok(_) => "it says what nobody has asked for".to_owned(),
                Err(error) => error.to_string(),
            };
            self.lose(&why);
        }
        self.lost.clone()
    }

    /// What to begin with.
    ///
    /// # Errors
    ///
    /// When server.toml cannot be read.
    pub fn begin(&mut self) -> Result<Begun, Refused> {
        match self.ask(&Request::Begin(VERSION))? {
            Reply::Begun(begun) => Ok(begun),
            other => Err(self.odd(&other)),
        }
    }

    /// Reads a configuration, the next to be staged.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(&mut self, which: Which) -> Result<Source, Refused> {
        match self.ask(&Request::Read(which))? {
            Reply::Source(source) => Ok(source),
            other => Err(self.odd(&other)),
        }
    }

    /// Puts the static part of what was read last in place, and tries its backends with a probe.
    ///
    /// # Errors
    ///
    /// The first failure; the old rules are there again.
    pub fn stage(&mut self) -> Result<(), Refused> {
        self.order(&Request::Stage)
    }

    /// What was staged is in force from now on.
    ///
    /// # Errors
    ///
    /// When nothing was staged.
    pub fn commit(&mut self, config: &Config) -> Result<(), Refused> {
        self.order(&Request::Commit)?;
        self.config = Some(config.clone());
        Ok(())
    }

    /// The old rules again; what cannot be put back is reported there.
    pub fn abort(&mut self) {
        let _ = self.order(&Request::Abort);
    }

    /// Opens a door in every backend of its service, or renews it.
    ///
    /// # Errors
    ///
    /// The first failure; what was opened by other backends is closed again.
    pub fn open(&mut self, opening: &Opening) -> Result<(), BackendError> {
        let asked = Timed::at(opening, clock::uptime());
        Ok(self.order(&Request::Open(asked))?)
    }

    /// Closes a door, and cuts what it had let in where the service asks for it, but for those who have one of `others`
    /// to the same service.
    ///
    /// # Errors
    ///
    /// The first failure; all was tried.
    pub fn close(&mut self, door: &Door, others: &[IpNet]) -> Result<(), BackendError> {
        // Only what is cut asks for them, and a gateway may have thousands.
        let others = if self.cuts(&door.service) { others } else { &[] };
        Ok(self.order(&Request::Close(door.clone(), others.to_vec()))?)
    }

    /// Makes exactly these openings stand open.
    ///
    /// # Errors
    ///
    /// The first failure; the others were tried all the same.
    pub fn reconcile(&mut self, openings: &[Opening]) -> Result<(), BackendError> {
        Ok(self.order(&Request::Reconcile(timed(openings)))?)
    }

    /// Looks whether the doors are as they should be, and has mended what is not.
    pub fn check_doors(&mut self, openings: &[Opening]) {
        let _ = self.order(&Request::CheckDoors(timed(openings)));
    }

    /// Looks whether the static parts are as they were put, and has mended what is not.
    pub fn check_rules(&mut self, openings: &[Opening]) {
        let _ = self.order(&Request::CheckRules(timed(openings)));
    }

    /// Closes every door; what protects stays.
    pub fn close_all(&mut self) {
        let _ = self.order(&Request::CloseAll);
    }

    /// Closes what must not stay open without a daemon although doors are kept: what commands have opened.
    pub fn close_commands(&mut self) {
        let _ = self.order(&Request::CloseCommands);
    }

    /// Shuts a network out in every backend that bans.
    ///
    /// # Errors
    ///
    /// The first failure; the others were tried all the same.
    pub fn ban(&mut self, banned: &Banned) -> Result<(), BackendError> {
        let asked = TimedBan::at(banned, clock::uptime());
        Ok(self.order(&Request::Ban(asked))?)
    }

    /// Lets a network in again.
    ///
    /// # Errors
    ///
    /// The first failure; the others were tried all the same.
    pub fn unban(&mut self, network: IpNet) -> Result<(), BackendError> {
        Ok(self.order(&Request::Unban(network))?)
    }

    /// Who is shut out by any backend, with the latest end that one of them knows.
    pub fn bans(&mut self) -> Vec<ShutOut> {
        match self.ask(&Request::Bans) {
            Ok(Reply::Bans(bans)) => bans,
            _ => Vec::new(),
        }
    }

    /// The names of the backends that shut out.
    pub fn banning(&mut self) -> Vec<String> {
        match self.ask(&Request::Banning) {
            Ok(Reply::Names(names)) => names,
            _ => Vec::new(),
        }
    }

    /// Makes exactly these be shut out, where somebody has changed it.
    pub fn check_bans(&mut self, wanted: &[Banned]) {
        let now = clock::uptime();
        let wanted = wanted.iter().map(|banned| TimedBan::at(banned, now)).collect();
        let _ = self.order(&Request::CheckBans(wanted));
    }

    /// Sockets that listen on a decoy port, one for each family.
    ///
    /// # Errors
    ///
    /// When somebody else serves there.
    pub fn decoy(&mut self, port: u16) -> Result<Vec<TcpListener>, Refused> {
        let count = match self.ask(&Request::Decoy(port))? {
            Reply::Listening(count) => count,
            other => return Err(self.odd(&other)),
        };
        let sockets = wire::receive_sockets(&self.socket, count);
        let sockets = sockets.map_err(|error| self.lose(&error.to_string()))?;
        Ok(sockets.into_iter().map(TcpListener::from).collect())
    }

    fn cuts(&self, service: &str) -> bool {
        let mut services = self.config.iter().flat_map(|config| &config.services);
        services.any(|known| known.name == service && known.at_end == AtEnd::Cut)
    }

    /// The names of a service's backends.
    #[must_use]
    pub fn names(&self, service: &str) -> Vec<&'static str> {
        let services = self.config.iter().flat_map(|config| &config.services);
        let backends = services
            .filter(|known| known.name == service)
            .flat_map(|service| &service.backends);
        let backends: BTreeSet<_> = backends.copied().collect();
        backends.into_iter().map(crate::config::BackendKind::name).collect()
    }

    /// Ports that are published for others, and resolvers: what only root may read of this host.
    pub fn surroundings(&mut self) -> (Vec<PortRange>, Vec<IpNet>) {
        match self.ask(&Request::Surroundings) {
            Ok(Reply::Surroundings(published, resolvers)) => (published, resolvers),
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// How the backends are, and whether server.toml is another text than the one in force.
    pub fn states(&mut self) -> (Vec<BackendState>, bool) {
        match self.ask(&Request::States) {
            Ok(Reply::States(states, changed)) => (states, changed),
            _ => (Vec::new(), false),
        }
    }

    /// What waits to be confirmed.
    ///
    /// # Errors
    ///
    /// When what is remembered of it cannot be read.
    pub fn waiting(&mut self) -> Result<Waiting, Refused> {
        match self.ask(&Request::Trial)? {
            Reply::Trial(waiting) => Ok(waiting),
            other => Err(self.odd(&other)),
        }
    }

    /// Remembers how what is in force was loaded. False when it was undone meanwhile.
    ///
    /// # Errors
    ///
    /// When it cannot be remembered.
    pub fn remember(&mut self, manner: Manner) -> Result<(bool, Waiting), Refused> {
        self.remembered(&Request::Remember(manner))
    }

    /// Sees to it that what is in force is kept as the confirmed copy; whether it is.
    ///
    /// # Errors
    ///
    /// When what is remembered cannot be read.
    pub fn keep_copy(&mut self) -> Result<(bool, Waiting), Refused> {
        self.remembered(&Request::KeepCopy)
    }

    fn remembered(&mut self, request: &Request) -> Result<(bool, Waiting), Refused> {
        match self.ask(request)? {
            Reply::Remembered(is_wanted, waiting) => Ok((is_wanted, waiting)),
            other => Err(self.odd(&other)),
        }
    }

    /// Begins to undo a change whose time is over: its file is back, its rules are to be staged.
    ///
    /// # Errors
    ///
    /// When what is remembered of it cannot be read.
    pub fn begin_undo(&mut self, patience: Duration) -> Result<Undo, Refused> {
        match self.ask(&Request::BeginUndo(patience))? {
            Reply::Undo(undo) => Ok(undo),
            other => Err(self.odd(&other)),
        }
    }

    /// The rules are back: it is undone.
    ///
    /// # Errors
    ///
    /// When the file is not back, or that it is over cannot be remembered.
    pub fn finish_undo(&mut self) -> Result<Waiting, Refused> {
        match self.ask(&Request::FinishUndo)? {
            Reply::Trial(waiting) => Ok(waiting),
            other => Err(self.odd(&other)),
        }
    }

    /// It cannot be undone now; it may be tried again.
    pub fn leave_undo(&mut self) {
        let _ = self.order(&Request::LeaveUndo);
    }

    /// The packet process ends in order; `sockets` are the inodes of those in the file system that were its own.
    pub fn end(mut self, sockets: Vec<u64>) {
        if self.order(&Request::End(sockets)).is_ok() {
            drop(self.socket);
            let _ = self.child.wait();
        }
    }

    fn order(&mut self, request: &Request) -> Result<(), Refused> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            other => Err(self.odd(&other)),
        }
    }

    fn ask(&mut self, request: &Request) -> Answer {
        if let Some(why) = &self.lost {
            return Err(gone(why));
        }
        let answer = wire::send(&self.socket, request).and_then(|()| wire::receive::<Answer>(&self.socket));
        match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(self.lose("it ended")),
            Err(error) if is_late(&error) => Err(self.lose("it does not answer")),
            Err(error) => Err(self.lose(&error.to_string())),
        }
    }

    fn lose(&mut self, why: &str) -> Refused {
        error!("the firewall process cannot be asked any more: {why}");
        self.lost = Some(why.to_owned());
        gone(why)
    }

    /// An answer to another question: nothing that follows could be believed.
    fn odd(&mut self, reply: &Reply) -> Refused {
        let kind = format!("{reply:?}");
        let kind = kind.split(['(', '{', ' ']).next().unwrap_or_default();
        self.lose(&format!("it answers with {kind}"))
    }
}

/// What the firewall process is told of this one's environment: how to log.
const KEPT: [&str; 4] = ["SPA_LOG", "NO_COLOR", "TERM", "JOURNAL_STREAM"];

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn gone(why: &str) -> Refused {
    Refused::Backend(BackendError::new(
        "firewall",
        format!("the firewall process is gone: {why}"),
    ))
}

fn timed(openings: &[Opening]) -> Vec<Timed> {
    let now = clock::uptime();
    openings.iter().map(|opening| Timed::at(opening, now)).collect()
}

//! The firewall process: answers its partner on the socket that is its standard input, tells it on its standard output when
//! somebody has changed the firewall, and ends when the partner is gone. It never sees a packet or a key.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, getsockname};
use spa_keys::{Exit, Failure, Paths};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::message::{Answer, Reply, Request};
use super::{Keeper, wire};
use crate::clock;
use crate::netlink::monitor::Monitor;
use crate::netlink::socket::retry;

/// The hidden command that a firewall process runs.
pub const COMMAND: &str = "firewall-process";
/// What it is called in the list of processes, where it has 15 octets.
const NAME: &std::ffi::CStr = c"spa-firewall";
/// How long the rest of a message may take, and the partner to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the rules are looked at where nothing can tell.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Serves until the partner is gone; for a dry run, without changing anything.
///
/// # Errors
///
/// When it was not started by a packet process.
pub fn serve(paths: &Paths, dry_run: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("the partner cannot be served: {error}"));
    let socket = take_socket().map_err(|_| {
        let what = "this is a part of spa-server run and does nothing by itself";
        Failure::new(Exit::Usage, what).hint("spa-server run")
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let _context = runtime.enter();
    // For ps and for whoever reads /proc; without it this is the same as before.
    let _ = rustix::thread::set_name(NAME);
    let _held_off = hold_off_signals().map_err(failed)?;
    Process {
        keeper: Keeper::new(paths.clone(), dry_run),
        socket,
        changes: None,
        look: None,
        rights: Rights::Root,
    }
    .run()
    .map_err(failed)
}

/// The standard input, which is then of no use to the programs that are run.
fn take_socket() -> io::Result<UnixStream> {
    let input = io::stdin();
    if getsockname(&input)?.address_family() != AddressFamily::UNIX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let socket = UnixStream::from(input.as_fd().try_clone_to_owned()?);
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Whoever stops the service stops the partner; this process ends after it, when all is done.
fn hold_off_signals() -> io::Result<Vec<Signal>> {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    kinds.into_iter().map(signal).collect()
}

struct Process {
    keeper: Keeper,
    socket: UnixStream,
    /// What tells of changes of the rules; none where nothing can tell, or nothing stands.
    changes: Option<Monitor>,
    /// When to look at the rules although nothing told.
    look: Option<Duration>,
    rights: Rights,
}

/// What this process may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// Everything: nothing stands yet, or it runs people's commands.
    Root,
    /// What firewalls take.
    Firewall,
}

impl Process {
    fn run(mut self) -> io::Result<()> {
        loop {
            let [asked, changed] = self.wait()?;
            if changed {
                self.on_change();
            }
            if asked && !self.serve_one()? {
                info!("the packet process is gone: ending");
                return Ok(());
            }
            self.on_time();
        }
    }

    /// Whether the partner asks, and whether the rules were changed.
    fn wait(&self) -> io::Result<[bool; 2]> {
        let now = clock::uptime();
        let next = [self.keeper.due(), self.look].into_iter().flatten().min();
        let pause = next.map_or(LONGEST_PAUSE, |next| next.saturating_sub(now));
        let pause = Timespec::try_from(pause).map_err(io::Error::other)?;
        let mut waits = vec![PollFd::new(&self.socket, PollFlags::IN)];
        waits.extend(self.changes.iter().map(|changes| PollFd::new(changes, PollFlags::IN)));
        retry(|| poll(&mut waits, Some(&pause)))?;
        let is_ready = |at: usize| waits.get(at).is_some_and(|wait| !wait.revents().is_empty());
        Ok([is_ready(0), is_ready(1)])
    }

    /// Answers one request; false when there are no more.
    fn serve_one(&mut self) -> io::Result<bool> {
        let Some(request) = wire::receive::<Request>(&self.socket)? else {
            return Ok(false);
        };
        let is_new = matches!(request, Request::Commit);
        let is_last = matches!(request, Request::End(_));
        let answer = self.keeper.answer(request);
        self.reply(&answer)?;
        if is_new && answer.is_ok() {
            self.give_up();
            self.watch();
        }
        Ok(!is_last)
    }

    fn reply(&mut self, answer: &Answer) -> io::Result<()> {
        let sockets = self.keeper.take_sockets();
        wire::send(&self.socket, answer)?;
        match answer {
            Ok(Reply::Listening(_)) => wire::send_sockets(&self.socket, &sockets),
            _ => Ok(()),
        }
    }

    /// For good, once it is clear that nobody's commands are run.
    fn give_up(&mut self) {
        match (self.rights, self.keeper.runs_commands()) {
            (Rights::Root, false) => {
                crate::privilege::keep_firewall();
                self.rights = Rights::Firewall;
            }
            (Rights::Firewall, true) => {
                warn!("there was no command before: until the next start they have no rights but those of firewalls");
            }
            _ => {}
        }
    }

    /// Other tables are to be watched.
    fn watch(&mut self) {
        let tables = self.keeper.tables();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        self.changes = None;
        if !tables.is_empty() {
            match Monitor::tables(&tables) {
                Ok(monitor) => self.changes = Some(monitor),
                Err(error) => warn!("firewall changes are not told here, they are looked for by time: {error}"),
            }
        }
        self.look_later();
    }

    fn look_later(&mut self) {
        let every = self.keeper.look_every().unwrap_or(LOOK_EVERY);
        self.look = self.changes.is_none().then(|| clock::uptime() + every);
    }

    fn on_change(&mut self) {
        match self.changes.as_ref().map(Monitor::drain) {
            Some(Ok(true)) => ring(),
            Some(Err(error)) => {
                warn!("firewall changes are not told any more, they are looked for by time: {error}");
                self.changes = None;
                self.look_later();
            }
            Some(Ok(false)) | None => {}
        }
    }

    fn on_time(&mut self) {
        let now = clock::uptime();
        if self.keeper.due().is_some_and(|due| due <= now) {
            self.keeper.close_overdue();
        }
        if self.look.is_some_and(|due| due <= now) {
            ring();
            self.look_later();
        }
    }
}

/// A bell that was rung already is not rung again: the pipe is full then, or nobody is there to hear it.
fn ring() {
    let output = io::stdout();
    let _ = rustix::io::ioctl_fionbio(&output, true);
    let _ = rustix::io::write(&output, b"!");
}

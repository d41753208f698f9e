//! What the service manager is told: sd_notify(3), over one datagram socket that is opened at the start and kept.
//!
//! Later nothing may connect any more, and a service manager that is busy is never waited for: what it did not take is
//! said again with the next beat.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use spa_keys::escape::escape;
use tracing::warn;

/// How often the line of text is looked at where no watchdog asks for more.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// How many beats fit into the time after which the manager takes the daemon for frozen.
const BEATS: u32 = 3;

/// The way to the service manager; without one, nothing is said and nothing is due.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watched: bool,
    every: Duration,
    due: Duration,
    ready: bool,
    /// Whether the manager waits for `READY=1` and has not taken it yet.
    owed: bool,
    /// The last line that it took.
    status: String,
}

/// How the daemon is, for whoever looks after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it does its work, as far as a restart could mend what is wrong.
    pub works: bool,
    /// One line for people.
    pub line: String,
}

impl Notify {
    /// Opens the socket that NOTIFY_SOCKET names; WATCHDOG_USEC says how often a sign of life is wanted.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let watchdog = watchdog(number("WATCHDOG_USEC"), number("WATCHDOG_PID"), process::id().into());
        match connect(&name) {
            Ok(socket) => Self::new(socket, watchdog),
            Err(error) => {
                warn!("the service manager cannot be told anything: NOTIFY_SOCKET: {error}");
                Self::default()
            }
        }
    }

    fn new(socket: UnixDatagram, watchdog: Option<Duration>) -> Self {
        Self {
            socket: Some(socket),
            watched: watchdog.is_some(),
            every: watchdog.map_or(STATUS_EVERY, |within| STATUS_EVERY.min(within / BEATS)),
            ..Self::default()
        }
    }

    /// When the next beat is due, on the clock that starts with the boot.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        (self.socket.is_some() && self.ready).then_some(self.due)
    }

    /// Everything that a knock needs is there.
    pub fn ready(&mut self, now: Duration, health: &Health) {
        (self.ready, self.owed) = (true, true);
        self.beat(now, health);
    }

    /// A sign of life, unless only a restart can help; and how it is, where that has changed.
    pub fn beat(&mut self, now: Duration, health: &Health) {
        self.due = now + self.every;
        let status = format!("STATUS={}", escape(&health.line));
        let lines = [
            (self.owed, "READY=1"),
            (self.status != health.line, status.as_str()),
            (self.watched && health.works, "WATCHDOG=1"),
        ];
        let wanted: Vec<_> = lines
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, line)| line)
            .collect();
        if !wanted.is_empty() && self.send(&wanted.join("\n")) {
            self.owed = false;
            health.line.clone_into(&mut self.status);
        }
    }

    /// Another configuration is being loaded; `monotonic` is what CLOCK_MONOTONIC shows.
    pub fn reloading(&mut self, monotonic: Duration) {
        if self.ready {
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic.as_micros()));
        }
    }

    /// It is loaded, or refused: the daemon goes on in either case.
    pub fn reloaded(&mut self) {
        if self.ready {
            self.owed = !self.send("READY=1");
        }
    }

    /// The daemon ends because it was told to.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    fn send(&self, lines: &str) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.send(lines.as_bytes()).is_ok())
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// Whether and how soon a sign of life is wanted of this process (sd_watchdog_enabled(3)).
fn watchdog(usec: Option<u64>, pid: Option<u64>, own: u64) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid == own);
    usec.filter(|usec| meant && *usec > 0).map(Duration::from_micros)
}

/// A path, or with `@` a name in the abstract namespace.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("expected an absolute path, or @ and a name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pair(watchdog: Option<Duration>) -> (UnixDatagram, Notify) {
        let (manager, daemon) = UnixDatagram::pair().unwrap();
        manager.set_nonblocking(true).unwrap();
        daemon.set_nonblocking(true).unwrap();
        (manager, Notify::new(daemon, watchdog))
    }

    fn heard(manager: &UnixDatagram) -> Option<String> {
        let mut octets = [0; 1024];
        let length = manager.recv(&mut octets).ok()?;
        Some(String::from_utf8_lossy(&octets[..length]).into_owned())
    }

    fn health(works: bool, line: &str) -> Health {
        Health {
            works,
            line: line.into(),
        }
    }

    #[test]
    fn the_watchdog_is_fed_while_it_works_and_status_is_said_once() {
        let (manager, mut notify) = pair(Some(SECOND * 3));
        assert_eq!(notify.due(), None, "not before it is ready");
        notify.ready(SECOND, &health(true, "fine"));
        assert_eq!(heard(&manager).unwrap(), "READY=1\nSTATUS=fine\nWATCHDOG=1");
        assert_eq!(notify.due(), Some(SECOND * 2));
        notify.beat(SECOND * 2, &health(true, "fine"));
        assert_eq!(heard(&manager).unwrap(), "WATCHDOG=1");
        notify.beat(SECOND * 3, &health(false, "a thread has ended"));
        assert_eq!(heard(&manager).unwrap(), "STATUS=a thread has ended");
        notify.beat(SECOND * 4, &health(false, "a thread has ended"));
        assert_eq!(heard(&manager), None);
    }

    #[test]
    fn a_status_stays_one_line() {
        let (manager, mut notify) = pair(None);
        notify.ready(SECOND, &health(true, "a\nREADY=1\u{7}"));
        assert_eq!(heard(&manager).unwrap(), "READY=1\nSTATUS=a\\u{a}READY=1\\u{7}");
    }

    #[test]
    fn a_reload_is_told_with_its_time() {
        let (manager, mut notify) = pair(None);
        notify.reloading(SECOND);
        notify.reloaded();
        assert_eq!(heard(&manager), None, "not before it is ready");
        notify.ready(SECOND, &health(true, ""));
        assert_eq!(heard(&manager).unwrap(), "READY=1");
        notify.reloading(SECOND);
        assert_eq!(heard(&manager).unwrap(), "RELOADING=1\nMONOTONIC_USEC=1000000");
        notify.reloaded();
        assert_eq!(heard(&manager).unwrap(), "READY=1");
        notify.stopping();
        assert_eq!(heard(&manager).unwrap(), "STOPPING=1\nSTATUS=stopping");
    }

    #[test]
    fn a_manager_that_is_busy_is_not_waited_for_and_told_later() {
        let (manager, mut notify) = pair(None);
        while notify.send("X=1") {}
        notify.ready(SECOND, &health(true, "fine"));
        while heard(&manager).is_some_and(|said| said == "X=1") {}
        assert_eq!(heard(&manager), None);
        notify.beat(SECOND, &health(true, "fine"));
        assert_eq!(heard(&manager).unwrap(), "READY=1\nSTATUS=fine");
    }

    #[test]
    fn without_a_manager_nothing_is_due() {
        let mut notify = Notify::default();
        notify.ready(SECOND, &health(true, "fine"));
        notify.beat(SECOND, &health(true, "fine"));
        notify.stopping();
        assert_eq!(notify.due(), None);
    }

    #[test]
    fn the_watchdog_is_meant_for_one_process() {
        assert_eq!(watchdog(Some(3_000_000), None, 7), Some(SECOND * 3));
        assert_eq!(watchdog(Some(3_000_000), Some(7), 7), Some(SECOND * 3));
        assert_eq!(watchdog(Some(3_000_000), Some(8), 7), None);
        assert_eq!(watchdog(Some(0), None, 7), None);
        assert_eq!(watchdog(None, Some(7), 7), None);
    }

    #[test]
    fn names_of_both_kinds_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        connect(path.as_os_str()).unwrap().send(b"X=1").unwrap();
        assert_eq!(heard(&manager).unwrap(), "X=1");
        let name = format!("spa-notify-test-{}", process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        connect(OsStr::new(&format!("@{name}"))).unwrap().send(b"X=2").unwrap();
        assert_eq!(heard(&manager).unwrap(), "X=2");
        assert!(connect(OsStr::new("vsock:2:1")).is_err());
    }
}

//! Runs one command: no shell, an empty environment, an own user, a bounded time and a bounded output.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::escape::escape;
use crate::netlink::socket::retry;

/// How much of what a command says is kept; the rest is read and dropped.
const OUTPUT_LIMIT: usize = 4096;

/// What a command said, each line harmless to a terminal, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its standard output and error, as they came.
    pub said: Vec<String>,
    /// Nothing when it ended with success; else how it ended.
    pub failure: Option<String>,
}

/// Runs `argv` as `user` until it ends, at most for `limit`; then it is killed with all that it started.
///
/// What it starts in the background and leaves there goes on living after it.
#[must_use]
pub fn run(argv: &[String], user: Option<&str>, limit: Duration) -> Outcome {
    match attempt(argv, user, limit) {
        Ok((octets, status)) => Outcome {
            said: lines(&octets),
            failure: failure(status, limit),
        },
        Err(error) => Outcome {
            said: Vec::new(),
            failure: Some(error.to_string()),
        },
    }
}

/// How it ended, unless with success; no status when it had to be killed.
fn failure(status: Option<ExitStatus>, limit: Duration) -> Option<String> {
    match status {
        None => Some(format!("killed, as it did not end within {} s", limit.as_secs())),
        Some(status) if status.success() => None,
        Some(status) => Some(status.to_string()),
    }
}

fn attempt(argv: &[String], user: Option<&str>, limit: Duration) -> io::Result<(Vec<u8>, Option<ExitStatus>)> {
    let (ear, mouth) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let deadline = Instant::now() + limit;
    let mut child = start(argv, user, mouth)?;
    let heard = hear(&child, File::from(ear), deadline);
    let ended = matches!(heard, Ok((_, true)));
    if !ended {
        kill_group(&child);
    }
    let status = child.wait()?;
    let (octets, _) = heard?;
    Ok((octets, ended.then_some(status)))
}

fn start(argv: &[String], user: Option<&str>, mouth: OwnedFd) -> io::Result<Child> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let too = mouth.try_clone()?;
    rustix::fs::fcntl_setfl(&mouth, rustix::fs::OFlags::empty())?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(mouth).stderr(too);
    if let Some(user) = user {
        let (uid, gid) = identity(user)?;
        // Without groups of its own: the library drops all others where it may.
        command.uid(uid).gid(gid);
    }
    let refused = |error: io::Error| io::Error::new(error.kind(), format!("{program} cannot be run: {error}"));
    command.spawn().map_err(refused)
}

/// User and group of a name in /etc/passwd.
fn identity(user: &str) -> io::Result<(u32, u32)> {
    let table = fs::read_to_string("/etc/passwd")?;
    let mut rows = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = rows.find_map(|row| match row[..] {
        [name, _, uid, gid, ..] if name == user => Some((uid.parse().ok()?, gid.parse().ok()?)),
        _ => None,
    });
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("this host knows no user {user}")))
}

/// Listens until the child itself has ended: who it left in the background may hold the pipe for ever.
fn hear(child: &Child, mut ear: File, deadline: Instant) -> io::Result<(Vec<u8>, bool)> {
    let pidfd = pidfd_open(pid(child)?, PidfdFlags::empty())?;
    let (mut heard, mut is_open) = (Vec::new(), true);
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        if is_open {
            fds.push(PollFd::new(&ear, PollFlags::IN));
        }
        let timeout = Timespec::try_from(deadline.saturating_duration_since(Instant::now()));
        if retry(|| poll(&mut fds, timeout.as_ref().ok()))? == 0 {
            return Ok((heard, false));
        }
        let ended = !fds[0].revents().is_empty();
        is_open = is_open && listen(&mut ear, &mut heard)?;
        if ended {
            return Ok((heard, true));
        }
        if Instant::now() >= deadline {
            return Ok((heard, false));
        }
    }
}

/// Takes what is there, at most a pipe full; says whether more can come.
fn listen(ear: &mut File, heard: &mut Vec<u8>) -> io::Result<bool> {
    let mut part = [0; 16 * 1024];
    for _ in 0..8 {
        match ear.read(&mut part) {
            Ok(0) => return Ok(false),
            Ok(len) => heard.extend(part[..len].iter().take(OUTPUT_LIMIT.saturating_sub(heard.len()))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn pid(child: &Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn kill_group(child: &Child) {
    if let Ok(pid) = pid(child) {
        // It may have ended by itself meanwhile.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn lines(octets: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(octets);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| escape(line).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn sh(script: &str, limit: Duration) -> Outcome {
        run(&["/bin/sh", "-c", script].map(str::to_owned), None, limit)
    }

    #[test]
    fn what_it_says_is_kept_and_made_harmless() {
        let outcome = sh("echo one; echo; printf 'two\\033[2J' >&2", SOON);
        assert_eq!(
            (outcome.said, outcome.failure),
            (vec!["one".to_owned(), "two\\u{1b}[2J".to_owned()], None)
        );
        let outcome = sh("head -c 1000000 /dev/zero | tr '\\0' a", SOON);
        assert_eq!((outcome.said[0].len(), outcome.failure), (OUTPUT_LIMIT, None));
    }

    #[test]
    fn nothing_of_ours_is_handed_down() {
        let outcome = sh("echo \"$HOME-$CARGO\"; pwd; cat", SOON);
        assert_eq!(outcome.said, ["-", "/"]);
    }

    #[test]
    fn failing_and_hanging_are_told_apart() {
        assert_eq!(sh("exit 3", SOON).failure.as_deref(), Some("exit status: 3"));
        let start = Instant::now();
        let outcome = sh("echo $$; sleep 100 & sleep 100", Duration::from_secs(1));
        assert_eq!(outcome.failure.as_deref(), Some("killed, as it did not end within 1 s"));
        assert!(start.elapsed() < SOON);
        let group = outcome.said[0].parse().ok().and_then(Pid::from_raw).unwrap();
        // The orphan is reaped by somebody else, a moment later.
        let is_gone = || rustix::process::test_kill_process_group(group).is_err() || is_dead(group);
        assert!((0..200).any(|_| is_gone() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }));
        let missing = run(&["/nonexistent".to_owned()], None, SOON).failure.unwrap();
        assert_eq!(
            missing,
            "/nonexistent cannot be run: No such file or directory (os error 2)"
        );
    }

    /// Whether nothing but what nobody has reaped yet is left of a group.
    fn is_dead(group: Pid) -> bool {
        let stats = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let of_group = |stat: &String| {
            let rest: Vec<&str> = stat
                .rsplit_once(')')
                .map_or("", |(_, rest)| rest)
                .split_whitespace()
                .collect();
            rest.get(2) == Some(&group.as_raw_nonzero().to_string().as_str()) && rest.first() != Some(&"Z")
        };
        !stats.into_iter().any(|stat| of_group(&stat))
    }

    #[test]
    fn who_stays_in_the_background_is_not_waited_for() {
        let start = Instant::now();
        let outcome = sh("sleep 3 & echo up", SOON);
        assert_eq!((outcome.said, outcome.failure), (vec!["up".to_owned()], None));
        assert!(start.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn it_runs_as_its_user_in_no_other_group() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: not root");
            return;
        }
        let argv = ["/bin/sh", "-c", "id -un; id -G | wc -w"].map(str::to_owned);
        assert_eq!(run(&argv, Some("nobody"), SOON).said, ["nobody", "1"]);
        let failure = run(&argv, Some("no-such-user"), SOON).failure;
        assert_eq!(failure.as_deref(), Some("this host knows no user no-such-user"));
    }
}

//! Runs another program: no shell, an absolute path, an empty environment, a bounded time and a bounded output.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::netlink::socket::retry;

/// Where programs of the system lie. PATH is not asked: whoever sets it is not always who runs this.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// A host with 100,000 rules prints about 10 MiB of them.
const OUTPUT_LIMIT: usize = 64 * 1024 * 1024;
/// How much of what a program complained about goes into an error.
const COMPLAINT_LIMIT: usize = 400;

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

/// Why a program did not do what it was run for.
#[derive(Debug)]
pub enum ExecError {
    /// It is in none of the folders of the system.
    Missing(String),
    /// It could not be started or heard.
    Io(PathBuf, io::Error),
    /// It was killed because it took longer than this.
    Slow(PathBuf, Duration),
    /// It was killed because it said more than can be of use.
    Talkative(PathBuf),
    /// It ended without success.
    Failed {
        /// The program.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it complained about, in one line free of control characters.
        complaint: String,
    },
}

impl Program {
    /// Finds a program by its name.
    ///
    /// # Errors
    ///
    /// [`ExecError::Missing`].
    pub fn find(name: &str) -> Result<Self, ExecError> {
        let paths = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
        let path = paths.into_iter().find(|path| path.is_file());
        path.map(|path| Self { path })
            .ok_or_else(|| ExecError::Missing(name.to_owned()))
    }

    /// Runs it with `input` on its standard input until it ends, at most for `limit`; what it printed.
    ///
    /// # Errors
    ///
    /// [`ExecError`], when it ended without success too.
    pub fn run(&self, arguments: &[&str], input: &str, limit: Duration) -> Result<String, ExecError> {
        let deadline = Instant::now() + limit;
        let mut child = self.start(arguments, input).map_err(|error| self.io(error))?;
        let heard = self.hear(&mut child, deadline, limit);
        if heard.is_err() {
            // It may have ended by itself meanwhile; there is nothing else to do about it.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| self.io(error))?;
        let [output, complaints] = heard?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&output).into_owned());
        }
        Err(ExecError::Failed {
            path: self.path.clone(),
            status,
            complaint: one_line(&complaints),
        })
    }

    fn start(&self, arguments: &[&str], input: &str) -> io::Result<Child> {
        Command::new(&self.path)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(in_memory(input)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Listens to both outputs until they are closed and the child has ended.
    fn hear(&self, child: &mut Child, deadline: Instant, limit: Duration) -> Result<[Vec<u8>; 2], ExecError> {
        let slow = || ExecError::Slow(self.path.clone(), limit);
        let mut ears = [Ear::new(child.stdout.take()), Ear::new(child.stderr.take())];
        while ears.iter().any(|ear| ear.pipe.is_some()) {
            if !wait_readable(&ears, deadline).map_err(|error| self.io(error))? {
                return Err(slow());
            }
            for ear in &mut ears {
                ear.listen().map_err(|error| self.io(error))?;
            }
            if ears.iter().any(|ear| ear.heard.len() > OUTPUT_LIMIT) {
                return Err(ExecError::Talkative(self.path.clone()));
            }
        }
        if wait_ended(child, deadline).map_err(|error| self.io(error))? {
            Ok(ears.map(|ear| ear.heard))
        } else {
            Err(slow())
        }
    }

    fn io(&self, error: io::Error) -> ExecError {
        ExecError::Io(self.path.clone(), error)
    }
}

/// One output of a child; without a pipe it is closed.
struct Ear {
    pipe: Option<File>,
    heard: Vec<u8>,
}

impl Ear {
    fn new(pipe: Option<impl Into<std::os::fd::OwnedFd>>) -> Self {
        Self {
            pipe: pipe.map(|pipe| File::from(pipe.into())),
            heard: Vec::new(),
        }
    }

    /// Reads what is there, if anything; never waits.
    fn listen(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        if ready(&mut [PollFd::new(pipe, PollFlags::IN)], Duration::ZERO)? == 0 {
            return Ok(());
        }
        let mut part = [0; 16 * 1024];
        match pipe.read(&mut part) {
            Ok(0) => self.pipe = None,
            Ok(len) => self.heard.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn wait_readable(ears: &[Ear], deadline: Instant) -> io::Result<bool> {
    let pipes = ears.iter().filter_map(|ear| ear.pipe.as_ref());
    let mut fds: Vec<PollFd<'_>> = pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
    Ok(ready(&mut fds, left(deadline))? > 0)
}

fn wait_ended(child: &Child, deadline: Instant) -> io::Result<bool> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(ready(
        &mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)],
        left(deadline),
    )? > 0)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// How many of `fds` are ready within `limit`; 0 when none is.
fn ready(fds: &mut [PollFd<'_>], limit: Duration) -> io::Result<usize> {
    let timeout = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(retry(|| poll(fds, Some(&timeout)))?)
}

/// A file in memory: unlike a pipe it needs nobody to fill it while the child reads.
fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// The end of what a program said, fit for a log: one line, control characters escaped.
fn one_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines
        .join("; ")
        .chars()
        .take(COMPLAINT_LIMIT)
        .flat_map(printable)
        .collect()
}

fn printable(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "{name} is not installed ({} were searched)", FOLDERS.join(", ")),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Slow(path, limit) => write!(f, "{} did not end within {} s", path.display(), limit.as_secs()),
            Self::Talkative(path) => write!(f, "{} printed too much", path.display()),
            Self::Failed {
                path,
                status,
                complaint,
            } if complaint.is_empty() => write!(f, "{}: {status}", path.display()),
            Self::Failed { path, complaint, .. } => write!(f, "{}: {complaint}", path.display()),
        }
    }
}

impl std::error::Error for ExecError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn sh(script: &str, input: &str, limit: Duration) -> Result<String, ExecError> {
        Program::find("sh").unwrap().run(&["-c", script], input, limit)
    }

    #[test]
    fn input_goes_in_and_output_comes_out_however_long() {
        let long = "a line of text\n".repeat(100_000);
        assert_eq!(sh("cat", &long, SOON).unwrap(), long);
    }

    #[test]
    fn the_environment_is_empty() {
        let seen = Program::find("env").unwrap().run(&[], "", SOON).unwrap();
        assert_eq!(seen, "");
    }

    #[test]
    fn a_complaint_is_one_line_without_control_characters() {
        let error = sh("printf 'no\\033[2J\\nnever\\n' >&2; exit 3", "", SOON).unwrap_err();
        assert!(error.to_string().ends_with("/sh: no\\u{1b}[2J; never"), "{error}");
    }

    #[test]
    fn one_that_hangs_is_killed() {
        for script in ["exec sleep 60", "exec >&- 2>&-; exec sleep 60"] {
            let started = Instant::now();
            let error = sh(script, "", Duration::from_millis(50)).unwrap_err();
            assert!(matches!(error, ExecError::Slow(..)), "{error}");
            assert!(started.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let error = Program::find("no-such-program").unwrap_err();
        assert!(
            error.to_string().starts_with("no-such-program is not installed"),
            "{error}"
        );
    }
}

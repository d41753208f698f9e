//! Talking to the daemon over its control socket: JSON messages, each ended by NUL (varlink's framing).

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::exit::{Exit, Failure};

/// The most bytes of one message.
pub const LARGEST: usize = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    path: PathBuf,
    patience: Duration,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    parameters: Map<String, Value>,
    error: Option<String>,
}

impl Control {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotRunning`] or [`ControlError::NoPermission`], told apart; anything else as it is.
    pub fn connect(path: &Path) -> Result<Self, ControlError> {
        Self::connect_within(path, PATIENCE)
    }

    /// The same, with another limit on how long the connection and each reply may take.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_within(path: &Path, patience: Duration) -> Result<Self, ControlError> {
        let path = path.to_owned();
        match open(&path, patience) {
            Ok(stream) => Ok(Self { stream, path, patience }),
            Err(error) => Err(ControlError::connecting(path, error)),
        }
    }

    /// Asks for one thing and waits for the answer's parameters.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] when the daemon says no, with its reason; else what went wrong on the way.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Map<String, Value>, ControlError> {
        let mut request = json!({ "method": method, "parameters": parameters })
            .to_string()
            .into_bytes();
        request.push(0);
        let end = Instant::now() + self.patience;
        let reply = self.exchange(&request, end).map_err(|error| self.failed(error))?;
        let reply = serde_json::from_slice::<Reply>(&reply).map_err(|_| ControlError::Garbled)?;
        match reply.error {
            None => Ok(reply.parameters),
            Some(error) => Err(ControlError::Refused {
                error,
                parameters: reply.parameters,
            }),
        }
    }

    fn exchange(&mut self, request: &[u8], end: Instant) -> io::Result<Vec<u8>> {
        self.stream.set_write_timeout(Some(left(end)?))?;
        self.stream.write_all(request)?;
        let (mut reply, mut part) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            self.stream.set_read_timeout(Some(left(end)?))?;
            let read = match self.stream.read(&mut part) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => part.get(..read?).unwrap_or_default(),
            };
            match read.split_last() {
                None => return Err(ErrorKind::UnexpectedEof.into()),
                // One question, one answer: nothing comes after the NUL.
                Some((0, last)) => {
                    reply.extend(last);
                    return Ok(reply);
                }
                Some(_) if reply.len() + read.len() > LARGEST => return Err(ErrorKind::FileTooLarge.into()),
                Some(_) => reply.extend(read),
            }
        }
    }

    fn failed(&self, error: io::Error) -> ControlError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ControlError::Silent {
                patience: self.patience,
            },
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ControlError::Ended,
            ErrorKind::FileTooLarge => ControlError::Garbled,
            _ => ControlError::Io {
                path: self.path.clone(),
                error,
            },
        }
    }
}

/// A full backlog makes a connect wait; the time limit holds for that too.
fn open(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// Why the daemon did not do what was asked.
#[derive(Debug)]
pub enum ControlError {
    /// Nobody answers at the socket.
    NotRunning {
        /// Which socket.
        path: PathBuf,
    },
    /// This user may not talk to the daemon.
    NoPermission {
        /// Which socket.
        path: PathBuf,
    },
    /// It did not answer in time.
    Silent {
        /// How long it was waited for.
        patience: Duration,
    },
    /// It ended the connection before it answered.
    Ended,
    /// Its answer is no message, or too long.
    Garbled,
    /// It said no.
    Refused {
        /// Its error's name.
        error: String,
        /// What it says about it.
        parameters: Map<String, Value>,
    },
    /// Anything else.
    Io {
        /// Which socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl ControlError {
    fn connecting(path: PathBuf, error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Self::NotRunning { path },
            ErrorKind::PermissionDenied => Self::NoPermission { path },
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silent { patience: PATIENCE },
            _ => Self::Io { path, error },
        }
    }

    /// The exit code of a command that ends with this.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::NoPermission { .. } => Exit::NoPermission,
            Self::Refused { .. } => Exit::Failed,
            _ => Exit::Unreachable,
        }
    }

    /// What to try.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRunning { .. } => Some("spa-server run"),
            Self::NoPermission { .. } => Some("the same as root, or as a member of the group spa-admin"),
            _ => None,
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { path } => write!(f, "the daemon is not running: nobody answers at {}", path.display()),
            Self::NoPermission { path } => write!(f, "no permission to talk to the daemon at {}", path.display()),
            Self::Silent { patience } => write!(f, "the daemon did not answer within {} s", patience.as_secs()),
            Self::Ended => f.write_str("the daemon ended the connection without an answer"),
            Self::Garbled => f.write_str("the daemon's answer is no message that is known here"),
            Self::Refused { error, parameters } => match parameters.get("message").and_then(Value::as_str) {
                Some(message) => f.write_str(message),
                None => write!(f, "the daemon refused: {error}"),
            },
            Self::Io { path, error } => write!(f, "cannot talk to the daemon at {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for ControlError {}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let failure = Self::new(error.exit(), &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests;

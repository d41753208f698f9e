//! Signals that end a program, held back while something has to be put right first.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level};

const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// What handlers write to. Made once: a handler, once there, stays.
struct Handlers {
    /// The signals do what they always do.
    default: Arc<AtomicBool>,
    last: Arc<AtomicUsize>,
    pipe: UnixStream,
    /// How many hold the signals back.
    holders: Mutex<usize>,
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// While this lives, a signal is only noted.
pub(crate) struct Held(&'static Handlers);

impl Held {
    /// Holds the signals back from now on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn begin() -> io::Result<Self> {
        let handlers = if let Some(handlers) = HANDLERS.get() {
            handlers
        } else {
            let made = Handlers::install()?;
            HANDLERS.get_or_init(|| made)
        };
        handlers.count(1);
        Ok(Self(handlers))
    }

    /// Readable once a signal came.
    pub(crate) fn pipe(&self) -> BorrowedFd<'_> {
        self.0.pipe.as_fd()
    }

    /// The signal that came, if one did.
    pub(crate) fn taken(&self) -> Option<i32> {
        // What is in the pipe only wakes; a pipe that is empty is no error here.
        let _ = (&self.0.pipe).read(&mut [0; 16]);
        let signal = self.0.last.swap(0, Ordering::AcqRel);
        i32::try_from(signal).ok().filter(|signal| *signal != 0)
    }

    /// Lets a signal do what it would have done.
    pub(crate) fn obey(self, signal: i32) {
        drop(self);
        // SIGINT and the others end the process here.
        let _ = low_level::emulate_default_handler(signal);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.count(-1);
    }
}

impl Handlers {
    fn install() -> io::Result<Self> {
        let (pipe, end) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let (default, last) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        for signal in ENDING {
            flag::register_conditional_default(signal, Arc::clone(&default))?;
            flag::register_usize(signal, Arc::clone(&last), usize::try_from(signal).unwrap_or_default())?;
            low_level::pipe::register(signal, end.try_clone()?)?;
        }
        Ok(Self {
            default,
            last,
            pipe,
            holders: Mutex::new(0),
        })
    }

    fn count(&self, change: isize) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        *holders = holders.saturating_add_signed(change);
        self.default.store(*holders == 0, Ordering::Release);
    }
}

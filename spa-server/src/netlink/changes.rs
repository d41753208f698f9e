//! A [`Monitor`] for tasks of tokio.

use std::io;

use tokio::io::unix::AsyncFd;

use super::NetlinkError;
use super::monitor::Monitor;
use super::socket::call;

/// What a task waits for while nothing changes.
#[derive(Debug)]
pub struct Changes(AsyncFd<Monitor>);

impl Changes {
    /// Hands a monitor to the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// When the runtime cannot watch another descriptor.
    #[allow(
        unsafe_code,
        reason = "tokio has no safe way to watch a descriptor of a kind that it does not know"
    )]
    pub fn new(monitor: Monitor) -> io::Result<Self> {
        // SAFETY: the monitor owns its descriptor from its making to its end and never replaces it; the field is
        // private, so nobody can close it while the runtime watches it.
        Ok(Self(unsafe { AsyncFd::register(monitor)? }))
    }

    /// Returns when something of what is watched has changed since the last time. May be dropped at any moment.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Call`] when the monitor is of no use any more.
    pub async fn next(&self) -> Result<(), NetlinkError> {
        loop {
            let lost = |error: io::Error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            let mut ready = self.0.readable().await.map_err(|error| call("poll")(lost(error)))?;
            let is_changed = self.0.get_ref().drain()?;
            ready.clear_ready();
            if is_changed {
                return Ok(());
            }
        }
    }
}

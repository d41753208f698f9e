//! Waiting in tokio for descriptors of kinds that it does not know: inotify, netlink.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

/// Something that becomes readable when there is news.
#[derive(Debug)]
pub struct Readable<T: KeepsDescriptor>(AsyncFd<Source<T>>);

#[derive(Debug)]
struct Source<T>(T);

impl<T: AsFd> AsRawFd for Source<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Owns its descriptor from its making to its end and never replaces it.
pub trait KeepsDescriptor: AsFd {}

impl KeepsDescriptor for spa_keys::Watch {}
impl KeepsDescriptor for crate::netlink::monitor::Monitor {}
impl KeepsDescriptor for crate::firewall::Bell {}
impl KeepsDescriptor for crate::firewall::Line {}

impl<T: KeepsDescriptor> Readable<T> {
    /// Hands it to the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// When the runtime cannot watch another descriptor.
    #[allow(
        unsafe_code,
        reason = "tokio has no safe way to watch a descriptor of a kind that it does not know"
    )]
    pub fn new(source: T) -> io::Result<Self> {
        // SAFETY: a `KeepsDescriptor` keeps its descriptor open until it is dropped, and the field is private, so that
        // nobody can close it while the runtime watches it.
        Ok(Self(unsafe { AsyncFd::register(Source(source))? }))
    }

    /// What is watched.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.0.get_ref().0
    }

    /// What is watched, to be read.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.0.get_mut().0
    }

    /// Returns when there is something to read; for ever where nothing is watched. May be dropped at any moment.
    pub async fn wait(watched: Option<&Self>) {
        let Some(watched) = watched else {
            return std::future::pending().await;
        };
        match watched.0.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            // Of no use any more: the reading that follows says so; until then it must not turn in circles.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

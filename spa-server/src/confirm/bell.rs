//! Sleeping until a time on the boot's clock, or until a folder changes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::netlink::socket::retry;

/// How often to look where nothing can tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A timer that goes on while the machine sleeps, and a watch on a folder where the kernel has one left.
#[derive(Debug)]
pub(super) struct Bell {
    timer: OwnedFd,
    changes: Option<OwnedFd>,
}

impl Bell {
    /// Listens for changes in `folder` from now on.
    ///
    /// # Errors
    ///
    /// When there is no timer to be had.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self {
            timer,
            changes: watch(folder).ok(),
        })
    }

    /// Sleeps for `length` at most, less when the folder changes.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub(super) fn sleep(&self, length: Duration) -> io::Result<()> {
        let length = if self.changes.is_some() {
            length
        } else {
            length.min(LOOK_EVERY)
        };
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            // A timer of zero would be none at all.
            it_value: Timespec::try_from(length.max(Duration::from_nanos(1)))
                .map_err(|_| io::ErrorKind::InvalidInput)?,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        let descriptors = [Some(&self.timer), self.changes.as_ref()];
        let mut waits: Vec<_> = descriptors
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        retry(|| poll(&mut waits, None))?;
        if let Some(changes) = &self.changes {
            let mut events = [MaybeUninit::uninit(); 4096];
            // What has changed does not matter, only that it is no longer waiting to be read.
            while rustix::io::read(changes, &mut events).is_ok_and(|(read, _)| !read.is_empty()) {}
        }
        Ok(())
    }
}

fn watch(folder: &Path) -> rustix::io::Result<OwnedFd> {
    let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let events = WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    inotify::add_watch(&queue, folder, events | WatchFlags::ONLYDIR)?;
    Ok(queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_at_the_time_and_at_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let bell = Bell::new(dir.path()).unwrap();
        bell.sleep(Duration::from_millis(20)).unwrap();
        bell.sleep(Duration::ZERO).unwrap();
        let begun = std::time::Instant::now();
        std::fs::write(dir.path().join("draft"), "x").unwrap();
        std::fs::rename(dir.path().join("draft"), dir.path().join("file")).unwrap();
        bell.sleep(Duration::from_hours(1)).unwrap();
        assert!(begun.elapsed() < Duration::from_mins(1));
    }
}

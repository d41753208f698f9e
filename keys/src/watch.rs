//! Noticing at once what changes in clients.d and invites.d (inotify).

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::directory::stem_of;

const FILE_EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);
const PARENT_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR);

/// What has changed since the last look, by names without `.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files of clients that came, went or changed.
    pub clients: BTreeSet<String>,
    /// Files of invites that came, went or changed.
    pub invites: BTreeSet<String>,
    /// More changed than can be told: read everything again.
    pub all: bool,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.clients.is_empty() && self.invites.is_empty()
    }
}

/// Watches both directories, also when one of them is taken away and put back.
#[derive(Debug)]
pub struct Watch {
    queue: OwnedFd,
    clients: Watched,
    invites: Watched,
    parents: Vec<i32>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    id: Option<i32>,
}

impl Watch {
    /// Begins to watch. Begin before loading the directory, or what changes between is missed.
    ///
    /// # Errors
    ///
    /// When the kernel has no more watches, or the directories above do not exist.
    pub fn new(clients: &Path, invites: &Path) -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let parents = [clients, invites].map(|path| path.parent().unwrap_or(Path::new("/")));
        let parents = parents.map(|path| inotify::add_watch(&queue, path, PARENT_EVENTS));
        let mut watch = Self {
            queue,
            clients: Watched::at(clients),
            invites: Watched::at(invites),
            parents: parents.into_iter().collect::<Result<_, _>>()?,
        };
        watch.attach()?;
        Ok(watch)
    }

    /// Watches what is at both paths now.
    fn attach(&mut self) -> io::Result<()> {
        for watched in [&mut self.clients, &mut self.invites] {
            watched.id = match inotify::add_watch(&self.queue, &watched.path, FILE_EVENTS) {
                Ok(id) => Some(id),
                Err(Errno::NOENT | Errno::NOTDIR) => None,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(())
    }

    /// Takes what has changed; does not wait.
    ///
    /// # Errors
    ///
    /// When the kernel's queue cannot be read; everything should then be read again.
    pub fn drain(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        let mut attach = false;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let name = event.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            if event
                .events()
                .intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED | ReadFlags::UNMOUNT)
            {
                (attach, changes.all) = (true, true);
            } else if self.clients.id == Some(event.wd()) {
                changes.clients.extend(self.clients.changed(&name, event.events()));
            } else if self.invites.id == Some(event.wd()) {
                changes.invites.extend(self.invites.changed(&name, event.events()));
            } else if self.parents.contains(&event.wd())
                && (self.clients.is_called(&name) || self.invites.is_called(&name))
            {
                (attach, changes.all) = (true, true);
            }
        }
        if attach {
            self.attach()?;
        }
        Ok(changes)
    }
}

impl Watched {
    fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            id: None,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.path.file_name().is_some_and(|own| own == name)
    }

    /// The name of the file that an event is about, if it is one that is read. A file that is only just begun is left
    /// until it is closed; one that came whole, as a second link, is not.
    fn changed(&self, name: &str, events: ReadFlags) -> Option<String> {
        let stem = stem_of(name)?;
        let begun = || {
            let metadata = self.path.join(name).symlink_metadata();
            metadata.is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
        };
        let wait = events.contains(ReadFlags::CREATE) && begun();
        (!wait).then(|| stem.to_owned())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

#[cfg(test)]
mod tests;

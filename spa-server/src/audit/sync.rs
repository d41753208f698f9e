//! Lines made durable behind the daemon's back: the disk is waited for by a thread of its own.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The thread, and what it is told. Dropping it waits until everything is durable.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    /// Files that were written, or folders in which names have changed.
    dirty: Vec<Arc<File>>,
    failure: Option<String>,
    is_over: bool,
}

impl Syncer {
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("audit".into()).spawn(move || run(&own))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// This is to be made durable. What is asked for again before the disk is done is done once.
    pub(super) fn ask(&self, file: &Arc<File>) {
        let mut work = self.shared.lock();
        if !work.dirty.iter().any(|known| Arc::ptr_eq(known, file)) {
            work.dirty.push(Arc::clone(file));
        }
        self.shared.told.notify_one();
    }

    /// What the disk said since this was last asked.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.lock().failure.take()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.told.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; and if it had, there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Shared) {
    loop {
        let dirty = {
            let idle = |work: &mut Work| work.dirty.is_empty() && !work.is_over;
            let waited = shared.told.wait_while(shared.lock(), idle);
            let mut work = waited.unwrap_or_else(PoisonError::into_inner);
            if work.dirty.is_empty() {
                return;
            }
            std::mem::take(&mut work.dirty)
        };
        for file in dirty {
            if let Err(error) = file.sync_data() {
                shared.lock().failure = Some(format!("it cannot be made durable: {error}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_the_disk() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let syncer = Syncer::start().unwrap();
        for _ in 0..3 {
            syncer.ask(&file);
        }
        drop(syncer);
        assert_eq!(Arc::strong_count(&file), 1);
    }

    #[test]
    fn what_the_disk_says_is_heard() {
        let (reader, _writer) = io::pipe().unwrap();
        let syncer = Syncer::start().unwrap();
        syncer.ask(&Arc::new(File::from(std::os::fd::OwnedFd::from(reader))));
        let shared = Arc::clone(&syncer.shared);
        drop(syncer);
        let failure = shared.lock().failure.take().unwrap();
        assert!(failure.starts_with("it cannot be made durable: "), "{failure}");
    }
}

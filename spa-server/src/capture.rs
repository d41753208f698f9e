//! libpcap → candidates: one thread for each interface, which refuses junk itself (steps 1 to 3).

mod batch;
mod filter;
pub mod probes;
mod rows;
pub(crate) mod twice;
mod watch;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spa_proto::{Datagram, DropReason, LinkType, Sieve};
use tokio::sync::mpsc;

use crate::clock;
use watch::{Reader, Threads};

/// How many refusals a second are told apart; all are counted.
const SAMPLES_PER_SECOND: u32 = 20;

/// What a capture thread tells the daemon.
#[derive(Debug)]
pub enum Event {
    /// A datagram that passed steps 1 to 3.
    Candidate(Candidate),
    /// One of the refusals of steps 1 to 3.
    Refused(Sample),
    /// An interface is captured now, or waited for.
    Interface(Interface),
}

/// A datagram that passed steps 1 to 3, copied out of the ring.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it was sent.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: Box<[u8]>,
}

/// A refusal, to be logged.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Where it came from, where that could be read.
    pub source: Option<SocketAddr>,
    /// Why it was refused.
    pub reason: DropReason,
}

/// An interface's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is captured.
    pub up: bool,
    /// Why not.
    pub note: Option<String>,
}

/// What was counted in all capture threads since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Step 1.
    pub shape: AtomicU64,
    /// Step 2.
    pub tag: AtomicU64,
    /// Step 3.
    pub copy: AtomicU64,
    /// Of the copies, those from another address than the first.
    pub forwarded: AtomicU64,
    /// One packet seen through two interfaces: a bridge, a bond, a VLAN.
    pub twice: AtomicU64,
    /// The daemon was busy.
    pub queue: AtomicU64,
    /// The kernel's ring was full.
    pub kernel: AtomicU64,
}

/// What all capture threads share with the daemon.
#[derive(Debug)]
struct Shared {
    sieve: Mutex<Sieve>,
    /// Counts the changes of `sieve`: the threads look at it without the lock.
    generation: AtomicU64,
    counters: Arc<Counters>,
    events: mpsc::Sender<Event>,
}

/// The running capture. Dropping it ends the threads.
pub struct Capture {
    shared: Arc<Shared>,
    threads: Threads,
}

impl Capture {
    /// Starts one thread for each interface; `any` is one. Each sends an [`Event::Interface`] when it has tried.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub fn start(
        interfaces: &[String],
        ports: &[u16],
        sieve: Sieve,
        events: mpsc::Sender<Event>,
        counters: Arc<Counters>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            sieve: Mutex::new(sieve),
            generation: AtomicU64::new(0),
            counters,
            events,
        });
        let filter = filter::knocks(ports);
        let threads = Threads::start("capture", interfaces, &filter, |_| Sifter::new(&shared))?;
        Ok(Self { shared, threads })
    }

    /// Gives the threads a new sieve: other identities, ports or own addresses.
    pub fn set_sieve(&self, sieve: Sieve) {
        *self.shared.sieve.lock().unwrap_or_else(PoisonError::into_inner) = sieve;
        self.shared.generation.fetch_add(1, Relaxed);
    }

    /// Whether every interface still has its thread.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.threads.are_alive()
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }
}

/// Steps 1 to 3 on borrowed octets.
struct Sifter {
    shared: Arc<Shared>,
    sieve: Sieve,
    generation: u64,
    twice: twice::Twice,
    samples: Samples,
    batch: batch::Batch,
}

impl Sifter {
    fn new(shared: &Arc<Shared>) -> Self {
        // Read before the sieve: a change in between is then seen once more, not missed.
        let generation = shared.generation.load(Relaxed);
        let sieve = shared.sieve.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            shared: Arc::clone(shared),
            sieve,
            generation,
            twice: twice::Twice::default(),
            samples: Samples::default(),
            batch: batch::Batch::default(),
        }
    }

    fn sift(&mut self, link: LinkType, frame: &[u8]) {
        let datagram = match Datagram::from_frame(link, frame) {
            Ok(datagram) => datagram,
            Err(error) => return self.refuse(None, DropReason::Frame(error)),
        };
        let interface = twice::interface(link, frame);
        if !self.sieve.accepts(&datagram) || !self.batch.put(&datagram, interface) {
            self.judge(&datagram, interface);
        } else if self.batch.is_full() {
            self.judge_batch();
        }
    }

    /// What was put aside: what bears no tag is refused without another look.
    fn judge_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.renew();
        let mut batch = std::mem::take(&mut self.batch);
        let untagged = batch.untagged(&mut self.sieve, clock::wall());
        for (waiting, untagged) in batch.waiting().zip(untagged) {
            let datagram = waiting.datagram();
            if untagged {
                self.refuse(Some(datagram.source), DropReason::Tag);
            } else {
                self.judge(&datagram, waiting.interface);
            }
        }
        batch.clear();
        self.batch = batch;
    }

    /// Takes over a sieve that the daemon has changed.
    fn renew(&mut self) {
        if self.shared.generation.load(Relaxed) != self.generation {
            let Self { sieve, generation, .. } = Self::new(&self.shared);
            (self.sieve, self.generation) = (sieve, generation);
        }
    }

    fn judge(&mut self, datagram: &Datagram<'_>, interface: Option<u32>) {
        self.renew();
        let verdict = self.sieve.admit(clock::wall(), datagram).map(|_| ());
        if !matches!(verdict, Ok(()) | Err(DropReason::Copy { forwarded: false })) {
            return self.refuse(Some(datagram.source), verdict.err().unwrap_or(DropReason::Tag));
        }
        if self.twice.seen(datagram, interface, Instant::now()) {
            self.shared.counters.twice.fetch_add(1, Relaxed);
        } else if let Err(reason) = verdict {
            self.refuse(Some(datagram.source), reason);
        } else {
            self.pass_on(datagram);
        }
    }

    fn pass_on(&self, datagram: &Datagram<'_>) {
        let Datagram {
            source,
            destination,
            payload,
        } = *datagram;
        let candidate = Candidate {
            source,
            destination,
            payload: payload.into(),
        };
        if self.shared.events.try_send(Event::Candidate(candidate)).is_err() {
            self.shared.counters.queue.fetch_add(1, Relaxed);
        }
    }

    fn refuse(&mut self, source: Option<SocketAddr>, reason: DropReason) {
        let counters = &self.shared.counters;
        let counter = match &reason {
            DropReason::Tag => &counters.tag,
            DropReason::Copy { .. } => &counters.copy,
            _ => &counters.shape,
        };
        counter.fetch_add(1, Relaxed);
        if reason == (DropReason::Copy { forwarded: true }) {
            counters.forwarded.fetch_add(1, Relaxed);
        }
        if self.samples.allow(Instant::now()) {
            // A full queue has better things to carry.
            let _ = self.shared.events.try_send(Event::Refused(Sample { source, reason }));
        }
    }
}

impl Reader for Sifter {
    fn take(&mut self, link: LinkType, frame: &[u8]) {
        self.sift(link, frame);
    }

    fn pause(&mut self) {
        self.judge_batch();
    }

    fn dropped(&self, count: u64) {
        self.shared.counters.kernel.fetch_add(count, Relaxed);
    }

    fn tell(&self, interface: Interface) -> Result<(), Interface> {
        match self.shared.events.try_send(Event::Interface(interface)) {
            Err(mpsc::error::TrySendError::Full(Event::Interface(back))) => Err(back),
            _ => Ok(()),
        }
    }
}

/// A bound on how many refusals are told apart.
#[derive(Default)]
struct Samples {
    since: Option<Instant>,
    used: u32,
}

impl Samples {
    fn allow(&mut self, now: Instant) -> bool {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1))
        {
            *self = Self {
                since: Some(now),
                used: 0,
            };
        }
        self.used += 1;
        self.used <= SAMPLES_PER_SECOND
    }
}

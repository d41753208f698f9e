//! libpcap → candidates: one thread for each interface, which refuses junk itself (steps 1 to 3).

mod filter;
mod twice;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pcap::{Active, BreakLoop, Direction, Linktype};
use spa_proto::{Datagram, DropReason, LinkType, Sieve};
use tokio::sync::mpsc;

use crate::clock;

/// A frame of the longest knock with two VLAN tags and all IPv4 options is 1 342 octets.
const SNAPLEN: i32 = 2048;
/// A burst of junk waits here while the thread is not scheduled: about 20 000 knocks.
const RING_BYTES: i32 = 8 << 20;
/// How long libpcap may keep a packet before it hands it over. Immediate mode costs ten times the CPU per packet.
const DELIVERY_MS: i32 = 1;
/// How often a missing interface is looked for.
const RETRY: Duration = Duration::from_secs(1);
/// How often the kernel is asked what it dropped, in packets.
const STATS_EVERY: u64 = 1024;
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
    stop: AtomicBool,
    counters: Counters,
    events: mpsc::Sender<Event>,
}

/// What ends a read that waits for a packet.
type Interrupt = Arc<Mutex<Option<BreakLoop>>>;

/// The running capture. Dropping it ends the threads.
pub struct Capture {
    shared: Arc<Shared>,
    threads: Vec<(Interrupt, JoinHandle<()>)>,
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
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            sieve: Mutex::new(sieve),
            generation: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            counters: Counters::default(),
            events,
        });
        let mut capture = Self {
            shared,
            threads: Vec::new(),
        };
        for name in interfaces {
            let watch = Watch {
                name: name.clone(),
                filter: filter::knocks(ports),
                shared: Arc::clone(&capture.shared),
                interrupt: Arc::default(),
                dropped_before: 0,
            };
            let interrupt = Arc::clone(&watch.interrupt);
            let thread = thread::Builder::new()
                .name(format!("capture {name:.7}"))
                .spawn(move || watch.run())?;
            capture.threads.push((interrupt, thread));
        }
        Ok(capture)
    }

    /// Gives the threads a new sieve: other identities, ports or own addresses.
    pub fn set_sieve(&self, sieve: Sieve) {
        *self.shared.sieve.lock().unwrap_or_else(PoisonError::into_inner) = sieve;
        self.shared.generation.fetch_add(1, Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for (interrupt, thread) in self.threads.drain(..) {
            if let Some(handle) = &*interrupt.lock().unwrap_or_else(PoisonError::into_inner) {
                handle.breakloop();
            }
            thread.thread().unpark();
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// One thread's view of its interface.
struct Watch {
    name: String,
    filter: String,
    shared: Arc<Shared>,
    interrupt: Interrupt,
    dropped_before: u32,
}

impl Watch {
    fn run(mut self) {
        let mut told = None;
        while !self.stopped() {
            let why = match self.open() {
                Ok((capture, link)) => {
                    self.tell(&mut told, None);
                    self.read(capture, link)
                }
                Err(error) => error,
            };
            if !self.stopped() {
                self.tell(&mut told, Some(why));
                thread::park_timeout(RETRY);
            }
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Relaxed)
    }

    /// Tells the daemon what has changed, once.
    fn tell(&self, told: &mut Option<Interface>, note: Option<String>) {
        let state = Interface {
            name: self.name.clone(),
            up: note.is_none(),
            note,
        };
        if told.as_ref().is_none_or(|told| told.up != state.up) {
            *told = Some(state.clone());
            // The daemon is gone only when it stops; then nobody needs to be told.
            let _ = self.shared.events.blocking_send(Event::Interface(state));
        }
    }

    fn open(&mut self) -> Result<(pcap::Capture<Active>, LinkType), String> {
        let (capture, link) = open(&self.name, &self.filter).map_err(|error| error.to_string())?;
        let mut capture = capture;
        let link = link.ok_or_else(|| "its link type is not understood".to_string())?;
        self.dropped_before = 0;
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(capture.breakloop_handle());
        Ok((capture, link))
    }

    /// Reads until the interface is gone or the daemon stops; says why.
    fn read(&mut self, mut capture: pcap::Capture<Active>, link: LinkType) -> String {
        let shared = Arc::clone(&self.shared);
        let mut sifter = Sifter::new(&shared);
        let mut count: u64 = 0;
        loop {
            if self.stopped() {
                return String::new();
            }
            match capture.next_packet() {
                Ok(packet) => sifter.sift(link, packet.data),
                Err(pcap::Error::TimeoutExpired) => {}
                Err(error) => return error.to_string(),
            }
            count += 1;
            if count.is_multiple_of(STATS_EVERY) {
                self.count_kernel_drops(&mut capture);
            }
        }
    }

    fn count_kernel_drops(&mut self, capture: &mut pcap::Capture<Active>) {
        if let Ok(stats) = capture.stats() {
            let new = stats.dropped.wrapping_sub(self.dropped_before);
            self.shared.counters.kernel.fetch_add(new.into(), Relaxed);
            self.dropped_before = stats.dropped;
        }
    }
}

fn open(name: &str, filter: &str) -> Result<(pcap::Capture<Active>, Option<LinkType>), pcap::Error> {
    let inactive = pcap::Capture::from_device(name)?;
    let mut capture = inactive
        .promisc(false)
        .snaplen(SNAPLEN)
        .buffer_size(RING_BYTES)
        .timeout(DELIVERY_MS)
        .open()?;
    if name == "any" {
        // The second cooked form tells which interface a packet came through. Without it, copies cannot be told apart.
        let _ = capture.set_datalink(Linktype(276));
    }
    capture.direction(Direction::In)?;
    capture.filter(filter, true)?;
    let link = LinkType::from_dlt(capture.get_datalink().0);
    Ok((capture, link))
}

/// Whether an interface is there and up. libpcap stays silent while one is down, and goes on when it is up again.
#[must_use]
pub fn is_link_up(name: &str) -> bool {
    const IFF_UP: u32 = 1;
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    let flags = flags
        .trim()
        .strip_prefix("0x")
        .and_then(|digits| u32::from_str_radix(digits, 16).ok());
    name == "any" || flags.is_some_and(|flags| flags & IFF_UP != 0)
}

/// Steps 1 to 3 on borrowed octets.
struct Sifter<'a> {
    shared: &'a Shared,
    sieve: Sieve,
    generation: u64,
    twice: twice::Twice,
    samples: Samples,
}

impl<'a> Sifter<'a> {
    fn new(shared: &'a Shared) -> Self {
        // Read before the sieve: a change in between is then seen once more, not missed.
        let generation = shared.generation.load(Relaxed);
        let sieve = shared.sieve.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            shared,
            sieve,
            generation,
            twice: twice::Twice::default(),
            samples: Samples::default(),
        }
    }

    fn sift(&mut self, link: LinkType, frame: &[u8]) {
        if self.shared.generation.load(Relaxed) != self.generation {
            let Self {
                shared, twice, samples, ..
            } = std::mem::replace(self, Self::new(self.shared));
            *self = Self {
                twice,
                samples,
                ..Self::new(shared)
            };
        }
        let datagram = match Datagram::from_frame(link, frame) {
            Ok(datagram) => datagram,
            Err(error) => return self.refuse(None, DropReason::Frame(error)),
        };
        let verdict = self.sieve.admit(clock::wall(), &datagram).map(|_| ());
        if !matches!(verdict, Ok(()) | Err(DropReason::Copy { forwarded: false })) {
            return self.refuse(Some(datagram.source), verdict.err().unwrap_or(DropReason::Tag));
        }
        if self
            .twice
            .seen(&datagram, twice::interface(link, frame), Instant::now())
        {
            self.shared.counters.twice.fetch_add(1, Relaxed);
        } else if let Err(reason) = verdict {
            self.refuse(Some(datagram.source), reason);
        } else {
            self.pass_on(&datagram);
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

//! One thread for each interface around a blocking libpcap: interfaces come and go, the thread stays.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pcap::{Active, BreakLoop, Direction, Linktype};
use spa_proto::LinkType;

use super::Interface;

/// A frame of the longest knock with two VLAN tags and all IPv4 options is 1 342 octets.
const SNAPLEN: i32 = 2048;
/// A burst of junk waits here while the thread is not scheduled: about 20 000 knocks.
const RING_BYTES: i32 = 8 << 20;
/// How long libpcap may keep a packet before it hands it over. Immediate mode costs ten times the CPU per packet.
const DELIVERY_MS: i32 = 1;
/// How often a missing interface is looked for.
const RETRY: Duration = Duration::from_secs(1);
/// How long a thread waits for room in the queue of a busy daemon.
const BUSY: Duration = Duration::from_millis(10);
/// How often the kernel is asked what it dropped, in packets.
const STATS_EVERY: usize = 1024;

/// What a thread does with what it captures.
pub(super) trait Reader: Send + 'static {
    /// Takes one frame.
    fn take(&mut self, link: LinkType, frame: &[u8]);

    /// No more has come for now: what was put aside is to be looked at.
    fn pause(&mut self) {}

    /// So many more were dropped by the kernel.
    fn dropped(&self, count: u64);

    /// Tells the daemon of the interface, or gives it back while there is no room.
    fn tell(&self, interface: Interface) -> Result<(), Interface>;
}

/// What ends a read that waits for a packet.
type Interrupt = Arc<Mutex<Option<BreakLoop>>>;

/// The running threads. Dropping them ends them.
pub(super) struct Threads {
    stop: Arc<AtomicBool>,
    threads: Vec<(Interrupt, JoinHandle<()>)>,
}

impl Threads {
    /// Starts one thread for each interface, called after `what` and the interface; `any` is one.
    pub(super) fn start<R: Reader>(
        what: &str,
        interfaces: &[String],
        filter: &str,
        mut reader: impl FnMut(&str) -> R,
    ) -> std::io::Result<Self> {
        let mut all = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for name in interfaces {
            let watch = Watch {
                name: name.clone(),
                filter: filter.to_owned(),
                stop: Arc::clone(&all.stop),
                interrupt: Arc::default(),
                dropped_before: 0,
                reader: reader(name),
            };
            let interrupt = Arc::clone(&watch.interrupt);
            // The kernel shows fifteen characters of it.
            let thread = thread::Builder::new()
                .name(format!("{what} {name:.7}"))
                .spawn(move || watch.run())?;
            all.threads.push((interrupt, thread));
        }
        Ok(all)
    }
}

impl Threads {
    /// Whether none has ended by itself, which only a fault of ours can bring about.
    pub(super) fn are_alive(&self) -> bool {
        self.threads.iter().all(|(_, thread)| !thread.is_finished())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
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
struct Watch<R> {
    name: String,
    filter: String,
    stop: Arc<AtomicBool>,
    interrupt: Interrupt,
    dropped_before: u32,
    reader: R,
}

impl<R: Reader> Watch<R> {
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
        self.stop.load(Relaxed)
    }

    /// Tells the daemon what has changed, once.
    fn tell(&self, told: &mut Option<bool>, note: Option<String>) {
        let mut state = Interface {
            name: self.name.clone(),
            up: note.is_none(),
            note,
        };
        if *told == Some(state.up) {
            return;
        }
        *told = Some(state.up);
        // The daemon may be waiting for this very thread to end: never wait for it without an end.
        while let Err(back) = self.reader.tell(state) {
            if self.stopped() {
                return;
            }
            state = back;
            thread::park_timeout(BUSY);
        }
    }

    fn open(&mut self) -> Result<(pcap::Capture<Active>, LinkType), String> {
        let (capture, link) = open(&self.name, &self.filter).map_err(|error| explain(&error.to_string()))?;
        let mut capture = capture;
        let link = link.ok_or_else(|| "its link type is not understood".to_string())?;
        self.dropped_before = 0;
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(capture.breakloop_handle());
        Ok((capture, link))
    }

    /// Reads until the interface is gone or the daemon stops; says why.
    fn read(&mut self, mut capture: pcap::Capture<Active>, link: LinkType) -> String {
        let mut count = 0;
        while !self.stopped() {
            let reader = &mut self.reader;
            let read = capture.dispatch(Some(STATS_EVERY), |packet| reader.take(link, packet.data));
            self.reader.pause();
            match read {
                Ok(taken) => count += taken,
                Err(error) => return error.to_string(),
            }
            if count >= STATS_EVERY {
                count = 0;
                self.count_kernel_drops(&mut capture);
            }
        }
        String::new()
    }

    fn count_kernel_drops(&mut self, capture: &mut pcap::Capture<Active>) {
        if let Ok(stats) = capture.stats() {
            let new = stats.dropped.wrapping_sub(self.dropped_before);
            self.reader.dropped(new.into());
            self.dropped_before = stats.dropped;
        }
    }
}

/// libpcap tells of the system call alone: the right that it wants is named beside.
fn explain(error: &str) -> String {
    if error.contains("Operation not permitted") {
        format!("{error}: run as root, or give the process CAP_NET_RAW")
    } else {
        error.to_owned()
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

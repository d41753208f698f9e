//! libpcap → probes: a second handle for each interface, so that a flood of anything cannot fill the knock's ring.
//!
//! Every packet to a watched port is judged here, under one lock; only what was completed, and some of what failed,
//! crosses a bounded channel. Whoever else wants to know of packets to ports where nothing is has them here too.

use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use spa_proto::sequence::{Failure, Outcome, SequenceId, Tracker, Transport};
use spa_proto::{Content, LinkType, Probe, TcpFlags};
use tokio::sync::mpsc;

use super::watch::{Reader, Threads};
use super::{Interface, Samples, filter};
use crate::clock;
use crate::config::{PortRange, Protocol};
use crate::guard::Patrol;

/// What a thread tells the daemon.
#[derive(Debug)]
pub enum ProbeEvent {
    /// A source has completed sequences.
    Complete(Completed),
    /// An attempt came to nothing.
    Failed(Failure),
    /// An interface is captured now, or waited for.
    Interface(Interface),
}

/// A source that has completed one or more sequences.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Which.
    pub sequences: Vec<SequenceId>,
    /// From where the last packet came.
    pub source: SocketAddr,
}

/// Where probes are looked for: the gateway's own addresses, without ports that serve something.
#[derive(Debug, Default)]
pub struct Scope {
    /// The gateway's own addresses; all when they cannot be known.
    pub addresses: Option<Vec<IpAddr>>,
    /// Ports that are open to everybody: a packet to one of them is no wrong knock.
    pub open: Vec<(Protocol, u16)>,
}

impl Scope {
    fn holds(&self, probe: &Probe<'_>) -> bool {
        let protocol = match probe.content {
            Content::Tcp { .. } => Protocol::Tcp,
            Content::Udp { .. } => Protocol::Udp,
        };
        let address = probe.destination.ip().to_canonical();
        let own = self.addresses.as_ref().is_none_or(|own| own.contains(&address));
        own && !self.open.contains(&(protocol, probe.destination.port()))
    }
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct ProbeCounters {
    /// Packets to watched ports.
    pub probes: AtomicU64,
    /// Attempts that came to nothing.
    pub failed: AtomicU64,
    /// The daemon was busy: completed sequences that it did not hear of.
    pub queue: AtomicU64,
    /// The kernel's ring was full.
    pub kernel: AtomicU64,
}

/// What the threads and the daemon share; it outlives a change of the interfaces.
#[derive(Debug)]
pub struct Watched {
    judge: Mutex<Judge>,
    counters: ProbeCounters,
    events: mpsc::Sender<ProbeEvent>,
}

/// What is under the lock.
#[derive(Debug)]
pub struct Judge {
    /// Who has come how far.
    pub tracker: Tracker<RandomState>,
    /// What is looked at.
    pub scope: Scope,
}

impl Watched {
    /// Nothing is looked for yet.
    #[must_use]
    pub fn new(events: mpsc::Sender<ProbeEvent>) -> Arc<Self> {
        let judge = Judge {
            tracker: Tracker::new(RandomState::new()),
            scope: Scope::default(),
        };
        Arc::new(Self {
            judge: Mutex::new(judge),
            counters: ProbeCounters::default(),
            events,
        })
    }

    /// The tracker and its scope, for as short as can be: the threads wait meanwhile.
    pub fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &ProbeCounters {
        &self.counters
    }
}

/// The running threads. Dropping it ends them.
pub struct Probes {
    threads: Threads,
}

impl Probes {
    /// Starts one thread for each interface. Packets to `left_out` never leave the kernel; TCP counts with exactly one
    /// of these sets of control bits, a SYN always. A patrol sees whatever else belongs to no connection too.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub fn start(
        interfaces: &[String],
        left_out: &[PortRange],
        flags: &[TcpFlags],
        watched: &Arc<Watched>,
        patrol: Option<&Arc<Patrol>>,
    ) -> std::io::Result<Self> {
        let filter = match patrol {
            Some(_) => filter::strays(left_out, flags),
            None => filter::probes(left_out, flags),
        };
        let reader = |_: &str| Looker {
            watched: Arc::clone(watched),
            patrol: patrol.cloned(),
            flags: flags.iter().copied().chain([TcpFlags::SYN]).collect(),
            samples: Samples::default(),
        };
        let threads = Threads::start("probes", interfaces, &filter, reader)?;
        Ok(Self { threads })
    }

    /// Whether every interface still has its thread.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.threads.are_alive()
    }
}

/// One thread's part.
struct Looker {
    watched: Arc<Watched>,
    patrol: Option<Arc<Patrol>>,
    /// What counts for sequences; a patrol is shown more.
    flags: Vec<TcpFlags>,
    samples: Samples,
}

impl Reader for Looker {
    fn take(&mut self, link: LinkType, frame: &[u8]) {
        let Ok(probe) = Probe::from_frame(link, frame) else {
            return;
        };
        if let Some(patrol) = &self.patrol {
            patrol.see(&probe, clock::uptime());
        }
        if !self.counts(&probe) {
            return;
        }
        let outcome = {
            let mut judge = self.watched.judge();
            if !judge.scope.holds(&probe) {
                return;
            }
            judge.tracker.probe(clock::uptime(), &probe)
        };
        self.watched.counters.probes.fetch_add(1, Relaxed);
        match outcome {
            Outcome::Ignored | Outcome::Advanced => {}
            Outcome::Complete(sequences) => self.completed(sequences, probe.source),
            Outcome::Failed(failure) => self.failed(failure),
        }
    }

    fn dropped(&self, count: u64) {
        self.watched.counters.kernel.fetch_add(count, Relaxed);
    }

    fn tell(&self, interface: Interface) -> Result<(), Interface> {
        match self.watched.events.try_send(ProbeEvent::Interface(interface)) {
            Err(mpsc::error::TrySendError::Full(ProbeEvent::Interface(back))) => Err(back),
            _ => Ok(()),
        }
    }
}

impl Looker {
    fn counts(&self, probe: &Probe<'_>) -> bool {
        match probe.content {
            Content::Tcp { flags, .. } => self.flags.contains(&flags),
            Content::Udp { .. } => true,
        }
    }

    fn completed(&self, sequences: Vec<SequenceId>, source: SocketAddr) {
        let completed = Completed { sequences, source };
        if self.watched.events.try_send(ProbeEvent::Complete(completed)).is_err() {
            self.watched.counters.queue.fetch_add(1, Relaxed);
        }
    }

    fn failed(&mut self, failure: Failure) {
        self.watched.counters.failed.fetch_add(1, Relaxed);
        if self.samples.allow(Instant::now()) {
            // A full queue has better things to carry.
            let _ = self.watched.events.try_send(ProbeEvent::Failed(failure));
        }
    }
}

/// The control bits that a transport asks for.
#[must_use]
pub const fn flags_of(transport: Transport) -> Option<TcpFlags> {
    match transport {
        Transport::Tcp(flags) => Some(flags),
        Transport::Udp => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(to: &str, content: Content<'static>) -> Probe<'static> {
        Probe {
            source: "192.0.2.7:40000".parse().unwrap(),
            destination: to.parse().unwrap(),
            content,
        }
    }

    #[test]
    fn only_own_addresses_and_no_port_that_is_open_to_everybody() {
        let udp = Content::Udp { payload: &[] };
        let syn = Content::Tcp {
            flags: TcpFlags::SYN,
            number: 1,
        };
        let mut scope = Scope {
            addresses: Some(vec!["198.51.100.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
            open: vec![(Protocol::Tcp, 80)],
        };
        assert!(scope.holds(&probe("198.51.100.1:7000", syn)) && scope.holds(&probe("[2001:db8::1]:7000", udp)));
        assert!(!scope.holds(&probe("198.51.100.1:80", syn)) && scope.holds(&probe("198.51.100.1:80", udp)));
        assert!(!scope.holds(&probe("198.51.100.255:7000", udp)) && !scope.holds(&probe("[ff02::1]:7000", udp)));
        scope.addresses = None;
        assert!(
            scope.holds(&probe("198.51.100.255:7000", udp)),
            "where own addresses cannot be known"
        );
    }

    /// Frames in, events out: what the threads do between libpcap and the channel.
    #[test]
    fn a_complete_sequence_crosses_the_channel_and_a_full_one_is_counted() {
        let (sender, mut events) = mpsc::channel(1);
        let watched = Watched::new(sender);
        let pattern = spa_proto::sequence::Pattern {
            id: SequenceId { place: 3, turn: 9 },
            stages: ["7000/udp", "8000/udp", "9000/udp"]
                .map(|text| text.parse().unwrap())
                .into(),
            within: std::time::Duration::from_secs(10),
        };
        watched.judge().tracker.watch([&pattern]);
        let mut looker = Looker {
            patrol: None,
            flags: vec![TcpFlags::SYN],
            watched: Arc::clone(&watched),
            samples: Samples::default(),
        };
        let mut number = 0u16;
        let mut send = |port: u16| {
            number += 1;
            let (from, to) = ((40_000 + number).to_be_bytes(), port.to_be_bytes());
            let udp = [from[0], from[1], to[0], to[1], 0, 8, 0, 0];
            let head = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1];
            looker.take(LinkType::Raw, &[&head[..], &udp].concat());
        };
        for port in [7000, 8000, 9000, 7000, 8000, 9000] {
            send(port);
        }
        let Some(ProbeEvent::Complete(completed)) = events.try_recv().ok() else {
            panic!("a complete sequence");
        };
        assert_eq!(
            (completed.sequences, completed.source.ip().to_string().as_str()),
            (vec![pattern.id], "192.0.2.7")
        );
        assert_eq!(watched.counters().queue.load(Relaxed), 1, "the second found no room");
        for port in [7000, 8000, 1234] {
            send(port);
        }
        assert!(matches!(events.try_recv(), Ok(ProbeEvent::Failed(_))));
        assert_eq!(
            (
                watched.counters().failed.load(Relaxed),
                watched.counters().probes.load(Relaxed)
            ),
            (1, 9)
        );
    }
}

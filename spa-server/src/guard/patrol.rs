//! Probes → sightings: what capture threads and decoys ask of every packet, under one lock.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spa_proto::Content;
use tokio::sync::mpsc;

use crate::config::{Guard, GuardMode, Protocol};
use crate::scan::{Ports, Probe, ScanGuard, Sighting, Threshold, Touch};

/// Sightings that wait while the daemon is busy; each is said again after a minute if it matters.
const QUEUE: usize = 64;

/// What is watched at all.
#[derive(Debug, Default)]
pub struct Scope {
    /// The gateway's own addresses; all when they cannot be known.
    pub own: Option<Vec<IpAddr>>,
    /// Ports that serve something, or that honest people touch for another reason.
    pub serves: Ports,
}

/// The judge and its scope.
#[derive(Debug)]
pub struct Post {
    /// Who has touched what.
    pub judge: ScanGuard<RandomState>,
    /// What counts.
    pub scope: Scope,
}

/// Shared by the capture threads, the decoys and the daemon.
#[derive(Debug)]
pub struct Patrol {
    /// None while there is no `[scan-guard]`.
    post: Mutex<Option<Post>>,
    events: mpsc::Sender<Sighting>,
    unheard: AtomicU64,
}

impl Patrol {
    /// One that watches nothing yet, and where its sightings arrive.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Sighting>) {
        let (events, sightings) = mpsc::channel(QUEUE);
        let patrol = Self {
            post: Mutex::new(None),
            events,
            unheard: AtomicU64::new(0),
        };
        (Arc::new(patrol), sightings)
    }

    /// Judges by this configuration from now on; what was seen stays unless there is none.
    pub fn configure(&self, guard: Option<&Guard>) {
        let mut post = self.lock();
        match (&mut *post, guard.map(threshold)) {
            (Some(post), Some(threshold)) => post.judge.judge_by(threshold),
            (post, threshold) => {
                *post = threshold.map(|threshold| Post {
                    judge: ScanGuard::new(threshold, RandomState::new()),
                    scope: Scope::default(),
                });
            }
        }
    }

    /// Does something with the judge, for as short as can be: the capture threads wait meanwhile. None when nothing is
    /// watched.
    pub fn with<T>(&self, act: impl FnOnce(&mut Post) -> T) -> Option<T> {
        self.lock().as_mut().map(act)
    }

    /// Takes note of a captured packet.
    pub fn see(&self, probe: &spa_proto::Probe<'_>, now: Duration) {
        let kind = match probe.content {
            Content::Tcp { flags, .. } => Probe::of_flags(flags.octet()),
            Content::Udp { .. } => Some(Probe::Udp),
        };
        let Some(kind) = kind else { return };
        let (source, own) = (probe.source.ip().to_canonical(), probe.destination.ip().to_canonical());
        let touch = Touch {
            source,
            port: probe.destination.port(),
            probe: kind,
        };
        let sighting = self.with(|post| post.scope.counts(own, &touch).then(|| post.judge.observe(touch, now)));
        self.tell(sighting.flatten().flatten());
    }

    /// Takes note of a handshake that somebody completed with a decoy.
    pub fn see_handshake(&self, source: IpAddr, port: u16, now: Duration) {
        let touch = Touch {
            source: source.to_canonical(),
            port,
            probe: Probe::Handshake,
        };
        self.tell(self.with(|post| post.judge.observe(touch, now)).flatten());
    }

    /// Sightings that the daemon was too busy for.
    #[must_use]
    pub fn unheard(&self) -> u64 {
        self.unheard.load(Relaxed)
    }

    fn tell(&self, sighting: Option<Sighting>) {
        if let Some(sighting) = sighting
            && self.events.try_send(sighting).is_err()
        {
            self.unheard.fetch_add(1, Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Post>> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope {
    /// Whether a touch of one of our own addresses by somebody else says anything about him.
    fn counts(&self, own: IpAddr, touch: &Touch) -> bool {
        let is_own = |address: IpAddr| self.own.as_ref().is_some_and(|own| own.contains(&address));
        let to_us = self.own.is_none() || is_own(own);
        to_us
            && is_somebody(touch.source)
            && !is_own(touch.source)
            && !self.serves.contains(touch.probe.protocol(), touch.port)
    }
}

/// No host has any other address.
fn is_somebody(source: IpAddr) -> bool {
    let is_broadcast = matches!(source, IpAddr::V4(address) if address.is_broadcast());
    !(source.is_loopback() || source.is_multicast() || source.is_unspecified() || is_broadcast)
}

fn threshold(guard: &Guard) -> Threshold {
    Threshold {
        report: guard.report_at,
        ban: (guard.mode == GuardMode::Ban).then_some(guard.ban_at),
        forget: guard.forget,
    }
}

/// The UDP ports that this host's own questions come from: what arrives there are answers.
#[must_use]
pub fn answered_ports() -> Option<crate::config::PortRange> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_ascii_whitespace().map(|end| end.parse().ok());
    Some(crate::config::PortRange {
        protocol: Protocol::Udp,
        first: ends.next()??,
        last: ends.next()??,
    })
}

#[cfg(test)]
mod tests {
    use spa_proto::TcpFlags;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn patrol() -> (Arc<Patrol>, mpsc::Receiver<Sighting>) {
        let (patrol, sightings) = Patrol::new();
        patrol.configure(Some(&Guard {
            report_at: 2,
            ..Guard::default()
        }));
        patrol.with(|post| {
            post.scope.own = Some(vec!["192.0.2.1".parse().unwrap()]);
            post.scope.serves.insert(Protocol::Tcp, 443);
        });
        (patrol, sightings)
    }

    fn syn(source: &str, to: &str) -> spa_proto::Probe<'static> {
        spa_proto::Probe {
            source: source.parse().unwrap(),
            destination: to.parse().unwrap(),
            content: Content::Tcp {
                flags: TcpFlags::SYN,
                number: 1,
            },
        }
    }

    #[test]
    fn two_ports_are_told_of() {
        let (patrol, mut sightings) = patrol();
        for to in ["192.0.2.1:23", "192.0.2.1:24"] {
            patrol.see(&syn("198.51.100.7:40000", to), NOW);
        }
        let sighting = sightings.try_recv().unwrap();
        assert_eq!(sighting.ports, [(Protocol::Tcp, 23), (Protocol::Tcp, 24)]);
    }

    #[test]
    fn what_says_nothing_does_not_count() {
        let (patrol, mut sightings) = patrol();
        let syns = [
            ("198.51.100.7:40000", "192.0.2.2:23"),
            ("198.51.100.7:40000", "192.0.2.1:443"),
            ("192.0.2.1:40000", "192.0.2.1:24"),
            ("127.0.0.1:40000", "192.0.2.1:25"),
            ("255.255.255.255:40000", "192.0.2.1:26"),
        ];
        for (source, to) in syns {
            patrol.see(&syn(source, to), NOW);
        }
        patrol.see(&syn("198.51.100.7:40000", "192.0.2.1:27"), NOW);
        assert!(sightings.try_recv().is_err());
        patrol.configure(None);
        patrol.see_handshake("198.51.100.7".parse().unwrap(), 23, NOW);
        assert!(sightings.try_recv().is_err());
    }

    #[test]
    fn a_busy_daemon_hears_later() {
        let (patrol, sightings) = patrol();
        for source in 1..=100_u8 {
            patrol.see_handshake([198, 51, 100, source].into(), 23, NOW);
        }
        assert_eq!((sightings.len(), patrol.unheard()), (QUEUE, 100 - QUEUE as u64));
    }

    #[test]
    fn the_kernel_says_where_questions_come_from() {
        let range = answered_ports().unwrap();
        assert!(range.first < range.last && range.protocol == Protocol::Udp);
    }
}

//! Sources that touched ports, in a memory of fixed size.

use std::hash::BuildHasher;
use std::time::Duration;

use ipnet::IpNet;

use super::{HANDSHAKE_POINTS, Phase, Ports, Probe, Sighting, Threshold};
use crate::config::Protocol;

const BUCKETS: usize = 512;
const WAYS: usize = 8;
/// Ports that are kept by number, as many as nmap touches unless told; a source that touched so many has long been
/// noticed, and what more it touches is taken for new.
const PORTS_KEPT: usize = 1024;
/// How often it is said of one source that it ought to be shut out.
const CONDEMNED_EVERY: Duration = Duration::from_mins(1);
/// A score does not rise further, or it would take days to be forgotten.
const MOST_POINTS: u32 = 4096;

/// A source, and what it touched.
#[derive(Clone, Debug)]
pub struct Suspect {
    source: IpNet,
    points: u32,
    /// Up to when points were forgotten.
    leaked: Duration,
    last: Duration,
    ports: Vec<(Protocol, u16)>,
    probes: Vec<Probe>,
    touches: u64,
    noticed: bool,
    condemned: Option<Duration>,
}

impl Suspect {
    fn new(source: IpNet, now: Duration) -> Self {
        Self {
            source,
            points: 0,
            leaked: now,
            last: now,
            ports: Vec::new(),
            probes: Vec::new(),
            touches: 0,
            noticed: false,
            condemned: None,
        }
    }

    /// Counts one touch.
    pub fn touch(&mut self, port: u16, probe: Probe, now: Duration) {
        let port = (probe.protocol(), port);
        let is_new = !self.ports.contains(&port);
        let worth = match probe {
            Probe::Handshake => HANDSHAKE_POINTS,
            _ => u32::from(is_new),
        };
        if is_new && self.ports.len() < PORTS_KEPT {
            self.ports.push(port);
        }
        if !self.probes.contains(&probe) {
            self.probes.push(probe);
        }
        self.points = (self.points + worth).min(MOST_POINTS);
        self.touches = self.touches.saturating_add(1);
        self.last = now;
    }

    /// Its score.
    #[must_use]
    pub const fn points(&self) -> u32 {
        self.points
    }

    /// What there is to say of it now.
    pub fn judge(&mut self, threshold: &Threshold, now: Duration) -> Option<Sighting> {
        let is_due = self.condemned.is_none_or(|last| last + CONDEMNED_EVERY <= now);
        if is_due && threshold.ban.is_some_and(|ban| self.points >= ban) {
            (self.noticed, self.condemned) = (true, Some(now));
            return Some(self.sighting(Phase::Condemned));
        }
        let is_new = !self.noticed && self.points >= threshold.report;
        self.noticed |= is_new;
        is_new.then(|| self.sighting(Phase::Noticed))
    }

    /// Takes back what was touched of these.
    pub fn take_back(&mut self, serves: &Ports) {
        let before = self.ports.len();
        self.ports.retain(|(protocol, port)| !serves.contains(*protocol, *port));
        let gone = u32::try_from(before - self.ports.len()).unwrap_or(u32::MAX);
        self.points = self.points.saturating_sub(gone);
    }

    /// It is no scanner after all, so far.
    pub fn acquit(&mut self) {
        (self.noticed, self.condemned) = (false, None);
    }

    /// What there is to say about it.
    #[must_use]
    pub fn sighting(&self, phase: Phase) -> Sighting {
        Sighting {
            source: self.source,
            ports: self.ports.clone(),
            touches: self.touches,
            probes: self.probes.clone(),
            phase,
        }
    }

    /// Takes away the points that are forgotten by now; who has none left has touched nothing.
    fn leak(&mut self, now: Duration, forget: Duration) {
        let since = now.saturating_sub(self.leaked);
        let forgotten = u32::try_from(since.as_nanos() / forget.as_nanos().max(1)).unwrap_or(u32::MAX);
        if forgotten >= self.points {
            *self = Self::new(self.source, now);
            return;
        }
        self.points -= forgotten;
        self.leaked += forget * forgotten;
    }
}

/// At most 4096 sources. Who comes when all places that it may have are taken gets the place of the one with the
/// fewest points, so that sources that are made up, of one packet each, push out each other and no scanner.
#[derive(Debug)]
pub struct Suspects<S> {
    buckets: Vec<Vec<Suspect>>,
    hasher: S,
}

impl<S: BuildHasher> Suspects<S> {
    pub(super) fn new(hasher: S) -> Self {
        Self {
            buckets: vec![Vec::new(); BUCKETS],
            hasher,
        }
    }

    /// The entry of a source, up to date; a new one if it has none.
    pub(super) fn of(&mut self, source: IpNet, now: Duration, forget: Duration) -> &mut Suspect {
        let bucket = self.bucket(source);
        let at = bucket.iter().position(|suspect| suspect.source == source);
        let at = at.unwrap_or_else(|| make_place(bucket, source, now, forget));
        let suspect = &mut bucket[at];
        suspect.leak(now, forget);
        suspect
    }

    /// The entry of a source, if it has one.
    pub(super) fn get(&mut self, source: IpNet) -> Option<&mut Suspect> {
        self.bucket(source).iter_mut().find(|suspect| suspect.source == source)
    }

    pub(super) fn remove(&mut self, is_meant: impl Fn(&IpNet) -> bool) {
        for bucket in &mut self.buckets {
            bucket.retain(|suspect| !is_meant(&suspect.source));
        }
    }

    pub(super) fn noticed(&self) -> impl Iterator<Item = &Suspect> {
        self.buckets.iter().flatten().filter(|suspect| suspect.noticed)
    }

    /// Takes out the noticed ones of which nothing was seen for `quiet`.
    pub(super) fn ended(&mut self, now: Duration, quiet: Duration) -> Vec<Sighting> {
        let is_over = |suspect: &mut Suspect| suspect.noticed && suspect.last + quiet <= now;
        let over = self
            .buckets
            .iter_mut()
            .flat_map(|bucket| bucket.extract_if(.., is_over));
        over.map(|suspect| suspect.sighting(Phase::Over)).collect()
    }

    fn bucket(&mut self, source: IpNet) -> &mut Vec<Suspect> {
        let hash = self.hasher.hash_one(source);
        let index = usize::try_from(hash % BUCKETS as u64).unwrap_or_default();
        &mut self.buckets[index]
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum()
    }
}

fn make_place(bucket: &mut Vec<Suspect>, source: IpNet, now: Duration, forget: Duration) -> usize {
    let new = Suspect::new(source, now);
    if bucket.len() < WAYS {
        bucket.push(new);
        return bucket.len() - 1;
    }
    for suspect in bucket.iter_mut() {
        suspect.leak(now, forget);
    }
    let least = (0..bucket.len()).min_by_key(|at| (bucket[*at].points, bucket[*at].last));
    let at = least.unwrap_or_default();
    bucket[at] = new;
    at
}

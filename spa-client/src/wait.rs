//! Pauses between the rounds: with nothing to hear, or while connections to the services are tried.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::race::{Answer, Race};
use crate::salvo::{Heard, Pace};

/// Waits, and hears nothing.
pub(crate) struct Sleeper(Instant);

impl Sleeper {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Pace for Sleeper {
    fn until(&mut self, time: Duration) -> Heard {
        thread::sleep(time.saturating_sub(self.0.elapsed()));
        Heard::Nothing
    }
}

/// Lets no time pass: for `--dry-run`.
pub(crate) struct AtOnce;

impl Pace for AtOnce {
    fn until(&mut self, _: Duration) -> Heard {
        Heard::Nothing
    }
}

/// What was heard of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The address that a connection stood to.
    pub(crate) open: Option<IpAddr>,
    /// The addresses that refused a connection: reached, but nobody listens.
    pub(crate) refused: BTreeSet<IpAddr>,
    /// What the system said of addresses that it could not reach.
    pub(crate) failed: BTreeSet<(IpAddr, String)>,
}

/// Connects to services from the first round on, until each has answered.
pub(crate) struct Watch {
    /// For service after service.
    races: Vec<Race>,
    limit: Duration,
    start: Instant,
    pub(crate) seen: Vec<Seen>,
    /// The connections that stand, for who wants to use them.
    pub(crate) streams: Vec<Option<TcpStream>>,
}

impl Watch {
    /// Where service after service may answer, and how long that is tried.
    pub(crate) fn new(places: &[Vec<SocketAddr>], limit: Duration) -> Self {
        Self {
            races: places.iter().map(|places| Race::new(places)).collect(),
            seen: vec![Seen::default(); places.len()],
            streams: places.iter().map(|_| None).collect(),
            limit,
            start: Instant::now(),
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.seen.iter().all(|seen| seen.open.is_some())
    }

    /// Lets the races run until `time`, or until all are won.
    fn run(&mut self, time: Duration) {
        while !self.is_answered() && self.start.elapsed() < time {
            let now = self.start.elapsed();
            for service in 0..self.races.len() {
                let answers = self.races[service].step(now);
                for answer in answers {
                    self.note(service, answer);
                }
            }
            if !self.is_answered() {
                let now = self.start.elapsed();
                let due = self.races.iter().filter_map(Race::due).min().unwrap_or(time);
                crate::race::wait(&self.races, due.min(time).saturating_sub(now));
            }
        }
    }

    fn note(&mut self, service: usize, answer: Answer) {
        let (Some(seen), Some(stream)) = (self.seen.get_mut(service), self.streams.get_mut(service)) else {
            return;
        };
        match answer {
            Answer::Open(address, connection) => {
                seen.open = Some(address);
                *stream = Some(connection);
            }
            Answer::Refused(address) => {
                seen.refused.insert(address);
            }
            Answer::Failed(address, why) => {
                seen.failed.insert((address, why));
            }
        }
    }
}

impl Pace for Watch {
    fn until(&mut self, time: Duration) -> Heard {
        if time.is_zero() {
            self.start = Instant::now();
            return Heard::Nothing;
        }
        self.run(time.min(self.limit));
        // Past its limit there is nothing to send for either.
        if self.is_answered() || time > self.limit {
            Heard::Answer
        } else {
            Heard::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        (listener, place)
    }

    #[test]
    fn a_service_that_listens_is_open() {
        let (_service, place) = listener();
        let mut watch = Watch::new(&[vec![place]], Duration::from_secs(10));
        assert_eq!(watch.until(Duration::ZERO), Heard::Nothing);
        assert_eq!(watch.until(Duration::from_secs(9)), Heard::Answer);
        assert_eq!(watch.seen[0].open, Some(place.ip()));
    }

    #[test]
    fn one_that_refuses_is_not() {
        let (service, place) = listener();
        drop(service);
        let (_other, open) = listener();
        let mut watch = Watch::new(&[vec![open], vec![place]], SOON);
        watch.until(Duration::ZERO);
        assert_eq!(watch.until(SOON), Heard::Nothing);
        assert_eq!(watch.seen[0].open, Some(open.ip()));
        assert_eq!(watch.seen[1].open, None);
        assert!(watch.seen[1].refused.contains(&place.ip()));
    }

    #[test]
    fn one_of_two_addresses_is_enough() {
        let (service, dead) = listener();
        drop(service);
        let (_service, alive) = listener();
        let mut watch = Watch::new(&[vec![dead, alive]], Duration::from_secs(10));
        watch.until(Duration::ZERO);
        assert_eq!(watch.until(Duration::from_secs(9)), Heard::Answer);
    }

    #[test]
    fn nothing_is_sent_after_the_limit() {
        let (service, place) = listener();
        drop(service);
        let mut watch = Watch::new(&[vec![place]], Duration::from_millis(50));
        watch.until(Duration::ZERO);
        assert_eq!(watch.until(Duration::from_millis(500)), Heard::Answer);
    }
}

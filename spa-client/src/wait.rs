//! Whether a service answers: connections to it, in all families at once, until one stands.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::salvo::{Heard, Pace};

/// A knock takes this long to open a near door; a connection begun earlier would lose its first packet and a second.
const HEAD_START: Duration = Duration::from_millis(10);
/// A packet that met a shut door is gone: try anew, soon at first.
const PATIENCE_MS: [u64; 6] = [50, 100, 200, 400, 800, 1_000];

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

/// What one connection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Open,
    Refused,
    Failed(String),
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
    /// Where service after service may answer.
    places: Vec<Vec<SocketAddr>>,
    limit: Duration,
    start: Instant,
    heard: Option<Receiver<(usize, IpAddr, Answer)>>,
    pub(crate) seen: Vec<Seen>,
}

impl Watch {
    pub(crate) fn new(places: Vec<Vec<SocketAddr>>, limit: Duration) -> Self {
        Self {
            seen: vec![Seen::default(); places.len()],
            places,
            limit,
            start: Instant::now(),
            heard: None,
        }
    }

    fn is_answered(&self) -> bool {
        self.seen.iter().all(|seen| seen.open.is_some())
    }

    fn begin(&self) -> Receiver<(usize, IpAddr, Answer)> {
        let (tell, heard) = channel();
        let end = self.start + self.limit;
        for (service, places) in self.places.iter().enumerate() {
            for place in places.iter().copied() {
                let own = tell.clone();
                let spawned = thread::Builder::new().spawn(move || probe(service, place, end, &own));
                if let Err(error) = spawned {
                    // The receiver is in this function still.
                    let _ = tell.send((service, place.ip(), Answer::Failed(error.to_string())));
                }
            }
        }
        heard
    }

    fn note(&mut self, service: usize, address: IpAddr, answer: Answer) {
        let Some(seen) = self.seen.get_mut(service) else {
            return;
        };
        match answer {
            Answer::Open => seen.open = seen.open.or(Some(address)),
            Answer::Refused => {
                seen.refused.insert(address);
            }
            Answer::Failed(why) => {
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
        let heard = self.heard.take().unwrap_or_else(|| self.begin());
        while !self.is_answered() {
            let left = time.min(self.limit).saturating_sub(self.start.elapsed());
            match heard.recv_timeout(left) {
                Ok((service, address, answer)) => self.note(service, address, answer),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.heard = Some(heard);
        // Past its limit there is nothing to send for either.
        if self.is_answered() || time > self.limit {
            Heard::Answer
        } else {
            Heard::Nothing
        }
    }
}

/// Connects again and again until it succeeds or `end` has come.
fn probe(service: usize, place: SocketAddr, end: Instant, tell: &Sender<(usize, IpAddr, Answer)>) {
    thread::sleep(HEAD_START);
    for attempt in 0.. {
        let patience = PATIENCE_MS
            .get(attempt)
            .or(PATIENCE_MS.last())
            .copied()
            .unwrap_or(1_000);
        let begin = Instant::now();
        let patience = Duration::from_millis(patience).min(end.saturating_duration_since(begin));
        if patience.is_zero() {
            return;
        }
        let answer = connect(place, patience);
        let is_last = answer == Some(Answer::Open);
        if answer.is_some_and(|answer| tell.send((service, place.ip(), answer)).is_err()) || is_last {
            return;
        }
        thread::sleep(patience.saturating_sub(begin.elapsed()));
    }
}

fn connect(place: SocketAddr, patience: Duration) -> Option<Answer> {
    match TcpStream::connect_timeout(&place, patience) {
        // To a port of this host that nobody listens on, a connection can meet itself.
        Ok(stream) if stream.local_addr().ok() == stream.peer_addr().ok() => Some(Answer::Refused),
        Ok(_) => Some(Answer::Open),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(Answer::Refused),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
        Err(error) => Some(Answer::Failed(error.to_string())),
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
        let mut watch = Watch::new(vec![vec![place]], Duration::from_secs(10));
        assert_eq!(watch.until(Duration::ZERO), Heard::Nothing);
        assert_eq!(watch.until(Duration::from_secs(9)), Heard::Answer);
        assert_eq!(watch.seen[0].open, Some(place.ip()));
    }

    #[test]
    fn one_that_refuses_is_not() {
        let (service, place) = listener();
        drop(service);
        let (_other, open) = listener();
        let mut watch = Watch::new(vec![vec![open], vec![place]], SOON);
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
        let mut watch = Watch::new(vec![vec![dead, alive]], Duration::from_secs(10));
        watch.until(Duration::ZERO);
        assert_eq!(watch.until(Duration::from_secs(9)), Heard::Answer);
    }

    #[test]
    fn nothing_is_sent_after_the_limit() {
        let (service, place) = listener();
        drop(service);
        let mut watch = Watch::new(vec![vec![place]], Duration::from_millis(50));
        watch.until(Duration::ZERO);
        assert_eq!(watch.until(Duration::from_millis(500)), Heard::Answer);
    }
}

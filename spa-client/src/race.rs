//! Connections to one service in all families at once, in the manner of Happy Eyeballs (RFC 8305): the families take
//! turns, the preferred one first; the next address begins 250 ms later, or as soon as the one before it failed.
//!
//! A door opens while connections to it are tried. A packet that met it shut is gone, and the system sends it again only
//! after a second; so each address is tried anew in growing steps, while the earlier tries go on: on a slow path it is
//! one of those that answers first.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt::socket_error};

/// A knock takes this long to open a near door; a connection begun earlier would lose its first packet.
const HEAD_START: Duration = Duration::from_millis(10);
/// RFC 8305, section 5: the Connection Attempt Delay.
const STAGGER: Duration = Duration::from_millis(250);
/// How long after a try the same address is tried again.
const AGAIN_MS: [u64; 5] = [100, 200, 400, 800, 1_000];
/// As many tries of one address go on at once; the oldest is given up for a new one.
const AT_ONCE: usize = 4;

/// What one try came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It stands.
    Open(IpAddr, TcpStream),
    /// The address was reached, and nobody listens.
    Refused(IpAddr),
    /// It could not be reached.
    Failed(IpAddr, String),
}

/// The tries of one service; times are counted from the first knock.
#[derive(Debug)]
pub(crate) struct Race {
    lanes: Vec<Lane>,
    is_won: bool,
}

/// The tries of one address.
#[derive(Debug)]
struct Lane {
    place: SocketAddr,
    /// When the next try is due.
    due: Duration,
    tries: usize,
    pending: Vec<OwnedFd>,
}

impl Race {
    /// The addresses in the resolver's order, which is that of RFC 6724.
    pub(crate) fn new(places: &[SocketAddr]) -> Self {
        let lane = |(place, number): (SocketAddr, u32)| Lane {
            place,
            due: HEAD_START + STAGGER * number,
            tries: 0,
            pending: Vec::new(),
        };
        Self {
            lanes: in_turns(places).into_iter().zip(0..).map(lane).collect(),
            is_won: false,
        }
    }

    /// When something is to be begun, if anything.
    pub(crate) fn due(&self) -> Option<Duration> {
        let lanes = self.lanes.iter().filter(|_| !self.is_won);
        lanes.map(|lane| lane.due).min()
    }

    /// Looks what the tries came to, and begins those that are due at `now`.
    pub(crate) fn step(&mut self, now: Duration) -> Vec<Answer> {
        let mut answers = Vec::new();
        for number in 0..self.lanes.len() {
            if self.is_won {
                break;
            }
            let lane = &mut self.lanes[number];
            let mut heard = lane.finished();
            if lane.due <= now {
                heard.extend(lane.begin(now));
            }
            self.is_won = heard.iter().any(|answer| matches!(answer, Answer::Open(..)));
            // A lane that failed makes way for the next one.
            if let (false, Some(next)) = (heard.is_empty(), self.lanes.get_mut(number + 1))
                && next.tries == 0
            {
                next.due = next.due.min(now);
            }
            answers.append(&mut heard);
        }
        if self.is_won {
            self.lanes.clear();
        }
        answers
    }
}

impl Lane {
    fn begin(&mut self, now: Duration) -> Option<Answer> {
        let again = AGAIN_MS.get(self.tries).or(AGAIN_MS.last()).copied();
        self.due = now + Duration::from_millis(again.unwrap_or(1_000));
        self.tries += 1;
        let socket = match open(self.place) {
            Ok((socket, true)) => return self.judge(socket),
            Ok((socket, false)) => socket,
            Err(error) => return Some(refused(self.place, error)),
        };
        if self.pending.len() == AT_ONCE {
            self.pending.remove(0);
        }
        self.pending.push(socket);
        None
    }

    fn finished(&mut self) -> Vec<Answer> {
        let (done, pending): (Vec<_>, _) = self.pending.drain(..).partition(is_done);
        self.pending = pending;
        done.into_iter().filter_map(|socket| self.judge(socket)).collect()
    }

    fn judge(&self, socket: OwnedFd) -> Option<Answer> {
        match socket_error(&socket) {
            Err(error) | Ok(Err(error)) => return Some(refused(self.place, error)),
            Ok(Ok(())) => {}
        }
        let stream = TcpStream::from(socket);
        // To a port of this host that nobody listens on, a connection can meet itself.
        if stream.local_addr().ok() == stream.peer_addr().ok() {
            return Some(Answer::Refused(self.place.ip()));
        }
        stream.set_nonblocking(false).ok()?;
        Some(Answer::Open(self.place.ip(), stream))
    }
}

/// Waits until a try has come to something, at most so long.
pub(crate) fn wait<'a>(races: impl IntoIterator<Item = &'a Race>, most: Duration) {
    let lanes = races.into_iter().flat_map(|race| &race.lanes);
    let pending = lanes.flat_map(|lane| &lane.pending);
    let mut wanted: Vec<_> = pending.map(|socket| PollFd::new(socket, PollFlags::OUT)).collect();
    // Rounded up: what is due a moment later would else be looked for again and again.
    let most = Timespec::try_from(most + Duration::from_millis(1)).unwrap_or_default();
    // A signal that interrupts it only makes the caller look earlier.
    let _ = poll(&mut wanted, Some(&most));
}

fn is_done(socket: &OwnedFd) -> bool {
    let mut wanted = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut wanted, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A connection under way, and whether it stands already.
fn open(place: SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    let family = if place.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &place) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

fn refused(place: SocketAddr, error: Errno) -> Answer {
    match error {
        Errno::CONNREFUSED => Answer::Refused(place.ip()),
        error => Answer::Failed(place.ip(), std::io::Error::from(error).to_string()),
    }
}

/// RFC 8305, section 4: the first address's family first, then the families in turns.
fn in_turns(places: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_ipv4 = places.first().is_some_and(SocketAddr::is_ipv4);
    let (mut first, mut other): (Vec<SocketAddr>, Vec<_>) = places
        .iter()
        .copied()
        .partition(|place| place.is_ipv4() == first_is_ipv4);
    let mut turns = Vec::with_capacity(places.len());
    first.reverse();
    other.reverse();
    while !(first.is_empty() && other.is_empty()) {
        turns.extend(first.pop());
        turns.extend(other.pop());
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    fn places(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let found = places(&["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "192.0.2.2:1"]);
        let turns = places(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1"]);
        assert_eq!(in_turns(&found), turns);
        assert_eq!(in_turns(&found[2..]), found[2..]);
        assert!(in_turns(&[]).is_empty());
    }

    #[test]
    fn a_lane_that_fails_makes_way_at_once() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut race = Race::new(&[closed, listener.local_addr().unwrap()]);
        assert!(race.step(Duration::ZERO).is_empty());
        let mut answers = race.step(HEAD_START);
        // A loopback connection is refused or stands at once or a moment later; no clock moves meanwhile.
        let end = Instant::now() + Duration::from_secs(5);
        while !race.is_won && Instant::now() < end {
            wait([&race], Duration::from_millis(10));
            answers.append(&mut race.step(HEAD_START));
        }
        assert!(matches!(answers[0], Answer::Refused(_)), "{answers:?}");
        assert!(matches!(answers.last(), Some(Answer::Open(..))), "{answers:?}");
        assert_eq!(race.due(), None);
    }

    #[test]
    fn tries_come_in_growing_steps() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut lane = Race::new(&[listener.local_addr().unwrap()]).lanes.remove(0);
        let mut times = Vec::new();
        for _ in 0..7 {
            times.push(lane.due.as_millis());
            let _ = lane.begin(lane.due);
            assert!(lane.pending.len() <= AT_ONCE);
        }
        assert_eq!(times, [10, 110, 310, 710, 1_510, 2_510, 3_510]);
    }

    #[test]
    fn no_way_there_is_said() {
        // Class E is nobody's.
        let mut race = Race::new(&places(&["255.255.255.255:9"]));
        let answers = race.step(HEAD_START);
        assert!(matches!(answers[..], [Answer::Failed(..)]), "{answers:?}");
    }
}

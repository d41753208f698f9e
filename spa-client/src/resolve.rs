//! `--resolve`: the public addresses of this device, as STUN servers see them (RFC 8489). None is asked that nobody
//! named, and no single one is believed: two must say the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use spa_keys::profile::Server;
use spa_keys::{Exit, Failure};

use crate::host;
use crate::stun::{self, Transaction};
use crate::whom::Whom;

mod agree;

use agree::{AGREE, Opinion, agreed, judge};

/// How long names are looked up, and how long servers are asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// When one family is settled, the other gets so much longer.
const OTHER_FAMILY: Duration = Duration::from_millis(500);
/// RFC 8489, section 6.2.1: sent anew in doubling steps.
const SENDINGS_MS: [u64; 3] = [0, 500, 1_500];

/// The public addresses, of each family for which two servers agree.
pub(crate) fn public(servers: &[Server]) -> Result<Whom, Failure> {
    if servers.len() < AGREE {
        return Err(few(servers.len()));
    }
    let places = look_up(servers);
    let mut asked = open(&places).map_err(|error| Failure::new(Exit::Failed, format!("cannot ask: {error}")))?;
    let opinions = ask(&mut asked);
    judge(&opinions, &places)
}

fn few(have: usize) -> Failure {
    let what = match have {
        0 => "no STUN server is named that could tell this device's public address".to_owned(),
        _ => "one STUN server is named, where two must agree on this device's public address".to_owned(),
    };
    Failure::new(Exit::Usage, what)
        .hint(
            "stun = [\"HOST:PORT\", \"HOST:PORT\"] in the profile: servers that you trust to see this device's address",
        )
        .hint("--stun HOST:PORT, twice")
        .hint("--address with this device's public address")
        .hint("--as-seen, if the gateway allows it")
}

/// One address of each family of each server. Each name is looked up by a thread of its own: a resolver may hang.
fn look_up(servers: &[Server]) -> Vec<SocketAddr> {
    let (tell, heard) = channel();
    for server in servers.iter().cloned() {
        let tell = tell.clone();
        // Without a thread this server is not asked, and the others decide.
        let _ = thread::Builder::new().spawn(move || {
            let found = host::resolve(&server.host).unwrap_or_default();
            let of = |ipv4| found.iter().find(|address| address.is_ipv4() == ipv4).copied();
            let both = [of(true), of(false)].into_iter().flatten();
            let _ = tell.send(
                both.map(|address| SocketAddr::new(address, server.port))
                    .collect::<Vec<_>>(),
            );
        });
    }
    drop(tell);
    let end = Instant::now() + PATIENCE;
    let next = || heard.recv_timeout(end.saturating_duration_since(Instant::now())).ok();
    let mut places: Vec<_> = std::iter::from_fn(next).flatten().collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// A question on its way.
struct Question {
    socket: UdpSocket,
    server: SocketAddr,
    transaction: Transaction,
    sent: usize,
    answer: Option<IpAddr>,
}

fn open(places: &[SocketAddr]) -> Result<Vec<Question>, getrandom::Error> {
    let mut asked = Vec::new();
    for server in places {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut transaction = Transaction::default();
        getrandom::fill(&mut transaction)?;
        // Connected: what others send to it is not heard. A family without a way there is left out.
        let connected = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        asked.extend(connected.ok().map(|socket| Question {
            socket,
            server: *server,
            transaction,
            sent: 0,
            answer: None,
        }));
    }
    Ok(asked)
}

fn ask(asked: &mut [Question]) -> Vec<Opinion> {
    let start = Instant::now();
    let mut end = PATIENCE;
    while start.elapsed() < end {
        let now = start.elapsed();
        for question in asked.iter_mut() {
            question.step(now);
        }
        let opinions = opinions(asked);
        if asked.iter().all(|question| question.answer.is_some()) {
            return opinions;
        }
        if [true, false].iter().any(|ipv4| agreed(&opinions, *ipv4).is_some()) {
            end = end.min(now + OTHER_FAMILY);
        }
        wait(asked, end.saturating_sub(now));
    }
    opinions(asked)
}

impl Question {
    fn step(&mut self, now: Duration) {
        let due = SENDINGS_MS.get(self.sent).map(|ms| Duration::from_millis(*ms));
        if self.answer.is_none() && due.is_some_and(|due| due <= now) {
            self.sent += 1;
            // A server that refuses is one that says nothing.
            let _ = self.socket.send(&stun::request(&self.transaction));
        }
        let mut buffer = [0; 1500];
        // Bounded: whoever floods the socket is not listened to for ever.
        for _ in 0..16 {
            let Ok(length) = self.socket.recv(&mut buffer) else {
                break;
            };
            self.answer = self.answer.or(stun::answer(&buffer[..length], &self.transaction));
        }
    }
}

fn wait(asked: &[Question], most: Duration) {
    let pending = asked.iter().filter(|question| question.answer.is_none());
    let mut wanted: Vec<_> = pending
        .map(|question| PollFd::new(&question.socket, PollFlags::IN))
        .collect();
    let most = Timespec::try_from(most.min(Duration::from_millis(100))).unwrap_or_default();
    let _ = poll(&mut wanted, Some(&most));
}

fn opinions(asked: &[Question]) -> Vec<Opinion> {
    let opinion = |question: &Question| {
        // A server is asked over one family and can tell only of that one.
        let said = question
            .answer
            .filter(|said| said.is_ipv4() == question.server.is_ipv4())?;
        Some(Opinion {
            server: question.server.ip(),
            said,
        })
    };
    asked.iter().filter_map(opinion).collect()
}

//! What is sent, and when ("What the client does"): every request to every target, one to three times.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_core::CryptoRng;
use serde::Serialize;
use spa_proto::{OVERHEAD, Request, SealError, Sender, Stamper, UnixTime, pick_length};

/// When the rounds go out, counted from the first.
const ROUNDS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_millis(1_500)];

/// How often everything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounds {
    /// The first round only.
    Once,
    /// The first and two repeats.
    All,
}

impl Rounds {
    /// When the rounds go out, counted from the first.
    pub(crate) fn times(self) -> &'static [Duration] {
        match self {
            Self::Once => &ROUNDS[..1],
            Self::All => &ROUNDS,
        }
    }
}

/// Port after port, and on each every address.
pub(crate) fn targets(addresses: &[IpAddr], ports: &[u16]) -> Vec<SocketAddr> {
    ports
        .iter()
        .flat_map(|port| addresses.iter().map(|address| SocketAddr::new(*address, *port)))
        .collect()
}

/// Takes a datagram to the network.
pub(crate) trait Post {
    /// Sends from a source port that nothing else of this run was sent from.
    ///
    /// # Errors
    ///
    /// What the system says; a refusal that comes back later is none.
    fn send(&mut self, target: SocketAddr, octets: &[u8]) -> io::Result<()>;
}

/// Lets time pass between rounds.
pub(crate) trait Pace {
    /// Returns at `time` after the first round, or earlier with [`Heard::Answer`].
    fn until(&mut self, time: Duration) -> Heard;
}

/// Whether there is a reason to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing, or not all that was waited for.
    Nothing,
    /// All that was waited for.
    Answer,
}

/// One datagram that went out.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Sent {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) bytes: usize,
}

/// What became of the datagrams.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: Vec<Sent>,
    /// Why nothing could be sent to an address.
    pub(crate) unsent: BTreeMap<IpAddr, String>,
}

/// Requests on their way to targets. Each message has its own ephemeral key, timestamp, length and source port.
pub(crate) struct Salvo<'a, P, R, C> {
    pub(crate) keys: Sender<'a>,
    pub(crate) requests: Vec<Request>,
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) stamper: Stamper,
    pub(crate) clock: C,
    pub(crate) rng: R,
    pub(crate) post: P,
    pub(crate) tally: Tally,
}

impl<P: Post, R: CryptoRng, C: Fn() -> UnixTime> Salvo<'_, P, R, C> {
    /// Sends round after round, until an answer makes the rest needless.
    pub(crate) fn fire(&mut self, rounds: Rounds, pace: &mut impl Pace) -> Result<(), SealError> {
        for time in rounds.times() {
            if pace.until(*time) == Heard::Answer {
                break;
            }
            self.round()?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<(), SealError> {
        for target in &self.targets {
            for request in &mut self.requests {
                request.timestamp = self.stamper.stamp((self.clock)(), &mut self.rng);
                let length = pick_length(OVERHEAD + request.payload_len(), &mut self.rng);
                let octets = self.keys.seal(request, length, &mut self.rng)?;
                let outcome = self.post.send(*target, &octets);
                self.tally.note(*target, octets.len(), outcome);
            }
        }
        Ok(())
    }
}

impl Tally {
    fn note(&mut self, target: SocketAddr, bytes: usize, outcome: io::Result<()>) {
        let (address, port) = (target.ip(), target.port());
        match outcome {
            Ok(()) => self.sent.push(Sent { address, port, bytes }),
            Err(error) => {
                self.unsent.insert(address, error.to_string());
            }
        }
    }

    /// What a person should know of addresses that nothing could be sent to.
    pub(crate) fn hints(&self) -> impl Iterator<Item = String> {
        self.unsent
            .iter()
            .map(|(address, why)| format!("could not send to {address}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use spa_proto::{Act, Address, HmacKey, Psk, SecretKey, Services};

    use super::*;

    #[derive(Default)]
    struct Recorder {
        sent: Vec<(SocketAddr, Vec<u8>)>,
        dead: Option<IpAddr>,
    }

    impl Post for Recorder {
        fn send(&mut self, target: SocketAddr, octets: &[u8]) -> io::Result<()> {
            if self.dead == Some(target.ip()) {
                return Err(io::ErrorKind::NetworkUnreachable.into());
            }
            self.sent.push((target, octets.to_vec()));
            Ok(())
        }
    }

    /// Notes the times asked for, and hears an answer at one of them.
    #[derive(Default)]
    struct Script {
        asked: Vec<Duration>,
        answer_at: Option<Duration>,
    }

    impl Pace for Script {
        fn until(&mut self, time: Duration) -> Heard {
            self.asked.push(time);
            if self.answer_at == Some(time) {
                Heard::Answer
            } else {
                Heard::Nothing
            }
        }
    }

    thread_local! {
        static CLOCK: Cell<u64> = const { Cell::new(1_800_000_000_000_000_000) };
    }

    fn standing_clock() -> UnixTime {
        UnixTime::from_nanos(CLOCK.get())
    }

    fn fire(rounds: Rounds, pace: &mut Script, post: Recorder) -> (Recorder, Tally, UnixTime) {
        let rng = &mut UnwrapErr(SysRng);
        let (gateway, hmac_key) = (SecretKey::generate(rng).public(), HmacKey::generate(rng));
        let (secret, psk) = (SecretKey::generate(rng), Psk::generate(rng));
        let services = Services::new(vec!["ssh".parse().unwrap()]).unwrap();
        let act = Act::Close {
            address: Address::AsSeen,
            services,
        };
        let request = Request {
            timestamp: UnixTime::default(),
            code: None,
            act,
        };
        let mut salvo = Salvo {
            keys: Sender {
                gateway: &gateway,
                hmac_key: &hmac_key,
                secret: &secret,
                psk: &psk,
            },
            requests: vec![request],
            targets: targets(&["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()], &[7, 8]),
            stamper: Stamper::new(Duration::from_micros(1)),
            clock: standing_clock,
            rng,
            post,
            tally: Tally::default(),
        };
        salvo.fire(rounds, pace).unwrap();
        (salvo.post, salvo.tally, salvo.requests[0].timestamp)
    }

    #[test]
    fn three_rounds_port_after_port() {
        let mut pace = Script::default();
        let (post, tally, last) = fire(Rounds::All, &mut pace, Recorder::default());
        let order = ["192.0.2.1:7", "[2001:db8::1]:7", "192.0.2.1:8", "[2001:db8::1]:8"];
        let sent: Vec<_> = post.sent.iter().map(|(target, _)| target.to_string()).collect();
        assert_eq!(sent, [order, order, order].concat());
        assert_eq!(pace.asked, [0, 500, 1_500].map(Duration::from_millis));
        assert_eq!((tally.sent.len(), tally.unsent.len()), (12, 0));
        assert!(tally.sent.iter().all(|sent| (288..=512).contains(&sent.bytes)));
        // A clock that stands still: the first timestamp, random below a microsecond, counted up by each message.
        assert!((11..1_011).contains(&(last.as_nanos() - CLOCK.get())));
    }

    #[test]
    fn no_two_messages_are_alike() {
        let (post, ..) = fire(Rounds::All, &mut Script::default(), Recorder::default());
        let mut heads: Vec<_> = post.sent.iter().map(|(_, octets)| &octets[16..48]).collect();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), 12);
    }

    #[test]
    fn an_answer_ends_the_repeats() {
        let mut pace = Script {
            answer_at: Some(Duration::from_millis(500)),
            ..Script::default()
        };
        let (post, ..) = fire(Rounds::All, &mut pace, Recorder::default());
        assert_eq!(post.sent.len(), 4);
        let (post, ..) = fire(Rounds::Once, &mut Script::default(), Recorder::default());
        assert_eq!(post.sent.len(), 4);
    }

    #[test]
    fn a_dead_family_does_not_stop_the_other() {
        let post = Recorder {
            dead: Some("2001:db8::1".parse().unwrap()),
            ..Recorder::default()
        };
        let (post, tally, _) = fire(Rounds::All, &mut Script::default(), post);
        assert_eq!(post.sent.len(), 6);
        assert_eq!(tally.sent.len(), 6);
        let hints: Vec<_> = tally.hints().collect();
        assert_eq!(hints, ["could not send to 2001:db8::1: network unreachable"]);
    }
}

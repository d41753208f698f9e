//! A door: who asks whom for what, sent and, where it can be seen, seen open.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use spa_keys::profile::{Membership, Profile};
use spa_keys::{Failure, Host};
use spa_proto::{Address, Code, Sender, ServiceName};

use crate::clock::Clock;
use crate::fire::Errand;
use crate::host::{Sockets, resolve};
use crate::plan::{self, Verb};
use crate::report::{Report, State};
use crate::salvo::{Pace, Post, Rounds, Tally, targets};
use crate::verdict::Verdict;
use crate::wait::{Seen, Watch};

/// What is asked, for whom.
#[derive(Clone, Debug)]
pub(crate) struct Door<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) services: &'a [ServiceName],
    pub(crate) verb: Verb,
    pub(crate) addresses: Vec<Address>,
    pub(crate) code: Option<Code>,
    pub(crate) clock: Clock,
    pub(crate) rounds: Rounds,
}

/// Where the services answer.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    /// Service after service.
    pub(crate) ports: Vec<u16>,
    /// Somewhere behind the gateway; `None` is the gateway that opens.
    pub(crate) host: Option<&'a Host>,
    /// How long each gateway is tried.
    pub(crate) limit: Duration,
}

/// A door that is open: which gateway opened it, and the connections that showed it.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    pub(crate) gateway: &'a Membership,
    pub(crate) streams: Vec<Option<TcpStream>>,
}

impl<'a> Door<'a> {
    /// Sends to one gateway, whose addresses these are.
    pub(crate) fn knock(
        &self,
        at: &Membership,
        addresses: &[IpAddr],
        post: impl Post,
        pace: &mut impl Pace,
    ) -> Result<Tally, Failure> {
        let ports: Vec<_> = at.ports.numbers().collect();
        self.knock_ports(at, targets(addresses, &ports), post, pace)
    }

    /// Sends to one gateway at these places.
    pub(crate) fn knock_ports(
        &self,
        at: &Membership,
        targets: Vec<SocketAddr>,
        post: impl Post,
        pace: &mut impl Pace,
    ) -> Result<Tally, Failure> {
        let errand = Errand {
            keys: Sender {
                gateway: &at.gateway,
                hmac_key: &at.hmac_key,
                secret: &at.secret,
                psk: &at.psk,
            },
            requests: plan::requests(self.verb, self.services, &self.addresses, self.code, self.profile)?,
            targets,
            rounds: self.rounds,
            clock: self.clock,
        };
        errand.fire(post, pace)
    }

    /// Asks gateway after gateway until the services answer.
    pub(crate) fn pass(&self, place: &Place<'_>, report: &mut Report) -> Result<Passed<'a>, Failure> {
        let mut gateways: Vec<_> = self.profile.memberships().collect();
        // Whoever goes to the second gateway by name need not wait for the first.
        gateways.sort_by_key(|gateway| Some(&gateway.host) != place.host);
        let mut gateways = gateways.into_iter().peekable();
        loop {
            let Some(gateway) = gateways.next() else {
                return Err(Failure::new(spa_keys::Exit::Failed, "no gateway"));
            };
            let (failure, causes) = match self.try_one(gateway, place, report) {
                Ok(streams) => return Ok(Passed { gateway, streams }),
                Err(shut) => shut,
            };
            let Some(next) = gateways.peek() else {
                report.causes(causes);
                return Err(failure);
            };
            report.warn([format!("{}: {}; trying {}", gateway.host, failure.what, next.host)]);
        }
    }

    /// Knocks at one gateway alone, quietly; the address that the first service answered at.
    pub(crate) fn see(&self, at: &Membership, place: &Place<'_>) -> Result<IpAddr, (Failure, Vec<String>)> {
        let mut report = Report::new(self.services);
        let streams = self.try_one(at, place, &mut report)?;
        let peer = streams.iter().flatten().find_map(|stream| stream.peer_addr().ok());
        let gone = || {
            (
                Failure::new(spa_keys::Exit::Failed, "the connection is gone"),
                Vec::new(),
            )
        };
        peer.map(|peer| peer.ip().to_canonical()).ok_or_else(gone)
    }

    /// Knocks at one gateway and connects; where nothing opens, why, and the likely causes.
    fn try_one(
        &self,
        at: &Membership,
        place: &Place<'_>,
        report: &mut Report,
    ) -> Result<Vec<Option<TcpStream>>, (Failure, Vec<String>)> {
        let sure = |failure| (failure, Vec::new());
        let gateway = resolve(&at.host).map_err(sure)?;
        let behind = place.host.map(resolve).transpose().map_err(sure)?;
        let answers = behind.as_ref().unwrap_or(&gateway);
        let places: Vec<_> = place.ports.iter().map(|port| targets(answers, &[*port])).collect();
        let mut watch = Watch::new(&places, place.limit);
        let tally = self.knock(at, &gateway, Sockets::default(), &mut watch).map_err(sure)?;
        watch.until(place.limit);
        report.take(tally);
        report.set(watch.seen.iter().map(state));
        let verdict = Verdict::new(at, self.services, &place.ports, &self.addresses, place.limit);
        let facts = verdict.facts(&watch.seen);
        match verdict.judge(&watch.seen) {
            Ok(()) => {
                for line in facts {
                    report.fact(line);
                }
                Ok(watch.streams)
            }
            Err(failure) => Err((failure, verdict.causes(&watch.seen, self.clock.now()))),
        }
    }
}

fn state(seen: &Seen) -> State {
    if seen.open.is_some() {
        State::Open
    } else {
        State::Closed
    }
}

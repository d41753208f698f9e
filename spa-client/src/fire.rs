//! From requests to datagrams on the network.

use std::net::{IpAddr, SocketAddr};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_keys::{Exit, Failure};
use spa_proto::{Request, SealError, Sender, Stamper};

use crate::clock::{self, Clock};
use crate::salvo::{Pace, Post, Rounds, Salvo, Sent, Tally};

/// What goes where.
pub(crate) struct Errand<'a> {
    pub(crate) keys: Sender<'a>,
    pub(crate) requests: Vec<Request>,
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) rounds: Rounds,
    pub(crate) clock: Clock,
}

impl Errand<'_> {
    /// Sends all of it.
    ///
    /// # Errors
    ///
    /// When not a single datagram could be sent.
    pub(crate) fn fire(self, post: impl Post, pace: &mut impl Pace) -> Result<Tally, Failure> {
        let mut salvo = Salvo {
            keys: self.keys,
            requests: self.requests,
            targets: self.targets,
            stamper: Stamper::new(clock::resolution()),
            clock: || self.clock.now(),
            rng: UnwrapErr(SysRng),
            post,
            tally: Tally::default(),
        };
        salvo.fire(self.rounds, pace).map_err(|error| not_sealed(&error))?;
        let tally = salvo.tally;
        if tally.sent.is_empty() {
            Err(not_sent(&tally))
        } else {
            Ok(tally)
        }
    }
}

fn not_sealed(error: &SealError) -> Failure {
    Failure::new(Exit::Config, error).hint("a new invite: this gateway's key cannot be right")
}

fn not_sent(tally: &Tally) -> Failure {
    let why: Vec<_> = tally.hints().collect();
    Failure::new(Exit::Failed, format!("nothing was sent: {}", why.join("; ")))
        .hint("whether this device is on the network")
}

/// Addresses as a person reads them.
pub(crate) fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// How much went where, as a person reads it.
pub(crate) fn counted(sent: &[Sent]) -> String {
    let mut reached: Vec<_> = sent.iter().map(|sent| sent.address).collect();
    reached.sort_unstable();
    reached.dedup();
    let plural = if sent.len() == 1 { "" } else { "s" };
    format!("{} datagram{plural} to {}", sent.len(), listed(&reached))
}

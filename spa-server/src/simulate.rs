//! Recorded packets against this gateway's keys, clients and configuration: the steps of the protocol by the very code
//! that the daemon walks, with what each found. Nothing is opened, spent or recorded.
//!
//! `facts` is what is said of each step, `book` the record as far as it is known, `witness` what was asked of the keyring, `requests` steps 8 and 9,
//! `advice` what to try, `verdict` what comes of a packet.

mod advice;
mod book;
mod facts;
mod requests;
mod verdict;
mod witness;

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use spa_keys::directory::KeyDirectory;
use spa_keys::invites::Spent;
use spa_keys::state::PinRow;
use spa_keys::text;
use spa_proto::frame::{IpError, LinkError};
use spa_proto::{
    Claim, Datagram, DropReason, FrameError, Gateway, Identity, LinkType, Listen, Moment, PublicKey, Refusal, Sieve,
    UnixTime,
};

use crate::capture::twice::{self, Twice};
use crate::code::CodeGuard;
use crate::config::Service;
use crate::grant::GrantTable;
use crate::refusals::Reason;

pub use book::{Book, Known};
use facts::say_sieved;
pub use verdict::{Outcome, Refused, Step, Verdict};
use witness::Witness;

/// What is judged by.
pub struct Setting {
    /// server.toml's services.
    pub services: Vec<Service>,
    /// gateway.key.
    pub identities: Vec<Identity>,
    /// Where knocks are for.
    pub listen: Listen,
    /// clients.d and invites.d.
    pub keys: KeyDirectory,
    /// What is known of the record.
    pub known: Known,
}

/// A gateway that only thinks. What one packet changes, the next one meets.
pub struct Simulation {
    services: Vec<Service>,
    listen: Listen,
    keys: KeyDirectory,
    gateway: Gateway,
    book: Book,
    codes: HashMap<PublicKey, CodeGuard>,
    pins: HashMap<PublicKey, PinRow>,
    spent: HashMap<PublicKey, Spent>,
    grants: GrantTable,
    twice: Twice,
    started: Instant,
}

/// What a packet of a capture is.
#[derive(Debug)]
pub enum Judged<'a> {
    /// Nothing that comes to a knock port, and why not.
    Other(String),
    /// Something that does: from where to where, if that can be read, and what came of it.
    Packet(Option<Datagram<'a>>, Verdict),
}

impl Simulation {
    /// Begins with nothing seen.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        Self {
            services: setting.services,
            gateway: Gateway::new(Sieve::new(setting.identities, setting.listen.clone())),
            listen: setting.listen,
            keys: setting.keys,
            book: Book::new(setting.known),
            codes: HashMap::new(),
            pins: HashMap::new(),
            spent: HashMap::new(),
            grants: GrantTable::default(),
            twice: Twice::default(),
            started: Instant::now(),
        }
    }

    /// Judges one frame that was captured at `at`; `cut` says that only a part of it was.
    pub fn judge<'a>(&mut self, at: UnixTime, link: LinkType, frame: &'a [u8], cut: bool) -> Judged<'a> {
        let now = Moment {
            wall: at,
            uptime: Duration::from_nanos(at.as_nanos()),
        };
        match Datagram::from_frame(link, frame) {
            Err(error) if is_something_else(&error) => Judged::Other(error.to_string()),
            Err(error) => Judged::Packet(None, self.refused(Vec::new(), now, &DropReason::Frame(error), cut)),
            Ok(datagram) if !self.listen.ports.contains(&datagram.destination.port()) => Judged::Other(format!(
                "UDP to port {}, where no knock is listened for",
                datagram.destination.port()
            )),
            Ok(datagram) => {
                let verdict = self.walk(now, &datagram, twice::interface(link, frame));
                Judged::Packet(Some(datagram), verdict)
            }
        }
    }

    /// Steps 1 to 3 as a capture thread walks them, then the rest.
    fn walk(&mut self, now: Moment, datagram: &Datagram<'_>, interface: Option<u32>) -> Verdict {
        let admitted = self.gateway.sieve_mut().admit(now.wall, datagram);
        let again = matches!(admitted, Ok(_) | Err(DropReason::Copy { forwarded: false }));
        if again && self.twice.seen(datagram, interface, self.started + now.uptime) {
            return Verdict::new(Vec::new(), None, Outcome::Twice);
        }
        let mut steps = Vec::new();
        match admitted {
            Ok(admitted) => {
                self.say_admitted(datagram, &admitted, &mut steps);
                self.authentic(now, datagram, steps)
            }
            Err(reason) => {
                say_sieved(datagram, reason.step(), &mut steps);
                self.refused(steps, now, &reason, false)
            }
        }
    }

    /// Steps 4 to 7, and on.
    fn authentic(&mut self, now: Moment, datagram: &Datagram<'_>, mut steps: Vec<Step>) -> Verdict {
        let mut witness = Witness::new(&mut self.keys);
        self.book.begin();
        let outcome = self.gateway.handle(now, datagram, &mut witness, &mut self.book);
        let seen = witness.seen();
        match outcome {
            Ok(knock) => {
                let client = self.name_of(knock.client());
                self.say_passed(now, 8, *knock.client(), seen.role, &mut steps);
                self.say_request(&knock, &mut steps);
                let outcome = self.request(now, knock, &mut steps);
                Verdict::new(steps, client, outcome)
            }
            Err(Refusal { reason, claim }) => {
                let Claim::Proven(key) = claim else {
                    let mut verdict = self.refused(steps, now, &reason, false);
                    self.name_claimed(&mut verdict, seen.asked);
                    return verdict;
                };
                let client = self.name_of(&key);
                self.say_passed(now, reason.step(), key, seen.role, &mut steps);
                let mut verdict = self.refused(steps, now, &reason, false);
                verdict.client = client;
                verdict
            }
        }
    }

    fn refused(&self, steps: Vec<Step>, now: Moment, reason: &DropReason, cut: bool) -> Verdict {
        let detail = match reason {
            DropReason::Replay => self.book.why_replayed(),
            DropReason::Record => self.book.why_unavailable(),
            reason => reason.to_string(),
        };
        let tries = if cut {
            advice::cut()
        } else {
            advice::for_drop(reason, &self.listen, now.wall)
        };
        let refused = Refused {
            step: reason.step(),
            reason: Reason::from(reason),
            detail,
            difference_s: reason.difference_s(),
            tries,
        };
        Verdict::new(steps, None, Outcome::Refused(refused))
    }

    /// Whose key is claimed but not proven is said as what it is: a fingerprint.
    fn name_claimed(&self, verdict: &mut Verdict, asked: Option<PublicKey>) {
        let (Some(key), Outcome::Refused(refused)) = (asked, &mut verdict.outcome) else {
            return;
        };
        // Writing to a String cannot fail.
        let _ = write!(refused.detail, "; claimed is {}", text::fingerprint(&key));
        if self.spent.values().any(|spent| spent.public_key() == Some(key)) {
            refused
                .tries
                .push("an enroll earlier in this capture would have made it a client's".into());
        }
    }

    /// The name of a client, or of the one that an invite is for.
    fn name_of(&self, key: &PublicKey) -> Option<String> {
        let client = self.keys.client(key).map(|view| view.name().to_string());
        client.or_else(|| Some(self.keys.invite(key)?.name.to_string()))
    }
}

/// What no filter of a capture for knocks lets through: it is no refusal.
const fn is_something_else(error: &FrameError) -> bool {
    match error {
        FrameError::Link(LinkError::Cut { .. }) => false,
        FrameError::Link(_)
        | FrameError::Ip(IpError::Protocol { .. } | IpError::Version { .. })
        | FrameError::Tcp(_) => true,
        FrameError::Ip(_) | FrameError::Udp(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn simulation() -> (Simulation, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let text = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.7\"]\n\
            [[service]]\nname = \"ssh\"\nbackends = [\"iptables\"]\nports = [\"tcp/22\"]\n";
        let simulation = Simulation::new(Setting {
            services: Config::from_text("server.toml", text).unwrap().0.services,
            identities: Vec::new(),
            listen: Listen::port(62_201),
            keys: KeyDirectory::load(&dir.path().join("clients.d"), &dir.path().join("invites.d")).unwrap(),
            known: Known::Nothing,
        });
        (simulation, dir)
    }

    fn udp(port: u16, length: usize) -> Vec<u8> {
        let head = [
            69, 0, 0, 0, 0, 0, 64, 0, 64, 17, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1, 156, 64,
        ];
        let mut packet = [&head[..], &port.to_be_bytes(), &[0; 4], &vec![7; length]].concat();
        let whole = u16::try_from(packet.len()).unwrap();
        packet[2..4].copy_from_slice(&whole.to_be_bytes());
        packet[24..26].copy_from_slice(&(whole - 20).to_be_bytes());
        packet
    }

    fn outcome(frame: &[u8], cut: bool) -> Result<(u8, Reason, usize), String> {
        let (mut simulation, _dir) = simulation();
        match simulation.judge(UnixTime::from_secs(1_800_000_000), LinkType::Raw, frame, cut) {
            Judged::Other(why) => Err(why),
            Judged::Packet(_, verdict) => match verdict.outcome {
                Outcome::Refused(refused) => Ok((refused.step, refused.reason, verdict.steps.len())),
                other => panic!("{other:?}"),
            },
        }
    }

    #[test]
    fn what_comes_to_no_knock_port_is_no_refusal() {
        assert!(outcome(&udp(53, 300), false).is_err());
        let mut tcp = udp(62_201, 300);
        tcp[9] = 6;
        assert!(outcome(&tcp, false).is_err());
        assert!(outcome(&[0x55; 40], false).is_err());
    }

    #[test]
    fn the_step_that_refuses_and_those_before_it() {
        assert_eq!(outcome(&udp(62_201, 300), false), Ok((2, Reason::Tag, 1)));
        assert_eq!(outcome(&udp(62_201, 20), false), Ok((1, Reason::Shape, 0)));
        assert_eq!(outcome(&udp(62_201, 300)[..60], true), Ok((1, Reason::Shape, 0)));
    }
}

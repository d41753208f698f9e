//! Plays datagrams, clock steps, restarts and changed keys to a gateway, beside a naive model of the protocol page.
//!
//! The attacker holds everything but a client's keys: every `K`, the private `S`, the clients' public keys, a key of
//! his own that nobody enrolled, and every datagram that was ever sent; he may also be one client who claims to be the
//! other. What is sent: raw octets, requests sealed as spa-client seals them, the same changed on the way, with their
//! tag made right again or not, datagrams made by hand with any payload, and copies. Held are:
//!
//! - nothing panics, whatever is sent and wherever the clock stands;
//! - each datagram is refused by the very step that the model says, or admitted when the model says so;
//! - what is admitted was sealed with a client's own PSK, and says what was sealed.

#![no_main]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use spa_fuzz::cast::{CAST, Cast, HOLDERS, IDENTITIES};
use spa_fuzz::forge::tag;
use spa_fuzz::model::{Genuine, Model};
use spa_fuzz::numbers::Numbers;
use spa_fuzz::steps::{Change, Edit, Forgery, Source, Step, Tagged, Wish, moved};
use spa_fuzz::wire;
use spa_proto::{
    Act, Datagram, Gateway, Identity, KeyTable, Knock, LENGTHS, Listen, Moment, OVERHEAD, Psk, PublicKey, ReplayRecord,
    ReplaySet, Request, Role, Sieve, Standing, UnixTime, Verdict, pick_length,
};

const PORT: u16 = 62201;
const START: UnixTime = UnixTime::from_secs(1_800_000_000);

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::new();
    for step in &steps {
        world.take(step);
    }
});

struct World {
    cast: &'static Cast,
    gateway: Gateway,
    keyring: KeyTable,
    record: Record,
    model: Model,
    now: Moment,
    numbers: Numbers,
    /// All that was sent.
    sent: Vec<Vec<u8>>,
    /// What is put back into the keyring at a restart.
    standings: [Standing; HOLDERS],
    enrolled: Option<(PublicKey, Psk)>,
}

/// A record as it is written and read back.
#[derive(Default)]
struct Record(BTreeMap<PublicKey, ReplaySet>);

impl Record {
    fn restart(&mut self) {
        for set in self.0.values_mut() {
            *set = ReplaySet::restore(set.floor(), set.members().iter().rev().copied());
        }
    }
}

impl ReplayRecord for Record {
    fn claim(&mut self, client: &PublicKey, timestamp: UnixTime, retention: Duration) -> Verdict {
        let set = self.0.entry(*client).or_default();
        if set.accept(timestamp, retention) {
            Verdict::Fresh
        } else {
            Verdict::Replayed
        }
    }
}

impl World {
    fn new() -> Self {
        let cast = &*CAST;
        let mut world = Self {
            gateway: gateway(cast, [true; IDENTITIES]),
            keyring: KeyTable::default(),
            record: Record::default(),
            model: Model::new(cast),
            now: Moment {
                wall: START,
                uptime: Duration::from_secs(1),
            },
            numbers: Numbers::default(),
            sent: Vec::new(),
            standings: [Standing::Active { until: None }; HOLDERS],
            enrolled: None,
            cast,
        };
        world.fill_keyring();
        world
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Raw { octets, from } => self.deliver(octets.clone(), *from),
            Step::Sealed { wish, from } => {
                let octets = self.seal(wish);
                octets.into_iter().for_each(|octets| self.deliver(octets, *from));
            }
            Step::Changed {
                wish,
                edits,
                retag,
                from,
            } => self.change(wish, edits, *retag, *from),
            Step::Forged { forgery, from } => self.forge(forgery, *from),
            Step::Again { which, retag, from } => {
                let Some(at) = usize::from(*which).checked_rem(self.sent.len()) else {
                    return;
                };
                let octets = self.retagged(self.sent[at].clone(), *retag);
                self.deliver(octets, *from);
            }
            Step::Wait { ms } => {
                let length = Duration::from_millis(u64::from(*ms));
                self.now.uptime += length;
                self.now.wall = self.now.wall.saturating_add(length);
            }
            Step::SetClock { nanos } => self.now.wall = UnixTime::from_nanos(*nanos),
            Step::MoveClock { seconds } => self.now.wall = moved(self.now.wall, i64::from(*seconds) * 1_000),
            Step::Restart => self.restart(),
            Step::Hold { identities } => self.hold(*identities),
            Step::Standing { who, standing } => self.stand(usize::from(*who) % HOLDERS, *standing),
        }
    }

    fn change(&mut self, wish: &Wish, edits: &[Edit], retag: Option<Tagged>, from: Source) {
        let Some(mut octets) = self.seal(wish) else { return };
        edits.iter().for_each(|edit| edit.apply(&mut octets));
        let octets = self.retagged(octets, retag);
        self.deliver(octets, from);
    }

    /// A request as spa-client seals it.
    fn seal(&mut self, wish: &Wish) -> Option<Vec<u8>> {
        let request = wish.request(self.now.wall, self.cast)?;
        let need = OVERHEAD + request.payload_len();
        let length = match wish.length {
            Some(length) => usize::from(length).clamp(*LENGTHS.start(), *LENGTHS.end()),
            None => pick_length(need, &mut self.numbers),
        };
        let sender = self.cast.sender(wish.holder(), wish.identity());
        let octets = sender.seal(&request, length, &mut self.numbers).ok()?;
        let genuine = Genuine {
            holder: wish.holder(),
            identity: wish.identity(),
            payload: wire::payload(&request, length - OVERHEAD),
        };
        self.model.sealed(&octets[16..], genuine);
        Some(octets)
    }

    fn forge(&mut self, forgery: &Forgery, from: Source) {
        let Some(payload) = forgery.contents.payload(self.now.wall, self.cast) else {
            return;
        };
        let (claim, psk_of) = (
            usize::from(forgery.claim) % HOLDERS,
            usize::from(forgery.psk_of) % HOLDERS,
        );
        let identity = forgery.tagged.identity();
        let ephemeral = self.numbers.octets();
        let body = self.cast.forge(claim, psk_of, identity, &ephemeral, &payload);
        if claim == psk_of {
            let genuine = Genuine {
                holder: claim,
                identity,
                payload,
            };
            self.model.sealed(&body, genuine);
        }
        let octets = self.retagged([&[0; 16], &*body].concat(), Some(forgery.tagged));
        self.deliver(octets, from);
    }

    /// With the tag of another day or identity.
    fn retagged(&self, mut octets: Vec<u8>, tagged: Option<Tagged>) -> Vec<u8> {
        let (Some(tagged), Some((own_tag, body))) = (tagged, octets.split_at_mut_checked(16)) else {
            return octets;
        };
        let own = &self.cast.own[tagged.identity()];
        let day = self.now.wall.day().0.saturating_add_signed(i64::from(tagged.days));
        own_tag.copy_from_slice(&tag(&own.hmac_key, &own.public, day, body));
        octets
    }

    /// Hands a datagram to the gateway and holds its answer against the model's.
    fn deliver(&mut self, octets: Vec<u8>, from: Source) {
        let source = SocketAddr::new(from.address, from.port);
        let datagram = Datagram {
            source,
            destination: SocketAddr::from(([198, 51, 100, 1], PORT)),
            payload: &octets,
        };
        let said = self
            .gateway
            .handle(self.now, &datagram, &mut self.keyring, &mut self.record);
        let expected = self.model.judge(self.cast, self.now, &octets);
        match (said, expected) {
            (Ok(knock), Ok(genuine)) => {
                assert_eq!(knock.source(), source);
                self.admitted(knock, &genuine);
            }
            (Err(refusal), Err(step)) => assert_eq!(refusal.reason.step(), step, "{refusal}"),
            (said, expected) => panic!("said {said:?}, expected {expected:?}"),
        }
        self.sent.push(octets);
    }

    fn admitted(&mut self, knock: Knock, genuine: &Genuine) {
        assert_eq!(*knock.client(), self.cast.holders[genuine.holder].public);
        assert_eq!(knock.gateway().0, self.cast.own[genuine.identity].public);
        let sealed = Request::decode(&genuine.payload).expect("the model has decoded it");
        assert_eq!(*knock.request(), sealed);
        if let Act::Enroll(new) = knock.into_request().act {
            self.model.enrolled(genuine.holder, new.public_key);
            self.enrolled = Some((new.public_key, new.psk));
            self.standings[genuine.holder] = Standing::Active { until: None };
            self.fill_keyring_with(genuine.holder);
            self.fill_keyring_with_enrolled();
        }
    }

    /// What a start reads.
    fn fill_keyring(&mut self) {
        self.keyring = KeyTable::default();
        (0..HOLDERS).for_each(|holder| self.fill_keyring_with(holder));
        self.fill_keyring_with_enrolled();
    }

    fn fill_keyring_with(&mut self, holder: usize) {
        let Some(role) = Cast::role(holder) else { return };
        let spent_by = self.enrolled.as_ref().map(|(key, _)| *key);
        let role = match role {
            Role::Invite { .. } => Role::Invite { spent_by },
            Role::Client => role,
        };
        let holders = &self.cast.holders;
        self.keyring.insert(holders[holder].public, holders[holder].psk(), role);
        self.keyring
            .set_standing(&holders[holder].public, self.standings[holder]);
    }

    fn fill_keyring_with_enrolled(&mut self) {
        if let Some((key, psk)) = &self.enrolled {
            self.keyring.insert(*key, Psk::from_bytes(psk.expose()), Role::Client);
        }
    }

    fn restart(&mut self) {
        self.gateway = gateway(self.cast, self.model.held);
        self.record.restart();
        self.fill_keyring();
        self.model.restart();
    }

    fn hold(&mut self, bits: u8) {
        self.model.held = std::array::from_fn(|identity| bits & (1 << identity) != 0);
        let identities = identities(self.cast, self.model.held);
        self.gateway = Gateway::new(self.gateway.sieve().with_identities(identities));
    }

    fn stand(&mut self, holder: usize, change: Change) {
        let standing = match change {
            Change::Restore => Standing::Active { until: None },
            Change::Revoke => Standing::Revoked,
            Change::End { seconds } => Standing::Active {
                until: Some(moved(self.now.wall, i64::from(seconds) * 1_000)),
            },
        };
        self.standings[holder] = standing;
        self.keyring.set_standing(&self.cast.holders[holder].public, standing);
        self.model.stand(holder, standing);
    }
}

fn identities(cast: &Cast, held: [bool; IDENTITIES]) -> Vec<Identity> {
    let own = cast.own.iter().zip(held);
    own.filter(|(_, held)| *held).map(|(own, _)| own.identity()).collect()
}

fn gateway(cast: &Cast, held: [bool; IDENTITIES]) -> Gateway {
    Gateway::new(Sieve::new(identities(cast, held), Listen::port(PORT)))
}

//! Who knocks: keys, clocks, addresses, and what each may open.

use std::net::IpAddr;
use std::time::Duration;

use spa_keys::client::{AddressRule, ClientPolicy, Widen};
use spa_proto::{
    Act, Address, HmacKey, Identity, OVERHEAD, Psk, Request, SecretKey, Sender, Services, Stamper, UnixTime,
    pick_length,
};
use spa_server::config::{AtEnd, BackendKind, Chain, Service};

use crate::dice::Dice;

/// When everything begins.
pub const BASE: UnixTime = UnixTime::from_secs(1_800_000_000);

/// A clock that may be off, may drift and may be set.
#[derive(Clone, Copy, Default)]
pub struct Clock {
    /// Nanoseconds that it is ahead.
    ahead: i64,
    /// How many nanoseconds it gains in a millisecond.
    drift: i64,
}

impl Clock {
    pub fn read(&self, true_time: Duration) -> UnixTime {
        let true_time = i64::try_from(true_time.as_nanos()).unwrap();
        let base = i64::try_from(BASE.as_nanos()).unwrap();
        let reading = base + true_time + self.ahead + true_time / 1_000_000 * self.drift;
        UnixTime::from_nanos(u64::try_from(reading).unwrap())
    }

    /// Shows the true time again, or another; says whether it went back.
    pub fn set(&mut self, dice: &mut Dice, true_time: Duration) -> bool {
        let before = self.read(true_time);
        let drift = i64::try_from(dice.below(101)).unwrap() - 50;
        let most: i64 = *dice.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 10, 30, 90, 400, 4_000, 200_000]);
        let off = if most == 0 {
            0
        } else {
            i64::try_from(dice.up_to_ms(most.unsigned_abs() * 1_000).as_nanos()).unwrap()
        };
        let since = i64::try_from(true_time.as_nanos()).unwrap() / 1_000_000;
        let ahead = if dice.once_in(2) { off } else { -off };
        *self = Self {
            ahead: ahead - since * drift,
            drift,
        };
        self.read(true_time) < before
    }
}

/// An identity of the gateway as those know it who hold it.
pub struct GatewayKeys {
    pub secret: SecretKey,
    pub hmac_key: HmacKey,
    pub public: spa_proto::PublicKey,
}

impl GatewayKeys {
    pub fn generate(dice: &mut Dice) -> Self {
        let secret = SecretKey::generate(dice);
        Self {
            public: secret.public(),
            secret,
            hmac_key: HmacKey::generate(dice),
        }
    }

    pub fn identity(&self) -> Identity {
        Identity::new(
            SecretKey::from_bytes(self.secret.expose()),
            HmacKey::from_bytes(self.hmac_key.expose()),
        )
    }
}

pub struct Person {
    /// The public key of `secret`.
    pub key: spa_proto::PublicKey,
    pub secret: SecretKey,
    pub psk: Psk,
    /// Where datagrams come from, one of these at a time.
    pub homes: Vec<IpAddr>,
    pub explicit: bool,
    pub policy: ClientPolicy,
    pub clock: Clock,
    pub stamper: Stamper,
    /// Which of the gateway's identities the profile holds.
    pub identity: u64,
    pub revoked: bool,
}

impl Person {
    pub fn home(&self, dice: &mut Dice) -> IpAddr {
        *dice.pick(&self.homes)
    }

    /// One datagram, its request with it.
    pub fn seal(
        &mut self,
        act: Act,
        gateway: &GatewayKeys,
        psk: &Psk,
        true_time: Duration,
        dice: &mut Dice,
    ) -> (Request, Vec<u8>) {
        let request = Request {
            timestamp: self.stamper.stamp(self.clock.read(true_time), dice),
            code: None,
            act,
        };
        let sender = Sender {
            gateway: &gateway.public,
            hmac_key: &gateway.hmac_key,
            secret: &self.secret,
            psk,
        };
        let length = pick_length(OVERHEAD + request.payload_len(), dice);
        let octets = sender.seal(&request, length, dice).unwrap();
        (request, octets)
    }

    /// Something to ask for: mostly what is allowed.
    pub fn wish(&self, from: IpAddr, dice: &mut Dice) -> Act {
        let address = if self.explicit {
            Address::explicit(from).unwrap()
        } else {
            Address::AsSeen
        };
        let mut names = vec![*dice.pick(&["ssh", "db", "web", "none"])];
        if dice.once_in(3) {
            let other = *dice.pick(&["ssh", "db", "web"]);
            names.extend((names[0] != other).then_some(other));
        }
        let services = Services::new(names.iter().map(|name| name.parse().unwrap()).collect()).unwrap();
        if dice.once_in(3) {
            Act::Close { address, services }
        } else {
            let duration_s = *dice.pick(&[0, 0, 1, 20, 60, 100_000]);
            Act::Open {
                address,
                duration_s,
                services,
            }
        }
    }
}

/// The services: name, own duration, longest duration.
pub const SERVICES: [(&str, u64, u64); 3] = [("ssh", 30, 120), ("db", 10, 60), ("web", 300, 600)];

pub fn services() -> Vec<Service> {
    let service = |(name, duration, max): (&str, u64, u64)| Service {
        name: name.into(),
        backends: vec![BackendKind::Iptables],
        ports: Vec::new(),
        protect: false,
        duration: Duration::from_secs(duration),
        max_duration: Duration::from_secs(max),
        at_end: AtEnd::Keep,
        chain: Chain::Input,
        to: Vec::new(),
        daemon: None,
        open: Vec::new(),
        close: Vec::new(),
        user: None,
    };
    SERVICES.map(service).into()
}

/// Two behind one address, one of IPv6 with a prefix, one who moves about, and one with a cap of his own.
pub fn people(dice: &mut Dice) -> Vec<Person> {
    let mobile: Vec<String> = (0..64).map(|n| format!("198.51.100.{n}")).collect();
    let mobile: Vec<&str> = mobile.iter().map(String::as_str).collect();
    let any = ClientPolicy::default();
    let widened = ClientPolicy {
        widen: Widen { v4: 32, v6: 64 },
        ..any.clone()
    };
    let strict = ClientPolicy {
        address: AddressRule::Explicit,
        ..any.clone()
    };
    let capped = ClientPolicy {
        max_duration: Some(Duration::from_secs(15)),
        ..any.clone()
    };
    vec![
        person(&["192.0.2.7"], true, &["ssh", "db"], strict, dice),
        person(&["192.0.2.7"], false, &["ssh"], any.clone(), dice),
        person(&["2001:db8::7", "2001:db8::8"], false, &["ssh", "web"], widened, dice),
        person(&mobile, false, &["ssh", "db", "web"], any, dice),
        person(&["203.0.113.5"], true, &["db", "web"], capped, dice),
    ]
}

fn person(homes: &[&str], explicit: bool, may: &[&str], policy: ClientPolicy, dice: &mut Dice) -> Person {
    let services: Vec<spa_proto::ServiceName> = may.iter().map(|name| name.parse().unwrap()).collect();
    let secret = SecretKey::generate(dice);
    Person {
        key: secret.public(),
        secret,
        psk: Psk::generate(dice),
        homes: homes.iter().map(|home| home.parse().unwrap()).collect(),
        explicit,
        policy: ClientPolicy {
            services: services.into(),
            ..policy
        },
        clock: Clock::default(),
        stamper: Stamper::new(Duration::from_millis(1)),
        identity: 0,
        revoked: false,
    }
}

/// The same to ask for once more.
pub fn again(act: &Act) -> Act {
    match act {
        Act::Open {
            address,
            duration_s,
            services,
        } => Act::Open {
            address: *address,
            duration_s: *duration_s,
            services: services.clone(),
        },
        Act::Close { address, services } => Act::Close {
            address: *address,
            services: services.clone(),
        },
        Act::Enroll(_) => unreachable!("nobody enrolls here"),
    }
}

//! A gateway with one client, and what it takes to send to it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_proto::{
    Act, Address, Datagram, Gateway, HmacKey, Identity, KeyTable, Knock, Listen, MemoryRecord, Moment, Psk, PublicKey,
    Refusal, Request, Role, SecretKey, Sender, Services, Sieve, UnixTime,
};

pub const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

pub fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// The keys of one client and one gateway.
pub struct Keys {
    pub gateway: SecretKey,
    pub hmac_key: HmacKey,
    pub client: SecretKey,
    pub psk: Psk,
}

impl Keys {
    pub fn new() -> Self {
        Self {
            gateway: SecretKey::generate(&mut rng()),
            hmac_key: HmacKey::generate(&mut rng()),
            client: SecretKey::generate(&mut rng()),
            psk: Psk::generate(&mut rng()),
        }
    }

    pub fn identity(&self) -> Identity {
        Identity::new(
            SecretKey::from_bytes(self.gateway.expose()),
            HmacKey::from_bytes(self.hmac_key.expose()),
        )
    }

    pub fn psk(&self) -> Psk {
        Psk::from_bytes(self.psk.expose())
    }

    pub fn seal(&self, request: &Request, length: usize) -> Vec<u8> {
        let gateway = self.gateway.public();
        let sender = Sender {
            gateway: &gateway,
            hmac_key: &self.hmac_key,
            secret: &self.client,
            psk: &self.psk,
        };
        sender.seal(request, length, &mut rng()).unwrap()
    }
}

/// A gateway that knows one client.
pub struct World {
    pub keys: Keys,
    pub gateway: Gateway,
    pub keyring: KeyTable,
    pub record: MemoryRecord,
}

impl World {
    pub fn new(role: Role) -> Self {
        let keys = Keys::new();
        let gateway = Gateway::new(Sieve::new(vec![keys.identity()], Listen::port(62201)));
        let mut keyring = KeyTable::default();
        keyring.insert(keys.client.public(), keys.psk(), role);
        Self {
            keys,
            gateway,
            keyring,
            record: MemoryRecord::default(),
        }
    }

    pub fn client(&self) -> PublicKey {
        self.keys.client.public()
    }

    pub fn handle(&mut self, wall: UnixTime, octets: &[u8]) -> Result<Knock, Refusal> {
        self.handle_from(wall, octets, "192.0.2.7:40000".parse().unwrap())
    }

    pub fn handle_from(&mut self, wall: UnixTime, octets: &[u8], source: SocketAddr) -> Result<Knock, Refusal> {
        let now = Moment {
            wall,
            uptime: Duration::from_nanos(wall.as_nanos()),
        };
        let datagram = Datagram {
            source,
            destination: "198.51.100.1:62201".parse().unwrap(),
            payload: octets,
        };
        self.gateway.handle(now, &datagram, &mut self.keyring, &mut self.record)
    }
}

pub fn open(timestamp: UnixTime) -> Request {
    let services = Services::new(vec!["ssh".parse().unwrap()]).unwrap();
    Request {
        timestamp,
        code: None,
        act: Act::Open {
            address: Address::AsSeen,
            duration_s: 0,
            services,
        },
    }
}

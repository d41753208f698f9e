//! What a datagram costs, beside what it cannot cost less than.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot begin has nothing to measure")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use getrandom::SysRng;
use hmac::{Hmac, KeyInit, Mac};
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};
use spa_proto::{
    Act, Address, Datagram, Enrolled, Gateway, HmacKey, Identity, Keyring, Listen, Moment, Psk, PublicKey,
    ReplayRecord, Request, Role, Seat, SecretKey, Sender, Services, Sieve, Standing, UnixTime, Verdict, Windows,
};
use std::collections::HashMap;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const LENGTH: usize = 400;

/// A keyring as the gateway has it: one hash look-up.
struct Clients(HashMap<PublicKey, (Psk, Seat)>);

impl Keyring for Clients {
    fn find(&mut self, key: &PublicKey) -> Option<Enrolled<'_>> {
        let (psk, seat) = self.0.get_mut(key)?;
        let standing = Standing::Active { until: None };
        Some(Enrolled {
            psk,
            role: Role::Client,
            standing,
            windows: Windows::default(),
            seat,
        })
    }

    fn knows(&self, key: &PublicKey) -> bool {
        self.0.contains_key(key)
    }
}

/// A record that has never seen anything, so that one datagram can be measured many times.
struct Forgetful;

impl ReplayRecord for Forgetful {
    fn claim(&mut self, _: &PublicKey, _: UnixTime, _: Duration) -> Verdict {
        Verdict::Fresh
    }
}

struct Bench {
    hmac_key: HmacKey,
    gateway_public: PublicKey,
    gateway: Gateway,
    clients: Clients,
    client: SecretKey,
    psk: Psk,
    sealed: u64,
}

impl Bench {
    fn new(clients: usize) -> Self {
        let rng = &mut UnwrapErr(SysRng);
        let hmac_key = HmacKey::generate(rng);
        let identity = Identity::new(SecretKey::generate(rng), HmacKey::from_bytes(hmac_key.expose()));
        let (client, psk) = (SecretKey::generate(rng), Psk::generate(rng));
        let mut table = HashMap::with_capacity(clients);
        table.insert(client.public(), (Psk::from_bytes(psk.expose()), Seat::default()));
        // The others never knock: any 32 octets serve as their keys.
        let others = (1..clients as u64).map(|number| {
            let mut key = [7; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            (PublicKey(key), (Psk::from_bytes(&key), Seat::default()))
        });
        table.extend(others);
        let gateway_public = *identity.public();
        let gateway = Gateway::new(Sieve::new(vec![identity], Listen::port(62201)));
        Self {
            hmac_key,
            gateway_public,
            gateway,
            clients: Clients(table),
            client,
            psk,
            sealed: 0,
        }
    }

    fn seal(&mut self) -> Vec<u8> {
        self.sealed += 1;
        let services = Services::new(vec!["ssh".parse().unwrap()]).unwrap();
        let act = Act::Open {
            address: Address::AsSeen,
            duration_s: 0,
            services,
        };
        let timestamp = UnixTime::from_nanos(NOW.as_nanos() + self.sealed);
        let sender = Sender {
            gateway: &self.gateway_public,
            hmac_key: &self.hmac_key,
            secret: &self.client,
            psk: &self.psk,
        };
        sender
            .seal(
                &Request {
                    timestamp,
                    code: None,
                    act,
                },
                LENGTH,
                &mut UnwrapErr(SysRng),
            )
            .unwrap()
    }

    fn handle(&mut self, octets: &[u8]) -> bool {
        // The rate of one client is not what is measured here: each datagram comes a second later.
        self.sealed += 1;
        let now = Moment {
            wall: NOW,
            uptime: Duration::from_secs(self.sealed),
        };
        self.gateway
            .handle(now, &datagram(octets), &mut self.clients, &mut Forgetful)
            .is_ok()
    }
}

fn datagram(payload: &[u8]) -> Datagram<'_> {
    let source: SocketAddr = ([192, 0, 2, 7], 40_000).into();
    Datagram {
        source,
        destination: ([198, 51, 100, 1], 62_201).into(),
        payload,
    }
}

fn refusals(c: &mut Criterion) {
    let mut group = c.benchmark_group("refusal");
    let junk = [0x5a; LENGTH];
    group.bench_function("floor: SHA-256 of the datagram and two HMACs of 32 bytes", |b| {
        let mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        b.iter(|| {
            let digest = Sha256::digest(black_box(&junk[16..]));
            let first = mac.clone().chain_update(digest).finalize().into_bytes();
            let second = mac.clone().chain_update(digest).finalize().into_bytes();
            (first, second)
        });
    });
    group.bench_function("junk at step 2", |b| {
        let mut bench = Bench::new(1);
        b.iter(|| {
            bench
                .gateway
                .sieve_mut()
                .admit(NOW, &datagram(black_box(&junk)))
                .is_err()
        });
    });
    group.bench_function("copy at step 3", |b| {
        let mut bench = Bench::new(1);
        let octets = bench.seal();
        assert!(bench.handle(&octets));
        b.iter(|| {
            bench
                .gateway
                .sieve_mut()
                .admit(NOW, &datagram(black_box(&octets)))
                .is_err()
        });
    });
    group.finish();
}

fn valid(c: &mut Criterion) {
    let mut group = c.benchmark_group("valid");
    group.bench_function("floor: one bare X25519", |b| {
        let secret = x25519_dalek::StaticSecret::from([7; 32]);
        let theirs = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from([8; 32]));
        b.iter(|| secret.diffie_hellman(black_box(&theirs)));
    });
    for clients in [1, 10_000, 1_000_000] {
        group.bench_function(format!("through step 7, {clients} clients"), |b| {
            let mut bench = Bench::new(clients);
            let first = bench.seal();
            assert!(bench.handle(&first));
            // Sealed outside the timing; the gateway's state must be reached from both closures.
            let bench = std::cell::RefCell::new(bench);
            b.iter_batched(
                || bench.borrow_mut().seal(),
                |octets| assert!(bench.borrow_mut().handle(&octets)),
                BatchSize::SmallInput,
            );
        });
    }
    group.bench_function("snow reads the same message", snow_reads);
    group.finish();
}

fn snow_reads(b: &mut criterion::Bencher<'_>) {
    let pattern = "Noise_Xpsk1_25519_ChaChaPoly_SHA256";
    let builder = || snow::Builder::new(pattern.parse().unwrap()).prologue(b"spa/1").unwrap();
    let (ours, theirs) = (
        builder().generate_keypair().unwrap(),
        builder().generate_keypair().unwrap(),
    );
    let initiator = builder()
        .psk(1, &[3; 32])
        .unwrap()
        .local_private_key(&theirs.private)
        .unwrap();
    let mut initiator = initiator
        .remote_public_key(&ours.public)
        .unwrap()
        .build_initiator()
        .unwrap();
    let (mut message, mut payload) = (vec![0; LENGTH - 16], vec![0; LENGTH]);
    let length = initiator.write_message(&[0; LENGTH - 112], &mut message).unwrap();
    b.iter(|| {
        let responder = builder()
            .psk(1, &[3; 32])
            .unwrap()
            .local_private_key(&ours.private)
            .unwrap();
        responder
            .build_responder()
            .unwrap()
            .read_message(black_box(&message[..length]), &mut payload)
            .unwrap()
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    targets = refusals, valid
}
criterion_main!(benches);

//! A device with a folder of profiles, and a gateway that listens on a loopback address.

// Each test file uses a part of it; helpers of tests may unwrap as tests do.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use spa_keys::profile::{AddressMode, Folder, Membership, Profile, ProfileService};
use spa_keys::{Demands, InviteText};
use spa_proto::{
    Datagram, Gateway, HmacKey, Identity, InviteSeed, KeyTable, Knock, Listen, MemoryRecord, Moment, Psk, PublicKey,
    Request, Role, SecretKey, Sieve, UnixTime,
};

/// A person's device.
pub struct Device {
    folder: tempfile::TempDir,
}

impl Device {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn folder(&self) -> Folder {
        Folder::at(&self.path())
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("spa")
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::cargo_bin("spa-client").unwrap();
        command.env("SPA_CONFIG_DIR", self.path()).args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Exit code, stdout and stderr in one text, with the folder's path as DIR.
    pub fn tell(&self, words: &[&str]) -> String {
        self.tell_with(words, "")
    }

    pub fn tell_with(&self, words: &[&str], stdin: &str) -> String {
        self.tell_in(&["env"], words, stdin)
    }

    /// The same, run by another program.
    pub fn tell_in(&self, by: &[&str], words: &[&str], stdin: &str) -> String {
        let mut command = Command::new(by[0]);
        command.args(&by[1..]).arg(assert_cmd::cargo::cargo_bin("spa-client"));
        command.env("SPA_CONFIG_DIR", self.path()).args(words);
        let output = command.write_stdin(stdin).output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        format!("exit {}\n{out}---\n{err}", output.status.code().unwrap())
            .replace(self.path().to_str().unwrap(), "DIR")
            .trim_end()
            .to_owned()
    }

    pub fn write(&self, name: &str, profile: &Profile) {
        self.folder().create(&name.parse().unwrap(), profile, None).unwrap();
    }

    pub fn read(&self, name: &str) -> Profile {
        self.folder().load(&name.parse().unwrap()).unwrap()
    }
}

/// The object that was printed.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A key for each number.
pub fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

/// A profile for tests; its service `ssh` answers at tcp/22.
pub fn profile(host: &str, ports: &[u16]) -> Profile {
    let ssh = ProfileService {
        connect: Some("tcp/22".parse().unwrap()),
        duration: None,
    };
    Profile {
        home: membership(host, ports),
        also: Vec::new(),
        address: AddressMode::AsSeen,
        one_time_code: false,
        stun: Vec::new(),
        ntp: Vec::new(),
        services: [("ssh".parse().unwrap(), ssh)].into(),
    }
}

/// What a device of tests is at a gateway.
pub fn membership(host: &str, ports: &[u16]) -> Membership {
    Membership {
        host: host.parse().unwrap(),
        ports: spa_keys::invite::Ports::new(ports).unwrap(),
        gateway: secret(1).public(),
        hmac_key: HmacKey::from_bytes(&[2; 32]),
        secret: secret(3),
        psk: Psk::from_bytes(&[4; 32]),
        name: "anna-phone".parse().unwrap(),
        invite: None,
    }
}

/// An invite of the gateway that `profile` knows too.
pub fn invite(host: &str, ports: &[u16], services: &str, demands: Demands) -> InviteText {
    let services = services.split(',').map(|hint| hint.parse().unwrap()).collect();
    InviteText {
        demands,
        end_s: 4_000_000_000,
        gateway: secret(1).public(),
        hmac_key: HmacKey::from_bytes(&[2; 32]),
        seed: InviteSeed::from_bytes(&[5; 32]),
        ports: spa_keys::invite::Ports::new(ports).unwrap(),
        host: host.parse().unwrap(),
        name: "anna-phone".parse().unwrap(),
        services: spa_keys::invite::ServiceHints::new(services).unwrap(),
    }
}

/// One datagram as it came.
pub struct Arrival {
    pub at: Instant,
    pub source: SocketAddr,
    pub port: u16,
    pub octets: Vec<u8>,
}

/// Sockets on a loopback address that keep what comes.
pub struct Mailbox {
    pub ports: Vec<u16>,
    done: Arc<AtomicBool>,
    listener: JoinHandle<Vec<Arrival>>,
}

impl Mailbox {
    /// Listens on `count` ports; nothing where this machine lacks the address.
    pub fn open(address: &str, count: usize) -> Option<Self> {
        Self::open_with(address, count, |_| {})
    }

    /// The same, with something to do when a datagram comes.
    pub fn open_with(address: &str, count: usize, act: impl Fn(usize) + Send + 'static) -> Option<Self> {
        let address: IpAddr = address.parse().unwrap();
        let bind = |_| UdpSocket::bind((address, 0)).ok();
        let Some(sockets) = (0..count).map(bind).collect::<Option<Vec<_>>>() else {
            eprintln!("skipped: this machine has no {address}");
            return None;
        };
        let ports = sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap().port())
            .collect();
        let done = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&done);
        let listener = std::thread::spawn(move || listen(&sockets, &until, act));
        Some(Self { ports, done, listener })
    }

    /// What came, in order.
    pub fn close(self) -> Vec<Arrival> {
        self.done.store(true, Ordering::Release);
        self.listener.join().unwrap()
    }
}

fn listen(sockets: &[UdpSocket], done: &AtomicBool, act: impl Fn(usize)) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    let mut buffer = [0; 2048];
    for socket in sockets {
        socket.set_nonblocking(true).unwrap();
    }
    loop {
        // Read before the sockets are emptied: what came before is then found.
        let last = done.load(Ordering::Acquire);
        for socket in sockets {
            while let Ok((length, source)) = socket.recv_from(&mut buffer) {
                arrivals.push(Arrival {
                    at: Instant::now(),
                    source,
                    port: socket.local_addr().unwrap().port(),
                    octets: buffer[..length].to_vec(),
                });
                act(arrivals.len());
            }
        }
        if last {
            return arrivals;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The real judgement over what arrived.
pub struct Judge {
    gateway: Gateway,
    keyring: KeyTable,
    record: MemoryRecord,
}

impl Judge {
    /// Knows the client of [`profile`] and the invite of [`invite`].
    pub fn new(ports: &[u16]) -> Self {
        let identity = Identity::new(secret(1), HmacKey::from_bytes(&[2; 32]));
        let listen = Listen {
            ports: ports.to_vec(),
            addresses: None,
        };
        let mut keyring = KeyTable::default();
        let seed = InviteSeed::from_bytes(&[5; 32]);
        keyring.insert(secret(3).public(), Psk::from_bytes(&[4; 32]), Role::Client);
        keyring.insert(seed.secret_key().public(), seed.psk(), Role::Invite { spent_by: None });
        Self {
            gateway: Gateway::new(Sieve::new(vec![identity], listen)),
            keyring,
            record: MemoryRecord::default(),
        }
    }

    /// What the gateway does after an enroll.
    pub fn admit(&mut self, key: PublicKey, psk: &Psk) {
        self.keyring.insert(key, Psk::from_bytes(psk.expose()), Role::Client);
        let seed = InviteSeed::from_bytes(&[5; 32]);
        let role = Role::Invite { spent_by: Some(key) };
        self.keyring.insert(seed.secret_key().public(), seed.psk(), role);
    }

    /// Judges one datagram; every one of ours is to be accepted.
    pub fn accept(&mut self, arrival: &Arrival) -> Knock {
        let wall = spa_keys::units::now();
        let uptime = Duration::from_nanos(wall.as_nanos());
        let datagram = Datagram {
            source: arrival.source,
            destination: SocketAddr::new(arrival.source.ip(), arrival.port),
            payload: &arrival.octets,
        };
        let moment = Moment { wall, uptime };
        self.gateway
            .handle(moment, &datagram, &mut self.keyring, &mut self.record)
            .unwrap()
    }

    /// Judges all that arrived, and checks what holds for every message of a client.
    pub fn accept_all<T>(&mut self, arrivals: &[Arrival], read: impl Fn(&Request) -> T) -> Vec<T> {
        let knocks: Vec<_> = arrivals.iter().map(|arrival| self.accept(arrival)).collect();
        let stamps: Vec<UnixTime> = knocks.iter().map(|knock| knock.request().timestamp).collect();
        assert!(stamps.is_sorted_by(|before, after| before < after), "{stamps:?}");
        let mut sources: Vec<_> = arrivals.iter().map(|arrival| arrival.source).collect();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), arrivals.len(), "a source port came twice");
        assert!(
            arrivals
                .iter()
                .all(|arrival| (288..=512).contains(&arrival.octets.len()))
        );
        knocks.iter().map(|knock| read(knock.request())).collect()
    }
}

/// A random port that nobody listens on at present.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

//! What every firewall backend must show with real packets, in both families.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use spa_server::backend::plan::{Guarded, Plan};
use spa_server::backend::{Backend, Door, Opening};
use spa_server::config::{AtEnd, Chain, PortRange, Protocol};

use super::{Namespace, in_namespace, run, veth};

/// Makes the backend that is to be tried.
pub type Make = fn(Plan) -> Box<dyn Backend>;

const CLIENT: [&str; 2] = ["10.99.0.2", "fd00:99::2"];
const GATEWAY: [&str; 2] = ["10.99.0.1", "fd00:99::1"];
/// How long a shut door is knocked at.
const SHORT: Duration = Duration::from_millis(700);
/// Longer than it takes a new wire to carry the third SYN.
const LONG: Duration = Duration::from_secs(10);

/// Who is connected when the drop goes in for the first time is let in for a minute.
pub fn peers_of_existing_connections_are_let_in(name: &'static str, make: Make) {
    in_pair(name, move |peer| {
        let lasting: Vec<_> = [0, 1]
            .map(|at| {
                let listener = listen(at, 2222);
                let client = peer.call(move || connect(at, 2222).unwrap());
                (client, listener.accept().unwrap(), listener)
            })
            .into();
        let mut backend = protected(make);
        for address in CLIENT {
            let guest = backend
                .list()
                .unwrap()
                .into_iter()
                .find(|found| found.door == opening(address, 0).door);
            let seconds = guest.unwrap().remaining.as_secs();
            assert!((58..=60).contains(&seconds), "{seconds}");
        }
        for (client, (server, _), _listener) in &lasting {
            say(client, server);
            say(server, client);
        }
        assert_eq!(backend.reconcile(&[]).unwrap().removed, [], "they are expected");
        let mut restarted = make(plan());
        restarted.protect().unwrap();
        assert_eq!(restarted.reconcile(&[]).unwrap().removed, [], "by the next process too");
        backend.open(&opening(CLIENT[0], 600)).unwrap();
        assert_eq!(
            backend.reconcile(&[]).unwrap().removed,
            [opening(CLIENT[0], 0).door],
            "a grant is no guest"
        );
    });
}

/// Who has hung up before the drop goes in is nobody's guest; what he is still owed reaches him.
pub fn who_has_hung_up_is_no_guest(name: &'static str, make: Make) {
    in_pair(name, move |peer| {
        let ended: Vec<_> = [0, 1]
            .map(|at| {
                let listener = listen(at, 2222);
                let client = peer.call(move || connect(at, 2222).unwrap());
                let (mut server, _) = listener.accept().unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(server.read(&mut [0]).unwrap(), 0, "the end is known here");
                (client, server, listener)
            })
            .into();
        let mut backend = protected(make);
        assert_eq!(backend.list().unwrap(), []);
        for (at, (mut client, mut server, _listener)) in ended.into_iter().enumerate() {
            let fault = peer.call(move || connect_within(at, 2222, SHORT).map(drop).unwrap_err().kind());
            assert_eq!(fault, ErrorKind::TimedOut, "hidden from {}", CLIENT[at]);
            // More than is sent without an acknowledgement.
            let rest = vec![7; 4 << 20];
            let owed = rest.len();
            let sender = thread::spawn(move || server.write_all(&rest));
            client.set_read_timeout(Some(LONG)).unwrap();
            assert_eq!(std::io::copy(&mut client, &mut std::io::sink()).unwrap(), owed as u64);
            sender.join().unwrap().unwrap();
        }
    });
}

/// Nobody gets in without a grant, and what is established outlives it.
pub fn a_door_is_shut_without_a_grant(name: &'static str, make: Make) {
    in_pair(name, move |peer| {
        let mut backend = protected(make);
        for at in [0, 1] {
            let listener = listen(at, 2222);
            let other = listen(at, 2223);
            let fault = peer.call(move || connect_within(at, 2222, SHORT).map(drop).unwrap_err().kind());
            assert_eq!(fault, ErrorKind::TimedOut, "hidden from {}", CLIENT[at]);
            peer.call(move || connect(at, 2223).map(drop)).unwrap();
            drop(other);

            backend.open(&opening(CLIENT[at], 30)).unwrap();
            let client = peer.call(move || connect(at, 2222)).unwrap();
            let (server, _) = listener.accept().unwrap();
            backend.close(&opening(CLIENT[at], 0).door).unwrap();
            say(&client, &server);
            say(&server, &client);

            let fault = peer.call(move || connect_within(at, 2222, SHORT).map(drop).unwrap_err().kind());
            assert_eq!(fault, ErrorKind::TimedOut, "hidden again from {}", CLIENT[at]);
        }
    });
}

/// A grant of a network lets in whoever comes from it.
pub fn a_network_lets_its_addresses_in(name: &'static str, make: Make) {
    in_pair(name, move |peer| {
        let mut backend = protected(make);
        for (at, network) in ["10.99.0.0/24", "fd00:99::/64"].into_iter().enumerate() {
            let listener = listen(at, 2222);
            let other = ["10.98.0.0/24", "fd00:98::/64"][at];
            backend.open(&opening(other, 30)).unwrap();
            let fault = peer.call(move || connect_within(at, 2222, SHORT).map(drop).unwrap_err().kind());
            assert_eq!(fault, ErrorKind::TimedOut, "another network was opened");
            backend.open(&opening(network, 30)).unwrap();
            peer.call(move || connect(at, 2222).map(drop)).unwrap();
            drop(listener);
        }
    });
}

/// Always-allow is open in both families without any grant.
pub fn always_allowed_come_in_without_any_set(name: &'static str, make: Make) {
    in_pair(name, move |peer| {
        let mut plan = plan();
        plan.always_allow = CLIENT.map(|address| address.parse::<IpAddr>().unwrap().into()).to_vec();
        let mut backend = make(plan);
        backend.protect().unwrap();
        backend.close_all().unwrap();
        for at in [0, 1] {
            let listener = listen(at, 2222);
            peer.call(move || connect(at, 2222).map(drop)).unwrap();
            drop(listener);
        }
    });
}

/// What is sent to the knock ports makes no conntrack entry, what is sent elsewhere does.
pub fn packets_to_the_knock_port_are_not_tracked(name: &'static str, make: Make) {
    in_pair(name, move |peer| {
        let _backend = protected(make);
        peer.call(|| {
            for at in [0, 1] {
                let socket = UdpSocket::bind((CLIENT[at].parse::<IpAddr>().unwrap(), 4000)).unwrap();
                for port in [62201, 62202] {
                    socket
                        .send_to(b"knock", (GATEWAY[at].parse::<IpAddr>().unwrap(), port))
                        .unwrap();
                }
            }
        });
        for family in ["ipv4", "ipv6"] {
            let entries = run("conntrack", &["-L", "-p", "udp", "-f", family]);
            assert!(entries.contains("dport=62202"), "{family}: {entries}");
            assert!(!entries.contains("dport=62201"), "{family}: {entries}");
        }
    });
}

/// One protected service, tcp/2222, and two networks that are always allowed.
pub fn plan() -> Plan {
    let ports = vec![PortRange {
        protocol: Protocol::Tcp,
        first: 2222,
        last: 2222,
    }];
    let ssh = Guarded {
        name: "ssh".into(),
        ports,
        protect: true,
        at_end: AtEnd::Keep,
        chain: Chain::Input,
        to: Vec::new(),
    };
    let always_allow = ["192.0.2.0/28", "2001:db8:1::/48"]
        .map(|net| net.parse().unwrap())
        .to_vec();
    Plan {
        services: vec![ssh],
        always_allow,
        knock_ports: vec![62201],
        bans: false,
    }
}

/// The door of ssh for an address or a network.
pub fn opening(who: &str, seconds: u64) -> Opening {
    let opened = who.parse().or_else(|_| who.parse::<IpAddr>().map(Into::into)).unwrap();
    let door = Door {
        service: "ssh".into(),
        opened,
    };
    Opening {
        door,
        client: None,
        remaining: Duration::from_secs(seconds),
    }
}

fn protected(make: Make) -> Box<dyn Backend> {
    let mut backend = make(plan());
    backend.protect().unwrap();
    backend
}

/// Runs `test` in a gateway's namespace, with a client's namespace at the other end of a wire.
fn in_pair(name: &'static str, test: impl FnOnce(&Namespace) + Send + 'static) {
    in_namespace(name, move || {
        let peer = Namespace::new(&format!("{name}-peer"));
        veth(&peer, GATEWAY, CLIENT);
        test(&peer);
    });
}

fn listen(at: usize, port: u16) -> TcpListener {
    TcpListener::bind((GATEWAY[at].parse::<IpAddr>().unwrap(), port)).unwrap()
}

fn connect(at: usize, port: u16) -> std::io::Result<TcpStream> {
    connect_within(at, port, LONG)
}

fn connect_within(at: usize, port: u16, limit: Duration) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(GATEWAY[at].parse().unwrap(), port), limit)
}

/// Something said at one end is heard at the other.
fn say(mut from: &TcpStream, mut to: &TcpStream) {
    to.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    from.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

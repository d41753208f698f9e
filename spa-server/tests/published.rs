//! Published container ports, own addresses and hosts without ipset, with real packets in network namespaces.

// A test's helper that fails fails the test.
#![allow(clippy::unwrap_used)]

mod netns;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use netns::{Namespace, again_with_legacy, dress, in_namespace, run, veth, wire};
use spa_server::backend::iptables::Iptables;
use spa_server::backend::iptables::plan::{Guarded, Plan};
use spa_server::backend::{Backend, Door, Opening, Watch};
use spa_server::config::{AtEnd, Chain, PortRange, Protocol};
use spa_server::netlink::monitor::Monitor;

const CLIENT: [&str; 2] = ["10.99.0.2", "fd00:99::2"];
const GATEWAY: [&str; 2] = ["10.99.0.1", "fd00:99::1"];
const SECOND: [&str; 2] = ["10.99.0.3", "fd00:99::3"];
const BRIDGE: [&str; 2] = ["10.98.0.1", "fd00:98::1"];
const CONTAINER: [&str; 2] = ["10.98.0.2", "fd00:98::2"];
const TOOLS: [&str; 2] = ["iptables", "ip6tables"];
/// How long a shut door is knocked at.
const SHORT: Duration = Duration::from_millis(700);
/// Longer than it takes a new wire to carry the third SYN.
const LONG: Duration = Duration::from_secs(10);
type Make = fn(Plan) -> Iptables;
/// Both ways of keeping grants.
const KINDS: [(&str, Make); 2] = [("sets", Iptables::new), ("chains", Iptables::without_ipset)];

#[test]
fn a_published_port_is_shut_without_a_grant() {
    for (kind, make) in KINDS {
        in_three("fwd", kind, move |client, container| {
            let servers = container.call(|| [listen(CONTAINER[0], 80), listen(CONTAINER[1], 80)]);
            let others = container.call(|| [listen(CONTAINER[0], 81), listen(CONTAINER[1], 81)]);
            let outside = client.call(|| [listen(CLIENT[0], 8080), listen(CLIENT[1], 8080)]);
            let mut backend = make(plan(Chain::Forward));
            for at in [0, 1] {
                assert!(reaches(client, GATEWAY[at], 8080), "published to {}", CLIENT[at]);
            }
            backend.protect().unwrap();
            backend.self_test().unwrap();
            for at in [0, 1] {
                assert!(!reaches(client, GATEWAY[at], 8080), "hidden from {}", CLIENT[at]);
                assert!(reaches(client, GATEWAY[at], 8081), "nobody asked to hide it");
                assert!(reaches(container, CLIENT[at], 8080), "the world's port of that number");

                backend.open(&opening(CLIENT[at], 600)).unwrap();
                while let Ok((stale, _)) = accept(&servers[at]) {
                    drop(stale);
                }
                let near = client.call(move || connect(GATEWAY[at], 8080, LONG).unwrap());
                let (far, _) = servers[at].accept().unwrap();
                backend.close(&opening(CLIENT[at], 0).door).unwrap();
                say(&near, &far);
                say(&far, &near);
                assert!(!reaches(client, GATEWAY[at], 8080), "hidden again from {}", CLIENT[at]);
            }
            drop((others, outside));
            backend.uninstall().unwrap();
            assert!(reaches(client, GATEWAY[0], 8080) && reaches(client, GATEWAY[1], 8080));
            assert_eq!(TOOLS.map(|tool| run(tool, &["-S"]).matches("SPA").count()), [0, 0]);
        });
    }
}

#[test]
fn a_grant_leaves_the_last_word_to_others_and_always_allow_needs_none() {
    in_three("ret", "", |client, container| {
        let _servers = container.call(|| [listen(CONTAINER[0], 80), listen(CONTAINER[1], 80)]);
        let mut plan = plan(Chain::Forward);
        plan.always_allow = CLIENT.map(|address| address.parse::<IpAddr>().unwrap().into()).to_vec();
        let mut backend = Iptables::new(plan);
        backend.protect().unwrap();
        for at in [0, 1] {
            assert!(reaches(client, GATEWAY[at], 8080), "{} is always allowed", CLIENT[at]);
            run(
                TOOLS[at],
                &["-A", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP"],
            );
            assert!(!reaches(client, GATEWAY[at], 8080), "somebody else drops it");
        }
    });
}

#[test]
fn the_chain_that_docker_makes_is_waited_for() {
    in_three("docker", "", |client, container| {
        let _servers = container.call(|| [listen(CONTAINER[0], 80), listen(CONTAINER[1], 80)]);
        let mut backend = Iptables::new(plan(Chain::DockerUser));
        let notes = backend.protect().unwrap().notes;
        assert_eq!(
            notes,
            ["IPv4", "IPv6"].map(|family| format!(
                "there is no chain DOCKER-USER ({family}): its services are hidden as soon as somebody makes it"
            ))
        );
        assert_eq!(backend.rules_intact(), Ok(true), "there is nothing to mend");
        assert!(reaches(client, GATEWAY[0], 8080), "nothing could be hidden yet");
        let monitor = match backend.watch() {
            Watch::Tables(names) => {
                Some(Monitor::tables(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap())
            }
            _ => None,
        };
        for tool in TOOLS {
            run(tool, &["-N", "DOCKER-USER"]);
            run(tool, &["-A", "DOCKER-USER", "-j", "RETURN"]);
            run(tool, &["-I", "FORWARD", "-j", "DOCKER-USER"]);
        }
        assert!(monitor.is_none_or(|monitor| monitor.drain() == Ok(true)), "it is told");
        assert_eq!(backend.rules_intact(), Ok(false));
        let repairs = backend.reconcile(&[]).unwrap();
        assert_eq!(
            (repairs.restored, repairs.notes),
            (
                vec![
                    "jump from DOCKER-USER in filter (IPv4)".to_owned(),
                    "jump from DOCKER-USER in filter (IPv6)".to_owned()
                ],
                vec![]
            )
        );
        assert_eq!(backend.rules_intact(), Ok(true));
        for at in [0, 1] {
            assert!(!reaches(client, GATEWAY[at], 8080), "hidden from {}", CLIENT[at]);
            backend.open(&opening(CLIENT[at], 600)).unwrap();
            assert!(reaches(client, GATEWAY[at], 8080), "open to {}", CLIENT[at]);
            let hook = run(TOOLS[at], &["-S", "DOCKER-USER"]);
            assert_eq!(
                hook,
                "-N DOCKER-USER\n-A DOCKER-USER -j SPA-DOCKER-USER\n-A DOCKER-USER -j RETURN\n"
            );
        }
        // The next configuration has no such service.
        Iptables::new(Plan::default()).protect().unwrap();
        assert!(!run("iptables", &["-S"]).contains("SPA-DOCKER-USER"));
    });
}

#[test]
fn a_service_of_one_own_address_leaves_the_other_alone() {
    for (kind, make) in KINDS {
        in_namespace(&format!("to-{kind}"), move || {
            let client = Namespace::new(&format!("to-{kind}-peer"));
            veth(&client, GATEWAY, CLIENT);
            dress("wire0", SECOND);
            let _servers = [GATEWAY, SECOND].map(|host| host.map(|address| listen(address, 8080)));
            let to = |addresses: [&str; 2]| addresses.map(|address| address.parse().unwrap()).to_vec();
            let mut plan = plan(Chain::Input);
            plan.services[0].to = to(GATEWAY);
            let git = Guarded {
                name: "git".into(),
                to: to(SECOND),
                ..plan.services[0].clone()
            };
            plan.services.push(git);
            let mut backend = make(plan);
            backend.protect().unwrap();
            for at in [0, 1] {
                backend.open(&opening(CLIENT[at], 600)).unwrap();
                assert!(reaches(&client, GATEWAY[at], 8080), "{}", GATEWAY[at]);
                assert!(!reaches(&client, SECOND[at], 8080), "{}", SECOND[at]);
            }
            let mut open = plan_of(&to(GATEWAY));
            open.services[0].protect = true;
            let mut other = make(open);
            other.protect().unwrap();
            for at in [0, 1] {
                assert!(reaches(&client, SECOND[at], 8080), "no service has {} now", SECOND[at]);
            }
        });
    }
}

#[test]
fn without_ipset_grants_are_rules_that_are_mended_and_survive_a_restart() {
    in_namespace("plain", || {
        let mut plan = plan(Chain::Input);
        plan.always_allow = vec!["192.0.2.0/28".parse().unwrap()];
        let mut backend = Iptables::without_ipset(plan.clone());
        let repairs = backend.protect().unwrap();
        assert!(repairs.notes[0].contains("only this daemon closes them"), "{repairs:?}");
        backend.self_test().unwrap();
        let whole = [opening("203.0.113.5", 600), opening("2001:db8:5::/64", 600)];
        let repairs = backend.reconcile(&whole).unwrap();
        assert_eq!(repairs.reopened.len(), 2);
        let intact = |backend: &mut Iptables| (backend.doors_intact(&whole).unwrap(), backend.rules_intact().unwrap());
        assert_eq!(intact(&mut backend), (true, true));
        let grants = run("iptables", &["-S", "SPA-web"]);
        assert_eq!(
            grants,
            "-N SPA-web\n-A SPA-web -s 203.0.113.5/32 -j ACCEPT\n-A SPA-web -j DROP\n"
        );

        for damage in ["-F SPA-web", "-D SPA-web 1", "-I SPA-web -s 192.0.2.99 -j ACCEPT", "-F"] {
            run("iptables", &damage.split(' ').collect::<Vec<_>>());
            let (doors, rules) = intact(&mut backend);
            assert!(!doors || !rules, "{damage}: not noticed");
            backend.reconcile(&whole).unwrap();
            assert_eq!(intact(&mut backend), (true, true), "{damage}");
            assert_eq!(run("iptables", &["-S", "SPA-web"]), grants, "{damage}");
        }

        let mut restarted = Iptables::without_ipset(plan);
        restarted.protect().unwrap();
        assert_eq!(run("iptables", &["-S", "SPA-web"]), grants, "protect shuts no door");
        let repairs = restarted.reconcile(&whole[1..]).unwrap();
        assert_eq!(repairs.removed, [whole[0].door.clone()], "overdue");
        assert_eq!(restarted.list().unwrap().len(), 1);
        restarted.close_all().unwrap();
        assert_eq!(restarted.list().unwrap(), []);
        Iptables::new(Plan::default()).uninstall().unwrap();
        assert!(!TOOLS.iter().any(|tool| run(tool, &["-S"]).contains("SPA")));
    });
}

#[test]
fn check_names_what_is_reachable_all_the_same() {
    in_three("check", "", |_, _| {
        let folder = tempfile::tempdir().unwrap();
        let program = env!("CARGO_BIN_EXE_spa-server");
        let at = ["--dir", folder.path().to_str().unwrap()];
        let init = [
            "init",
            "--host",
            "gw",
            "--service",
            "web=tcp/8080",
            "--always-allow",
            "192.0.2.0/28",
        ];
        run(program, &[&init[..], &at].concat());
        let check = || run(program, &[&["check"][..], &at].concat());
        let told = check();
        assert_eq!(
            told.matches("warning[published-port]").count(),
            2,
            "both families: {told}"
        );
        assert!(!told.contains("warning[nobody-listens]"), "{told}");

        for tool in TOOLS {
            run(tool, &["-t", "nat", "-F"]);
            run(tool, &["-A", "INPUT", "-j", "ACCEPT"]);
        }
        let told = check();
        assert!(
            told.contains("warning[nobody-listens]") && !told.contains("reachable"),
            "{told}"
        );
        run(program, &[&["protect"][..], &at].concat());
        let _server = listen("0.0.0.0", 8080);
        let told = check();
        assert!(
            !told.contains("nobody-listens") && !told.contains("reachable"),
            "{told}"
        );

        run("ip6tables", &["-D", "INPUT", "-j", "SPA"]);
        run("ip6tables", &["-A", "INPUT", "-j", "SPA"]);
        let told = check();
        assert!(
            told.contains("rule 1 of INPUT (IPv6) lets it through before SPA is asked: -A INPUT -j ACCEPT"),
            "{told}"
        );
        assert!(
            told.contains("warning[jump-not-first]: the jump to SPA is rule 2 of INPUT (IPv6)"),
            "{told}"
        );
        run("ip6tables", &["-I", "INPUT", "1", "-j", "SPA"]);
        run(program, &[&["protect"][..], &at].concat());
        assert!(!check().contains("jump-not-first"), "the remedy helps");
    });
}

#[test]
fn all_of_this_with_iptables_legacy() {
    again_with_legacy("", &[]);
}

/// The service `web` on port 8080.
fn plan(chain: Chain) -> Plan {
    let ports = vec![PortRange {
        protocol: Protocol::Tcp,
        first: 8080,
        last: 8080,
    }];
    let web = Guarded {
        name: "web".into(),
        ports,
        protect: true,
        at_end: AtEnd::Keep,
        chain,
        to: vec![],
    };
    Plan {
        services: vec![web],
        always_allow: vec![],
        knock_ports: vec![62201],
        bans: false,
    }
}

fn plan_of(to: &[IpAddr]) -> Plan {
    let mut plan = plan(Chain::Input);
    plan.services[0].to = to.to_vec();
    plan
}

/// The door of web for an address or a network.
fn opening(who: &str, seconds: u64) -> Opening {
    let opened = who.parse().or_else(|_| who.parse::<IpAddr>().map(Into::into)).unwrap();
    let door = Door {
        service: "web".into(),
        opened,
    };
    Opening {
        door,
        client: None,
        remaining: Duration::from_secs(seconds),
    }
}

/// A gateway between a client and a container, whose ports 80 and 81 it publishes as 8080 and 8081.
fn in_three(name: &'static str, kind: &'static str, test: impl FnOnce(&Namespace, &Namespace) + Send + 'static) {
    in_namespace(&format!("{name}{kind}"), move || {
        let client = Namespace::new(&format!("{name}{kind}-peer"));
        let container = Namespace::new(&format!("{name}{kind}-box"));
        veth(&client, GATEWAY, CLIENT);
        wire("wire1", &container, BRIDGE, CONTAINER);
        container.call(|| {
            for (family, gateway) in [("-4", BRIDGE[0]), ("-6", BRIDGE[1])] {
                run("ip", &[family, "route", "add", "default", "via", gateway]);
            }
        });
        client.call(|| {
            run("ip", &["-4", "route", "add", "10.98.0.0/24", "via", GATEWAY[0]]);
            run("ip", &["-6", "route", "add", "fd00:98::/64", "via", GATEWAY[1]]);
        });
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        for (tool, inside) in [("iptables", "10.98.0.2"), ("ip6tables", "[fd00:98::2]")] {
            for port in ["80", "81"] {
                publish(tool, &format!("80{port}"), &format!("{inside}:{port}"));
            }
        }
        for at in [0, 1] {
            // Refused or not, it came through: a new wire takes its time.
            let _ = client.call(move || connect(GATEWAY[at], 8080, LONG));
            let _ = container.call(move || connect(CLIENT[at], 8080, LONG));
        }
        test(&client, &container);
    });
}

fn publish(tool: &str, port: &str, inside: &str) {
    let rule = [
        "-t",
        "nat",
        "-A",
        "PREROUTING",
        "-i",
        "wire0",
        "-p",
        "tcp",
        "--dport",
        port,
    ];
    run(tool, &[&rule[..], &["-j", "DNAT", "--to-destination", inside]].concat());
}

fn listen(address: &str, port: u16) -> TcpListener {
    TcpListener::bind((address.parse::<IpAddr>().unwrap(), port)).unwrap()
}

/// What waits to be accepted, if anything does.
fn accept(server: &TcpListener) -> std::io::Result<(TcpStream, SocketAddr)> {
    server.set_nonblocking(true).unwrap();
    let accepted = server.accept();
    server.set_nonblocking(false).unwrap();
    accepted
}

fn connect(address: &str, port: u16, limit: Duration) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::new(address.parse().unwrap(), port), limit)
}

/// Whether somebody gets a connection; one that is refused is no answer to that.
fn reaches(from: &Namespace, address: &'static str, port: u16) -> bool {
    match from.call(move || connect(address, port, SHORT)) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::TimedOut => false,
        Err(error) => panic!("{address} {port}: {error}"),
    }
}

/// Something said at one end is heard at the other.
fn say(mut from: &TcpStream, mut to: &TcpStream) {
    to.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    from.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

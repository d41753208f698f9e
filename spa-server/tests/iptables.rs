//! The iptables backend against the real kernel, in network namespaces of its own.

// A test's helper that fails fails the test.
#![allow(clippy::unwrap_used)]

mod netns;

use std::net::IpAddr;
use std::time::Duration;

use netns::scenarios::{opening, plan};
use netns::{again_with_legacy, feed, in_namespace, members, run, run_patiently};
use spa_server::backend::iptables::Iptables;
use spa_server::backend::iptables::plan::{Guarded, Plan};
use spa_server::backend::{Backend, Banned, Door, Opening, Watch};
use spa_server::config::{AtEnd, Chain, PortRange, Protocol};
use spa_server::netlink::address::own_addresses;
use spa_server::netlink::monitor::Monitor;
use spa_server::readable::Readable;

/// Longer than it takes a new wire to carry the third SYN.
const LONG: Duration = Duration::from_secs(10);

#[test]
fn the_rules_stand_in_their_order_behind_one_first_jump() {
    in_namespace("order", || {
        put_foreign();
        let mut backend = Iptables::new(plan());
        let repairs = backend.protect().unwrap();
        assert!(
            repairs.restored.contains(&"chain SPA in filter (IPv6)".to_owned()),
            "{repairs:?}"
        );
        assert_eq!(repairs.notes, Vec::<String>::new());
        for (tool, own, family) in [("iptables", "192.0.2.0/28", 4), ("ip6tables", "2001:db8:1::/48", 6)] {
            let rules = run(tool, &["-S", "SPA"]);
            let sets = ["allow", "ssh"].map(|name| format!("spa{family}-{name}"));
            let marks = ["-N SPA", "-i lo", "ESTABLISHED", own, &sets[0], &sets[1], "-j DROP"];
            assert_eq!(rules.lines().count(), marks.len(), "{rules}");
            for (line, mark) in rules.lines().zip(marks) {
                assert!(line.contains(mark), "{line} does not hold {mark}");
            }
            let input = run(tool, &["-S", "INPUT"]);
            assert_eq!(input.lines().nth(1), Some("-A INPUT -j SPA"), "{input}");
            assert_eq!(input.matches("-A INPUT -j SPA\n").count(), 1, "{input}");
            assert!(run(tool, &["-t", "raw", "-S", "PREROUTING"]).contains("-A PREROUTING -j SPA\n"));
        }
        assert_eq!(
            (backend.rules_intact(), backend.doors_intact(&[])),
            (Ok(true), Ok(true))
        );
        backend.self_test().unwrap();
        assert!(
            backend.protect().unwrap().is_empty(),
            "the second time there is nothing to do"
        );
        assert!(
            Iptables::new(plan()).protect().unwrap().is_empty(),
            "after a restart neither"
        );
    });
}

#[test]
fn every_kind_of_rule_is_taken_by_the_kernel() {
    in_namespace("kinds", || {
        let mut plan = plan();
        let ports = vec![PortRange {
            protocol: Protocol::Udp,
            first: 60000,
            last: 61000,
        }];
        let mosh = Guarded {
            name: "mo.sh_2-".into(),
            ports,
            protect: false,
            at_end: AtEnd::Cut,
            chain: Chain::Input,
            to: vec![],
        };
        plan.services.push(Guarded {
            name: "x".repeat(24),
            protect: true,
            ..mosh.clone()
        });
        plan.services.push(mosh);
        let mut backend = Iptables::new(plan);
        backend.protect().unwrap();
        backend.self_test().unwrap();
        for tool in ["iptables", "ip6tables"] {
            let rules = run(tool, &["-S", "SPA"]);
            assert_eq!(rules.matches("--ctdir ORIGINAL").count(), 1, "{rules}");
            assert_eq!(rules.matches("-j DROP").count(), 2, "{rules}");
        }
        backend.uninstall().unwrap();
        assert!(
            !everything().contains("SPA") && !everything().contains("spa"),
            "{}",
            everything()
        );
    });
}

#[test]
fn opening_twice_renews_and_closing_twice_is_no_error() {
    in_namespace("renew", || {
        let mut backend = protected();
        backend.open(&opening("203.0.113.5", 30)).unwrap();
        backend.open(&opening("203.0.113.5", 600)).unwrap();
        let (net, seconds) = members("spa4-ssh").pop().unwrap();
        assert_eq!((net.as_str(), members("spa4-ssh").len()), ("203.0.113.5", 1));
        assert!((598..=600).contains(&seconds), "{seconds}");
        backend.open(&opening("203.0.113.5", 20)).unwrap();
        assert!(members("spa4-ssh")[0].1 <= 20, "a renewal may be shorter");

        backend.open(&opening("2001:db8:5::/64", 30)).unwrap();
        assert_eq!(members("spa6-ssh")[0].0, "2001:db8:5::/64");
        let listed = backend.list().unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed[1].remaining > Duration::from_secs(27), "{listed:?}");

        backend
            .open(&Opening {
                remaining: Duration::from_millis(1),
                ..opening("203.0.113.6", 0)
            })
            .unwrap();
        assert!(
            members("spa4-ssh").iter().all(|(_, seconds)| *seconds > 0),
            "0 would mean for ever"
        );
        backend.open(&opening("203.0.113.5", 0)).unwrap();
        assert!(
            members("spa4-ssh").iter().all(|(net, _)| net != "203.0.113.5"),
            "nothing left is a delete"
        );
        for _ in 0..2 {
            backend.close(&opening("2001:db8:5::/64", 0).door).unwrap();
        }
        let stranger = Door {
            service: "no-such".into(),
            ..opening("203.0.113.5", 0).door
        };
        backend.close(&stranger).unwrap();
        assert!(
            backend
                .open(&Opening {
                    door: stranger,
                    ..opening("203.0.113.5", 9)
                })
                .is_err()
        );

        backend.open(&opening("203.0.113.5", 30)).unwrap();
        backend.close_all().unwrap();
        assert_eq!(backend.list().unwrap(), []);
        assert_eq!(members("spa4-allow"), [("192.0.2.0/28".to_owned(), 0)]);
    });
}

#[test]
fn reconcile_repairs_whatever_was_done_to_it() {
    const DAMAGES: [(&str, &[&str]); 10] = [
        ("flushed chain", &["iptables -F SPA"]),
        ("no jump", &["ip6tables -D INPUT -j SPA"]),
        ("two jumps", &["iptables -A INPUT -j SPA"]),
        (
            "no notrack",
            &["ip6tables -t raw -F SPA", "iptables -t raw -D PREROUTING -j SPA"],
        ),
        ("one rule less", &["iptables -D SPA 1"]),
        ("emptied sets", &["ipset flush spa4-ssh", "ipset flush spa6-allow"]),
        ("another end", &["ipset add spa4-ssh 203.0.113.5 timeout 0 -exist"]),
        ("a stranger", &["ipset add spa6-ssh fd00::bad timeout 900"]),
        ("everybody always allowed", &["ipset add spa4-allow 0.0.0.0/1"]),
        (
            "destroyed sets",
            &[
                "ip6tables -F SPA",
                "ip6tables -D INPUT -j SPA",
                "ip6tables -X SPA",
                "ipset destroy spa6-ssh",
            ],
        ),
    ];
    in_namespace("repair", || {
        put_foreign();
        let mut backend = protected();
        let (before, whole) = (foreign(), [opening("203.0.113.5", 600), opening("fd00::5", 600)]);
        backend.reconcile(&whole).unwrap();
        for (what, commands) in DAMAGES {
            for command in commands {
                run_patiently(command);
            }
            let is_seen = !backend.doors_intact(&whole).unwrap() || !backend.rules_intact().unwrap();
            assert!(is_seen, "{what}: not noticed");
            backend.reconcile(&whole).unwrap();
            assert_eq!(backend.rules_intact(), Ok(true), "{what}");
            assert_eq!(backend.doors_intact(&whole), Ok(true), "{what}");
            assert_eq!(foreign(), before, "{what}");
            assert!(backend.reconcile(&whole).unwrap().is_empty(), "{what}");
        }
        flush_everything(&backend);
        assert_eq!(backend.rules_intact(), Ok(false));
        let repairs = backend.reconcile(&whole).unwrap();
        assert_eq!(
            repairs.restored.len(),
            8,
            "chain and jump, two tables, two families: {repairs:?}"
        );
        assert_eq!(backend.rules_intact(), Ok(true));
    });
}

#[test]
fn a_jump_that_was_moved_stays_where_it_is() {
    in_namespace("moved", || {
        let mut backend = protected();
        run(
            "iptables",
            &["-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "ACCEPT"],
        );
        run("iptables", &["-D", "INPUT", "-j", "SPA"]);
        run("iptables", &["-A", "INPUT", "-j", "SPA"]);
        assert!(backend.reconcile(&[]).unwrap().is_empty());
        assert_eq!(
            run("iptables", &["-S", "INPUT"]).lines().last(),
            Some("-A INPUT -j SPA")
        );
    });
}

#[test]
fn nothing_is_left_after_uninstall_and_nothing_foreign_is_changed() {
    in_namespace("foreign", || {
        put_foreign();
        let before = everything();
        let mut backend = protected();
        backend.open(&opening("203.0.113.5", 600)).unwrap();
        assert_eq!(foreign(), before);
        // A service of yesterday, and a way into the chain that somebody else made.
        run(
            "ipset",
            &[
                "create",
                "spa6-yesterday",
                "hash:net",
                "family",
                "inet6",
                "timeout",
                "0",
            ],
        );
        run("iptables", &["-A", "FORWARD", "-i", "lo", "-j", "SPA"]);
        run("ip6tables", &["-F", "SPA"]);
        Iptables::new(Plan::default()).uninstall().unwrap();
        assert_eq!(everything(), before);
        backend.uninstall().unwrap();
        assert_eq!(everything(), before, "twice is no error");
    });
}

#[test]
fn a_service_that_is_no_longer_configured_leaves_no_set() {
    in_namespace("stale", || {
        protected().open(&opening("203.0.113.5", 600)).unwrap();
        let mut other = plan();
        other.services[0].name = "shell".into();
        Iptables::new(other).protect().unwrap();
        assert_eq!(
            run("ipset", &["list", "-n"])
                .lines()
                .filter(|name| name.ends_with("-ssh"))
                .count(),
            0
        );
        assert!(run("iptables", &["-S", "SPA"]).contains("spa4-shell"));
    });
}

#[test]
fn a_set_of_another_type_is_refused_and_nothing_is_hidden() {
    in_namespace("type", || {
        run("ipset", &["create", "spa4-ssh", "hash:ip"]);
        let error = Iptables::new(plan()).protect().unwrap_err();
        assert!(
            error.what.contains("spa4-ssh: it has another type (hash:ip)"),
            "{error}"
        );
        assert!(error.hint.is_some());
        assert!(!run("iptables-save", &[]).contains("DROP"));
    });
}

#[test]
fn changes_of_rules_and_addresses_are_noticed() {
    in_namespace("monitor", || {
        let mut backend = protected();
        let Watch::Tables(names) = backend.watch() else {
            eprintln!("skipped: iptables-legacy tells nobody of changes");
            return;
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (rules, addresses) = (Monitor::tables(&names).unwrap(), Monitor::addresses().unwrap());
        assert_eq!((rules.drain(), addresses.drain()), (Ok(false), Ok(false)));
        backend.open(&opening("203.0.113.5", 600)).unwrap();
        backend.doors_intact(&[]).unwrap();
        backend.rules_intact().unwrap();
        run("nft", &["add", "table", "inet", "other"]);
        assert_eq!(
            rules.drain(),
            Ok(false),
            "neither our doors nor our looking nor other tables"
        );
        run("iptables", &["-F", "SPA"]);
        assert_eq!((rules.drain(), rules.drain()), (Ok(true), Ok(false)));
        run("nft", &["flush", "ruleset"]);
        assert_eq!(rules.drain(), Ok(true));
        run("ip", &["address", "add", "10.98.0.1/32", "dev", "lo"]);
        assert_eq!((rules.drain(), addresses.drain()), (Ok(false), Ok(true)));
        let own: Vec<IpAddr> = ["10.98.0.1", "127.0.0.1", "::1"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(own_addresses().unwrap(), own);
    });
}

#[test]
fn a_flood_of_changes_counts_as_a_change_and_wakes_who_waits() {
    in_namespace("flood", || {
        if !matches!(Iptables::new(plan()).watch(), Watch::Tables(_)) {
            eprintln!("skipped: iptables-legacy tells nobody of changes");
            return;
        }
        let monitor = Monitor::tables(&["filter"]).unwrap();
        let rules = "-A PREROUTING -p tcp -m tcp --dport 80 -j ACCEPT\n".repeat(5000);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let changes = Readable::new(monitor).unwrap();
            feed("iptables-restore", &format!("*nat\n{rules}COMMIT\n"));
            tokio::time::timeout(LONG, Readable::wait(Some(&changes)))
                .await
                .unwrap();
            assert_eq!(changes.get().drain(), Ok(true), "what was lost may have been ours");
            let again = tokio::time::timeout(Duration::from_millis(50), Readable::wait(Some(&changes)));
            assert!(again.await.is_err() || changes.get().drain() == Ok(false), "once");
        });
    });
}

#[test]
fn all_of_this_with_iptables_legacy() {
    again_with_legacy("", &[]);
}

fn protected() -> Iptables {
    let mut backend = Iptables::new(plan());
    backend.protect().unwrap();
    backend
}

/// Somebody else's rules and sets, in every table that the backend touches.
fn put_foreign() {
    run("ipset", &["create", "blocklist", "hash:ip"]);
    run("ipset", &["add", "blocklist", "203.0.113.9"]);
    for tool in ["iptables", "ip6tables"] {
        run(tool, &["-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "ACCEPT"]);
        run(
            tool,
            &["-A", "INPUT", "-m", "comment", "--comment", "goes -j SPA", "-j", "DROP"],
        );
        run(tool, &["-N", "SPAM"]);
        run(tool, &["-A", "SPAM", "-j", "RETURN"]);
        run(tool, &["-A", "FORWARD", "-j", "SPAM"]);
        run(
            tool,
            &[
                "-t",
                "raw",
                "-A",
                "PREROUTING",
                "-p",
                "udp",
                "--dport",
                "53",
                "-j",
                "CT",
                "--notrack",
            ],
        );
    }
    run(
        "iptables",
        &[
            "-A",
            "INPUT",
            "-m",
            "set",
            "--match-set",
            "blocklist",
            "src",
            "-j",
            "DROP",
        ],
    );
}

/// All that is there, without the time of day.
fn everything() -> String {
    let all = ["iptables-save", "ip6tables-save"].map(|tool| run(tool, &[])).concat() + &run("ipset", &["save"]);
    all.lines()
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
}

/// All that is there, without what is ours.
fn foreign() -> String {
    let is_ours = |line: &str| {
        let begins = [":SPA ", "-A SPA "].iter().any(|begin| line.starts_with(begin));
        let set = line
            .split(' ')
            .nth(1)
            .is_some_and(|name| name.starts_with("spa4-") || name.starts_with("spa6-"));
        begins || set || line.ends_with(" -j SPA")
    };
    everything()
        .lines()
        .filter(|line| !is_ours(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Somebody starts anew, as juniors do.
fn flush_everything(backend: &Iptables) {
    if let Watch::Tables(_) = backend.watch() {
        run("nft", &["flush", "ruleset"]);
        return;
    }
    for (tool, table) in [
        ("iptables", "filter"),
        ("iptables", "raw"),
        ("ip6tables", "filter"),
        ("ip6tables", "raw"),
    ] {
        run(tool, &["-t", table, "-F"]);
        run(tool, &["-t", table, "-X"]);
    }
}

/// Who is shut out, and for how long where the backend knows.
fn shut_out(backend: &mut Iptables) -> Vec<(String, Option<u64>)> {
    let bans = backend.bans().unwrap().unwrap();
    let seconds = |remaining: Option<Duration>| remaining.map(|left| left.as_secs().div_ceil(100) * 100);
    let mut bans: Vec<_> = bans
        .iter()
        .map(|ban| (ban.network.to_string(), seconds(ban.remaining)))
        .collect();
    bans.sort();
    bans
}

fn shuts_out_and_lets_in_again(make: fn(Plan) -> Iptables, ends: bool) {
    let plan = Plan { bans: true, ..plan() };
    let mut backend = make(plan.clone());
    backend.protect().unwrap();
    backend.self_test().unwrap();
    for network in ["203.0.113.5/32", "2001:db8:2::/64", "2001:db8:3::7/128"] {
        let banned = Banned {
            network: network.parse().unwrap(),
            remaining: Duration::from_mins(10),
        };
        backend.ban(&banned).unwrap();
        backend.ban(&banned).unwrap();
    }
    let known = |network: &str| (network.to_owned(), ends.then_some(600));
    let all = ["2001:db8:2::/64", "2001:db8:3::7/128", "203.0.113.5/32"].map(known);
    assert_eq!(shut_out(&mut backend), all);
    assert_eq!(
        (backend.rules_intact(), backend.doors_intact(&[])),
        (Ok(true), Ok(true))
    );
    assert_eq!(backend.list(), Ok(vec![]), "nobody is let in by it");
    let mut again = make(plan);
    assert!(again.protect().unwrap().is_empty(), "a restart finds them");
    assert_eq!(shut_out(&mut again), all);
    for tool in ["iptables", "ip6tables"] {
        run(tool, &["-F", "SPA"]);
    }
    assert_eq!(again.rules_intact(), Ok(false));
    assert!(!again.reconcile(&[]).unwrap().is_empty());
    for network in ["203.0.113.5/32", "203.0.113.6/32", "2001:db8:2::/64"] {
        again.unban(network.parse().unwrap()).unwrap();
    }
    assert_eq!(shut_out(&mut again), [known("2001:db8:3::7/128")]);
    let mut without = make(self::plan());
    without.protect().unwrap();
    assert_eq!(without.bans(), Ok(None));
    assert!(!everything().contains("ban"), "{}", everything());
    without.uninstall().unwrap();
    assert!(!everything().to_lowercase().contains("spa"), "{}", everything());
}

#[test]
fn a_ban_is_an_element_that_ends_by_itself() {
    in_namespace("ban", || shuts_out_and_lets_in_again(Iptables::new, true));
}

#[test]
fn without_ipset_a_ban_is_a_rule() {
    in_namespace("banrule", || {
        shuts_out_and_lets_in_again(Iptables::without_ipset, false);
    });
}

#[test]
fn where_rules_are_written_anew_bans_that_were_flushed_come_back() {
    in_namespace("banflush", || {
        let mut backend = Iptables::without_ipset(Plan { bans: true, ..plan() });
        backend.protect().unwrap();
        let banned = Banned {
            network: "203.0.113.5/32".parse().unwrap(),
            remaining: Duration::from_mins(10),
        };
        backend.ban(&banned).unwrap();
        run("iptables", &["-F", "SPA-ban"]);
        assert_eq!(backend.rules_intact(), Ok(false));
        backend.reconcile(&[]).unwrap();
        assert!(run("iptables", &["-S", "SPA-ban"]).contains("-s 203.0.113.5/32 -j DROP"));
    });
}

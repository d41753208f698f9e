//! The nftables backend against the real kernel, in network namespaces of its own.

// A test's helper that fails fails the test.
#![allow(clippy::unwrap_used)]

mod netns;

use std::time::{Duration, Instant};

use netns::scenarios::{opening, plan};
use netns::{feed_to, in_namespace, run};
use spa_server::backend::iptables::Iptables;
use spa_server::backend::nftables::Nftables;
use spa_server::backend::plan::{Guarded, Plan};
use spa_server::backend::{Backend, Banned, Door, Opening, Watch};
use spa_server::config::{AtEnd, Chain, NamedChain, PortRange, Protocol};
use spa_server::netlink::monitor::Monitor;

fn backend() -> Nftables {
    Nftables::new(plan(), None)
}

fn protected() -> Nftables {
    let mut backend = backend();
    backend.protect().unwrap();
    backend
}

fn named() -> Nftables {
    let (table, chain) = ("filter".to_owned(), "input".to_owned());
    Nftables::new(plan(), Some(NamedChain { table, chain }))
}

/// Lines of a chain, without its head.
fn chain(table: &str, name: &str) -> Vec<String> {
    let text = run("nft", &["list", "chain", "inet", table, name]);
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "}");
    let rules = lines.skip(2).filter(|line| !line.starts_with("type filter hook"));
    rules.map(str::to_owned).collect()
}

/// The elements of a set with their seconds, 0 being for ever.
fn members(set: &str) -> Vec<(String, u64)> {
    members_in("spa", set)
}

fn members_in(table: &str, set: &str) -> Vec<(String, u64)> {
    let text = run("nft", &["-j", "list", "set", "inet", table, set]);
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let elements = all["nftables"][1]["set"]["elem"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let read = |one: &serde_json::Value| match one.as_str() {
        Some(address) => (address.to_owned(), 0),
        None => (
            one["elem"]["val"].as_str().unwrap().to_owned(),
            one["elem"]["timeout"].as_u64().unwrap_or(0),
        ),
    };
    elements.iter().map(read).collect()
}

fn everything() -> String {
    let all = run("nft", &["list", "ruleset"]) + &run("ipset", &["save"]);
    let lines = all.lines().filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// A default-drop ruleset of somebody's, as in nftables' examples.
const HOST: &str = "\
table inet filter {
    set blocklist { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 }; }
    chain SPAM { tcp dport 9 drop; }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        tcp dport 80 accept
        ip saddr @blocklist drop
        meta l4proto ipv6-icmp accept
    }
    chain forward { type filter hook forward priority filter; policy drop; jump SPAM; }
}
table ip nat { chain postrouting { type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/8 masquerade; }; }
";

#[test]
fn the_rules_stand_in_their_order_in_the_own_table() {
    in_namespace("n-order", || {
        let mut backend = backend();
        let repairs = backend.protect().unwrap();
        assert!(
            repairs.restored.contains(&"chain SPA in inet spa".to_owned()),
            "{repairs:?}"
        );
        assert_eq!(repairs.notes, Vec::<String>::new());
        insta::assert_snapshot!(run("nft", &["list", "table", "inet", "spa"]), @r#"
        table inet spa {
        	set spa4-allow/28 {
        		type ipv4_addr
        		size 262144
        		flags timeout
        		elements = { 192.0.2.0 }
        	}

        	set spa4-allow {
        		type ipv4_addr
        		size 262144
        		flags timeout
        	}

        	set spa4-ssh {
        		type ipv4_addr
        		size 262144
        		flags timeout
        	}

        	set spa6-allow/48 {
        		type ipv6_addr
        		size 262144
        		flags timeout
        		elements = { 2001:db8:1:: }
        	}

        	set spa6-allow {
        		type ipv6_addr
        		size 262144
        		flags timeout
        	}

        	set spa6-ssh {
        		type ipv6_addr
        		size 262144
        		flags timeout
        	}

        	chain input {
        		type filter hook input priority filter - 10; policy accept;
        		jump SPA comment "spa-server"
        	}

        	chain SPA {
        		iif "lo" tcp dport 2222 accept
        		tcp dport 2222 ct state established accept
        		ip saddr 192.0.2.0/28 tcp dport 2222 accept
        		ip6 saddr 2001:db8:1::/48 tcp dport 2222 accept
        		ip saddr & 255.255.255.240 == @spa4-allow/28 tcp dport 2222 accept
        		ip saddr @spa4-allow tcp dport 2222 accept
        		ip6 saddr & ffff:ffff:ffff:: == @spa6-allow/48 tcp dport 2222 accept
        		ip6 saddr @spa6-allow tcp dport 2222 accept
        		ip saddr @spa4-ssh tcp dport 2222 accept
        		ip6 saddr @spa6-ssh tcp dport 2222 accept
        		tcp dport 2222 drop
        	}

        	chain raw {
        		type filter hook prerouting priority raw; policy accept;
        		fib daddr type local udp dport 62201 notrack
        	}
        }
        "#);
        assert_eq!(
            (backend.rules_intact(), backend.doors_intact(&[])),
            (Ok(true), Ok(true))
        );
        backend.self_test().unwrap();
        assert!(
            backend.protect().unwrap().is_empty(),
            "the second time there is nothing to do"
        );
        assert!(self::backend().protect().unwrap().is_empty(), "after a restart neither");
    });
}

#[test]
fn every_kind_of_rule_is_taken_by_the_kernel() {
    in_namespace("n-kinds", || {
        let mut plan = plan();
        let ports = vec![PortRange {
            protocol: Protocol::Udp,
            first: 60000,
            last: 61000,
        }];
        plan.services.push(Guarded {
            name: "mo.sh_2-".into(),
            ports,
            protect: false,
            at_end: AtEnd::Cut,
            chain: Chain::Input,
            to: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        });
        let mut backend = Nftables::new(plan, None);
        backend.protect().unwrap();
        backend.self_test().unwrap();
        let rules = chain("spa", "SPA").join("\n");
        assert_eq!(
            rules
                .matches("ct state established ct direction original accept")
                .count(),
            2,
            "one for each own address: {rules}"
        );
        assert_eq!(rules.matches(" drop").count(), 1, "{rules}");
        backend.uninstall().unwrap();
        assert_eq!(everything(), "");
    });
}

#[test]
fn opening_twice_renews_and_closing_twice_is_no_error() {
    in_namespace("n-renew", || {
        let mut backend = protected();
        backend.open(&opening("203.0.113.5", 30)).unwrap();
        backend.open(&opening("203.0.113.5", 600)).unwrap();
        assert_eq!(members("spa4-ssh"), [("203.0.113.5".to_owned(), 600)]);
        assert!(backend.list().unwrap()[0].remaining > Duration::from_secs(598));
        backend.open(&opening("203.0.113.5", 20)).unwrap();
        assert_eq!(members("spa4-ssh")[0].1, 20, "a renewal may be shorter");
        assert!(backend.list().unwrap()[0].remaining <= Duration::from_secs(20));

        let moment = Duration::from_millis(1);
        let short = Opening {
            remaining: moment,
            ..opening("203.0.113.6", 0)
        };
        backend.open(&short).unwrap();
        assert!(members("spa4-ssh").iter().all(|(_, s)| *s > 0), "0 would mean for ever");
        backend.open(&opening("203.0.113.5", 0)).unwrap();
        assert!(
            members("spa4-ssh").iter().all(|(a, _)| a != "203.0.113.5"),
            "nothing left is a delete"
        );
        for _ in 0..2 {
            backend.close(&opening("203.0.113.6", 0).door).unwrap();
        }
        let stranger = Door {
            service: "allow".into(),
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
        backend.open(&opening("2001:db8:5::/64", 30)).unwrap();
        backend.close_all().unwrap();
        assert_eq!(backend.list().unwrap(), []);
        assert_eq!(members("spa4-allow/28"), [("192.0.2.0".to_owned(), 0)]);
    });
}

#[test]
fn an_end_comes_by_itself() {
    in_namespace("n-end", || {
        protected().open(&opening("203.0.113.5", 1)).unwrap();
        let started = Instant::now();
        let mut other = backend();
        while !other.list().unwrap().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(3));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(
            started.elapsed() > Duration::from_millis(900),
            "{:?}",
            started.elapsed()
        );
    });
}

#[test]
fn a_length_comes_into_being_with_its_first_network() {
    in_namespace("n-length", || {
        let mut backend = protected();
        let before = chain("spa", "SPA").len();
        backend.open(&opening("203.0.113.0/24", 30)).unwrap();
        backend.open(&opening("198.51.100.0/24", 30)).unwrap();
        backend.open(&opening("2001:db8:5::/64", 30)).unwrap();
        let rules = chain("spa", "SPA");
        assert_eq!(rules.len(), before + 2, "{rules:?}");
        assert!(rules.last().unwrap().ends_with("drop"), "{rules:?}");
        assert!(
            rules.contains(&"ip saddr & 255.255.255.0 == @spa4-ssh/24 tcp dport 2222 accept".to_owned()),
            "{rules:?}"
        );
        assert_eq!(backend.list().unwrap().len(), 3);
        let whole = [
            opening("203.0.113.0/24", 30),
            opening("198.51.100.0/24", 30),
            opening("2001:db8:5::/64", 30),
        ];
        assert_eq!(
            (backend.rules_intact(), backend.doors_intact(&whole)),
            (Ok(true), Ok(true))
        );
        backend.self_test().unwrap();
        // The next process leaves them open, and knows them.
        let mut next = self::backend();
        next.protect().unwrap();
        assert!(next.reconcile(&whole).unwrap().is_empty());
        next.close(&opening("203.0.113.0/24", 0).door).unwrap();
        assert_eq!(next.list().unwrap().len(), 2);
    });
}

#[test]
fn reconcile_repairs_whatever_was_done_to_it() {
    const DAMAGES: [(&str, &str); 14] = [
        ("flushed chain", "flush chain inet spa SPA"),
        ("no jump", "flush chain inet spa input"),
        ("two jumps", "add rule inet spa input jump SPA"),
        ("no notrack", "flush chain inet spa raw"),
        ("one rule more", "insert rule inet spa SPA tcp dport 2222 accept"),
        (
            "emptied sets",
            "flush set inet spa spa4-ssh; flush set inet spa spa4-allow/28",
        ),
        (
            "another end",
            "delete element inet spa spa4-ssh { 203.0.113.5 }; add element inet spa spa4-ssh { 203.0.113.5 }",
        ),
        ("a stranger", "add element inet spa spa6-ssh { fd00::bad timeout 900s }"),
        (
            "everybody always allowed",
            "add element inet spa spa4-allow { 203.0.113.77 }",
        ),
        ("no table", "delete table inet spa"),
        ("nothing at all", "flush ruleset"),
        ("asleep", "add table inet spa { flags dormant; }"),
        ("another policy", "chain inet spa input { policy drop; }"),
        (
            "another place",
            "flush chain inet spa raw; delete chain inet spa raw; add chain inet spa raw { type filter hook prerouting priority 7; }",
        ),
    ];
    in_namespace("n-repair", || {
        let mut backend = protected();
        let whole = [
            opening("203.0.113.5", 600),
            opening("fd00::5", 600),
            opening("198.51.100.0/24", 600),
        ];
        backend.reconcile(&whole).unwrap();
        for (what, damage) in DAMAGES {
            feed_nft(damage);
            let is_seen = !backend.doors_intact(&whole).unwrap() || !backend.rules_intact().unwrap();
            assert!(is_seen, "{what}: not noticed");
            backend.reconcile(&whole).unwrap();
            assert_eq!(backend.rules_intact(), Ok(true), "{what}");
            assert_eq!(backend.doors_intact(&whole), Ok(true), "{what}");
            assert!(backend.reconcile(&whole).unwrap().is_empty(), "{what}");
            assert_eq!(backend.list().unwrap().len(), 3, "{what}");
        }
    });
}

#[test]
fn a_flush_between_two_looks_costs_no_knock() {
    in_namespace("n-flushed", || {
        let mut backend = protected();
        run("nft", &["flush", "ruleset"]);
        backend.open(&opening("203.0.113.5", 30)).unwrap();
        assert_eq!(backend.list().unwrap().len(), 1);
        assert!(run("nft", &["list", "ruleset"]).contains("drop"));
    });
}

#[test]
fn a_named_table_gets_a_chain_and_one_jump_and_nothing_else() {
    in_namespace("n-named", || {
        feed_nft(HOST);
        let before = everything();
        let mut backend = named();
        backend.protect().unwrap();
        backend.self_test().unwrap();
        backend.open(&opening("203.0.113.5", 600)).unwrap();
        backend.open(&opening("198.51.100.0/24", 600)).unwrap();
        let input = chain("filter", "input");
        assert_eq!(input[0], "jump SPA comment \"spa-server\"", "{input:?}");
        assert_eq!(input.iter().filter(|rule| rule.contains("jump SPA")).count(), 1);
        assert_eq!(members_in("filter", "spa4-ssh"), [("203.0.113.5".to_owned(), 600)]);
        let own = run("nft", &["list", "table", "inet", "spa"]);
        assert!(own.contains("notrack") && !own.contains("set "), "{own}");
        assert_eq!(foreign(), before);
        let whole = [opening("203.0.113.5", 600), opening("198.51.100.0/24", 600)];
        assert_eq!(
            (backend.rules_intact(), backend.doors_intact(&whole)),
            (Ok(true), Ok(true))
        );
        assert!(matches!(backend.watch(), Watch::Tables(names) if names == ["spa", "filter"]));
        assert!(
            named().protect().unwrap().is_empty(),
            "after a restart there is nothing to do"
        );
        Nftables::new(Plan::default(), None).uninstall().unwrap();
        assert_eq!(everything(), before);
        backend.uninstall().unwrap();
        assert_eq!(everything(), before, "twice is no error");
    });
}

#[test]
fn while_the_named_table_is_gone_the_own_one_serves() {
    in_namespace("n-gone", || {
        let mut backend = named();
        backend.protect().unwrap();
        let whole = [opening("203.0.113.5", 600)];
        backend.open(&whole[0]).unwrap();
        assert!(
            run("nft", &["list", "table", "inet", "spa"]).contains("drop"),
            "hidden at boot too"
        );
        feed_nft(HOST);
        assert_eq!(backend.rules_intact(), Ok(false), "it came");
        let repairs = backend.reconcile(&whole).unwrap();
        assert_eq!(repairs.reopened, [], "doors move along");
        assert_eq!(members_in("filter", "spa4-ssh").len(), 1);
        assert!(!run("nft", &["list", "table", "inet", "spa"]).contains("drop"));
        // The host's ruleset is loaded anew, as `systemctl reload nftables` does it.
        feed_nft(&format!("flush ruleset\n{HOST}"));
        assert_eq!(backend.rules_intact(), Ok(false));
        backend.reconcile(&whole).unwrap();
        assert_eq!(
            (backend.rules_intact(), backend.doors_intact(&whole)),
            (Ok(true), Ok(true))
        );
        assert_eq!(chain("filter", "input")[0], "jump SPA comment \"spa-server\"");
        feed_nft("delete table inet filter");
        backend.reconcile(&whole).unwrap();
        assert_eq!(members("spa4-ssh").len(), 1);
        backend.uninstall().unwrap();
        assert!(!everything().contains("spa"), "{}", everything());
    });
}

#[test]
fn jumps_of_others_and_leftovers_go_with_uninstall() {
    in_namespace("n-left", || {
        feed_nft(HOST);
        let before = everything();
        let mut backend = named();
        backend.protect().unwrap();
        feed_nft(
            "add rule inet filter forward iif lo jump SPA; add rule inet filter input jump SPA; flush chain inet filter SPA",
        );
        feed_nft("add set inet filter spa6-yesterday { type ipv6_addr; flags timeout; }");
        Nftables::new(Plan::default(), None).uninstall().unwrap();
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_service_or_a_place_that_is_no_longer_configured_leaves_nothing() {
    in_namespace("n-stale", || {
        feed_nft(HOST);
        let before = everything();
        protected().open(&opening("203.0.113.5", 600)).unwrap();
        let mut moved = named();
        moved.protect().unwrap();
        assert_eq!(members_in("filter", "spa4-ssh").len(), 1, "open doors move along");
        let mut other = plan();
        other.services[0].name = "shell".into();
        Nftables::new(other, None).protect().unwrap();
        assert_eq!(foreign(), before);
        let all = everything();
        assert!(all.contains("spa4-shell") && !all.contains("spa4-ssh"), "{all}");
    });
}

#[test]
fn a_set_of_another_kind_is_refused_and_nothing_is_hidden() {
    in_namespace("n-kind", || {
        feed_nft("add table inet spa; add set inet spa spa4-ssh { type inet_service; }");
        let error = backend().protect().unwrap_err();
        assert_eq!(
            error.what,
            "set spa4-ssh in inet spa is of another kind than time-outs need"
        );
        assert!(error.hint.is_some());
        assert!(!run("nft", &["list", "ruleset"]).contains("drop"));
    });
}

#[test]
fn changes_of_rules_are_noticed_and_own_doors_are_none() {
    in_namespace("n-monitor", || {
        let mut backend = protected();
        let Watch::Tables(names) = backend.watch() else {
            panic!("not told of changes")
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let monitor = Monitor::tables(&names).unwrap();
        backend.open(&opening("203.0.113.5", 600)).unwrap();
        backend.doors_intact(&[]).unwrap();
        backend.rules_intact().unwrap();
        run("nft", &["add", "table", "inet", "other"]);
        assert_eq!(
            monitor.drain(),
            Ok(false),
            "neither our doors nor our looking nor other tables"
        );
        run("nft", &["flush", "chain", "inet", "spa", "SPA"]);
        assert_eq!((monitor.drain(), monitor.drain()), (Ok(true), Ok(false)));
        run("nft", &["flush", "ruleset"]);
        assert_eq!(monitor.drain(), Ok(true));
    });
}

#[test]
fn iptables_and_nftables_do_not_fight() {
    in_namespace("n-both", || {
        let mut web = plan();
        web.services[0].name = "web".into();
        web.services[0].ports[0] = PortRange {
            protocol: Protocol::Tcp,
            first: 8080,
            last: 8080,
        };
        let (mut one, mut other) = (Iptables::new(web), backend());
        one.protect().unwrap();
        other.protect().unwrap();
        let door = Door {
            service: "web".into(),
            ..opening("203.0.113.5", 0).door
        };
        let web = [Opening {
            door,
            ..opening("203.0.113.5", 600)
        }];
        let ssh = [opening("203.0.113.5", 600)];
        for _ in 0..3 {
            one.reconcile(&web).unwrap();
            other.reconcile(&ssh).unwrap();
        }
        assert!(one.reconcile(&web).unwrap().is_empty() && other.reconcile(&ssh).unwrap().is_empty());
        assert_eq!((one.rules_intact(), other.rules_intact()), (Ok(true), Ok(true)));
        other.uninstall().unwrap();
        assert_eq!((one.rules_intact(), one.doors_intact(&web)), (Ok(true), Ok(true)));
        other.protect().unwrap();
        one.uninstall().unwrap();
        assert_eq!((other.rules_intact(), other.doors_intact(&[])), (Ok(true), Ok(true)));
    });
}

#[test]
fn a_thousand_doors_are_opened_and_closed_over_netlink() {
    in_namespace("n-many", || {
        let mut backend = protected();
        let doors: Vec<_> = (0..1000)
            .map(|n| opening(&format!("10.1.{}.{}", n / 250, n % 250 + 1), 600))
            .collect();
        let started = Instant::now();
        for door in &doors {
            backend.open(door).unwrap();
        }
        eprintln!("1000 doors opened in {:?}", started.elapsed());
        assert_eq!(backend.doors_intact(&doors), Ok(true));
        run("nft", &["flush", "ruleset"]);
        let started = Instant::now();
        assert_eq!(backend.rules_intact(), Ok(false));
        backend.reconcile(&doors).unwrap();
        eprintln!("put back with 1000 doors in {:?}", started.elapsed());
        assert_eq!(backend.doors_intact(&doors), Ok(true));
        let started = Instant::now();
        for door in &doors {
            backend.close(&door.door).unwrap();
        }
        eprintln!("1000 doors closed in {:?}", started.elapsed());
        assert_eq!(backend.list().unwrap(), []);
    });
}

fn feed_nft(script: &str) {
    feed_to("nft", &["-f", "-"], &format!("{script}\n"));
}

/// All that is there, without what is ours.
fn foreign() -> String {
    let (mut kept, mut skipping) = (String::new(), None);
    for line in everything().lines() {
        let depth = line.len() - line.trim_start().len();
        let text = line.trim_start();
        let begins = ["table inet spa {", "set spa4-", "set spa6-", "chain SPA {"]
            .iter()
            .any(|begin| text.starts_with(begin));
        if skipping.is_none() && begins {
            skipping = Some(depth);
        }
        match skipping {
            Some(from) if depth == from && text == "}" => skipping = None,
            Some(_) => {}
            None if text.starts_with("jump SPA ") => {}
            None => kept = kept + line + "\n",
        }
    }
    kept
}

#[test]
fn a_ban_is_an_element_that_ends_by_itself() {
    in_namespace("nftban", || {
        let plan = Plan { bans: true, ..plan() };
        let mut backend = Nftables::new(plan.clone(), None);
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
        let shut_out = |backend: &mut Nftables| {
            let mut bans = backend.bans().unwrap().unwrap();
            bans.sort_by_key(|ban| ban.network);
            assert!(bans.iter().all(|ban| ban.remaining > Some(Duration::from_secs(590))));
            bans.iter().map(|ban| ban.network.to_string()).collect::<Vec<_>>()
        };
        let all = ["203.0.113.5/32", "2001:db8:2::/64", "2001:db8:3::7/128"];
        assert_eq!(shut_out(&mut backend), all);
        assert_eq!(
            (backend.rules_intact(), backend.doors_intact(&[])),
            (Ok(true), Ok(true))
        );
        assert_eq!(backend.list(), Ok(vec![]), "nobody is let in by it");
        let mut again = Nftables::new(plan, None);
        again.protect().unwrap();
        assert_eq!(shut_out(&mut again), all, "a restart finds them");
        again.unban(all[0].parse().unwrap()).unwrap();
        again.unban(all[0].parse().unwrap()).unwrap();
        assert_eq!(shut_out(&mut again), all[1..]);
        let mut without = Nftables::new(self::plan(), None);
        without.protect().unwrap();
        assert_eq!(without.bans(), Ok(None));
        assert!(!everything().contains("-ban"), "{}", everything());
    });
}

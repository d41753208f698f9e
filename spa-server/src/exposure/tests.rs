//! Saved texts in, findings as short lines out.

use super::*;
use crate::config::Protocol;

/// What INPUT, FORWARD and others hold, in the words of iptables-save.
fn told_of(service: &str, v4: &str, listeners: &[(&str, u16)]) -> String {
    let head = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.0/28\"]\n";
    let service = format!("{head}[[service]]\nname = \"web\"\nbackends = [\"iptables\"]\nprotect = true\n{service}\n");
    let (config, _) = Config::from_text("server.toml", &service).unwrap();
    let listener = |(own, port): &(&str, u16)| Listener {
        protocol: Protocol::Tcp,
        own: own.parse().unwrap(),
        port: *port,
    };
    let host = Host {
        rules: vec![(Family::V4, Ruleset::parse(v4)), (Family::V6, Ruleset::default())],
        listeners: listeners.iter().map(listener).collect(),
    };
    let line = |finding: Finding| {
        let remedy = finding.remedy.unwrap_or_default();
        format!("{} {}\n  -> {remedy}", finding.code, finding.text)
    };
    findings(&config, &host)
        .into_iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

const ANY: &[(&str, u16)] = &[("0.0.0.0", 8080)];
const INPUT: &str = "ports = [\"tcp/8080\"]";

fn filter(rules: &str) -> String {
    format!("*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n{rules}\nCOMMIT\n")
}

#[test]
fn a_jump_in_the_first_place_is_fine_and_none_is_still_to_come() {
    let rules =
        "-A INPUT -j SPA\n-A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT\n-A SPA -p tcp -m tcp --dport 8080 -j DROP";
    assert_eq!(told_of(INPUT, &filter(rules), ANY), "");
    assert_eq!(told_of(INPUT, &filter("-A INPUT -j ACCEPT"), ANY), "");
}

#[test]
fn an_earlier_rule_that_lets_through_is_named_with_its_place() {
    let rules =
        "-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m multiport --dports 80,8000:8100 -j ACCEPT\n-A INPUT -j SPA";
    insta::assert_snapshot!(told_of(INPUT, &filter(rules), ANY), @r"
    jump-not-first the jump to SPA is rule 3 of INPUT (IPv4): what stands before it judges first
      -> iptables -I INPUT 1 -j SPA; the daemon, or spa-server protect, makes one jump of the two
    reachable-before tcp/8080 of service web can be reached without a knock: rule 2 of INPUT (IPv4) lets it through before SPA is asked: -A INPUT -p tcp -m multiport --dports 80,8000:8100 -j ACCEPT
      -> take the rule out, or put it behind the jump to SPA
    ");
}

#[test]
fn a_rule_in_a_chain_of_somebody_else_is_found_there() {
    let rules = "-A INPUT -j ufw-user\n-A INPUT -j SPA\n-A ufw-user -p udp -j ACCEPT\n\
        -A ufw-user -s 198.51.100.0/24 -m comment --comment \"from -j DROP\" -j ACCEPT";
    insta::assert_snapshot!(told_of(INPUT, &filter(rules), ANY), @r#"
    jump-not-first the jump to SPA is rule 2 of INPUT (IPv4): what stands before it judges first
      -> iptables -I INPUT 1 -j SPA; the daemon, or spa-server protect, makes one jump of the two
    reachable-before tcp/8080 of service web can be reached without a knock: rule 2 of ufw-user (IPv4) lets it through before SPA is asked: -A ufw-user -s 198.51.100.0/24 -m comment --comment "from -j DROP" -j ACCEPT
      -> take the rule out, or put it behind the jump to SPA
    "#);
}

#[test]
fn what_does_not_let_strangers_through_is_passed_over() {
    for rule in [
        "-p udp -m udp --dport 8080 -j ACCEPT",
        "-p tcp -m tcp --dport 22 -j ACCEPT",
        "-p tcp -m tcp ! --dport 8080 -j ACCEPT",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-m conntrack ! --ctstate NEW -j ACCEPT",
        "-m state --state ESTABLISHED -j ACCEPT",
        "-s 192.0.2.4/32 -j ACCEPT",
        "-d 127.0.0.0/8 -j ACCEPT",
        "-i lo -j ACCEPT",
        "-p tcp -j LOG --log-prefix \"-j ACCEPT\"",
        "-m comment --comment \"a -j ACCEPT\" -j DROP",
        "-j empty",
        "-p tcp -m tcp --dport 8080 -j DROP\n-A INPUT -j ACCEPT",
        "-j back\n-A back -j RETURN\n-A back -j ACCEPT",
        "-j back\n-A back -p tcp -g empty\n-A back -j ACCEPT\n-A empty -p udp -j ACCEPT",
    ] {
        let told = told_of(INPUT, &filter(&format!("-A INPUT {rule}\n-A INPUT -j SPA")), ANY);
        assert!(!told.contains("reachable-before"), "{rule}: {told}");
        assert!(told.contains("jump-not-first"), "{rule}: {told}");
    }
}

#[test]
fn what_may_let_some_strangers_through_is_named() {
    for rule in [
        "-i eth1 -j ACCEPT",
        "-s 198.51.100.7/32 -j ACCEPT",
        "! -s 192.0.2.0/28 -j ACCEPT",
        "-s 192.0.0.0/16 -j ACCEPT",
        "-m recent --rcheck --name friends --rsource -j ACCEPT",
        "-d 203.0.113.1/32 -p tcp -m tcp --dport 8000:9000 -j ACCEPT",
        "-p tcp -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
    ] {
        let told = told_of(INPUT, &filter(&format!("-A INPUT {rule}\n-A INPUT -j SPA")), ANY);
        assert!(told.contains(&format!("reachable-before tcp/8080 of service web can be reached without a knock: rule 1 of INPUT (IPv4) lets it through before SPA is asked: -A INPUT {rule}\n")), "{rule}: {told}");
    }
    let elsewhere = "-A INPUT -d 203.0.113.1/32 -j ACCEPT\n-A INPUT -j SPA";
    let told = told_of(
        "ports = [\"tcp/8080\"]\nto = [\"203.0.113.2\"]",
        &filter(elsewhere),
        ANY,
    );
    assert!(!told.contains("reachable-before"), "{told}");
}

const NAT: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
    -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n";

#[test]
fn a_published_port_never_comes_to_input() {
    insta::assert_snapshot!(told_of(INPUT, NAT, &[]), @r#"
    published-port tcp/8080 of service web never comes to INPUT, so nothing hides it: rule 1 of DOCKER of table nat (IPv4) sends it elsewhere: -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
      -> chain = "DOCKER-USER"
    "#);
    let by_hand = NAT.replace("DOCKER", "mine");
    assert!(told_of(INPUT, &by_hand, &[]).ends_with("-> chain = \"FORWARD\""));
    let redirected = NAT.replace("DNAT --to-destination 172.17.0.2:80", "REDIRECT --to-ports 80");
    assert!(told_of(INPUT, &redirected, &[]).ends_with("-> ports = [..] with the port it is sent to"));
}

#[test]
fn before_docker_user_the_inside_port_counts() {
    let docker = "ports = [\"tcp/8080\"]\nchain = \"DOCKER-USER\"";
    let rules = |rule: &str| {
        filter(&format!(
            "-A FORWARD {rule}\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j ACCEPT\n-A DOCKER-USER -j SPA-DOCKER-USER"
        )) + NAT
    };
    assert_eq!(
        told_of(
            docker,
            &rules("-d 172.17.0.2/32 -p tcp -m tcp --dport 8080 -j ACCEPT"),
            &[]
        ),
        ""
    );
    insta::assert_snapshot!(told_of(docker, &rules("-d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j ACCEPT"), &[]), @r"
    reachable-before tcp/8080 of service web can be reached without a knock: rule 1 of FORWARD (IPv4) lets it through before SPA-DOCKER-USER is asked: -A FORWARD -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j ACCEPT
      -> take the rule out, or put it behind the jump to SPA-DOCKER-USER
    ");
    assert!(told_of(docker, &rules("-m conntrack --ctstate DNAT -j ACCEPT"), &[]).starts_with("reachable-before"));
    // Not there yet: it will be put first in DOCKER-USER, and FORWARD accepts before.
    let absent = rules("-j ACCEPT").replace("-A DOCKER-USER -j SPA-DOCKER-USER\n", "");
    assert!(told_of(docker, &absent, &[]).starts_with("reachable-before"));
}

#[test]
fn what_is_published_by_nobody_or_listens_on_the_host() {
    let forward = "ports = [\"tcp/8080\"]\nchain = \"FORWARD\"";
    insta::assert_snapshot!(told_of(forward, "", &[]), @r#"
    nobody-publishes tcp/8080 of service web is published by nobody: no rule of table nat sends it to a container
      -> start the container, or mend ports; chain = "INPUT" is for programs of this host
    "#);
    insta::assert_snapshot!(told_of(forward, NAT, &[("::", 8080)]), @r"
    listener-not-judged tcp/8080 of service web is hidden in FORWARD only, but a program of this host listens on it at :: (IPv6)
      -> publish it for this family too, or let the program listen on 127.0.0.1 or 0.0.0.0 only
    ");
    assert_eq!(told_of(forward, NAT, ANY), "");
}

#[test]
fn a_hidden_port_that_nobody_listens_on() {
    insta::assert_snapshot!(told_of(INPUT, "", &[("0.0.0.0", 80)]), @r"
    nobody-listens tcp/8080 of service web is hidden, but no program listens on it
      -> start the program, or mend ports: `ss -lntu` lists who listens where
    ");
    assert_eq!(told_of("ports = [\"tcp/8000-9000\"]", "", ANY), "");
}

#[test]
fn a_destination_is_read_in_each_of_its_forms() {
    let of = |text: &str| {
        let rule = Rule::parse(&format!("-A DOCKER -p tcp -j DNAT --to-destination {text}"));
        rule.destination().map(|(address, port)| format!("{address} {port:?}"))
    };
    for (text, expected) in [
        ("172.17.0.2:80", "172.17.0.2 Some(80)"),
        ("172.17.0.2", "172.17.0.2 None"),
        ("172.17.0.2-172.17.0.9:80-81", "172.17.0.2 Some(80)"),
        ("[fd00::2]:80", "fd00::2 Some(80)"),
        ("fd00::2", "fd00::2 None"),
        ("[fd00::2]", "fd00::2 None"),
    ] {
        assert_eq!(of(text).as_deref(), Some(expected), "{text}");
    }
    assert_eq!(of("nonsense"), None);
}

proptest::proptest! {
    #[test]
    fn no_text_is_a_panic(text in "(\\*(filter|nat)\n)?(-A (INPUT|PREROUTING|a)( -j (a|INPUT|SPA)| -[a-z!\"]+ [0-9:,]*){0,4}\n){0,6}") {
        told_of(INPUT, &text, ANY);
    }
}

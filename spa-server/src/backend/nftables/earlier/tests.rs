//! Rulesets as nft writes them in JSON in, findings as short lines out.

use serde_json::json;

use super::*;

const TOML: &str = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.0/28\"]\n\
    [nftables]\ntable = \"inet filter\"\nchain = \"input\"\n\
    [[service]]\nname = \"ssh\"\nbackends = [\"nftables\"]\nports = [\"tcp/22\"]\nprotect = true\n";

/// The base chain input, the chain user beside it, and nat; a rule is its chain and its statements.
fn told(toml: &str, rules: &[(&str, Value)]) -> String {
    let chain = |table: &str, name: &str, hook: Option<&str>, kind: &str| json!({ "chain": { "family": "inet", "table": table, "name": name, "hook": hook, "type": kind } });
    let mut items = vec![
        chain("filter", "input", Some("input"), "filter"),
        chain("filter", "user", None, "filter"),
        chain("filter", "SPA", None, "filter"),
        chain("filter", "other", Some("input"), "filter"),
        chain("theirs", "first", Some("input"), "filter"),
        chain("nat", "pre", Some("prerouting"), "nat"),
    ];
    for (number, (place, statements)) in rules.iter().enumerate() {
        let (table, chain) = place.split_once(' ').unwrap_or(("filter", place));
        let rule = json!({
            "family": "inet", "table": table, "chain": chain, "handle": number + 1, "expr": statements
        });
        items.push(json!({ "rule": rule }));
    }
    let (config, _) = Config::from_text("server.toml", toml).unwrap();
    let line = |finding: &Finding| {
        let remedy = finding.remedy.clone().unwrap_or_default();
        format!("{} {}\n  -> {remedy}", finding.code, finding.text)
    };
    let findings = findings_in(&config, &json!({ "nftables": items }));
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn matching(protocol: &str, field: &str, right: &Value) -> Value {
    json!({ "match": { "op": "==", "left": { "payload": { "protocol": protocol, "field": field } }, "right": right } })
}

fn accept() -> Value {
    json!({ "accept": null })
}

fn ours() -> (&'static str, Value) {
    ("input", json!([{ "jump": { "target": "SPA" } }]))
}

#[test]
fn an_accept_before_our_jump_is_named_with_its_place() {
    let early = ("input", json!([matching("tcp", "dport", &json!(22)), accept()]));
    insta::assert_snapshot!(told(TOML, &[early, ours()]), @r"
    jump-not-first the jump to SPA is rule 2 of chain input of table inet filter: what stands before it judges first
      -> nft insert rule inet filter input jump SPA; the daemon, or spa-server protect, makes one jump of the two
    reachable-before tcp/22 of service ssh can be reached without a knock: the rule with handle 1 in chain input of table inet filter lets it through before SPA is asked
      -> take the rule out, or put it behind the jump to SPA: nft -a list chain inet filter input
    ");
}

#[test]
fn what_may_let_some_strangers_in_is_named() {
    let interface = json!({ "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": "eth1" } });
    let map = json!({ "vmap": {
        "key": { "payload": { "protocol": "ip", "field": "saddr" } },
        "data": { "set": [["198.51.100.1", accept()]] }
    } });
    for rule in [
        json!([matching("ip", "saddr", &json!("198.51.100.7")), accept()]),
        json!([
            matching(
                "ip6",
                "saddr",
                &json!({ "prefix": { "addr": "2001:db8::", "len": 32 } })
            ),
            accept()
        ]),
        json!([matching("tcp", "dport", &json!({ "range": [20, 30] })), accept()]),
        json!([interface, accept()]),
        json!([{ "xt": null }, accept()]),
        json!([map]),
        json!([{ "jump": { "target": "user" } }]),
    ] {
        let told = told(TOML, &[("input", rule.clone()), ("user", json!([accept()])), ours()]);
        assert!(told.contains("reachable-before"), "{rule}: {told}");
    }
}

#[test]
fn what_lets_no_stranger_in_is_passed_over() {
    let state = json!({ "match": {
        "op": "in", "left": { "ct": { "key": "state" } }, "right": ["established", "related"]
    } });
    let loopback = json!({ "match": { "op": "==", "left": { "meta": { "key": "iif" } }, "right": "lo" } });
    for rules in [
        vec![("input", json!([state, accept()]))],
        vec![("input", json!([loopback, accept()]))],
        vec![("input", json!([matching("tcp", "dport", &json!(80)), accept()]))],
        vec![("input", json!([matching("ip", "saddr", &json!("192.0.2.7")), accept()]))],
        vec![("input", json!([{ "drop": null }])), ("input", json!([accept()]))],
        vec![
            ("input", json!([{ "jump": { "target": "user" } }])),
            ("user", json!([{ "return": null }])),
        ],
        // An accept in another base chain ends nothing in this one.
        vec![("other", json!([accept()]))],
        vec![("theirs first", json!([accept()]))],
    ] {
        let told = told(TOML, &[rules.clone(), vec![ours()]].concat());
        assert!(!told.contains("reachable-before"), "{rules:?}: {told}");
    }
    // Not there yet, it will be the first.
    assert_eq!(told(TOML, &[("input", json!([accept()]))]), "");
}

#[test]
fn a_named_chain_that_is_never_asked_hides_nothing() {
    let toml = TOML.replace("\"input\"", "\"user\"");
    insta::assert_snapshot!(told(&toml, &[]), @r"
    not-asked tcp/22 of service ssh is not hidden: chain user of table inet filter is not asked about new connections to it
      -> [nftables] with a chain of hook input: nft list table inet filter
    ");
    let asked = ("input", json!([{ "jump": { "target": "user" } }]));
    assert_eq!(told(&toml, std::slice::from_ref(&asked)), "");
    let before = ("input", json!([matching("tcp", "dport", &json!(22)), accept()]));
    assert!(told(&toml, &[before, asked]).starts_with("reachable-before"));
}

#[test]
fn translation_sends_a_port_past_our_rules_wherever_they_are() {
    let plain = TOML.replace("[nftables]\ntable = \"inet filter\"\nchain = \"input\"\n", "");
    let port = |port: u16| matching("tcp", "dport", &json!(port));
    let sent = (
        "nat pre",
        json!([port(22), { "dnat": { "addr": "10.0.0.2", "port": 22 } }]),
    );
    insta::assert_snapshot!(told(&plain, &[sent]), @r#"
    published-port tcp/22 of service ssh never comes to our rules, so nothing hides it: the rule with handle 1 in chain pre of table inet nat sends it elsewhere
      -> backends = ["iptables"] and chain = "FORWARD", or the port of this host itself
    "#);
    let redirected = ("nat pre", json!([port(22), { "redirect": { "port": 2222 } }]));
    assert!(told(&plain, &[redirected]).ends_with("-> ports = [..] with the port it is sent to"));
    let key = json!({ "payload": { "protocol": "tcp", "field": "dport" } });
    let map =
        |port: u16| json!([{ "dnat": { "addr": { "map": { "key": key, "data": { "set": [[port, "10.0.0.2"]] } } } } }]);
    assert_eq!(told(&plain, &[("nat pre", map(80))]), "");
    assert!(told(&plain, &[("nat pre", map(22))]).starts_with("published-port"));
    assert_eq!(
        told(
            &plain,
            &[("nat pre", json!([port(80), { "redirect": { "port": 22 } }]))]
        ),
        ""
    );
}

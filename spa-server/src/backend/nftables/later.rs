//! Finds who else would drop what is let through here: an accept in one table does not override a drop in another.
//!
//! The ruleset is read as nft writes it in JSON. A new connection from an address that nobody has written into a rule is
//! followed through every base chain that sees packets to this host; what cannot be told is taken for harmless.

pub(super) mod fit;
pub(super) mod walk;

use serde_json::Value;

use super::place::{OWN_TABLE, Place};
use crate::config::{BackendKind, Code, Config, Finding, PortRange};
use walk::{Dropped, Ruleset};

/// A finding for each service of nftables that another table would shut although granted.
#[must_use]
pub fn findings_in(config: &Config, ruleset: &Value) -> Vec<Finding> {
    let ruleset = Ruleset::new(ruleset);
    let mut findings: Vec<Finding> = unnamed(config, &ruleset).into_iter().collect();
    let own = config
        .services
        .iter()
        .filter(|service| service.backends.contains(&BackendKind::Nftables));
    for service in own {
        for ports in &service.ports {
            let drops = ruleset.drops(config, *ports);
            findings.extend(drops.iter().map(|drop| finding(&service.name, *ports, drop)));
        }
    }
    findings
}

fn unnamed(config: &Config, ruleset: &Ruleset<'_>) -> Option<Finding> {
    let named = config.nftables.as_ref()?;
    if ruleset.has("inet", &named.table, &named.chain) {
        return None;
    }
    let place = Place::named(named);
    let text = format!(
        "there is no chain {} in table {place}: until there is, the own table inet {OWN_TABLE} hides and opens",
        named.chain
    );
    Some(Finding::warning(Code::NoNamedChain, text).with_try("load the host's ruleset, or correct [nftables]"))
}

fn finding(service: &str, ports: PortRange, drop: &Dropped) -> Finding {
    let text = format!("service {service}: what a grant lets in to {ports} is dropped all the same by {drop}");
    let remedy = match drop.family.as_str() {
        "inet" => format!(
            "[nftables] with table = \"inet {}\" and chain = \"{}\"",
            drop.table, drop.chain
        ),
        _ => format!(
            "backends = [\"iptables\"], or accept {ports} in table {} {}",
            drop.family, drop.table
        ),
    };
    Finding::warning(Code::LaterDrop, text).with_try(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.7\"]\n\
        [[service]]\nname = \"ssh\"\nbackends = [\"nftables\"]\nports = [\"tcp/22\"]\nprotect = true\n";

    /// A base chain of table inet filter with `rules`.
    fn ruleset(policy: &str, rules: &[&str]) -> Value {
        let base = format!(
            "{{\"chain\": {{\"family\": \"inet\", \"table\": \"filter\", \"name\": \"input\", \"hook\": \"input\", \"policy\": \"{policy}\"}}}}"
        );
        let user = "{\"chain\": {\"family\": \"inet\", \"table\": \"filter\", \"name\": \"user\"}}".to_owned();
        let rule = |(n, expr): (usize, &&str)| {
            let (chain, expr) = expr
                .strip_prefix("user: ")
                .map_or(("input", *expr), |expr| ("user", expr));
            format!(
                "{{\"rule\": {{\"family\": \"inet\", \"table\": \"filter\", \"chain\": \"{chain}\", \"handle\": {}, \"expr\": [{expr}]}}}}",
                n + 1
            )
        };
        let items: Vec<String> = [base, user]
            .into_iter()
            .chain(rules.iter().enumerate().map(rule))
            .collect();
        serde_json::from_str(&format!("{{\"nftables\": [{}]}}", items.join(", "))).unwrap()
    }

    fn told(toml: &str, ruleset: &Value) -> Vec<String> {
        let (config, _) = Config::from_text("s", toml).unwrap();
        let line = |finding: &Finding| {
            format!(
                "{}: {} -> {}",
                finding.code,
                finding.text,
                finding.remedy.clone().unwrap_or_default()
            )
        };
        findings_in(&config, ruleset).iter().map(line).collect()
    }

    fn is_dropped(policy: &str, rules: &[&str]) -> bool {
        !told(TOML, &ruleset(policy, rules)).is_empty()
    }

    const ACCEPT: &str = "{\"accept\": null}";
    const DROP: &str = "{\"drop\": null}";

    fn dport(right: &str) -> String {
        format!(
            "{{\"match\": {{\"op\": \"==\", \"left\": {{\"payload\": {{\"protocol\": \"tcp\", \"field\": \"dport\"}}}}, \"right\": {right}}}}}"
        )
    }

    fn meta(key: &str, right: &str) -> String {
        format!(
            "{{\"match\": {{\"op\": \"==\", \"left\": {{\"meta\": {{\"key\": \"{key}\"}}}}, \"right\": \"{right}\"}}}}"
        )
    }

    #[test]
    fn a_policy_and_a_rule_that_drop_are_told_with_the_remedy() {
        assert_eq!(
            told(TOML, &ruleset("drop", &[])),
            [
                "later-drop: service ssh: what a grant lets in to tcp/22 is dropped all the same by chain input of table inet \
              filter (policy drop) -> [nftables] with table = \"inet filter\" and chain = \"input\""
            ]
        );
        assert_eq!(
            told(TOML, &ruleset("accept", &["{\"counter\": null}, {\"reject\": null}"])),
            [
                "later-drop: service ssh: what a grant lets in to tcp/22 is dropped all the same by chain input of table inet \
              filter (rule with handle 1) -> [nftables] with table = \"inet filter\" and chain = \"input\""
            ]
        );
    }

    #[test]
    fn tables_of_iptables_have_a_remedy_of_their_own() {
        let mut ruleset = ruleset("drop", &[]);
        ruleset["nftables"][0]["chain"]["family"] = "ip".into();
        assert_eq!(
            told(TOML, &ruleset),
            [
                "later-drop: service ssh: what a grant lets in to tcp/22 is dropped all the same by chain input of table ip \
              filter (policy drop) -> backends = [\"iptables\"], or accept tcp/22 in table ip filter"
            ]
        );
    }

    #[test]
    fn a_named_table_is_ours_and_must_be_there() {
        let named = format!("{TOML}[nftables]\ntable = \"inet filter\"\nchain = \"input\"\n");
        assert_eq!(told(&named, &ruleset("drop", &[])), Vec::<String>::new());
        assert_eq!(
            told(&named.replace("\"input\"", "\"inputs\""), &ruleset("accept", &[])),
            [
                "no-named-chain: there is no chain inputs in table inet filter: until there is, the own table inet spa hides \
              and opens -> load the host's ruleset, or correct [nftables]"
            ]
        );
        assert_eq!(
            told(&TOML.replace("nftables", "iptables"), &ruleset("drop", &[])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_door_that_the_host_opens_too_is_open() {
        let state = "{\"match\": {\"op\": \"in\", \"left\": {\"ct\": {\"key\": \"state\"}}, \"right\": [\"established\", \"related\"]}}";
        let source = "{\"match\": {\"op\": \"==\", \"left\": {\"payload\": {\"protocol\": \"ip\", \"field\": \"saddr\"}}, \"right\": \"10.0.0.1\"}}";
        let jump = "{\"jump\": {\"target\": \"user\"}}";
        let map = "{\"vmap\": {\"key\": {\"ct\": {\"key\": \"state\"}}, \"data\": {\"set\": [[\"new\", {\"accept\": null}]]}}}";
        let open = [
            vec![format!("{}, {ACCEPT}", dport("22"))],
            vec![format!("{}, {ACCEPT}", dport("{\"set\": [80, {\"range\": [20, 30]}]}"))],
            vec![format!("{}, {}, {ACCEPT}", meta("iifname", "eth0"), dport("22"))],
            vec![jump.to_owned(), format!("user: {}, {ACCEPT}", dport("22"))],
            vec![map.to_owned()],
        ];
        for rules in open {
            assert!(
                !is_dropped("drop", &rules.iter().map(String::as_str).collect::<Vec<_>>()),
                "{rules:?}"
            );
        }
        let shut = [
            vec![format!("{}, {ACCEPT}", dport("80"))],
            vec![format!("{state}, {ACCEPT}")],
            vec![format!("{}, {ACCEPT}", meta("iifname", "lo"))],
            vec![format!("{source}, {ACCEPT}")],
            vec![format!("{}, {ACCEPT}", meta("l4proto", "udp"))],
            vec![jump.to_owned(), format!("user: {}, {DROP}", dport("22"))],
            vec!["{\"xt\": null}, {\"accept\": null}".to_owned()],
        ];
        for rules in shut {
            assert!(
                is_dropped("drop", &rules.iter().map(String::as_str).collect::<Vec<_>>()),
                "{rules:?}"
            );
        }
        let harmless = [
            vec![format!("{source}, {DROP}")],
            vec![format!("{}, {DROP}", dport("80"))],
            vec!["{\"limit\": {\"rate\": 5}}, {\"drop\": null}".to_owned()],
            vec!["{\"return\": null}".to_owned(), DROP.to_owned()],
        ];
        for rules in harmless {
            assert!(
                !is_dropped("accept", &rules.iter().map(String::as_str).collect::<Vec<_>>()),
                "{rules:?}"
            );
        }
    }
}

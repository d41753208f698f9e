//! Finds who else would drop what is let through here: an accept in one table does not override a drop in another.
//!
//! The ruleset is read as nft writes it in JSON. A new connection from an address that nobody has written into a rule is
//! followed through every base chain that sees packets to this host; what cannot be told is taken for harmless.

use std::fmt;

use serde_json::Value;

use super::place::{OWN_TABLE, Place};
use super::tool;
use crate::backend::BackendError;
use crate::config::{BackendKind, Config, Finding, PortRange, Protocol};

/// Jumps deeper than the kernel allows are a loop.
const DEEPEST: usize = 16;

/// A finding for each service of nftables that another table would shut although granted.
///
/// # Errors
///
/// When the host's ruleset could not be read.
pub fn findings(config: &Config) -> Result<Vec<Finding>, BackendError> {
    if config
        .services
        .iter()
        .all(|service| !service.backends.contains(&BackendKind::Nftables))
    {
        return Ok(Vec::new());
    }
    let text = tool::ruleset()?;
    let ruleset = serde_json::from_str(&text).map_err(|error| super::fault(format!("nft -j list ruleset: {error}")))?;
    Ok(findings_in(config, &ruleset))
}

/// The same for a ruleset that was read already.
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
    Some(Finding::warning("no-named-chain", text).with_try("load the host's ruleset, or correct [nftables]"))
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
    Finding::warning("later-drop", text).with_try(remedy)
}

/// A base chain that drops, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dropped {
    family: String,
    table: String,
    chain: String,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Policy,
    /// The rule with this number.
    Rule(u64),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family, table, chain, ..
        } = self;
        write!(f, "chain {chain} of table {family} {table} (")?;
        match self.why {
            Why::Policy => f.write_str("policy drop)"),
            Why::Rule(handle) => write!(f, "rule with handle {handle})"),
        }
    }
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    GoesOn,
    Accepted,
    Dropped(u64),
}

/// Whether a rule is for the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// It depends on what a person chose on purpose: an interface, an own address. A door that is opened so is open.
    Chosen,
    /// It depends on who sends, or cannot be told.
    Unknown,
}

struct Ruleset<'a>(Vec<&'a Value>);

impl<'a> Ruleset<'a> {
    fn new(json: &'a Value) -> Self {
        Self(
            json["nftables"]
                .as_array()
                .map(|items| items.iter().collect())
                .unwrap_or_default(),
        )
    }

    fn all(&self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter_map(move |item| item.get(kind))
    }

    fn has(&self, family: &str, table: &str, chain: &str) -> bool {
        self.all("chain")
            .any(|found| found["family"] == family && found["table"] == table && found["name"] == chain)
    }

    /// The base chains for packets to this host that drop a new connection to the first of `ports`, or the last.
    fn drops(&self, config: &Config, ports: PortRange) -> Vec<Dropped> {
        let is_ours = |chain: &Value| {
            let own = config.nftables.as_ref().map_or(OWN_TABLE, |named| &named.table);
            chain["family"] == "inet" && (chain["table"] == own || chain["table"] == OWN_TABLE)
        };
        let families = ["inet", "ip", "ip6"];
        let base = self
            .all("chain")
            .filter(|chain| chain["hook"] == "input" && !is_ours(chain));
        let seen = base.filter(|chain| families.iter().any(|family| chain["family"] == *family));
        let packets = [ports.first, ports.last].map(|port| (ports.protocol, port));
        seen.filter_map(|chain| packets.iter().find_map(|packet| self.fate_in(chain, *packet)))
            .collect()
    }

    fn fate_in(&self, chain: &Value, packet: (Protocol, u16)) -> Option<Dropped> {
        let why = match self.walk(chain, packet, 0) {
            Fate::Dropped(handle) => Why::Rule(handle),
            Fate::GoesOn if chain["policy"] == "drop" => Why::Policy,
            Fate::GoesOn | Fate::Accepted => return None,
        };
        let text = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
        Some(Dropped {
            family: text("family"),
            table: text("table"),
            chain: text("name"),
            why,
        })
    }

    fn walk(&self, chain: &Value, packet: (Protocol, u16), depth: usize) -> Fate {
        let same = |rule: &&Value| {
            rule["family"] == chain["family"] && rule["table"] == chain["table"] && rule["chain"] == chain["name"]
        };
        if depth > DEEPEST {
            return Fate::GoesOn;
        }
        for rule in self.all("rule").filter(same) {
            match self.judge(chain, rule, packet, depth) {
                Step::Next => {}
                Step::Return => return Fate::GoesOn,
                Step::End(fate) => return fate,
            }
        }
        Fate::GoesOn
    }

    fn judge(&self, chain: &Value, rule: &Value, packet: (Protocol, u16), depth: usize) -> Step {
        let handle = rule["handle"].as_u64().unwrap_or(0);
        let mut all = Fit::Yes;
        for statement in rule["expr"].as_array().into_iter().flatten() {
            let statement = match statement.get("vmap") {
                Some(map) => match looked_up(map, packet) {
                    Some(verdict) => verdict,
                    None => return Step::Next,
                },
                None => statement,
            };
            match verdict(statement) {
                None => all = all.and(fit(statement, packet)),
                Some(Verdict::Accept) if matches!(all, Fit::Yes | Fit::Chosen) => return Step::End(Fate::Accepted),
                Some(Verdict::Drop) if all == Fit::Yes => return Step::End(Fate::Dropped(handle)),
                Some(Verdict::Return) if all == Fit::Yes => return Step::Return,
                Some(Verdict::Jump(name, goes)) if all == Fit::Yes || all == Fit::Chosen => {
                    return self.jump(chain, name, packet, depth, goes, all);
                }
                Some(_) => return Step::Next,
            }
            if all == Fit::No {
                return Step::Next;
            }
        }
        Step::Next
    }

    /// A chain that is reached on certain interfaces only may let in, but its drop is not everybody's.
    fn jump(&self, chain: &Value, name: &str, packet: (Protocol, u16), depth: usize, goes: bool, fit: Fit) -> Step {
        let same = |other: &&Value| {
            other["family"] == chain["family"] && other["table"] == chain["table"] && other["name"] == name
        };
        let fate = self
            .all("chain")
            .find(same)
            .map_or(Fate::GoesOn, |to| self.walk(to, packet, depth + 1));
        match (fate, fit) {
            (Fate::GoesOn, Fit::Yes) if goes => Step::Return,
            (Fate::GoesOn, _) | (Fate::Dropped(_), Fit::Chosen) => Step::Next,
            (fate, _) => Step::End(fate),
        }
    }
}

enum Step {
    Next,
    Return,
    End(Fate),
}

enum Verdict<'a> {
    Accept,
    Drop,
    Return,
    /// To this chain, and whether it never comes back.
    Jump(&'a str, bool),
}

fn verdict(statement: &Value) -> Option<Verdict<'_>> {
    let (name, value) = statement.as_object()?.iter().next()?;
    let target = || value["target"].as_str().unwrap_or_default();
    Some(match name.as_str() {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "return" => Verdict::Return,
        "jump" => Verdict::Jump(target(), false),
        "goto" => Verdict::Jump(target(), true),
        _ => return None,
    })
}

impl Fit {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Chosen, _) | (_, Self::Chosen) => Self::Chosen,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

/// Whether a statement that is no verdict lets the packet go on to the next.
fn fit(statement: &Value, packet: (Protocol, u16)) -> Fit {
    let Some(matched) = statement.get("match") else {
        // A limit decides by the moment, and what iptables-nft writes beside its own matches cannot be told.
        let is_plain = ["counter", "log", "comment", "mangle"]
            .iter()
            .any(|name| statement.get(*name).is_some());
        return if is_plain { Fit::Yes } else { Fit::Unknown };
    };
    let is_equal = match matched["op"].as_str() {
        Some("==" | "in") => true,
        Some("!=") => false,
        _ => return Fit::Unknown,
    };
    match compared(&matched["left"], &matched["right"], packet) {
        Some(Compared::Is(holds)) if holds == is_equal => Fit::Yes,
        Some(Compared::Is(_)) => Fit::No,
        Some(Compared::Chosen) => Fit::Chosen,
        None => Fit::Unknown,
    }
}

enum Compared {
    Is(bool),
    Chosen,
}

fn compared(left: &Value, right: &Value, (protocol, port): (Protocol, u16)) -> Option<Compared> {
    let name = protocol_name(protocol);
    if let Some(field) = left.get("payload") {
        return match (field["protocol"].as_str()?, field["field"].as_str()?) {
            ("th", "dport") => holds_port(right, port).map(Compared::Is),
            (of, "dport") if of == name => holds_port(right, port).map(Compared::Is),
            ("tcp" | "udp" | "sctp" | "dccp" | "icmp" | "icmpv6" | "igmp", _) if field["protocol"] != name => {
                Some(Compared::Is(false))
            }
            ("ip" | "ip6", "protocol" | "nexthdr") => holds_word(right, name).map(Compared::Is),
            ("ip" | "ip6", "daddr") => Some(Compared::Chosen),
            _ => None,
        };
    }
    if let Some(state) = left["ct"]["key"].as_str() {
        return (state == "state")
            .then(|| holds_word(right, "new").map(Compared::Is))
            .flatten();
    }
    match left["meta"]["key"].as_str()? {
        "l4proto" => holds_word(right, name).map(Compared::Is),
        "iif" | "iifname" if right == "lo" => Some(Compared::Is(false)),
        "iif" | "iifname" | "iifgroup" | "mark" | "nfproto" => Some(Compared::Chosen),
        _ => None,
    }
}

/// What a verdict map has for the packet.
fn looked_up(map: &Value, packet: (Protocol, u16)) -> Option<&Value> {
    let pairs = map["data"]["set"].as_array()?;
    let fits = |pair: &&Value| matches!(compared(&map["key"], &pair[0], packet), Some(Compared::Is(true)));
    pairs.iter().find(fits).map(|pair| &pair[1])
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// A number, a range, or a set of them; none for a named set, whose content is elsewhere.
fn holds_port(value: &Value, port: u16) -> Option<bool> {
    if let Some(range) = value["range"].as_array() {
        let ends = (range.first()?.as_u64()?, range.get(1)?.as_u64()?);
        return Some((ends.0..=ends.1).contains(&u64::from(port)));
    }
    match items(value) {
        Some(items) => Some(items.iter().any(|item| holds_port(item, port) == Some(true))),
        None => Some(value.as_u64()? == u64::from(port)),
    }
}

fn holds_word(value: &Value, word: &str) -> Option<bool> {
    match items(value) {
        Some(items) => Some(items.iter().any(|item| item == word)),
        None => Some(value.as_str().filter(|text| !text.starts_with('@'))? == word),
    }
}

fn items(value: &Value) -> Option<&Vec<Value>> {
    value["set"].as_array().or_else(|| value.as_array())
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

//! The text that nft is fed: pure functions of the plan.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::place::{CHAIN, OWN_HOOK, OWN_TABLE, Place, RAW};
use super::set::SetId;
use crate::backend::plan::{Guarded, Plan, step_by_step};
use crate::config::{AtEnd, PortRange};
use crate::netlink::{Element, Family};

/// As many as ipset's sets hold.
const CAPACITY: u32 = 262_144;
const INPUT_CHAIN: &str = "{ type filter hook input priority filter - 10; policy accept; }";
const RAW_CHAIN: &str = "{ type filter hook prerouting priority raw; policy accept; }";

/// What is to be done beside putting all of it there.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Chains of the own table that are there, but not in the right place of the kernel.
    pub misplaced: Vec<&'static str>,
    /// The jump is there already.
    pub has_jump: bool,
    /// Elements that go in together with the rules.
    pub seeds: Vec<(SetId, Element)>,
}

/// One transaction that makes everything as it should be, and touches no door that is open.
#[must_use]
pub fn script(place: &Place, plan: &Plan, sets: &BTreeSet<SetId>, work: &Work) -> String {
    let mut lines = vec![format!("add table inet {OWN_TABLE}")];
    for chain in &work.misplaced {
        lines.push(format!("flush chain inet {OWN_TABLE} {chain}"));
        lines.push(format!("delete chain inet {OWN_TABLE} {chain}"));
    }
    if place.is_own() {
        lines.push(format!("add chain {place} {OWN_HOOK} {INPUT_CHAIN}"));
    }
    lines.extend(sets.iter().map(|set| definition(place, set)));
    lines.extend(allowed(place, plan, sets));
    lines.extend(work.seeds.iter().map(|(set, element)| seed(place, set, element)));
    lines.extend(chain(place, CHAIN, "", rules(plan, sets)));
    if !work.has_jump {
        lines.push(format!("insert rule {place} {} {}", place.hook, jump()));
    }
    lines.extend(chain(&Place::own(), RAW, RAW_CHAIN, raw_rules(plan)));
    lines.join("\n") + "\n"
}

fn jump() -> String {
    format!("jump {CHAIN} comment \"spa-server\"")
}

fn chain(place: &Place, name: &str, hook: &str, rules: Vec<String>) -> Vec<String> {
    let head = format!("add chain {place} {name} {hook}").trim_end().to_owned();
    let rules = rules.into_iter().map(|rule| format!("add rule {place} {name} {rule}"));
    [head, format!("flush chain {place} {name}")]
        .into_iter()
        .chain(rules)
        .collect()
}

fn definition(place: &Place, set: &SetId) -> String {
    let kind = match set.family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    let name = set.name();
    format!("add set {place} {name} {{ type {kind}; flags timeout; size {CAPACITY}; }}")
}

/// The always-allow sets hold just what is always allowed.
fn allowed(place: &Place, plan: &Plan, sets: &BTreeSet<SetId>) -> Vec<String> {
    let own = sets.iter().filter(|set| set.is_allow());
    let emptied = own.map(|set| format!("flush set {place} {}", set.name()));
    let held = plan.always_allow.iter().map(|net| {
        let element = Element {
            net: *net,
            remaining: None,
        };
        seed(place, &SetId::of("allow", net), &element)
    });
    emptied.chain(held).collect()
}

fn seed(place: &Place, set: &SetId, element: &Element) -> String {
    let end = element
        .remaining
        .map_or(String::new(), |seconds| format!(" timeout {seconds}s"));
    let (name, address) = (set.name(), element.net.network());
    format!("add element {place} {name} {{ {address}{end} }}")
}

/// Makes the rules of one kind for one service and one range of its ports.
type Step = fn(&Plan, &BTreeSet<SetId>, &Guarded, &Judged) -> Vec<String>;

/// Packets that are judged: in one family or both, and the words that select them.
struct Judged {
    family: Option<Family>,
    words: String,
}

impl Judged {
    fn is_in(&self, family: Family) -> bool {
        self.family.is_none_or(|own| own == family)
    }
}

/// The rules of the own chain in their order.
#[must_use]
pub fn rules(plan: &Plan, sets: &BTreeSet<SetId>) -> Vec<String> {
    let mut rules = walk(plan, sets, &[loopback, established, always]);
    rules.extend(sets.iter().filter(|set| set.is_ban()).map(|set| banned(sets, set)));
    rules.extend(walk(plan, sets, &[granted, dropped]));
    rules
}

fn walk(plan: &Plan, sets: &BTreeSet<SetId>, steps: &[Step]) -> Vec<String> {
    step_by_step(steps, &plan.services.iter().collect::<Vec<_>>(), |step, service| {
        let judged = judged(service);
        judged
            .iter()
            .flat_map(|judged| step(plan, sets, service, judged))
            .collect()
    })
}

/// What of a service's packets is judged: all to its ports, or those to the own addresses it names.
fn judged(service: &Guarded) -> Vec<Judged> {
    let mut all = Vec::new();
    for ports in service.ports.iter().map(|ports| selector(*ports)) {
        if service.to.is_empty() {
            all.push(Judged {
                family: None,
                words: ports.clone(),
            });
        }
        all.extend(service.to.iter().map(|address| {
            let family = Family::of(&IpNet::from(*address));
            Judged {
                family: Some(family),
                words: format!("{} daddr {address} {ports}", protocol_of(family)),
            }
        }));
    }
    all
}

fn loopback(_: &Plan, _: &BTreeSet<SetId>, _: &Guarded, judged: &Judged) -> Vec<String> {
    vec![format!("iif lo {} accept", judged.words)]
}

/// Not related: a conntrack helper that a stranger talks into expecting a connection would open the port to him.
fn established(_: &Plan, _: &BTreeSet<SetId>, service: &Guarded, judged: &Judged) -> Vec<String> {
    let direction = match service.at_end {
        AtEnd::Keep => "",
        AtEnd::Cut => " ct direction original",
    };
    vec![format!("{} ct state established{direction} accept", judged.words)]
}

/// Each network is a rule of its own too, so that an emptied set shuts nobody out.
fn always(plan: &Plan, sets: &BTreeSet<SetId>, _: &Guarded, judged: &Judged) -> Vec<String> {
    let own = plan.always_allow.iter().filter(|net| judged.is_in(Family::of(net)));
    let own = own.map(|net| {
        let protocol = protocol_of(Family::of(net));
        format!("{protocol} saddr {net} {} accept", judged.words)
    });
    let held = sets
        .iter()
        .filter(|set| set.is_allow() && judged.is_in(set.family))
        .map(|set| from_set(set, judged));
    own.chain(held).collect()
}

fn granted(_: &Plan, sets: &BTreeSet<SetId>, service: &Guarded, judged: &Judged) -> Vec<String> {
    let own = sets
        .iter()
        .filter(|set| set.service == service.name && judged.is_in(set.family));
    own.map(|set| from_set(set, judged)).collect()
}

fn dropped(_: &Plan, _: &BTreeSet<SetId>, service: &Guarded, judged: &Judged) -> Vec<String> {
    if service.protect {
        vec![format!("{} drop", judged.words)]
    } else {
        Vec::new()
    }
}

fn from_set(set: &SetId, judged: &Judged) -> String {
    format!("{} @{} {} accept", source(set), set.name(), judged.words)
}

/// Whoever is shut out, whatever he comes for: but not what this host began itself, nor neighbour discovery, nor who is
/// always allowed, should somebody else have put him there.
fn banned(sets: &BTreeSet<SetId>, set: &SetId) -> String {
    let neighbours = match set.family {
        Family::V4 => "",
        Family::V6 => " meta l4proto != ipv6-icmp",
    };
    let allowed = sets
        .iter()
        .filter(|allow| allow.is_allow() && allow.family == set.family);
    let spared = allowed.fold(String::new(), |spared, allow| {
        format!("{spared} {} != @{}", source(allow), allow.name())
    });
    let (source, name) = (source(set), set.name());
    format!("iif != lo{neighbours} ct state new,invalid,untracked{spared} {source} @{name} drop")
}

/// What of a packet is looked up in a set.
fn source(set: &SetId) -> String {
    let protocol = protocol_of(set.family);
    if set.is_of_hosts() {
        format!("{protocol} saddr")
    } else {
        format!("{protocol} saddr & {}", set.mask())
    }
}

fn protocol_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn selector(ports: PortRange) -> String {
    let PortRange { protocol, first, last } = ports;
    if first == last {
        format!("{protocol} dport {first}")
    } else {
        format!("{protocol} dport {first}-{last}")
    }
}

/// Only what is for this host: without its entry, forwarded traffic to such a port would lose its NAT.
#[must_use]
pub fn raw_rules(plan: &Plan) -> Vec<String> {
    let ports = plan.knock_ports.iter();
    ports
        .map(|port| format!("fib daddr type local udp dport {port} notrack"))
        .collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::set::needed;
    use super::*;
    use crate::backend::plan::testing::{guarded, plan};
    use crate::config::Protocol;

    #[test]
    fn one_service_in_the_own_table() {
        let ssh = guarded("ssh", &[(Protocol::Tcp, 22, 22)]);
        let plan = plan(vec![ssh], &["192.0.2.0/28", "2001:db8::1/128"]);
        assert_snapshot!(script(&Place::own(), &plan, &needed(&plan), &Work::default()), @r#"
        add table inet spa
        add chain inet spa input { type filter hook input priority filter - 10; policy accept; }
        add set inet spa spa4-allow/28 { type ipv4_addr; flags timeout; size 262144; }
        add set inet spa spa4-allow { type ipv4_addr; flags timeout; size 262144; }
        add set inet spa spa4-ssh { type ipv4_addr; flags timeout; size 262144; }
        add set inet spa spa6-allow { type ipv6_addr; flags timeout; size 262144; }
        add set inet spa spa6-ssh { type ipv6_addr; flags timeout; size 262144; }
        flush set inet spa spa4-allow/28
        flush set inet spa spa4-allow
        flush set inet spa spa6-allow
        add element inet spa spa4-allow/28 { 192.0.2.0 }
        add element inet spa spa6-allow { 2001:db8::1 }
        add chain inet spa SPA
        flush chain inet spa SPA
        add rule inet spa SPA iif lo tcp dport 22 accept
        add rule inet spa SPA tcp dport 22 ct state established accept
        add rule inet spa SPA ip saddr 192.0.2.0/28 tcp dport 22 accept
        add rule inet spa SPA ip6 saddr 2001:db8::1/128 tcp dport 22 accept
        add rule inet spa SPA ip saddr & 255.255.255.240 @spa4-allow/28 tcp dport 22 accept
        add rule inet spa SPA ip saddr @spa4-allow tcp dport 22 accept
        add rule inet spa SPA ip6 saddr @spa6-allow tcp dport 22 accept
        add rule inet spa SPA ip saddr @spa4-ssh tcp dport 22 accept
        add rule inet spa SPA ip6 saddr @spa6-ssh tcp dport 22 accept
        add rule inet spa SPA tcp dport 22 drop
        insert rule inet spa input jump SPA comment "spa-server"
        add chain inet spa raw { type filter hook prerouting priority raw; policy accept; }
        flush chain inet spa raw
        add rule inet spa raw fib daddr type local udp dport 62201 notrack
        add rule inet spa raw fib daddr type local udp dport 62202 notrack
        "#);
    }

    #[test]
    fn a_named_table_that_was_settled_before() {
        let place = Place {
            table: "filter".into(),
            hook: "input".into(),
        };
        let plan = plan(vec![guarded("ssh", &[(Protocol::Tcp, 22, 22)])], &[]);
        let guest = Element {
            net: "203.0.113.5/32".parse().unwrap(),
            remaining: Some(60),
        };
        let work = Work {
            misplaced: vec![RAW],
            has_jump: true,
            seeds: vec![(SetId::of("ssh", &guest.net), guest)],
        };
        assert_snapshot!(script(&place, &plan, &needed(&plan), &work), @r#"
        add table inet spa
        flush chain inet spa raw
        delete chain inet spa raw
        add set inet filter spa4-allow { type ipv4_addr; flags timeout; size 262144; }
        add set inet filter spa4-ssh { type ipv4_addr; flags timeout; size 262144; }
        add set inet filter spa6-allow { type ipv6_addr; flags timeout; size 262144; }
        add set inet filter spa6-ssh { type ipv6_addr; flags timeout; size 262144; }
        flush set inet filter spa4-allow
        flush set inet filter spa6-allow
        add element inet filter spa4-ssh { 203.0.113.5 timeout 60s }
        add chain inet filter SPA
        flush chain inet filter SPA
        add rule inet filter SPA iif lo tcp dport 22 accept
        add rule inet filter SPA tcp dport 22 ct state established accept
        add rule inet filter SPA ip saddr @spa4-allow tcp dport 22 accept
        add rule inet filter SPA ip6 saddr @spa6-allow tcp dport 22 accept
        add rule inet filter SPA ip saddr @spa4-ssh tcp dport 22 accept
        add rule inet filter SPA ip6 saddr @spa6-ssh tcp dport 22 accept
        add rule inet filter SPA tcp dport 22 drop
        add chain inet spa raw { type filter hook prerouting priority raw; policy accept; }
        flush chain inet spa raw
        add rule inet spa raw fib daddr type local udp dport 62201 notrack
        add rule inet spa raw fib daddr type local udp dport 62202 notrack
        "#);
    }

    #[test]
    fn several_services_and_lengths_step_by_step() {
        let mut watch = guarded("watch", &[(Protocol::Tcp, 443, 443), (Protocol::Udp, 60000, 61000)]);
        watch.protect = false;
        let mut db = guarded("db", &[(Protocol::Tcp, 5432, 5432)]);
        db.at_end = AtEnd::Cut;
        let plan = plan(vec![watch, db], &[]);
        let mut sets = needed(&plan);
        sets.extend(["192.0.2.0/24", "2001:db8::/64"].map(|net| SetId::of("db", &net.parse().unwrap())));
        assert_snapshot!(rules(&plan, &sets).join("\n"), @r#"
        iif lo tcp dport 443 accept
        iif lo udp dport 60000-61000 accept
        iif lo tcp dport 5432 accept
        tcp dport 443 ct state established accept
        udp dport 60000-61000 ct state established accept
        tcp dport 5432 ct state established ct direction original accept
        ip saddr @spa4-allow tcp dport 443 accept
        ip6 saddr @spa6-allow tcp dport 443 accept
        ip saddr @spa4-allow udp dport 60000-61000 accept
        ip6 saddr @spa6-allow udp dport 60000-61000 accept
        ip saddr @spa4-allow tcp dport 5432 accept
        ip6 saddr @spa6-allow tcp dport 5432 accept
        ip saddr @spa4-watch tcp dport 443 accept
        ip6 saddr @spa6-watch tcp dport 443 accept
        ip saddr @spa4-watch udp dport 60000-61000 accept
        ip6 saddr @spa6-watch udp dport 60000-61000 accept
        ip saddr & 255.255.255.0 @spa4-db/24 tcp dport 5432 accept
        ip saddr @spa4-db tcp dport 5432 accept
        ip6 saddr & ffff:ffff:ffff:ffff:: @spa6-db/64 tcp dport 5432 accept
        ip6 saddr @spa6-db tcp dport 5432 accept
        tcp dport 5432 drop
        "#);
    }

    #[test]
    fn who_is_shut_out_comes_behind_always_allow_and_before_grants() {
        let ssh = guarded("ssh", &[(Protocol::Tcp, 22, 22)]);
        let plan = Plan {
            bans: true,
            ..plan(vec![ssh], &["192.0.2.0/28", "2001:db8::1/128"])
        };
        assert_snapshot!(rules(&plan, &needed(&plan)).join("\n"), @r#"
        iif lo tcp dport 22 accept
        tcp dport 22 ct state established accept
        ip saddr 192.0.2.0/28 tcp dport 22 accept
        ip6 saddr 2001:db8::1/128 tcp dport 22 accept
        ip saddr & 255.255.255.240 @spa4-allow/28 tcp dport 22 accept
        ip saddr @spa4-allow tcp dport 22 accept
        ip6 saddr @spa6-allow tcp dport 22 accept
        iif != lo ct state new,invalid,untracked ip saddr & 255.255.255.240 != @spa4-allow/28 ip saddr != @spa4-allow ip saddr @spa4-ban drop
        iif != lo meta l4proto != ipv6-icmp ct state new,invalid,untracked ip6 saddr != @spa6-allow ip6 saddr & ffff:ffff:ffff:ffff:: @spa6-ban/64 drop
        iif != lo meta l4proto != ipv6-icmp ct state new,invalid,untracked ip6 saddr != @spa6-allow ip6 saddr @spa6-ban drop
        ip saddr @spa4-ssh tcp dport 22 accept
        ip6 saddr @spa6-ssh tcp dport 22 accept
        tcp dport 22 drop
        "#);
    }

    #[test]
    fn own_addresses_are_judged_in_their_family() {
        let mut ssh = guarded("ssh", &[(Protocol::Tcp, 22, 22)]);
        ssh.to = vec!["192.0.2.1".parse().unwrap()];
        let plan = plan(vec![ssh], &["198.51.100.0/24", "2001:db8::1/128"]);
        assert_snapshot!(rules(&plan, &needed(&plan)).join("\n"), @r#"
        iif lo ip daddr 192.0.2.1 tcp dport 22 accept
        ip daddr 192.0.2.1 tcp dport 22 ct state established accept
        ip saddr 198.51.100.0/24 ip daddr 192.0.2.1 tcp dport 22 accept
        ip saddr & 255.255.255.0 @spa4-allow/24 ip daddr 192.0.2.1 tcp dport 22 accept
        ip saddr @spa4-allow ip daddr 192.0.2.1 tcp dport 22 accept
        ip saddr @spa4-ssh ip daddr 192.0.2.1 tcp dport 22 accept
        ip daddr 192.0.2.1 tcp dport 22 drop
        "#);
    }
}

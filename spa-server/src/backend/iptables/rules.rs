//! The text that iptables-restore is fed: pure functions of the plan.

use super::table::{CHAIN, Table};
use crate::backend::plan::{Guarded, Plan, allow_set, set_name};
use crate::config::{AtEnd, PortRange, Protocol};
use crate::netlink::Family;

/// The rules of the own chain in `table`, in order, each without `-A SPA`.
#[must_use]
pub fn rules(plan: &Plan, table: Table, family: Family) -> Vec<String> {
    match table {
        Table::Filter => filter(plan, family),
        Table::Raw => plan.knock_ports.iter().map(|port| notrack(*port)).collect(),
    }
}

/// What replaces the chain by `rules` in one transaction, and makes of `jumps` jumps exactly one.
///
/// With --noflush a line `:SPA` empties this one chain and touches no other.
#[must_use]
pub fn restore(table: Table, rules: &[String], jumps: usize) -> String {
    let hook = table.hook();
    let mut lines = vec![format!("*{}", table.name()), format!(":{CHAIN} - [0:0]")];
    lines.extend(rules.iter().map(|rule| format!("-A {CHAIN} {rule}")));
    if jumps > 1 {
        // By text and not by number: between reading and writing somebody else's rule may have got that number.
        lines.extend(std::iter::repeat_n(format!("-D {hook} -j {CHAIN}"), jumps));
    }
    if jumps != 1 {
        lines.push(format!("-I {hook} 1 -j {CHAIN}"));
    }
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

/// What takes the chain away with all that leads to it, given as lines of iptables-save.
#[must_use]
pub fn removal(table: Table, has_chain: bool, references: &[String]) -> String {
    let mut lines = vec![format!("*{}", table.name())];
    lines.extend(
        references
            .iter()
            .filter_map(|line| Some(format!("-D {}", line.strip_prefix("-A ")?))),
    );
    if has_chain {
        lines.extend([format!("-F {CHAIN}"), format!("-X {CHAIN}")]);
    }
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

/// Makes the rules of one kind for one service and one range of its ports.
type Step = fn(&Plan, Family, &Guarded, &str) -> Vec<String>;

/// Step by step over all services, not service by service: where two share a port, the drop of the one must not come
/// before the grants of the other.
fn filter(plan: &Plan, family: Family) -> Vec<String> {
    let steps: [Step; 5] = [loopback, established, allowed, granted, dropped];
    let mut rules: Vec<String> = Vec::new();
    for step in steps {
        for service in &plan.services {
            for ports in &service.ports {
                let made = step(plan, family, service, &selector(*ports));
                // Two services on one port share what does not depend on the service.
                rules.extend(
                    made.into_iter()
                        .filter(|rule| !rules.contains(rule))
                        .collect::<Vec<_>>(),
                );
            }
        }
    }
    rules
}

fn loopback(_: &Plan, _: Family, _: &Guarded, ports: &str) -> Vec<String> {
    vec![format!("-i lo {ports} -j ACCEPT")]
}

/// Not RELATED: a conntrack helper that a stranger talks into expecting a connection would open the port to him.
fn established(_: &Plan, _: Family, service: &Guarded, ports: &str) -> Vec<String> {
    let direction = match service.at_end {
        AtEnd::Keep => "",
        AtEnd::Cut => " --ctdir ORIGINAL",
    };
    vec![format!(
        "{ports} -m conntrack --ctstate ESTABLISHED{direction} -j ACCEPT"
    )]
}

/// Each network is a rule of its own too, so that an emptied set shuts nobody out.
fn allowed(plan: &Plan, family: Family, _: &Guarded, ports: &str) -> Vec<String> {
    let own = plan.allowed(family).map(|net| format!("-s {net} {ports} -j ACCEPT"));
    own.chain(std::iter::once(from_set(&allow_set(family), ports)))
        .collect()
}

fn granted(_: &Plan, family: Family, service: &Guarded, ports: &str) -> Vec<String> {
    vec![from_set(&set_name(family, &service.name), ports)]
}

fn dropped(_: &Plan, _: Family, service: &Guarded, ports: &str) -> Vec<String> {
    if service.protect {
        vec![format!("{ports} -j DROP")]
    } else {
        Vec::new()
    }
}

fn from_set(set: &str, ports: &str) -> String {
    format!("{ports} -m set --match-set {set} src -j ACCEPT")
}

fn selector(ports: PortRange) -> String {
    let protocol = match ports.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let PortRange { first, last, .. } = ports;
    let range = if first == last {
        first.to_string()
    } else {
        format!("{first}:{last}")
    };
    format!("-p {protocol} -m {protocol} --dport {range}")
}

/// Only what is for this host: without its entry, forwarded traffic to such a port would lose its NAT.
fn notrack(port: u16) -> String {
    format!("-p udp -m udp --dport {port} -m addrtype --dst-type LOCAL -j CT --notrack")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn guarded(name: &str, ports: &[(Protocol, u16, u16)]) -> Guarded {
        let ports = ports.iter().map(|(protocol, first, last)| PortRange {
            protocol: *protocol,
            first: *first,
            last: *last,
        });
        Guarded {
            name: name.into(),
            ports: ports.collect(),
            protect: true,
            at_end: AtEnd::Keep,
        }
    }

    fn plan(services: Vec<Guarded>, always_allow: &[&str]) -> Plan {
        let always_allow = always_allow.iter().map(|net| net.parse().unwrap()).collect();
        Plan {
            services,
            always_allow,
            knock_ports: vec![62201, 62202],
        }
    }

    fn text(plan: &Plan, table: Table, family: Family, jumps: usize) -> String {
        restore(table, &rules(plan, table, family), jumps)
    }

    #[test]
    fn one_service() {
        let plan = plan(
            vec![guarded("ssh", &[(Protocol::Tcp, 22, 22)])],
            &["192.0.2.0/28", "2001:db8::/32"],
        );
        assert_snapshot!(text(&plan, Table::Filter, Family::V4, 0), @r"
        *filter
        :SPA - [0:0]
        -A SPA -i lo -p tcp -m tcp --dport 22 -j ACCEPT
        -A SPA -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -A SPA -s 192.0.2.0/28 -p tcp -m tcp --dport 22 -j ACCEPT
        -A SPA -p tcp -m tcp --dport 22 -m set --match-set spa4-allow src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 22 -m set --match-set spa4-ssh src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 22 -j DROP
        -I INPUT 1 -j SPA
        COMMIT
        ");
        assert_snapshot!(text(&plan, Table::Filter, Family::V6, 1), @r"
        *filter
        :SPA - [0:0]
        -A SPA -i lo -p tcp -m tcp --dport 22 -j ACCEPT
        -A SPA -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -A SPA -s 2001:db8::/32 -p tcp -m tcp --dport 22 -j ACCEPT
        -A SPA -p tcp -m tcp --dport 22 -m set --match-set spa6-allow src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 22 -m set --match-set spa6-ssh src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 22 -j DROP
        COMMIT
        ");
    }

    #[test]
    fn several_services_step_by_step() {
        let mut watch = guarded("watch", &[(Protocol::Tcp, 443, 443), (Protocol::Udp, 60000, 61000)]);
        watch.protect = false;
        let mut db = guarded("db", &[(Protocol::Tcp, 5432, 5432)]);
        db.at_end = AtEnd::Cut;
        let shared = guarded("admin", &[(Protocol::Tcp, 443, 443)]);
        assert_snapshot!(text(&plan(vec![watch, db, shared], &[]), Table::Filter, Family::V4, 1), @r"
        *filter
        :SPA - [0:0]
        -A SPA -i lo -p tcp -m tcp --dport 443 -j ACCEPT
        -A SPA -i lo -p udp -m udp --dport 60000:61000 -j ACCEPT
        -A SPA -i lo -p tcp -m tcp --dport 5432 -j ACCEPT
        -A SPA -p tcp -m tcp --dport 443 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -A SPA -p udp -m udp --dport 60000:61000 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -A SPA -p tcp -m tcp --dport 5432 -m conntrack --ctstate ESTABLISHED --ctdir ORIGINAL -j ACCEPT
        -A SPA -p tcp -m tcp --dport 443 -m set --match-set spa4-allow src -j ACCEPT
        -A SPA -p udp -m udp --dport 60000:61000 -m set --match-set spa4-allow src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 5432 -m set --match-set spa4-allow src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 443 -m set --match-set spa4-watch src -j ACCEPT
        -A SPA -p udp -m udp --dport 60000:61000 -m set --match-set spa4-watch src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 5432 -m set --match-set spa4-db src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 443 -m set --match-set spa4-admin src -j ACCEPT
        -A SPA -p tcp -m tcp --dport 5432 -j DROP
        -A SPA -p tcp -m tcp --dport 443 -j DROP
        COMMIT
        ");
    }

    #[test]
    fn many_always_allowed() {
        let nets = ["192.0.2.0/28", "198.51.100.7/32", "203.0.113.0/24", "2001:db8::1/128"];
        let plan = plan(vec![guarded("ssh", &[(Protocol::Tcp, 22, 22)])], &nets);
        assert_snapshot!(rules(&plan, Table::Filter, Family::V4).join("\n"), @r"
        -i lo -p tcp -m tcp --dport 22 -j ACCEPT
        -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -s 192.0.2.0/28 -p tcp -m tcp --dport 22 -j ACCEPT
        -s 198.51.100.7/32 -p tcp -m tcp --dport 22 -j ACCEPT
        -s 203.0.113.0/24 -p tcp -m tcp --dport 22 -j ACCEPT
        -p tcp -m tcp --dport 22 -m set --match-set spa4-allow src -j ACCEPT
        -p tcp -m tcp --dport 22 -m set --match-set spa4-ssh src -j ACCEPT
        -p tcp -m tcp --dport 22 -j DROP
        ");
    }

    #[test]
    fn knock_ports() {
        assert_snapshot!(text(&plan(vec![], &[]), Table::Raw, Family::V4, 0), @r"
        *raw
        :SPA - [0:0]
        -A SPA -p udp -m udp --dport 62201 -m addrtype --dst-type LOCAL -j CT --notrack
        -A SPA -p udp -m udp --dport 62202 -m addrtype --dst-type LOCAL -j CT --notrack
        -I PREROUTING 1 -j SPA
        COMMIT
        ");
        let v6 = text(&plan(vec![], &[]), Table::Raw, Family::V6, 0);
        assert_eq!(text(&plan(vec![], &[]), Table::Raw, Family::V4, 0), v6);
    }

    #[test]
    fn duplicate_jumps_become_one() {
        assert_snapshot!(restore(Table::Filter, &[], 2), @r"
        *filter
        :SPA - [0:0]
        -D INPUT -j SPA
        -D INPUT -j SPA
        -I INPUT 1 -j SPA
        COMMIT
        ");
    }

    #[test]
    fn removal_of_all_that_is_ours() {
        let references = ["-A INPUT -j SPA".to_owned(), "-A FORWARD -i eth0 -j SPA".to_owned()];
        assert_snapshot!(removal(Table::Filter, true, &references), @r"
        *filter
        -D INPUT -j SPA
        -D FORWARD -i eth0 -j SPA
        -F SPA
        -X SPA
        COMMIT
        ");
    }
}

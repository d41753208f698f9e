//! The text that iptables-restore is fed: pure functions of the plan.

use super::found::Found;
use super::place::Place;
use super::plan::{BANNED, Guarded, Plan, allow_set, ban_set, chain_name, set_name, step_by_step};
use crate::config::{AtEnd, PortRange};
use crate::netlink::Family;

/// What holds those who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// A set of ipset for each service, whose elements end by themselves.
    Sets,
    /// A chain for each service, with a rule for each grant. Nothing ends by itself.
    Rules,
}

/// The rules of the own chain at `place`, in order, each without `-A CHAIN`.
#[must_use]
pub fn rules(plan: &Plan, place: Place, family: Family, keeping: Keeping) -> Vec<String> {
    let scene = Scene {
        plan,
        place,
        family,
        keeping,
    };
    match place {
        Place::Raw => plan.knock_ports.iter().map(|port| notrack(*port)).collect(),
        Place::Input | Place::Forward | Place::DockerUser => scene.filter(),
    }
}

/// What replaces the chain by `rules` in one transaction, and makes of the jumps found exactly one, if there is a chain
/// to jump from.
///
/// With --noflush a line `:SPA` empties this one chain and touches no other.
#[must_use]
pub fn restore(place: Place, rules: &[String], found: &Found) -> String {
    let (hook, chain) = (place.hook(), place.chain());
    let mut lines = vec![format!("*{}", place.table()), format!(":{chain} - [0:0]")];
    lines.extend(rules.iter().map(|rule| format!("-A {chain} {rule}")));
    if found.jumps > 1 {
        // By text and not by number: between reading and writing somebody else's rule may have got that number.
        lines.extend(std::iter::repeat_n(format!("-D {hook} -j {chain}"), found.jumps));
    }
    if found.jumps != 1 && found.has_hook {
        lines.push(format!("-I {hook} 1 -j {chain}"));
    }
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

/// What takes the chain away with all that leads to it.
#[must_use]
pub fn removal(place: Place, found: &Found) -> String {
    let chain = place.chain();
    let mut lines = vec![format!("*{}", place.table())];
    let leading = found.references.iter();
    lines.extend(leading.filter_map(|line| Some(format!("-D {}", line.strip_prefix("-A ")?))));
    if found.chain.is_some() {
        lines.extend([format!("-F {chain}"), format!("-X {chain}")]);
    }
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

/// What all rules of one chain follow from.
#[derive(Clone, Copy)]
struct Scene<'a> {
    plan: &'a Plan,
    place: Place,
    family: Family,
    keeping: Keeping,
}

/// Makes the rules of one kind for one service and what selects some of its packets.
type Step = fn(Scene<'_>, &Guarded, &str) -> Vec<String>;

impl Scene<'_> {
    fn filter(self) -> Vec<String> {
        let mut rules = self.walk(&[loopback, established, allowed]);
        rules.extend(self.plan.bans.then(|| self.banned()));
        rules.extend(self.walk(&[granted, otherwise]));
        rules
    }

    fn walk(self, steps: &[Step]) -> Vec<String> {
        let services: Vec<&Guarded> = self.plan.services_at(self.place).collect();
        step_by_step(steps, &services, |step, service| {
            let selectors = self.selectors(service);
            selectors
                .iter()
                .flat_map(|packets| step(self, service, packets))
                .collect()
        })
    }

    /// Whoever is shut out, whatever he comes for: but not what this host began itself, nor neighbour discovery, nor
    /// who is always allowed, should somebody else have put him there. Through this host only to published ports.
    fn banned(self) -> String {
        let (family, mut packets) = (self.family, String::from("! -i lo"));
        if family == Family::V6 {
            packets += " ! -p ipv6-icmp";
        }
        if self.place.is_forwarded() {
            packets += " -m conntrack --ctstate DNAT --ctdir ORIGINAL";
        }
        packets += " -m conntrack ! --ctstate RELATED,ESTABLISHED";
        match self.keeping {
            Keeping::Sets => {
                let (allow, ban) = (allow_set(family), ban_set(family));
                format!("{packets} -m set ! --match-set {allow} src -m set --match-set {ban} src -j DROP")
            }
            Keeping::Rules => format!("{packets} -j {}", chain_name(BANNED)),
        }
    }

    /// What matches the packets of a service: each destination with each range of ports.
    fn selectors(self, service: &Guarded) -> Vec<String> {
        let mut selectors = Vec::new();
        for destination in service.destinations(self.family) {
            let (option, address) = match destination {
                None => ("", String::new()),
                Some(address) if self.place.is_forwarded() => ("--ctorigdst ", format!("{address} ")),
                Some(address) => ("-d ", format!("{address}/{} ", self.family.bits())),
            };
            let to = format!("{option}{address}");
            selectors.extend(service.ports.iter().map(|ports| self.selector(&to, *ports)));
        }
        selectors
    }

    /// A packet on its way to a container carries the inside address and port; only conntrack knows what it came for.
    fn selector(self, to: &str, ports: PortRange) -> String {
        let (protocol, range) = (ports.protocol, range(ports));
        if self.place.is_forwarded() {
            format!("-p {protocol} -m conntrack {to}--ctorigdstport {range} --ctdir ORIGINAL")
        } else {
            format!("{to}-p {protocol} -m {protocol} --dport {range}")
        }
    }

    /// Through this host goes also what nobody publishes, a container that calls port 443 of the world: it has no DNAT.
    fn stranger(self, packets: &str) -> String {
        if self.place.is_forwarded() {
            format!("{packets} -m conntrack --ctstate DNAT")
        } else {
            packets.to_owned()
        }
    }

    fn in_set(self, set: &str, packets: &str) -> String {
        let verdict = self.place.verdict();
        format!("{packets} -m set --match-set {set} src -j {verdict}")
    }
}

fn loopback(scene: Scene<'_>, _: &Guarded, packets: &str) -> Vec<String> {
    vec![format!("-i lo {packets} -j {}", scene.place.verdict())]
}

/// Not RELATED: a conntrack helper that a stranger talks into expecting a connection would open the port to him.
fn established(scene: Scene<'_>, service: &Guarded, packets: &str) -> Vec<String> {
    let direction = match service.at_end {
        AtEnd::Cut if !scene.place.is_forwarded() => " --ctdir ORIGINAL",
        // Forwarded packets are selected by their direction anyway.
        AtEnd::Keep | AtEnd::Cut => "",
    };
    let verdict = scene.place.verdict();
    vec![format!(
        "{packets} -m conntrack --ctstate ESTABLISHED{direction} -j {verdict}"
    )]
}

/// Each network is a rule of its own too, so that an emptied set shuts nobody out.
fn allowed(scene: Scene<'_>, _: &Guarded, packets: &str) -> Vec<String> {
    let verdict = scene.place.verdict();
    let networks = scene.plan.allowed(scene.family);
    let mut rules: Vec<String> = networks.map(|net| format!("-s {net} {packets} -j {verdict}")).collect();
    if scene.keeping == Keeping::Sets {
        rules.push(scene.in_set(&allow_set(scene.family), packets));
    }
    rules
}

fn granted(scene: Scene<'_>, service: &Guarded, packets: &str) -> Vec<String> {
    match scene.keeping {
        Keeping::Sets => vec![scene.in_set(&set_name(scene.family, &service.name), packets)],
        Keeping::Rules => Vec::new(),
    }
}

/// What becomes of all others. A chain of grants is gone to, not jumped to: a RETURN in it then leaves the own chain.
fn otherwise(scene: Scene<'_>, service: &Guarded, packets: &str) -> Vec<String> {
    let strangers = scene.stranger(packets);
    match scene.keeping {
        Keeping::Rules => vec![format!("{strangers} -g {}", chain_name(&service.name))],
        Keeping::Sets if service.protect => vec![format!("{strangers} -j DROP")],
        Keeping::Sets => Vec::new(),
    }
}

fn range(PortRange { first, last, .. }: PortRange) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}:{last}")
    }
}

/// Only what is for this host: without its entry, forwarded traffic to such a port would lose its NAT.
fn notrack(port: u16) -> String {
    format!("-p udp -m udp --dport {port} -m addrtype --dst-type LOCAL -j CT --notrack")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::backend::plan::testing::{guarded, plan};
    use crate::config::{Chain, Protocol};

    fn text(plan: &Plan, place: Place, family: Family, jumps: usize) -> String {
        restore(place, &rules(plan, place, family, Keeping::Sets), &found(jumps))
    }

    fn found(jumps: usize) -> Found {
        Found {
            jumps,
            has_hook: true,
            ..Found::default()
        }
    }

    fn published(chain: Chain, to: &[&str]) -> Plan {
        let to = to.iter().map(|address| address.parse().unwrap()).collect();
        let web = guarded("web", &[(Protocol::Tcp, 8080, 8081), (Protocol::Udp, 53, 53)]);
        plan(vec![Guarded { chain, to, ..web }], &["192.0.2.0/28"])
    }

    #[test]
    fn one_service() {
        let plan = plan(
            vec![guarded("ssh", &[(Protocol::Tcp, 22, 22)])],
            &["192.0.2.0/28", "2001:db8::/32"],
        );
        assert_snapshot!(text(&plan, Place::Input, Family::V4, 0), @r"
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
        assert_snapshot!(text(&plan, Place::Input, Family::V6, 1), @r"
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
    fn who_is_shut_out_comes_behind_always_allow_and_before_grants() {
        let plan = Plan {
            bans: true,
            ..plan(vec![guarded("ssh", &[(Protocol::Tcp, 22, 22)])], &["192.0.2.0/28"])
        };
        assert_snapshot!(rules(&plan, Place::Input, Family::V4, Keeping::Sets).join("\n"), @r#"
        -i lo -p tcp -m tcp --dport 22 -j ACCEPT
        -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -s 192.0.2.0/28 -p tcp -m tcp --dport 22 -j ACCEPT
        -p tcp -m tcp --dport 22 -m set --match-set spa4-allow src -j ACCEPT
        ! -i lo -m conntrack ! --ctstate RELATED,ESTABLISHED -m set ! --match-set spa4-allow src -m set --match-set spa4-ban src -j DROP
        -p tcp -m tcp --dport 22 -m set --match-set spa4-ssh src -j ACCEPT
        -p tcp -m tcp --dport 22 -j DROP
        "#);
        assert_snapshot!(rules(&plan, Place::Input, Family::V6, Keeping::Rules).join("\n"), @r#"
        -i lo -p tcp -m tcp --dport 22 -j ACCEPT
        -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        ! -i lo ! -p ipv6-icmp -m conntrack ! --ctstate RELATED,ESTABLISHED -j SPA-ban
        -p tcp -m tcp --dport 22 -g SPA-ssh
        "#);
        assert_snapshot!(rules(&plan, Place::Forward, Family::V4, Keeping::Sets).join("\n"), @"! -i lo -m conntrack --ctstate DNAT --ctdir ORIGINAL -m conntrack ! --ctstate RELATED,ESTABLISHED -m set ! --match-set spa4-allow src -m set --match-set spa4-ban src -j DROP");
        assert_eq!(rules(&plan, Place::DockerUser, Family::V6, Keeping::Sets).len(), 1);
    }

    #[test]
    fn several_services_step_by_step() {
        let mut watch = guarded("watch", &[(Protocol::Tcp, 443, 443), (Protocol::Udp, 60000, 61000)]);
        watch.protect = false;
        let mut db = guarded("db", &[(Protocol::Tcp, 5432, 5432)]);
        db.at_end = AtEnd::Cut;
        let shared = guarded("admin", &[(Protocol::Tcp, 443, 443)]);
        assert_snapshot!(text(&plan(vec![watch, db, shared], &[]), Place::Input, Family::V4, 1), @r"
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
        assert_snapshot!(rules(&plan, Place::Input, Family::V4, Keeping::Sets).join("\n"), @r"
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
        assert_snapshot!(text(&plan(vec![], &[]), Place::Raw, Family::V4, 0), @r"
        *raw
        :SPA - [0:0]
        -A SPA -p udp -m udp --dport 62201 -m addrtype --dst-type LOCAL -j CT --notrack
        -A SPA -p udp -m udp --dport 62202 -m addrtype --dst-type LOCAL -j CT --notrack
        -I PREROUTING 1 -j SPA
        COMMIT
        ");
        let v6 = text(&plan(vec![], &[]), Place::Raw, Family::V6, 0);
        assert_eq!(text(&plan(vec![], &[]), Place::Raw, Family::V4, 0), v6);
    }

    #[test]
    fn published_ports_are_judged_by_what_they_were_called() {
        assert_snapshot!(text(&published(Chain::Forward, &[]), Place::Forward, Family::V4, 0), @r"
        *filter
        :SPA-FORWARD - [0:0]
        -A SPA-FORWARD -i lo -p tcp -m conntrack --ctorigdstport 8080:8081 --ctdir ORIGINAL -j RETURN
        -A SPA-FORWARD -i lo -p udp -m conntrack --ctorigdstport 53 --ctdir ORIGINAL -j RETURN
        -A SPA-FORWARD -p tcp -m conntrack --ctorigdstport 8080:8081 --ctdir ORIGINAL -m conntrack --ctstate ESTABLISHED -j RETURN
        -A SPA-FORWARD -p udp -m conntrack --ctorigdstport 53 --ctdir ORIGINAL -m conntrack --ctstate ESTABLISHED -j RETURN
        -A SPA-FORWARD -s 192.0.2.0/28 -p tcp -m conntrack --ctorigdstport 8080:8081 --ctdir ORIGINAL -j RETURN
        -A SPA-FORWARD -p tcp -m conntrack --ctorigdstport 8080:8081 --ctdir ORIGINAL -m set --match-set spa4-allow src -j RETURN
        -A SPA-FORWARD -s 192.0.2.0/28 -p udp -m conntrack --ctorigdstport 53 --ctdir ORIGINAL -j RETURN
        -A SPA-FORWARD -p udp -m conntrack --ctorigdstport 53 --ctdir ORIGINAL -m set --match-set spa4-allow src -j RETURN
        -A SPA-FORWARD -p tcp -m conntrack --ctorigdstport 8080:8081 --ctdir ORIGINAL -m set --match-set spa4-web src -j RETURN
        -A SPA-FORWARD -p udp -m conntrack --ctorigdstport 53 --ctdir ORIGINAL -m set --match-set spa4-web src -j RETURN
        -A SPA-FORWARD -p tcp -m conntrack --ctorigdstport 8080:8081 --ctdir ORIGINAL -m conntrack --ctstate DNAT -j DROP
        -A SPA-FORWARD -p udp -m conntrack --ctorigdstport 53 --ctdir ORIGINAL -m conntrack --ctstate DNAT -j DROP
        -I FORWARD 1 -j SPA-FORWARD
        COMMIT
        ");
        assert_snapshot!(text(&published(Chain::DockerUser, &["2001:db8::1"]), Place::DockerUser, Family::V6, 0), @r"
        *filter
        :SPA-DOCKER-USER - [0:0]
        -A SPA-DOCKER-USER -i lo -p tcp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -j RETURN
        -A SPA-DOCKER-USER -i lo -p udp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 53 --ctdir ORIGINAL -j RETURN
        -A SPA-DOCKER-USER -p tcp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -m conntrack --ctstate ESTABLISHED -j RETURN
        -A SPA-DOCKER-USER -p udp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 53 --ctdir ORIGINAL -m conntrack --ctstate ESTABLISHED -j RETURN
        -A SPA-DOCKER-USER -p tcp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -m set --match-set spa6-allow src -j RETURN
        -A SPA-DOCKER-USER -p udp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 53 --ctdir ORIGINAL -m set --match-set spa6-allow src -j RETURN
        -A SPA-DOCKER-USER -p tcp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -m set --match-set spa6-web src -j RETURN
        -A SPA-DOCKER-USER -p udp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 53 --ctdir ORIGINAL -m set --match-set spa6-web src -j RETURN
        -A SPA-DOCKER-USER -p tcp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -m conntrack --ctstate DNAT -j DROP
        -A SPA-DOCKER-USER -p udp -m conntrack --ctorigdst 2001:db8::1 --ctorigdstport 53 --ctdir ORIGINAL -m conntrack --ctstate DNAT -j DROP
        -I DOCKER-USER 1 -j SPA-DOCKER-USER
        COMMIT
        ");
        let elsewhere = rules(&published(Chain::Forward, &[]), Place::Input, Family::V4, Keeping::Sets);
        assert_eq!(elsewhere, Vec::<String>::new());
    }

    #[test]
    fn without_the_chain_of_somebody_else_there_is_no_jump() {
        let waiting = Found::default();
        assert_snapshot!(restore(Place::DockerUser, &[], &waiting), @r"
        *filter
        :SPA-DOCKER-USER - [0:0]
        COMMIT
        ");
    }

    #[test]
    fn own_addresses_are_matched_each_in_its_family() {
        let to = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        let plan = plan(
            vec![Guarded {
                to,
                ..guarded("ssh", &[(Protocol::Tcp, 22, 22)])
            }],
            &["198.51.100.0/24"],
        );
        assert_snapshot!(rules(&plan, Place::Input, Family::V4, Keeping::Sets).join("\n"), @r"
        -i lo -d 192.0.2.1/32 -p tcp -m tcp --dport 22 -j ACCEPT
        -i lo -d 192.0.2.2/32 -p tcp -m tcp --dport 22 -j ACCEPT
        -d 192.0.2.1/32 -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -d 192.0.2.2/32 -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -s 198.51.100.0/24 -d 192.0.2.1/32 -p tcp -m tcp --dport 22 -j ACCEPT
        -d 192.0.2.1/32 -p tcp -m tcp --dport 22 -m set --match-set spa4-allow src -j ACCEPT
        -s 198.51.100.0/24 -d 192.0.2.2/32 -p tcp -m tcp --dport 22 -j ACCEPT
        -d 192.0.2.2/32 -p tcp -m tcp --dport 22 -m set --match-set spa4-allow src -j ACCEPT
        -d 192.0.2.1/32 -p tcp -m tcp --dport 22 -m set --match-set spa4-ssh src -j ACCEPT
        -d 192.0.2.2/32 -p tcp -m tcp --dport 22 -m set --match-set spa4-ssh src -j ACCEPT
        -d 192.0.2.1/32 -p tcp -m tcp --dport 22 -j DROP
        -d 192.0.2.2/32 -p tcp -m tcp --dport 22 -j DROP
        ");
        assert_snapshot!(rules(&plan, Place::Input, Family::V6, Keeping::Sets).join("\n"), @r"
        -i lo -d 2001:db8::1/128 -p tcp -m tcp --dport 22 -j ACCEPT
        -d 2001:db8::1/128 -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -d 2001:db8::1/128 -p tcp -m tcp --dport 22 -m set --match-set spa6-allow src -j ACCEPT
        -d 2001:db8::1/128 -p tcp -m tcp --dport 22 -m set --match-set spa6-ssh src -j ACCEPT
        -d 2001:db8::1/128 -p tcp -m tcp --dport 22 -j DROP
        ");
        assert_eq!(
            rules(
                &published(Chain::Forward, &["192.0.2.1"]),
                Place::Forward,
                Family::V6,
                Keeping::Sets
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn without_ipset_a_chain_for_each_service_holds_its_grants() {
        let ssh = plan(vec![guarded("ssh", &[(Protocol::Tcp, 22, 22)])], &["192.0.2.0/28"]);
        assert_snapshot!(rules(&ssh, Place::Input, Family::V4, Keeping::Rules).join("\n"), @r"
        -i lo -p tcp -m tcp --dport 22 -j ACCEPT
        -p tcp -m tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -s 192.0.2.0/28 -p tcp -m tcp --dport 22 -j ACCEPT
        -p tcp -m tcp --dport 22 -g SPA-ssh
        ");
        let web = published(Chain::Forward, &["192.0.2.1"]);
        assert_snapshot!(rules(&web, Place::Forward, Family::V4, Keeping::Rules).join("\n"), @r"
        -i lo -p tcp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -j RETURN
        -i lo -p udp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 53 --ctdir ORIGINAL -j RETURN
        -p tcp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -m conntrack --ctstate ESTABLISHED -j RETURN
        -p udp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 53 --ctdir ORIGINAL -m conntrack --ctstate ESTABLISHED -j RETURN
        -s 192.0.2.0/28 -p tcp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -j RETURN
        -s 192.0.2.0/28 -p udp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 53 --ctdir ORIGINAL -j RETURN
        -p tcp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 8080:8081 --ctdir ORIGINAL -m conntrack --ctstate DNAT -g SPA-web
        -p udp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 53 --ctdir ORIGINAL -m conntrack --ctstate DNAT -g SPA-web
        ");
    }

    #[test]
    fn duplicate_jumps_become_one() {
        assert_snapshot!(restore(Place::Input, &[], &found(2)), @r"
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
        let found = Found {
            chain: Some(vec![]),
            references: references.to_vec(),
            ..found(1)
        };
        assert_snapshot!(removal(Place::Input, &found), @r"
        *filter
        -D INPUT -j SPA
        -D FORWARD -i eth0 -j SPA
        -F SPA
        -X SPA
        COMMIT
        ");
    }
}

//! The chains of grants as text: what iptables-restore is fed, what iptables-save prints.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::backend::iptables::place::Place;
use crate::backend::iptables::plan::{Guarded, service_of};
use crate::config::{AtEnd, Chain};

/// Every chain with its rules as printed, without `-A CHAIN`.
#[derive(Debug, Default)]
pub struct Saved(BTreeMap<String, Vec<String>>);

impl Saved {
    /// Reads what iptables-save printed of the table filter.
    pub fn parse(saved: &str) -> Self {
        let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in saved.lines().map(str::trim_end) {
            if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                chains.entry(chain.to_owned()).or_default();
            } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
                chains.entry(chain.to_owned()).or_default().push(rule.to_owned());
            }
        }
        Self(chains)
    }

    /// The names of all chains.
    pub fn chains(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The services whose grants are rules here, as far as their chains tell: good for closing, not for protecting.
    pub fn services(&self) -> impl Iterator<Item = Guarded> {
        let guarded = |(chain, rules): (&String, &Vec<String>)| {
            let leads = |target: &str| rules.iter().any(|rule| rule.ends_with(&format!("-j {target}")));
            Some(Guarded {
                name: service_of(chain)?.to_owned(),
                ports: Vec::new(),
                protect: leads("DROP"),
                at_end: AtEnd::Keep,
                chain: if leads("RETURN") { Chain::Forward } else { Chain::Input },
                to: Vec::new(),
            })
        };
        self.0.iter().filter_map(guarded)
    }

    /// The rules of a chain, once; none when there is no such chain.
    pub fn take(&mut self, chain: &str) -> Option<Vec<String>> {
        self.0.remove(chain)
    }
}

/// The rules of a service's chain: whoever has a grant, then what becomes of all others.
pub fn grant_rules<'a>(service: &Guarded, grants: impl Iterator<Item = &'a IpNet>) -> Vec<String> {
    let verdict = Place::of(service.chain).verdict();
    let granted = grants.map(|net| format!("-s {net} -j {verdict}"));
    let drop = service.protect.then(|| "-j DROP".to_owned());
    granted.chain(drop).collect()
}

/// What replaces a chain by `rules` in one transaction.
pub fn restore(chain: &str, rules: &[String]) -> String {
    let rules = rules.iter().map(|rule| format!("-A {chain} {rule}\n"));
    format!("*filter\n:{chain} - [0:0]\n{}COMMIT\n", rules.collect::<String>())
}

/// What takes chains away that nothing leads to any more.
pub fn removal(chains: &[&str]) -> String {
    let lines = chains.iter().map(|chain| format!("-F {chain}\n-X {chain}\n"));
    format!("*filter\n{}COMMIT\n", lines.collect::<String>())
}

/// The networks that a chain of [`grant_rules`] lets through.
pub fn nets(rules: &[String]) -> impl Iterator<Item = IpNet> {
    let sources = rules
        .iter()
        .filter_map(|rule| rule.strip_prefix("-s ")?.split(' ').next());
    sources.filter_map(|net| net.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_rules_before_the_drop_and_are_read_back() {
        let service = Guarded {
            name: "ssh".into(),
            ports: vec![],
            protect: true,
            at_end: AtEnd::Keep,
            chain: Chain::Input,
            to: vec![],
        };
        let grants: [IpNet; 2] = ["192.0.2.5/32", "198.51.100.0/24"].map(|net| net.parse().unwrap());
        let rules = grant_rules(&service, grants.iter());
        let text = restore("SPA-ssh", &rules);
        insta::assert_snapshot!(text, @r"
        *filter
        :SPA-ssh - [0:0]
        -A SPA-ssh -s 192.0.2.5/32 -j ACCEPT
        -A SPA-ssh -s 198.51.100.0/24 -j ACCEPT
        -A SPA-ssh -j DROP
        COMMIT
        ");
        let mut saved = Saved::parse(&text);
        assert_eq!(saved.chains().collect::<Vec<_>>(), ["SPA-ssh"]);
        assert_eq!(nets(&saved.take("SPA-ssh").unwrap()).collect::<Vec<_>>(), grants);
        let web = Guarded {
            chain: Chain::DockerUser,
            protect: false,
            ..service
        };
        assert_eq!(grant_rules(&web, grants[..1].iter()), ["-s 192.0.2.5/32 -j RETURN"]);
        assert_eq!(removal(&["SPA-ssh"]), "*filter\n-F SPA-ssh\n-X SPA-ssh\nCOMMIT\n");
    }

    #[test]
    fn what_an_earlier_process_left_says_how_it_is_written_anew() {
        let saved = Saved::parse(
            "*filter\n:INPUT ACCEPT [0:0]\n:SPA - [0:0]\n:SPA-FORWARD - [0:0]\n:SPA-ssh - [0:0]\n:SPA-web - [0:0]\n\
             -A SPA-ssh -s 192.0.2.5/32 -j ACCEPT\n-A SPA-ssh -j DROP\n-A SPA-web -s 192.0.2.6/32 -j RETURN\nCOMMIT\n",
        );
        let services: Vec<Guarded> = saved.services().collect();
        let told = services.iter().map(|own| (own.name.as_str(), own.protect, own.chain));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [("ssh", true, Chain::Input), ("web", false, Chain::Forward)]
        );
        for (chain, service) in ["SPA-ssh", "SPA-web"].into_iter().zip(&services) {
            let rules = saved.0[chain].clone();
            assert_eq!(grant_rules(service, nets(&rules).collect::<Vec<_>>().iter()), rules);
        }
    }
}

//! What iptables-save printed of all tables.

use std::collections::BTreeMap;

use super::rule::Rule;
use crate::config::PortRange;

/// The rules of every chain of every table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset(BTreeMap<(String, String), Vec<Rule>>);

impl Ruleset {
    /// Reads it; what is not understood is passed over.
    #[must_use]
    pub fn parse(saved: &str) -> Self {
        let (mut chains, mut table) = (BTreeMap::<_, Vec<Rule>>::new(), "");
        for line in saved.lines().map(str::trim_end) {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                chains.entry((table.to_owned(), chain.to_owned())).or_default();
            } else if let Some((chain, _)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
                let rules = chains.entry((table.to_owned(), chain.to_owned())).or_default();
                rules.push(Rule::parse(line));
            }
        }
        Self(chains)
    }

    /// The ports that table nat sends elsewhere: those of containers, mostly.
    #[must_use]
    pub fn published(&self) -> Vec<PortRange> {
        let nat = self.0.iter().filter(|((table, _), _)| table == "nat");
        nat.flat_map(|(_, rules)| rules).flat_map(Rule::published).collect()
    }

    /// The rules of a chain in their order; none when there is no such chain.
    #[must_use]
    pub fn chain(&self, table: &str, chain: &str) -> Option<&[Rule]> {
        self.0.get(&(table.to_owned(), chain.to_owned())).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_are_those_that_are_sent_elsewhere() {
        let saved = "*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
            -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n\
            -A DOCKER -p udp -m multiport --dports 53,5000:5010 -j REDIRECT --to-ports 9\n\
            -A DOCKER -p tcp -m tcp ! --dport 1 -j DNAT --to-destination 172.17.0.2\n\
            -A DOCKER -p tcp -m tcp --dport 2 -j RETURN\nCOMMIT\n*filter\n-A X -p tcp -m tcp --dport 3 -j DNAT\nCOMMIT\n";
        let told: Vec<String> = Ruleset::parse(saved)
            .published()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told, ["tcp/8080", "udp/53", "udp/5000-5010"]);
    }
}

//! What stands in a table of iptables, read from what iptables-save prints.

use super::place::Place;
use crate::netlink::Family;

/// What of ours, or leading to ours, is in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The own chain's rules as printed, without `-A SPA`; none when there is no such chain.
    pub chain: Option<Vec<String>>,
    /// How many plain jumps lead from the hook to the own chain.
    pub jumps: usize,
    /// Every line outside the own chain that leads to it, as printed.
    pub references: Vec<String>,
    /// The hook is there.
    pub has_hook: bool,
}

impl Found {
    /// Reads what iptables-save printed of the table of `place`.
    #[must_use]
    pub fn parse(saved: &str, place: Place) -> Self {
        let mut found = Self {
            has_hook: place.is_built_in(),
            ..Self::default()
        };
        let (hook, own) = (place.hook(), place.chain());
        let (jump, rule) = (format!("-A {hook} -j {own}"), format!("-A {own} "));
        for line in saved.lines().map(str::trim_end) {
            if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                found.has_hook |= chain == hook;
                if chain == own {
                    found.chain.get_or_insert_default();
                }
            } else if let Some(rule) = line.strip_prefix(&rule) {
                found.chain.get_or_insert_default().push(rule.to_owned());
            } else if leads_to(line, own) {
                found.jumps += usize::from(line == jump);
                found.references.push(line.to_owned());
            }
        }
        found
    }

    /// Whether there is nothing of ours.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.chain.is_none() && self.references.is_empty()
    }

    /// Whether the chain holds `rules`, as far as can be told without knowing how this iptables prints them: as many,
    /// with the same targets in the same order. The kernel took all of them or none.
    #[must_use]
    pub fn holds(&self, rules: &[String]) -> bool {
        let Some(chain) = &self.chain else { return false };
        self.jumps == usize::from(self.has_hook)
            && chain
                .iter()
                .map(|rule| target(rule))
                .eq(rules.iter().map(|rule| target(rule)))
    }

    /// One clause for each thing in which this falls short of `before`, or when that is not known, of being there.
    #[must_use]
    pub fn lacks(&self, before: Option<&Self>, place: Place, family: Family) -> Vec<String> {
        let (chain, table, hook) = (place.chain(), place.table(), place.hook());
        let mut lacks = Vec::new();
        match (&self.chain, before.and_then(|before| before.chain.as_ref())) {
            (None, _) => lacks.push(format!("chain {chain} in {table} ({family})")),
            (Some(now), Some(before)) if now != before => {
                lacks.push(format!("rules of chain {chain} in {table} ({family})"));
            }
            _ => {}
        }
        match self.jumps {
            0 if self.has_hook => lacks.push(format!("jump from {hook} in {table} ({family})")),
            0 | 1 => {}
            _ => lacks.push(format!("single jump from {hook} in {table} ({family})")),
        }
        lacks
    }
}

/// The own chain takes no options, so a rule that leads to it ends with its name; a quoted comment ends with a quote.
fn leads_to(line: &str, chain: &str) -> bool {
    let before = line.strip_suffix(chain).filter(|before| before.starts_with("-A "));
    before.is_some_and(|before| before.ends_with(" -j ") || before.ends_with(" -g "))
}

/// NOTRACK is what some versions print for `CT --notrack`.
fn target(rule: &str) -> &str {
    let ways = ["-j ", "-g "].iter().find_map(|way| rule.rsplit_once(way));
    let words = ways.and_then(|(_, words)| words.split(' ').next());
    words.map_or("", |word| if word == "NOTRACK" { "CT" } else { word })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "*filter\n:INPUT ACCEPT [0:0]\n:SPA - [0:0]\n:SPAM - [0:0]\n-A INPUT -j SPA\n\
        -A INPUT -m comment --comment \"x -j SPA\" -j DROP\n-A INPUT -j SPAM\n-A FORWARD -i eth0 -g SPA\n\
        -A SPA -i lo -j ACCEPT\n-A SPA -p tcp -m tcp --dport 22 -j DROP\n-A SPAM -j DROP\nCOMMIT\n";

    #[test]
    fn own_things_are_told_from_similar_ones() {
        let found = Found::parse(SAVED, Place::Input);
        let rules = [
            "-i lo -j ACCEPT".to_owned(),
            "-p tcp -m tcp --dport 22 -j DROP".to_owned(),
        ];
        assert_eq!(found.chain.as_deref(), Some(&rules[..]));
        assert_eq!(found.jumps, 1);
        assert_eq!(found.references, ["-A INPUT -j SPA", "-A FORWARD -i eth0 -g SPA"]);
        assert!(found.holds(&rules));
        assert!(!found.holds(&rules[..1]));
    }

    #[test]
    fn what_lacks_is_said() {
        let whole = Found::parse(SAVED, Place::Input);
        assert_eq!(whole.lacks(None, Place::Input, Family::V4), Vec::<String>::new());
        let nothing = Found::parse("", Place::Input);
        let lacks = ["chain SPA in filter (IPv6)", "jump from INPUT in filter (IPv6)"];
        assert_eq!(nothing.lacks(Some(&whole), Place::Input, Family::V6), lacks);
        let flushed = Found {
            chain: Some(Vec::new()),
            ..whole.clone()
        };
        assert_eq!(
            flushed.lacks(Some(&whole), Place::Input, Family::V4),
            ["rules of chain SPA in filter (IPv4)"]
        );
    }
}

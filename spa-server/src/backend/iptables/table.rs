//! What stands in a table of iptables, read from what iptables-save prints.

use crate::netlink::Family;

/// The chain that holds all own rules.
pub const CHAIN: &str = "SPA";

/// A table that holds own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Who reaches a service.
    Filter,
    /// What makes no conntrack entry.
    Raw,
}

impl Table {
    /// What hides comes before what only saves memory.
    pub const ALL: [Self; 2] = [Self::Filter, Self::Raw];

    /// The table's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Raw => "raw",
        }
    }

    /// The chain that jumps to the own one.
    #[must_use]
    pub fn hook(self) -> &'static str {
        match self {
            Self::Filter => "INPUT",
            Self::Raw => "PREROUTING",
        }
    }
}

/// What of ours, or leading to ours, is in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The own chain's rules as printed, without `-A SPA`; none when there is no such chain.
    pub chain: Option<Vec<String>>,
    /// How many plain jumps lead from the hook to the own chain.
    pub jumps: usize,
    /// Every line outside the own chain that leads to it, as printed.
    pub references: Vec<String>,
}

impl Found {
    /// Reads what iptables-save printed of `table`.
    #[must_use]
    pub fn parse(saved: &str, table: Table) -> Self {
        let mut found = Self::default();
        let jump = format!("-A {} -j {CHAIN}", table.hook());
        for line in saved.lines().map(str::trim_end) {
            if line
                .strip_prefix(':')
                .is_some_and(|chain| chain.split(' ').next() == Some(CHAIN))
            {
                found.chain.get_or_insert_default();
            } else if let Some(rule) = line.strip_prefix("-A SPA ") {
                found.chain.get_or_insert_default().push(rule.to_owned());
            } else if leads_here(line) {
                found.jumps += usize::from(line == jump);
                found.references.push(line.to_owned());
            }
        }
        found
    }

    /// Whether the chain holds `rules`, as far as can be told without knowing how this iptables prints them: as many,
    /// with the same targets in the same order. The kernel took all of them or none.
    #[must_use]
    pub fn holds(&self, rules: &[String]) -> bool {
        let Some(chain) = &self.chain else { return false };
        self.jumps == 1
            && chain
                .iter()
                .map(|rule| target(rule))
                .eq(rules.iter().map(|rule| target(rule)))
    }

    /// One clause for each thing in which this falls short of `before`, or when that is not known, of being there.
    #[must_use]
    pub fn lacks(&self, before: Option<&Self>, table: Table, family: Family) -> Vec<String> {
        let (name, hook) = (table.name(), table.hook());
        let mut lacks = Vec::new();
        match (&self.chain, before.and_then(|before| before.chain.as_ref())) {
            (None, _) => lacks.push(format!("chain {CHAIN} in {name} ({family})")),
            (Some(now), Some(before)) if now != before => {
                lacks.push(format!("rules of chain {CHAIN} in {name} ({family})"));
            }
            _ => {}
        }
        match self.jumps {
            0 => lacks.push(format!("jump from {hook} in {name} ({family})")),
            1 => {}
            _ => lacks.push(format!("single jump from {hook} in {name} ({family})")),
        }
        lacks
    }
}

/// The own chain takes no options, so a rule that leads to it ends with its name; a quoted comment ends with a quote.
fn leads_here(line: &str) -> bool {
    line.starts_with("-A ") && (line.ends_with(" -j SPA") || line.ends_with(" -g SPA"))
}

/// NOTRACK is what some versions print for `CT --notrack`.
fn target(rule: &str) -> &str {
    let words = rule.rsplit_once("-j ").and_then(|(_, words)| words.split(' ').next());
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
        let found = Found::parse(SAVED, Table::Filter);
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
        let whole = Found::parse(SAVED, Table::Filter);
        assert_eq!(whole.lacks(None, Table::Filter, Family::V4), Vec::<String>::new());
        let nothing = Found::parse("", Table::Filter);
        let lacks = ["chain SPA in filter (IPv6)", "jump from INPUT in filter (IPv6)"];
        assert_eq!(nothing.lacks(Some(&whole), Table::Filter, Family::V6), lacks);
        let flushed = Found {
            chain: Some(Vec::new()),
            ..whole.clone()
        };
        assert_eq!(
            flushed.lacks(Some(&whole), Table::Filter, Family::V4),
            ["rules of chain SPA in filter (IPv4)"]
        );
    }
}

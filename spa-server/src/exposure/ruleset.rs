//! What iptables-save printed of all tables.

use std::collections::BTreeMap;

use super::rule::Rule;

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

    /// The rules of a chain in their order; none when there is no such chain.
    #[must_use]
    pub fn chain(&self, table: &str, chain: &str) -> Option<&[Rule]> {
        self.0.get(&(table.to_owned(), chain.to_owned())).map(Vec::as_slice)
    }
}

//! `[nftables]`: the table and chain that rules go to where the host's own ruleset drops.

use super::NamedChain;
use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawConfig, Text, items};

/// Tables of the other families see IPv4 or IPv6 only.
const FAMILY: &str = "inet";
/// The backend's own.
const OWN_TABLE: &str = "spa";
/// The backend's own chain, in whichever table.
const OWN_CHAIN: &str = "SPA";

/// What is written, if it is whole.
pub(super) fn named_chain(raw: &RawConfig, findings: &mut Findings<'_>) -> Option<NamedChain> {
    let section = raw.nftables.as_ref()?;
    warn_idle(raw, findings);
    let typed = section.get_ref();
    let (Some(table), Some(chain)) = (&typed.table, &typed.chain) else {
        let finding = Finding::error(
            Code::HalfNamed,
            "[nftables] names a table and a chain of it, or is left out",
        );
        findings.absent(
            Some(&section.span()),
            finding.with_try("table = \"inet filter\" and chain = \"input\""),
        );
        return None;
    };
    let (table, chain) = (table_name(table, findings), chain_name(chain, findings));
    Some(NamedChain {
        table: table?,
        chain: chain?,
    })
}

fn warn_idle(raw: &RawConfig, findings: &mut Findings<'_>) {
    let mut backends = raw
        .service
        .iter()
        .flat_map(|service| items(&service.get_ref().backends));
    if let Some(section) = raw
        .nftables
        .as_ref()
        .filter(|_| backends.all(|name| name.get_ref() != "nftables"))
    {
        let text = "[nftables] does nothing here: no service has nftables among its backends";
        let finding = Finding::warning(Code::IdleKey, text);
        findings.at(&section.span(), finding.with_try("the file without [nftables]"));
    }
}

fn table_name(typed: &Text, findings: &mut Findings<'_>) -> Option<String> {
    let text = typed.get_ref();
    let fault = match text.split_once(' ') {
        Some((FAMILY, OWN_TABLE)) => format!("inet {OWN_TABLE} is the gateway's own table"),
        Some((FAMILY, name)) if is_identifier(name) => return Some(name.to_owned()),
        Some((family @ ("ip" | "ip6"), _)) => format!("a table of family {family} sees one family of addresses only"),
        _ => format!("{text:?} is no family and name of a table"),
    };
    findings.at(
        &typed.span(),
        Finding::error(Code::BadTable, fault).with_try("table = \"inet filter\""),
    );
    None
}

fn chain_name(typed: &Text, findings: &mut Findings<'_>) -> Option<String> {
    let text = typed.get_ref();
    let fault = match text.as_str() {
        OWN_CHAIN => format!("{OWN_CHAIN} is the gateway's own chain"),
        name if is_identifier(name) => return Some(name.to_owned()),
        _ => format!("{text:?} is no name of a chain"),
    };
    findings.at(
        &typed.span(),
        Finding::error(Code::BadNamedChain, fault).with_try("chain = \"input\""),
    );
    None
}

/// What nft takes without quotes.
fn is_identifier(name: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphabetic() || "_.".contains(c);
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    name.starts_with(begins) && name.chars().all(goes_on) && name.len() < 128
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::{told, told_of_each, with_service};

    fn with(section: &str) -> String {
        with_service("ports = [\"tcp/22\"]").replace("\"iptables\"", "\"nftables\"") + section
    }

    #[test]
    fn a_table_and_a_chain_are_named_together() {
        let (config, findings) =
            Config::from_text("s", &with("[nftables]\ntable = \"inet filter\"\nchain = \"input\"\n")).unwrap();
        assert_eq!(findings, []);
        let named = config.nftables.unwrap();
        assert_eq!((named.table.as_str(), named.chain.as_str()), ("filter", "input"));
        assert_eq!(Config::from_text("s", &with("")).unwrap().0.nftables, None);
    }

    #[test]
    fn what_names_no_chain_is_told() {
        let sections = [
            "table = \"inet filter\"",
            "",
            "table = \"filter\"\nchain = \"a b\"",
            "table = \"ip filter\"\nchain = \"input\"",
            "table = \"inet spa\"\nchain = \"SPA\"",
            "table = \"inet a; flush ruleset\"\nchain = \"\"",
            "tables = 1\nchain = 5",
        ];
        insta::assert_snapshot!(told_of_each(&with("[nftables]\n{}\n"), &sections), @r#"
        `table = "inet filter"`
            error half-named 6:1 [nftables] names a table and a chain of it, or is left out -> table = "inet filter" and chain = "input"
        ``
            error half-named 6:1 [nftables] names a table and a chain of it, or is left out -> table = "inet filter" and chain = "input"
        `table = "filter"
        chain = "a b"`
            error bad-table 7:9 "filter" is no family and name of a table -> table = "inet filter"
            error bad-named-chain 8:9 "a b" is no name of a chain -> chain = "input"
        `table = "ip filter"
        chain = "input"`
            error bad-table 7:9 a table of family ip sees one family of addresses only -> table = "inet filter"
        `table = "inet spa"
        chain = "SPA"`
            error bad-table 7:9 inet spa is the gateway's own table -> table = "inet filter"
            error bad-named-chain 8:9 SPA is the gateway's own chain -> chain = "input"
        `table = "inet a; flush ruleset"
        chain = ""`
            error bad-table 7:9 "inet a; flush ruleset" is no family and name of a table -> table = "inet filter"
            error bad-named-chain 8:9 "" is no name of a chain -> chain = "input"
        `tables = 1
        chain = 5`
            error unknown-key 7:1 tables is no key of [nftables] -> table
            error wrong-type 8:9 chain takes a text in quotes; this is of type integer -> chain = "input"
        "#);
    }

    #[test]
    fn naming_is_idle_without_the_backend() {
        let text =
            with("[nftables]\ntable = \"inet filter\"\nchain = \"input\"\n").replace("\"nftables\"", "\"iptables\"");
        insta::assert_snapshot!(told(&text), @"warning idle-key 6:1 [nftables] does nothing here: no service has nftables among its backends -> the file without [nftables]");
    }
}

//! Tells whether rules of nf_tables, iptables-nft's too, are still the same, without the programs: those decode every
//! rule of a table, which takes a second for 20,000 of them.

use rustix::net::netlink::NETFILTER;

use super::NetlinkError;
use super::message::{DUMP, Draft, REQUEST, attributes, find};
use super::socket::{Reply, Socket};

/// `NFPROTO_INET`: tables that see both families.
pub const INET: u8 = 1;

pub(super) const SUBSYSTEM: u16 = 10 << 8;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
/// `struct nfgenmsg`.
pub(super) const FAMILY_HEADER_LEN: usize = 4;
/// In tables, chains, rules, sets and elements alike.
pub(super) const TABLE: u16 = 1;
pub(super) const CHAIN_OF_RULE: u16 = 2;
pub(super) const HANDLE_OF_RULE: u16 = 3;
const EXPRESSIONS: u16 = 4;
pub(super) const NAME_OF_CHAIN: u16 = 3;
pub(super) const NAME_OF_SET: u16 = 2;
pub(super) const ELEMENTS_OF_SET: u16 = 3;
/// Of an expression.
const NAME: u16 = 1;
const DATA: u16 = 2;

/// What is asked of nf_tables, below [`SUBSYSTEM`].
pub(super) mod message {
    pub const NEW_TABLE: u16 = 0;
    pub const GET_TABLE: u16 = 1;
    pub const DELETE_TABLE: u16 = 2;
    pub const NEW_CHAIN: u16 = 3;
    pub const GET_CHAIN: u16 = 4;
    pub const DELETE_CHAIN: u16 = 5;
    pub const DELETE_RULE: u16 = 8;
    pub const NEW_SET: u16 = 9;
    pub const GET_SET: u16 = 10;
    pub const DELETE_SET: u16 = 11;
    pub const NEW_ELEMENT: u16 = 12;
    pub const GET_ELEMENT: u16 = 13;
    pub const DELETE_ELEMENT: u16 = 14;
    pub const NEW_GENERATION: u16 = 15;
    pub const GET_GENERATION: u16 = 16;
}

/// How a rule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// NF_DROP.
    Drop,
    /// NF_ACCEPT.
    Accept,
    /// A jump, a goto, a statement.
    Other,
}

/// One rule: equal ones are the same rule and do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The chain it stands in.
    pub chain: String,
    /// Its number, which its table gives to no other. A table made anew begins to count again.
    pub handle: u64,
    /// What it does, without what it has counted.
    expressions: Vec<u8>,
}

impl Rule {
    /// Whether it ends in a jump or goto to `chain`.
    #[must_use]
    pub fn leads_to(&self, chain: &str) -> bool {
        // NFTA_VERDICT_CHAIN is 2, and nothing comes behind it.
        self.expressions
            .ends_with(&Draft::new(0, 0).text(2, chain).seal(0).split_off(16))
    }
}

impl Rule {
    /// How it ends.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let code = self
            .last_verdict()
            .and_then(|octets| Some(i32::from_be_bytes(octets.try_into().ok()?)));
        match code {
            Some(0) => Verdict::Drop,
            Some(1) => Verdict::Accept,
            _ => Verdict::Other,
        }
    }

    /// Whether it does the same as `other`, whatever their numbers.
    #[must_use]
    pub fn does_as(&self, other: &Self) -> bool {
        self.expressions == other.expressions
    }

    /// The code in the last expression, if that is an immediate verdict.
    fn last_verdict(&self) -> Option<&[u8]> {
        let attributes: Vec<_> = attributes(&self.expressions).map_while(Result::ok).collect();
        let last = attributes.last().filter(|data| data.kind == DATA)?.value;
        // NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE
        Some(find(find(find(last, 2)?.value, 2)?.value, 1)?.value)
    }
}

/// The rules of a chain in their order; none when there is no such chain, or no nftables in the kernel.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn rules(socket: &mut Socket, family: u8, table: &str, chain: &str) -> Result<Vec<Rule>, NetlinkError> {
    let request = of_table(family, table).text(CHAIN_OF_RULE, chain);
    let mut rules = gather(socket, &request, table)?;
    // Kernels before 4.10 do not select by chain.
    rules.retain(|rule| rule.chain == chain);
    Ok(rules)
}

/// The rules of all chains of a table; none when there is no such table.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn table_rules(socket: &mut Socket, family: u8, table: &str) -> Result<Vec<Rule>, NetlinkError> {
    gather(socket, &of_table(family, table), table)
}

fn of_table(family: u8, table: &str) -> Draft {
    let request = Draft::new(GET_RULE, REQUEST | DUMP).raw(&[family, 0, 0, 0]);
    request.text(TABLE, table)
}

fn gather(socket: &mut Socket, request: &Draft, table: &str) -> Result<Vec<Rule>, NetlinkError> {
    let replies = socket.exchange(request)?;
    Ok(replies.iter().filter_map(|reply| rule(reply, table)).collect())
}

/// A socket for [`rules`].
///
/// # Errors
///
/// [`NetlinkError::Call`] with the system call that failed.
pub fn socket() -> Result<Socket, NetlinkError> {
    Socket::open(Some(NETFILTER))
}

/// Kernels before 4.10 do not select by table, so this looks again.
fn rule(reply: &Reply, table: &str) -> Option<Rule> {
    let body = reply
        .payload
        .get(FAMILY_HEADER_LEN..)
        .filter(|_| reply.kind == NEW_RULE)?;
    let is_wanted = find(body, TABLE)?.text() == Some(table);
    let chain = find(body, CHAIN_OF_RULE)?.text()?.to_owned();
    let handle = find(body, HANDLE_OF_RULE)?.long()?;
    let expressions = find(body, EXPRESSIONS)
        .map(|list| without_counters(list.value))
        .unwrap_or_default();
    is_wanted.then_some(Rule {
        chain,
        handle,
        expressions,
    })
}

fn without_counters(list: &[u8]) -> Vec<u8> {
    let elements = attributes(list).flatten().map(|element| element.value);
    let lasting = elements.filter(|element| find(element, NAME).and_then(|name| name.text()) != Some("counter"));
    lasting.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::NESTED;

    fn reply(chain: &str, handle: u64, target: &str, counted: u32) -> Reply {
        let draft = Draft::new(NEW_RULE, 0)
            .raw(&[2, 0, 0, 0])
            .text(TABLE, "filter")
            .text(CHAIN_OF_RULE, chain);
        let draft = draft
            .attribute(HANDLE_OF_RULE, &handle.to_be_bytes())
            .nested(EXPRESSIONS | NESTED, |list| {
                let list = list.nested(1 | NESTED, |counter| counter.text(NAME, "counter").number(2, counted));
                list.nested(1 | NESTED, |verdict| verdict.text(NAME, "immediate").text(2, target))
            });
        Reply {
            kind: NEW_RULE,
            payload: draft.seal(0).split_off(16),
        }
    }

    #[test]
    fn a_rule_has_its_number_and_names_its_target() {
        let jump = rule(&reply("INPUT", 7, "SPA", 5), "filter").unwrap();
        assert_eq!(jump.handle, 7);
        assert_eq!(
            rule(&reply("INPUT", 7, "SPA", 6), "filter"),
            Some(jump.clone()),
            "it only counted"
        );
        assert!(jump.leads_to("SPA"));
        assert!(!jump.leads_to("SP") && !jump.leads_to("SPAM"));
        assert!(!rule(&reply("INPUT", 7, "SPAM", 5), "filter").unwrap().leads_to("SPA"));
        assert_eq!(rule(&reply("INPUT", 7, "SPA", 5), "raw"), None);
        assert_eq!(
            rule(
                &Reply {
                    kind: NEW_RULE,
                    payload: vec![1]
                },
                "filter"
            ),
            None
        );
    }
}

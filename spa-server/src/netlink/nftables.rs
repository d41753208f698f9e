//! Tells whether rules of iptables-nft are still the same, without the programs: those decode every rule of a table,
//! which takes a second for 20,000 of them.

use rustix::net::netlink::NETFILTER;

use super::NetlinkError;
use super::message::{DUMP, Draft, REQUEST, attributes, find};
use super::socket::{Reply, Socket};

const SUBSYSTEM: u16 = 10 << 8;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
/// `struct nfgenmsg`.
const FAMILY_HEADER_LEN: usize = 4;
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
/// Of an expression.
const NAME: u16 = 1;

/// One rule: equal ones are the same rule and do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
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

/// The rules of a chain in their order; none when there is no such chain, or no nftables in the kernel.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn rules(socket: &mut Socket, family: u8, table: &str, chain: &str) -> Result<Vec<Rule>, NetlinkError> {
    let request = Draft::new(GET_RULE, REQUEST | DUMP).raw(&[family, 0, 0, 0]);
    let replies = socket.exchange(&request.text(TABLE, table).text(CHAIN, chain))?;
    Ok(replies.iter().filter_map(|reply| rule(reply, table, chain)).collect())
}

/// A socket for [`rules`].
///
/// # Errors
///
/// [`NetlinkError::Call`] with the system call that failed.
pub fn socket() -> Result<Socket, NetlinkError> {
    Socket::open(Some(NETFILTER))
}

/// Kernels before 4.10 do not select by chain, so this looks again.
fn rule(reply: &Reply, table: &str, chain: &str) -> Option<Rule> {
    let body = reply
        .payload
        .get(FAMILY_HEADER_LEN..)
        .filter(|_| reply.kind == NEW_RULE)?;
    let is_wanted = find(body, TABLE)?.text() == Some(table) && find(body, CHAIN)?.text() == Some(chain);
    let handle = u64::from_be_bytes(find(body, HANDLE)?.value.try_into().ok()?);
    let expressions = find(body, EXPRESSIONS)
        .map(|list| without_counters(list.value))
        .unwrap_or_default();
    is_wanted.then_some(Rule { handle, expressions })
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
            .text(CHAIN, chain);
        let draft = draft
            .attribute(HANDLE, &handle.to_be_bytes())
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
        let jump = rule(&reply("INPUT", 7, "SPA", 5), "filter", "INPUT").unwrap();
        assert_eq!(jump.handle, 7);
        assert_eq!(
            rule(&reply("INPUT", 7, "SPA", 6), "filter", "INPUT"),
            Some(jump.clone()),
            "it only counted"
        );
        assert!(jump.leads_to("SPA"));
        assert!(!jump.leads_to("SP") && !jump.leads_to("SPAM"));
        assert!(
            !rule(&reply("INPUT", 7, "SPAM", 5), "filter", "INPUT")
                .unwrap()
                .leads_to("SPA")
        );
        assert_eq!(rule(&reply("OUTPUT", 7, "SPA", 5), "filter", "INPUT"), None);
        assert_eq!(
            rule(
                &Reply {
                    kind: NEW_RULE,
                    payload: vec![1]
                },
                "filter",
                "INPUT"
            ),
            None
        );
    }
}

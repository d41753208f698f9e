//! Transactions of nf_tables (linux/netfilter/nfnetlink.h): all of the messages take effect at once, or none.

use super::NetlinkError;
use super::message::{ACK, CREATE, Draft, NESTED, REQUEST};
use super::nftables::{
    CHAIN_OF_RULE, ELEMENTS_OF_SET, HANDLE_OF_RULE, NAME_OF_CHAIN, NAME_OF_SET, SUBSYSTEM, TABLE, message,
};
use super::socket::Socket;

const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// `NFNL_BATCH_GENID`.
const GENERATION: u16 = 1;
/// `struct nfgenmsg` of begin and end: the subsystem in network order where others have zero.
const HEADER: [u8; 4] = [0, 0, 0, 10];

// Inside an element (`enum nft_set_elem_attributes`).
const ELEMENT: u16 = 1;
pub(super) const KEY: u16 = 1;
pub(super) const TIMEOUT: u16 = 4;
pub(super) const VALUE: u16 = 1;

/// Which thing of a table, in which family.
#[derive(Clone, Copy, Debug)]
pub struct In<'a> {
    /// The family's number, such as [`INET`](super::nftables::INET).
    pub family: u8,
    /// The table's name.
    pub table: &'a str,
}

/// A transaction in the making.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    drafts: Vec<Draft>,
    generation: Option<u32>,
}

impl Batch {
    /// One that the kernel refuses with ERESTART when anybody changed anything since `generation` was current.
    #[must_use]
    pub fn at(generation: u32) -> Self {
        Self {
            drafts: Vec::new(),
            generation: Some(generation),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Puts `key` into a set for `ms` milliseconds, for ever without.
    pub fn add_element(&mut self, place: In<'_>, set: &str, key: &[u8], ms: Option<u64>) {
        self.element(message::NEW_ELEMENT, CREATE, place, set, key, ms);
    }

    /// Takes `key` out of a set. The transaction fails with ENOENT if it is not there.
    pub fn remove_element(&mut self, place: In<'_>, set: &str, key: &[u8]) {
        self.element(message::DELETE_ELEMENT, 0, place, set, key, None);
    }

    /// Takes everything out of a set.
    pub fn flush_set(&mut self, place: In<'_>, set: &str) {
        self.push(message::DELETE_ELEMENT, 0, place, |draft| draft.text(NAME_OF_SET, set));
    }

    /// Takes a set away; no rule may name it afterwards.
    pub fn remove_set(&mut self, place: In<'_>, set: &str) {
        self.push(message::DELETE_SET, 0, place, |draft| draft.text(NAME_OF_SET, set));
    }

    /// Takes a rule away.
    pub fn remove_rule(&mut self, place: In<'_>, chain: &str, handle: u64) {
        self.push(message::DELETE_RULE, 0, place, |draft| {
            draft
                .text(CHAIN_OF_RULE, chain)
                .attribute(HANDLE_OF_RULE, &handle.to_be_bytes())
        });
    }

    /// Takes a chain away with all its rules; no rule may lead to it afterwards.
    pub fn remove_chain(&mut self, place: In<'_>, chain: &str) {
        self.push(message::DELETE_RULE, 0, place, |draft| draft.text(CHAIN_OF_RULE, chain));
        self.push(message::DELETE_CHAIN, 0, place, |draft| {
            draft.text(NAME_OF_CHAIN, chain)
        });
    }

    /// Takes a table away with all that is in it.
    pub fn remove_table(&mut self, place: In<'_>) {
        self.push(message::DELETE_TABLE, 0, place, |draft| draft);
    }

    /// Does all of it, or nothing.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`]; then nothing was changed, unless the answer was lost.
    pub fn commit(&self, socket: &mut Socket) -> Result<(), NetlinkError> {
        let Some((last, before)) = self.drafts.split_last() else {
            return Ok(());
        };
        let begin = Draft::new(BEGIN, REQUEST).raw(&HEADER);
        let begin = match self.generation {
            Some(generation) => begin.attribute(GENERATION, &generation.to_be_bytes()),
            None => begin,
        };
        let mut drafts = vec![begin];
        drafts.extend_from_slice(before);
        // The kernel answers when all is done, in the order of the messages: errors before this acknowledgement.
        drafts.push(last.clone().flagged(ACK));
        drafts.push(Draft::new(END, REQUEST).raw(&HEADER));
        socket.exchange_all(&drafts).map(drop)
    }

    fn element(&mut self, kind: u16, flags: u16, place: In<'_>, set: &str, key: &[u8], ms: Option<u64>) {
        self.push(kind, flags, place, |draft| {
            draft.text(NAME_OF_SET, set).nested(ELEMENTS_OF_SET | NESTED, |list| {
                list.nested(ELEMENT | NESTED, |element| {
                    let element = element.nested(KEY | NESTED, |data| data.attribute(VALUE, key));
                    match ms {
                        Some(ms) => element.attribute(TIMEOUT, &ms.to_be_bytes()),
                        None => element,
                    }
                })
            })
        });
    }

    fn push(&mut self, kind: u16, flags: u16, place: In<'_>, fill: impl FnOnce(Draft) -> Draft) {
        let draft = Draft::new(SUBSYSTEM | kind, REQUEST | flags).raw(&[place.family, 0, 0, 0]);
        self.drafts.push(fill(draft.text(TABLE, place.table)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn an_element_is_added_with_the_octets_that_nft_sends() {
        let mut batch = Batch::default();
        let place = In {
            family: 1,
            table: "spa",
        };
        batch.add_element(place, "s4", &[192, 0, 2, 5], Some(30_000));
        let octets = batch.drafts[0].clone().flagged(ACK).seal(1);
        assert_eq!(
            octets,
            [
                68, 0, 0, 0, 12, 10, 5, 4, 1, 0, 0, 0, 0, 0, 0, 0, // new element: request, ack, create
                1, 0, 0, 0, // inet
                8, 0, 1, 0, b's', b'p', b'a', 0, // table
                7, 0, 2, 0, b's', b'4', 0, 0, // set
                32, 0, 3, 0x80, 28, 0, 1, 0x80, // elements, one of them
                12, 0, 1, 0x80, 8, 0, 1, 0, 192, 0, 2, 5, // key
                12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0x75, 0x30, // time-out
            ][..]
        );
    }
}

//! The tags of the last 65 536 datagrams that passed step 4 (step 3): an exact copy costs no Diffie-Hellman.

use alloc::boxed::Box;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const KEPT: u64 = 65_536;
const MASK: u64 = KEPT - 1;

/// A ring of the last tags, found through chains of entries whose tags begin alike. All of it is atomics: capture
/// threads read while the judge writes, without a lock. A race that is lost costs one Diffie-Hellman and ends at
/// step 7; nothing is accepted or refused for good by this table.
///
/// Entries are numbered from 1 as they come. An entry's number says whether it still stands in the ring, so that
/// nothing is ever unlinked. 3.1 MB.
pub struct Copies {
    entries: Box<[Entry]>,
    /// The number of the newest entry of each chain; 0 where there is none.
    heads: Box<[AtomicU64]>,
    /// How many entries were ever made.
    count: AtomicU64,
}

#[derive(Default)]
struct Entry {
    tag: [AtomicU64; 2],
    source: [AtomicU64; 2],
    /// The number of the entry before this one in its chain.
    before: AtomicU64,
}

impl Copies {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            entries: (0..KEPT).map(|_| Entry::default()).collect(),
            heads: (0..KEPT).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
        }
    }

    /// Whether this tag is among the last; if so, whether its first copy came from another address than `source`.
    #[must_use]
    pub fn find(&self, tag: &[u8; 16], source: IpAddr) -> Option<Copy> {
        let words = halves(u128::from_le_bytes(*tag));
        let mut number = self.heads.get(place(words[0]))?.load(Relaxed);
        while number != 0 && number + KEPT > self.count.load(Relaxed) {
            let entry = self.entries.get(place(number))?;
            if entry.tag.each_ref().map(|word| word.load(Relaxed)) == words {
                let first = entry.source.each_ref().map(|word| word.load(Relaxed));
                return Some(Copy {
                    forwarded: first != source_words(source),
                });
            }
            let before = entry.before.load(Relaxed);
            // An entry overwritten meanwhile may point anywhere: numbers must fall, so that the walk ends.
            number = if before < number { before } else { 0 };
        }
        None
    }

    /// Remembers a tag and where it first came from. To be called by one thread at a time.
    pub fn insert(&self, tag: &[u8; 16], source: IpAddr) {
        let words = halves(u128::from_le_bytes(*tag));
        let number = self.count.load(Relaxed) + 1;
        let (Some(entry), Some(head)) = (self.entries.get(place(number)), self.heads.get(place(words[0]))) else {
            return;
        };
        self.count.store(number, Relaxed);
        entry
            .tag
            .iter()
            .zip(words)
            .for_each(|(word, value)| word.store(value, Relaxed));
        entry
            .source
            .iter()
            .zip(source_words(source))
            .for_each(|(word, value)| word.store(value, Relaxed));
        entry.before.store(head.load(Relaxed), Relaxed);
        head.store(number, Relaxed);
    }
}

impl Default for Copies {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Copies {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Copies")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// A datagram whose tag was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// It came from another address than the first.
    pub forwarded: bool,
}

fn place(number: u64) -> usize {
    usize::try_from(number & MASK).unwrap_or(0)
}

fn source_words(source: IpAddr) -> [u64; 2] {
    let octets = match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    halves(u128::from_le_bytes(octets))
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
const fn halves(whole: u128) -> [u64; 2] {
    [whole as u64, (whole >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tags that all fall into few chains.
    fn tag(n: u64) -> [u8; 16] {
        u128::from(n % 3)
            .to_le_bytes()
            .map(|b| b ^ 0x55)
            .iter()
            .zip((u128::from(n) << 64).to_le_bytes())
            .fold(([0; 16], 0), |(mut out, i), (a, b)| {
                out[i] = a ^ b;
                (out, i + 1)
            })
            .0
    }

    const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn finds_the_copy_and_says_where_it_came_from() {
        let copies = Copies::new();
        assert_eq!(copies.find(&tag(0), HERE), None);
        copies.insert(&tag(0), HERE);
        assert_eq!(copies.find(&tag(0), HERE), Some(Copy { forwarded: false }));
        assert_eq!(copies.find(&tag(0), THERE), Some(Copy { forwarded: true }));
        assert_eq!(copies.find(&tag(3), HERE), None);
    }

    #[test]
    fn keeps_exactly_the_last() {
        let copies = Copies::new();
        // Numbers spread over the chains, so that the test stays quick.
        let spread = |n: u64| u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
        (0..KEPT + 10).for_each(|n| copies.insert(&spread(n), HERE));
        assert!((0..10).all(|n| copies.find(&spread(n), HERE).is_none()));
        assert!((10..KEPT + 10).all(|n| copies.find(&spread(n), HERE).is_some()));
    }
}

//! SHA-256 (FIPS 180-4) and HMAC (RFC 2104) of eight messages side by side: what tells junk from knocks eight at a time.
//!
//! Processors without instructions for SHA-256 spend most of a junk packet's time on its digest, one 32-bit word after
//! the other. Eight digests have no word in common, so that each step of all eight is one operation on a row of words.
//! All functions are inlined into their caller: compiled for a processor with rows of 256 bits, they use them.

#![allow(
    clippy::inline_always,
    reason = "what is not inlined is compiled without the caller's wide rows"
)]

use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How many messages are digested at once.
pub(crate) const LANES: usize = 8;

const BLOCK: usize = 64;

/// One word of each message.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Row([u32; LANES]);

/// A digest, or the state that becomes one, of each message.
#[derive(Clone, Copy)]
pub(crate) struct State([Row; 8]);

/// An HMAC's key, taken in: what its two hashes begin with.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct LaneKey {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl LaneKey {
    /// Takes in a key that is no longer than a block.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let padded_by = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(key).for_each(|(place, octet)| *place ^= octet);
            let mut state = INITIAL;
            compress256(&mut state, &[*block]);
            state
        };
        Self {
            inner: padded_by(0x36),
            outer: padded_by(0x5c),
        }
    }

    /// HMAC of eight digests.
    #[inline(always)]
    pub(crate) fn tags(&self, digests: &State) -> State {
        let inner = after_one_block(&self.inner, digests);
        after_one_block(&self.outer, &inner)
    }
}

/// The hash of one block and then 32 octets; `begun` is the state behind that block.
#[inline(always)]
fn after_one_block(begun: &[u32; 8], digests: &State) -> State {
    let mut state = State::all(begun);
    let mut words = [Row::of(0); 16];
    words[..8].copy_from_slice(&digests.0);
    words[8] = Row::of(0x8000_0000);
    words[15] = Row::of(96 * 8);
    compress(&mut state, words);
    state
}

/// SHA-256 of each message.
#[inline(always)]
pub(crate) fn digests(messages: &[&[u8]; LANES]) -> State {
    let blocks = messages.map(|message| (message.len() + 9).div_ceil(BLOCK));
    let most = blocks.iter().copied().max().unwrap_or(0);
    let mut state = State::all(&INITIAL);
    for number in 0..most {
        let mut next = state;
        compress(&mut next, words(messages, number));
        state = state.with(&next, blocks.map(|count| number < count));
    }
    state
}

/// The words of one block of each message; of one that has ended already, whatever.
#[inline(always)]
fn words(messages: &[&[u8]; LANES], number: usize) -> [Row; 16] {
    let mut words = [Row::of(0); 16];
    for (lane, message) in messages.iter().enumerate() {
        let block = block(message, number);
        for (row, word) in words.iter_mut().zip(block.chunks_exact(4)) {
            row.0[lane] = word.try_into().map_or(0, u32::from_be_bytes);
        }
    }
    words
}

/// One block of a message and its padding: a one bit, zeros, and the length in bits.
#[inline(always)]
fn block(message: &[u8], number: usize) -> [u8; BLOCK] {
    let rest = message.get(number * BLOCK..).unwrap_or(&[]);
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    if message.len() >= number * BLOCK {
        block[rest.len()] = 0x80;
    }
    if rest.len() + 9 <= BLOCK {
        block[BLOCK - 8..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    }
    block
}

impl State {
    #[inline(always)]
    fn all(words: &[u32; 8]) -> Self {
        Self(words.map(Row::of))
    }

    /// The next state in the lanes that are to have it.
    #[inline(always)]
    fn with(&self, next: &Self, moves: [bool; LANES]) -> Self {
        let mut state = *self;
        for (row, next) in state.0.iter_mut().zip(&next.0) {
            for ((word, next), moves) in row.0.iter_mut().zip(next.0).zip(moves) {
                *word = if moves { next } else { *word };
            }
        }
        state
    }

    /// Which of these 16 octets are what the digest of their lane begins with; each in constant time.
    #[inline(always)]
    pub(crate) fn begin_with(&self, tags: &[&[u8; 16]; LANES]) -> [bool; LANES] {
        let mut differ = [0_u32; LANES];
        for (lane, tag) in tags.iter().enumerate() {
            for (row, word) in self.0.iter().zip(tag.chunks_exact(4)) {
                differ[lane] |= row.0[lane] ^ word.try_into().map_or(0, u32::from_be_bytes);
            }
        }
        differ.map(|bits| bits == 0)
    }
}

impl Row {
    #[inline(always)]
    const fn of(word: u32) -> Self {
        Self([word; LANES])
    }

    #[inline(always)]
    fn with(mut self, other: Self, of: impl Fn(u32, u32) -> u32) -> Self {
        for lane in 0..LANES {
            self.0[lane] = of(self.0[lane], other.0[lane]);
        }
        self
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.with(other, u32::wrapping_add)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.with(other, |a, b| a ^ b)
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self.with(other, |a, b| a & b)
    }

    #[inline(always)]
    fn turned(self, by: u32) -> Self {
        self.with(self, |a, _| a.rotate_right(by))
    }

    #[inline(always)]
    fn shifted(self, by: u32) -> Self {
        self.with(self, |a, _| a >> by)
    }
}

/// FIPS 180-4, 6.2.2.
#[allow(clippy::many_single_char_names, reason = "the standard's names")]
#[inline(always)]
fn compress(state: &mut State, mut words: [Row; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state.0;
    for sixteen in 0..4 {
        for at in 0..16 {
            if sixteen > 0 {
                let [first, second, tenth, last] = [at, at + 1, at + 9, at + 14].map(|place| words[place % 16]);
                let low = second.turned(7).xor(second.turned(18)).xor(second.shifted(3));
                let high = last.turned(17).xor(last.turned(19)).xor(last.shifted(10));
                words[at] = first.plus(low).plus(tenth).plus(high);
            }
            let word = words[at].plus(Row::of(CONSTANTS[16 * sixteen + at]));
            let choice = e.and(f).xor(g.with(e, |g, e| g & !e));
            let big = e.turned(6).xor(e.turned(11)).xor(e.turned(25));
            let first = h.plus(big).plus(choice).plus(word);
            let majority = a.and(b).xor(a.and(c)).xor(b.and(c));
            let second = a.turned(2).xor(a.turned(13)).xor(a.turned(22)).plus(majority);
            [h, g, f, e, d, c, b, a] = [g, f, e, d.plus(first), c, b, a, first.plus(second)];
        }
    }
    for (row, new) in state.0.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *row = row.plus(new);
    }
}

/// FIPS 180-4, 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// FIPS 180-4, 4.2.2.
const CONSTANTS: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{hmac, sha256};
    use proptest::prelude::*;
    use std::vec::Vec;

    /// The digest of one lane.
    fn lane(state: &State, lane: usize) -> Vec<u8> {
        state.0.iter().flat_map(|row| row.0[lane].to_be_bytes()).collect()
    }

    proptest! {
        #[test]
        fn as_one_after_the_other(messages in prop::array::uniform8(prop::collection::vec(any::<u8>(), 0..1300)), key: [u8; 32]) {
            let digests = digests(&messages.each_ref().map(|message| &**message));
            let tags = LaneKey::new(&key).tags(&digests);
            for (number, message) in messages.iter().enumerate() {
                let digest = sha256(&[message]);
                prop_assert_eq!(lane(&digests, number), digest);
                prop_assert_eq!(lane(&tags, number), &*hmac(&key, &[&digest]));
            }
        }
    }

    #[test]
    fn every_length_around_the_ends_of_blocks() {
        let octets: Vec<u8> = (0..=255).cycle().take(1300).collect();
        for length in (0..=200).chain(1200..=1232) {
            let digests = digests(&[0, 1, 2, 55, 56, 64, length, 1216].map(|length| &octets[..length]));
            assert_eq!(lane(&digests, 6), sha256(&[&octets[..length]]), "{length} octets");
            assert_eq!(lane(&digests, 7), sha256(&[&octets[..1216]]));
        }
    }

    #[test]
    fn a_tag_counts_when_all_of_it_is_right() {
        let digests = digests(&[b"abc"; LANES]);
        let right: [u8; 16] = *sha256(&[b"abc"]).first_chunk().unwrap();
        let tags: [[u8; 16]; LANES] = core::array::from_fn(|lane| {
            let mut tag = right;
            tag[lane * 2] ^= u8::from(lane > 0);
            tag
        });
        let found = digests.begin_with(&tags.each_ref());
        assert_eq!(found, core::array::from_fn(|lane| lane == 0));
    }
}

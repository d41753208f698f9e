//! Which way of telling junk from knocks this processor is made for.

use spa_proto::{Sieve, UnixTime};

type Payloads<'a> = [&'a [u8]; Sieve::AT_ONCE];

/// How wide the rows of words are that one instruction works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Not wide enough; or the processor knows SHA-256 itself, which is faster one after the other.
    Narrow,
    /// 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 256 bits, with instructions that turn words and join three rows at once.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Rows {
    #[cfg(target_arch = "x86_64")]
    pub(super) fn of_this_processor() -> Self {
        if is_x86_feature_detected!("sha") {
            Self::Narrow
        } else if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            Self::Avx512
        } else if is_x86_feature_detected!("avx2") {
            Self::Avx2
        } else {
            Self::Narrow
        }
    }

    /// Also those that would not be chosen.
    #[cfg(test)]
    pub(super) fn all_of_this_processor() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let all = [
            (Self::Avx2, is_x86_feature_detected!("avx2")),
            (
                Self::Avx512,
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl"),
            ),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let all: [(Self, bool); 0] = [];
        all.into_iter()
            .filter_map(|(rows, there)| there.then_some(rows))
            .collect()
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn of_this_processor() -> Self {
        Self::Narrow
    }

    /// Which of these bear no tag of ours; none is said to where asking is no gain.
    #[allow(
        unsafe_code,
        reason = "the one way to call what is compiled for one kind of processor"
    )]
    pub(super) fn untagged(self, sieve: &mut Sieve, now: UnixTime, payloads: &Payloads<'_>) -> [bool; Sieve::AT_ONCE] {
        match self {
            Self::Narrow => [false; Sieve::AT_ONCE],
            // SAFETY: `of_this_processor`, which alone makes this, has asked the processor for AVX2.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { sieve.untagged_avx2(now, payloads) },
            // SAFETY: the same for AVX-512F and VL.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { sieve.untagged_avx512(now, payloads) },
        }
    }
}

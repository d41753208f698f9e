//! The keyed outer layer: the tag that makes junk cheap to refuse, the mask that makes all of it look random
//! ("Datagram").

use hmac::Hmac;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::key::{HmacKey, PublicKey};
use crate::lanes::{self, LANES, LaneKey};
use crate::noise::{finish, keyed_hmac, sha256};
use crate::packet::SealedKnock;
use crate::time::Day;

const TAG_LABEL: &[u8] = b"spa/1 tag";
const MASK_LABEL: &[u8] = b"spa/1 mask";

/// `K_tag(day) = HMAC(K, "spa/1 tag" ‖ S ‖ day)`, keyed and ready.
#[derive(Clone)]
pub(crate) struct TagKey {
    mac: Hmac<Sha256>,
    lanes: LaneKey,
}

impl TagKey {
    pub(crate) fn new(hmac_key: &HmacKey, gateway: &PublicKey, day: Day) -> Self {
        let day = day.0.to_be_bytes();
        let key = finish(keyed_hmac(hmac_key.expose()), &[TAG_LABEL, gateway.as_bytes(), &day]);
        Self {
            mac: keyed_hmac(&*key),
            lanes: LaneKey::new(&key),
        }
    }

    /// `HMAC(K_tag(day), digest)` truncated to 16 octets; `digest` is [`digest`] of the rest of the datagram.
    pub(crate) fn tag(&self, digest: &[u8; 32]) -> [u8; 16] {
        let whole = finish(self.mac.clone(), &[digest]);
        core::array::from_fn(|i| whole[i])
    }

    /// Whether the tag is right, in constant time.
    pub(crate) fn verify(&self, digest: &[u8; 32], tag: &[u8; 16]) -> bool {
        self.tag(digest).ct_eq(tag).into()
    }

    /// The same for several at once, in constant time too.
    #[allow(clippy::inline_always, reason = "compiled for the caller's processor, as `lanes` is")]
    #[inline(always)]
    pub(crate) fn verify_lanes(&self, digests: &lanes::State, tags: &[&[u8; 16]; LANES]) -> [bool; LANES] {
        self.lanes.tags(digests).begin_with(tags)
    }
}

/// `SHA-256(masked_e ‖ enc_s ‖ enc_payload)`: once for each datagram, whatever the number of identities.
pub(crate) fn digest(tagged: &[u8]) -> [u8; 32] {
    sha256(&[tagged])
}

/// `K_mask = HMAC(K, "spa/1 mask" ‖ S)`, keyed and ready.
#[derive(Clone)]
pub(crate) struct MaskKey(Hmac<Sha256>);

impl MaskKey {
    pub(crate) fn new(hmac_key: &HmacKey, gateway: &PublicKey) -> Self {
        Self(keyed_hmac(&*finish(
            keyed_hmac(hmac_key.expose()),
            &[MASK_LABEL, gateway.as_bytes()],
        )))
    }

    /// `e XOR HMAC(K_mask, enc_s ‖ enc_payload)`: masks and unmasks.
    pub(crate) fn apply(&self, e: &[u8; 32], masked_by: &[&[u8]]) -> [u8; 32] {
        let mask = finish(self.0.clone(), masked_by);
        core::array::from_fn(|i| e[i] ^ mask[i])
    }

    /// The ephemeral key of a datagram.
    pub(crate) fn unmask(&self, sealed: &SealedKnock<'_>) -> PublicKey {
        PublicKey(self.apply(sealed.masked_e, &sealed.masked_by()))
    }
}

impl core::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MaskKey(..)")
    }
}

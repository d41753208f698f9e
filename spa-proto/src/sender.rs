//! The client: request → datagram ("Datagram").

use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::key::{HmacKey, Psk, PublicKey, SecretKey};
use crate::knock::Request;
use crate::noise::{self, hmac};
use crate::outer::{MaskKey, TagKey, digest};
use crate::packet::{LENGTHS, OVERHEAD};

const EPHEMERAL_LABEL: &[u8] = b"spa/1 e";

/// The keys a client seals with.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The gateway's static public key `S`.
    pub gateway: &'a PublicKey,
    /// The gateway's HMAC key `K`.
    pub hmac_key: &'a HmacKey,
    /// The client's static private key `C`; an invite's for enroll.
    pub secret: &'a SecretKey,
    /// The client's PSK `P`; an invite's for enroll.
    pub psk: &'a Psk,
}

impl Sender<'_> {
    /// Seals a request into a datagram of exactly `length` octets, which [`pick_length`](crate::pick_length) chooses.
    ///
    /// The ephemeral key depends on 32 octets of `rng`, the private key, the PSK and the payload, so that randomness
    /// that repeats cannot bring one ephemeral key with two payloads.
    ///
    /// # Errors
    ///
    /// [`SealError`] when the request does not fit the length or the gateway's key is a low-order point.
    pub fn seal(&self, request: &Request, length: usize, rng: &mut impl CryptoRng) -> Result<Vec<u8>, SealError> {
        let need = request.payload_len() + OVERHEAD;
        if !LENGTHS.contains(&length) || length < need {
            return Err(SealError::Length { need, length });
        }
        let payload = request.encode(length - OVERHEAD);
        let ephemeral = self.ephemeral(&payload, rng);
        let message = noise::write(self.gateway, self.secret, self.psk, &ephemeral, &payload);
        let message = message.ok_or(SealError::GatewayKey)?;
        let (e, rest) = message.split_first_chunk().ok_or(SealError::GatewayKey)?;
        let mut tagged = MaskKey::new(self.hmac_key, self.gateway).apply(e, &[rest]).to_vec();
        tagged.extend_from_slice(rest);
        let day = request.timestamp.day();
        let tag = TagKey::new(self.hmac_key, self.gateway, day).tag(&digest(&tagged));
        Ok([&tag, &*tagged].concat())
    }

    /// `HMAC(P, "spa/1 e" ‖ C ‖ 32 fresh random bytes ‖ payload)`.
    fn ephemeral(&self, payload: &[u8], rng: &mut impl CryptoRng) -> SecretKey {
        let mut fresh = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *fresh);
        SecretKey::from_bytes(&hmac(
            self.psk.expose(),
            &[EPHEMERAL_LABEL, self.secret.expose(), &*fresh, payload],
        ))
    }
}

/// A request that cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The length is outside the protocol's limits, or the request needs more.
    Length {
        /// The least length this request can have.
        need: usize,
        /// The length asked for.
        length: usize,
    },
    /// The gateway's public key is a low-order point: nobody's.
    GatewayKey,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { need, length } => write!(f, "a request of {need} octets cannot be a datagram of {length}"),
            Self::GatewayKey => f.write_str("the gateway's public key is no usable X25519 key"),
        }
    }
}

impl core::error::Error for SealError {}

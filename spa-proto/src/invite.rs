//! The credential inside an invite ("Enrollment in one packet").

use core::fmt;

use rand_core::CryptoRng;
use zeroize::ZeroizeOnDrop;

use crate::key::{Psk, SecretKey};
use crate::noise::hmac;

const LABEL: &[u8] = b"spa/1 invite";

/// The random seed an invite carries. Everything of the invite's credential follows from it.
#[derive(ZeroizeOnDrop)]
pub struct InviteSeed([u8; 32]);

impl InviteSeed {
    /// Takes 32 octets as a seed.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// A new random seed.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Self([0; 32]);
        rng.fill_bytes(&mut seed.0);
        seed
    }

    /// The octets, for the invite's text and nowhere else.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// `C_invite = HMAC(prk, "key" ‖ 0x01)` with `prk = HMAC("spa/1 invite", seed)`.
    #[must_use]
    pub fn secret_key(&self) -> SecretKey {
        let prk = hmac(LABEL, &[&self.0]);
        SecretKey::from_bytes(&hmac(&*prk, &[b"key", &[1]]))
    }

    /// `P_invite = HMAC(prk, "psk" ‖ 0x01)`.
    #[must_use]
    pub fn psk(&self) -> Psk {
        let prk = hmac(LABEL, &[&self.0]);
        Psk::from_bytes(&hmac(&*prk, &[b"psk", &[1]]))
    }
}

impl fmt::Debug for InviteSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSeed(..)")
    }
}

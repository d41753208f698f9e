//! Key newtypes. Secrets zeroize, compare in constant time, print as `Name(..)` and cannot be cloned.

use core::fmt;

use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use x25519_dalek::{SharedSecret, StaticSecret};
use zeroize::Zeroizing;

/// An X25519 public key as it travels: 32 octets (RFC 7748).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// The field prime 2^255 − 19, little-endian.
const PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

impl PublicKey {
    /// The octets.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the one canonical encoding of its point: as a little-endian number less than 2^255 − 19
    /// ("Enrollment in one packet").
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.0.iter().rev().lt(PRIME.iter().rev())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// An X25519 private key (RFC 7748).
pub struct SecretKey(StaticSecret);

impl SecretKey {
    /// Takes 32 octets as a private key. They are clamped when used, not when stored.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// A new random key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(StaticSecret::random_from_rng(rng))
    }

    /// The octets, to be written to a file of mode 0600 and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// Whether a Diffie-Hellman with `theirs` gives something other than zeros: it is no low-order point.
    #[must_use]
    pub fn agrees_with(&self, theirs: &PublicKey) -> bool {
        self.agree(theirs).is_some()
    }

    /// X25519(self, theirs), or nothing when the result is all zeros ("Datagram").
    pub(crate) fn agree(&self, theirs: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
        let shared: SharedSecret = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(theirs.0));
        shared.was_contributory().then(|| Zeroizing::new(*shared.as_bytes()))
    }
}

impl ConstantTimeEq for SecretKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.expose().ct_eq(other.expose())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

macro_rules! symmetric_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(zeroize::ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes 32 octets as this key.
            #[must_use]
            pub const fn from_bytes(bytes: &[u8; 32]) -> Self {
                Self(*bytes)
            }

            /// A new random key.
            pub fn generate(rng: &mut impl CryptoRng) -> Self {
                let mut key = Self([0; 32]);
                rng.fill_bytes(&mut key.0);
                key
            }

            /// The octets, to be written to a file of mode 0600 and nowhere else.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// Whether every octet is zero, which no key may be.
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.0.ct_eq(&[0; 32]).into()
            }
        }

        impl ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> Choice {
                self.0.ct_eq(&other.0)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.ct_eq(other).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

symmetric_key! {
    /// A gateway's HMAC key `K`: makes junk cheap to refuse. Who learns it can open nothing.
    HmacKey
}

symmetric_key! {
    /// A client's pre-shared key `P`: the second authentication factor.
    Psk
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn canonical_ends_at_the_prime() {
        let mut below = PRIME;
        below[0] -= 1;
        let mut bit_255 = [0; 32];
        bit_255[31] = 0x80;
        assert!(PublicKey(below).is_canonical());
        assert!(PublicKey([0; 32]).is_canonical());
        assert!(!PublicKey(PRIME).is_canonical());
        assert!(!PublicKey([0xff; 32]).is_canonical());
        assert!(!PublicKey(bit_255).is_canonical());
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes(&[7; 32])), "SecretKey(..)");
        assert_eq!(format!("{:?}", Psk::from_bytes(&[7; 32])), "Psk(..)");
        assert_eq!(format!("{:?}", HmacKey::from_bytes(&[7; 32])), "HmacKey(..)");
    }

    #[test]
    fn low_order_points_do_not_agree() {
        let secret = SecretKey::from_bytes(&[9; 32]);
        let one = PublicKey(core::array::from_fn(|i| u8::from(i == 0)));
        assert!(!secret.agrees_with(&PublicKey([0; 32])));
        assert!(!secret.agrees_with(&one));
        assert!(secret.agrees_with(&SecretKey::from_bytes(&[8; 32]).public()));
    }
}

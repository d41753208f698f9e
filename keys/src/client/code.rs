//! The secret of a client's one-time codes (RFC 6238), in base32 (RFC 4648, section 6) as authenticator apps take it.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The secret of a client's one-time codes and how many digits they have.
pub struct OneTimeCode {
    secret: Zeroizing<Box<[u8]>>,
    /// 6 or 8.
    pub digits: u8,
}

impl OneTimeCode {
    /// The fewest and the most bytes of a secret.
    pub const LENGTHS: std::ops::RangeInclusive<usize> = 10..=64;

    /// Reads a secret in base32, capitals, without padding.
    ///
    /// # Errors
    ///
    /// [`CodeSecretError`] for other characters and lengths, and for unused bits that are not zero.
    pub fn parse(text: &str, digits: u8) -> Result<Self, CodeSecretError> {
        let mut octets = Zeroizing::new(Vec::with_capacity(text.len()));
        let (mut bits, mut held) = (0_u16, 0);
        for character in text.bytes() {
            let value = ALPHABET.iter().position(|known| *known == character);
            let value = value.and_then(|value| u16::try_from(value).ok());
            bits = bits << 5 | value.ok_or(CodeSecretError)?;
            held += 5;
            if held >= 8 {
                held -= 8;
                octets.push(u8::try_from(bits >> held).map_err(|_| CodeSecretError)?);
                bits &= (1 << held) - 1;
            }
        }
        if bits != 0 || held >= 5 || !Self::LENGTHS.contains(&octets.len()) {
            return Err(CodeSecretError);
        }
        let secret = Zeroizing::new(std::mem::take(&mut *octets).into_boxed_slice());
        Ok(Self { secret, digits })
    }

    /// The secret's bytes, the key of the HMAC.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.secret
    }

    /// The same secret once more.
    #[must_use]
    pub(crate) fn duplicate(&self) -> Self {
        Self {
            secret: self.secret.clone(),
            digits: self.digits,
        }
    }

    /// The secret in base32, for the client's file and an authenticator app.
    #[must_use]
    pub fn to_base32(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.secret.len() * 2));
        for chunk in self.secret.chunks(5) {
            let bits = chunk.iter().fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet)) << (8 * (5 - chunk.len()));
            for i in 0..(chunk.len() * 8).div_ceil(5) {
                let value = usize::try_from(bits >> (35 - 5 * i) & 31).unwrap_or_default();
                text.push(ALPHABET.get(value).copied().map_or('A', char::from));
            }
        }
        text
    }
}

impl PartialEq for OneTimeCode {
    fn eq(&self, other: &Self) -> bool {
        self.digits == other.digits && bool::from(self.secret.ct_eq(&other.secret))
    }
}

impl Eq for OneTimeCode {}

impl fmt::Debug for OneTimeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneTimeCode(..)")
    }
}

/// A text that is no secret of one-time codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSecretError;

impl fmt::Display for CodeSecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a one-time code's secret is 16 to 103 characters of base32 (A-Z 2-7) without padding")
    }
}

impl std::error::Error for CodeSecretError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_6238_secret() {
        let code = OneTimeCode::parse("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", 8).unwrap();
        assert_eq!(code.expose(), b"12345678901234567890");
        assert_eq!(code.to_base32().as_str(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(format!("{code:?}"), "OneTimeCode(..)");
    }

    #[test]
    fn strange_secrets_are_refused() {
        for bad in [
            "",
            "GEZDGNBVGY3TQOJ",
            "gezdgnbvgy3tqojq",
            "GEZDGNBVGY3TQOJQ=",
            "GEZDGNBVGY3TQOJ1",
            "GEZDGNBVGY3TQOJQB",
        ] {
            assert_eq!(OneTimeCode::parse(bad, 6), Err(CodeSecretError), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written(text in "[A-Z2-7]{0,110}") {
            if let Ok(code) = OneTimeCode::parse(&text, 6) {
                let written = code.to_base32();
                prop_assert_eq!(written.as_str(), text);
            }
        }
    }
}

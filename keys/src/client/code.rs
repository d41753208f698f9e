//! The secret of a client's one-time codes (RFC 6238), in base32 (RFC 4648, section 6) as authenticator apps take it.

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::name::{ClientName, Host};

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

    /// What RFC 4226 recommends: as many bytes as HMAC-SHA-1 gives.
    const NEW: usize = 20;

    /// A new random secret for codes of 6 or 8 digits.
    pub fn generate(digits: u8, rng: &mut impl CryptoRng) -> Self {
        let mut secret = Zeroizing::new(vec![0; Self::NEW].into_boxed_slice());
        rng.fill_bytes(&mut secret);
        Self { secret, digits }
    }

    /// The text that authenticator apps read, as they all know it.
    #[must_use]
    pub fn to_uri(&self, client: &ClientName, gateway: &Host) -> Zeroizing<String> {
        // An IPv6 address has colons, which part issuer and account.
        let issuer = gateway.as_str().replace(':', "%3A");
        let secret = self.to_base32();
        let mut uri = Zeroizing::new(String::with_capacity(1024));
        for part in [
            "otpauth://totp/",
            &issuer,
            ":",
            client.as_str(),
            "?secret=",
            &secret,
            "&issuer=",
            &issuer,
        ] {
            uri.push_str(part);
        }
        uri.push_str("&algorithm=SHA1&digits=");
        uri.push(char::from(b'0' + self.digits));
        uri.push_str("&period=30");
        uri
    }

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
    fn what_apps_read() {
        let code = OneTimeCode::parse("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", 6).unwrap();
        let uri = code.to_uri(&"alice-phone".parse().unwrap(), &"2001:db8::7".parse().unwrap());
        assert_eq!(
            uri.as_str(),
            "otpauth://totp/2001%3Adb8%3A%3A7:alice-phone?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=2001%3Adb8%3A%3A7&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn new_secrets_are_random_and_can_be_written() {
        let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
        let (first, second) = (OneTimeCode::generate(8, rng), OneTimeCode::generate(8, rng));
        assert!(first != second);
        assert!(OneTimeCode::parse(&first.to_base32(), 8).unwrap() == first);
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

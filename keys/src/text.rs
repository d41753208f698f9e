//! 32-byte values as text: 43 characters of base64url without padding (RFC 4648, section 5).

use std::fmt;

use base64::engine::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use spa_proto::{HmacKey, Psk, PublicKey, SecretKey};
use zeroize::Zeroizing;

/// Characters that 32 bytes take.
pub const LENGTH: usize = 43;

/// Writes 32 public bytes.
#[must_use]
pub fn encode(bytes: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes 32 secret bytes; the text is wiped when dropped.
#[must_use]
pub fn encode_secret(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(LENGTH));
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text
}

/// Reads 32 bytes.
///
/// # Errors
///
/// [`TextError`] for another length, padding, white space, other characters, and unused bits that are not zero.
pub fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, TextError> {
    check_characters(text)?;
    if text.len() != LENGTH {
        return Err(TextError::Length { have: text.len() });
    }
    // One byte more than needed: the decoder asks for whole groups of three.
    let mut buffer = Zeroizing::new([0; 33]);
    let written = URL_SAFE_NO_PAD.decode_slice(text, &mut *buffer);
    match (written, buffer.first_chunk()) {
        (Ok(32), Some(bytes)) => Ok(Zeroizing::new(*bytes)),
        _ => Err(TextError::UnusedBits),
    }
}

/// Says which character does not belong into base64url, if one does not.
pub(crate) fn check_characters(text: &str) -> Result<(), TextError> {
    let foreign = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    match text.chars().enumerate().find(|(_, character)| foreign(*character)) {
        None => Ok(()),
        Some((at, '=')) => Err(TextError::Padding { at: at + 1 }),
        Some((at, character)) if character.is_whitespace() => Err(TextError::WhiteSpace { at: at + 1 }),
        Some((at, character)) => Err(TextError::Character { at: at + 1, character }),
    }
}

/// Reads a public key.
///
/// # Errors
///
/// As [`decode`].
pub fn public_key(text: &str) -> Result<PublicKey, TextError> {
    decode(text).map(|bytes| PublicKey(*bytes))
}

/// Reads a private key.
///
/// # Errors
///
/// As [`decode`].
pub fn secret_key(text: &str) -> Result<SecretKey, TextError> {
    decode(text).map(|bytes| SecretKey::from_bytes(&bytes))
}

/// Reads a PSK; all zeros is none.
///
/// # Errors
///
/// As [`decode`], and [`TextError::Zero`].
pub fn psk(text: &str) -> Result<Psk, TextError> {
    let psk = decode(text).map(|bytes| Psk::from_bytes(&bytes))?;
    if psk.is_zero() { Err(TextError::Zero) } else { Ok(psk) }
}

/// Reads a gateway's HMAC key; all zeros is none.
///
/// # Errors
///
/// As [`decode`], and [`TextError::Zero`].
pub fn hmac_key(text: &str) -> Result<HmacKey, TextError> {
    let key = decode(text).map(|bytes| HmacKey::from_bytes(&bytes))?;
    if key.is_zero() { Err(TextError::Zero) } else { Ok(key) }
}

/// `SHA256:` and the base64url of SHA-256 of a public key: short enough to compare by eye.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    format!("SHA256:{}", encode(&Sha256::digest(key.as_bytes()).into()))
}

/// A text that is no 32-byte value. It never holds the text itself, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// Not 43 characters.
    Length {
        /// How many there are.
        have: usize,
    },
    /// `=`.
    Padding {
        /// Which character, counted from 1.
        at: usize,
    },
    /// A space, tab or line end.
    WhiteSpace {
        /// Which character, counted from 1.
        at: usize,
    },
    /// A character outside `A-Z a-z 0-9 - _`.
    Character {
        /// Which character, counted from 1.
        at: usize,
        /// It itself.
        character: char,
    },
    /// The last character carries bits that no byte uses.
    UnusedBits,
    /// All zeros, where that is no key.
    Zero,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { have } => write!(f, "{have} characters, where a key has {LENGTH}"),
            Self::Padding { at } => write!(f, "padding (=) at character {at}; base64url goes without"),
            Self::WhiteSpace { at } => write!(f, "white space at character {at}"),
            Self::Character { at, character } => write!(
                f,
                "{} at character {at} is not base64url (A-Z a-z 0-9 - _)",
                character.escape_debug()
            ),
            Self::UnusedBits => f.write_str("the last character is mistyped or cut: its unused bits are not zero"),
            Self::Zero => f.write_str("all zeros, which no key may be"),
        }
    }
}

impl std::error::Error for TextError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strange_texts_are_refused() {
        let good = encode(&[0xff; 32]);
        assert_eq!(good.len(), LENGTH);
        assert_eq!(decode(&good[1..]), Err(TextError::Length { have: 42 }));
        assert_eq!(decode(&format!("{good}=")), Err(TextError::Padding { at: 44 }));
        assert_eq!(decode(&format!("{good}\n")), Err(TextError::WhiteSpace { at: 44 }));
        let foreign = TextError::Character { at: 1, character: '+' };
        assert_eq!(decode(&good.replacen('_', "+", 1)), Err(foreign));
        assert_eq!(decode(&format!("{}9", &good[..42])), Err(TextError::UnusedBits));
        assert_eq!(decode(""), Err(TextError::Length { have: 0 }));
    }

    #[test]
    fn zeros_are_no_secret() {
        let zeros = encode(&[0; 32]);
        assert_eq!(psk(&zeros), Err(TextError::Zero));
        assert_eq!(hmac_key(&zeros), Err(TextError::Zero));
    }

    #[test]
    fn fingerprints_are_those_of_sha256() {
        let fingerprint = fingerprint(&PublicKey([0; 32]));
        assert_eq!(fingerprint, "SHA256:Zmh6rfhivXdsj8GLjp-OIAiXFIVu4jOzkCpZHQ1fKSU");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes: [u8; 32]) {
            prop_assert_eq!(*decode(&encode(&bytes)).unwrap(), bytes);
            let secret = encode_secret(&bytes);
            prop_assert_eq!(secret.as_str(), encode(&bytes));
        }

        #[test]
        fn what_is_read_is_written(text in "[A-Za-z0-9_-]{43}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }

        #[test]
        fn nothing_panics(text: String) {
            let _ = decode(&text);
        }
    }
}

//! A profile under a passphrase: argon2id (RFC 9106) and ChaCha20-Poly1305 (RFC 8439) in a small TOML table.
//!
//!     key      = argon2id(passphrase, salt, memory, passes), one lane, 32 bytes
//!     head     = "spa/1 profile" ‖ version ‖ memory in KiB ‖ passes ‖ salt     numbers in 4 bytes, big-endian
//!     contents = AEAD(key, nonce 0, associated data head, the profile's text) ‖ first 4 bytes of SHA-256(head ‖ AEAD)
//!
//! The salt is fresh at each writing and so is the key, which is why the nonce may be zero. The checksum tells a damaged
//! file from a wrong passphrase.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::engine::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{Profile, SyntaxError};

mod error;

pub use error::SealedError;

const LABEL: &[u8] = b"spa/1 profile";
const VERSION: u32 = 1;
const SALT_LEN: usize = 16;
const CHECK_LEN: usize = 4;

/// What a passphrase is made dear with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Cost {
    /// RFC 9106, section 4, second choice: 64 MiB and 3 passes, 0.15 s on a desktop of 2020, with one lane.
    pub const DEFAULT: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
    };
    /// A file that asks for more is refused before anything is allocated.
    const MOST_KIB: u32 = 1024 * 1024;
    const MOST_PASSES: u32 = 64;
    /// What argon2 itself needs.
    const LEAST_KIB: u32 = 8;

    fn check(self) -> Result<Self, SealedError> {
        let good = (Self::LEAST_KIB..=Self::MOST_KIB).contains(&self.memory_kib)
            && (1..=Self::MOST_PASSES).contains(&self.passes)
            && u64::from(self.memory_kib) * u64::from(self.passes) <= 8 * u64::from(Self::MOST_KIB);
        if good { Ok(self) } else { Err(SealedError::Cost(self)) }
    }
}

/// A passphrase; it is wiped when dropped and never shown.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes what was typed.
    ///
    /// # Errors
    ///
    /// [`SealedError::Empty`] when that is nothing.
    pub fn new(text: Zeroizing<String>) -> Result<Self, SealedError> {
        if text.is_empty() {
            Err(SealedError::Empty)
        } else {
            Ok(Self(text))
        }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// A profile as it lies under a passphrase.
#[derive(Debug)]
pub struct Sealed {
    cost: Cost,
    salt: [u8; SALT_LEN],
    /// With the checksum.
    contents: Vec<u8>,
}

#[derive(Deserialize)]
struct Probe {
    sealed: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    sealed: RawSealed,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawSealed {
    version: u32,
    memory_kib: u32,
    passes: u32,
    salt: String,
    contents: String,
}

impl Sealed {
    /// Seals a profile.
    ///
    /// # Errors
    ///
    /// [`SealedError`] when there is not the memory that it costs, or no randomness.
    pub fn seal(profile: &Profile, passphrase: &Passphrase, cost: Cost) -> Result<Self, SealedError> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt).map_err(|_| SealedError::Randomness)?;
        let mut sealed = Self {
            cost: cost.check()?,
            salt,
            contents: Vec::new(),
        };
        let text = profile.to_text();
        // With room for the tag and the checksum: the text is encrypted in its place and never moved.
        let mut contents = Zeroizing::new(Vec::with_capacity(text.len() + 64));
        contents.extend_from_slice(text.as_bytes());
        let cipher = sealed.cipher(passphrase)?;
        let encrypted = cipher.encrypt_in_place(&Nonce::default(), &sealed.head(), &mut *contents);
        encrypted.map_err(|_| SealedError::Randomness)?;
        let check = sealed.check(&contents);
        contents.extend_from_slice(&check);
        sealed.contents = std::mem::take(&mut *contents);
        Ok(sealed)
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// [`SealedError::Damaged`], [`SealedError::Passphrase`], [`SealedError::Memory`], or what is wrong in the text.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Profile, SealedError> {
        let (encrypted, check) = self.contents.split_last_chunk().ok_or(SealedError::Damaged)?;
        if *check != self.check(encrypted) {
            return Err(SealedError::Damaged);
        }
        let mut octets = Zeroizing::new(encrypted.to_vec());
        let cipher = self.cipher(passphrase)?;
        let opened = cipher.decrypt_in_place(&Nonce::default(), &self.head(), &mut *octets);
        opened.map_err(|_| SealedError::Passphrase)?;
        let text = std::str::from_utf8(&octets).map_err(|_| SealedError::Damaged)?;
        Profile::parse(text).map_err(SealedError::Syntax)
    }

    /// Reads a file's text; `None` when it is a profile without a passphrase, or no profile at all.
    ///
    /// # Errors
    ///
    /// [`SealedError`] when it is sealed in a way that is not known or not sane.
    pub fn parse(text: &str) -> Result<Option<Self>, SealedError> {
        let probe = toml::from_str::<Probe>(text);
        if !probe.is_ok_and(|probe| probe.sealed.is_some()) {
            return Ok(None);
        }
        let raw: RawFile =
            toml::from_str(text).map_err(|error| SealedError::Syntax(SyntaxError::locate(text, &error)))?;
        let raw = raw.sealed;
        if raw.version != VERSION {
            return Err(SealedError::Version { version: raw.version });
        }
        let cost = Cost {
            memory_kib: raw.memory_kib,
            passes: raw.passes,
        };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| SealedError::Damaged);
        Ok(Some(Self {
            cost: cost.check()?,
            salt: decode(&raw.salt)?.try_into().map_err(|_| SealedError::Damaged)?,
            contents: decode(&raw.contents)?,
        }))
    }

    /// Writes the file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "# A profile of spa-client under a passphrase. `spa-client passwd` changes it or takes it away.\n\
             [sealed]\nversion = {VERSION}\nmemory-kib = {}\npasses = {}\nsalt = \"{}\"\ncontents = \"{}\"\n",
            self.cost.memory_kib,
            self.cost.passes,
            URL_SAFE_NO_PAD.encode(self.salt),
            URL_SAFE_NO_PAD.encode(&self.contents),
        )
    }

    fn head(&self) -> Vec<u8> {
        let Cost { memory_kib, passes } = self.cost;
        let numbers = [VERSION, memory_kib, passes].map(u32::to_be_bytes).concat();
        [LABEL, &numbers, &self.salt].concat()
    }

    fn check(&self, encrypted: &[u8]) -> [u8; CHECK_LEN] {
        let digest = Sha256::new()
            .chain_update(self.head())
            .chain_update(encrypted)
            .finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(digest);
        [a, b, c, d]
    }

    fn cipher(&self, passphrase: &Passphrase) -> Result<ChaCha20Poly1305, SealedError> {
        let key = derive(passphrase, &self.salt, self.cost)?;
        Ok(ChaCha20Poly1305::new(&Key::from(*key)))
    }
}

/// The memory is asked for in a way that can be refused, and wiped.
fn derive(passphrase: &Passphrase, salt: &[u8], cost: Cost) -> Result<Zeroizing<[u8; 32]>, SealedError> {
    let params = Params::new(cost.memory_kib, cost.passes, 1, None).map_err(|_| SealedError::Cost(cost))?;
    let mut memory: Vec<Block> = Vec::new();
    let blocks = params.block_count();
    memory
        .try_reserve_exact(blocks)
        .map_err(|_| SealedError::Memory(cost))?;
    memory.resize(blocks, Block::default());
    let mut key = Zeroizing::new([0; 32]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let derived = argon2.hash_password_into_with_memory(passphrase.0.as_bytes(), salt, &mut *key, &mut memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    derived.map_err(|_| SealedError::Cost(cost))?;
    Ok(key)
}

#[cfg(test)]
mod tests;

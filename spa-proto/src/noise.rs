//! `Noise_Xpsk1_25519_ChaChaPoly_SHA256`, Noise revision 34, written on the primitives ("Datagram").
//!
//! ```text
//! <- s
//! ...
//! -> e, es, s, ss, psk
//! ```

use alloc::vec::Vec;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::key::{Psk, PublicKey, SecretKey};

const NAME: &[u8] = b"Noise_Xpsk1_25519_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"spa/1";

/// The result of a Diffie-Hellman, a hash or a derivation that must not outlive its use.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// An HMAC-SHA256 that has taken its key and no octet yet (RFC 2104). Keys here are never longer than a block.
pub(crate) fn keyed_hmac(key: &[u8]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key).for_each(|(place, octet)| *place = *octet);
    Hmac::new((&*block).into())
}

/// HMAC-SHA256 over the parts, joined (RFC 2104).
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Secret {
    finish(keyed_hmac(key), parts)
}

/// Finishes an HMAC over the parts, joined.
pub(crate) fn finish(mut mac: Hmac<Sha256>, parts: &[&[u8]]) -> Secret {
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// SHA-256 over the parts, joined (FIPS 180-4).
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), Digest::chain_update).finalize().into()
}

/// Noise's SymmetricState without its cipher: each key here encrypts one thing, under nonce 0.
#[derive(ZeroizeOnDrop)]
struct Symmetric {
    chaining: [u8; 32],
    hash: [u8; 32],
}

impl Symmetric {
    fn new(gateway: &PublicKey) -> Self {
        let name = sha256(&[NAME]);
        let mut state = Self {
            chaining: name,
            hash: name,
        };
        state.mix_hash(PROLOGUE);
        state.mix_hash(gateway.as_bytes());
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = sha256(&[&self.hash, data]);
    }

    /// `MixKey`: HKDF with two outputs, the chaining key and a cipher key.
    fn mix_key(&mut self, input: &[u8; 32]) -> Secret {
        let temp = hmac(&self.chaining, &[input]);
        self.chaining = *hmac(&*temp, &[&[1]]);
        hmac(&*temp, &[&self.chaining, &[2]])
    }

    /// `MixKeyAndHash`: HKDF with three outputs.
    fn mix_key_and_hash(&mut self, input: &[u8; 32]) -> Secret {
        let temp = hmac(&self.chaining, &[input]);
        self.chaining = *hmac(&*temp, &[&[1]]);
        let second = hmac(&*temp, &[&self.chaining, &[2]]);
        self.mix_hash(&*second);
        hmac(&*temp, &[&*second, &[3]])
    }

    /// `e`: in a pattern with a pre-shared key the ephemeral key is mixed into the chaining key too.
    fn ephemeral(&mut self, e: &PublicKey) {
        self.mix_hash(e.as_bytes());
        self.mix_key(e.as_bytes());
    }

    /// `EncryptAndHash`: appends the ciphertext and its authenticator to `out`.
    ///
    /// Nothing when the plaintext is longer than the cipher can take, which no payload is.
    fn encrypt(&mut self, key: &Secret, plaintext: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        out.extend_from_slice(plaintext);
        let (_, text) = out.split_at_mut_checked(start)?;
        let tag = cipher(key)
            .encrypt_inout_detached(&Nonce::default(), &self.hash, text.into())
            .ok()?;
        out.extend_from_slice(&tag);
        self.mix_hash(out.get(start..)?);
        Some(())
    }

    /// `DecryptAndHash`, in place; what is left in `text` after a refusal means nothing.
    fn decrypt(&mut self, key: &Secret, ciphertext: &[u8], text: &mut [u8]) -> Option<()> {
        let (body, tag) = ciphertext.split_last_chunk::<16>()?;
        text.copy_from_slice(body);
        let tag = Tag::from(*tag);
        cipher(key)
            .decrypt_inout_detached(&Nonce::default(), &self.hash, text.into(), &tag)
            .ok()?;
        self.mix_hash(ciphertext);
        Some(())
    }
}

fn cipher(key: &Secret) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new((&**key).into())
}

/// Writes the Noise message `e ‖ enc_s ‖ enc_payload`.
///
/// Nothing when the gateway's key is a low-order point.
pub(crate) fn write(
    gateway: &PublicKey,
    client: &SecretKey,
    psk: &Psk,
    ephemeral: &SecretKey,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let e = ephemeral.public();
    let mut out = Vec::with_capacity(32 + 48 + payload.len() + 16);
    out.extend_from_slice(e.as_bytes());
    let mut state = Symmetric::new(gateway);
    state.ephemeral(&e);
    let key = state.mix_key(&*ephemeral.agree(gateway)?);
    state.encrypt(&key, client.public().as_bytes(), &mut out)?;
    state.mix_key(&*client.agree(gateway)?);
    let key = state.mix_key_and_hash(psk.expose());
    state.encrypt(&key, payload, &mut out)?;
    Some(out)
}

/// A message of which the sender's static key has been read, but nothing proves yet that the sender holds it.
pub(crate) struct HalfOpen {
    state: Symmetric,
    /// The static key that the sender claims.
    pub(crate) claim: PublicKey,
}

impl HalfOpen {
    /// Reads `e` and `enc_s`: one Diffie-Hellman.
    ///
    /// Nothing when `e` is a low-order point or `enc_s` is not authentic.
    pub(crate) fn read(secret: &SecretKey, public: &PublicKey, e: &PublicKey, enc_s: &[u8; 48]) -> Option<Self> {
        let mut state = Symmetric::new(public);
        state.ephemeral(e);
        let key = state.mix_key(&*secret.agree(e)?);
        let mut claim = PublicKey([0; 32]);
        state.decrypt(&key, enc_s, &mut claim.0)?;
        Some(Self { state, claim })
    }

    /// Reads the payload with the kept `ss` and the client's PSK: no Diffie-Hellman.
    ///
    /// Nothing when it is not authentic: the claim was false or the message was changed.
    pub(crate) fn finish(mut self, ss: &Secret, psk: &Psk, enc_payload: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.state.mix_key(ss);
        let key = self.state.mix_key_and_hash(psk.expose());
        let mut payload = Zeroizing::new(alloc::vec![0; enc_payload.len().checked_sub(16)?]);
        self.state.decrypt(&key, enc_payload, &mut payload)?;
        Some(payload)
    }
}

//! The datagram written by hand ("Datagram"): by whoever has the gateway's keys, with whatever he lacks made up.
//!
//! `ss` needs only the two static keys, so that who stole `S` can compute it for any client whose public key he knows.
//! What he lacks is the PSK.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

type Key = [u8; 32];

/// What a Noise message is made with.
#[derive(Clone, Copy, Debug)]
pub struct Forge<'a> {
    /// `S`, public.
    pub gateway: &'a Key,
    /// `K`.
    pub hmac_key: &'a Key,
    /// `C`, public: who is said to be knocking.
    pub claim: &'a Key,
    /// The Diffie-Hellman of `S` and `C`.
    pub shared: &'a Key,
    /// `P`, or what is taken for it.
    pub psk: &'a Key,
}

impl Forge<'_> {
    /// `masked_e ‖ enc_s ‖ enc_payload`.
    #[must_use]
    pub fn body(&self, ephemeral: &Key, payload: &[u8]) -> Vec<u8> {
        let e = x25519(*ephemeral, X25519_BASEPOINT_BYTES);
        let mut noise = Noise::new(self.gateway);
        noise.mix_hash(&e);
        noise.mix_key(&e);
        let key = noise.mix_key(&x25519(*ephemeral, *self.gateway));
        let enc_s = noise.encrypt(&key, self.claim);
        noise.mix_key(self.shared);
        let key = noise.mix_psk(self.psk);
        let rest = [enc_s, noise.encrypt(&key, payload)].concat();
        let k_mask = hmac(self.hmac_key, &[b"spa/1 mask", self.gateway]);
        let mask = hmac(&k_mask, &[&rest]);
        let masked = e.iter().zip(mask).map(|(octet, mask)| octet ^ mask);
        masked.chain(rest.iter().copied()).collect()
    }
}

/// The tag of a day over everything that follows it.
#[must_use]
pub fn tag(hmac_key: &Key, gateway: &Key, day: u64, body: &[u8]) -> [u8; 16] {
    let k_tag = hmac(hmac_key, &[b"spa/1 tag", gateway, &day.to_be_bytes()]);
    let whole = hmac(&k_tag, &[&Sha256::digest(body)]);
    whole[..16].try_into().expect("16 of 32")
}

/// The public key of a private one.
#[must_use]
pub fn public(secret: &Key) -> Key {
    x25519(*secret, X25519_BASEPOINT_BYTES)
}

struct Noise {
    chaining: Key,
    hash: Key,
}

impl Noise {
    fn new(gateway: &Key) -> Self {
        let name = Sha256::digest(b"Noise_Xpsk1_25519_ChaChaPoly_SHA256").into();
        let mut noise = Self {
            chaining: name,
            hash: name,
        };
        noise.mix_hash(b"spa/1");
        noise.mix_hash(gateway);
        noise
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Sha256::new()
            .chain_update(self.hash)
            .chain_update(data)
            .finalize()
            .into();
    }

    fn mix_key(&mut self, input: &Key) -> Key {
        let temp = hmac(&self.chaining, &[input]);
        self.chaining = hmac(&temp, &[&[1]]);
        hmac(&temp, &[&self.chaining, &[2]])
    }

    fn mix_psk(&mut self, psk: &Key) -> Key {
        let temp = hmac(&self.chaining, &[psk]);
        self.chaining = hmac(&temp, &[&[1]]);
        let second = hmac(&temp, &[&self.chaining, &[2]]);
        self.mix_hash(&second);
        hmac(&temp, &[&second, &[3]])
    }

    fn encrypt(&mut self, key: &Key, plaintext: &[u8]) -> Vec<u8> {
        let cipher = ChaCha20Poly1305::new(key.into());
        let payload = Payload {
            msg: plaintext,
            aad: &self.hash,
        };
        let sealed = cipher.encrypt(&Nonce::default(), payload).expect("short enough");
        self.mix_hash(&sealed);
        sealed
    }
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

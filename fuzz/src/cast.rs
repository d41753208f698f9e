//! Who takes part: a gateway with three identities, two clients, an invite, and a stranger who has all the rest.

use std::sync::LazyLock;

use spa_proto::{HmacKey, Identity, Psk, PublicKey, Role, SecretKey, Sender};
use x25519_dalek::x25519;

use crate::forge::{Forge, public};

/// How many identities there are: one `S` with two `K`, and another `S`.
pub const IDENTITIES: usize = 3;
/// How many hold keys: two clients, an invite, and a stranger, whom the gateway does not know.
pub const HOLDERS: usize = 4;

/// `S` and `K`.
pub struct OwnKeys {
    secret: [u8; 32],
    /// `S`, public.
    pub public: [u8; 32],
    /// `K`.
    pub hmac_key: [u8; 32],
    hmac: HmacKey,
    public_key: PublicKey,
}

impl OwnKeys {
    fn new(s: u8, k: u8) -> Self {
        let public = public(&[s; 32]);
        Self {
            secret: [s; 32],
            public,
            hmac_key: [k; 32],
            hmac: HmacKey::from_bytes(&[k; 32]),
            public_key: PublicKey(public),
        }
    }

    /// The same for the gateway.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(SecretKey::from_bytes(&self.secret), HmacKey::from_bytes(&self.hmac_key))
    }
}

/// Whoever holds a client's keys, or an invite's.
pub struct Holder {
    secret: SecretKey,
    /// `C`, public.
    pub public: PublicKey,
    psk: [u8; 32],
    sealing_psk: Psk,
}

impl Holder {
    fn new(number: u8) -> Self {
        let secret = SecretKey::from_bytes(&[number; 32]);
        Self {
            public: secret.public(),
            secret,
            psk: [number ^ 0xff; 32],
            sealing_psk: Psk::from_bytes(&[number ^ 0xff; 32]),
        }
    }

    /// `P`.
    #[must_use]
    pub fn psk(&self) -> Psk {
        Psk::from_bytes(&self.psk)
    }
}

/// Everybody.
pub struct Cast {
    /// The gateway's identities.
    pub own: [OwnKeys; IDENTITIES],
    /// Those who send.
    pub holders: [Holder; HOLDERS],
}

/// They are the same in every run.
pub static CAST: LazyLock<Cast> = LazyLock::new(Cast::default);

impl Default for Cast {
    fn default() -> Self {
        Self {
            own: [OwnKeys::new(1, 2), OwnKeys::new(1, 3), OwnKeys::new(9, 4)],
            holders: [Holder::new(5), Holder::new(6), Holder::new(7), Holder::new(8)],
        }
    }
}

impl Cast {
    /// What the gateway takes a holder for at first; nothing for the stranger.
    #[must_use]
    pub const fn role(holder: usize) -> Option<Role> {
        match holder {
            0 | 1 => Some(Role::Client),
            2 => Some(Role::Invite { spent_by: None }),
            _ => None,
        }
    }

    /// What spa-client seals with.
    #[must_use]
    pub fn sender(&self, holder: usize, identity: usize) -> Sender<'_> {
        let (holder, own) = (&self.holders[holder], &self.own[identity]);
        Sender {
            gateway: &own.public_key,
            hmac_key: &own.hmac,
            secret: &holder.secret,
            psk: &holder.sealing_psk,
        }
    }

    /// A body in the name of `claim` with the PSK of `psk_of`, by someone who has `S`'s private key.
    #[must_use]
    pub fn forge(&self, claim: usize, psk_of: usize, identity: usize, ephemeral: &[u8; 32], payload: &[u8]) -> Vec<u8> {
        let own = &self.own[identity];
        let claim = &self.holders[claim].public.0;
        let forge = Forge {
            gateway: &own.public,
            hmac_key: &own.hmac_key,
            claim,
            shared: &x25519(own.secret, *claim),
            psk: &self.holders[psk_of].psk,
        };
        forge.body(ephemeral, payload)
    }
}

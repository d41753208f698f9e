//! The keyring, and what was asked of it: the steps before the last tell nothing else.

use spa_keys::directory::KeyDirectory;
use spa_proto::{Enrolled, Keyring, PublicKey, Role};

/// Lends the clients for one judgement.
pub(super) struct Witness<'a> {
    keys: &'a mut KeyDirectory,
    seen: Seen,
}

/// What a judgement asked for.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// The key that was claimed.
    pub(super) asked: Option<PublicKey>,
    /// What its holder may send.
    pub(super) role: Option<Role>,
}

impl<'a> Witness<'a> {
    pub(super) fn new(keys: &'a mut KeyDirectory) -> Self {
        Self {
            keys,
            seen: Seen::default(),
        }
    }

    pub(super) const fn seen(&self) -> Seen {
        self.seen
    }
}

impl Keyring for Witness<'_> {
    fn find(&mut self, key: &PublicKey) -> Option<Enrolled<'_>> {
        self.seen.asked = Some(*key);
        let found = self.keys.find(key)?;
        self.seen.role = Some(found.role);
        Some(found)
    }

    fn knows(&self, key: &PublicKey) -> bool {
        self.keys.knows(key)
    }
}

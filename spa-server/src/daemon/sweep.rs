//! What need not be remembered any longer is swept out, now and then.

use spa_proto::Keyring;
use tracing::{debug, info, warn};

use super::Daemon;
use crate::clock;

impl Daemon {
    /// Forgets invites whose end is more than two days ago, and the record of keys that have long been nobody's.
    pub(super) fn sweep(&mut self) {
        if self.dry_run {
            return;
        }
        let now = clock::wall();
        match self.keys.sweep(now) {
            Ok(names) => names
                .iter()
                .for_each(|client| info!(%client, "an invite that ended is forgotten")),
            Err(error) => warn!("invites that ended could not be removed: {error}"),
        }
        // Whose key a broken file holds cannot be said: nobody's record is forgotten meanwhile.
        if self.keys.broken().next().is_some() {
            return;
        }
        let keys = &self.keys;
        let pruned = self
            .journal
            .state()
            .map(|state| state.prune(now, |key| keys.knows(key)));
        match pruned.transpose() {
            Ok(pruned) => debug!(?pruned, "the record was looked through"),
            Err(error) => warn!("the record could not be looked through for what is old: {error}"),
        }
    }
}

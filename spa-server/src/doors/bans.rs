//! Who is shut out, by every backend that can.

use std::collections::BTreeMap;

use ipnet::IpNet;
use tracing::{info, warn};

use super::{Doors, Entry};
use crate::backend::{BackendError, Banned, ShutOut};

/// Ends in the kernel and in the daemon's clock differ by their rounding and by the time between two looks.
const SLACK_S: u64 = 3;

impl Doors {
    /// Shuts a network out in every backend that bans.
    ///
    /// # Errors
    ///
    /// The first failure; the others were tried all the same.
    pub fn ban(&mut self, banned: &Banned) -> Result<(), BackendError> {
        self.each(|entry| entry.backend.ban(banned))
    }

    /// Lets a network in again.
    ///
    /// # Errors
    ///
    /// The first failure; the others were tried all the same.
    pub fn unban(&mut self, network: IpNet) -> Result<(), BackendError> {
        self.each(|entry| entry.backend.unban(network))
    }

    /// Who is shut out by any backend, with the latest end that one of them knows.
    pub fn bans(&mut self) -> Vec<ShutOut> {
        let mut all: BTreeMap<IpNet, ShutOut> = BTreeMap::new();
        for entry in &mut self.entries {
            for shut_out in entry.shut_out().unwrap_or_default() {
                let known = all.entry(shut_out.network).or_insert(shut_out);
                known.remaining = known.remaining.max(shut_out.remaining);
            }
        }
        all.into_values().collect()
    }

    /// The names of the backends that shut out.
    pub fn banning(&mut self) -> Vec<&'static str> {
        let banning = self.entries.iter_mut().filter_map(|entry| {
            let bans = matches!(entry.backend.bans(), Ok(Some(_)));
            bans.then(|| entry.backend.name())
        });
        banning.collect()
    }

    /// Makes exactly these be shut out, where somebody has changed it.
    pub fn check_bans(&mut self, wanted: &[Banned]) {
        for entry in &mut self.entries {
            if let Some(there) = entry.shut_out() {
                entry.mend_bans(&there, wanted);
            }
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut Entry) -> Result<(), BackendError>) -> Result<(), BackendError> {
        let outcomes: Vec<_> = self
            .entries
            .iter_mut()
            .map(|entry| {
                let outcome = act(entry);
                entry.note(outcome)
            })
            .collect();
        outcomes.into_iter().collect()
    }
}

impl Entry {
    fn shut_out(&mut self) -> Option<Vec<ShutOut>> {
        match self.backend.bans() {
            Ok(bans) => bans,
            Err(error) => {
                // Reported; what is in the kernel ends there.
                let _ = self.note(Err(error));
                None
            }
        }
    }

    fn mend_bans(&mut self, there: &[ShutOut], wanted: &[Banned]) {
        let (mut added, mut removed) = (0, 0);
        for banned in wanted.iter().filter(|banned| !is_held(there, banned)) {
            let outcome = self.backend.ban(banned);
            added += usize::from(self.note(outcome).is_ok());
        }
        for other in there.iter().filter(|other| !is_wanted(wanted, other)) {
            let outcome = self.backend.unban(other.network);
            removed += usize::from(self.note(outcome).is_ok());
        }
        let backend = self.backend.name();
        if added > 0 {
            warn!(
                backend,
                bans = added,
                "put back: bans that were gone or had another end"
            );
        }
        if removed > 0 {
            info!(backend, bans = removed, "let in again: the guard did not shut them out");
        }
    }
}

fn is_held(there: &[ShutOut], banned: &Banned) -> bool {
    let is_near = |held: &ShutOut| {
        held.remaining
            .is_none_or(|remaining| remaining.as_secs().abs_diff(banned.remaining.as_secs()) <= SLACK_S)
    };
    there.iter().any(|held| held.network == banned.network && is_near(held))
}

/// What is about to end is left to end.
fn is_wanted(wanted: &[Banned], held: &ShutOut) -> bool {
    held.remaining.is_some_and(|remaining| remaining.as_secs() <= SLACK_S)
        || wanted.iter().any(|banned| banned.network == held.network)
}

//! What a gateway asks of the whole directory.

use std::time::Duration;

use spa_proto::{Enrollment, PublicKey, UnixTime, Windows};

use super::{EnrollError, KeyDirectory, Written};
use crate::invites::Spent;

impl KeyDirectory {
    /// The greatest window of any client for open and close, and at least the default's.
    #[must_use]
    pub fn greatest_window(&self) -> Duration {
        let windows = self.clients().map(|client| client.policy().windows().greatest());
        windows.fold(Windows::default().greatest(), Duration::max)
    }

    /// Forgets what was computed with gateway keys that are not among `held`.
    pub fn retain_shared(&mut self, held: &[PublicKey]) {
        self.clients.iter_mut().for_each(|slot| slot.seat.retain(held));
        self.invites.iter_mut().for_each(|slot| slot.seat.retain(held));
    }

    /// Writes what an enrollment brought: notes it in the invite's file, then writes the new client's. In memory the
    /// invite is spent from now on, whatever the disk says. Said again it changes nothing.
    ///
    /// # Errors
    ///
    /// [`EnrollError`] when either could not be written.
    pub fn write_enrollment(
        &mut self,
        invite: &PublicKey,
        enrollment: &Enrollment,
        at: UnixTime,
    ) -> Result<Written, EnrollError> {
        let Some(known) = self.invite(invite).map(crate::invites::Invite::duplicate) else {
            return Ok(Written::Gone);
        };
        let spent = Spent::by(enrollment, at);
        let client = known.client(enrollment, at);
        self.write_spent(invite, &spent)?;
        self.write_enrolled(&known.name, &client)
    }
}

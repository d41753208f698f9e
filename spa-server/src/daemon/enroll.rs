//! A device becomes a client ("Enrollment in one packet").

use std::net::SocketAddr;

use spa_keys::client::psk_digest;
use spa_keys::directory::{Kind, Written};
use spa_keys::state::{Change, EnrollmentRow, LastKnock, StateError};
use spa_proto::{Act, Enrollment, Knock, Moment, Psk, PublicKey, UnixTime};
use tracing::{error, info, warn};

use super::Daemon;
use crate::refusals::{Reason, Refused};

impl Daemon {
    /// Stores the new client and the spent invite in one step, then writes their files.
    pub(super) fn enroll(&mut self, now: Moment, knock: Knock) {
        let (invite, source) = (*knock.client(), knock.source());
        let last = LastKnock {
            at: now.wall,
            address: source.ip().to_canonical(),
            gateway: *knock.gateway(),
        };
        let Act::Enroll(enrollment) = knock.into_request().act else {
            return;
        };
        let refuse = |daemon: &mut Self, name: Option<String>, detail: &str| {
            daemon.refused(Refused::new(now.wall, Some(source), Reason::Enroll, detail).of(name));
        };
        let Some(view) = self.keys.invite(&invite) else {
            return refuse(self, None, "the invite was taken away meanwhile");
        };
        let name = view.name.to_string();
        // The state has the last word: the invite's file may be older than it.
        match self.stored(&invite) {
            Ok(Some(row)) if row.is_repeat(&enrollment) => {
                info!(client = name, source = %source.ip(), "enrolled already: the same enroll again");
                return self.settle_repeat(invite, last);
            }
            Ok(Some(_)) => {
                let detail = self.say_raced(&invite, source);
                return refuse(self, Some(name), &detail);
            }
            Ok(None) => {}
            Err(error) => {
                let detail = format!("not enrolled: {error}");
                self.refused(Refused::new(now.wall, Some(source), Reason::Record, detail).of(Some(name)));
                return;
            }
        }
        let Some(view) = self.keys.invite(&invite) else {
            return;
        };
        if let Some(spent) = &view.spent {
            if spent.is_repeat(&enrollment) {
                info!(client = name, source = %source.ip(), "enrolled already: the same enroll again");
                return self.settle_repeat(invite, last);
            }
            return refuse(self, Some(name), "the invite was spent with another PSK");
        }
        if view.pin.is_some() {
            return refuse(
                self,
                Some(name),
                "the invite demands a PIN, which this version cannot check",
            );
        }
        if self.keys.client_named(&name).is_some() || self.keys.broken_client(&name).is_some() {
            return refuse(
                self,
                Some(name),
                "a client of that name has appeared since the invite was made",
            );
        }
        let row = EnrollmentRow {
            invite,
            public_key: enrollment.public_key,
            psk_digest: psk_digest(&enrollment.psk),
            name: name.clone(),
            label: enrollment.label.as_str().into(),
            at: now.wall,
            source: source.ip().to_canonical(),
        };
        self.journal.stage(Change::Enrollment(row, copy(&enrollment.psk)));
        self.journal.stage(Change::Knock(invite, last));
        if let Err(error) = self.journal.commit() {
            let detail = format!("not recorded, so not enrolled: {error}");
            self.refused(Refused::new(now.wall, Some(source), Reason::Record, detail).of(Some(name)));
            return;
        }
        self.accepted.enroll += 1;
        let label = enrollment.label.as_str().to_string();
        let fingerprint = spa_keys::text::fingerprint(&enrollment.public_key);
        let verb = self.verb("enrolled", "would enroll");
        info!(client = name, source = %source.ip(), label, key = fingerprint, "{verb}");
        if !self.dry_run {
            self.write_enrolled(&invite, &enrollment, now.wall);
        }
    }

    /// What the state knows of an invite that was spent.
    fn stored(&mut self, invite: &PublicKey) -> Result<Option<EnrollmentRow>, StateError> {
        let stored = self.journal.state().map(|state| state.enrollment(invite));
        Ok(stored.transpose()?.flatten())
    }

    /// Somebody else had the invite: says it loudly, with both sources. Returns it as a refusal's detail.
    pub(super) fn say_raced(&mut self, invite: &PublicKey, source: SocketAddr) -> String {
        let first = match self.stored(invite) {
            Ok(Some(row)) => row.source.to_string(),
            _ => "an address that is not known any more".into(),
        };
        let (client, source) = (self.name_of(invite), source.ip().to_canonical());
        error!(
            client,
            %source,
            first,
            "two devices used one invite: somebody else had it; which of them is the right one?"
        );
        format!("the invite was spent for another key, from {first}")
    }

    /// A repeat has used its timestamp up; that must be durable all the same. What could not be written the first time
    /// is tried again.
    fn settle_repeat(&mut self, invite: PublicKey, last: LastKnock) {
        self.journal.stage(Change::Knock(invite, last));
        match self.journal.commit() {
            Ok(()) => self.accepted.enroll += 1,
            Err(error) => warn!("a repeated enroll could not be recorded: {error}"),
        }
        self.roll_forward();
    }

    /// Writes the client's file and marks the invite; what fails is rolled forward at the next start.
    fn write_enrolled(&mut self, invite: &PublicKey, enrollment: &Enrollment, at: UnixTime) {
        match self.keys.write_enrollment(invite, enrollment, at) {
            // The invite may be behind one of them: its client must not be lost for good.
            Ok(Written::Gone) if self.keys.broken().any(|(kind, ..)| kind == Kind::Invite) => {
                error!("an enrolled client's file is not written until every file in invites.d is whole");
            }
            Ok(written) => {
                if written == Written::Gone {
                    warn!("an enrolled client's file was not written: the invite's was taken away meanwhile");
                }
                self.journal.stage(Change::EnrollmentWritten(*invite));
                if let Err(error) = self.journal.commit() {
                    warn!("that an enrollment was written could not be recorded: {error}");
                }
            }
            Err(error) => error!("an enrolled client's file could not be written: {error}"),
        }
    }

    /// Writes the files of enrollments that were stored before the daemon ended, and never written.
    pub(super) fn roll_forward(&mut self) {
        let rows = self.journal.state().map(spa_keys::state::State::enrollments);
        let rows = match rows {
            Some(Ok(rows)) => rows,
            Some(Err(error)) => return error!("enrollments could not be read: {error}"),
            None => return,
        };
        for (row, psk) in rows {
            let (Some(psk), Ok(label)) = (psk, row.label.parse()) else {
                continue;
            };
            info!(
                client = row.name,
                "writing the file of an enrollment that was stored and not written"
            );
            let enrollment = Enrollment {
                public_key: row.public_key,
                psk,
                label,
            };
            self.write_enrolled(&row.invite, &enrollment, row.at);
        }
    }
}

/// The state keeps the PSK until the file is written.
fn copy(psk: &Psk) -> Psk {
    Psk::from_bytes(psk.expose())
}

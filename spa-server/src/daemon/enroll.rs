//! A device becomes a client ("Enrollment in one packet").

use std::net::SocketAddr;

use spa_keys::SpentBy;
use spa_keys::client::psk_digest;
use spa_keys::directory::{Kind, Reload, Written};
use spa_keys::state::{Change, EnrollmentRow, LastKnock, State, StateError};
use spa_proto::{Act, Code, Enrollment, Knock, Moment, Psk, PublicKey, UnixTime};
use tracing::{error, info, warn};

use super::Daemon;
use crate::audit::Event;
use crate::audit::event::told;
use crate::refusals::{Reason, Refused};

/// Under which invite an enroll came, when and from where.
struct Visit {
    invite: PublicKey,
    source: SocketAddr,
    last: LastKnock,
}

/// What an enroll that is not refused comes to.
enum Admission {
    /// The invite is spent for it now.
    New,
    /// The same again: it changes nothing and is no error.
    Repeat,
}

impl Daemon {
    /// Stores the new client and the spent invite in one step, then writes their files.
    pub(super) fn enroll(&mut self, now: Moment, knock: Knock) {
        let (invite, source) = (*knock.client(), knock.source());
        let last = LastKnock {
            at: now.wall,
            address: source.ip().to_canonical(),
            gateway: *knock.gateway(),
        };
        let visit = Visit { invite, source, last };
        let request = knock.into_request();
        let Act::Enroll(enrollment) = request.act else {
            return;
        };
        let name = self.name_of(&invite);
        match self.admit(&visit, &enrollment, request.code) {
            Ok(Admission::New) => self.store(&visit, &enrollment, &name.unwrap_or_default()),
            Ok(Admission::Repeat) => {
                info!(client = name, source = %source.ip(), "enrolled already: the same enroll again");
                self.settle_repeat(&visit);
            }
            Err((reason, detail)) => {
                self.refused(Refused::new(now.wall, Some(source), reason, detail).of(name));
            }
        }
    }

    /// Whether this enroll spends the invite, in the order of the protocol. The state has the last word: the invite's
    /// file may be older than it.
    fn admit(
        &mut self,
        visit: &Visit,
        enrollment: &Enrollment,
        code: Option<Code>,
    ) -> Result<Admission, (Reason, String)> {
        let refused = |detail: &str| Err((Reason::Enroll, detail.to_owned()));
        let Some(view) = self.keys.invite(&visit.invite) else {
            return refused("the invite was taken away meanwhile");
        };
        let (name, spent) = (view.name.to_string(), view.spent.clone());
        match self.stored(&visit.invite) {
            Ok(Some(row)) if row.is_repeat(enrollment) => return Ok(Admission::Repeat),
            Ok(Some(_)) => return Err((Reason::Enroll, self.say_raced(&visit.invite, visit.source))),
            Ok(None) => {}
            Err(error) => return Err((Reason::Record, format!("not enrolled: {error}"))),
        }
        match spent {
            Some(spent) if spent.is_repeat(enrollment) => return Ok(Admission::Repeat),
            Some(spent) if spent.by == SpentBy::WrongPins => return refused("the invite was spent by wrong PINs"),
            Some(_) => return refused("the invite was spent with another PSK"),
            None => {}
        }
        self.check_pin(visit.last.at, &visit.invite, code)?;
        if self.keys.client_named(&name).is_some() || self.keys.broken_client(&name).is_some() {
            return refused("a client of that name has appeared since the invite was made");
        }
        Ok(Admission::New)
    }

    fn store(&mut self, visit: &Visit, enrollment: &Enrollment, name: &str) {
        let (at, source) = (visit.last.at, visit.last.address);
        let row = EnrollmentRow {
            invite: visit.invite,
            public_key: enrollment.public_key,
            psk_digest: psk_digest(&enrollment.psk),
            name: name.into(),
            label: enrollment.label.as_str().into(),
            at,
            source,
        };
        self.journal.stage(Change::Enrollment(row, copy(&enrollment.psk)));
        self.journal.stage(Change::Knock(visit.invite, visit.last));
        if let Err(error) = self.journal.commit() {
            let detail = format!("not recorded, so not enrolled: {error}");
            self.refused(Refused::new(at, Some(visit.source), Reason::Record, detail).of(Some(name.into())));
            return;
        }
        self.accepted.enroll += 1;
        let label = enrollment.label.as_str().to_string();
        let fingerprint = spa_keys::text::fingerprint(&enrollment.public_key);
        let verb = self.verb("enrolled", "would enroll");
        info!(client = name, %source, label, key = fingerprint, "{verb}");
        self.audit(Event::Enrolled {
            client: name.to_owned(),
            key: fingerprint,
            source,
            label: told(&label),
        });
        if !self.dry_run {
            self.write_enrolled(&visit.invite, enrollment, at);
            self.audit_file(Kind::Client, name, Reload::Loaded);
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
    fn settle_repeat(&mut self, visit: &Visit) {
        self.journal.stage(Change::Knock(visit.invite, visit.last));
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
        let rows = self.journal.state().map(State::enrollments);
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

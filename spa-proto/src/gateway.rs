//! The gateway's judgement: steps 1 to 7, and of step 8 what needs no policy ("What the gateway does, in this order").

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::drop_reason::{Claim, DropReason, EnrollError, Refusal};
use crate::frame::Datagram;
use crate::key::PublicKey;
use crate::keyring::{Enrolled, Keyring, Role, Standing, Windows};
use crate::knock::{Act, Address, Enrollment, Knock, Request};
use crate::noise::HalfOpen;
use crate::outer::MaskKey;
use crate::replay::{ReplayRecord, Verdict};
use crate::sieve::{Admitted, Identity, Sieve};
use crate::time::{Moment, UnixTime};

/// Judges datagrams, one after the other.
#[derive(Debug)]
pub struct Gateway {
    sieve: Sieve,
    masks: Vec<MaskKey>,
}

/// A datagram that passed step 4: who sent it is certain.
struct Authentic {
    client: PublicKey,
    role: Role,
    windows: Windows,
    payload: Zeroizing<Vec<u8>>,
}

impl Gateway {
    /// A gateway with the identities of this sieve. Clones of the sieve serve the capture threads.
    #[must_use]
    pub fn new(sieve: Sieve) -> Self {
        let masks = sieve.identities().iter().map(Identity::mask_key).collect();
        Self { sieve, masks }
    }

    /// The sieve, to be cloned for a capture thread.
    #[must_use]
    pub const fn sieve(&self) -> &Sieve {
        &self.sieve
    }

    /// The sieve, to change where knocks are for.
    pub const fn sieve_mut(&mut self) -> &mut Sieve {
        &mut self.sieve
    }

    /// Judges one datagram that arrived at `now` on this gateway's clocks.
    ///
    /// Steps 1 to 3 are walked here too, whoever walked them before: the cost is a hundredth of what follows, and
    /// nothing that another thread believed under older keys is taken on trust.
    ///
    /// The knock's timestamp has then been claimed in `record`. It must be durable before anything opens.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the one reason that ended the matter. Nobody but the gateway's log is told.
    pub fn handle(
        &mut self,
        now: Moment,
        datagram: &Datagram<'_>,
        keyring: &mut impl Keyring,
        record: &mut impl ReplayRecord,
    ) -> Result<Knock, Refusal> {
        let admitted = self.sieve.admit(now.wall, datagram).map_err(of_nobody)?;
        let authentic = self.who(now, &admitted, keyring)?;
        self.sieve.copies().insert(admitted.sealed.tag, datagram.source.ip());
        self.judge(now.wall, &admitted, &authentic, keyring, record)
            .map(|request| self.knock(&admitted, &authentic, datagram, request))
            .map_err(|reason| Refusal {
                reason,
                claim: Claim::Proven(authentic.client),
            })
    }

    /// Step 4: who sent it. What is said of standing and rate waits for the payload to prove the claim.
    fn who(&self, now: Moment, admitted: &Admitted<'_>, keyring: &mut impl Keyring) -> Result<Authentic, Refusal> {
        let (Some(own), Some(mask)) = (
            self.sieve.identities().get(admitted.identity),
            self.masks.get(admitted.identity),
        ) else {
            return Err(of_nobody(DropReason::Tag));
        };
        let e = mask.unmask(&admitted.sealed);
        let half = HalfOpen::read(own.secret(), own.public(), &e, admitted.sealed.enc_s);
        let half = half.ok_or(of_nobody(DropReason::StaticKey))?;
        let client = half.claim;
        let enrolled = keyring.find(&client).ok_or(of_nobody(DropReason::Unknown))?;
        let shared = enrolled.seat.shared(own.secret(), own.public(), &client);
        let shared = shared.ok_or(of_nobody(DropReason::Seal))?;
        let payload = half.finish(&shared, enrolled.psk, admitted.sealed.enc_payload);
        let payload = payload.ok_or(of_nobody(DropReason::Seal))?;
        let of_client = |reason| Refusal {
            reason,
            claim: Claim::Proven(client),
        };
        may_send(now, &enrolled).map_err(of_client)?;
        enrolled.seat.keep(own.public(), shared);
        if !enrolled.seat.allow(now.uptime) {
            return Err(of_client(DropReason::Rate));
        }
        Ok(Authentic {
            client,
            role: enrolled.role,
            windows: enrolled.windows,
            payload,
        })
    }

    /// Steps 5 to 7 and the checks of step 8 that need no policy.
    fn judge(
        &self,
        now: UnixTime,
        admitted: &Admitted<'_>,
        authentic: &Authentic,
        keyring: &impl Keyring,
        record: &mut impl ReplayRecord,
    ) -> Result<Request, DropReason> {
        let request = Request::decode(&authentic.payload).map_err(DropReason::Payload)?;
        check_time(now, admitted, authentic.windows, &request)?;
        let retention = match authentic.role {
            Role::Client => authentic.windows.greatest() * 2,
            Role::Invite { .. } => Windows::ENROLL * 2,
        };
        match record.claim(&authentic.client, request.timestamp, retention) {
            Verdict::Fresh => {}
            Verdict::Replayed => return Err(DropReason::Replay),
            Verdict::Unavailable => return Err(DropReason::Record),
        }
        match (&request.act, authentic.role) {
            (Act::Open { .. } | Act::Close { .. }, Role::Client) => Ok(request),
            (Act::Enroll(new), Role::Invite { spent_by }) => {
                self.check_enroll(new, spent_by, keyring).map_err(DropReason::Enroll)?;
                Ok(request)
            }
            _ => Err(DropReason::Kind),
        }
    }

    /// The key and PSK that a device wants to become a client with ("Enrollment in one packet").
    fn check_enroll(
        &self,
        new: &Enrollment,
        spent_by: Option<PublicKey>,
        keyring: &impl Keyring,
    ) -> Result<(), EnrollError> {
        let mut own = self.sieve.identities().iter();
        match spent_by {
            Some(spent_by) if spent_by == new.public_key => return Ok(()),
            Some(_) => return Err(EnrollError::Spent),
            None => {}
        }
        if !new.public_key.is_canonical() {
            return Err(EnrollError::NotCanonical);
        }
        if new.psk.is_zero() {
            return Err(EnrollError::ZeroPsk);
        }
        if own.clone().any(|own| *own.public() == new.public_key) || keyring.knows(&new.public_key) {
            return Err(EnrollError::Taken);
        }
        if !own.all(|own| own.secret().agrees_with(&new.public_key)) {
            return Err(EnrollError::LowOrder);
        }
        Ok(())
    }

    fn knock(
        &self,
        admitted: &Admitted<'_>,
        authentic: &Authentic,
        datagram: &Datagram<'_>,
        request: Request,
    ) -> Knock {
        let gateway = self
            .sieve
            .identities()
            .get(admitted.identity)
            .map_or(PublicKey([0; 32]), |own| *own.public());
        Knock {
            client: authentic.client,
            gateway,
            source: datagram.source,
            request,
        }
    }
}

const fn of_nobody(reason: DropReason) -> Refusal {
    Refusal {
        reason,
        claim: Claim::Nobody,
    }
}

fn may_send(now: Moment, enrolled: &Enrolled<'_>) -> Result<(), DropReason> {
    match enrolled.standing {
        Standing::Revoked => Err(DropReason::Revoked),
        Standing::Active { until: Some(until) } if now.wall >= until => Err(DropReason::Expired),
        Standing::Active { .. } => Ok(()),
    }
}

/// Step 6.
fn check_time(now: UnixTime, admitted: &Admitted<'_>, windows: Windows, request: &Request) -> Result<(), DropReason> {
    let window = match &request.act {
        Act::Enroll(_) => Windows::ENROLL,
        Act::Open {
            address: Address::AsSeen,
            ..
        }
        | Act::Close {
            address: Address::AsSeen,
            ..
        } => windows.as_seen,
        Act::Open { .. } | Act::Close { .. } => windows.explicit,
    };
    let difference_s = request.timestamp.seconds_after(now);
    if request.timestamp.distance(now) > window {
        return Err(DropReason::Time { difference_s });
    }
    if request.timestamp.day() != admitted.day {
        return Err(DropReason::TagDay { difference_s });
    }
    Ok(())
}

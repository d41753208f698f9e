//! Steps 8 and 9: what the owner of the gateway allows, and what would be opened.

use std::time::Duration;

use spa_keys::SpentBy;
use spa_keys::directory::{ClientView, KeyDirectory};
use spa_keys::invites::Spent;
use spa_keys::state::PinRow;
use spa_keys::units::format_duration;
use spa_proto::{Act, Address, Code, Enrollment, Knock, Moment, PublicKey, Request, Services, UnixTime, Windows};

use super::verdict::{Outcome, Refused, Step};
use super::{Simulation, advice};
use crate::code::CodeGuard;
use crate::grant::{GrantKey, MOST_GRANTS, Terms};
use crate::pin;
use crate::policy::{self, Decision};
use crate::refusals::Reason;

/// Why not, before it is a verdict.
type No = (Reason, String);

/// What a knock asks, for people.
pub(super) fn asked(knock: &Knock) -> String {
    let whom = |address: &Address| match address.named() {
        Some(address) => format!("for {address}"),
        None => "for the address it comes from".into(),
    };
    let names = |services: &Services| {
        let names: Vec<_> = services.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    match &knock.request().act {
        Act::Open {
            address,
            duration_s: 0,
            services,
        } => format!("open {} {}", names(services), whom(address)),
        Act::Open {
            address,
            duration_s,
            services,
        } => format!("open {} {} for {duration_s} s", names(services), whom(address)),
        Act::Close { address, services } => format!("close {} {}", names(services), whom(address)),
        Act::Enroll(_) => "enroll a device".into(),
    }
}

/// The window that a knock's timestamp was held against (step 6).
pub(super) fn window(keys: &KeyDirectory, knock: &Knock) -> Duration {
    let windows = keys
        .client(knock.client())
        .map(|view| view.policy().windows())
        .unwrap_or_default();
    match &knock.request().act {
        Act::Enroll(_) => Windows::ENROLL,
        Act::Open { address, .. } | Act::Close { address, .. } if address.named().is_some() => windows.explicit,
        Act::Open { .. } | Act::Close { .. } => windows.as_seen,
    }
}

impl Simulation {
    pub(super) fn request(&mut self, now: Moment, knock: Knock, steps: &mut Vec<Step>) -> Outcome {
        self.grants.expire(now.uptime);
        self.grants.forget(now.uptime);
        let outcome = match &knock.request().act {
            Act::Enroll(_) => self.enroll(now.wall, knock, steps),
            Act::Open {
                address,
                duration_s,
                services,
            } => self.open_or_close(now, &knock, *address, services, Some(*duration_s), steps),
            Act::Close { address, services } => self.open_or_close(now, &knock, *address, services, None, steps),
        };
        outcome.map_or_else(
            |(reason, detail)| {
                Outcome::Refused(Refused {
                    step: reason.step(),
                    reason,
                    detail,
                    difference_s: None,
                    tries: advice::for_reason(reason),
                })
            },
            Outcome::Accepted,
        )
    }

    fn open_or_close(
        &mut self,
        now: Moment,
        knock: &Knock,
        address: Address,
        services: &Services,
        duration_s: Option<u32>,
        steps: &mut Vec<Step>,
    ) -> Result<Vec<String>, No> {
        let source = knock.source().ip().to_canonical();
        let view = self.keys.client(knock.client());
        let view = view.ok_or_else(|| (Reason::Who, "the client was taken away".to_owned()))?;
        let decision = policy::decide(
            &self.services,
            view.policy(),
            address,
            source,
            services,
            duration_s.unwrap_or(0),
        );
        let decision = decision.map_err(|error| (Reason::Policy, error.to_string()))?;
        steps.push(Step::of(Reason::Policy, allowed(&decision)));
        if duration_s.is_some() && view.one_time_code().is_some() {
            self.check_code(now, knock.client(), knock.request().code)?;
            steps.push(Step::of(Reason::Code, "the one-time code is right"));
        }
        self.change_grants(now, knock, &decision, duration_s.is_some())
    }

    fn check_code(&mut self, now: Moment, client: &PublicKey, code: Option<Code>) -> Result<(), No> {
        let Some(secret) = self.keys.client(client).and_then(ClientView::one_time_code) else {
            return Ok(());
        };
        let row = self
            .book
            .rest(client)
            .and_then(|rest| rest.code.clone())
            .unwrap_or_default();
        let guard = self
            .codes
            .entry(*client)
            .or_insert_with(|| CodeGuard::restore(&row, now));
        let judged = guard.judge(now, secret, code);
        judged.map_err(|error| (Reason::Code, error.to_string()))
    }

    /// Step 9: services whose grant a later request has changed are left out; when none is left, it is refused.
    fn change_grants(
        &mut self,
        now: Moment,
        knock: &Knock,
        decision: &Decision,
        opens: bool,
    ) -> Result<Vec<String>, No> {
        self.remember_grants(knock.client(), now);
        let (mut acts, mut no) = (Vec::new(), None);
        for (service, terms) in &decision.granted {
            match self.change_grant(now, knock, decision, (service, terms), opens) {
                Ok(act) => acts.push(act),
                Err(why) => no = Some(why),
            }
        }
        match no {
            Some(why) if acts.is_empty() => Err(why),
            _ => Ok(acts),
        }
    }

    fn change_grant(
        &mut self,
        now: Moment,
        knock: &Knock,
        decision: &Decision,
        (service, terms): (&str, &Terms),
        opens: bool,
    ) -> Result<String, No> {
        let timestamp = knock.request().timestamp;
        let key = GrantKey {
            client: Some(*knock.client()),
            address: decision.address,
            service: service.into(),
        };
        if self.grants.get(&key).is_none() && self.grants.count_of(knock.client()) >= MOST_GRANTS {
            return Err((Reason::Policy, format!("the client has {MOST_GRANTS} grants already")));
        }
        let older = |_| {
            (
                Reason::Older,
                format!("a later request has changed the grant for {service} already"),
            )
        };
        if !opens {
            let was = self
                .grants
                .close(&key, timestamp, now.wall, now.uptime)
                .map_err(older)?;
            let open = if was.is_some() {
                ""
            } else {
                ", which is not open by what is known"
            };
            return Ok(format!("closes {service} for {}{open}", key.address));
        }
        let expires = self.keys.client(knock.client()).and_then(ClientView::expires);
        let terms = Terms {
            duration: policy::until_expiry(expires, now.wall, terms.duration),
            ..terms.clone()
        };
        self.grants
            .open(&key, &terms, timestamp, now.wall, now.uptime)
            .map_err(older)?;
        Ok(format!(
            "opens {service} for {} for {}",
            terms.opened,
            format_duration(terms.duration)
        ))
    }

    /// What the record remembers of a client's grants, once: which of its requests are older.
    fn remember_grants(&mut self, client: &PublicKey, now: Moment) {
        if self.grants.count_of(client) > 0 {
            return;
        }
        for row in self.book.rest(client).into_iter().flat_map(|rest| &rest.grants) {
            let key = GrantKey {
                client: row.client,
                address: row.address,
                service: row.service.clone(),
            };
            self.grants
                .restore(key, (row.opened, row.since, row.changed), None, now.uptime);
        }
    }

    fn enroll(&mut self, now: UnixTime, knock: Knock, steps: &mut Vec<Step>) -> Result<Vec<String>, No> {
        let key = *knock.client();
        let Request { act, code, .. } = knock.into_request();
        let Act::Enroll(enrollment) = act else {
            return Ok(Vec::new());
        };
        let invite = self.keys.invite(&key);
        let invite = invite.ok_or_else(|| (Reason::Enroll, "the invite was taken away".to_owned()))?;
        let name = invite.name.to_string();
        if let Some(spent) = self.spent.get(&key).or(invite.spent.as_ref()) {
            return repeat(spent, &enrollment);
        }
        let none = PinRow {
            wrong: Vec::new(),
            at: now,
        };
        let judged = pin::judge(self.pins.entry(key).or_insert(none), invite, code, now);
        judged.map_err(|error| (Reason::Enroll, error.to_string()))?;
        if self.keys.client_named(&name).is_some() || self.keys.broken_client(&name).is_some() {
            let what = "a client of that name has appeared since the invite was made";
            return Err((Reason::Enroll, what.into()));
        }
        let fact = if invite.pin.is_some() {
            "the invite is good, its PIN is right"
        } else {
            "the invite is good"
        };
        steps.push(Step::of(Reason::Enroll, fact));
        self.spent.insert(key, Spent::by(&enrollment, now));
        Ok(vec![format!("enrolls {name}")])
    }
}

fn allowed(decision: &Decision) -> String {
    let names: Vec<_> = decision.granted.iter().map(|(name, _)| name.as_str()).collect();
    let left_out = decision
        .left_out
        .iter()
        .map(|(name, why)| format!("; left out: {name} {why}"));
    format!(
        "its client may, for {}: {}{}",
        decision.address,
        names.join(", "),
        left_out.collect::<String>()
    )
}

fn repeat(spent: &Spent, enrollment: &Enrollment) -> Result<Vec<String>, No> {
    if spent.is_repeat(enrollment) {
        return Ok(vec!["enrolled already: the same enroll again changes nothing".into()]);
    }
    let what = match spent.by {
        SpentBy::WrongPins => "the invite was spent by wrong PINs",
        SpentBy::Device { .. } => "the invite was spent for another key or PSK",
    };
    Err((Reason::Enroll, what.into()))
}

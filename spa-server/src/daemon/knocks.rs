//! Datagrams → grants: judged, made durable together, then acted upon (steps 4 to 9).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use spa_keys::state::{Change, LastKnock};
use spa_proto::{Act, Address, Datagram, Knock, Moment, PublicKey, Refusal, Request, ServiceName};
use tracing::warn;

use super::Daemon;
use crate::audit::How;
use crate::backend::Door;
use crate::capture::Candidate;
use crate::clock;
use crate::grant::{Grant, GrantKey};
use crate::policy::{self, Decision};
use crate::refusals::{Reason, Refused};

/// What is to be done once the record is durable.
pub(super) enum Action {
    Open {
        who: Who,
        door: Door,
        end: Duration,
        is_renewed: bool,
    },
    Close {
        who: Who,
        door: Door,
        how: How,
    },
}

/// Whose act it is, for the log.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) name: String,
    pub(super) key: PublicKey,
    pub(super) source: SocketAddr,
    pub(super) address: IpAddr,
}

impl Who {
    /// The grant of this client for this address.
    pub(super) fn grant(&self, service: &str) -> GrantKey {
        GrantKey {
            client: Some(self.key),
            address: self.address,
            service: service.into(),
        }
    }
}

/// Everything that one commit makes durable, and how to take it back.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) actions: Vec<Action>,
    pub(super) undo: Vec<(GrantKey, Option<Grant>)>,
    counted: Vec<Counted>,
}

/// An accepted knock, counted when it is durable.
struct Counted {
    who: Who,
    closes: bool,
}

impl Daemon {
    /// Judges what has come, in its order, with one commit for all of it.
    pub(super) fn on_candidates(&mut self, candidates: Vec<Candidate>) {
        let mut batch = Batch::default();
        for candidate in candidates {
            let now = clock::now();
            match self.judge(now, &candidate) {
                Ok(knock) if matches!(knock.request().act, Act::Enroll(_)) => {
                    // An enrollment stands alone: what comes after it may be judged by it.
                    self.settle(std::mem::take(&mut batch));
                    self.enroll(now, knock);
                }
                Ok(knock) => self.decide(now, &knock, &mut batch),
                Err(refusal) => self.refuse(now, candidate.source, &refusal),
            }
        }
        self.settle(batch);
    }

    fn judge(&mut self, now: Moment, candidate: &Candidate) -> Result<Knock, Refusal> {
        let Candidate {
            source,
            destination,
            payload,
        } = candidate;
        let datagram = Datagram {
            source: *source,
            destination: *destination,
            payload,
        };
        let knock = self.gateway.handle(now, &datagram, &mut self.keys, &mut self.journal)?;
        self.observed.knock(knock.request().timestamp, now.wall);
        self.let_in(source.ip().to_canonical().into(), "a valid knock came from there");
        Ok(knock)
    }

    /// Step 8, then the table of step 9; nothing is done before the commit.
    fn decide(&mut self, now: Moment, knock: &Knock, batch: &mut Batch) {
        let Request { timestamp, act, .. } = knock.request();
        let (address, services, duration_s) = match act {
            Act::Open {
                address,
                duration_s,
                services,
            } => (*address, services, Some(*duration_s)),
            Act::Close { address, services } => (*address, services, None),
            Act::Enroll(_) => return,
        };
        let source = knock.source().ip().to_canonical();
        let decision = self.terms(now, knock, address, services, duration_s);
        let (name, decision) = match decision {
            Ok(decision) => decision,
            Err((name, reason, detail)) => {
                return self.refused(Refused::new(now.wall, Some(knock.source()), reason, detail).of(name));
            }
        };
        let who = Who {
            name,
            key: *knock.client(),
            source: knock.source(),
            address: decision.address,
        };
        for (service, why) in &decision.left_out {
            warn!(client = who.name, source = %source, service = %service, "left out: {service} {why}");
        }
        let gateway = *knock.gateway();
        self.journal.stage(Change::Knock(
            who.key,
            LastKnock {
                at: now.wall,
                address: source,
                gateway,
            },
        ));
        let mut accepted = 0;
        for (service, terms) in &decision.granted {
            let outcome = match duration_s {
                Some(_) => self.stage_open(now, &who, service, terms, *timestamp, batch),
                None => self.stage_close(now, &who, service, *timestamp, batch),
            };
            match outcome {
                Ok(()) => accepted += 1,
                Err((reason, detail)) => {
                    let refused = Refused::new(now.wall, Some(who.source), reason, detail);
                    self.refused(refused.of(Some(who.name.clone())));
                }
            }
        }
        if accepted > 0 {
            batch.counted.push(Counted {
                who,
                closes: duration_s.is_none(),
            });
        }
    }

    /// What the policy makes of it, with the client's name. The one-time code comes last: what the policy refuses
    /// neither uses one up nor counts as a wrong one.
    fn terms(
        &mut self,
        now: Moment,
        knock: &Knock,
        address: Address,
        services: &[ServiceName],
        duration_s: Option<u32>,
    ) -> Result<(String, Decision), (Option<String>, Reason, String)> {
        let client = knock.client();
        let Some(view) = self.keys.client(client) else {
            return Err((None, Reason::Who, "the client was taken away meanwhile".into()));
        };
        let name = view.name().to_string();
        let decision = policy::decide(
            &self.config.services,
            view.policy(),
            address,
            knock.source().ip().to_canonical(),
            services,
            duration_s.unwrap_or(0),
        );
        let decision = decision.map_err(|error| (Some(name.clone()), Reason::Policy, error.to_string()))?;
        if duration_s.is_some() {
            let checked = self.check_code(now, client, knock.request().code);
            checked.map_err(|(reason, detail)| (Some(name.clone()), reason, detail))?;
        }
        Ok((name, decision))
    }

    /// Makes a batch durable and then acts on it; or takes it back.
    pub(super) fn settle(&mut self, batch: Batch) {
        if self.journal.is_clean() {
            return;
        }
        if let Err(error) = self.journal.commit() {
            return self.take_back(batch, &error.to_string());
        }
        for counted in &batch.counted {
            *(if counted.closes {
                &mut self.accepted.close
            } else {
                &mut self.accepted.open
            }) += 1;
        }
        for action in batch.actions {
            self.act(action);
        }
    }

    /// What was opened is taken back. What was closed stays closed: that needs no record to be safe.
    fn take_back(&mut self, batch: Batch, why: &str) {
        let mut shut = Vec::new();
        for (key, before) in batch.undo.into_iter().rev() {
            if self.grants.get(&key).is_some_and(|grant| grant.end.is_none())
                && before.as_ref() != self.grants.get(&key)
            {
                self.owe_grant(&key);
                if before.as_ref().is_some_and(|before| before.end.is_some()) {
                    self.audit_ended(&key, How::NotRecorded);
                }
                shut.extend(
                    before
                        .filter(|before| before.end.is_some())
                        .map(|before| before.door(&key)),
                );
            } else {
                self.grants.put(key, before);
            }
        }
        for door in &shut {
            self.shut(door);
        }
        for Counted { who, closes } in batch.counted {
            let what = if closes {
                "closed, but not recorded"
            } else {
                "not recorded, so not opened"
            };
            let detail = format!("{what}: {why}");
            let refused = Refused::new(clock::wall(), Some(who.source), Reason::Record, detail);
            self.refused(refused.of(Some(who.name)));
        }
    }
}

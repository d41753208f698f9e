//! What is said of the steps that were passed.

use std::fmt::Write;

use spa_keys::text;
use spa_keys::units::format_time;
use spa_proto::{Admitted, Datagram, Knock, Moment, PublicKey, Role, UnixTime};

use super::verdict::Step;
use super::{Simulation, requests};
use crate::refusals::Reason;

impl Simulation {
    pub(super) fn say_admitted(&self, datagram: &Datagram<'_>, admitted: &Admitted<'_>, steps: &mut Vec<Step>) {
        say_sieved(datagram, 2, steps);
        let identity = self.gateway.sieve().identities().get(admitted.identity());
        let identity = identity.map_or_else(String::new, |own| text::fingerprint(own.public()));
        let day = format_time(UnixTime::from_secs(admitted.day().0.saturating_mul(86_400)));
        let day = day.split('T').next().unwrap_or_default();
        steps.push(Step::of(Reason::Tag, format!("for identity {identity}, for {day}")));
        steps.push(Step::of(Reason::Copy, "no copy of an earlier one"));
    }

    /// What is known of steps 4 to 7 as far as they were passed.
    pub(super) fn say_passed(
        &self,
        now: Moment,
        before: u8,
        key: PublicKey,
        role: Option<Role>,
        steps: &mut Vec<Step>,
    ) {
        if before > 4 {
            let name = self.name_of(&key).unwrap_or_default();
            let whose = match role {
                Some(Role::Invite { .. }) => format!("sealed with the invite for {name}"),
                _ => format!("sealed with the key and the PSK of client {name}"),
            };
            steps.push(Step::of(Reason::Who, format!("{whose}, which may send")));
        }
        if before > 5 {
            steps.push(Step::of(Reason::Payload, "its contents are in order"));
        }
        let Some(timestamp) = self.book.claimed().filter(|_| before > 6) else {
            return;
        };
        steps.push(Step::of(Reason::Time, off(timestamp, now.wall)));
        if before > 7 {
            steps.push(Step::of(Reason::Replay, "its timestamp was not used before"));
        }
    }

    /// The windows of the client are known now, and what it asks.
    pub(super) fn say_request(&self, knock: &Knock, steps: &mut [Step]) {
        for step in steps {
            match step.reason {
                Reason::Payload => step.fact = requests::asked(knock),
                Reason::Time => {
                    let window = requests::window(&self.keys, knock).as_secs();
                    // Writing to a String cannot fail.
                    let _ = write!(step.fact, ", within its window of {window} s");
                }
                _ => {}
            }
        }
    }
}

/// Steps 1 and 2 of what they, or step 3, refused.
pub(super) fn say_sieved(datagram: &Datagram<'_>, before: u8, steps: &mut Vec<Step>) {
    if before > 1 {
        let family = if datagram.source.is_ipv4() { "IPv4" } else { "IPv6" };
        let fact = format!("one whole UDP datagram over {family}, to an address and a port of this gateway");
        steps.push(Step::of(Reason::Shape, fact));
    }
    if before > 2 {
        steps.push(Step::of(Reason::Tag, "tagged with a key of this gateway"));
    }
}

/// How far a timestamp is off the clock, for people.
fn off(timestamp: UnixTime, now: UnixTime) -> String {
    let side = if timestamp < now { "behind" } else { "ahead of" };
    format!(
        "{:.1} s {side} this gateway's clock",
        timestamp.distance(now).as_secs_f64()
    )
}

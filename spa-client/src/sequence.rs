//! `spa-client knock`: packets to ports in an order, for gateways and knockd alike.

mod packet;
mod rolling;

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use spa_keys::profile::ProfileName;
use spa_keys::{Exit, Failure, Host};
use spa_proto::sequence::Stage;

use self::rolling::Card;
use crate::cli::KnockArgs;
use crate::fire::listed;
use crate::host::resolve;
use crate::out::{self, Form};

/// What is to be knocked where.
struct Plan {
    targets: Vec<IpAddr>,
    stages: Vec<Stage>,
    delay: Duration,
    hints: Vec<String>,
}

/// The answer.
#[derive(Debug, Default, Serialize)]
struct Answer {
    sent: Vec<Sent>,
    hints: Vec<String>,
}

/// One packet that went out.
#[derive(Debug, Serialize)]
struct Sent {
    address: IpAddr,
    port: u16,
    transport: &'static str,
}

pub(crate) fn run(args: &KnockArgs) -> Exit {
    let form = Form::of(args.json);
    match knock(args) {
        Ok((answer, fact)) => {
            match form {
                Form::Json => out::object(&answer),
                Form::Text => out::fact(&fact),
            }
            answer.hints.iter().for_each(|hint| out::tell("hint", hint));
            Exit::Done
        }
        Err(failure) => {
            if form == Form::Json {
                let hints = std::iter::once(failure.what.clone()).chain(failure.hints.iter().cloned());
                out::object(&Answer {
                    hints: hints.collect(),
                    ..Answer::default()
                });
            }
            out::failure(&failure);
            failure.exit
        }
    }
}

/// Knocks, or says what it would do; with what to tell a person.
fn knock(args: &KnockArgs) -> Result<(Answer, String), Failure> {
    let plan = plan(args)?;
    let where_to = listed(&plan.targets);
    if args.dry_run {
        let stages: Vec<String> = plan.stages.iter().map(Stage::to_string).collect();
        let answer = Answer {
            hints: plan.hints,
            ..Answer::default()
        };
        return Ok((answer, format!("would knock {} at {where_to}", stages.join(" "))));
    }
    let answer = plan.send(|sent| {
        if args.verbose {
            out::tell("sent", &format!("{}/{} to {}", sent.port, sent.transport, sent.address));
        }
    })?;
    let count = plan.stages.len();
    Ok((
        answer,
        format!("sent a sequence of {count} to {where_to}; nothing answers, so try the service"),
    ))
}

fn plan(args: &KnockArgs) -> Result<Plan, Failure> {
    match (&args.rolling, &args.host) {
        (Some(profile), _) => rolling_plan(profile, args),
        (None, Some(host)) => Ok(Plan {
            targets: targets(host, args)?,
            stages: args.ports.iter().map(|port| port.stage(args.udp)).collect(),
            delay: args.delay,
            hints: Vec::new(),
        }),
        (None, None) => Err(Failure::new(Exit::Usage, "no host is named")),
    }
}

/// The gateway takes a step once: both families at a time would spoil each other's.
fn rolling_plan(profile: &ProfileName, args: &KnockArgs) -> Result<Plan, Failure> {
    let card = Card::of_now(profile)?;
    let (target, hint) = only(&targets(&card.host, args)?);
    if !args.dry_run {
        card.remember();
    }
    Ok(Plan {
        targets: target.into_iter().collect(),
        stages: card.stages,
        delay: args.delay,
        hints: hint.into_iter().collect(),
    })
}

/// The one that a connection would take first, and how to get the other.
fn only(targets: &[IpAddr]) -> (Option<IpAddr>, Option<String>) {
    let first = targets.first().copied();
    let other = targets.get(1).map(|other| if other.is_ipv4() { 4 } else { 6 });
    let hint = other.map(|other| format!("-{other}, to open for IPv{other}: a rolling sequence opens for one family"));
    (first, hint)
}

/// The first address of each family that is wanted: a door is opened for the address that knocked at it.
fn targets(host: &Host, args: &KnockArgs) -> Result<Vec<IpAddr>, Failure> {
    let is_wanted = |address: &IpAddr| if address.is_ipv4() { !args.ipv6 } else { !args.ipv4 };
    let targets = first_of_each(resolve(host)?.into_iter().filter(is_wanted));
    if targets.is_empty() {
        let family = if args.ipv6 { "IPv6" } else { "IPv4" };
        return Err(Failure::new(Exit::Failed, format!("{host} has no {family} address")).hint("without -4 and -6"));
    }
    Ok(targets)
}

/// In the resolver's order, which is the order of the connections to come (RFC 6724).
fn first_of_each(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut first: Vec<IpAddr> = Vec::new();
    for address in found {
        if !first.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            first.push(address);
        }
    }
    first
}

impl Plan {
    /// Sends all stages to all targets. A family that this device does not have costs nothing as long as the other
    /// goes through.
    fn send(&self, mut told: impl FnMut(&Sent)) -> Result<Answer, Failure> {
        let mut answer = Answer {
            hints: self.hints.clone(),
            ..Answer::default()
        };
        let mut targets = self.targets.clone();
        for (place, stage) in self.stages.iter().enumerate() {
            if place > 0 {
                thread::sleep(self.delay);
            }
            targets.retain(|target| match packet::send(*target, *stage) {
                Ok(()) => {
                    let sent = Sent::new(*target, *stage);
                    told(&sent);
                    answer.sent.push(sent);
                    true
                }
                Err(error) => {
                    answer.hints.push(format!("{target} cannot be reached: {error}"));
                    false
                }
            });
        }
        if targets.is_empty() {
            let failure = Failure::new(Exit::Failed, answer.hints.join("; "));
            return Err(failure.hint("whether this device is on the network"));
        }
        Ok(answer)
    }
}

impl Sent {
    fn new(address: IpAddr, stage: Stage) -> Self {
        Self {
            address,
            port: stage.port.get(),
            transport: if stage.is_udp() { "udp" } else { "tcp" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rolling_sequence_goes_to_the_family_that_comes_first() {
        let found = ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"];
        let found: Vec<IpAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
        let targets = first_of_each(found.iter().copied());
        assert_eq!(targets, [found[0], found[2]]);
        let (target, hint) = only(&targets);
        assert_eq!(target, Some(found[0]));
        assert!(hint.unwrap().starts_with("-4, "));
        assert_eq!(only(&targets[1..]), (Some(found[2]), None));
    }
}

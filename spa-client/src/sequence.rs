//! `spa-client knock`: packets to ports in an order, for gateways and knockd alike.

mod packet;
mod rolling;

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use spa_keys::{Exit, Failure, Host};
use spa_proto::sequence::Stage;

use crate::cli::KnockArgs;
use crate::fire::listed;
use crate::host::resolve;
use crate::out::{self, Form};

/// What is to be knocked where.
struct Plan {
    targets: Vec<IpAddr>,
    stages: Vec<Stage>,
    delay: Duration,
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
        return Ok((
            Answer::default(),
            format!("would knock {} at {where_to}", stages.join(" ")),
        ));
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
    let (host, stages) = match (&args.rolling, &args.host) {
        (Some(profile), _) => rolling::today(profile, args.dry_run)?,
        (None, Some(host)) => (
            host.clone(),
            args.ports.iter().map(|port| port.stage(args.udp)).collect(),
        ),
        (None, None) => return Err(Failure::new(Exit::Usage, "no host is named")),
    };
    Ok(Plan {
        targets: targets(&host, args)?,
        stages,
        delay: args.delay,
    })
}

/// The first address of each family that is wanted: a door is opened for the address that knocked at it.
fn targets(host: &Host, args: &KnockArgs) -> Result<Vec<IpAddr>, Failure> {
    let found = resolve(host)?;
    let first = |v4: bool| found.iter().copied().find(|address| address.is_ipv4() == v4);
    let wanted = [first(true).filter(|_| !args.ipv6), first(false).filter(|_| !args.ipv4)];
    let targets: Vec<IpAddr> = wanted.into_iter().flatten().collect();
    if targets.is_empty() {
        let family = if args.ipv6 { "IPv6" } else { "IPv4" };
        return Err(Failure::new(Exit::Failed, format!("{host} has no {family} address")).hint("without -4 and -6"));
    }
    Ok(targets)
}

impl Plan {
    /// Sends all stages to all targets. A family that this device does not have costs nothing as long as the other
    /// goes through.
    fn send(&self, mut told: impl FnMut(&Sent)) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
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

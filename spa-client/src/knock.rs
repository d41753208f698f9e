//! `open` and `close`.

use std::time::Duration;

use spa_keys::profile::Profile;
use spa_keys::{Exit, Failure};
use spa_proto::ServiceName;

use crate::cli::{CloseArgs, CodeArgs, OpenArgs, TargetArgs};
use crate::clock::{self, Clock};
use crate::code;
use crate::door::{Door, Place};
use crate::fire::counted;
use crate::host::{Nowhere, Sockets, resolve};
use crate::load::load;
use crate::out::Form;
use crate::plan::{self, Verb};
use crate::report::{Report, State};
use crate::salvo::{Rounds, Sent, Tally};
use crate::wait::{AtOnce, Sleeper};
use crate::whom;

/// `spa-client open`.
pub(crate) fn open(args: &OpenArgs) -> Exit {
    let wait = args.wait.then_some(args.timeout);
    run(Verb::Open(args.duration), &args.target, wait, args.code)
}

/// `spa-client close`. It never needs a code (step 8).
pub(crate) fn close(args: &CloseArgs) -> Exit {
    run(Verb::Close, &args.target, None, CodeArgs::default())
}

fn run(verb: Verb, args: &TargetArgs, wait: Option<Duration>, code: CodeArgs) -> Exit {
    let mut report = Report::new(&args.services);
    let outcome = load(&args.profile).and_then(|profile| knock(verb, args, wait, code, &profile, &mut report));
    report.finish(outcome, Form::of(args.json))
}

fn knock(
    verb: Verb,
    args: &TargetArgs,
    wait: Option<Duration>,
    code: CodeArgs,
    profile: &Profile,
    report: &mut Report,
) -> Result<(), Failure> {
    // What is wrong with the words is said before anybody is asked for anything.
    let ports = wait.map(|_| plan::tcp_ports(&args.services, profile)).transpose()?;
    plan::refuse_twice(&args.services)?;
    let door = door(verb, args, code, profile, report)?;
    match (wait, ports) {
        _ if args.dry_run => rehearse(&door, report),
        (Some(limit), Some(ports)) => {
            let place = Place {
                ports,
                host: None,
                limit,
            };
            door.pass(&place, report).map(drop)
        }
        _ => send(&door, report),
    }
}

fn door<'a>(
    verb: Verb,
    args: &'a TargetArgs,
    code: CodeArgs,
    profile: &'a Profile,
    report: &mut Report,
) -> Result<Door<'a>, Failure> {
    let clock = Clock(args.clock.clock_offset.unwrap_or_default());
    report.warn(plan::strangers(&args.services, profile));
    report.warn(clock::warning(clock.now(), clock::built()));
    let whom = whom::addresses(&args.address, profile)?;
    report.warn(whom.warnings);
    Ok(Door {
        profile,
        services: &args.services,
        verb,
        addresses: whom.addresses,
        code: asked(verb, code, args.dry_run, profile)?,
        clock,
        rounds: if args.once { Rounds::Once } else { Rounds::All },
    })
}

fn asked(verb: Verb, args: CodeArgs, dry_run: bool, profile: &Profile) -> Result<Option<spa_proto::Code>, Failure> {
    match verb {
        Verb::Open(_) if !dry_run => code::one_time(args, profile),
        _ => Ok(None),
    }
}

fn rehearse(door: &Door<'_>, report: &mut Report) -> Result<(), Failure> {
    for gateway in door.profile.memberships().take(gateways(door)) {
        let tally = door.knock(gateway, &resolve(&gateway.host)?, Nowhere, &mut AtOnce)?;
        let would = |sent: &Sent| format!("would send {} bytes to {} port {}", sent.bytes, sent.address, sent.port);
        tally.sent.iter().map(would).for_each(|line| report.fact(line));
        report.take(tally);
    }
    report.fact("nothing was sent".into());
    report.hint("dry run: nothing was sent");
    report.set(door.services.iter().map(|_| State::Sent));
    Ok(())
}

/// A door may stand open at each gateway; but which one is to open it, nothing tells without --wait: the first then.
fn gateways(door: &Door<'_>) -> usize {
    match door.verb {
        Verb::Close => usize::MAX,
        Verb::Open(_) => 1,
    }
}

fn send(door: &Door<'_>, report: &mut Report) -> Result<(), Failure> {
    let mut failures = Vec::new();
    let mut sent = 0;
    for gateway in door.profile.memberships() {
        match send_one(door, gateway) {
            Ok(tally) => {
                report.fact(said(door, &tally));
                report.take(tally);
                sent += 1;
            }
            Err(failure) => failures.push(failure),
        }
        if sent == gateways(door) {
            break;
        }
    }
    if sent == 0 {
        return Err(failures.swap_remove(0));
    }
    report.warn(failures.into_iter().map(|failure| failure.what));
    if sent <= door.profile.also.len() && door.verb != Verb::Close {
        report.warn(["this profile has another gateway: --wait tries it when the first stays shut".to_owned()]);
    }
    report.set(door.services.iter().map(|_| State::Sent));
    Ok(())
}

fn send_one(door: &Door<'_>, gateway: &spa_keys::profile::Membership) -> Result<Tally, Failure> {
    let addresses = resolve(&gateway.host)?;
    door.knock(gateway, &addresses, Sockets::default(), &mut Sleeper::new())
}

fn said(door: &Door<'_>, tally: &Tally) -> String {
    let services: Vec<_> = door.services.iter().map(ServiceName::as_str).collect();
    format!(
        "sent: {} {} ({})",
        door.verb.word(),
        services.join(" "),
        counted(&tally.sent)
    )
}

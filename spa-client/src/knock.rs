//! `open` and `close`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use spa_keys::profile::{Folder, Profile};
use spa_keys::units::now;
use spa_keys::{Exit, Failure};
use spa_proto::{Request, Sender, ServiceName};

use crate::cli::{CloseArgs, OpenArgs, TargetArgs};
use crate::clock;
use crate::fire::{Errand, counted};
use crate::host::{Nowhere, Sockets, resolve};
use crate::out::Form;
use crate::plan::{self, Verb};
use crate::report::{Report, State};
use crate::salvo::{Pace, Rounds, Sent, targets};
use crate::verdict::Verdict;
use crate::wait::{AtOnce, Seen, Sleeper, Watch};

/// `spa-client open`.
pub(crate) fn open(args: &OpenArgs) -> Exit {
    let wait = args.wait.then_some(args.timeout);
    run(Verb::Open(args.duration), &args.target, wait)
}

/// `spa-client close`.
pub(crate) fn close(args: &CloseArgs) -> Exit {
    run(Verb::Close, &args.target, None)
}

fn run(verb: Verb, args: &TargetArgs, wait: Option<Duration>) -> Exit {
    let mut report = Report::new(&args.services);
    let outcome = Folder::from_env(|name| std::env::var_os(name))
        .and_then(|folder| folder.load(&args.profile))
        .map_err(Failure::from)
        .and_then(|profile| knock(verb, args, wait, &profile, &mut report));
    report.finish(outcome, Form::of(args.json))
}

fn knock(
    verb: Verb,
    args: &TargetArgs,
    wait: Option<Duration>,
    profile: &Profile,
    report: &mut Report,
) -> Result<(), Failure> {
    let addresses = plan::addresses(&args.address, profile)?;
    let requests = plan::requests(verb, &args.services, &addresses, profile)?;
    let ports = wait.map(|_| plan::tcp_ports(&args.services, profile)).transpose()?;
    report.warn(plan::strangers(&args.services, profile));
    report.warn(clock::warning(now(), clock::built()));
    let gateway = resolve(&profile.host)?;
    let errand = errand(profile, requests, &gateway, args);
    match (wait, ports) {
        _ if args.dry_run => rehearse(errand, args, report),
        (Some(limit), Some(ports)) => {
            let verdict = Verdict::new(profile, &args.services, &ports, &addresses, limit);
            watch(errand, &verdict, places(&gateway, &ports), report)
        }
        _ => send(verb, errand, args, report),
    }
}

fn errand<'a>(profile: &'a Profile, requests: Vec<Request>, gateway: &[IpAddr], args: &TargetArgs) -> Errand<'a> {
    Errand {
        keys: Sender {
            gateway: &profile.gateway,
            hmac_key: &profile.hmac_key,
            secret: &profile.secret,
            psk: &profile.psk,
        },
        requests,
        targets: targets(gateway, &profile.ports.numbers().collect::<Vec<_>>()),
        rounds: if args.once { Rounds::Once } else { Rounds::All },
    }
}

/// Where service after service may answer: its port on every address of the gateway.
fn places(gateway: &[IpAddr], ports: &[u16]) -> Vec<Vec<SocketAddr>> {
    ports.iter().map(|port| targets(gateway, &[*port])).collect()
}

fn rehearse(errand: Errand<'_>, args: &TargetArgs, report: &mut Report) -> Result<(), Failure> {
    let tally = errand.fire(Nowhere, &mut AtOnce)?;
    let would = |sent: &Sent| format!("would send {} bytes to {} port {}", sent.bytes, sent.address, sent.port);
    tally.sent.iter().map(would).for_each(|line| report.fact(line));
    report.fact("nothing was sent".into());
    report.hint("dry run: nothing was sent");
    report.set(args.services.iter().map(|_| State::Sent));
    report.take(tally);
    Ok(())
}

fn send(verb: Verb, errand: Errand<'_>, args: &TargetArgs, report: &mut Report) -> Result<(), Failure> {
    let tally = errand.fire(Sockets::default(), &mut Sleeper::new())?;
    let services: Vec<_> = args.services.iter().map(ServiceName::as_str).collect();
    report.fact(format!(
        "sent: {} {} ({})",
        verb.word(),
        services.join(" "),
        counted(&tally.sent)
    ));
    report.set(args.services.iter().map(|_| State::Sent));
    report.take(tally);
    Ok(())
}

fn watch(
    errand: Errand<'_>,
    verdict: &Verdict<'_>,
    places: Vec<Vec<SocketAddr>>,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut watch = Watch::new(places, verdict.limit);
    let tally = errand.fire(Sockets::default(), &mut watch)?;
    watch.until(verdict.limit);
    report.take(tally);
    report.set(watch.seen.iter().map(state));
    report.causes(verdict.causes(&watch.seen, now()));
    verdict
        .facts(&watch.seen)
        .into_iter()
        .for_each(|line| report.fact(line));
    verdict.judge(&watch.seen)
}

fn state(seen: &Seen) -> State {
    if seen.open.is_some() {
        State::Open
    } else {
        State::Closed
    }
}

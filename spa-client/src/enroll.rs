//! `enroll`: from an invite to a profile, and its keys to the gateway ("Enrollment in one packet").

use spa_keys::profile::{Folder, Profile, ProfileName};
use spa_keys::units::now;
use spa_keys::{Exit, Failure, InviteText};
use spa_proto::{Act, Code, Enrollment, Psk, Request, Sender, UnixTime};

use crate::cli::EnrollArgs;
use crate::clock::{self, Clock};
use crate::code;
use crate::fire::Errand;
use crate::host::{Sockets, resolve};
use crate::invite;
use crate::label;
use crate::load;
use crate::out::{self, Form};
use crate::salvo::{Rounds, Tally, targets};
use crate::wait::Sleeper;

mod proof;
mod report;
mod settle;

use report::Report;
use settle::Settled;

/// `spa-client enroll`.
pub(crate) fn run(args: &EnrollArgs) -> Exit {
    let mut report = Report::default();
    let outcome = enroll(args, &mut report);
    match (&outcome, Form::of(args.json)) {
        (Ok(()), Form::Text) => report.lines().iter().for_each(|line| out::fact(line)),
        (Err(failure), _) => report.fail(failure),
        (Ok(()), Form::Json) => {}
    }
    if args.json {
        out::object(&report);
    }
    outcome.map_or_else(|failure| failure.exit, |()| Exit::Done)
}

fn enroll(args: &EnrollArgs, report: &mut Report) -> Result<(), Failure> {
    let invite = invite::read(args.invite.as_deref())?;
    let clock = Clock(args.clock.clock_offset.unwrap_or_default());
    report.show(&invite);
    report.warn(invite::warnings(&invite, clock.now()));
    report.warn(clock::warning(now(), clock::built()));
    let from_stdin = invite::is_from_stdin(args.invite.as_deref());
    let pin = code::pin(args, invite.demands.pin, from_stdin)?;
    let folder = load::folder()?;
    let name = profile_name(args, &invite)?;
    let settled = settle::settle(&folder, &name, args, &invite)?;
    report.settle(&name, &settled);
    // From here on nothing can be lost: whatever happens, the same command sends the same again.
    let tally = send(&settled, &invite, pin, clock).map_err(|failure| {
        failure.hint(format!(
            "the same command again: profile {name} is written and keeps its key"
        ))
    })?;
    report.take(tally);
    if !args.no_proof {
        proof::prove(&settled, clock, report);
    }
    Ok(())
}

fn profile_name(args: &EnrollArgs, invite: &InviteText) -> Result<ProfileName, Failure> {
    let name = args.profile.clone().map_or_else(|| ProfileName::of(&invite.host), Ok);
    name.map_err(|error| Failure::new(Exit::Usage, error).hint("--profile NAME"))
}

fn send(settled: &Settled, invite: &InviteText, pin: Option<Code>, clock: Clock) -> Result<Tally, Failure> {
    let (secret, psk) = (invite.seed.secret_key(), invite.seed.psk());
    let gateway = settled.gateway();
    let ports: Vec<_> = gateway.ports.numbers().collect();
    let errand = Errand {
        keys: Sender {
            gateway: &gateway.gateway,
            hmac_key: &gateway.hmac_key,
            secret: &secret,
            psk: &psk,
        },
        requests: vec![request(settled, pin)],
        targets: targets(&resolve(&gateway.host)?, &ports),
        rounds: Rounds::All,
        clock,
    };
    errand.fire(Sockets::default(), &mut Sleeper::new())
}

fn request(settled: &Settled, pin: Option<Code>) -> Request {
    let enrollment = Enrollment {
        public_key: settled.gateway().secret.public(),
        psk: Psk::from_bytes(settled.gateway().psk.expose()),
        label: label::of_this_device(),
    };
    Request {
        timestamp: UnixTime::default(),
        code: pin,
        act: Act::Enroll(enrollment),
    }
}

//! `enroll`: from an invite to a profile, and its keys to the gateway ("Enrollment in one packet").

use std::collections::BTreeMap;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_keys::profile::{AddressMode, Folder, Profile, ProfileError, ProfileName, ProfileService};
use spa_keys::units::now;
use spa_keys::{Exit, Failure, InviteText};
use spa_proto::{Act, Enrollment, Psk, Request, SecretKey, Sender, UnixTime};

use crate::cli::EnrollArgs;
use crate::clock;
use crate::fire::Errand;
use crate::host::{Sockets, resolve};
use crate::invite;
use crate::label;
use crate::out::{self, Form};
use crate::salvo::{Rounds, Tally, targets};
use crate::wait::Sleeper;

mod report;

use report::Report;

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
    report.show(&invite);
    report.warn(invite::warnings(&invite, now()));
    report.warn(clock::warning(now(), clock::built()));
    let folder = Folder::from_env(|name| std::env::var_os(name))?;
    let name = profile_name(args, &invite)?;
    let profile = settle(&folder, &name, args, &invite)?;
    report.name_profile(&name, &profile);
    // From here on nothing can be lost: whatever happens, the same command sends the same again.
    let tally = send(&profile, &invite).map_err(|failure| {
        failure.hint(format!(
            "the same command again: profile {name} is written and keeps its key"
        ))
    })?;
    report.take(tally);
    Ok(())
}

fn profile_name(args: &EnrollArgs, invite: &InviteText) -> Result<ProfileName, Failure> {
    let name = args.profile.clone().map_or_else(|| ProfileName::of(&invite.host), Ok);
    name.map_err(|error| Failure::new(Exit::Usage, error).hint("--profile NAME"))
}

/// The profile that this invite has made already, or a new one, written before anything is sent.
fn settle(folder: &Folder, name: &ProfileName, args: &EnrollArgs, invite: &InviteText) -> Result<Profile, Failure> {
    let new = new_profile(args, invite)?;
    match folder.create(name, &new) {
        Ok(()) => Ok(new),
        Err(taken @ ProfileError::Taken { .. }) => resume(folder, name, args, invite, taken),
        Err(error) => Err(error.into()),
    }
}

/// Goes on with the keys of an earlier run.
fn resume(
    folder: &Folder,
    name: &ProfileName,
    args: &EnrollArgs,
    invite: &InviteText,
    taken: ProfileError,
) -> Result<Profile, Failure> {
    let mut profile = folder.load(name)?;
    if profile.invite != Some(invite.seed.secret_key().public()) {
        return Err(taken.into());
    }
    if let Some(host) = args.host.clone().filter(|host| *host != profile.host) {
        profile.host = host;
        folder.replace(name, &profile)?;
    }
    Ok(profile)
}

fn new_profile(args: &EnrollArgs, invite: &InviteText) -> Result<Profile, Failure> {
    let rng = &mut UnwrapErr(SysRng);
    let secret = SecretKey::generate(rng);
    if !secret.agrees_with(&invite.gateway) {
        return Err(Failure::new(Exit::Usage, "the gateway's key in this invite is nobody's key").hint("a new invite"));
    }
    Ok(Profile {
        host: args.host.as_ref().unwrap_or(&invite.host).clone(),
        ports: invite.ports.clone(),
        gateway: invite.gateway,
        hmac_key: spa_proto::HmacKey::from_bytes(invite.hmac_key.expose()),
        secret,
        psk: Psk::generate(rng),
        name: invite.name.clone(),
        address: if invite.demands.explicit_address {
            AddressMode::Resolve
        } else {
            AddressMode::AsSeen
        },
        services: services(invite),
        invite: Some(invite.seed.secret_key().public()),
    })
}

fn services(invite: &InviteText) -> BTreeMap<spa_proto::ServiceName, ProfileService> {
    let service = |connect| ProfileService {
        connect,
        duration: None,
    };
    let hints = invite.services.iter();
    hints.map(|hint| (hint.name.clone(), service(hint.port))).collect()
}

fn send(profile: &Profile, invite: &InviteText) -> Result<Tally, Failure> {
    let (secret, psk) = (invite.seed.secret_key(), invite.seed.psk());
    let ports: Vec<_> = profile.ports.numbers().collect();
    let errand = Errand {
        keys: Sender {
            gateway: &profile.gateway,
            hmac_key: &profile.hmac_key,
            secret: &secret,
            psk: &psk,
        },
        requests: vec![request(profile)],
        targets: targets(&resolve(&profile.host)?, &ports),
        rounds: Rounds::All,
    };
    errand.fire(Sockets::default(), &mut Sleeper::new())
}

fn request(profile: &Profile) -> Request {
    let enrollment = Enrollment {
        public_key: profile.secret.public(),
        psk: Psk::from_bytes(profile.psk.expose()),
        label: label::of_this_device(),
    };
    Request {
        timestamp: UnixTime::default(),
        code: None,
        act: Act::Enroll(enrollment),
    }
}

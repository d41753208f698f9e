//! The profile that an invite becomes: a new one, a part of one that exists, or the one that it made already. It is
//! written before anything is sent: a key that the gateway knows and the device lost would be worth nothing.

use std::collections::BTreeMap;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_keys::profile::{AddressMode, Membership, ProfileError, ProfileService};
use spa_proto::{HmacKey, SecretKey, ServiceName};

use super::{EnrollArgs, Exit, Failure, Folder, InviteText, Profile, ProfileName, Psk, load};
use crate::load::Loaded;

/// A written profile, and which of its gateways the invite is of.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) profile: Profile,
    /// 0 is the first gateway, 1 the first of the others.
    number: usize,
    /// What the profile was called that this one took the place of.
    pub(super) old: Option<ProfileName>,
}

impl Settled {
    /// The gateway that the invite is of.
    pub(super) fn gateway(&self) -> &Membership {
        self.profile
            .memberships()
            .nth(self.number)
            .unwrap_or(&self.profile.home)
    }
}

pub(super) fn settle(
    folder: &Folder,
    name: &ProfileName,
    args: &EnrollArgs,
    invite: &InviteText,
) -> Result<Settled, Failure> {
    match load::unlock(folder, name) {
        Ok(loaded) => change(folder, name, args, invite, loaded),
        // A profile that is there and cannot be read is not touched.
        Err(failure) if folder.names()?.iter().any(|other| other == name.as_str()) => Err(failure),
        Err(failure) if args.also => Err(failure),
        Err(_) => create(folder, name, args, invite),
    }
}

fn create(folder: &Folder, name: &ProfileName, args: &EnrollArgs, invite: &InviteText) -> Result<Settled, Failure> {
    let new = profile(args, invite)?;
    let passphrase = args.passphrase.then(|| load::first_passphrase(name)).transpose()?;
    match folder.create(name, &new, passphrase.as_ref()) {
        Ok(()) => Ok(Settled {
            profile: new,
            number: 0,
            old: None,
        }),
        // Another run of the same command was quicker.
        Err(ProfileError::Taken { .. }) => change(folder, name, args, invite, load::unlock(folder, name)?),
        Err(error) => Err(error.into()),
    }
}

fn change(
    folder: &Folder,
    name: &ProfileName,
    args: &EnrollArgs,
    invite: &InviteText,
    loaded: Loaded,
) -> Result<Settled, Failure> {
    let key = invite.seed.secret_key().public();
    let known = loaded
        .profile
        .memberships()
        .position(|gateway| gateway.invite == Some(key));
    if (known.is_some() || args.also) && args.passphrase && loaded.passphrase.is_none() {
        return Err(in_the_clear(name));
    }
    match known {
        Some(number) => resume(folder, name, args, loaded, number),
        None if args.also => add(folder, name, args, invite, loaded),
        None if args.replace => replace(folder, name, args, invite, loaded),
        None => Err(ProfileError::Taken {
            name: name.clone(),
            path: folder.file(name),
        }
        .into()),
    }
}

/// A profile that exists does not come under a passphrase by the way: the old keys would be on the disk still.
fn in_the_clear(name: &ProfileName) -> Failure {
    let what = format!("the profile {name} is there already, without a passphrase");
    Failure::new(Exit::Usage, what).hint(format!("spa-client passwd {name}, then the same without --passphrase"))
}

/// Goes on with the keys of an earlier run.
fn resume(
    folder: &Folder,
    name: &ProfileName,
    args: &EnrollArgs,
    loaded: Loaded,
    number: usize,
) -> Result<Settled, Failure> {
    let Loaded {
        mut profile,
        passphrase,
    } = loaded;
    let gateway = at(&mut profile, number);
    if let Some(host) = args.host.clone().filter(|host| *host != gateway.host) {
        gateway.host = host;
        folder.replace(name, &profile, passphrase.as_ref())?;
    }
    Ok(Settled {
        profile,
        number,
        old: None,
    })
}

fn add(
    folder: &Folder,
    name: &ProfileName,
    args: &EnrollArgs,
    invite: &InviteText,
    loaded: Loaded,
) -> Result<Settled, Failure> {
    let Loaded {
        mut profile,
        passphrase,
    } = loaded;
    if profile.memberships().any(|gateway| gateway.gateway == invite.gateway) {
        return Err(
            Failure::new(Exit::Usage, format!("the profile {name} has this gateway already"))
                .hint("--replace, to use the keys of this invite instead"),
        );
    }
    profile.also.push(membership(args, invite)?);
    // What a person wrote of a service stays.
    for (service, known) in services(invite) {
        profile.services.entry(service).or_insert(known);
    }
    profile.one_time_code |= invite.demands.one_time_code;
    folder.replace(name, &profile, passphrase.as_ref())?;
    Ok(Settled {
        number: profile.also.len(),
        profile,
        old: None,
    })
}

/// Takes the old one's place, with what a person wrote into it; the old one is kept beside.
fn replace(
    folder: &Folder,
    name: &ProfileName,
    args: &EnrollArgs,
    invite: &InviteText,
    loaded: Loaded,
) -> Result<Settled, Failure> {
    let Loaded {
        mut profile,
        passphrase,
    } = loaded;
    let new = membership(args, invite)?;
    let same = |gateway: &Membership| gateway.host == new.host || gateway.gateway == new.gateway;
    let number = profile.memberships().position(same).unwrap_or_default();
    *at(&mut profile, number) = new;
    for (service, known) in services(invite) {
        let connect = profile.services.entry(service).or_insert(known);
        connect.connect = known.connect.or(connect.connect);
    }
    profile.one_time_code |= invite.demands.one_time_code;
    if invite.demands.explicit_address && profile.address == AddressMode::AsSeen {
        profile.address = AddressMode::Resolve;
    }
    let passphrase = match passphrase {
        None if args.passphrase => Some(load::first_passphrase(name)?),
        known => known,
    };
    let old = folder.keep_old(name)?;
    folder.replace(name, &profile, passphrase.as_ref())?;
    Ok(Settled {
        profile,
        number,
        old: Some(old),
    })
}

fn at(profile: &mut Profile, number: usize) -> &mut Membership {
    match number.checked_sub(1).filter(|other| *other < profile.also.len()) {
        Some(other) => &mut profile.also[other],
        None => &mut profile.home,
    }
}

fn profile(args: &EnrollArgs, invite: &InviteText) -> Result<Profile, Failure> {
    Ok(Profile {
        home: membership(args, invite)?,
        also: Vec::new(),
        address: if invite.demands.explicit_address {
            AddressMode::Resolve
        } else {
            AddressMode::AsSeen
        },
        one_time_code: invite.demands.one_time_code,
        stun: Vec::new(),
        ntp: Vec::new(),
        services: services(invite),
    })
}

fn membership(args: &EnrollArgs, invite: &InviteText) -> Result<Membership, Failure> {
    let rng = &mut UnwrapErr(SysRng);
    let secret = SecretKey::generate(rng);
    if !secret.agrees_with(&invite.gateway) {
        return Err(Failure::new(Exit::Usage, "the gateway's key in this invite is nobody's key").hint("a new invite"));
    }
    Ok(Membership {
        host: args.host.as_ref().unwrap_or(&invite.host).clone(),
        ports: invite.ports.clone(),
        gateway: invite.gateway,
        hmac_key: HmacKey::from_bytes(invite.hmac_key.expose()),
        secret,
        psk: Psk::generate(rng),
        name: invite.name.clone(),
        invite: Some(invite.seed.secret_key().public()),
    })
}

fn services(invite: &InviteText) -> BTreeMap<ServiceName, ProfileService> {
    let service = |connect| ProfileService {
        connect,
        duration: None,
    };
    let hints = invite.services.iter();
    hints.map(|hint| (hint.name.clone(), service(hint.port))).collect()
}

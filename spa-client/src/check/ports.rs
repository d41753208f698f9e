//! The gateway's ports, each tried over each family with a real knock.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use spa_keys::profile::{Membership, Profile};
use spa_keys::{Failure, Protocol};
use spa_proto::{Address, Code, ServiceName};

use super::findings::{Findings, State};
use super::network::Reached;
use crate::cli::CheckArgs;
use crate::clock::Clock;
use crate::code;
use crate::door::Door;
use crate::host::Sockets;
use crate::plan::Verb;
use crate::salvo::{Pace, Rounds, targets};
use crate::wait::{AtOnce, Watch};
use crate::whom;

/// How long a door of this check stays open, should its end get lost.
const LENGTH: NonZeroU32 = NonZeroU32::new(10).unwrap();
const PATIENCE: Duration = Duration::from_secs(3);
/// Time for a door to be seen open that is open already.
const BEFORE: Duration = Duration::from_millis(400);
/// How often a door is looked at that was asked to shut.
const SHUT: usize = 10;

/// What is tried with each port.
struct Trial<'a> {
    profile: &'a Profile,
    services: [ServiceName; 1],
    port: u16,
    addresses: Vec<Address>,
    code: Option<Code>,
    clock: Clock,
}

pub(super) fn look(
    args: &CheckArgs,
    profile: &Profile,
    clock: Clock,
    reached: &[Reached<'_>],
    findings: &mut Findings,
) {
    match trial(args, profile, clock) {
        Ok(Some(trial)) => reached.iter().for_each(|reached| trial.run(reached, findings)),
        Ok(None) => findings.add(
            "port",
            State::Unknown,
            "no service is known that a TCP connection could show to be open".into(),
            Some("connect = \"tcp/22\", or whatever its port is, under [services.NAME] in the profile".into()),
        ),
        Err(failure) => findings.add_failure("port", &failure),
    }
}

fn trial<'a>(args: &CheckArgs, profile: &'a Profile, clock: Clock) -> Result<Option<Trial<'a>>, Failure> {
    let mut services = profile.services.iter();
    let found = services.find_map(|(name, service)| {
        let place = service.connect.filter(|place| place.protocol == Protocol::Tcp)?;
        Some((name.clone(), place.port.get()))
    });
    let Some((service, port)) = found else { return Ok(None) };
    Ok(Some(Trial {
        profile,
        services: [service],
        port,
        addresses: whom::addresses(&args.address, profile)?.addresses,
        code: code::one_time(args.code, profile)?,
        clock,
    }))
}

impl Trial<'_> {
    fn run(&self, reached: &Reached<'_>, findings: &mut Findings) {
        let mut opened = false;
        let mut shut = Vec::new();
        for (way, addresses, knock_port) in ways(reached) {
            match self.try_one(reached.gateway, &addresses, knock_port) {
                Tried::Opened => {
                    opened = true;
                    findings.add(
                        "port",
                        State::Ok,
                        format!("{way}: {} opened, and shut again", self.name()),
                        None,
                    );
                }
                Tried::OpenBefore => {
                    let text = format!("{way}: {} answers without a knock; nothing can be told", self.name());
                    findings.add("port", State::Unknown, text, None);
                }
                Tried::Shut(why) => shut.push(format!("{way}: {why}")),
            }
        }
        // Where another way in is there, this one is to be known of, and locks nobody out.
        let state = if opened { State::Warning } else { State::Error };
        for text in shut {
            let hint = "`spa-server explain` on the gateway says what it refused".to_owned();
            findings.add("port", state, text, Some(hint));
        }
    }

    fn name(&self) -> &ServiceName {
        &self.services[0]
    }

    fn try_one(&self, gateway: &Membership, addresses: &[IpAddr], knock_port: u16) -> Tried {
        if self.answers(addresses) {
            return Tried::OpenBefore;
        }
        let mut watch = Watch::new(&[targets(addresses, &[self.port])], PATIENCE);
        let places = targets(addresses, &[knock_port]);
        let open = self.door(Verb::Open(Some(LENGTH)), Rounds::All);
        if let Err(failure) = open.knock_ports(gateway, places.clone(), Sockets::default(), &mut watch) {
            return Tried::Shut(failure.what);
        }
        watch.until(PATIENCE);
        if !watch.is_answered() {
            let refused = watch.seen.iter().any(|seen| !seen.refused.is_empty());
            let why = if refused {
                "the way is open, but nothing runs there"
            } else {
                "nothing opened"
            };
            return Tried::Shut(format!("{}: {why}", self.name()));
        }
        let close = self.door(Verb::Close, Rounds::Once);
        // Should it get lost, the door shuts by itself before long.
        let _ = close.knock_ports(gateway, places, Sockets::default(), &mut AtOnce);
        // The next port is tried with a door that is shut.
        let _ = (0..SHUT).find(|_| !self.answers(addresses));
        Tried::Opened
    }

    fn answers(&self, addresses: &[IpAddr]) -> bool {
        let mut watch = Watch::new(&[targets(addresses, &[self.port])], BEFORE);
        watch.until(BEFORE);
        watch.is_answered()
    }

    fn door(&self, verb: Verb, rounds: Rounds) -> Door<'_> {
        Door {
            profile: self.profile,
            services: &self.services,
            verb,
            addresses: self.addresses.clone(),
            code: if verb == Verb::Close { None } else { self.code },
            clock: self.clock,
            rounds,
        }
    }
}

/// Each port over each family that there is a way by, as a person reads it.
fn ways(reached: &Reached<'_>) -> Vec<(String, Vec<IpAddr>, u16)> {
    let mut ways = Vec::new();
    for knock_port in reached.gateway.ports.numbers() {
        for (family, ipv4) in [("IPv4", true), ("IPv6", false)] {
            let of_family = reached.addresses.iter().filter(|address| address.is_ipv4() == ipv4);
            let addresses: Vec<_> = of_family.copied().collect();
            if !addresses.is_empty() {
                let way = format!("{} UDP port {knock_port} over {family}", reached.gateway.host);
                ways.push((way, addresses, knock_port));
            }
        }
    }
    ways
}

enum Tried {
    Opened,
    OpenBefore,
    Shut(String),
}

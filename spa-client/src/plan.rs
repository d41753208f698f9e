//! From what was typed and what the profile says to the requests that are sent.

use std::num::{NonZeroU16, NonZeroU32};

use spa_keys::profile::Profile;
use spa_keys::{Exit, Failure, Protocol, ServicePort};
use spa_proto::{Act, Address, Code, Request, ServiceName, Services, ServicesError, UnixTime};

/// What is asked of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Open, for so long or for what the profile says of each service.
    Open(Option<NonZeroU32>),
    /// Close.
    Close,
}

impl Verb {
    /// The command's name.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Close => "close",
        }
    }
}

/// The requests: one for each length of time and each address, with at most 16 services.
pub(crate) fn requests(
    verb: Verb,
    services: &[ServiceName],
    addresses: &[Address],
    code: Option<Code>,
    profile: &Profile,
) -> Result<Vec<Request>, Failure> {
    refuse_twice(services)?;
    let mut requests = Vec::new();
    for (duration_s, group) in groups(verb, services, profile) {
        for part in group.chunks(Services::MOST) {
            for address in addresses {
                requests.push(request(verb, duration_s, part, *address, code)?);
            }
        }
    }
    Ok(requests)
}

/// A service that stands there twice is a mistake.
pub(crate) fn refuse_twice(services: &[ServiceName]) -> Result<(), Failure> {
    let seen_before = |(i, name): &(usize, &ServiceName)| services.iter().take(*i).any(|other| other == *name);
    match services.iter().enumerate().find(seen_before) {
        Some((_, name)) => Err(refused(&ServicesError::Twice { name: name.clone() })),
        None => Ok(()),
    }
}

fn refused(error: &ServicesError) -> Failure {
    Failure::new(Exit::Usage, error)
}

/// Services that are asked for equally long, in the order they were named; 0 s is the gateway's own default.
fn groups(verb: Verb, services: &[ServiceName], profile: &Profile) -> Vec<(u32, Vec<ServiceName>)> {
    let mut groups: Vec<(u32, Vec<ServiceName>)> = Vec::new();
    for name in services {
        let duration_s = duration(verb, name, profile);
        match groups.iter_mut().find(|(other, _)| *other == duration_s) {
            Some((_, group)) => group.push(name.clone()),
            None => groups.push((duration_s, vec![name.clone()])),
        }
    }
    groups
}

fn duration(verb: Verb, name: &ServiceName, profile: &Profile) -> u32 {
    let told = match verb {
        Verb::Open(told) => told.or_else(|| profile.services.get(name)?.duration),
        Verb::Close => None,
    };
    told.map_or(0, NonZeroU32::get)
}

fn request(
    verb: Verb,
    duration_s: u32,
    services: &[ServiceName],
    address: Address,
    code: Option<Code>,
) -> Result<Request, Failure> {
    let services = Services::new(services.to_vec()).map_err(|error| refused(&error))?;
    let act = match verb {
        Verb::Open(_) => Act::Open {
            address,
            duration_s,
            services,
        },
        Verb::Close => Act::Close { address, services },
    };
    Ok(Request {
        timestamp: UnixTime::default(),
        code,
        act,
    })
}

/// The service that is named, else the one that answers at this TCP port.
pub(crate) fn going_to(
    named: Option<&ServiceName>,
    port: NonZeroU16,
    profile: &Profile,
) -> Result<ServiceName, Failure> {
    named.map_or_else(|| at_port(port, profile), |name| Ok(name.clone()))
}

fn at_port(port: NonZeroU16, profile: &Profile) -> Result<ServiceName, Failure> {
    let answers =
        |place: Option<ServicePort>| place.is_some_and(|place| place.protocol == Protocol::Tcp && place.port == port);
    let mut services = profile.services.iter();
    let found = services.find(|(_, service)| answers(service.connect));
    found.map(|(name, _)| name.clone()).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("the profile knows no service that answers at tcp/{port}"),
        )
        .hint(format!("connect = \"tcp/{port}\" under [services.NAME] in the profile"))
        .hint("--service NAME")
    })
}

/// The TCP port that shows each service to be open; without one there is nothing to wait for.
pub(crate) fn tcp_ports(services: &[ServiceName], profile: &Profile) -> Result<Vec<u16>, Failure> {
    let port = |name| match profile.services.get(name).and_then(|service| service.connect) {
        Some(place) if place.protocol == Protocol::Tcp => Ok(place.port.get()),
        Some(place) => Err(Failure::new(
            Exit::Usage,
            format!(
                "--wait cannot tell whether {name} is open: {place} need not answer, only a TCP connection proves it"
            ),
        )
        .hint("without --wait")),
        None => Err(Failure::new(
            Exit::Usage,
            format!("--wait cannot tell whether {name} is open: the profile does not say where it answers"),
        )
        .hint(format!(
            "connect = \"tcp/22\", or whatever its port is, under [services.{name}] in the profile"
        ))
        .hint("without --wait")),
    };
    services.iter().map(port).collect()
}

/// Services that the profile does not know: they may be mistyped.
pub(crate) fn strangers(services: &[ServiceName], profile: &Profile) -> Option<String> {
    let known = |name: &&ServiceName| profile.services.contains_key(*name);
    let strange: Vec<_> = services
        .iter()
        .filter(|name| !known(name))
        .map(ServiceName::as_str)
        .collect();
    let list: Vec<_> = profile.services.keys().map(ServiceName::as_str).collect();
    if strange.is_empty() || list.is_empty() {
        return None;
    }
    Some(format!(
        "the profile does not know {}, only {}; the gateway decides",
        strange.join(", "),
        list.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"
        host = "gw.example.net"
        ports = [62201]
        name = "anna-phone"
        gateway-public-key = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        gateway-hmac-key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        private-key = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        psk = "BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        services.ssh = { connect = "tcp/22", for = "1h" }
        services.db = { for = "8h" }
        services.web = { for = "1h" }
        services.dns = { connect = "udp/53" }
    "#;

    fn profile() -> Profile {
        Profile::parse(PROFILE).unwrap()
    }

    fn names(names: &[&str]) -> Vec<ServiceName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn durations(verb: Verb, services: &[&str]) -> Vec<(u32, String)> {
        let groups = groups(verb, &names(services), &profile()).into_iter();
        let join = |group: Vec<ServiceName>| group.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" ");
        groups.map(|(duration_s, group)| (duration_s, join(group))).collect()
    }

    #[test]
    fn each_length_of_time_is_a_request() {
        let services = ["ssh", "db", "web", "dns"];
        let of = |list: &[(u32, &str)]| list.iter().map(|(s, names)| (*s, (*names).into())).collect::<Vec<_>>();
        assert_eq!(
            durations(Verb::Open(None), &services),
            of(&[(3_600, "ssh web"), (28_800, "db"), (0, "dns")])
        );
        let told = Verb::Open(NonZeroU32::new(60));
        assert_eq!(durations(told, &services), of(&[(60, "ssh db web dns")]));
        assert_eq!(durations(Verb::Close, &services), of(&[(0, "ssh db web dns")]));
    }

    #[test]
    fn each_address_is_a_request() {
        let address = |text: &str| Address::explicit(text.parse().unwrap()).unwrap();
        let both = [address("192.0.2.7"), address("2001:db8::7")];
        let requests = requests(Verb::Open(None), &names(&["ssh"]), &both, None, &profile()).unwrap();
        let asked = requests.iter().map(|request| match &request.act {
            Act::Open { address, .. } => *address,
            act => panic!("{act:?}"),
        });
        assert_eq!(asked.collect::<Vec<_>>(), both);
    }

    #[test]
    fn many_services_are_several_requests() {
        let many: Vec<_> = (0..17).map(|i| format!("s{i}").parse().unwrap()).collect();
        let made = requests(Verb::Close, &many, &[Address::AsSeen], None, &profile()).unwrap();
        assert_eq!(made.len(), 2);
        let twice = [many.clone(), many].concat();
        let failure = requests(Verb::Close, &twice, &[Address::AsSeen], None, &profile()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.what, "service s0 stands there twice");
    }

    #[test]
    fn only_tcp_is_proof() {
        assert_eq!(tcp_ports(&names(&["ssh"]), &profile()).unwrap(), [22]);
        for service in ["dns", "db", "nosuch"] {
            let failure = tcp_ports(&names(&["ssh", service]), &profile()).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
        }
    }

    #[test]
    fn a_port_names_its_service() {
        let port = |number| NonZeroU16::new(number).unwrap();
        assert_eq!(at_port(port(22), &profile()).unwrap().as_str(), "ssh");
        assert_eq!(at_port(port(53), &profile()).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn strange_services_are_named() {
        assert_eq!(strangers(&names(&["ssh"]), &profile()), None);
        assert_eq!(
            strangers(&names(&["ssh", "shs"]), &profile()).unwrap(),
            "the profile does not know shs, only db, dns, ssh, web; the gateway decides"
        );
    }
}

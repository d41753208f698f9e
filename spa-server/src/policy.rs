//! Who may open what, for whom, for how long (step 8). Pure: rules and a knock in, terms out.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use spa_keys::client::{AddressRule, ClientPolicy, Widen};
use spa_proto::{Address, ServiceName, UnixTime};

use crate::config::{Sequence, Service};
use crate::grant::Terms;

/// What a knock comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The address to open for, or to close for.
    pub address: IpAddr,
    /// What is granted: each service with its terms. Never empty.
    pub granted: Vec<(String, Terms)>,
    /// What is left out, to be logged by name.
    pub left_out: Vec<(ServiceName, Exclusion)>,
}

/// Why a service was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// This gateway has none of that name.
    Unknown,
    /// The client may not open it.
    Forbidden,
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "is not a service here",
            Self::Forbidden => "is not among the client's services",
        })
    }
}

/// Why nothing is granted at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// Not an address that a packet to be answered comes from.
    NoHost(IpAddr),
    /// Loopback or link-local, which the client's policy does not name.
    Local(IpAddr),
    /// The client must name an address.
    MustBeExplicit,
    /// The client may not name an address.
    MustBeAsSeen,
    /// The address is not among those the client may open for.
    Source(IpAddr),
    /// No service is left.
    Services(Vec<(ServiceName, Exclusion)>),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost(address) => write!(f, "{address} is not the address of one host"),
            Self::Local(address) => write!(
                f,
                "{address} is local; the client's file does not say allow-local = true"
            ),
            Self::MustBeExplicit => f.write_str("the client must send its address (address = \"explicit\")"),
            Self::MustBeAsSeen => f.write_str("the client may not name an address (address = \"as-seen\")"),
            Self::Source(address) => write!(f, "{address} is not among the client's sources"),
            Self::Services(left_out) => {
                let each: Vec<_> = left_out.iter().map(|(name, why)| format!("{name} {why}")).collect();
                f.write_str(&each.join(", "))
            }
        }
    }
}

/// Decides an open or a close that was found genuine. `duration_s` is 0 for the services' own durations.
///
/// # Errors
///
/// [`PolicyError`] when nothing of it may be done.
pub fn decide(
    services: &[Service],
    policy: &ClientPolicy,
    address: Address,
    source: IpAddr,
    asked: &[ServiceName],
    duration_s: u32,
) -> Result<Decision, PolicyError> {
    let address = check_address(policy, address, source)?;
    let mut decision = Decision {
        address,
        granted: Vec::new(),
        left_out: Vec::new(),
    };
    for name in asked {
        match find(services, policy, name) {
            Ok(service) => {
                let terms = Terms {
                    opened: widen(policy.widen, address),
                    duration: duration(service, policy, duration_s),
                };
                decision.granted.push((service.name.clone(), terms));
            }
            Err(why) => decision.left_out.push((name.clone(), why)),
        }
    }
    if decision.granted.is_empty() {
        Err(PolicyError::Services(decision.left_out))
    } else {
        Ok(decision)
    }
}

/// A grant never outlasts its client.
#[must_use]
pub fn until_expiry(expires: Option<UnixTime>, now: UnixTime, duration: Duration) -> Duration {
    match expires {
        Some(expires) if expires > now => duration.min(expires.distance(now)),
        Some(_) => Duration::ZERO,
        None => duration,
    }
}

/// Decides a complete sequence from `source`: one service, for that address alone.
///
/// # Errors
///
/// Why nothing may be opened, in one clause.
pub fn decide_sequence(services: &[Service], sequence: &Sequence, source: IpAddr) -> Result<(IpAddr, Terms), String> {
    let name: ServiceName = sequence
        .service
        .parse()
        .map_err(|error: spa_proto::ServiceNameError| error.to_string())?;
    let policy = ClientPolicy {
        services: std::iter::once(name.clone()).collect(),
        sources: sequence.sources.clone().into(),
        ..ClientPolicy::default()
    };
    let decision = decide(services, &policy, Address::AsSeen, source, &[name], 0);
    let decision = decision.map_err(|error| match error {
        PolicyError::Local(address) => format!("{address} is local; sequences open for no local address"),
        PolicyError::Source(address) => format!("{address} is not among the sequence's sources"),
        error => error.to_string(),
    })?;
    let (_, terms) = decision.granted.into_iter().next().ok_or("it opens nothing")?;
    Ok((decision.address, terms))
}

fn find<'a>(services: &'a [Service], policy: &ClientPolicy, name: &ServiceName) -> Result<&'a Service, Exclusion> {
    let service = services
        .iter()
        .find(|service| service.name == name.as_str())
        .ok_or(Exclusion::Unknown)?;
    if policy.allows(name) {
        Ok(service)
    } else {
        Err(Exclusion::Forbidden)
    }
}

fn check_address(policy: &ClientPolicy, address: Address, source: IpAddr) -> Result<IpAddr, PolicyError> {
    match (policy.address, address) {
        (AddressRule::Explicit, Address::AsSeen) => return Err(PolicyError::MustBeExplicit),
        (AddressRule::AsSeen, Address::Explicit(_)) => return Err(PolicyError::MustBeAsSeen),
        _ => {}
    }
    let address = address.resolve(source);
    if Address::explicit(address).is_err() {
        return Err(PolicyError::NoHost(address));
    }
    if is_local(address) && !policy.allow_local {
        return Err(PolicyError::Local(address));
    }
    let allowed = policy.sources.is_empty() || policy.sources.iter().any(|net| net.contains(&address));
    if allowed {
        Ok(address)
    } else {
        Err(PolicyError::Source(address))
    }
}

/// Loopback and link-local.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

fn widen(widen: Widen, address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { widen.v4 } else { widen.v6 };
    IpNet::new(address, length).map_or_else(|_| address.into(), |net| net.trunc())
}

/// What was asked, or the service's own; never over either cap.
fn duration(service: &Service, policy: &ClientPolicy, asked_s: u32) -> Duration {
    let asked = if asked_s == 0 {
        service.duration
    } else {
        Duration::from_secs(asked_s.into())
    };
    let cap = policy
        .max_duration
        .map_or(service.max_duration, |own| own.min(service.max_duration));
    asked.min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn services() -> Vec<Service> {
        let text = r#"
            [gateway]
            host = "gw.example.net"
            [[service]]
            name = "ssh"
            backends = ["iptables"]
            ports = ["tcp/22"]
            duration = "30s"
            max-duration = "1h"
            [[service]]
            name = "db"
            backends = ["iptables"]
            ports = ["tcp/5432"]
        "#;
        Config::from_text("server.toml", text).unwrap().0.services
    }

    fn policy() -> ClientPolicy {
        ClientPolicy {
            services: ["ssh".parse().unwrap()].into(),
            ..ClientPolicy::default()
        }
    }

    fn ask(policy: &ClientPolicy, address: Address, names: &[&str], duration_s: u32) -> Result<Decision, PolicyError> {
        let names: Vec<ServiceName> = names.iter().map(|name| name.parse().unwrap()).collect();
        decide(
            &services(),
            policy,
            address,
            "192.0.2.7".parse().unwrap(),
            &names,
            duration_s,
        )
    }

    fn explicit(text: &str) -> Address {
        Address::explicit(text.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_may_be_opened_is_and_the_rest_is_left_out() {
        let decision = ask(&policy(), Address::AsSeen, &["db", "ssh", "nope"], 0).unwrap();
        let terms = Terms {
            opened: "192.0.2.7/32".parse().unwrap(),
            duration: Duration::from_secs(30),
        };
        assert_eq!(decision.granted, [("ssh".to_string(), terms)]);
        let left: Vec<_> = decision
            .left_out
            .iter()
            .map(|(name, why)| (name.as_str(), *why))
            .collect();
        assert_eq!(left, [("db", Exclusion::Forbidden), ("nope", Exclusion::Unknown)]);
        let error = ask(&policy(), Address::AsSeen, &["db"], 0).unwrap_err();
        assert_eq!(error.to_string(), "db is not among the client's services");
        assert!(
            ask(&ClientPolicy::default(), Address::AsSeen, &["ssh"], 0).is_err(),
            "an empty list opens nothing"
        );
    }

    #[test]
    fn durations_are_capped_twice() {
        let secs = |policy: &ClientPolicy, asked| {
            ask(policy, Address::AsSeen, &["ssh"], asked).unwrap().granted[0]
                .1
                .duration
                .as_secs()
        };
        assert_eq!(secs(&policy(), 60), 60);
        assert_eq!(secs(&policy(), u32::MAX), 3600);
        let short = ClientPolicy {
            max_duration: Some(Duration::from_secs(10)),
            ..policy()
        };
        assert_eq!([secs(&short, 0), secs(&short, 60)], [10, 10]);
    }

    #[test]
    fn address_forms_and_sources() {
        let explicit_only = ClientPolicy {
            address: AddressRule::Explicit,
            ..policy()
        };
        assert_eq!(
            ask(&explicit_only, Address::AsSeen, &["ssh"], 0),
            Err(PolicyError::MustBeExplicit)
        );
        assert_eq!(
            ask(&explicit_only, explicit("192.0.2.9"), &["ssh"], 0).unwrap().address,
            IpAddr::from([192, 0, 2, 9])
        );
        let as_seen_only = ClientPolicy {
            address: AddressRule::AsSeen,
            ..policy()
        };
        assert_eq!(
            ask(&as_seen_only, explicit("192.0.2.9"), &["ssh"], 0),
            Err(PolicyError::MustBeAsSeen)
        );
        let near = ClientPolicy {
            sources: ["192.0.2.0/29".parse().unwrap()].into(),
            ..policy()
        };
        assert!(ask(&near, Address::AsSeen, &["ssh"], 0).is_ok());
        assert!(matches!(
            ask(&near, explicit("192.0.2.9"), &["ssh"], 0),
            Err(PolicyError::Source(_))
        ));
        for local in ["127.0.0.1", "::1", "169.254.1.1", "fe80::1"] {
            assert!(
                matches!(ask(&policy(), explicit(local), &["ssh"], 0), Err(PolicyError::Local(_))),
                "{local}"
            );
            let allowed = ClientPolicy {
                allow_local: true,
                ..policy()
            };
            assert!(ask(&allowed, explicit(local), &["ssh"], 0).is_ok(), "{local}");
        }
    }

    #[test]
    fn nobodys_source_opens_nothing() {
        for nobody in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"] {
            let names = ["ssh".parse().unwrap()];
            let outcome = decide(
                &services(),
                &policy(),
                Address::AsSeen,
                nobody.parse().unwrap(),
                &names,
                0,
            );
            assert!(matches!(outcome, Err(PolicyError::NoHost(_))), "{nobody}");
        }
    }

    #[test]
    fn a_prefix_has_no_host_bits() {
        let wide = ClientPolicy {
            widen: Widen { v4: 24, v6: 64 },
            ..policy()
        };
        let opened = |address| {
            ask(&wide, explicit(address), &["ssh"], 0).unwrap().granted[0]
                .1
                .opened
                .to_string()
        };
        assert_eq!(opened("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(opened("2001:db8::77"), "2001:db8::/64");
    }

    #[test]
    fn a_sequence_opens_one_service_for_where_it_came_from() {
        let sequence = |service: &str, sources: &[&str]| Sequence {
            name: "card".into(),
            service: service.into(),
            sources: sources.iter().map(|net| net.parse().unwrap()).collect(),
            within: Duration::from_secs(10),
            kind: crate::config::SequenceKind::Fixed(Vec::new()),
        };
        let decide =
            |sequence: &Sequence, source: &str| decide_sequence(&services(), sequence, source.parse().unwrap());
        let (address, terms) = decide(&sequence("ssh", &[]), "192.0.2.7").unwrap();
        assert_eq!(address.to_string(), "192.0.2.7");
        assert_eq!(
            (terms.opened.to_string().as_str(), terms.duration.as_secs()),
            ("192.0.2.7/32", 30)
        );
        assert!(decide(&sequence("ssh", &["192.0.2.0/24"]), "192.0.2.7").is_ok());
        for (sequence, source) in [
            (sequence("ssh", &["198.51.100.0/24"]), "192.0.2.7"),
            (sequence("ssh", &[]), "127.0.0.1"),
            (sequence("ssh", &[]), "fe80::1"),
            (sequence("ssh", &[]), "255.255.255.255"),
            (sequence("web", &[]), "192.0.2.7"),
        ] {
            assert!(decide(&sequence, source).is_err(), "{source}");
        }
    }
}

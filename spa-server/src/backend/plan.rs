//! What a firewall backend is to bring about, taken from the configuration.

use std::net::IpAddr;

use ipnet::IpNet;

use super::BackendError;
use super::existing::Connection;
use super::iptables::place::Place;
use crate::config::{AtEnd, BackendKind, Chain, Config, PortRange, Service};
use crate::netlink::Family;

/// Would make the name of a service's set that of the always-allow set.
pub(super) const RESERVED: &str = "allow";
/// The same for the set of those who are shut out.
pub(super) const BANNED: &str = "ban";
/// A service's name has no capital letter, so that no chain of a service is one of the fixed ones.
const CHAIN_PREFIX: &str = "SPA-";

/// Everything that the rules and sets follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The services that this backend opens.
    pub services: Vec<Guarded>,
    /// Open to these, whatever happens.
    pub always_allow: Vec<IpNet>,
    /// UDP ports whose packets make no conntrack entry.
    pub knock_ports: Vec<u16>,
    /// Scanners are shut out.
    pub bans: bool,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Its name.
    pub name: String,
    /// Its ports; no other is ever judged.
    pub ports: Vec<PortRange>,
    /// Whether the ports are hidden from everybody without a grant.
    pub protect: bool,
    /// Whether established connections may go on from both ends.
    pub at_end: AtEnd,
    /// Where its packets are judged.
    pub chain: Chain,
    /// Only packets to these own addresses are judged; empty means to all.
    pub to: Vec<IpAddr>,
}

impl Plan {
    /// The part of a configuration that concerns the backend `kind`.
    ///
    /// # Errors
    ///
    /// When a service asks for what this backend cannot do, rather than protect something else than was asked for.
    pub fn from_config(config: &Config, kind: BackendKind) -> Result<Self, BackendError> {
        let own = config
            .services
            .iter()
            .filter(|service| service.backends.contains(&kind));
        Ok(Self {
            services: own
                .map(|service| Guarded::from_service(service, kind))
                .collect::<Result<_, _>>()?,
            always_allow: config.lock_out.always_allow.clone(),
            knock_ports: config.listen.ports.clone(),
            bans: config.bans(),
        })
    }

    /// Whether a service of this name is in it.
    pub(super) fn has(&self, service: &str) -> bool {
        self.services.iter().any(|own| own.name == service)
    }

    /// The networks of `family` among those always allowed.
    pub(super) fn allowed(&self, family: Family) -> impl Iterator<Item = IpNet> {
        self.always_allow
            .iter()
            .copied()
            .filter(move |net| Family::of(net) == family)
    }

    /// The services whose packets are judged there.
    pub(super) fn services_at(&self, place: Place) -> impl Iterator<Item = &Guarded> {
        self.services
            .iter()
            .filter(move |service| Place::of(service.chain) == place)
    }

    /// Whether own rules belong there.
    pub(super) fn wants(&self, place: Place) -> bool {
        match place {
            Place::Input | Place::Raw => true,
            // A published port never comes to INPUT.
            Place::Forward | Place::DockerUser => self.bans || self.services_at(place).next().is_some(),
        }
    }

    /// The names of the sets of `family`, always-allow first.
    pub(super) fn sets(&self, family: Family) -> impl Iterator<Item = String> {
        let services = self.services.iter().map(move |service| set_name(family, &service.name));
        let banned = self.bans.then(|| ban_set(family));
        std::iter::once(allow_set(family)).chain(banned).chain(services)
    }
}

impl Guarded {
    fn from_service(service: &Service, kind: BackendKind) -> Result<Self, BackendError> {
        let refused = |what: &str| {
            let what = format!("service {}: {what}", service.name.escape_debug());
            Err(BackendError::new(kind.name(), what))
        };
        if [RESERVED, BANNED].contains(&service.name.as_str()) {
            return refused("the name is that of a set which holds something else");
        }
        if kind == BackendKind::Nftables && service.chain != Chain::Input {
            return refused("only packets to this host are judged");
        }
        let (name, ports) = (service.name.clone(), service.ports.clone());
        Ok(Self {
            name,
            ports,
            protect: service.protect,
            at_end: service.at_end,
            chain: service.chain,
            to: service.to.clone(),
        })
    }

    /// Whether a connection is one to this service.
    pub(super) fn has(&self, connection: &Connection) -> bool {
        let is_to = self.to.is_empty() || self.to.contains(&connection.own);
        is_to && self.ports.iter().any(|ports| connection.is_to(*ports))
    }

    /// The own addresses of `family` whose packets are judged; one none means all of them, no entry nothing.
    pub(super) fn destinations(&self, family: Family) -> Vec<Option<IpAddr>> {
        if self.to.is_empty() {
            return vec![None];
        }
        let own = self.to.iter().filter(|address| family.has(**address));
        own.map(|address| Some(*address)).collect()
    }
}

/// The rules that `make` has for each step and service, in their order and each once.
///
/// Step by step over all services, not service by service: where two share a port, the drop of the one must not come
/// before the grants of the other. What does not depend on the service they share.
pub(super) fn step_by_step<S>(
    steps: &[S],
    services: &[&Guarded],
    make: impl Fn(&S, &Guarded) -> Vec<String>,
) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for step in steps {
        for rule in services.iter().flat_map(|service| make(step, service)) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

/// The set of those who may reach a service.
#[must_use]
pub fn set_name(family: Family, service: &str) -> String {
    format!("{}{service}", set_prefix(family))
}

/// The chain of those who may reach a service, where there are no sets. At most 28 characters, as iptables asks.
#[must_use]
pub fn chain_name(service: &str) -> String {
    format!("{CHAIN_PREFIX}{service}")
}

/// The set of those who may reach every service.
#[must_use]
pub fn allow_set(family: Family) -> String {
    set_name(family, RESERVED)
}

/// The set of those who are shut out.
#[must_use]
pub fn ban_set(family: Family) -> String {
    set_name(family, BANNED)
}

/// What the names of all own sets begin with.
#[must_use]
pub fn set_prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "spa4-",
        Family::V6 => "spa6-",
    }
}

/// The service whose chain this is, if it is one that [`chain_name`] makes.
#[must_use]
pub fn service_of(chain: &str) -> Option<&str> {
    let own = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let service = chain.strip_prefix(CHAIN_PREFIX)?;
    (!service.is_empty() && service.bytes().all(own)).then_some(service)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::config::Protocol;

    /// A hidden service with ports of these protocols, each from the first to the last.
    pub fn guarded(name: &str, ports: &[(Protocol, u16, u16)]) -> Guarded {
        let ports = ports.iter().map(|(protocol, first, last)| PortRange {
            protocol: *protocol,
            first: *first,
            last: *last,
        });
        Guarded {
            name: name.into(),
            ports: ports.collect(),
            protect: true,
            at_end: AtEnd::Keep,
            chain: Chain::Input,
            to: Vec::new(),
        }
    }

    /// A plan with two knock ports.
    pub fn plan(services: Vec<Guarded>, always_allow: &[&str]) -> Plan {
        Plan {
            services,
            always_allow: always_allow.iter().map(|net| net.parse().unwrap()).collect(),
            knock_ports: vec![62201, 62202],
            bans: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn service() -> Service {
        Service {
            name: "ssh".into(),
            backends: vec![BackendKind::TcpWrappers, BackendKind::Iptables],
            ports: vec![],
            protect: true,
            duration: Duration::from_secs(30),
            max_duration: Duration::from_mins(1),
            at_end: AtEnd::Keep,
            chain: Chain::Input,
            to: vec![],
            daemon: None,
            open: vec![],
            close: vec![],
            user: None,
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_rather_than_done_otherwise() {
        assert!(Guarded::from_service(&service(), BackendKind::Iptables).is_ok());
        for name in ["allow", "ban"] {
            let other = Service {
                name: name.into(),
                ..service()
            };
            assert!(Guarded::from_service(&other, BackendKind::Iptables).is_err());
        }
        let forwarded = Service {
            chain: Chain::Forward,
            ..service()
        };
        assert!(Guarded::from_service(&forwarded, BackendKind::Iptables).is_ok());
        assert!(Guarded::from_service(&forwarded, BackendKind::Nftables).is_err());
    }

    #[test]
    fn each_family_has_its_own_destinations() {
        let to: Vec<IpAddr> = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap()).to_vec();
        let all = Guarded::from_service(&service(), BackendKind::Iptables).unwrap();
        assert_eq!(all.destinations(Family::V6), [None]);
        let some = Guarded { to, ..all };
        assert_eq!(some.destinations(Family::V4).len(), 2);
        assert_eq!(some.destinations(Family::V6), []);
    }

    #[test]
    fn the_longest_name_fits_a_set() {
        assert!(set_name(Family::V6, &"x".repeat(24)).len() <= 31);
        assert!(chain_name(&"x".repeat(24)).len() <= 28);
        let services = ["SPA-ssh", "SPA-FORWARD", "SPA"].map(service_of);
        assert_eq!(services, [Some("ssh"), None, None]);
        let plan = Plan {
            always_allow: vec!["2001:db8::/32".parse().unwrap()],
            ..Plan::default()
        };
        assert_eq!(
            (plan.allowed(Family::V4).count(), plan.allowed(Family::V6).count()),
            (0, 1)
        );
    }
}

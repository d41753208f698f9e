//! The sets and their names. A plain set holds addresses of one length: `spa4-ssh` whole ones, `spa4-ssh/24` networks.
//!
//! No service's name has a slash, so that no two sets have the same name.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::backend::plan::{BANNED, Plan, RESERVED, set_name, set_prefix};
use crate::netlink::Family;
use crate::netlink::ruleset::{Set, key_len};

/// One set: who may reach a service, in one family and prefix length.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId {
    /// IPv4 or IPv6.
    pub family: Family,
    /// The service, or `allow`.
    pub service: String,
    /// The length of the networks in it.
    pub prefix_len: u8,
}

impl SetId {
    /// The set that a network is an element of.
    #[must_use]
    pub fn of(service: &str, net: &IpNet) -> Self {
        Self {
            family: Family::of(net),
            service: service.to_owned(),
            prefix_len: net.prefix_len(),
        }
    }

    /// The set of whole addresses.
    #[must_use]
    pub fn of_hosts(service: &str, family: Family) -> Self {
        Self {
            family,
            service: service.to_owned(),
            prefix_len: family.bits(),
        }
    }

    /// The set of this name, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let in_family = |family| Some((family, name.strip_prefix(set_prefix(family))?));
        let (family, rest) = Family::BOTH.into_iter().find_map(in_family)?;
        let (service, prefix_len) = match rest.split_once('/') {
            Some((service, len)) => (service, len.parse().ok().filter(|len| *len < family.bits())?),
            None => (rest, family.bits()),
        };
        let set = Self {
            family,
            service: service.to_owned(),
            prefix_len,
        };
        (set.name() == name).then_some(set)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        let name = set_name(self.family, &self.service);
        if self.is_of_hosts() {
            name
        } else {
            format!("{name}/{}", self.prefix_len)
        }
    }

    /// Whether it holds whole addresses.
    #[must_use]
    pub fn is_of_hosts(&self) -> bool {
        self.prefix_len == self.family.bits()
    }

    /// Whether it holds always-allow.
    #[must_use]
    pub fn is_allow(&self) -> bool {
        self.service == RESERVED
    }

    /// Whether it holds who is shut out.
    #[must_use]
    pub fn is_ban(&self) -> bool {
        self.service == BANNED
    }

    /// The mask of its networks, as nft writes it.
    #[must_use]
    pub fn mask(&self) -> String {
        let any: IpAddr = match self.family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        IpNet::new(any, self.prefix_len).map_or_else(|_| any.to_string(), |net| net.netmask().to_string())
    }

    /// Whether a set that is there is of this kind.
    #[must_use]
    pub fn is_kind_of(&self, set: &Set) -> bool {
        set.name == self.name() && set.key_len == key_len(self.family) && set.is_plain
    }
}

/// The sets that a plan needs before anybody knocks.
#[must_use]
pub fn needed(plan: &Plan) -> BTreeSet<SetId> {
    let services = plan.services.iter().map(|service| service.name.as_str());
    let hosts = services
        .chain([RESERVED])
        .flat_map(|name| Family::BOTH.map(|family| SetId::of_hosts(name, family)));
    let allowed = plan.always_allow.iter().map(|net| SetId::of(RESERVED, net));
    let banned = plan.bans.then(banned).into_iter().flatten();
    hosts.chain(allowed).chain(banned).collect()
}

/// The sets of who is shut out: of IPv6 hosts alone, or with their networks.
#[must_use]
pub fn banned() -> [SetId; 3] {
    let of_networks = SetId {
        family: Family::V6,
        service: BANNED.to_owned(),
        prefix_len: crate::scan::IPV6_PREFIX,
    };
    let [v4, v6] = Family::BOTH.map(|family| SetId::of_hosts(BANNED, family));
    [v4, v6, of_networks]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_family_service_and_length() {
        let name = |net: &str| SetId::of("ssh", &net.parse().unwrap()).name();
        let cases = [
            ("192.0.2.5/32", "spa4-ssh"),
            ("192.0.2.0/24", "spa4-ssh/24"),
            ("2001:db8::5/128", "spa6-ssh"),
            ("2001:db8::/64", "spa6-ssh/64"),
        ];
        for (net, expected) in cases {
            assert_eq!(name(net), expected);
            assert_eq!(SetId::parse(expected).map(|set| set.name()).as_deref(), Some(expected));
        }
        for other in [
            "blocklist",
            "spa4-ssh/32",
            "spa4-ssh/024",
            "spa4-ssh/x",
            "spa5-ssh",
            "spa4",
        ] {
            assert_eq!(SetId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn masks_are_addresses() {
        let mask = |net: &str| SetId::of("ssh", &net.parse().unwrap()).mask();
        assert_eq!(mask("192.0.2.0/28"), "255.255.255.240");
        assert_eq!(mask("2001:db8::/64"), "ffff:ffff:ffff:ffff::");
    }
}

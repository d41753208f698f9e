//! Who is never shut out, and why.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Where the host's resolvers are named; the second lists those behind systemd-resolved.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Why somebody is never shut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The way back in.
    AlwaysAllow,
    /// An address of this host.
    Own,
    /// What this host sends everything else to.
    Gateway,
    /// Who answers for names.
    Resolver,
    /// Somebody who has knocked.
    Grant,
    /// This host itself.
    Loopback,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlwaysAllow => "it is always allowed",
            Self::Own => "an address of this host lies in it",
            Self::Gateway => "a default gateway lies in it",
            Self::Resolver => "a resolver lies in it",
            Self::Grant => "it holds a grant",
            Self::Loopback => "it is this host itself",
        })
    }
}

/// Everybody who is never shut out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spared(Vec<(IpNet, Why)>);

impl Spared {
    /// Adds networks.
    pub fn add(&mut self, why: Why, networks: impl IntoIterator<Item = IpNet>) {
        self.0.extend(networks.into_iter().map(|net| (net, why)));
    }

    /// Why a network is not to be shut out, if any of it must not be.
    #[must_use]
    pub fn why(&self, network: IpNet) -> Option<Why> {
        let is_host = network.addr().is_loopback() || network.addr().is_unspecified();
        let meets = |net: &IpNet| net.contains(&network) || network.contains(net);
        let found = self.0.iter().find(|(net, _)| meets(net)).map(|(_, why)| *why);
        found.or_else(|| is_host.then_some(Why::Loopback))
    }

    /// All of them.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.0.iter().map(|(net, _)| *net)
    }
}

/// The resolvers of this host.
#[must_use]
pub fn resolvers() -> Vec<IpNet> {
    let texts = RESOLVERS.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts.flat_map(|text| nameservers(&text)).collect()
}

/// resolv.conf(5): `nameserver ADDRESS`, with a zone perhaps.
fn nameservers(text: &str) -> Vec<IpNet> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let text = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        let address: IpAddr = text.split('%').next()?.parse().ok()?;
        Some(address.to_canonical().into())
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn any_part_of_a_network_spares_it() {
        let mut spared = Spared::default();
        spared.add(Why::AlwaysAllow, [net("192.0.2.0/28")]);
        spared.add(Why::Own, [net("2001:db8::1/128")]);
        assert_eq!(spared.why(net("192.0.2.5/32")), Some(Why::AlwaysAllow));
        assert_eq!(spared.why(net("2001:db8::/64")), Some(Why::Own));
        assert_eq!(spared.why(net("192.0.2.16/32")), None);
        assert_eq!(spared.why(net("2001:db8::2/128")), None);
        for own in ["127.0.0.1/32", "::1/128", "0.0.0.0/32", "::/64"] {
            assert_eq!(spared.why(net(own)), Some(Why::Loopback), "{own}");
        }
    }

    #[test]
    fn resolv_conf_is_read_as_libc_reads_it() {
        let text = "# nameserver 192.0.2.1\nnameserver 192.0.2.53\n  nameserver\tfe80::1%eth0 # x\nnameserver\nnameserver x\n\
            search example.net\nnameservers 192.0.2.9\n";
        assert_eq!(nameservers(text), [net("192.0.2.53/32"), net("fe80::1/128")]);
    }
}

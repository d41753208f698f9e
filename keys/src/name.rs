//! What invites and profiles name: a client, a gateway's host, a service and where it answers.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use spa_proto::ServiceName;

/// A client's name: 1 to 63 characters, `[a-z0-9]` first and `[a-z0-9._-]` after. Safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(Box<str>);

impl ClientName {
    /// The most characters a name has.
    pub const MOST: usize = 63;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good_first = name.bytes().next().is_some_and(alphanumeric);
        let good_rest = name.bytes().all(|byte| alphanumeric(byte) || b"._-".contains(&byte));
        if good_first && good_rest && name.len() <= Self::MOST {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Client)
        }
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A gateway's host: a DNS name in lower case, or an IPv4 or IPv6 address in canonical text without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(Box<str>);

impl Host {
    /// The most characters a host has.
    pub const MOST: usize = 253;

    /// The name or address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(host: &str) -> Result<Self, NameError> {
        let good = match host.rsplit('.').next() {
            _ if host.is_empty() || host.len() > Self::MOST => false,
            _ if host.contains(':') => is_canonical::<Ipv6Addr>(host),
            // A name that ends in a number is an address to everybody who resolves it.
            Some(last) if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) => {
                is_canonical::<Ipv4Addr>(host)
            }
            _ => host.strip_suffix('.').unwrap_or(host).split('.').all(is_label),
        };
        if good {
            Ok(Self(host.into()))
        } else {
            Err(NameError::Host)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_canonical<A: FromStr + fmt::Display>(host: &str) -> bool {
    host.parse::<A>().is_ok_and(|address| address.to_string() == host)
}

/// One label of a DNS name. A hyphen at its beginning would make a host look like an option to other programs.
fn is_label(label: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(good)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a service answers, written `tcp/22`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: NonZeroU16,
}

impl FromStr for ServicePort {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (protocol, digits) = match text.split_once('/') {
            Some(("tcp", digits)) => (Protocol::Tcp, digits),
            Some(("udp", digits)) => (Protocol::Udp, digits),
            _ => return Err(NameError::Port),
        };
        let port = digits.parse::<NonZeroU16>().map_err(|_| NameError::Port)?;
        // Refuses what parses but is written otherwise: leading zeros, a plus sign.
        if port.to_string() == digits {
            Ok(Self { protocol, port })
        } else {
            Err(NameError::Port)
        }
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}/{}", self.port)
    }
}

/// A service and, where it is known, where it answers: `ssh` or `ssh=tcp/22`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHint {
    /// The service.
    pub name: ServiceName,
    /// Where a connection shows that it is open.
    pub port: Option<ServicePort>,
}

impl FromStr for ServiceHint {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, port) = match text.split_once('=') {
            Some((name, port)) => (name, Some(port.parse()?)),
            None => (text, None),
        };
        let name = name.parse().map_err(|_| NameError::Service)?;
        Ok(Self { name, port })
    }
}

impl fmt::Display for ServiceHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            Some(port) => write!(f, "{}={port}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// A text that names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Not a client's name.
    Client,
    /// Not a host.
    Host,
    /// Not a service's name.
    Service,
    /// Not a port with its protocol.
    Port,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "a client's name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ -",
            Self::Host => "a host is a DNS name in lower case or an address without brackets",
            Self::Service => "a service name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ / -",
            Self::Port => "a port is written tcp/22 or udp/53, 1 to 65535, without leading zeros",
        })
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_names_are_no_paths() {
        for good in ["a", "alice-phone", "0", "a..b", &"x".repeat(63)] {
            assert_eq!(good.parse::<ClientName>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".a",
            "-a",
            "_a",
            "a/b",
            "../x",
            "A",
            "a b",
            "a\0",
            "ä",
            &"x".repeat(64),
        ] {
            assert_eq!(bad.parse::<ClientName>(), Err(NameError::Client), "{bad:?}");
        }
    }

    #[test]
    fn hosts() {
        for good in [
            "gw.example.net",
            "gw",
            "203.0.113.7",
            "2001:db8::7",
            "::1",
            "a.",
            "xn--bcher-kva.example",
        ] {
            assert!(good.parse::<Host>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "GW",
            "a b",
            "a_b",
            "[::1]",
            "2001:DB8::7",
            "2001:db8:0::7",
            "1.2.3",
            "1.2.3.04",
            "fe80::1%eth0",
            &"x".repeat(64),
            &"x.".repeat(127),
        ] {
            assert_eq!(bad.parse::<Host>(), Err(NameError::Host), "{bad:?}");
        }
    }

    #[test]
    fn hints() {
        for good in ["ssh", "ssh=tcp/22", "a/b=udp/65535"] {
            assert_eq!(good.parse::<ServiceHint>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "=tcp/1",
            "ssh=",
            "ssh=tcp",
            "ssh=tcp/0",
            "ssh=tcp/022",
            "ssh=tcp/+22",
            "ssh=sctp/22",
            "ssh=tcp/65536",
        ] {
            assert!(bad.parse::<ServiceHint>().is_err(), "{bad:?}");
        }
    }
}

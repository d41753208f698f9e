//! A server that a profile names: `HOST`, `HOST:PORT`, `[IPv6]:PORT`.

use std::fmt;
use std::num::NonZeroU16;

use super::host;
use crate::name::Host;

/// A server and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// Where STUN servers listen (RFC 8489, section 18.6).
    pub const STUN_PORT: u16 = 3478;
    /// Where NTP servers listen (RFC 5905, section 7.2).
    pub const NTP_PORT: u16 = 123;

    /// Reads a server; `port` is what it has unless one is named.
    ///
    /// # Errors
    ///
    /// [`ServerError`] when the host or the port is none.
    pub fn parse(text: &str, port: u16) -> Result<Self, ServerError> {
        let (name, digits) = match text.strip_prefix('[') {
            Some(rest) => bracketed(rest)?,
            // An IPv6 address without brackets has no port.
            None if text.matches(':').count() > 1 => (text, None),
            None => text
                .split_once(':')
                .map_or((text, None), |(name, digits)| (name, Some(digits))),
        };
        let port = match digits {
            None => port,
            Some(digits) => digits.parse::<NonZeroU16>().map_err(|_| ServerError)?.get(),
        };
        let host = host(name).map_err(|_| ServerError)?;
        Ok(Self { host, port })
    }
}

fn bracketed(rest: &str) -> Result<(&str, Option<&str>), ServerError> {
    match rest.split_once(']') {
        Some((name, "")) => Ok((name, None)),
        Some((name, tail)) => Ok((name, Some(tail.strip_prefix(':').ok_or(ServerError)?))),
        None => Err(ServerError),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.as_str().contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A text that names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerError;

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server is written HOST, HOST:PORT or [IPv6]:PORT, such as stun.example.net:3478")
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_people_type_them() {
        for (typed, meant) in [
            ("stun.example.net", "stun.example.net:3478"),
            ("STUN.example.net:19302", "stun.example.net:19302"),
            ("192.0.2.1", "192.0.2.1:3478"),
            ("2001:db8::1", "[2001:db8::1]:3478"),
            ("[2001:db8::1]", "[2001:db8::1]:3478"),
            ("[2001:db8::1]:5", "[2001:db8::1]:5"),
        ] {
            let server = Server::parse(typed, Server::STUN_PORT).unwrap();
            assert_eq!(server.to_string(), meant);
            assert_eq!(Server::parse(meant, 1), Ok(server));
        }
        for bad in [
            "", ":1", "a:", "a:0", "a:70000", "[::1", "[::1]x", "[::1]5", "a b", "[::1]:",
        ] {
            assert_eq!(Server::parse(bad, 1), Err(ServerError), "{bad:?}");
        }
    }
}

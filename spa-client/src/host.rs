//! Where the gateway is: its name's addresses and the sockets that reach them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use spa_keys::{Exit, Failure, Host};

use crate::salvo::Post;

/// The most addresses of one family that are knocked at ("What the client does").
const OF_A_FAMILY: usize = 2;

/// The addresses of `host`, at most two of each family, in the resolver's order.
pub(crate) fn resolve(host: &Host) -> Result<Vec<IpAddr>, Failure> {
    let found: Vec<IpAddr> = (host.as_str(), 0)
        .to_socket_addrs()
        .map_err(|error| unknown(host, &error))?
        .map(|found| found.ip())
        .collect();
    let addresses = choose(&found);
    if addresses.is_empty() {
        return Err(unknown(host, &io::ErrorKind::NotFound.into()));
    }
    Ok(addresses)
}

fn unknown(host: &Host, error: &io::Error) -> Failure {
    let what = format!("no address found for {host}: {}", plain(error));
    Failure::new(Exit::Failed, what).hint("whether this device is on the network, and the name right")
}

/// The resolver's errors come with a preface that says nothing.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let short = text.strip_prefix("failed to lookup address information: ");
    short.unwrap_or(&text).to_owned()
}

fn choose(found: &[IpAddr]) -> Vec<IpAddr> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    for address in found.iter().map(IpAddr::to_canonical) {
        let of_family = chosen.iter().filter(|other| other.is_ipv4() == address.is_ipv4());
        if of_family.count() < OF_A_FAMILY && !chosen.contains(&address) {
            chosen.push(address);
        }
    }
    chosen
}

/// Sends each datagram from a new socket. All stay open, so that no source port comes twice in a run.
#[derive(Default)]
pub(crate) struct Sockets(Vec<UdpSocket>);

impl Post for Sockets {
    fn send(&mut self, target: SocketAddr, octets: &[u8]) -> io::Result<()> {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        // Never connected: a refusal of an earlier datagram is not to be heard here.
        socket.send_to(octets, target)?;
        self.0.push(socket);
        Ok(())
    }
}

/// Sends nothing: for `--dry-run`.
pub(crate) struct Nowhere;

impl Post for Nowhere {
    fn send(&mut self, _: SocketAddr, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_each_family_in_order() {
        let found = [
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8::3",
        ];
        let found: Vec<IpAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
        let chosen: Vec<_> = choose(&found).iter().map(ToString::to_string).collect();
        assert_eq!(chosen, ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]);
    }

    #[test]
    fn addresses_need_no_resolver() {
        assert_eq!(
            resolve(&"::1".parse().unwrap()).unwrap(),
            [IpAddr::from(Ipv6Addr::LOCALHOST)]
        );
        assert_eq!(
            resolve(&"127.0.0.1".parse().unwrap()).unwrap(),
            [IpAddr::from(Ipv4Addr::LOCALHOST)]
        );
    }

    #[test]
    fn every_datagram_has_its_own_port() {
        let gateway = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = gateway.local_addr().unwrap();
        let mut sockets = Sockets::default();
        let mut sources: Vec<_> = (0..5)
            .map(|_| {
                sockets.send(target, b"x").unwrap();
                gateway.recv_from(&mut [0; 8]).unwrap().1
            })
            .collect();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), 5);
    }

    #[test]
    fn a_port_that_refuses_is_no_error() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut sockets = Sockets::default();
        for _ in 0..3 {
            sockets.send(closed, b"x").unwrap();
        }
    }
}

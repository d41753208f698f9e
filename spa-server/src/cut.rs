//! `at-end = "cut"`: ends the established connections that a shut door had let in.

use std::net::IpAddr;

use ipnet::IpNet;
use tracing::{info, warn};

use crate::backend::Door;
use crate::config::{PortRange, Protocol};
use crate::netlink::{Family, NetlinkError, conntrack, sock_diag};

/// Whose connections to which ports are ended.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The service's ports.
    pub ports: Vec<PortRange>,
    /// Who may stay although the door is shut: always-allow, and who has another door to the same service.
    pub spared: Vec<IpNet>,
}

impl Cut {
    /// Ends them: sockets first, then what the kernel remembers of the connections, since the next packet of a socket
    /// would make it remember again. Goes on past a failure and reports it.
    pub fn connections(&self, door: &Door) {
        let family = Family::of(&door.opened);
        let sockets = self.end_sockets(door, family);
        let entries = self.forget(door, family);
        for failure in [sockets.as_ref().err(), entries.as_ref().err()].into_iter().flatten() {
            warn!(service = door.service, opened = %door.opened, "connections may go on: {failure}");
        }
        let ended = sockets.unwrap_or(0);
        if ended > 0 {
            info!(service = door.service, opened = %door.opened, ended, "established connections were cut");
        }
    }

    fn end_sockets(&self, door: &Door, family: Family) -> Result<usize, NetlinkError> {
        let mut socket = sock_diag::socket()?;
        let mut ended = 0;
        for protocol in self.protocols() {
            // A peer of IPv4 may be connected to a socket of IPv6.
            for of in if family == Family::V4 {
                Family::BOTH.to_vec()
            } else {
                vec![Family::V6]
            } {
                for connected in sock_diag::connected(&mut socket, protocol, of)? {
                    if self.is_meant(door, connected.peer, protocol, connected.port) {
                        sock_diag::destroy(&mut socket, &connected)?;
                        ended += 1;
                    }
                }
            }
        }
        Ok(ended)
    }

    fn forget(&self, door: &Door, family: Family) -> Result<(), NetlinkError> {
        let mut socket = conntrack::socket()?;
        for entry in conntrack::entries(&mut socket, family)? {
            if self.is_meant(door, entry.source, entry.protocol, entry.port) {
                conntrack::delete(&mut socket, &entry)?;
            }
        }
        Ok(())
    }

    fn is_meant(&self, door: &Door, peer: IpAddr, protocol: Protocol, port: u16) -> bool {
        door.opened.contains(&peer)
            && self.ports.iter().any(|range| range.contains(protocol, port))
            && !self.spared.iter().any(|net| net.contains(&peer))
    }

    fn protocols(&self) -> Vec<Protocol> {
        let mut protocols: Vec<_> = self.ports.iter().map(|range| range.protocol).collect();
        protocols.sort_unstable();
        protocols.dedup();
        protocols
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_spared() {
        let cut = Cut {
            ports: vec!["tcp/22".parse().unwrap(), "udp/60000-60010".parse().unwrap()],
            spared: vec!["192.0.2.64/26".parse().unwrap()],
        };
        let door = Door {
            service: "ssh".into(),
            opened: "192.0.2.0/24".parse().unwrap(),
        };
        let meant = |peer: &str, protocol, port| cut.is_meant(&door, peer.parse().unwrap(), protocol, port);
        assert!(meant("192.0.2.7", Protocol::Tcp, 22));
        assert!(meant("192.0.2.7", Protocol::Udp, 60_005));
        assert!(!meant("192.0.2.7", Protocol::Udp, 22));
        assert!(!meant("192.0.2.7", Protocol::Tcp, 23));
        assert!(!meant("192.0.2.70", Protocol::Tcp, 22), "has another door");
        assert!(!meant("192.0.3.7", Protocol::Tcp, 22));
        assert!(!meant("2001:db8::7", Protocol::Tcp, 22));
    }
}

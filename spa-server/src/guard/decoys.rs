//! Ports on which nothing serves: whoever completes a handshake there was at the address that he came from.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as Std};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::Patrol;
use crate::clock;

/// Handshakes that wait; the kernel holds back more.
const BACKLOG: i32 = 128;
/// Between two handshakes on one port: a flood of them leaves at most 3000 closed connections in the kernel.
const PAUSE: Duration = Duration::from_millis(20);
/// After an error, such as too many open files.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// The decoys that are open. Dropping it closes them.
#[derive(Debug, Default)]
pub struct Decoys {
    open: BTreeMap<u16, Vec<AbortHandle>>,
}

impl Decoys {
    /// Opens those of `ports` that are not open yet and closes all others, inside a tokio runtime. What could not be
    /// opened, and why: it is somebody's who serves there.
    ///
    /// `open` makes the sockets, one for each family: low ports are not everybody's to listen on.
    pub fn set<E>(
        &mut self,
        ports: &[u16],
        patrol: &Arc<Patrol>,
        mut open: impl FnMut(u16) -> Result<Vec<Std>, E>,
    ) -> Vec<(u16, String)>
    where
        E: fmt::Display,
    {
        let gone: Vec<u16> = self.open.keys().copied().filter(|port| !ports.contains(port)).collect();
        for port in gone {
            self.close(port);
        }
        let mut failed = Vec::new();
        for port in ports
            .iter()
            .filter(|port| !self.open.contains_key(port))
            .copied()
            .collect::<Vec<_>>()
        {
            let listeners = open(port).map_err(|error| error.to_string());
            let listeners = listeners.and_then(|all| watched(all).map_err(|error| error.to_string()));
            match listeners {
                Ok(listeners) => drop(self.open.insert(port, attend(listeners, port, patrol))),
                Err(error) => failed.push((port, error)),
            }
        }
        failed
    }

    /// The ports that are open.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.open.keys().copied()
    }

    fn close(&mut self, port: u16) {
        for task in self.open.remove(&port).into_iter().flatten() {
            task.abort();
        }
    }
}

impl Drop for Decoys {
    fn drop(&mut self) {
        self.open.values().flatten().for_each(AbortHandle::abort);
    }
}

fn attend(listeners: Vec<TcpListener>, port: u16, patrol: &Arc<Patrol>) -> Vec<AbortHandle> {
    let attend = |listener| tokio::spawn(accept(listener, port, Arc::clone(patrol))).abort_handle();
    listeners.into_iter().map(attend).collect()
}

async fn accept(listener: TcpListener, port: u16, patrol: Arc<Patrol>) {
    loop {
        let pause = match listener.accept().await {
            Ok((_, peer)) => {
                patrol.see_handshake(peer.ip(), port, clock::uptime());
                PAUSE
            }
            Err(_) => LONG_PAUSE,
        };
        tokio::time::sleep(pause).await;
    }
}

fn watched(listeners: Vec<Std>) -> io::Result<Vec<TcpListener>> {
    listeners.into_iter().map(TcpListener::from_std).collect()
}

/// Listens on a decoy port in both families, each on a socket of its own; a kernel without IPv6 has one.
///
/// # Errors
///
/// What the system said: mostly that somebody serves there.
pub fn listen_on(port: u16) -> io::Result<Vec<Std>> {
    let mut listeners = vec![listener(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?];
    match listener(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        Ok(listener) => listeners.push(listener),
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn listener(address: SocketAddr) -> io::Result<Std> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, SocketType::STREAM, flags, None)?;
    // Else connections of an earlier process would keep the port for a minute.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(Std::from(socket))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::config::Guard;

    /// A port that was free a moment ago.
    fn free_port() -> u16 {
        Std::bind("[::]:0").unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_handshake_is_seen_in_both_families_and_the_door_closes() {
        let (patrol, mut sightings) = Patrol::new();
        let guard = Guard {
            report_at: 3,
            ..Guard::default()
        };
        patrol.configure(Some(&guard));
        let (mut decoys, port) = (Decoys::default(), free_port());
        assert!(decoys.set(&[port], &patrol, listen_on).is_empty());
        for host in ["127.0.0.1", "::1"] {
            let address: SocketAddr = (host.parse::<std::net::IpAddr>().unwrap(), port).into();
            let connected = tokio::task::spawn_blocking(move || TcpStream::connect(address));
            connected.await.unwrap().unwrap();
            let sighting = sightings.recv().await.unwrap();
            assert_eq!(sighting.ports, [(crate::config::Protocol::Tcp, port)]);
        }
        assert!(decoys.set(&[port], &patrol, listen_on).is_empty(), "it is open already");
        assert!(decoys.set(&[], &patrol, listen_on).is_empty());
        assert_eq!(decoys.ports().count(), 0);
    }

    #[tokio::test]
    async fn a_port_that_serves_is_no_decoy() {
        let (patrol, _sightings) = Patrol::new();
        let held = Std::bind("0.0.0.0:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let mut decoys = Decoys::default();
        let failed = decoys.set(&[port], &patrol, listen_on);
        assert_eq!((failed.len(), failed[0].0, decoys.ports().count()), (1, port, 0));
    }
}

//! One packet of a sequence: a SYN that nobody waits for, or an empty datagram. Each from a port of its own, so that
//! none looks like the repeat of another.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use spa_proto::sequence::Stage;

pub(super) fn send(target: IpAddr, stage: Stage) -> io::Result<()> {
    let target = SocketAddr::new(target, stage.port.get());
    if stage.is_udp() { datagram(target) } else { syn(target) }
}

fn datagram(target: SocketAddr) -> io::Result<()> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0))?.send_to(&[], target).map(drop)
}

/// The kernel sends the SYN at once; the socket is closed before it could send it again, which some doors take for a
/// wrong knock.
fn syn(target: SocketAddr) -> io::Result<()> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &target) {
        // A refusal is an answer to a SYN that arrived.
        Ok(()) | Err(Errno::INPROGRESS | Errno::CONNREFUSED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn both_protocols_arrive_in_both_families() {
        for own in ["127.0.0.1", "::1"] {
            let own: IpAddr = own.parse().unwrap();
            let udp = UdpSocket::bind((own, 0)).unwrap();
            let port = udp.local_addr().unwrap().port();
            send(own, format!("{port}/udp").parse().unwrap()).unwrap();
            assert_eq!(udp.recv_from(&mut [0; 8]).unwrap().0, 0);
            let tcp = TcpListener::bind((own, 0)).unwrap();
            let port = tcp.local_addr().unwrap().port();
            send(own, format!("{port}/tcp").parse().unwrap()).unwrap();
            tcp.accept().unwrap();
        }
    }

    #[test]
    fn a_closed_port_is_no_error() {
        let own: IpAddr = Ipv4Addr::LOCALHOST.into();
        for text in ["1/tcp", "1/udp", "1/udp"] {
            send(own, text.parse().unwrap()).unwrap();
        }
    }
}

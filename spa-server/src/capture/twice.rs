//! One packet seen through two interfaces (a bridge and its port, a bond, a VLAN) is no attack.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use spa_proto::{Datagram, LinkType};

/// The two sightings of one packet lie microseconds apart; a copy sent on purpose takes longer, and comes through the
/// same interface.
const TOGETHER: Duration = Duration::from_millis(20);
const KEPT: usize = 16;

/// The last datagrams that were worth looking at.
#[derive(Default)]
pub(crate) struct Twice {
    recent: [Option<Sighting>; KEPT],
    next: usize,
}

#[derive(Clone, Copy)]
struct Sighting {
    tag: [u8; 16],
    source: SocketAddr,
    interface: u32,
    at: Instant,
}

impl Twice {
    /// Whether this datagram was just seen through another interface; remembers it if not.
    pub(crate) fn seen(&mut self, datagram: &Datagram<'_>, interface: Option<u32>, now: Instant) -> bool {
        let (Some(interface), Some(tag)) = (interface, datagram.payload.first_chunk()) else {
            return false;
        };
        let sighting = Sighting {
            tag: *tag,
            source: datagram.source,
            interface,
            at: now,
        };
        let seen = self.recent.iter().flatten().any(|before| before.is_of(&sighting));
        if !seen {
            self.recent[self.next % KEPT] = Some(sighting);
            self.next = self.next.wrapping_add(1);
        }
        seen
    }
}

impl Sighting {
    fn is_of(&self, later: &Self) -> bool {
        self.tag == later.tag
            && self.source == later.source
            && self.interface != later.interface
            && later.at.duration_since(self.at) < TOGETHER
    }
}

/// The interface's index, which only the second cooked form tells.
pub(crate) fn interface(link: LinkType, frame: &[u8]) -> Option<u32> {
    let index = frame.get(4..8)?.try_into().ok()?;
    (link == LinkType::LinuxCooked2).then(|| u32::from_be_bytes(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_interface_within_a_moment() {
        let payload = [7; 300];
        let source = "192.0.2.7:40000".parse().unwrap();
        let datagram = Datagram {
            source,
            destination: "192.0.2.1:62201".parse().unwrap(),
            payload: &payload,
        };
        let start = Instant::now();
        let mut twice = Twice::default();
        assert!(!twice.seen(&datagram, Some(1), start));
        assert!(
            !twice.seen(&datagram, Some(1), start),
            "through the same interface: a copy"
        );
        assert!(twice.seen(&datagram, Some(2), start + Duration::from_millis(1)));
        assert!(
            !twice.seen(&datagram, Some(3), start + Duration::from_millis(30)),
            "too late: a copy"
        );
        assert!(!twice.seen(&datagram, None, start));
    }
}

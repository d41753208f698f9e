//! A set of ports, both protocols.

use std::fmt;

use crate::config::{PortRange, Protocol};

const WORDS: usize = 65_536 / 64;

/// Ports of TCP and UDP; asking for one takes the same time however many there are.
#[derive(Clone, PartialEq, Eq)]
pub struct Ports {
    tcp: Box<[u64; WORDS]>,
    udp: Box<[u64; WORDS]>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            tcp: Box::new([0; WORDS]),
            udp: Box::new([0; WORDS]),
        }
    }
}

impl Ports {
    /// Puts one in.
    pub fn insert(&mut self, protocol: Protocol, port: u16) {
        self.of_mut(protocol)[usize::from(port / 64)] |= 1 << (port % 64);
    }

    /// Takes one out.
    pub fn remove(&mut self, protocol: Protocol, port: u16) {
        self.of_mut(protocol)[usize::from(port / 64)] &= !(1 << (port % 64));
    }

    /// Whether one is in.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        let words = match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        };
        words[usize::from(port / 64)] & 1 << (port % 64) != 0
    }

    fn of_mut(&mut self, protocol: Protocol) -> &mut [u64; WORDS] {
        match protocol {
            Protocol::Tcp => &mut self.tcp,
            Protocol::Udp => &mut self.udp,
        }
    }
}

impl Extend<PortRange> for Ports {
    fn extend<I: IntoIterator<Item = PortRange>>(&mut self, ranges: I) {
        for PortRange { protocol, first, last } in ranges {
            (first..=last).for_each(|port| self.insert(protocol, port));
        }
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
        write!(f, "Ports({} TCP, {} UDP)", count(&*self.tcp), count(&*self.udp))
    }
}

/// Ports for people: sorted, neighbours as ranges.
#[must_use]
pub fn ranges(touched: &[(Protocol, u16)]) -> Vec<PortRange> {
    let mut sorted = touched.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<PortRange> = Vec::new();
    for (protocol, port) in sorted {
        match ranges.last_mut() {
            Some(range)
                if range.protocol == protocol && port.checked_sub(1).is_some_and(|before| range.last >= before) =>
            {
                range.last = port;
            }
            _ => ranges.push(PortRange {
                protocol,
                first: port,
                last: port,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_in_until_it_is_taken_out() {
        let mut ports = Ports::default();
        ports.extend(["tcp/1".parse().unwrap(), "udp/65500-65535".parse().unwrap()]);
        let of = |protocol, port| ports.contains(protocol, port);
        assert!(of(Protocol::Tcp, 1) && of(Protocol::Udp, 65535) && of(Protocol::Udp, 65500));
        assert!(!of(Protocol::Udp, 1) && !of(Protocol::Tcp, 65535) && !of(Protocol::Udp, 65499));
        let mut fewer = ports.clone();
        fewer.remove(Protocol::Tcp, 1);
        assert!(!fewer.contains(Protocol::Tcp, 1) && fewer != ports);
    }

    #[test]
    fn neighbours_are_told_as_ranges() {
        let tcp = |port| (Protocol::Tcp, port);
        let touched = [tcp(22), (Protocol::Udp, 24), tcp(80), tcp(24), tcp(23), tcp(80), tcp(0)];
        let told: Vec<String> = ranges(&touched).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["tcp/0", "tcp/22-24", "tcp/80", "udp/24"]);
    }
}

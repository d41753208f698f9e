//! Sightings for the log and for JSON.

use std::time::Duration;

use crate::config::PortRange;
use crate::scan::{Sighting, ranges};

/// What one line of the log can carry.
const MOST_RANGES: usize = 40;

/// Ports as the log names them: `tcp/21-25,udp/53`, and how many more there are.
#[must_use]
pub fn ports(sighting: &Sighting) -> String {
    let ranges = ranges(&sighting.ports);
    let told: Vec<String> = ranges.iter().take(MOST_RANGES).map(ToString::to_string).collect();
    let told = told.join(",");
    let count = |range: &PortRange| usize::from(range.last - range.first) + 1;
    match ranges.iter().skip(MOST_RANGES).map(count).sum::<usize>() {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// In which ways: `SYN,UDP`.
#[must_use]
pub fn probes(sighting: &Sighting) -> String {
    let probes: Vec<String> = sighting.probes.iter().map(ToString::to_string).collect();
    probes.join(",")
}

/// A bound on lines of the log, whoever fills it.
#[derive(Debug, Default)]
pub struct Limit {
    since: Duration,
    lines: u32,
}

impl Limit {
    const LINES_PER_SECOND: u32 = 20;

    /// Whether another line may be written; when a new second begins, how many were not in the one before.
    pub fn allow(&mut self, now: Duration) -> (bool, u32) {
        let mut held_back = 0;
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            held_back = self.lines.saturating_sub(Self::LINES_PER_SECOND);
            (self.since, self.lines) = (now, 0);
        }
        self.lines = self.lines.saturating_add(1);
        (self.lines <= Self::LINES_PER_SECOND, held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;
    use crate::scan::{Phase, Probe};

    #[test]
    fn a_line_names_so_many_ports() {
        let sighting = |ports: Vec<u16>| Sighting {
            source: "192.0.2.7/32".parse().unwrap(),
            ports: ports.into_iter().map(|port| (Protocol::Tcp, port)).collect(),
            touches: 9,
            probes: vec![Probe::Syn, Probe::Xmas],
            phase: Phase::Noticed,
        };
        assert_eq!(ports(&sighting(vec![25, 21, 22, 443])), "tcp/21-22,tcp/25,tcp/443");
        let many = ports(&sighting((1..=100).map(|port| port * 2).collect()));
        assert!(many.ends_with(",tcp/80 and 60 more"), "{many}");
        assert_eq!(probes(&sighting(vec![])), "SYN,XMAS");
    }

    #[test]
    fn so_many_lines_a_second() {
        let mut limit = Limit::default();
        let mut allowed = |ms| limit.allow(Duration::from_millis(ms));
        let count = (0..35).filter(|_| allowed(5_000).0).count();
        assert_eq!(count, 20);
        assert_eq!(allowed(6_000), (true, 15));
    }
}

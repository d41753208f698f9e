//! Who is shut out, until when, and how many that may be.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ipnet::IpNet;

const MINUTE: Duration = Duration::from_mins(1);

/// A source that is shut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Whom it shuts out.
    pub source: IpNet,
    /// Its end on the clock that starts with the boot.
    pub end: Duration,
}

/// How many bans there may be. What is over is reported and shut out by nobody: a guard that can be made to ban
/// without bound is a weapon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// At once.
    pub at_once: usize,
    /// Begun within a minute.
    pub a_minute: usize,
}

/// Why somebody is not shut out although he scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// There are as many bans as there may be.
    AtOnce,
    /// As many have begun within this minute as may.
    AMinute,
}

/// The bans in force.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    ends: BTreeMap<IpNet, Duration>,
    begun: VecDeque<Duration>,
}

impl Bans {
    /// Shuts a source out until `end`; one that is shut out already until the later end.
    ///
    /// # Errors
    ///
    /// [`Spared`] when the caps leave no room.
    pub fn add(&mut self, source: IpNet, end: Duration, now: Duration, caps: &Caps) -> Result<Ban, Spared> {
        if let Some(old) = self.ends.get_mut(&source) {
            *old = end.max(*old);
            return Ok(Ban { source, end: *old });
        }
        while self.begun.front().is_some_and(|begun| *begun + MINUTE <= now) {
            self.begun.pop_front();
        }
        if self.ends.len() >= caps.at_once {
            return Err(Spared::AtOnce);
        }
        if self.begun.len() >= caps.a_minute {
            return Err(Spared::AMinute);
        }
        self.begun.push_back(now);
        self.ends.insert(source, end);
        Ok(Ban { source, end })
    }

    /// Puts back a ban that the kernel still knows; it counts for no minute.
    pub fn restore(&mut self, ban: Ban) {
        self.ends.insert(ban.source, ban.end);
    }

    /// Lifts every ban that touches a network.
    pub fn lift(&mut self, network: IpNet) -> Vec<IpNet> {
        let touches = |source: &IpNet| source.contains(&network) || network.contains(source);
        let lifted: Vec<IpNet> = self.ends.keys().copied().filter(touches).collect();
        for source in &lifted {
            self.ends.remove(source);
        }
        lifted
    }

    /// Takes out the bans whose time is over.
    pub fn expire(&mut self, now: Duration) -> Vec<IpNet> {
        let over = self.ends.extract_if(.., |_, end| *end <= now);
        over.map(|(source, _)| source).collect()
    }

    /// When the next ban ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Duration> {
        self.ends.values().min().copied()
    }

    /// The bans in force.
    pub fn iter(&self) -> impl Iterator<Item = Ban> + '_ {
        self.ends.iter().map(|(source, end)| Ban {
            source: *source,
            end: *end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        at_once: 3,
        a_minute: 2,
    };

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    const fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn so_many_a_minute_and_so_many_at_once() {
        let mut bans = Bans::default();
        for (source, now, end) in [("192.0.2.1/32", 0, Ok(())), ("192.0.2.2/32", 30, Ok(()))] {
            assert_eq!(bans.add(net(source), at(3600), at(now), &CAPS).map(drop), end);
        }
        let third = net("192.0.2.3/32");
        assert_eq!(bans.add(third, at(3600), at(59), &CAPS), Err(Spared::AMinute));
        assert!(bans.add(third, at(3600), at(60), &CAPS).is_ok());
        let fourth = net("192.0.2.4/32");
        assert_eq!(bans.add(fourth, at(3600), at(300), &CAPS), Err(Spared::AtOnce));
        assert_eq!(bans.expire(at(3600)).len(), 3);
        assert!(bans.add(fourth, at(7200), at(3600), &CAPS).is_ok());
    }

    #[test]
    fn who_is_shut_out_stays_so_for_longer_and_counts_once() {
        let mut bans = Bans::default();
        let source = net("192.0.2.1/32");
        for (end, then) in [(100, 100), (200, 200), (150, 200)] {
            assert_eq!(bans.add(source, at(end), at(1), &CAPS).unwrap().end, at(then));
        }
        assert_eq!(bans.iter().count(), 1);
        assert_eq!((bans.next_end(), bans.expire(at(199))), (Some(at(200)), vec![]));
        assert_eq!(bans.expire(at(200)), [source]);
    }

    #[test]
    fn a_ban_is_lifted_for_every_address_in_it() {
        let mut bans = Bans::default();
        bans.restore(Ban {
            source: net("2001:db8::/64"),
            end: at(9),
        });
        assert_eq!(bans.lift(net("2001:db8:1::5/128")), []);
        assert_eq!(bans.lift(net("2001:db8::5/128")), [net("2001:db8::/64")]);
        assert_eq!(bans.next_end(), None);
    }
}

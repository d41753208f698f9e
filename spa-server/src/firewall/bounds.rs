//! What a packet process may ask for, whoever has taken it over: services that the configuration names, for addresses that
//! a client may have, no longer than the service's cap, no faster than a full gateway needs. Pure.

use std::time::Duration;

use ipnet::IpNet;
use spa_keys::name::ClientName;

use super::message::Timed;
use crate::config::{BackendKind, Config, GuardMode};

/// No client's file may widen further (`widen`: /16 and /48).
const WIDEST: (u8, u8) = (16, 48);
/// Clocks are read on both sides.
const SLACK: Duration = Duration::from_secs(2);
/// How many doors may stand open.
pub(super) const MOST_DOORS: usize = 100_000;

/// How many openings may be asked for: a burst, and then so many a second.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    a_second: u32,
}

/// Elements of a set cost microseconds each.
const SETS: Rate = Rate {
    burst: 10_000,
    a_second: 4_000,
};
/// Each is a program that runs.
const COMMANDS: Rate = Rate {
    burst: 100,
    a_second: 10,
};

/// Counts what was asked for, on the clock of the boot.
#[derive(Debug)]
pub(super) struct Bounds {
    sets: Bucket,
    commands: Bucket,
}

impl Bounds {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            sets: Bucket::new(SETS, now),
            commands: Bucket::new(COMMANDS, now),
        }
    }

    /// Whether this door may be opened now.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn check_open(&mut self, config: &Config, asked: &Timed, now: Duration) -> Result<(), String> {
        check_opening(config, asked, now)?;
        if asked.until <= now {
            return Err("its time is over".into());
        }
        let bucket = if runs_commands(config, &asked.door.service) {
            &mut self.commands
        } else {
            &mut self.sets
        };
        bucket.take(now).then_some(()).ok_or_else(|| "too many at once".into())
    }
}

/// Whether this door may stand open.
///
/// # Errors
///
/// Why not.
pub(super) fn check_opening(config: &Config, asked: &Timed, now: Duration) -> Result<(), String> {
    let service = config
        .services
        .iter()
        .find(|service| service.name == asked.door.service)
        .ok_or("no such service is configured")?;
    check_network(asked.door.opened)?;
    if asked.until.saturating_sub(now) > service.max_duration + SLACK {
        return Err("longer than the service's max-duration".into());
    }
    // It may become an argument of a command.
    if asked
        .client
        .as_deref()
        .is_some_and(|name| name.parse::<ClientName>().is_err())
    {
        return Err("that is no client's name".into());
    }
    Ok(())
}

/// Whether this network may be shut out.
///
/// # Errors
///
/// Why not.
pub(super) fn check_ban(config: &Config, network: IpNet, left: Duration) -> Result<(), String> {
    let guard = config.guard.as_ref().filter(|guard| guard.mode == GuardMode::Ban);
    let guard = guard.ok_or("nobody is to be shut out by this configuration")?;
    check_network(network)?;
    let overlaps = |allowed: &IpNet| allowed.contains(&network) || network.contains(allowed);
    if config.lock_out.always_allow.iter().any(overlaps) {
        return Err("always-allow is never shut out".into());
    }
    if left > guard.ban_for + SLACK {
        return Err("longer than ban-for".into());
    }
    Ok(())
}

/// An address, or what a client's file may make of one.
///
/// # Errors
///
/// Why it is neither.
pub(super) fn check_network(network: IpNet) -> Result<(), String> {
    let widest = match network {
        IpNet::V4(_) => WIDEST.0,
        IpNet::V6(_) => WIDEST.1,
    };
    if network.trunc() != network || network.prefix_len() < widest {
        return Err("no client may open so much".into());
    }
    let address = network.addr();
    if address.is_unspecified() || address.is_multicast() {
        return Err("that is nobody's address".into());
    }
    Ok(())
}

fn runs_commands(config: &Config, service: &str) -> bool {
    let mut services = config.services.iter().filter(|known| known.name == service);
    services.any(|service| service.backends.contains(&BackendKind::Command))
}

/// A bucket of tokens.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// In thousandths, so that a slow drip counts.
    level: u64,
    filled: Duration,
}

impl Bucket {
    fn new(rate: Rate, now: Duration) -> Self {
        Self {
            rate,
            level: u64::from(rate.burst) * 1000,
            filled: now,
        }
    }

    fn take(&mut self, now: Duration) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.filled).as_millis()).unwrap_or(u64::MAX);
        let drip = passed.saturating_mul(u64::from(self.rate.a_second));
        self.level = self.level.saturating_add(drip).min(u64::from(self.rate.burst) * 1000);
        self.filled += Duration::from_millis(passed);
        match self.level.checked_sub(1000) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Door;

    const CONFIG: &str = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.7\"]\n\
        [[service]]\nname = \"ssh\"\nbackends = [\"iptables\"]\nports = [\"tcp/22\"]\nmax-duration = \"1h\"\n\
        [scan-guard]\nmode = \"ban\"\nban-for = \"1h\"\n";

    fn config() -> Config {
        Config::from_text("server.toml", CONFIG)
            .expect("a good configuration")
            .0
    }

    fn asked(service: &str, opened: &str, client: Option<&str>, until: u64) -> Timed {
        Timed {
            door: Door {
                service: service.into(),
                opened: opened.parse().unwrap(),
            },
            client: client.map(str::to_owned),
            until: Duration::from_secs(until),
        }
    }

    fn verdict(asked: &Timed) -> Result<(), String> {
        let now = Duration::from_secs(1000);
        Bounds::new(now).check_open(&config(), asked, now)
    }

    #[test]
    fn what_a_client_may_have_is_opened() {
        assert_eq!(verdict(&asked("ssh", "198.51.100.7/32", Some("anna"), 1030)), Ok(()));
        assert_eq!(verdict(&asked("ssh", "198.51.0.0/16", Some("anna.2"), 4600)), Ok(()));
        assert_eq!(verdict(&asked("ssh", "2001:db8:1::/48", None, 1030)), Ok(()));
    }

    #[test]
    fn what_no_client_may_have_is_refused() {
        let refused = |asked: Timed| verdict(&asked).unwrap_err();
        let cases = [
            (
                asked("db", "198.51.100.7/32", None, 1030),
                "no such service is configured",
            ),
            (asked("ssh", "0.0.0.0/0", None, 1030), "no client may open so much"),
            (asked("ssh", "128.0.0.0/1", None, 1030), "no client may open so much"),
            (asked("ssh", "198.50.0.0/15", None, 1030), "no client may open so much"),
            (asked("ssh", "2001:db8::/47", None, 1030), "no client may open so much"),
            (asked("ssh", "224.0.0.1/32", None, 1030), "that is nobody's address"),
            (asked("ssh", "::/128", None, 1030), "that is nobody's address"),
            (asked("ssh", "198.51.100.7/32", None, 1000), "its time is over"),
            (
                asked("ssh", "198.51.100.7/32", None, 4603),
                "longer than the service's max-duration",
            ),
            (
                asked("ssh", "198.51.100.7/32", Some("--help"), 1030),
                "that is no client's name",
            ),
            (
                asked("ssh", "198.51.100.7/32", Some("a b"), 1030),
                "that is no client's name",
            ),
        ];
        for (asked, why) in cases {
            assert_eq!(refused(asked), why);
        }
    }

    #[test]
    fn bans_spare_always_allow() {
        let config = config();
        let ban = |network: &str, left: u64| check_ban(&config, network.parse().unwrap(), Duration::from_secs(left));
        assert_eq!(ban("198.51.100.7/32", 60), Ok(()));
        assert!(ban("192.0.2.7/32", 60).is_err());
        assert!(ban("192.0.2.0/24", 60).is_err());
        assert!(ban("0.0.0.0/0", 60).is_err());
        assert!(ban("198.51.100.7/32", 7200).is_err());
    }

    #[test]
    fn no_faster_than_a_full_gateway_needs() {
        let (config, now) = (config(), Duration::from_secs(1000));
        let mut bounds = Bounds::new(now);
        let asked = asked("ssh", "198.51.100.7/32", None, 1030);
        let allowed = (0..20_000)
            .filter(|_| bounds.check_open(&config, &asked, now).is_ok())
            .count();
        assert_eq!(allowed, 10_000);
        let later = now + Duration::from_millis(500);
        let allowed = (0..20_000)
            .filter(|_| bounds.check_open(&config, &asked, later).is_ok())
            .count();
        assert_eq!(allowed, 2_000);
    }
}

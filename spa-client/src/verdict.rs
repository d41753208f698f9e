//! What `--wait` saw, in words: which doors are open, and why the others probably are not.

use std::net::IpAddr;
use std::time::Duration;

use spa_keys::profile::Membership;
use spa_keys::units::{format_duration, format_time};
use spa_keys::{Exit, Failure};
use spa_proto::{Address, ServiceName, UnixTime};

use crate::fire::listed;
use crate::wait::Seen;

/// What was asked, to be held against what was seen.
pub(crate) struct Verdict<'a> {
    gateway: &'a Membership,
    services: Vec<(&'a ServiceName, u16)>,
    /// None when the gateway was to take the address that it sees.
    named: Vec<IpAddr>,
    pub(crate) limit: Duration,
}

impl<'a> Verdict<'a> {
    pub(crate) fn new(
        gateway: &'a Membership,
        services: &'a [ServiceName],
        ports: &[u16],
        addresses: &[Address],
        limit: Duration,
    ) -> Self {
        Self {
            gateway,
            services: services.iter().zip(ports.iter().copied()).collect(),
            named: addresses.iter().filter_map(|address| address.named()).collect(),
            limit,
        }
    }

    /// A line for each door that is open.
    pub(crate) fn facts(&self, seen: &[Seen]) -> Vec<String> {
        let open = self.services.iter().zip(seen);
        open.filter_map(|((name, port), seen)| Some(format!("open: {name} (tcp/{port} answers at {})", seen.open?)))
            .collect()
    }

    /// Whether all of them are.
    pub(crate) fn judge(&self, seen: &[Seen]) -> Result<(), Failure> {
        let shut: Vec<_> = self.shut(seen).map(|(name, ..)| name.as_str()).collect();
        if shut.is_empty() {
            return Ok(());
        }
        let limit = format_duration(self.limit);
        let what = format!("{} did not open within {limit}", shut.join(", "));
        Err(Failure::new(Exit::Failed, what))
    }

    /// Why the doors that are shut probably are; the likeliest first.
    pub(crate) fn causes(&self, seen: &[Seen], now: UnixTime) -> Vec<String> {
        let mut causes: Vec<_> = self.shut(seen).flat_map(Self::heard).collect();
        // A refusal comes from behind the door: what keeps it shut is not the question.
        if self.shut(seen).any(|(.., seen)| seen.refused.is_empty()) {
            causes.extend([
                self.clock(now),
                self.address(),
                self.key(),
                self.enrollment(),
                self.way(),
            ]);
            causes.retain(|cause| !cause.is_empty());
        }
        causes
    }

    fn shut<'s>(&'s self, seen: &'s [Seen]) -> impl Iterator<Item = (&'s ServiceName, u16, &'s Seen)> {
        let all = self.services.iter().zip(seen);
        all.filter(|(_, seen)| seen.open.is_none())
            .map(|((name, port), seen)| (*name, *port, seen))
    }

    fn heard((name, port, seen): (&ServiceName, u16, &Seen)) -> Vec<String> {
        let refused: Vec<_> = seen.refused.iter().copied().collect();
        let mut heard = Vec::new();
        if !refused.is_empty() {
            heard.push(format!(
                "{} answered tcp/{port} with a refusal: the way is open, but {name} is not running there",
                listed(&refused)
            ));
        }
        heard.extend(
            seen.failed
                .iter()
                .map(|(address, why)| format!("{address} cannot be reached on tcp/{port}: {why}")),
        );
        heard
    }

    fn clock(&self, now: UnixTime) -> String {
        let window = if self.named.is_empty() { "60 s" } else { "5 minutes" };
        format!(
            "the clock: it shows {} here, and the gateway allows a difference of {window} unless set otherwise; \
             `spa-client check` with --ntp tells how far off it is",
            format_time(now)
        )
    }

    fn address(&self) -> String {
        if self.named.is_empty() {
            "the address: behind carrier NAT, a VPN or a proxy, UDP and TCP can leave by different ones; \
             name the public one with --address, or find it with --resolve"
                .into()
        } else {
            format!(
                "the address: others may not see this device as {} any more; try --as-seen",
                listed(&self.named)
            )
        }
    }

    fn key(&self) -> String {
        let name = &self.gateway.name;
        format!(
            "the key: {name} may be revoked, expired or not allowed this; `spa-server explain` on the gateway says so"
        )
    }

    fn enrollment(&self) -> String {
        match self.gateway.invite {
            Some(_) => "the enrollment, if nothing ever opened: it may not have arrived; \
                        run enroll with the same invite again"
                .into(),
            None => String::new(),
        }
    }

    fn way(&self) -> String {
        let ports: Vec<_> = self.gateway.ports.numbers().map(|port| port.to_string()).collect();
        format!(
            "the way: a network between may block UDP to port {}, or the gateway is down",
            ports.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use spa_keys::profile::Profile;

    const PROFILE: &str = r#"
        host = "gw.example.net"
        ports = [62201, 443]
        name = "anna-phone"
        gateway-public-key = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        gateway-hmac-key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        private-key = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        psk = "BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        enroll = { invite-public-key = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }
    "#;

    fn said(addresses: &[Address], seen: &[Seen]) -> String {
        let profile = Profile::parse(PROFILE).unwrap();
        let services: Vec<ServiceName> = ["ssh", "db"].map(|name| name.parse().unwrap()).to_vec();
        let verdict = Verdict::new(
            &profile.home,
            &services,
            &[22, 5432],
            addresses,
            Duration::from_secs(10),
        );
        let judged = verdict
            .judge(seen)
            .map_or_else(|failure| failure.what, |()| "all open".into());
        let causes = verdict.causes(seen, UnixTime::from_secs(1_800_000_000));
        [verdict.facts(seen), vec![judged], causes].concat().join("\n")
    }

    fn gateway() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn open() -> Seen {
        Seen {
            open: Some(gateway()),
            ..Seen::default()
        }
    }

    #[test]
    fn all_open() {
        insta::assert_snapshot!(said(&[Address::AsSeen], &[open(), open()]), @r"
        open: ssh (tcp/22 answers at 192.0.2.1)
        open: db (tcp/5432 answers at 192.0.2.1)
        all open
        ");
    }

    #[test]
    fn silence() {
        insta::assert_snapshot!(said(&[Address::AsSeen], &[open(), Seen::default()]), @r"
        open: ssh (tcp/22 answers at 192.0.2.1)
        db did not open within 10s
        the clock: it shows 2027-01-15T08:00:00Z here, and the gateway allows a difference of 60 s unless set otherwise; `spa-client check` with --ntp tells how far off it is
        the address: behind carrier NAT, a VPN or a proxy, UDP and TCP can leave by different ones; name the public one with --address, or find it with --resolve
        the key: anna-phone may be revoked, expired or not allowed this; `spa-server explain` on the gateway says so
        the enrollment, if nothing ever opened: it may not have arrived; run enroll with the same invite again
        the way: a network between may block UDP to port 62201, 443, or the gateway is down
        ");
    }

    #[test]
    fn a_refusal_is_no_shut_door() {
        let refused = Seen {
            refused: [gateway()].into(),
            ..Seen::default()
        };
        insta::assert_snapshot!(said(&[Address::AsSeen], &[refused, open()]), @r"
        open: db (tcp/5432 answers at 192.0.2.1)
        ssh did not open within 10s
        192.0.2.1 answered tcp/22 with a refusal: the way is open, but ssh is not running there
        ");
    }

    #[test]
    fn no_way_there() {
        let address = Address::explicit("203.0.113.9".parse().unwrap()).unwrap();
        let failed = Seen {
            failed: [(gateway(), "No route to host".into())].into(),
            ..Seen::default()
        };
        insta::assert_snapshot!(said(&[address], &[failed.clone(), failed]), @r"
        ssh, db did not open within 10s
        192.0.2.1 cannot be reached on tcp/22: No route to host
        192.0.2.1 cannot be reached on tcp/5432: No route to host
        the clock: it shows 2027-01-15T08:00:00Z here, and the gateway allows a difference of 5 minutes unless set otherwise; `spa-client check` with --ntp tells how far off it is
        the address: others may not see this device as 203.0.113.9 any more; try --as-seen
        the key: anna-phone may be revoked, expired or not allowed this; `spa-server explain` on the gateway says so
        the enrollment, if nothing ever opened: it may not have arrived; run enroll with the same invite again
        the way: a network between may block UDP to port 62201, 443, or the gateway is down
        ");
    }
}

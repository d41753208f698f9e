//! What the control socket is told of scans and bans.

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};
use spa_keys::units::format_time;
use tracing::info;

use super::Daemon;
use super::guard::Told;
use crate::clock;
use crate::config::PortRange;
use crate::control::{ControlError, Reply};
use crate::scan::{Ban, Phase, Sighting, ranges};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnbanParameters {
    network: Option<IpNet>,
    #[serde(default)]
    all: bool,
}

impl Daemon {
    /// Of status.
    pub(super) fn scans(&self) -> Option<Value> {
        let mode = self.config.guard.as_ref()?.mode.to_string();
        let told: Vec<Value> = self.guard.told().iter().rev().map(|told| self.scan(told)).collect();
        Some(json!({
            "mode": mode,
            "noticed": told,
            "bans": self.guard.bans().count(),
            "decoys": self.guard.decoys().map(|port| format!("tcp/{port}")).collect::<Vec<_>>(),
            "dropped": self.guard.unheard(),
        }))
    }

    fn scan(&self, told: &Told) -> Value {
        let Sighting {
            source,
            touches,
            probes,
            phase,
            ..
        } = &told.sighting;
        json!({
            "source": plain(*source),
            "ports": ports(&told.sighting),
            "probes": probes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "touches": touches,
            "first": format_time(told.first),
            "last": format_time(told.last),
            "over": *phase == Phase::Over,
            "banned": self.guard.bans().any(|ban| ban.source == *source),
        })
    }

    /// `spa-server bans`.
    pub(super) fn list_bans(&mut self) -> Value {
        let (now, backends, told) = (clock::now(), self.partner.banning(), self.guard.told());
        let ban = |Ban { source, end }: Ban| {
            let remaining = end.saturating_sub(now.uptime);
            let scan = told.iter().rev().find(|told| told.sighting.source == source);
            json!({
                "network": source,
                "until": format_time(now.wall.saturating_add(remaining)),
                "remaining_s": remaining.as_secs(),
                "ports": scan.map_or(Vec::new(), |told| ports(&told.sighting)),
                "backends": backends,
            })
        };
        json!({ "bans": self.guard.bans().map(ban).collect::<Vec<_>>() })
    }

    /// `spa-server unban`.
    pub(super) fn unban(&mut self, asked: &UnbanParameters, uid: u32) -> Reply {
        let networks: Vec<IpNet> = match (asked.network, asked.all) {
            (Some(network), false) => vec![network],
            (None, true) => self.guard.bans().map(|ban| ban.source).collect(),
            _ => return Err(ControlError::parameters("a network is named, or all are meant")),
        };
        info!(uid, network = ?asked.network, all = asked.all, "unban, by command");
        self.audit_command("unban", uid, asked.network.map(|network| network.to_string()));
        let lifted: usize = networks.into_iter().map(|net| self.let_in(net, "by command")).sum();
        Ok(json!({ "lifted": lifted }))
    }
}

fn ports(sighting: &Sighting) -> Vec<String> {
    ranges(&sighting.ports).iter().map(PortRange::to_string).collect()
}

/// A single address without its length.
fn plain(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_address_is_told_without_its_length() {
        assert_eq!(plain("192.0.2.7/32".parse().unwrap()), "192.0.2.7");
        assert_eq!(plain("2001:db8::/64".parse().unwrap()), "2001:db8::/64");
    }
}

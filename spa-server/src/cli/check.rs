//! `spa-server check`: everything that is wrong, at once.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use spa_keys::units::format_time;
use spa_keys::{ClientState, Exit, GatewayKey, KeyDirectory, LoadError, Paths};

use super::decoys;
use crate::backend::nftables::later;
use crate::backend::{existing, families, iptables};
use crate::check::{Access, Report};
use crate::clock;
use crate::config::{Colour, Config, Finding};
use crate::confirm::start;
use crate::doors::inspect_all;
use crate::exposure::{self, Host, Ruleset};

pub(super) fn check(paths: &Paths, as_json: bool) -> ExitCode {
    let report = report(paths);
    let code = report.exit_code();
    if as_json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else if code == 0 {
        print!("{}", report.render(colour(std::io::stdout().is_terminal())));
    } else {
        eprint!("{}", report.render(colour(std::io::stderr().is_terminal())));
    }
    ExitCode::from(code)
}

/// Colour is for people at a terminal who did not say no.
pub(super) fn colour(is_terminal: bool) -> Colour {
    let wanted = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { Colour::Always } else { Colour::Never }
}

fn report(paths: &Paths) -> Report {
    let mut findings: Vec<Finding> = GatewayKey::load(&paths.gateway_key)
        .err()
        .map(key_finding)
        .into_iter()
        .collect();
    let keys = KeyDirectory::load(&paths.clients, &paths.invites);
    let access = match &keys {
        Ok(keys) => {
            findings.extend(keys.broken().map(|(.., broken)| broken_finding(broken)));
            access(keys)
        }
        Err(error) => {
            findings.push(Finding::error("clients", error.to_string()));
            Vec::new()
        }
    };
    findings.extend(unconfirmed(paths));
    let loaded = Config::load(&paths.config);
    if let Ok((config, _)) = &loaded {
        findings.extend(
            of_the_host(config)
                .into_iter()
                .map(|finding| finding.in_file(&paths.config)),
        );
        findings.extend(reachable(config));
        findings.extend(decoys::taken(config, paths));
        findings.extend(inspect_all(config, paths));
    }
    Report::new(loaded, access).with(findings)
}

/// A change that waits to be confirmed, or to be undone.
fn unconfirmed(paths: &Paths) -> Option<Finding> {
    let finding = match start::pending(paths) {
        Ok(None) => return None,
        Ok(Some(Duration::ZERO)) => {
            let text = "the last change was not confirmed in time and is about to be undone";
            Finding::warning("unconfirmed", text).with_try("spa-server run, or protect, if it stays")
        }
        Ok(Some(left)) => {
            let until = format_time(clock::wall().saturating_add(left));
            let text = format!("the last change is not confirmed: at {until} it is undone by itself");
            Finding::warning("unconfirmed", text).with_try("a new connection, then spa-server confirm")
        }
        // Who may not read the record is told nothing of it.
        Err(failure) if failure.exit == Exit::NoPermission => return None,
        Err(failure) => {
            let finding = Finding::warning("unconfirmed-unknown", &failure.what);
            let hint = failure.hints.first();
            hint.map_or(finding.clone(), |hint| finding.clone().with_try(hint))
        }
    };
    Some(finding.in_file(&paths.config))
}

/// What this host's own rules would do to what is let in.
fn of_the_host(config: &Config) -> Vec<Finding> {
    later::findings(config).unwrap_or_else(|error| {
        let finding = Finding::warning(
            "firewall-unread",
            format!("the host's own rules were not looked at: {}", error.what),
        );
        vec![finding.with_try(error.hint.unwrap_or_else(|| "nft list ruleset".to_owned()))]
    })
}

/// What of it is reachable all the same on this host, as it is now.
fn reachable(config: &Config) -> Vec<Finding> {
    if !exposure::concerns(config) {
        return Vec::new();
    }
    if !rustix::process::geteuid().is_root() {
        let text = "not run as root: whether protected ports can be reached past the firewall was not looked at";
        return vec![Finding::warning("not-looked", text).with_try("the same as root")];
    }
    let mut findings: Vec<Finding> = iptables::missing_ipset()
        .as_deref()
        .map(ipset_finding)
        .into_iter()
        .collect();
    match host() {
        Ok(host) => findings.extend(exposure::findings(config, &host)),
        Err(what) => {
            let text = format!("whether protected ports can be reached past the firewall was not looked at: {what}");
            findings.push(Finding::warning("not-looked", text));
        }
    }
    findings
}

fn host() -> Result<Host, String> {
    let rules = families::available().into_iter().map(|family| {
        let saved = iptables::saved(family).map_err(|error| error.to_string())?;
        Ok((family, Ruleset::parse(&saved)))
    });
    Ok(Host {
        rules: rules.collect::<Result<_, String>>()?,
        listeners: existing::listeners().map_err(|error| format!("/proc/net: {error}"))?,
    })
}

fn ipset_finding(why: &str) -> Finding {
    let text = format!("this host has no ipset ({why}): the kernel will not end grants, only the daemon closes them");
    Finding::warning("no-ipset", text).with_try("modprobe ip_set_hash_net, or backend nftables")
}

fn access(keys: &KeyDirectory) -> Vec<Access> {
    let now = clock::wall();
    let active = keys.clients().filter(|client| client.state(now) == ClientState::Active);
    let mut access: Vec<Access> = active
        .map(|client| Access {
            client: client.name().into(),
            services: client.policy().services.iter().map(ToString::to_string).collect(),
        })
        .collect();
    access.sort_by(|a, b| a.client.cmp(&b.client));
    access
}

fn key_finding(error: LoadError) -> Finding {
    let remedy = spa_keys::Failure::from(error);
    let finding = Finding::error("gateway-key", &remedy.what);
    remedy
        .hints
        .first()
        .map_or(finding.clone(), |hint| finding.with_try(hint))
}

fn broken_finding(broken: &spa_keys::BrokenFile) -> Finding {
    let mut finding = Finding::error("broken-file", format!("disabled until it is whole: {}", broken.what));
    finding = finding.in_file(&broken.path);
    finding.line = broken.line;
    broken
        .hint
        .as_ref()
        .map_or(finding.clone(), |hint| finding.clone().with_try(hint))
}

//! `spa-server check`: everything that is wrong, at once.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use spa_keys::units::format_time;
use spa_keys::{ClientState, Exit, Failure, GatewayKey, KeyDirectory, LoadError, Paths};
use spa_proto::UnixTime;

use super::decoys;
use crate::backend::nftables;
use crate::backend::{BackendError, existing, families, iptables};
use crate::check::{Access, Report};
use crate::clock;
use crate::config::{BackendKind, Code, Colour, Config, Finding, LogFormat};
use crate::confirm::{Ledger, Record, Undone, Verdict};
use crate::doors::inspect_all;
use crate::exposure::{self, Host, Ruleset};
use crate::logging::JOURNAL;
use crate::sequences;

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
            let remedy = format!("ls -ld {} {}", paths.clients.display(), paths.invites.display());
            findings.push(Finding::error(Code::Clients, error.to_string()).with_try(remedy));
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
        findings.extend(of_sequences(config, paths));
        findings.extend(of_the_log(config).map(|finding| finding.in_file(&paths.config)));
    }
    Report::new(loaded, access).with(findings)
}

/// A change that waits to be confirmed or to be undone, or was undone.
fn unconfirmed(paths: &Paths) -> Option<Finding> {
    let finding = match Ledger::of(paths).read().map_err(Failure::from) {
        Ok(record) => {
            let now = clock::now();
            trial(&record, record.verdict(now.uptime, &clock::boot_id()), now.wall)?
        }
        // Who may not read the record is told nothing of it.
        Err(failure) if failure.exit == Exit::NoPermission => return None,
        Err(failure) => unknown(&failure),
    };
    Some(finding.in_file(&paths.config))
}

/// Keys and lists of sequences, and ports of theirs that serve something now.
fn of_sequences(config: &Config, paths: &Paths) -> Vec<Finding> {
    if config.sequences.is_empty() {
        return Vec::new();
    }
    let found = sequences::inspect(config, paths, &existing::listeners().unwrap_or_default());
    found
        .into_iter()
        .map(|finding| finding.in_file(&paths.config))
        .collect()
}

/// A journal that is asked for must be there.
fn of_the_log(config: &Config) -> Option<Finding> {
    let is_there = config.log.format != LogFormat::Journal || Path::new(JOURNAL).exists();
    (!is_there).then(no_journal)
}

fn no_journal() -> Finding {
    let text = format!("[log] asks for the journal, and there is no {JOURNAL}: the log goes to stderr as text");
    Finding::warning(Code::NoJournal, text).with_try("format = \"text\" or \"json\", or a host that runs journald")
}

fn unknown(failure: &Failure) -> Finding {
    let finding = Finding::warning(Code::UnconfirmedUnknown, &failure.what);
    match failure.hints.first() {
        Some(hint) => finding.with_try(hint),
        None => finding,
    }
}

fn trial(record: &Record, verdict: Verdict, now: UnixTime) -> Option<Finding> {
    Some(match verdict {
        Verdict::Settled => undone(record.undone.as_ref()?),
        Verdict::Undo(_) => {
            let mut text = "the last change was not confirmed in time and is about to be undone".to_owned();
            if let Some(why) = record.fault() {
                // Writing to a String cannot fail.
                let _ = write!(text, "; the last try failed: {why}");
            }
            Finding::warning(Code::Unconfirmed, text).with_try("spa-server run, or protect, if it stays")
        }
        Verdict::Waits(left) => {
            let until = format_time(now.saturating_add(left));
            let text = format!("the last change is not confirmed: at {until} it is undone by itself");
            Finding::warning(Code::Unconfirmed, text).with_try("a new connection, then spa-server confirm")
        }
    })
}

fn undone(undone: &Undone) -> Finding {
    let text = format!("the last change was not confirmed and was undone at {}", undone.at);
    let finding = Finding::warning(Code::Undone, text);
    match &undone.rejected {
        Some(path) => finding.with_try(format!("look at {}, where the edited file is now", path.display())),
        None => finding.with_try("edit it again, then spa-server apply --confirm 2m"),
    }
}

/// What this host's own rules would do to what is let in.
fn of_the_host(config: &Config) -> Vec<Finding> {
    nftables::inspect(config).unwrap_or_else(|error| vec![unread(&error)])
}

fn unread(error: &BackendError) -> Finding {
    let text = format!("the host's own rules were not looked at: {}", error.what);
    let remedy = error.hint.as_deref().unwrap_or("nft list ruleset");
    Finding::warning(Code::FirewallUnread, text).with_try(remedy)
}

/// What of it is reachable all the same on this host, as it is now.
fn reachable(config: &Config) -> Vec<Finding> {
    if !exposure::concerns(config) {
        return Vec::new();
    }
    if !rustix::process::geteuid().is_root() {
        return vec![not_looked("not run as root").with_try("the same as root")];
    }
    let uses_iptables = uses(config, BackendKind::Iptables);
    let missing = uses_iptables.then(iptables::missing_ipset).flatten();
    let mut findings: Vec<Finding> = missing.as_deref().map(ipset_finding).into_iter().collect();
    match host(uses_iptables) {
        Ok(host) => findings.extend(exposure::findings(config, &host)),
        Err(what) => findings.push(not_looked(&what)),
    }
    findings
}

fn uses(config: &Config, backend: BackendKind) -> bool {
    config
        .services
        .iter()
        .any(|service| service.backends.contains(&backend))
}

/// Where no service is of iptables, a host without its programs has none of its rules.
fn host(uses_iptables: bool) -> Result<Host, String> {
    let rules = families::available().into_iter().map(|family| {
        if !uses_iptables && !iptables::is_there() {
            return Ok((family, Ruleset::default()));
        }
        let saved = iptables::saved(family).map_err(|error| error.to_string())?;
        Ok((family, Ruleset::parse(&saved)))
    });
    Ok(Host {
        rules: rules.collect::<Result<_, String>>()?,
        listeners: existing::listeners().map_err(|error| format!("/proc/net: {error}"))?,
    })
}

fn not_looked(why: &str) -> Finding {
    let text = format!("whether protected ports can be reached past the firewall was not looked at: {why}");
    Finding::warning(Code::NotLooked, text)
}

fn ipset_finding(why: &str) -> Finding {
    let text = format!("this host has no ipset ({why}): the kernel will not end grants, only the daemon closes them");
    Finding::warning(Code::NoIpset, text).with_try("modprobe ip_set_hash_net, or backend nftables")
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
    let absent = error.is_absent().then(|| "spa-server init".to_owned());
    let failure = Failure::from(error);
    let finding = Finding::error(Code::GatewayKey, &failure.what);
    match failure.hints.first().or(absent.as_ref()) {
        Some(remedy) => finding.with_try(remedy),
        None => finding,
    }
}

fn broken_finding(broken: &spa_keys::BrokenFile) -> Finding {
    let mut finding = Finding::error(Code::BrokenFile, format!("disabled until it is whole: {}", broken.what));
    finding = finding.in_file(&broken.path);
    finding.line = broken.line;
    broken
        .hint
        .as_ref()
        .map_or(finding.clone(), |hint| finding.clone().with_try(hint))
}

#[cfg(test)]
mod findings;

//! From a file to what was meant, or to everything that is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawConfig, RawTcpWrappers, Text};
use super::source::Source;
use super::{
    Config, TcpWrappers, gateway, listen, lock_out, log, metrics, nftables, read, scan_guard, sequence, service,
};

impl Config {
    /// Reads and checks a file: what was meant and the warnings about it.
    ///
    /// # Errors
    ///
    /// All findings, at least one of them an error, in the order of the file.
    pub fn load(file: &Path) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        Self::from_source(file, &Source::read(file)?)
    }

    /// The same from what was read before; `file` is only a name for the findings.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn from_source(file: &Path, source: &Source) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        check(file, &source.text, known_users().as_deref())
    }

    /// The same from a text; `file` is only a name for the findings. It does not know this host's users.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn from_text(file: &str, source: &str) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        check(Path::new(file), source, None)
    }
}

/// `users` are the names this host knows, if that is known.
pub(crate) fn check(
    file: &Path,
    source: &str,
    users: Option<&[String]>,
) -> Result<(Config, Vec<Finding>), Vec<Finding>> {
    let mut findings = Findings::new(file, source);
    let config = read::read(source, &mut findings).map(|raw| meaning(&raw, users, &mut findings));
    let findings = findings.into_sorted();
    match config {
        Some(config) if !findings.iter().any(Finding::is_error) => Ok((config, findings)),
        _ => Err(findings),
    }
}

/// Every check, in the order of the file. Where something is wrong a stand-in goes on to the next check.
fn meaning(raw: &RawConfig, users: Option<&[String]>, findings: &mut Findings<'_>) -> Config {
    let listen = listen::listen(&raw.listen, findings);
    let services = service::services(raw, &listen, users, findings);
    let taken = sequence::Taken {
        services: &services,
        listen: &listen,
    };
    let sequences = sequence::sequences(&raw.sequence, &taken, findings);
    Config {
        host: gateway::host(&raw.gateway, findings),
        sandbox_required: raw.sandbox.required.unwrap_or(false),
        lock_out: lock_out::lock_out(&raw.lock_out, &raw.service, findings),
        nftables: nftables::named_chain(raw, findings),
        tcp_wrappers: tcp_wrappers(&raw.tcp_wrappers, findings),
        guard: scan_guard::guard(raw, &services, &sequences, findings),
        log: log::log(raw, findings),
        audit: log::audit(raw, findings),
        metrics: metrics::metrics(raw, findings),
        listen,
        services,
        sequences,
    }
}

fn tcp_wrappers(raw: &RawTcpWrappers, findings: &mut Findings<'_>) -> TcpWrappers {
    TcpWrappers {
        hosts_allow: absolute(raw.hosts_allow.as_ref(), "/etc/hosts.allow", findings),
        hosts_deny: absolute(raw.hosts_deny.as_ref(), "/etc/hosts.deny", findings),
    }
}

fn absolute(typed: Option<&Text>, default: &str, findings: &mut Findings<'_>) -> PathBuf {
    let path = PathBuf::from(typed.map_or(default, |text| text.get_ref()));
    if let Some(span) = typed.map(Spanned::span).filter(|_| !path.is_absolute()) {
        let finding = Finding::error(Code::RelativePath, "the path does not begin with a slash");
        findings.at(&span, finding.with_try(default));
    }
    path
}

/// The users of /etc/passwd; none when it cannot be read, as then nothing can be said.
fn known_users() -> Option<Vec<String>> {
    let text = fs::read("/etc/passwd").ok()?;
    let text = String::from_utf8_lossy(&text);
    let name = |line: &str| line.split_once(':').map(|(name, _)| name.to_owned());
    Some(text.lines().filter_map(name).collect())
}

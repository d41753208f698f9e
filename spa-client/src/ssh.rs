//! `ssh`: opens the door, waits until it is open, and becomes ssh.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use spa_keys::profile::{Membership, Profile, host};
use spa_keys::{Exit, Failure, Host};

use crate::cli::SshArgs;
use crate::load::load;
use crate::out::Form;
use crate::plan;
use crate::proxy::pass;
use crate::quote::proxy_command;
use crate::report::Report;

/// ssh's options that take a value (ssh(1)).
const WITH_VALUE: &str = "BbcDEeFIiJLlmOopQRSWwP";

/// `spa-client ssh`; only a failure comes back.
pub(crate) fn ssh(args: &SshArgs) -> Exit {
    let mut report = Report::new(&[]);
    let outcome = load(&args.profile).and_then(|profile| run(args, &profile, &mut report));
    report.finish(outcome, Form::Text)
}

fn run(args: &SshArgs, profile: &Profile, report: &mut Report) -> Result<(), Failure> {
    let words = Words::split(&args.ssh);
    let (there, port) = destination(&words, profile)?;
    let services = [plan::going_to(args.service.as_ref(), port, profile)?];
    let behind = Some(&there).filter(|there| **there != profile.home.host);
    let passed = pass(&args.pass, &services, port.get(), behind, profile, report)?;
    let gateway = passed.gateway;
    // The connection showed that the door is open; ssh makes its own.
    drop(passed.streams);
    become_ssh(&words, gateway)
}

/// ssh's arguments: its options, where to, and the rest.
#[derive(Debug, PartialEq, Eq)]
struct Words<'a> {
    options: &'a [OsString],
    /// `None` is the gateway's host.
    host: Option<&'a OsStr>,
    rest: &'a [OsString],
}

impl<'a> Words<'a> {
    fn split(words: &'a [OsString]) -> Self {
        let mut at = 0;
        while let Some(word) = words.get(at) {
            let octets = word.as_encoded_bytes();
            match octets {
                b"--" => return Self::without_host(words, at, at + 1),
                [b'-', letters @ ..] if !letters.is_empty() => at += 1 + usize::from(takes_next(letters)),
                _ => {
                    return Self {
                        options: &words[..at],
                        host: Some(word),
                        rest: &words[at + 1..],
                    };
                }
            }
        }
        Self::without_host(words, words.len(), words.len())
    }

    fn without_host(words: &'a [OsString], end: usize, rest: usize) -> Self {
        Self {
            options: words.get(..end).unwrap_or(words),
            host: None,
            rest: words.get(rest..).unwrap_or_default(),
        }
    }
}

/// Whether the value of the last of these letters is the next word: `-vp 22`, but not `-p22`.
fn takes_next(letters: &[u8]) -> bool {
    let valued = |letter: &u8| WITH_VALUE.as_bytes().contains(letter);
    letters
        .iter()
        .position(valued)
        .is_some_and(|at| at + 1 == letters.len())
}

/// Where ssh would go, by its own account: aliases and ports of ~/.ssh/config included.
fn destination(words: &Words<'_>, profile: &Profile) -> Result<(Host, NonZeroU16), Failure> {
    let host_word = words.host.unwrap_or(OsStr::new(profile.home.host.as_str()));
    let asked = Command::new("ssh")
        .arg("-G")
        .args(words.options)
        .arg(host_word)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| no_ssh(&error))?;
    let wrong = || {
        let said = String::from_utf8_lossy(&asked.stderr);
        let why = said.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
        Failure::new(Exit::Usage, format!("ssh does not understand these arguments{why}"))
            .hint("ssh's arguments after PROFILE, a command for the gateway itself after --")
    };
    if !asked.status.success() {
        return Err(wrong());
    }
    let text = String::from_utf8_lossy(&asked.stdout);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let there = value("hostname").and_then(|name| host(name).ok()).ok_or_else(wrong)?;
    let port = value("port").and_then(|port| port.parse().ok()).ok_or_else(wrong)?;
    Ok((there, port))
}

fn become_ssh(words: &Words<'_>, gateway: &Membership) -> Result<(), Failure> {
    let relay = proxy_command(&["relay"])?;
    let error = Command::new("ssh")
        // The family that answers is found out again, and ssh is given that connection itself.
        .args(["-o", "ProxyUseFdpass=yes", "-o"])
        .arg(format!("ProxyCommand={relay} %h %p"))
        .args(words.options)
        .arg(words.host.unwrap_or(OsStr::new(gateway.host.as_str())))
        .args(words.rest)
        .exec();
    Err(no_ssh(&error))
}

fn no_ssh(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot run ssh: {error}")).hint("installing OpenSSH's client")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> String {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let Words { options, host, rest } = Words::split(&words);
        format!("{options:?} {host:?} {rest:?}").replace('"', "")
    }

    #[test]
    fn where_to_and_what_else() {
        for (line, parts) in [
            ("", "[] None []"),
            ("-v", "[-v] None []"),
            ("-l anna", "[-l, anna] None []"),
            ("-lanna -vp 22", "[-lanna, -vp, 22] None []"),
            ("-p22 there uptime", "[-p22] Some(there) [uptime]"),
            ("anna@there -v uptime -x", "[] Some(anna@there) [-v, uptime, -x]"),
            ("-l anna -- uptime -p", "[-l, anna] None [uptime, -p]"),
            ("-o Port=22 -N", "[-o, Port=22, -N] None []"),
            ("-p", "[-p] None []"),
            ("--", "[] None []"),
            ("-", "[] Some(-) []"),
        ] {
            assert_eq!(split(line), parts, "{line}");
        }
    }
}

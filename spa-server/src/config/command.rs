//! Backends that are told by name and argv: TCP Wrappers' daemon, the commands and their user.

use std::ops::Range;

use toml::Spanned;

use super::finding::Finding;
use super::findings::Findings;
use super::nearest::nearest;
use super::raw::{RawService, Text, Texts, items};

/// What an argument may hold, each filled with one typed value.
const PLACEHOLDERS: [&str; 5] = ["address", "family", "client", "service", "end"];

/// A list of arguments as typed.
pub(super) fn argv(typed: &Texts) -> Vec<String> {
    items(typed).iter().map(|text| text.get_ref().clone()).collect()
}

/// Checks daemon, open, close and user; `users` are the names this host knows, if that is known.
pub(super) fn check(typed: &Spanned<RawService>, users: Option<&[String]>, findings: &mut Findings<'_>) {
    let (raw, span) = (typed.get_ref(), typed.span());
    let has = |backend: &str| items(&raw.backends).iter().any(|name| name.get_ref() == backend);
    check_daemon(raw, has("tcp-wrappers"), &span, findings);
    check_commands(raw, has("command"), &span, findings);
    check_user(raw, users, findings);
    check_idle(raw, has, findings);
}

/// Keys that no backend of the service reads.
fn check_idle(raw: &RawService, has: impl Fn(&str) -> bool, findings: &mut Findings<'_>) {
    let keys = [
        ("daemon", "tcp-wrappers", raw.daemon.as_ref().map(Spanned::span)),
        ("open", "command", raw.open.as_ref().map(Spanned::span)),
        ("close", "command", raw.close.as_ref().map(Spanned::span)),
        ("user", "command", raw.user.as_ref().map(Spanned::span)),
    ];
    for (key, backend, span) in keys {
        if let Some(span) = span.filter(|_| !has(backend)) {
            let text = format!("{key} does nothing here: {backend} is none of the backends");
            let remedy = format!("the service without {key}");
            findings.at(&span, Finding::warning("idle-key", text).with_try(remedy));
        }
    }
}

fn check_daemon(raw: &RawService, wrappers: bool, span: &Range<usize>, findings: &mut Findings<'_>) {
    let Some(typed) = &raw.daemon else {
        if wrappers {
            let finding = Finding::error("no-daemon", "tcp-wrappers needs the daemon's name as in hosts.allow");
            findings.absent(Some(span), finding.with_try("daemon = \"sshd\""));
        }
        return;
    };
    let daemon = typed.get_ref();
    // It becomes a word of hosts.allow and the name of a file.
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if daemon.is_empty() || daemon.starts_with('.') || !daemon.bytes().all(good) {
        let finding = Finding::error("bad-daemon", format!("{daemon:?} is no daemon's name"));
        findings.at(&typed.span(), finding.with_try("letters, digits and . _ - as in sshd"));
    } else if ["ALL", "EXCEPT"].contains(&daemon.as_str()) {
        let finding = Finding::error(
            "bad-daemon",
            format!("{daemon} is a wildcard of hosts.allow, no daemon"),
        );
        findings.at(&typed.span(), finding.with_try("one daemon's name, such as sshd"));
    }
}

fn check_commands(raw: &RawService, command: bool, span: &Range<usize>, findings: &mut Findings<'_>) {
    if command && items(&raw.open).is_empty() {
        let finding = Finding::error("no-open", "command needs open, the program to run and its arguments");
        let place = raw.open.as_ref().map_or_else(|| span.clone(), Spanned::span);
        findings.absent(
            Some(&place),
            finding.with_try("open = [\"/usr/local/bin/vpn\", \"up\", \"{address}\"]"),
        );
    }
    for (key, list) in [("open", &raw.open), ("close", &raw.close)] {
        let Some((program, arguments)) = items(list).split_first() else {
            continue;
        };
        check_program(key, program, findings);
        for argument in arguments {
            check_argument(argument, findings);
        }
    }
}

fn check_program(key: &str, typed: &Text, findings: &mut Findings<'_>) {
    let program = typed.get_ref();
    if !program.starts_with('/') {
        let text = format!("{key} begins with {program:?}, which is no absolute path");
        let finding = Finding::error("relative-program", text);
        findings.at(
            &typed.span(),
            finding.with_try("the whole path: no shell and no PATH look for it"),
        );
    } else if let Some(word) = placeholders(program).next() {
        let text = format!("{key} takes its program from {{{word}}}, which comes with the knock");
        let finding = Finding::error("program-placeholder", text);
        findings.at(
            &typed.span(),
            finding.with_try("a fixed program, placeholders in its arguments"),
        );
    } else if program.contains('\0') {
        findings.at(
            &typed.span(),
            Finding::error("bad-argument", format!("{key} has a zero octet in it")),
        );
    }
}

fn check_argument(typed: &Text, findings: &mut Findings<'_>) {
    let argument = typed.get_ref();
    if argument.contains('\0') {
        findings.at(
            &typed.span(),
            Finding::error("bad-argument", "an argument has a zero octet in it"),
        );
    }
    for word in placeholders(argument).filter(|word| !PLACEHOLDERS.contains(word)) {
        let finding = Finding::error("unknown-placeholder", format!("{{{word}}} is no placeholder"));
        let all = || PLACEHOLDERS.map(|known| format!("{{{known}}}")).join(" ");
        let remedy = nearest(word, PLACEHOLDERS).map_or_else(all, |near| format!("{{{near}}}"));
        findings.at(&typed.span(), finding.with_try(remedy));
    }
}

/// Every `{word}`; braces around anything but letters, `-` and `_`, as JSON has them, are plain text.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |word: &str| word.bytes().all(|b| b.is_ascii_alphabetic() || b"-_".contains(&b));
    let inside = text
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}').map(|(word, _)| word));
    inside.filter(move |word| is_word(word))
}

fn check_user(raw: &RawService, users: Option<&[String]>, findings: &mut Findings<'_>) {
    let Some(typed) = &raw.user else { return };
    let user = typed.get_ref();
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == ':' || c == '/';
    if user.is_empty() || user.contains(odd) {
        let finding = Finding::error("bad-user", format!("{user:?} is no user name"));
        findings.at(&typed.span(), finding.with_try("user = \"nobody\""));
    } else if users.is_some_and(|users| !users.contains(user)) {
        let finding = Finding::warning("unknown-user", format!("this host knows no user {user}"));
        findings.at(
            &typed.span(),
            finding.with_try(format!("useradd --system {user}, or another user")),
        );
    }
}

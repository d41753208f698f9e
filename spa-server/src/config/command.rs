//! Backends that are told by name and argv: TCP Wrappers' daemon, the commands and their user.

use std::ops::Range;

use toml::Spanned;

use super::code::Code;
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
            findings.at(&span, Finding::warning(Code::IdleKey, text).with_try(remedy));
        }
    }
}

fn check_daemon(raw: &RawService, wrappers: bool, span: &Range<usize>, findings: &mut Findings<'_>) {
    let Some(typed) = &raw.daemon else {
        if wrappers {
            let finding = Finding::error(Code::NoDaemon, "tcp-wrappers needs the daemon's name as in hosts.allow");
            findings.absent(Some(span), finding.with_try("daemon = \"sshd\""));
        }
        return;
    };
    let daemon = typed.get_ref();
    // It becomes a word of hosts.allow and the name of a file.
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if daemon.is_empty() || daemon.starts_with('.') || !daemon.bytes().all(good) {
        let finding = Finding::error(Code::BadDaemon, format!("{daemon:?} is no daemon's name"));
        findings.at(&typed.span(), finding.with_try("letters, digits and . _ - as in sshd"));
    } else if ["ALL", "EXCEPT"].contains(&daemon.as_str()) {
        let finding = Finding::error(
            Code::BadDaemon,
            format!("{daemon} is a wildcard of hosts.allow, no daemon"),
        );
        findings.at(&typed.span(), finding.with_try("one daemon's name, such as sshd"));
    }
}

fn check_commands(raw: &RawService, command: bool, span: &Range<usize>, findings: &mut Findings<'_>) {
    if command && items(&raw.open).is_empty() {
        let finding = Finding::error(Code::NoOpen, "command needs open, the program to run and its arguments");
        let place = raw.open.as_ref().map_or_else(|| span.clone(), Spanned::span);
        findings.absent(
            Some(&place),
            finding.with_try("open = [\"/usr/local/bin/vpn\", \"up\", \"{address}\"]"),
        );
    }
    if let Some(open) = raw.open.as_ref().filter(|open| command && !open.get_ref().is_empty()) {
        warn_open(raw, open.span(), findings);
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

/// What a pair of commands should have besides a program.
fn warn_open(raw: &RawService, open: Range<usize>, findings: &mut Findings<'_>) {
    if raw.user.is_none() {
        let finding = Finding::warning(
            Code::CommandAsRoot,
            "the commands run with all rights of the daemon, as root",
        );
        findings.absent(
            Some(&open),
            finding.with_try("user = \"nobody\", or another user that may do just this"),
        );
    }
    let ends_itself = items(&raw.open)
        .iter()
        .any(|argument| argument.get_ref().contains("{end}"));
    if items(&raw.close).is_empty() && !ends_itself {
        let text = "open is told no {end} and there is no close: what it opens stays open for ever";
        let finding = Finding::warning(Code::NoClose, text);
        findings.absent(
            Some(&open),
            finding.with_try("close = [\"/usr/local/bin/vpn\", \"down\", \"{address}\"]"),
        );
    }
}

fn check_program(key: &str, typed: &Text, findings: &mut Findings<'_>) {
    let program = typed.get_ref();
    if !program.starts_with('/') {
        let text = format!("{key} begins with {program:?}, which is no absolute path");
        let finding = Finding::error(Code::RelativeProgram, text);
        findings.at(
            &typed.span(),
            finding.with_try("the whole path: no shell and no PATH look for it"),
        );
    } else if let Some(word) = placeholders(program).next() {
        let text = format!("{key} takes its program from {{{word}}}, which comes with the knock");
        let finding = Finding::error(Code::ProgramPlaceholder, text);
        findings.at(
            &typed.span(),
            finding.with_try("a fixed program, placeholders in its arguments"),
        );
    } else if program.contains('\0') {
        findings.at(
            &typed.span(),
            Finding::error(Code::BadArgument, format!("{key} has a zero octet in it")),
        );
    }
}

fn check_argument(typed: &Text, findings: &mut Findings<'_>) {
    let argument = typed.get_ref();
    if argument.contains('\0') {
        findings.at(
            &typed.span(),
            Finding::error(Code::BadArgument, "an argument has a zero octet in it"),
        );
    }
    for word in placeholders(argument).filter(|word| !PLACEHOLDERS.contains(word)) {
        let finding = Finding::error(Code::UnknownPlaceholder, format!("{{{word}}} is no placeholder"));
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
        let finding = Finding::error(Code::BadUser, format!("{user:?} is no user name"));
        findings.at(&typed.span(), finding.with_try("user = \"nobody\""));
    } else if users.is_some_and(|users| !users.contains(user)) {
        let finding = Finding::warning(Code::UnknownUser, format!("this host knows no user {user}"));
        findings.at(
            &typed.span(),
            finding.with_try(format!("useradd --system {user}, or another user")),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Code;
    use super::super::load::check as check_file;
    use super::super::testing::{told, told_of_each};

    fn service(backend: &str, keys: &str) -> String {
        format!("gateway.host = \"gw\"\n[[service]]\nname = \"a\"\nbackends = [\"{backend}\"]\n{keys}\n")
    }

    /// A command service that lacks nothing but `keys`.
    fn command(keys: &str) -> String {
        service("command", &format!("{keys}\nuser = \"nobody\"\nclose = [\"/c\"]"))
    }

    #[test]
    fn tcp_wrappers_needs_a_daemon() {
        insta::assert_snapshot!(told(&service("tcp-wrappers", "")), @r#"error no-daemon 2:1 tcp-wrappers needs the daemon's name as in hosts.allow -> daemon = "sshd""#);
        assert_eq!(told(&service("tcp-wrappers", "daemon = \"sshd\"")), "");
    }

    #[test]
    fn what_is_no_daemon() {
        let values = ["", "../x", "sshd: ALL", "sshd@192.0.2.1", "ALL", "EXCEPT"];
        insta::assert_snapshot!(told_of_each(&service("tcp-wrappers", "daemon = \"{}\""), &values), @r#"
        ``
            error bad-daemon 5:10 "" is no daemon's name -> letters, digits and . _ - as in sshd
        `../x`
            error bad-daemon 5:10 "../x" is no daemon's name -> letters, digits and . _ - as in sshd
        `sshd: ALL`
            error bad-daemon 5:10 "sshd: ALL" is no daemon's name -> letters, digits and . _ - as in sshd
        `sshd@192.0.2.1`
            error bad-daemon 5:10 "sshd@192.0.2.1" is no daemon's name -> letters, digits and . _ - as in sshd
        `ALL`
            error bad-daemon 5:10 ALL is a wildcard of hosts.allow, no daemon -> one daemon's name, such as sshd
        `EXCEPT`
            error bad-daemon 5:10 EXCEPT is a wildcard of hosts.allow, no daemon -> one daemon's name, such as sshd
        "#);
    }

    #[test]
    fn command_needs_a_program() {
        insta::assert_snapshot!(told(&service("command", "")), @r#"error no-open 2:1 command needs open, the program to run and its arguments -> open = ["/usr/local/bin/vpn", "up", "{address}"]"#);
        insta::assert_snapshot!(told(&service("command", "open = []")), @r#"error no-open 5:8 command needs open, the program to run and its arguments -> open = ["/usr/local/bin/vpn", "up", "{address}"]"#);
    }

    #[test]
    fn programs_are_fixed_and_absolute() {
        let values = [
            "[\"vpn\", \"up\"]",
            "[\"{address}\"]",
            "[\"/opt/{client}\"]",
            "[\"/a\\u0000b\"]",
            "[\"\"]",
        ];
        insta::assert_snapshot!(told_of_each(&command("open = {}"), &values), @r#"
        `["vpn", "up"]`
            error relative-program 5:9 open begins with "vpn", which is no absolute path -> the whole path: no shell and no PATH look for it
        `["{address}"]`
            error relative-program 5:9 open begins with "{address}", which is no absolute path -> the whole path: no shell and no PATH look for it
        `["/opt/{client}"]`
            error program-placeholder 5:9 open takes its program from {client}, which comes with the knock -> a fixed program, placeholders in its arguments
        `["/a\u0000b"]`
            error bad-argument 5:9 open has a zero octet in it
        `[""]`
            error relative-program 5:9 open begins with "", which is no absolute path -> the whole path: no shell and no PATH look for it
        "#);
        insta::assert_snapshot!(told(&service("command", "open = [\"/a\"]\nuser = \"a\"\nclose = [\"b\"]")), @r#"error relative-program 7:10 close begins with "b", which is no absolute path -> the whole path: no shell and no PATH look for it"#);
    }

    #[test]
    fn arguments_hold_known_placeholders() {
        let good = "open = [\"/a\", \"{address}/{family}\", \"{client}{service}\", \"{end}\", '{\"a\": 1}', \"{\"]";
        assert_eq!(told(&command(good)), "");
        let bad = "open = [\"/a\", \"{adress}\", \"{}\", \"x\\u0000\", \"{colour} {adress}\"]";
        insta::assert_snapshot!(told(&command(bad)), @"
        error unknown-placeholder 5:15 {adress} is no placeholder -> {address}
        error unknown-placeholder 5:27 {} is no placeholder -> {address} {family} {client} {service} {end}
        error bad-argument 5:33 an argument has a zero octet in it
        error unknown-placeholder 5:44 {colour} is no placeholder -> {address} {family} {client} {service} {end}
        error unknown-placeholder 5:44 {adress} is no placeholder -> {address}
        ");
    }

    #[test]
    fn users_are_names_this_host_knows() {
        let values = ["", "a b", "a:b"];
        insta::assert_snapshot!(told_of_each(&service("command", "open = [\"/a\"]\nclose = [\"/a\"]\nuser = \"{}\""), &values), @r#"
        ``
            error bad-user 7:8 "" is no user name -> user = "nobody"
        `a b`
            error bad-user 7:8 "a b" is no user name -> user = "nobody"
        `a:b`
            error bad-user 7:8 "a:b" is no user name -> user = "nobody"
        "#);
        let source = service("command", "open = [\"/a\"]\nclose = [\"/a\"]\nuser = \"vpn\"");
        let (_, findings) = check_file(Path::new("s"), &source, Some(&["root".to_owned()])).unwrap();
        let finding = findings
            .iter()
            .find(|finding| finding.code == Code::UnknownUser)
            .unwrap();
        assert_eq!(finding.text, "this host knows no user vpn");
        let (_, findings) = check_file(Path::new("s"), &source, Some(&["vpn".to_owned()])).unwrap();
        assert_eq!(findings, []);
    }

    #[test]
    fn a_command_has_a_user_and_an_end() {
        insta::assert_snapshot!(told(&service("command", "open = [\"/a\"]")), @r#"
        warning command-as-root 5:8 the commands run with all rights of the daemon, as root -> user = "nobody", or another user that may do just this
        warning no-close 5:8 open is told no {end} and there is no close: what it opens stays open for ever -> close = ["/usr/local/bin/vpn", "down", "{address}"]
        "#);
        assert_eq!(
            told(&service("command", "open = [\"/a\", \"{end}\"]\nuser = \"nobody\"")),
            ""
        );
    }

    #[test]
    fn keys_that_nobody_reads_are_said() {
        let keys = "ports = [\"tcp/22\"]\ndaemon = \"sshd\"\nopen = [\"/a\"]\nclose = [\"/b\"]\nuser = \"root\"";
        insta::assert_snapshot!(told(&service("iptables", keys)), @"
        warning idle-key 6:10 daemon does nothing here: tcp-wrappers is none of the backends -> the service without daemon
        warning idle-key 7:8 open does nothing here: command is none of the backends -> the service without open
        warning idle-key 8:9 close does nothing here: command is none of the backends -> the service without close
        warning idle-key 9:8 user does nothing here: command is none of the backends -> the service without user
        ");
    }
}

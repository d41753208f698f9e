//! `[listen]`: interfaces and ports that knocks come to.

use toml::Spanned;

use super::Listen;
use super::finding::Finding;
use super::findings::Findings;
use super::load::DEFAULT_PORT;
use super::raw::{RawListen, Text};

/// A capture filter grows with each port.
const MOST_PORTS: usize = 8;
/// The kernel's IFNAMSIZ without the closing zero.
const LONGEST_NAME: usize = 15;

pub(super) fn listen(raw: &RawListen, findings: &mut Findings<'_>) -> Listen {
    Listen {
        interfaces: interfaces(raw, findings),
        ports: ports(raw, findings),
    }
}

fn interfaces(raw: &RawListen, findings: &mut Findings<'_>) -> Vec<String> {
    let Some(typed) = &raw.interfaces else {
        return vec!["any".to_owned()];
    };
    if typed.get_ref().is_empty() {
        let finding = Finding::error("no-interface", "interfaces is empty: no knock would ever be heard");
        findings.absent(Some(&typed.span()), finding.with_try("interfaces = [\"any\"]"));
    }
    let mut names: Vec<String> = Vec::new();
    for name in typed.get_ref() {
        check_interface(name, &names, findings);
        names.push(name.get_ref().clone());
    }
    check_any(typed.get_ref(), findings);
    names
}

fn check_interface(typed: &Text, before: &[String], findings: &mut Findings<'_>) {
    let name = typed.get_ref();
    let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    let text = match name.as_str() {
        "" => "an interface name is empty".to_owned(),
        _ if name.len() > LONGEST_NAME => format!("interface {name} is longer than {LONGEST_NAME} octets"),
        "." | ".." => format!("{name} is no interface name"),
        _ if name.contains(odd) => format!("interface {name} has a slash, a blank or a control character in it"),
        _ if before.contains(name) => {
            let finding = Finding::error("duplicate-interface", format!("interface {name} is named twice"));
            return findings.at(&typed.span(), finding.with_try("one of the two"));
        }
        _ => return,
    };
    findings.at(
        &typed.span(),
        Finding::error("bad-interface", text).with_try("a name that `ip link` shows"),
    );
}

fn check_any(names: &[Text], findings: &mut Findings<'_>) {
    let Some(any) = names.iter().find(|name| name.get_ref() == "any") else {
        return;
    };
    if names.iter().any(|name| name.get_ref() != "any") {
        let finding = Finding::error("any-beside-names", "any already means every interface; it stands alone");
        findings.at(
            &any.span(),
            finding.with_try("interfaces = [\"any\"], or the names without any"),
        );
    }
}

fn ports(raw: &RawListen, findings: &mut Findings<'_>) -> Vec<u16> {
    let Some(typed) = &raw.ports else {
        return vec![DEFAULT_PORT];
    };
    let count = typed.get_ref().len();
    if count == 0 {
        let finding = Finding::error("no-listen-port", "ports is empty: no knock would ever be heard");
        findings.absent(
            Some(&typed.span()),
            finding.with_try(format!("ports = [{DEFAULT_PORT}]")),
        );
    }
    if count > MOST_PORTS {
        let text = format!("{count} ports are listened to; at most {MOST_PORTS} can be");
        findings.at(
            &typed.span(),
            Finding::error("too-many-listen-ports", text).with_try("fewer ports"),
        );
    }
    let mut ports = Vec::new();
    for port in typed.get_ref() {
        ports.extend(check_port(port, &ports, findings));
    }
    ports
}

fn check_port(typed: &Spanned<i64>, before: &[u16], findings: &mut Findings<'_>) -> Option<u16> {
    let number = *typed.get_ref();
    let Some(port) = u16::try_from(number).ok().filter(|port| *port != 0) else {
        let finding = Finding::error("bad-listen-port", format!("{number} is no port"));
        findings.at(
            &typed.span(),
            finding.with_try(format!("a number from 1 to 65535, such as {DEFAULT_PORT}")),
        );
        return None;
    };
    if before.contains(&port) {
        let finding = Finding::error("duplicate-listen-port", format!("port {port} is listened to twice"));
        findings.at(&typed.span(), finding.with_try("one of the two"));
    }
    Some(port)
}

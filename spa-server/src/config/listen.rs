//! `[listen]`: interfaces and ports that knocks come to.

use toml::Spanned;

use super::Listen;
use super::code::Code;
use super::defaults::DEFAULT_PORT;
use super::finding::Finding;
use super::findings::Findings;
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
        let finding = Finding::error(Code::NoInterface, "interfaces is empty: no knock would ever be heard");
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
            let finding = Finding::error(Code::DuplicateInterface, format!("interface {name} is named twice"));
            return findings.at(&typed.span(), finding.with_try("one of the two"));
        }
        _ => return,
    };
    findings.at(
        &typed.span(),
        Finding::error(Code::BadInterface, text).with_try("a name that `ip link` shows"),
    );
}

fn check_any(names: &[Text], findings: &mut Findings<'_>) {
    let Some(any) = names.iter().find(|name| name.get_ref() == "any") else {
        return;
    };
    if names.iter().any(|name| name.get_ref() != "any") {
        let finding = Finding::error(
            Code::AnyBesideNames,
            "any already means every interface; it stands alone",
        );
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
        let finding = Finding::error(Code::NoListenPort, "ports is empty: no knock would ever be heard");
        findings.absent(
            Some(&typed.span()),
            finding.with_try(format!("ports = [{DEFAULT_PORT}]")),
        );
    }
    if count > MOST_PORTS {
        let text = format!("{count} ports are listened to; at most {MOST_PORTS} can be");
        findings.at(
            &typed.span(),
            Finding::error(Code::TooManyListenPorts, text).with_try("fewer ports"),
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
        let finding = Finding::error(Code::BadListenPort, format!("{number} is no port"));
        findings.at(
            &typed.span(),
            finding.with_try(format!("a number from 1 to 65535, such as {DEFAULT_PORT}")),
        );
        return None;
    };
    if before.contains(&port) {
        let finding = Finding::error(Code::DuplicateListenPort, format!("port {port} is listened to twice"));
        findings.at(&typed.span(), finding.with_try("one of the two"));
    }
    Some(port)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{told, told_of_each, with_tables};
    use super::super::{Config, Listen};

    const INTERFACES: &str = "gateway.host = \"gw\"\n[listen]\ninterfaces = {}";
    const PORTS: &str = "gateway.host = \"gw\"\n[listen]\nports = {}";

    #[test]
    fn unless_written_it_is_one_port_on_any() {
        let (config, _) = Config::from_text("server.toml", &with_tables("")).unwrap();
        assert_eq!(
            config.listen,
            Listen {
                interfaces: vec!["any".into()],
                ports: vec![62201]
            }
        );
    }

    #[test]
    fn names_and_ports_are_kept() {
        assert_eq!(
            told(&with_tables(
                "gateway.host = \"gw\"\n[listen]\ninterfaces = [\"eth0\", \"br-lan\"]"
            )),
            ""
        );
        assert_eq!(
            told(&with_tables(
                "gateway.host = \"gw\"\n[listen]\nports = [1, 2, 3, 4, 5, 6, 7, 65535]"
            )),
            ""
        );
    }

    #[test]
    fn what_are_no_interfaces() {
        let lists = [
            "[]",
            "[\"\"]",
            "[\"sixteen-letters!\"]",
            "[\"a/b\"]",
            "[\"a b\"]",
            "[\"..\"]",
            "[\"eth0\", \"eth0\"]",
            "[\"eth0\", \"any\"]",
        ];
        insta::assert_snapshot!(told_of_each(&with_tables(INTERFACES), &lists), @r#"
        `[]`
            error no-interface 3:14 interfaces is empty: no knock would ever be heard -> interfaces = ["any"]
        `[""]`
            error bad-interface 3:15 an interface name is empty -> a name that `ip link` shows
        `["sixteen-letters!"]`
            error bad-interface 3:15 interface sixteen-letters! is longer than 15 octets -> a name that `ip link` shows
        `["a/b"]`
            error bad-interface 3:15 interface a/b has a slash, a blank or a control character in it -> a name that `ip link` shows
        `["a b"]`
            error bad-interface 3:15 interface a b has a slash, a blank or a control character in it -> a name that `ip link` shows
        `[".."]`
            error bad-interface 3:15 .. is no interface name -> a name that `ip link` shows
        `["eth0", "eth0"]`
            error duplicate-interface 3:23 interface eth0 is named twice -> one of the two
        `["eth0", "any"]`
            error any-beside-names 3:23 any already means every interface; it stands alone -> interfaces = ["any"], or the names without any
        "#);
    }

    #[test]
    fn what_are_no_ports_to_listen_to() {
        let lists = [
            "[]",
            "[0]",
            "[65536]",
            "[-1]",
            "[5, 6, 5]",
            "[1, 2, 3, 4, 5, 6, 7, 8, 9]",
        ];
        insta::assert_snapshot!(told_of_each(&with_tables(PORTS), &lists), @"
        `[]`
            error no-listen-port 3:9 ports is empty: no knock would ever be heard -> ports = [62201]
        `[0]`
            error bad-listen-port 3:10 0 is no port -> a number from 1 to 65535, such as 62201
        `[65536]`
            error bad-listen-port 3:10 65536 is no port -> a number from 1 to 65535, such as 62201
        `[-1]`
            error bad-listen-port 3:10 -1 is no port -> a number from 1 to 65535, such as 62201
        `[5, 6, 5]`
            error duplicate-listen-port 3:16 port 5 is listened to twice -> one of the two
        `[1, 2, 3, 4, 5, 6, 7, 8, 9]`
            error too-many-listen-ports 3:9 9 ports are listened to; at most 8 can be -> fewer ports
        ");
    }
}

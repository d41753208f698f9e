//! What `spa-server check` says: the findings, who could open what, what would be hidden.

use std::fmt::Write;

use serde::Serialize;

use crate::config::{Code, Colour, Config, Finding, render};
use spa_keys::escape::escape;

/// The exit code for a configuration that cannot be used.
pub const BAD_CONFIGURATION: u8 = 78;
/// The exit code for a file that this user may not read.
pub const NO_PERMISSION: u8 = 77;

/// What one client may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The client's name.
    pub client: String,
    /// The services its file names, existing or not.
    pub services: Vec<String>,
}

/// One service whose ports nobody sees without a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// The service's name.
    pub service: String,
    /// Its ports, such as `tcp/22`.
    pub ports: Vec<String>,
}

/// Everything there is to say; its JSON form is the answer to `check --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// No finding is an error.
    pub ok: bool,
    /// What was found: about server.toml in the order of the file, then about server.toml and clients together.
    pub findings: Vec<Finding>,
    /// Who could open what.
    pub access: Vec<Access>,
    /// What would be hidden; nothing when the configuration is no good.
    pub hidden: Vec<Hidden>,
}

impl Report {
    /// From what loading server.toml gave and what the clients' files say.
    #[must_use]
    pub fn new(loaded: Result<(Config, Vec<Finding>), Vec<Finding>>, access: Vec<Access>) -> Self {
        let (findings, hidden) = match loaded {
            Ok((config, mut findings)) => {
                findings.extend(strangers(&config, &access));
                findings.extend(nobodys(&config, &access));
                (findings, hidden(&config))
            }
            Err(findings) => (findings, Vec::new()),
        };
        let ok = !findings.iter().any(Finding::is_error);
        Self {
            ok,
            findings,
            access,
            hidden,
        }
    }

    /// The same with more findings, such as those about broken client files.
    #[must_use]
    pub fn with(mut self, more: Vec<Finding>) -> Self {
        self.findings.extend(more);
        self.ok = !self.findings.iter().any(Finding::is_error);
        self
    }

    /// 0, or what stands in the way.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        exit_code(&self.findings)
    }

    /// For people: findings, two tables, and how it stands in one line.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        let mut text = render(&self.findings, colour);
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&table("client", "may open", &self.access_rows()));
        text.push_str(&table(
            "service",
            "hidden from everybody without a grant",
            &self.hidden_rows(),
        ));
        text.push_str(&self.summary());
        text
    }

    fn access_rows(&self) -> Vec<[String; 2]> {
        let row = |access: &Access| [access.client.clone(), listed(&access.services)];
        self.access.iter().map(row).collect()
    }

    fn hidden_rows(&self) -> Vec<[String; 2]> {
        let row = |hidden: &Hidden| [hidden.service.clone(), listed(&hidden.ports)];
        self.hidden.iter().map(row).collect()
    }

    fn summary(&self) -> String {
        let errors = self.findings.iter().filter(|finding| finding.is_error()).count();
        let warnings = self.findings.len() - errors;
        format!("{}, {}\n", counted(errors, "error"), counted(warnings, "warning"))
    }
}

/// 0 without an error among the findings; 77 when the only ones are files this user may not read; else 78.
#[must_use]
pub fn exit_code(findings: &[Finding]) -> u8 {
    let mut errors = findings.iter().filter(|finding| finding.is_error()).peekable();
    if errors.peek().is_none() {
        return 0;
    }
    if errors.all(|finding| finding.code == Code::NoPermission) {
        NO_PERMISSION
    } else {
        BAD_CONFIGURATION
    }
}

/// Clients that name services nobody has.
fn strangers(config: &Config, access: &[Access]) -> Vec<Finding> {
    let known = |name: &&String| config.services.iter().any(|service| service.name == **name);
    let mut findings = Vec::new();
    for client in access {
        for service in client.services.iter().filter(|name| !known(name)) {
            let text = format!(
                "client {} names the service {service}, which does not exist",
                client.client
            );
            let remedy = format!("spa-keys set {} --services with those that do", client.client);
            findings.push(Finding::warning(Code::UnknownService, text).with_try(remedy));
        }
    }
    findings
}

/// Services that are hidden while no client may open them.
fn nobodys(config: &Config, access: &[Access]) -> Vec<Finding> {
    let opened = |name: &String| access.iter().any(|client| client.services.contains(name));
    let lost = config
        .services
        .iter()
        .filter(|service| service.protect && !opened(&service.name));
    lost.map(|service| nobodys_finding(&service.name, config.lock_out.always_allow.is_empty()))
        .collect()
}

fn nobodys_finding(name: &str, shut: bool) -> Finding {
    let text = if shut {
        format!("service {name} is hidden, no client may open it, and always-allow is empty: nobody gets in at all")
    } else {
        format!("service {name} is hidden and no client may open it: only always-allow gets in")
    };
    Finding::warning(Code::NobodysService, text).with_try(format!("spa-keys invite NAME --services {name}"))
}

fn hidden(config: &Config) -> Vec<Hidden> {
    let protected = config.services.iter().filter(|service| service.protect);
    let row = |service: &crate::config::Service| Hidden {
        service: service.name.clone(),
        ports: service.ports.iter().map(ToString::to_string).collect(),
    };
    protected.map(row).collect()
}

/// Two aligned columns under their heads and an empty line; nothing without rows.
fn table(left: &str, right: &str, rows: &[[String; 2]]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let rows: Vec<_> = rows.iter().map(|[left, right]| (escape(left), escape(right))).collect();
    let widest = rows
        .iter()
        .map(|(left, _)| left.chars().count())
        .chain([left.len()])
        .max()
        .unwrap_or(0);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{left:widest$}  {right}");
    for (left, right) in rows {
        let _ = writeln!(text, "{left:widest$}  {right}");
    }
    text + "\n"
}

fn listed(items: &[String]) -> String {
    if items.is_empty() {
        "nothing".to_owned()
    } else {
        items.join(", ")
    }
}

fn counted(number: usize, word: &str) -> String {
    match number {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.7\"]\n\
        [[service]]\nname = \"ssh\"\nbackends = [\"iptables\"]\nports = [\"tcp/22\", \"tcp/2200-2210\"]\nprotect = true\n\
        [[service]]\nname = \"web\"\nbackends = [\"iptables\"]\nports = [\"tcp/80\"]\n";

    fn client(name: &str, services: &[&str]) -> Access {
        Access {
            client: name.to_owned(),
            services: services.iter().map(ToString::to_string).collect(),
        }
    }

    fn report(text: &str, access: &[Access]) -> Report {
        Report::new(Config::from_text("server.toml", text), access.to_vec())
    }

    #[test]
    fn a_good_file_shows_who_and_what() {
        let report = report(TWO, &[client("anna-phone", &["ssh", "web"]), client("bo", &[])]);
        assert_eq!(report.exit_code(), 0);
        insta::assert_snapshot!(report.render(Colour::Never), @"
        client      may open
        anna-phone  ssh, web
        bo          nothing

        service  hidden from everybody without a grant
        ssh      tcp/22, tcp/2200-2210

        no errors, no warnings
        ");
        insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"ok":true,"findings":[],"access":[{"client":"anna-phone","services":["ssh","web"]},{"client":"bo","services":[]}],"hidden":[{"service":"ssh","ports":["tcp/22","tcp/2200-2210"]}]}"#);
    }

    #[test]
    fn a_bad_file_hides_nothing_and_ends_with_78() {
        let report = report(&TWO.replace("tcp/80", "tcp/0"), &[client("bo", &["ssh"])]);
        assert_eq!(report.exit_code(), 78);
        insta::assert_snapshot!(report.render(Colour::Never), @r#"
        error[bad-port]: "tcp/0" names port 0, which nobody can reach
          --> server.toml:11:10
           |
        11 | ports = ["tcp/0"]
           |          ^^^^^^^
        try: tcp/22, or udp/60000-61000

        client  may open
        bo      ssh

        1 error, no warnings
        "#);
        insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"ok":false,"findings":[{"level":"error","file":"server.toml","line":11,"column":10,"code":"bad-port","text":"\"tcp/0\" names port 0, which nobody can reach","try":"tcp/22, or udp/60000-61000"}],"access":[{"client":"bo","services":["ssh"]}],"hidden":[]}"#);
    }

    #[test]
    fn hidden_services_want_somebody() {
        insta::assert_snapshot!(report(TWO, &[client("bo", &["web", "db"])]).render(Colour::Never), @"
        warning[unknown-service]: client bo names the service db, which does not exist
        try: spa-keys set bo --services with those that do

        warning[nobodys-service]: service ssh is hidden and no client may open it: only always-allow gets in
        try: spa-keys invite NAME --services ssh

        client  may open
        bo      web, db

        service  hidden from everybody without a grant
        ssh      tcp/22, tcp/2200-2210

        no errors, 2 warnings
        ");
        let alone = TWO.replace("always-allow = [\"192.0.2.7\"]", "allow-no-way-back = true");
        insta::assert_snapshot!(report(&alone, &[]).render(Colour::Never), @r#"
        warning[way-back-waived]: always-allow is empty: if knocking fails, a lost key or a wrong clock say, nobody gets in but at the console
         --> server.toml:2:30
          |
        2 | lock-out.allow-no-way-back = true
          |                              ^^^^
        try: always-allow = ["ADDRESS/LENGTH"] with an address you can always come from

        warning[nobodys-service]: service ssh is hidden, no client may open it, and always-allow is empty: nobody gets in at all
        try: spa-keys invite NAME --services ssh

        service  hidden from everybody without a grant
        ssh      tcp/22, tcp/2200-2210

        no errors, 2 warnings
        "#);
    }

    #[test]
    fn names_from_files_do_not_steer_the_terminal() {
        assert!(
            !report(TWO, &[client("a\x1b[2J", &["b\x07"])])
                .render(Colour::Never)
                .contains(['\x1b', '\x07'])
        );
    }

    #[test]
    fn only_unreadable_files_end_with_77() {
        let denied = Finding::error(Code::NoPermission, "");
        assert_eq!(exit_code(&[denied.clone(), Finding::warning(Code::NoHost, "")]), 77);
        assert_eq!(exit_code(&[denied, Finding::error(Code::BadPort, "")]), 78);
        assert_eq!(exit_code(&[Finding::warning(Code::NoHost, "")]), 0);
        let report = report(TWO, &[]).with(vec![Finding::error(Code::BrokenFile, "")]);
        assert_eq!((report.ok, report.exit_code()), (false, 78));
    }
}

//! The commented server.toml that `spa-server init` writes.

use std::fmt::{self, Write};
use std::str::FromStr;

use ipnet::IpNet;

use super::{DEFAULT_PORT, PortRange, Protocol};

/// What a new server.toml is made of. Nothing is checked here: load the text, and its findings say what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What invites say.
    pub host: Option<String>,
    /// The UDP port that knocks go to.
    pub port: u16,
    /// At least one, each protected.
    pub services: Vec<ServiceArgument>,
    /// The way back in.
    pub always_allow: Vec<IpNet>,
    /// Go without one.
    pub no_way_back: bool,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            host: None,
            port: DEFAULT_PORT,
            services: vec![ServiceArgument::ssh()],
            always_allow: Vec::new(),
            no_way_back: false,
        }
    }
}

/// A service as typed on the command line: `ssh=tcp/22`, `web=tcp/80,tcp/443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceArgument {
    /// What stands before the first `=`.
    pub name: String,
    /// At least one.
    pub ports: Vec<PortRange>,
}

impl ServiceArgument {
    /// `ssh=tcp/22`
    #[must_use]
    pub fn ssh() -> Self {
        let port = PortRange {
            protocol: Protocol::Tcp,
            first: 22,
            last: 22,
        };
        Self {
            name: "ssh".to_owned(),
            ports: vec![port],
        }
    }
}

impl FromStr for ServiceArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, ports)) = text.split_once('=') else {
            return Err("a service is written NAME=PORTS, such as ssh=tcp/22".to_owned());
        };
        let read = |port: &str| port.parse().map_err(|error| format!("{port:?} {error}"));
        let ports = ports.split(',').map(read).collect::<Result<_, String>>()?;
        Ok(Self {
            name: name.to_owned(),
            ports,
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        match &self.host {
            Some(host) => writeln!(f, "host = {}", quoted(host))?,
            None => f.write_str("# host = \"gw.example.net\"\n")?,
        }
        write!(f, "{LISTEN}ports = [{}]\n{ALWAYS_ALLOW}", self.port)?;
        writeln!(f, "always-allow = [{}]", list(&self.always_allow))?;
        write!(f, "{NO_WAY_BACK}allow-no-way-back = {}\n{KEEP_DOORS}", self.no_way_back)?;
        f.write_str(NFTABLES)?;
        f.write_str(SCAN_GUARD)?;
        f.write_str(LOG)?;
        f.write_str(METRICS)?;
        let texts = self.services.iter().map(service_text).enumerate();
        texts
            .map(|(n, text)| if n == 0 { text } else { uncommented(&text) })
            .try_for_each(|text| f.write_str(&text))?;
        f.write_str(SEQUENCE)
    }
}

fn service_text(service: &ServiceArgument) -> String {
    let (name, ports) = (quoted(&service.name), list(&service.ports));
    format!("{NAME}name = {name}\n{BACKENDS}ports = [{ports}]\n{REST}")
}

/// What has been explained once.
fn uncommented(text: &str) -> String {
    text.split_inclusive('\n')
        .filter(|line| !line.starts_with('#'))
        .collect()
}

fn list<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(|item| quoted(&item.to_string()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A TOML basic string; whatever a terminal or a reviewer could be fooled by is spelt out.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "\\U{:08X}", u32::from(c))),
        }
    }
    out + "\""
}

const HEAD: &str = r"# server.toml: what this gateway opens, and how its owner gets back in.
#
# Unknown keys are errors. Durations carry their unit: 90s, 15m, 8h, 30d.
# After every change:  spa-server check                  says all that is wrong with it
#                      spa-server apply --confirm 2m     loads it; what is wrong with it leaves the old one in force
#                      spa-server confirm                keeps it, once a new connection works; else the old one comes
#                                                        back by itself

[gateway]
# The name or address that invites carry. Without it invites cannot say where to knock.
";

const LISTEN: &str = r#"
[listen]
# Where knocks are heard: "any", or names. An interface that is missing or down is waited for.
# A mistake here costs the way in by knocking: only always-allow is left.
interfaces = ["any"]
# UDP ports that knocks go to, at most 8. Invites and profiles carry them: after a change those already handed out
# knock in vain.
"#;

const ALWAYS_ALLOW: &str = r"
[lock-out]
# Addresses and networks that every protected service stays open to, whatever happens: the way back in.
# A mistake here can cost all access but the console. Write addresses you can always come from.
";

const NO_WAY_BACK: &str = r"# Protecting a service while always-allow is empty is refused unless this is true. With true, a lost key, a wrong
# clock or a stopped daemon means nobody gets in but at the console.
";

const KEEP_DOORS: &str = r"# true: a stop or restart of the daemon leaves open doors open until their end. false: a stop shuts them, also the one
# you came in by. Protection stays in either case.
keep-doors = true
";

const NAME: &str = r"
[[service]]
# What clients ask for by name: at most 24 of a-z, 0-9 and . _ -
";

const NFTABLES: &str = r#"
# Where the host's own nftables ruleset drops, an accept in a table of our own does not help: name a chain of it, and the
# rules go there. Unless it is there, a table of our own serves. A mistake here costs the way in by knocking.
# [nftables]
# table = "inet filter"
# chain = "input"
"#;

const SCAN_GUARD: &str = r#"
# Tells of port scanners, in the log and in `spa-server status`. With mode = "ban" it also shuts them out of every port of
# this host, always-allow and holders of grants never. A ban can hit an innocent whose address somebody forged, so begin
# with report. A decoy is a port on which nothing serves and the daemon answers: proof of who is there, but an open port.
# [scan-guard]
# mode = "report"
# decoys = ["tcp/23"]
"#;

const LOG: &str = r#"
# Logs go to stderr as text; "json" writes one object a line, "journal" speaks to journald, with fields. The audit log, who
# could reach what and when, is kept in so many files of this size: read docs/audit.md.
# [log]
# format = "text"
# level = "info"
# [audit]
# file-size = "16MiB"
# files = 16
"#;

const METRICS: &str = r#"
# Counters for Prometheus, to this host alone: at a loopback address, or a socket = "/run/spa/metrics.sock".
# [metrics]
# listen = "127.0.0.1:9798"
"#;

const BACKENDS: &str = r#"# What makes a grant real: "iptables", "nftables", "tcp-wrappers", "command", any mix.
backends = ["iptables"]
# What the service listens on: "tcp/22", "udp/60000-61000".
"#;

const REST: &str = r#"# true hides these ports from everybody without a grant. A mistake here, a wrong port say, hides another service than
# the one you meant: nobody reaches it without a grant but from always-allow.
protect = true
# How long new connections may begin after a knock that does not say. Too short, and nobody gets in in time.
duration = "30s"
# The longest a client may ask for, at most 24d.
max-duration = "8h"
# "keep": connections that stand when a grant ends go on.
at-end = "keep"
# Whose packets are judged: "INPUT" those to this host. "FORWARD" those to published container ports, or "DOCKER-USER"
# where Docker runs; `ports` are then the published ones. A mistake here leaves the ports open to everybody.
chain = "INPUT"
# Only packets to these own addresses are judged; empty means all. The ports stay open on any other address.
to = []
"#;

const SEQUENCE: &str = r#"
# Where no client program can be had: packets to ports in an order open one service. Read docs/sequences.md first: what is
# always the same can be recorded and repeated by whoever sees it once. rolling = true with a key costs less.
# [[sequence]]
# name = "card"
# service = "ssh"
# rolling = true
# step = "1d"
"#;

#[cfg(test)]
mod tests {
    use super::super::{Code, Config, Finding};
    use super::*;
    use proptest::prelude::*;

    fn template(services: &[&str], always_allow: &[&str]) -> Template {
        Template {
            host: Some("gw.example.net".to_owned()),
            services: services.iter().map(|text| text.parse().unwrap()).collect(),
            always_allow: always_allow.iter().map(|text| text.parse().unwrap()).collect(),
            ..Template::default()
        }
    }

    /// What a loaded configuration was made of.
    fn back(config: &Config) -> Template {
        let services = config.services.iter();
        Template {
            host: config.host.clone(),
            port: config.listen.ports[0],
            services: services
                .map(|s| ServiceArgument {
                    name: s.name.clone(),
                    ports: s.ports.clone(),
                })
                .collect(),
            always_allow: config.lock_out.always_allow.clone(),
            no_way_back: config.lock_out.allow_no_way_back,
        }
    }

    #[test]
    fn what_is_written_loads_without_a_finding() {
        let sets = [
            template(&["ssh=tcp/22"], &["192.0.2.7/32"]),
            template(
                &["ssh=tcp/22,tcp/2222", "mosh=udp/60000-61000"],
                &["192.0.2.0/28", "2001:db8::/48"],
            ),
            Template {
                port: 1,
                ..template(&["a.b_c-d=tcp/1-65535"], &["2001:db8::7/128"])
            },
        ];
        for set in sets {
            let (config, findings) = Config::from_text("server.toml", &set.to_string()).unwrap();
            assert_eq!(findings, []);
            assert_eq!(back(&config), set);
            assert!(config.services.iter().all(|service| service.protect));
        }
    }

    #[test]
    fn going_without_a_way_back_is_written_and_warned_of() {
        let set = Template {
            no_way_back: true,
            ..Template::default()
        };
        let (config, findings) = Config::from_text("server.toml", &set.to_string()).unwrap();
        assert_eq!(back(&config), set);
        let codes: Vec<_> = findings.iter().map(|finding| finding.code.name()).collect();
        assert_eq!(codes, ["way-back-waived", "no-host"]);
    }

    #[test]
    fn without_a_way_back_check_says_so() {
        let findings = Config::from_text("server.toml", &Template::default().to_string()).unwrap_err();
        let errors: Vec<_> = findings
            .iter()
            .filter(|finding| finding.is_error())
            .map(|f| f.code.name())
            .collect();
        assert_eq!(errors, ["no-way-back"]);
    }

    #[test]
    fn service_arguments_are_names_and_ports() {
        assert_eq!("ssh=tcp/22".parse(), Ok(ServiceArgument::ssh()));
        let refused = |text: &str| text.parse::<ServiceArgument>().unwrap_err();
        assert_eq!(refused("ssh"), "a service is written NAME=PORTS, such as ssh=tcp/22");
        assert_eq!(refused("ssh=22"), "\"22\" does not say tcp or udp");
        assert_eq!(refused("ssh=tcp/22,"), "\"\" does not say tcp or udp");
    }

    proptest! {
        #[test]
        fn hostile_words_stay_words(host: String, name in "[^=]*") {
            let services = vec![ServiceArgument { name: name.clone(), ..ServiceArgument::ssh() }];
            let text = Template { host: Some(host.clone()), services, ..Template::default() }.to_string();
            let table: toml::Table = text.parse().unwrap();
            prop_assert_eq!(table["gateway"]["host"].as_str(), Some(host.as_str()));
            prop_assert_eq!(table["service"][0]["name"].as_str(), Some(name.as_str()));
            let findings = Config::from_text("server.toml", &text).err().unwrap_or_default();
            prop_assert!(!findings.iter().any(|finding: &Finding| finding.code == Code::Syntax));
        }
    }
}

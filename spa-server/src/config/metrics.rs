//! `[metrics]`: where Prometheus may ask. Nothing is listened to without it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::raw::{RawConfig, Text};

const LISTEN: &str = "127.0.0.1:9798";
const SOCKET: &str = "/run/spa/metrics.sock";
/// The kernel's `sun_path` without the closing zero, and without what the name is longer by while it is made.
const LONGEST_PATH: usize = 107 - 12;
/// The daemon's own, which a socket of the same name would take the place of.
const CONTROL: &str = "control.sock";

/// Where the metrics are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metrics {
    /// A loopback address and its TCP port, not 0.
    Listen(SocketAddr),
    /// An absolute path.
    Socket(PathBuf),
}

/// What is written, or nothing when the section is not there.
pub(super) fn metrics(raw: &RawConfig, findings: &mut Findings<'_>) -> Option<Metrics> {
    let section = raw.metrics.as_ref()?;
    match (&section.get_ref().listen, &section.get_ref().socket) {
        (Some(listen), None) => address(listen, findings).map(Metrics::Listen),
        (None, Some(socket)) => path(socket, findings).map(Metrics::Socket),
        (Some(_), Some(socket)) => {
            let finding = Finding::error(Code::MetricsTwice, "listen and socket are both written");
            findings.at(&socket.span(), finding.with_try("one of the two"));
            None
        }
        (None, None) => {
            let text = "neither listen nor socket is written";
            let finding = Finding::error(Code::MetricsNowhere, text).with_try(format!("listen = \"{LISTEN}\""));
            findings.absent(Some(&section.span()), finding);
            None
        }
    }
}

fn address(typed: &Text, findings: &mut Findings<'_>) -> Option<SocketAddr> {
    let text = typed.get_ref();
    let finding = match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Finding::error(Code::BadMetrics, "port 0 is no port that could be asked"),
        Ok(address) if address.ip().is_loopback() => return Some(address),
        Ok(address) => {
            let text = format!("{address} can be reached from elsewhere: metrics are for this host alone");
            Finding::error(Code::MetricsNotLocal, text)
        }
        Err(_) => Finding::error(Code::BadMetrics, format!("{text:?} is no address with a port")),
    };
    findings.at(&typed.span(), finding.with_try(LISTEN));
    None
}

fn path(typed: &Text, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let path = Path::new(typed.get_ref());
    let finding = if !path.is_absolute() {
        Finding::error(Code::RelativePath, "the path does not begin with a slash")
    } else if typed.get_ref().contains('\0') || path.as_os_str().len() > LONGEST_PATH {
        let text = format!("the path has a zero octet in it, or more than {LONGEST_PATH} octets");
        Finding::error(Code::BadMetrics, text)
    } else if path.file_name().is_none_or(|name| name == CONTROL) {
        Finding::error(
            Code::BadMetrics,
            format!("a socket cannot be named so: {CONTROL} is the daemon's own"),
        )
    } else {
        return Some(path.to_owned());
    };
    findings.at(&typed.span(), finding.with_try(SOCKET));
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::{told_of_each, with_tables};
    use super::super::{Config, Metrics};

    fn read(keys: &str) -> Option<Metrics> {
        let tables = format!("gateway.host = \"gw\"\n{keys}");
        Config::from_text("server.toml", &with_tables(&tables))
            .unwrap()
            .0
            .metrics
    }

    #[test]
    fn off_unless_written() {
        assert_eq!(read(""), None);
        let v6 = read("[metrics]\nlisten = \"[::1]:9798\"");
        assert_eq!(v6, Some(Metrics::Listen("[::1]:9798".parse().unwrap())));
        let socket = read("[metrics]\nsocket = \"/run/spa/metrics.sock\"");
        assert_eq!(socket, Some(Metrics::Socket("/run/spa/metrics.sock".into())));
    }

    #[test]
    fn only_this_host_may_ask() {
        let template = with_tables("gateway.host = \"gw\"\n[metrics]\nlisten = {}");
        let values = [
            "\"0.0.0.0:9798\"",
            "\"[::]:9798\"",
            "\"192.0.2.1:9798\"",
            "\"127.0.0.1\"",
            "\"127.0.0.1:0\"",
            "\"localhost:9798\"",
        ];
        insta::assert_snapshot!(told_of_each(&template, &values), @r#"
        `"0.0.0.0:9798"`
            error metrics-not-local 3:10 0.0.0.0:9798 can be reached from elsewhere: metrics are for this host alone -> 127.0.0.1:9798
        `"[::]:9798"`
            error metrics-not-local 3:10 [::]:9798 can be reached from elsewhere: metrics are for this host alone -> 127.0.0.1:9798
        `"192.0.2.1:9798"`
            error metrics-not-local 3:10 192.0.2.1:9798 can be reached from elsewhere: metrics are for this host alone -> 127.0.0.1:9798
        `"127.0.0.1"`
            error bad-metrics 3:10 "127.0.0.1" is no address with a port -> 127.0.0.1:9798
        `"127.0.0.1:0"`
            error bad-metrics 3:10 port 0 is no port that could be asked -> 127.0.0.1:9798
        `"localhost:9798"`
            error bad-metrics 3:10 "localhost:9798" is no address with a port -> 127.0.0.1:9798
        "#);
    }

    #[test]
    fn what_are_no_sockets() {
        let template = with_tables("gateway.host = \"gw\"\n[metrics]\nsocket = {}");
        let values = [
            "\"metrics.sock\"",
            "\"/\"",
            "\"/run/spa/control.sock\"",
            "\"/run/\\u0000\"",
        ];
        insta::assert_snapshot!(told_of_each(&template, &values), @r#"
        `"metrics.sock"`
            error relative-path 3:10 the path does not begin with a slash -> /run/spa/metrics.sock
        `"/"`
            error bad-metrics 3:10 a socket cannot be named so: control.sock is the daemon's own -> /run/spa/metrics.sock
        `"/run/spa/control.sock"`
            error bad-metrics 3:10 a socket cannot be named so: control.sock is the daemon's own -> /run/spa/metrics.sock
        `"/run/\u0000"`
            error bad-metrics 3:10 the path has a zero octet in it, or more than 95 octets -> /run/spa/metrics.sock
        "#);
    }
}

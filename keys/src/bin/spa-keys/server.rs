//! What the commands need of server.toml, and nothing more: the daemon judges the rest.

use std::path::Path;

use serde::Deserialize;
use spa_keys::file::{Limits, read_text};
use spa_keys::rolling::RollingTyped;
use spa_keys::{Exit, Failure, Fault, Host, LoadError, ServiceHint, ServiceHints, ServicePort};
use spa_proto::ServiceName;
use spa_proto::sequence::Rolling;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const STANDARD_PORT: u16 = 62201;

/// The gateway as server.toml describes it.
#[derive(Debug)]
pub struct Server {
    pub host: Option<Host>,
    pub ports: Vec<u16>,
    pub services: Vec<ServiceHint>,
}

impl Server {
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = read_text(path, Limits::CONFIG).map_err(|error| {
            let absent = error.is_absent();
            let failure = Failure::from(error);
            if absent {
                failure.hint("spa-server init")
            } else {
                failure
            }
        })?;
        Self::parse(&text).map_err(|fault| LoadError::fault(path, fault).into())
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let file = DeTable::parse(text)
            .map_err(|error| Fault::at(text, &error.span().unwrap_or_default(), error.message()))?;
        let file = file.get_ref();
        Ok(Self {
            host: host(text, file)?,
            ports: ports(text, file)?,
            services: services(file),
        })
    }

    /// Refuses services that do not exist here.
    pub fn check(&self, services: &[ServiceName]) -> Result<(), Failure> {
        let exists = |name: &&ServiceName| self.services.iter().any(|hint| hint.name == **name);
        let Some(missing) = services.iter().find(|name| !exists(name)) else {
            return Ok(());
        };
        let known: Vec<String> = self.services.iter().map(|hint| hint.name.to_string()).collect();
        let failure = Failure::new(
            Exit::Config,
            format_args!("the service {missing} does not exist in server.toml"),
        );
        Err(failure.hint(match known.len() {
            0 => "a [[service]] in server.toml".to_owned(),
            _ => format!("one of these: {}", known.join(", ")),
        }))
    }

    /// The services with what is known of where they answer; without that where it does not fit into an invite.
    pub fn hints(&self, services: &[ServiceName]) -> Result<ServiceHints, Failure> {
        let hint = |name: &ServiceName| self.services.iter().find(|hint| hint.name == *name).cloned();
        let bare = |name: &ServiceName| ServiceHint {
            name: name.clone(),
            port: None,
        };
        ServiceHints::new(
            services
                .iter()
                .map(|name| hint(name).unwrap_or_else(|| bare(name)))
                .collect(),
        )
        .or_else(|_| ServiceHints::new(services.iter().map(bare).collect()))
        .map_err(|error| Failure::new(Exit::Usage, error).hint("a shorter list of services"))
    }
}

/// One rolling sequence as server.toml describes it.
#[derive(Debug)]
pub struct RollingServer {
    pub host: Option<Host>,
    pub service: String,
    pub rolling: Rolling,
}

/// The part of server.toml that describes sequences; all else is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSequences {
    sequence: Vec<RawSequence>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct RawSequence {
    name: String,
    service: String,
    rolling: bool,
    range: Option<String>,
    except: Vec<i64>,
    length: Option<i64>,
    step: Option<String>,
    transport: Option<String>,
}

impl RollingServer {
    pub fn load(path: &Path, name: &str) -> Result<Self, Failure> {
        let host = Server::load(path)?.host;
        let text = read_text(path, Limits::CONFIG)?;
        let raw: RawSequences = toml::from_str(&text).map_err(|error| {
            let fault = Fault::at(&text, &error.span().unwrap_or_default(), error.message());
            Failure::from(LoadError::fault(path, fault))
        })?;
        let found = raw.sequence.into_iter().find(|sequence| sequence.name == name);
        let Some(found) = found.filter(|sequence| sequence.rolling) else {
            let what = format_args!("server.toml has no rolling sequence {name}");
            let failure = Failure::new(Exit::Config, what);
            return Err(failure.hint(format!("[[sequence]] with name = \"{name}\" and rolling = true")));
        };
        let typed = RollingTyped {
            name,
            range: found.range.as_deref(),
            except: &found.except,
            length: found.length,
            step: found.step.as_deref(),
            transport: found.transport.as_deref(),
        };
        let rolling = typed.read().map_err(|fault| {
            let failure = Failure::new(Exit::Config, format_args!("sequence {name}: {fault}"));
            failure.hint("spa-server check")
        })?;
        Ok(Self {
            host,
            service: found.service,
            rolling,
        })
    }
}

fn get<'a, 't>(table: &'a DeTable<'t>, path: [&str; 2]) -> Option<&'a Spanned<DeValue<'t>>> {
    let [section, key] = path;
    match table.get(section)?.get_ref() {
        DeValue::Table(table) => table.get(key),
        _ => None,
    }
}

fn host(text: &str, file: &DeTable<'_>) -> Result<Option<Host>, Fault> {
    let Some(value) = get(file, ["gateway", "host"]) else {
        return Ok(None);
    };
    let host = match value.get_ref() {
        DeValue::String(host) if host.is_empty() => return Ok(None),
        DeValue::String(host) => host.parse().map_err(|error| Fault::at(text, &value.span(), error)),
        _ => Err(Fault::at(text, &value.span(), "host is a text: write it in quotes")),
    };
    host.map(Some)
}

fn ports(text: &str, file: &DeTable<'_>) -> Result<Vec<u16>, Fault> {
    let Some(value) = get(file, ["listen", "ports"]) else {
        return Ok(vec![STANDARD_PORT]);
    };
    let number = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::Integer(integer) => u16::from_str_radix(integer.as_str(), integer.radix()).ok(),
        _ => None,
    };
    let ports = match value.get_ref() {
        DeValue::Array(ports) => ports.iter().map(number).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    ports.ok_or_else(|| Fault::at(text, &value.span(), "ports is a list of numbers from 1 to 65535"))
}

/// The services that have a name; what is wrong with the others the daemon says.
fn services(file: &DeTable<'_>) -> Vec<ServiceHint> {
    match file.get("service").map(Spanned::get_ref) {
        Some(DeValue::Array(services)) => services.iter().filter_map(|item| service(item.get_ref())).collect(),
        _ => Vec::new(),
    }
}

fn service(value: &DeValue<'_>) -> Option<ServiceHint> {
    let DeValue::Table(service) = value else { return None };
    let DeValue::String(name) = service.get("name")?.get_ref() else {
        return None;
    };
    let name = name.parse().ok()?;
    let port = match service.get("ports").map(Spanned::get_ref) {
        Some(DeValue::Array(ports)) => ports.iter().find_map(|port| single_port(port.get_ref())),
        _ => None,
    };
    Some(ServiceHint { name, port })
}

/// A single port; a range is no place to try a connection.
fn single_port(value: &DeValue<'_>) -> Option<ServicePort> {
    match value {
        DeValue::String(port) => port.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_it_needs_and_ignores_the_rest() {
        let server = Server::parse(
            "[gateway]\nhost = \"gw.example.net\"\ncolour = 1\n[listen]\nports = [62201, 53]\n[other]\n\
             [[service]]\nname = \"ssh\"\nports = [\"udp/60000-61000\", \"tcp/22\"]\n[[service]]\nname = \"door\"\n",
        )
        .unwrap();
        assert_eq!(server.host.unwrap().as_str(), "gw.example.net");
        assert_eq!(server.ports, [62201, 53]);
        let services: Vec<String> = server.services.iter().map(ToString::to_string).collect();
        assert_eq!(services, ["ssh=tcp/22", "door"]);
    }

    #[test]
    fn wrong_values_are_placed() {
        assert_eq!(Server::parse("[gateway]\nhost = \"GW\"\n").unwrap_err().line, 2);
        assert_eq!(Server::parse("[listen]\nports = [0, 70000]\n").unwrap_err().line, 2);
        assert!(Server::parse("").unwrap().host.is_none());
    }
}

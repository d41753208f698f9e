//! What `check` says of sequences beside server.toml: keys and lists, and what listens on this host.

use spa_keys::Paths;
use spa_proto::sequence::Stage;

use super::{Ports, Ready, Sequences};
use crate::backend::existing::Listener;
use crate::config::{Code, Config, Finding, Protocol};

/// Findings about keys, lists and ports that serve something; `listeners` are those of this host.
#[must_use]
pub fn inspect(config: &Config, paths: &Paths, listeners: &[Listener]) -> Vec<Finding> {
    let (sequences, unusable) = Sequences::load(&config.sequences, paths);
    let mut findings: Vec<Finding> = Vec::new();
    for one in &unusable {
        let finding = Finding::error(Code::SequenceUnusable, one.to_string());
        let hint = one.failure.hints.first();
        findings.push(hint.map_or(finding.clone(), |hint| finding.clone().with_try(hint)));
    }
    for ready in &sequences.list {
        findings.extend(served(ready, config, listeners));
    }
    findings
}

/// Ports of one sequence that serve something: such a sequence is reset by whoever uses the service.
fn served(ready: &Ready, config: &Config, listeners: &[Listener]) -> Vec<Finding> {
    let name = &ready.sequence.name;
    let listens = |protocol, port| {
        let mut all = listeners.iter();
        all.any(|listener| (listener.protocol, listener.port) == (protocol, port))
    };
    match &ready.ports {
        Ports::Fixed(stages) => {
            let served = stages
                .iter()
                .filter(|stage| listens(Protocol::of(stage.transport), stage.port.get()));
            let text = |stage: &Stage| format!("sequence {name}: something listens on {stage} here");
            let finding =
                |stage| Finding::error(Code::SequencePort, text(stage)).with_try("a port that serves nothing");
            served.map(finding).collect()
        }
        Ports::List(list) => {
            let is_bad = |stage: &Stage| {
                let (protocol, port) = (Protocol::of(stage.transport), stage.port.get());
                let services = config.services.iter().flat_map(|service| &service.ports);
                let knocks = stage.is_udp() && config.listen.ports.contains(&port);
                knocks || listens(protocol, port) || services.into_iter().any(|range| range.contains(protocol, port))
            };
            let bad = list.iter().position(|stages| stages.iter().any(is_bad));
            let text = |place: usize| {
                format!(
                    "sequence {name}: a port of number {} of its list serves something",
                    place + 1
                )
            };
            let finding =
                |place| Finding::error(Code::SequencePort, text(place)).with_try("a port that serves nothing");
            bad.map(finding).into_iter().collect()
        }
        Ports::Rolling(rolling, _) => {
            let mut ports: Vec<u16> = listeners.iter().map(|listener| listener.port).collect();
            ports.retain(|port| rolling.pool.contains(*port));
            ports.sort_unstable();
            ports.dedup();
            if ports.is_empty() {
                return Vec::new();
            }
            let text = format!(
                "sequence {name}: something listens on {} of the ports to choose from",
                ports.len()
            );
            let except: Vec<u16> = ports.into_iter().take(20).collect();
            let remedy = format!("except = {except:?}, here and on every device");
            vec![Finding::warning(Code::SequencePort, text).with_try(remedy)]
        }
    }
}

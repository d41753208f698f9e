//! What `check` says of decoys: a port where something serves is none.

use spa_keys::{Control, Paths};

use crate::backend::existing::listeners;
use crate::config::{Code, Config, Finding, Protocol};

/// The decoys on which somebody else listens on this host.
pub(super) fn taken(config: &Config, paths: &Paths) -> Vec<Finding> {
    let decoys = config.guard.as_ref().map_or(&[][..], |guard| &guard.decoys);
    let Ok(listeners) = listeners() else { return Vec::new() };
    let is_taken = |port: &&u16| {
        listeners
            .iter()
            .any(|socket| socket.protocol == Protocol::Tcp && socket.port == **port)
    };
    let mut taken: Vec<u16> = decoys.iter().filter(is_taken).copied().collect();
    if !taken.is_empty() {
        let own = own(paths);
        taken.retain(|port| !own.contains(&format!("tcp/{port}")));
    }
    taken.into_iter().map(finding).collect()
}

pub(super) fn finding(port: u16) -> Finding {
    let text =
        format!("tcp/{port} is no decoy: a program of this host listens on it, and whoever uses that is no scanner");
    Finding::error(Code::DecoyInUse, text)
        .with_try("a port on which nothing listens: `ss -lnt` lists who listens where")
}

/// The decoys of the daemon that runs, if one does.
fn own(paths: &Paths) -> Vec<String> {
    let asked = Control::connect(&paths.control_socket());
    let status = asked.and_then(|mut control| control.call("spa.Status", &serde_json::Value::Null));
    let decoys = status
        .ok()
        .and_then(|status| status.get("scans")?.get("decoys").cloned());
    decoys
        .and_then(|decoys| serde_json::from_value(decoys).ok())
        .unwrap_or_default()
}

//! Other gateway identities: live at once, without touching configuration, grants or rules.

use serde_json::{Value, json};
use spa_keys::{GatewayKey, text};
use spa_proto::{Gateway, Identity};
use tracing::info;

use super::Daemon;
use crate::control::{ControlError, Reply};

impl Daemon {
    /// Loads gateway.key anew, at an operator's command; one that is not good leaves the old identities in force.
    pub(super) fn load_identities(&mut self, uid: u32) -> Reply {
        let key = GatewayKey::load(&self.paths.gateway_key);
        let key = key.map_err(|error| ControlError::failed(error.to_string()))?;
        let sieve = self.gateway.sieve().with_identities(key.into_identities());
        self.take_gateway(Gateway::new(sieve));
        self.refresh_addresses();
        let held = self.fingerprints();
        info!(
            uid,
            identities = held.join(", "),
            "the gateway's identities were loaded, by command"
        );
        self.audit_command("load-identities", uid, Some(held.join(", ")));
        Ok(json!({ "gateway": held.into_iter().map(Value::from).collect::<Vec<_>>() }))
    }

    /// Judges by these identities from now on, and forgets what was computed with others.
    pub(super) fn take_gateway(&mut self, gateway: Gateway) {
        let held: Vec<_> = gateway.sieve().identities().iter().map(|own| *own.public()).collect();
        self.keys.retain_shared(&held);
        self.gateway = gateway;
    }

    /// The fingerprints of the identities held.
    pub(super) fn fingerprints(&self) -> Vec<String> {
        let own = self.gateway.sieve().identities().iter();
        own.map(Identity::public).map(text::fingerprint).collect()
    }
}

//! Whether the enrollment arrived: the gateway never says so, but a door that opens does.

use std::time::Duration;

use spa_keys::Protocol;
use spa_keys::profile::AddressMode;
use spa_proto::{Address, ServiceName};

use super::report::{Proof, Report};
use super::settle::Settled;
use crate::clock::Clock;
use crate::door::{Door, Place};
use crate::host::{Sockets, resolve};
use crate::plan::Verb;
use crate::salvo::{Pace, Rounds, targets};
use crate::wait::{AtOnce, Watch};

/// How long the door may take to open.
const PATIENCE: Duration = Duration::from_secs(3);
/// A service that answers so soon before any knock would prove nothing.
const BEFORE: Duration = Duration::from_millis(300);

/// Knocks as the new client, looks whether the service answers, and shuts the door again.
pub(super) fn prove(settled: &Settled, clock: Clock, report: &mut Report) {
    let Some((service, port)) = candidate(settled) else {
        return;
    };
    if is_open_anyway(settled, port) {
        report.prove(
            Proof::None,
            format!("not tried: {service} answers without a knock from here"),
        );
        return;
    }
    let services = [service];
    let mut door = Door {
        profile: &settled.profile,
        services: &services,
        verb: Verb::Open(None),
        addresses: addresses(settled),
        code: None,
        clock,
        rounds: Rounds::All,
    };
    let place = Place {
        ports: vec![port],
        host: None,
        limit: PATIENCE,
    };
    match door.see(settled.gateway(), &place) {
        Ok(address) => {
            door.verb = Verb::Close;
            door.rounds = Rounds::Once;
            shut(&door, settled);
            report.prove(
                Proof::Open,
                format!(
                    "proved: {} answered at {address}; its door is asked to shut again",
                    services[0]
                ),
            );
        }
        Err((failure, causes)) => {
            report.prove(Proof::Shut, format!("not proved yet: {}", failure.what));
            report.doubt(causes);
        }
    }
}

/// A service that a connection can show to be open, where nothing has to be asked for.
fn candidate(settled: &Settled) -> Option<(ServiceName, u16)> {
    if settled.profile.one_time_code || settled.profile.address == AddressMode::Resolve {
        return None;
    }
    let mut services = settled.profile.services.iter();
    services.find_map(|(name, service)| {
        let place = service.connect.filter(|place| place.protocol == Protocol::Tcp)?;
        Some((name.clone(), place.port.get()))
    })
}

fn addresses(settled: &Settled) -> Vec<Address> {
    match &settled.profile.address {
        AddressMode::Explicit(addresses) => addresses.clone(),
        AddressMode::AsSeen | AddressMode::Resolve => vec![Address::AsSeen],
    }
}

fn is_open_anyway(settled: &Settled, port: u16) -> bool {
    let places = resolve(&settled.gateway().host).map(|addresses| targets(&addresses, &[port]));
    let mut watch = Watch::new(&[places.unwrap_or_default()], BEFORE);
    watch.until(BEFORE);
    watch.is_answered()
}

fn shut(door: &Door<'_>, settled: &Settled) {
    let gateway = settled.gateway();
    // It shuts by itself before long.
    let _ =
        resolve(&gateway.host).and_then(|addresses| door.knock(gateway, &addresses, Sockets::default(), &mut AtOnce));
}

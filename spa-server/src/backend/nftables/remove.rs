//! Takes own things away, and nothing that is anybody else's.

use std::collections::BTreeSet;

use super::line::Line;
use super::place::{CHAIN, OWN_HOOK, Place, RAW};
use super::set::SetId;
use crate::backend::BackendError;
use crate::netlink::NetlinkError;
use crate::netlink::batch::Batch;
use crate::netlink::nftables::{INET, table_rules};
use crate::netlink::ruleset::{self, chains};
use crate::netlink::socket::Socket;

/// Every table of family inet with something of ours in it, the own one too if it is there.
pub fn places(line: &mut Line) -> Result<Vec<Place>, BackendError> {
    line.ask("list the tables", |socket| {
        let tables = ruleset::tables(socket, INET)?;
        let places = tables.into_iter().map(|table| Place {
            table: table.name,
            hook: OWN_HOOK.to_owned(),
        });
        let mut own = Vec::new();
        for place in places {
            if place.is_own() || is_visited(socket, &place)? {
                own.push(place);
            }
        }
        Ok(own)
    })
}

/// In somebody else's table a chain of our name alone would be no proof: a set of always-allow comes with it.
fn is_visited(socket: &mut Socket, place: &Place) -> Result<bool, NetlinkError> {
    let sets = ruleset::sets(socket, place.to_netlink())?;
    Ok(sets
        .iter()
        .filter_map(|set| SetId::parse(&set.name))
        .any(|set| set.is_allow()))
}

/// Takes the sets out that are not to be kept, from the place where the others stay.
pub fn stale_sets(line: &mut Line, place: &Place, keep: &BTreeSet<SetId>) -> Result<(), BackendError> {
    let stale: Vec<SetId> = line
        .sets(place)?
        .into_keys()
        .filter(|set| !keep.contains(set))
        .collect();
    let mut batch = Batch::default();
    for set in stale {
        batch.remove_set(place.to_netlink(), &set.name());
    }
    line.ask("take away the sets of other services", |socket| batch.commit(socket))
}

/// Takes everything out of a table of somebody else's that is ours; the own table goes as a whole.
pub fn everything(line: &mut Line, place: &Place) -> Result<(), BackendError> {
    line.change(&format!("take away what is in {place}"), |socket, mut batch| {
        if place.is_own() {
            let tables = ruleset::tables(socket, INET)?;
            if tables.iter().any(|table| table.name == place.table) {
                batch.remove_table(place.to_netlink());
            }
        } else {
            what_judges(socket, &mut batch, place)?;
        }
        Ok(batch)
    })
}

/// Takes out of the own table what judges packets, and leaves what saves conntrack entries.
pub fn own_judgement(line: &mut Line) -> Result<(), BackendError> {
    let place = Place::own();
    line.change("take away the own rules", |socket, mut batch| {
        what_judges(socket, &mut batch, &place)?;
        let chains = chains(socket, place.to_netlink())?;
        for chain in chains.iter().filter(|chain| chain.name != RAW && chain.name != CHAIN) {
            batch.remove_chain(place.to_netlink(), &chain.name);
        }
        Ok(batch)
    })
}

/// Rules that lead to the own chain, the chain, the sets.
fn what_judges(socket: &mut Socket, batch: &mut Batch, place: &Place) -> Result<(), NetlinkError> {
    let all = table_rules(socket, INET, &place.table)?;
    for rule in all.iter().filter(|rule| rule.leads_to(CHAIN) && rule.chain != CHAIN) {
        batch.remove_rule(place.to_netlink(), &rule.chain, rule.handle);
    }
    if chains(socket, place.to_netlink())?
        .iter()
        .any(|chain| chain.name == CHAIN)
    {
        batch.remove_chain(place.to_netlink(), CHAIN);
    }
    let sets = ruleset::sets(socket, place.to_netlink())?;
    for set in sets.iter().filter(|set| SetId::parse(&set.name).is_some()) {
        batch.remove_set(place.to_netlink(), &set.name);
    }
    Ok(())
}

/// Takes all but the first of several jumps away.
pub fn other_jumps(line: &mut Line, place: &Place) -> Result<(), BackendError> {
    line.change("take away jumps beside the first", |socket, mut batch| {
        let all = crate::netlink::nftables::rules(socket, INET, &place.table, &place.hook)?;
        for rule in all.iter().filter(|rule| rule.leads_to(CHAIN)).skip(1) {
            batch.remove_rule(place.to_netlink(), &rule.chain, rule.handle);
        }
        Ok(batch)
    })
}

//! The line to nf_tables, opened when first needed in the network namespace of the thread that uses it.

use std::collections::BTreeMap;

use ipnet::IpNet;
use rustix::io::Errno;

use super::fault;
use super::place::Place;
use super::set::SetId;
use crate::backend::BackendError;
use crate::netlink::batch::Batch;
use crate::netlink::ruleset::{self, key};
use crate::netlink::socket::Socket;
use crate::netlink::{Element, NetlinkError, nftables};

/// How often a transaction is tried again when somebody else was faster.
const ATTEMPTS: usize = 5;

/// A socket, and what is done with sets over it.
#[derive(Debug, Default)]
pub struct Line(Option<Socket>);

impl Line {
    /// Asks something.
    pub fn ask<T>(
        &mut self,
        doing: &str,
        question: impl FnOnce(&mut Socket) -> Result<T, NetlinkError>,
    ) -> Result<T, BackendError> {
        let failed = |cause| refused(doing, cause);
        let socket = match &mut self.0 {
            Some(socket) => socket,
            none => none.insert(nftables::socket().map_err(failed)?),
        };
        question(socket).map_err(failed)
    }

    /// Puts `net` into its set for `seconds`, or makes its end anew. False when there is no such set.
    ///
    /// Added, taken out and added: the kernel passes over an element that is there, older ones with its old end, and
    /// refuses to take out one that is not.
    pub fn put(&mut self, place: &Place, set: &SetId, net: IpNet, seconds: u32) -> Result<bool, BackendError> {
        let (name, key, ms) = (set.name(), key(net), Some(u64::from(seconds.max(1)) * 1000));
        let mut batch = Batch::default();
        batch.add_element(place.to_netlink(), &name, &key, ms);
        batch.remove_element(place.to_netlink(), &name, &key);
        batch.add_element(place.to_netlink(), &name, &key, ms);
        self.unless_absent(&format!("put {net} into the set {name}"), &batch)
    }

    /// Takes `net` out of its set; neither its absence nor the set's is an error.
    pub fn take(&mut self, place: &Place, set: &SetId, net: IpNet) -> Result<(), BackendError> {
        let name = set.name();
        let mut batch = Batch::default();
        batch.remove_element(place.to_netlink(), &name, &key(net));
        self.unless_absent(&format!("take {net} out of the set {name}"), &batch)
            .map(drop)
    }

    /// Takes everything out of a set; its absence is no error.
    pub fn flush(&mut self, place: &Place, set: &SetId) -> Result<(), BackendError> {
        let name = set.name();
        let mut batch = Batch::default();
        batch.flush_set(place.to_netlink(), &name);
        self.unless_absent(&format!("empty the set {name}"), &batch).map(drop)
    }

    /// What is in a set; nothing in one that is absent.
    pub fn elements(&mut self, place: &Place, set: &SetId) -> Result<Vec<Element>, BackendError> {
        let name = set.name();
        let found = self.ask(&format!("list the set {name}"), |socket| {
            ruleset::elements(socket, place.to_netlink(), &name, set.prefix_len)
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The own sets of a table that are of the right kind.
    pub fn sets(&mut self, place: &Place) -> Result<BTreeMap<SetId, bool>, BackendError> {
        let found = self.ask("list the sets", |socket| ruleset::sets(socket, place.to_netlink()))?;
        let own = found.iter().filter_map(|set| {
            let id = SetId::parse(&set.name)?;
            let is_good = id.is_kind_of(set);
            Some((id, is_good))
        });
        Ok(own.collect())
    }

    /// Commits what `make` makes of the world, made anew when somebody changed the world meanwhile.
    pub fn change(
        &mut self,
        doing: &str,
        mut make: impl FnMut(&mut Socket, Batch) -> Result<Batch, NetlinkError>,
    ) -> Result<(), BackendError> {
        self.ask(doing, |socket| {
            let mut outcome = Ok(());
            for _ in 0..ATTEMPTS {
                let batch = Batch::at(ruleset::generation(socket)?);
                outcome = make(socket, batch)?.commit(socket);
                if !matches!(outcome, Err(cause) if is_race(cause)) {
                    break;
                }
            }
            outcome
        })
    }

    fn unless_absent(&mut self, doing: &str, batch: &Batch) -> Result<bool, BackendError> {
        self.ask(doing, |socket| match batch.commit(socket) {
            Err(cause) if cause.is(Errno::NOENT) => Ok(false),
            other => other.map(|()| true),
        })
    }
}

/// ERESTART: another generation. ENOENT: something was taken away before it was our turn.
fn is_race(cause: NetlinkError) -> bool {
    const RESTART: i32 = 85;
    cause == NetlinkError::Refused(RESTART) || cause.is(Errno::NOENT)
}

fn refused(doing: &str, cause: NetlinkError) -> BackendError {
    let fault = fault(format!("could not {doing}: {cause}"));
    match cause.hint() {
        Some(hint) => fault.with_hint(hint),
        None => fault,
    }
}

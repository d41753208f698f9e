//! Who was let in for a minute because he was connected before the door was shut.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::ends::SLACK_S;
use crate::netlink::Element;

/// How long the peers of connections that existed before the drop may come in.
pub const GUEST_TIME_S: u32 = 60;

/// Entries that no opening accounts for and that are nevertheless left to their end.
#[derive(Debug, Default)]
pub struct Guests(BTreeMap<(String, IpNet), Instant>);

impl Guests {
    /// Forgets those whose time is over.
    pub fn expire(&mut self, now: Instant) {
        self.0.retain(|_, end| *end > now);
    }

    /// Forgets one who has a grant now, or is out.
    pub fn forget(&mut self, set: &str, net: IpNet) {
        self.0.remove(&(set.to_owned(), net));
    }

    /// Forgets all of the sets that are not to be kept.
    pub fn keep(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|(set, _), _| is_kept(set));
    }

    /// Whether somebody is one.
    pub fn contains(&self, set: &str, net: IpNet) -> bool {
        self.0.contains_key(&(set.to_owned(), net))
    }

    /// Remembers one for so long, and a little longer than the kernel does.
    pub fn remember(&mut self, set: &str, net: IpNet, seconds: u32) {
        let end = Instant::now() + Duration::from_secs(u64::from(seconds + SLACK_S));
        self.0.insert((set.to_owned(), net), end);
    }

    /// Takes those of `nets` for guests that another process has let in for a minute.
    pub fn adopt(&mut self, set: &str, there: &[Element], nets: &[IpNet]) {
        for element in there.iter().filter(|element| nets.contains(&element.net)) {
            if let Some(seconds) = element.remaining.filter(|seconds| *seconds <= GUEST_TIME_S) {
                self.remember(set, element.net, seconds);
            }
        }
    }
}

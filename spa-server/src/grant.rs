//! Who may pass through which door until when (step 9). Pure: the clock is the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use spa_proto::{PublicKey, UnixTime};

use crate::backend::Door;

/// How long an ended grant is remembered: two of the greatest windows a client can have, and a little more. A request
/// older than that is refused by its timestamp alone.
pub const REMEMBERED: Duration = Duration::from_mins(2 * 60 + 1);

/// The most grants of one client that are live or remembered: nobody makes the gateway's memory his own.
pub const MOST_GRANTS: usize = 1024;

/// What makes a grant the one it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrantKey {
    /// Whose; none for a sequence.
    pub client: Option<PublicKey>,
    /// For which address.
    pub address: IpAddr,
    /// For which service.
    pub service: String,
}

/// A grant, live or remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What was opened for it.
    pub opened: IpNet,
    /// When it was first opened, by the wall clock.
    pub since: UnixTime,
    /// The timestamp of the last request that changed it.
    pub changed: UnixTime,
    /// Its end on the clock that starts with the boot; none when it has ended.
    pub end: Option<Duration>,
    /// When it need not be remembered any longer, on the same clock.
    forget_at: Duration,
}

impl Grant {
    /// The door it holds open.
    #[must_use]
    pub fn door(&self, key: &GrantKey) -> Door {
        Door {
            service: key.service.clone(),
            opened: self.opened,
        }
    }

    fn next_event(&self) -> Duration {
        self.end.unwrap_or(self.forget_at)
    }
}

/// What is asked of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What to open: the address, or the prefix that the policy widens it to.
    pub opened: IpNet,
    /// For how long.
    pub duration: Duration,
}

/// Until when a grant that ends at `end` is remembered. What a sequence opened is not: it has no earlier request.
fn remembered(key: &GrantKey, end: Duration) -> Duration {
    match key.client {
        Some(_) => end.saturating_add(REMEMBERED),
        None => end,
    }
}

/// A request earlier than the one that last changed the grant changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older;

/// All grants, live and remembered. Times are those of the clock that starts with the boot.
///
/// Whoever asks for one door or for what is due looks at no other grant: a thousand clients that come at once must not
/// cost a thousand walks over all that is remembered.
#[derive(Clone, Debug, Default)]
pub struct GrantTable {
    grants: BTreeMap<GrantKey, Grant>,
    /// Who holds each open door, in the order of their ends.
    holders: BTreeMap<Door, BTreeSet<(Duration, GrantKey)>>,
    /// What comes next: ends of live grants, and when ended ones may be forgotten.
    events: BTreeSet<(Duration, GrantKey)>,
}

/// What holds a door open longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The end of its grant, which is the door's.
    pub end: Duration,
    /// Whose it is; none for a sequence.
    pub client: Option<PublicKey>,
}

impl GrantTable {
    /// Sets the end of a grant to `now` + duration, be that later or earlier than before. Returns the door that it
    /// held open before, where the policy has since changed what is opened.
    ///
    /// # Errors
    ///
    /// [`Older`] when a later request has changed this grant already.
    pub fn open(
        &mut self,
        key: &GrantKey,
        terms: &Terms,
        timestamp: UnixTime,
        wall: UnixTime,
        now: Duration,
    ) -> Result<Option<Door>, Older> {
        let before = self.newer_than(key, timestamp)?.cloned();
        let live = before.filter(|grant| grant.end.is_some());
        let end = now.saturating_add(terms.duration);
        let grant = Grant {
            opened: terms.opened,
            since: live.as_ref().map_or(wall, |grant| grant.since),
            changed: timestamp,
            end: Some(end),
            forget_at: remembered(key, end),
        };
        let moved = live
            .filter(|before| before.opened != grant.opened)
            .map(|before| before.door(key));
        self.put(key.clone(), Some(grant));
        Ok(moved)
    }

    /// Ends a grant, and remembers it also when nothing was open. Returns the door if one was.
    ///
    /// # Errors
    ///
    /// [`Older`] when a later request has changed this grant already.
    pub fn close(
        &mut self,
        key: &GrantKey,
        timestamp: UnixTime,
        wall: UnixTime,
        now: Duration,
    ) -> Result<Option<Door>, Older> {
        let before = self.newer_than(key, timestamp)?;
        let opened = before.map_or_else(|| IpNet::from(key.address), |grant| grant.opened);
        let since = before.map_or(wall, |grant| grant.since);
        let was_live = before.is_some_and(|grant| grant.end.is_some());
        let grant = Grant {
            opened,
            since,
            changed: timestamp,
            end: None,
            forget_at: remembered(key, now),
        };
        let door = was_live.then(|| grant.door(key));
        self.put(key.clone(), Some(grant));
        Ok(door)
    }

    /// Ends every live grant that `unwanted` picks, whatever its timestamp: an operator's command, a revocation, a
    /// service that is no more.
    pub fn end_where(&mut self, now: Duration, mut unwanted: impl FnMut(&GrantKey, &Grant) -> bool) -> Vec<GrantKey> {
        let picked = self.live().filter(|(key, grant)| unwanted(key, grant));
        let picked: Vec<GrantKey> = picked.map(|(key, _)| key.clone()).collect();
        self.end(picked, now)
    }

    fn end(&mut self, keys: Vec<GrantKey>, now: Duration) -> Vec<GrantKey> {
        for key in &keys {
            let ended = self.grants.get(key).cloned().map(|grant| Grant {
                end: None,
                forget_at: remembered(key, now),
                ..grant
            });
            self.put(key.clone(), ended);
        }
        keys
    }

    /// Moves the end of a live grant nearer; returns its door.
    pub fn shorten(&mut self, key: &GrantKey, end: Duration) -> Option<Door> {
        let before = self.grants.get(key);
        let grant = before.filter(|grant| grant.end.is_some_and(|old| end < old))?.clone();
        let door = grant.door(key);
        let shorter = Grant {
            end: Some(end),
            forget_at: remembered(key, end),
            ..grant
        };
        self.put(key.clone(), Some(shorter));
        Some(door)
    }

    /// Ends every grant whose time is over at `now`.
    pub fn expire(&mut self, now: Duration) -> Vec<GrantKey> {
        let is_live = |key: &&GrantKey| self.grants.get(*key).is_some_and(|grant| grant.end.is_some());
        let over = self.due(now).filter(is_live).cloned().collect();
        self.end(over, now)
    }

    /// Takes out what need not be remembered any longer.
    pub fn forget(&mut self, now: Duration) -> Vec<(GrantKey, Grant)> {
        let is_ended = |key: &&GrantKey| self.grants.get(*key).is_some_and(|grant| grant.end.is_none());
        let over: Vec<GrantKey> = self.due(now).filter(is_ended).cloned().collect();
        over.into_iter()
            .filter_map(|key| self.put(key.clone(), None).map(|grant| (key, grant)))
            .collect()
    }

    fn due(&self, now: Duration) -> impl Iterator<Item = &GrantKey> {
        self.events
            .iter()
            .take_while(move |(at, _)| *at <= now)
            .map(|(_, key)| key)
    }

    /// Puts back what was remembered durably.
    pub fn restore(&mut self, key: GrantKey, grant: (IpNet, UnixTime, UnixTime), end: Option<Duration>, now: Duration) {
        let (opened, since, changed) = grant;
        let grant = Grant {
            opened,
            since,
            changed,
            end,
            forget_at: remembered(&key, end.unwrap_or(now)),
        };
        self.put(key, Some(grant));
    }

    /// One grant, live or remembered.
    #[must_use]
    pub fn get(&self, key: &GrantKey) -> Option<&Grant> {
        self.grants.get(key)
    }

    /// Makes a grant what it is to be, or what it was before a change that could not be recorded; returns what it was.
    pub fn put(&mut self, key: GrantKey, grant: Option<Grant>) -> Option<Grant> {
        let before = self.grants.remove(&key);
        if let Some(before) = &before {
            self.unlist(&key, before);
        }
        if let Some(grant) = grant {
            self.list(&key, &grant);
            self.grants.insert(key, grant);
        }
        before
    }

    fn list(&mut self, key: &GrantKey, grant: &Grant) {
        if let Some(end) = grant.end {
            let holders = self.holders.entry(grant.door(key)).or_default();
            holders.insert((end, key.clone()));
        }
        self.events.insert((grant.next_event(), key.clone()));
    }

    fn unlist(&mut self, key: &GrantKey, grant: &Grant) {
        self.events.remove(&(grant.next_event(), key.clone()));
        let (Some(end), door) = (grant.end, grant.door(key)) else {
            return;
        };
        if let Some(holders) = self.holders.get_mut(&door) {
            holders.remove(&(end, key.clone()));
            if holders.is_empty() {
                self.holders.remove(&door);
            }
        }
    }

    /// How many grants sequences have opened that are live.
    #[must_use]
    pub fn count_by_sequence(&self) -> usize {
        self.all_of(None).count()
    }

    /// How many grants of one client are live or remembered.
    #[must_use]
    pub fn count_of(&self, client: &PublicKey) -> usize {
        self.all_of(Some(*client)).count()
    }

    /// The grants of one client, live or remembered.
    pub fn all_of(&self, client: Option<PublicKey>) -> impl Iterator<Item = (&GrantKey, &Grant)> {
        let first = GrantKey {
            client,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            service: String::new(),
        };
        self.grants
            .range(first..)
            .take_while(move |(key, _)| key.client == client)
    }

    /// The live grants of the same client to the same service for other addresses of the same family.
    #[must_use]
    pub fn elsewhere(&self, here: &GrantKey) -> Vec<GrantKey> {
        let is_elsewhere = |(key, grant): &(&GrantKey, &Grant)| {
            grant.end.is_some()
                && key.service == here.service
                && key.address != here.address
                && key.address.is_ipv4() == here.address.is_ipv4()
        };
        self.all_of(here.client)
            .filter(is_elsewhere)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The live grants.
    pub fn live(&self) -> impl Iterator<Item = (&GrantKey, &Grant)> {
        self.grants.iter().filter(|(_, grant)| grant.end.is_some())
    }

    /// The grant that holds a door open longest, whoever's it is; none when the door is shut.
    #[must_use]
    pub fn holder(&self, door: &Door) -> Option<Holder> {
        self.holders.get(door).and_then(last)
    }

    /// Every open door with what holds it open longest.
    pub fn doors(&self) -> impl Iterator<Item = (&Door, Holder)> {
        self.holders
            .iter()
            .filter_map(|(door, holders)| Some((door, last(holders)?)))
    }

    /// What is open of one service.
    pub fn opened<'a>(&'a self, service: &'a str) -> impl Iterator<Item = IpNet> + 'a {
        let first = Door {
            service: service.into(),
            opened: IpNet::V4(Ipv4Net::default()),
        };
        self.holders
            .range(first..)
            .take_while(move |(door, _)| door.service == service)
            .map(|(door, _)| door.opened)
    }

    /// When the next live grant ends or the next ended one may be forgotten.
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        self.events.first().map(|(at, _)| *at)
    }

    fn newer_than(&self, key: &GrantKey, timestamp: UnixTime) -> Result<Option<&Grant>, Older> {
        let before = self.grants.get(key);
        match before {
            Some(grant) if timestamp < grant.changed => Err(Older),
            _ => Ok(before),
        }
    }
}

fn last(holders: &BTreeSet<(Duration, GrantKey)>) -> Option<Holder> {
    holders.last().map(|(end, key)| Holder {
        end: *end,
        client: key.client,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(client: u8) -> GrantKey {
        GrantKey {
            client: Some(PublicKey([client; 32])),
            address: "192.0.2.7".parse().unwrap(),
            service: "ssh".into(),
        }
    }

    fn terms(secs: u64) -> Terms {
        Terms {
            opened: "192.0.2.7/32".parse().unwrap(),
            duration: Duration::from_secs(secs),
        }
    }

    fn wall(secs: u64) -> UnixTime {
        UnixTime::from_secs(1_800_000_000 + secs)
    }

    const fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn door() -> Door {
        Door {
            service: "ssh".into(),
            opened: "192.0.2.7/32".parse().unwrap(),
        }
    }

    fn end_of(table: &GrantTable) -> Option<Duration> {
        table.holder(&door()).map(|holder| holder.end)
    }

    #[test]
    fn a_later_request_moves_the_end_either_way() {
        let mut table = GrantTable::default();
        table.open(&key(1), &terms(100), wall(0), wall(0), at(10)).unwrap();
        assert_eq!(end_of(&table), Some(at(110)));
        table.open(&key(1), &terms(10), wall(1), wall(1), at(11)).unwrap();
        assert_eq!(end_of(&table), Some(at(21)));
        assert_eq!(table.get(&key(1)).unwrap().since, wall(0));
    }

    #[test]
    fn an_earlier_request_changes_nothing_not_even_after_a_close() {
        let mut table = GrantTable::default();
        assert_eq!(table.close(&key(1), wall(5), wall(5), at(5)), Ok(None));
        assert_eq!(table.open(&key(1), &terms(100), wall(4), wall(6), at(6)), Err(Older));
        assert_eq!(end_of(&table), None);
        table.open(&key(1), &terms(100), wall(6), wall(6), at(6)).unwrap();
        assert_eq!(table.close(&key(1), wall(5), wall(7), at(7)), Err(Older));
    }

    #[test]
    fn a_door_stays_open_while_anyone_holds_it() {
        let mut table = GrantTable::default();
        table.open(&key(1), &terms(100), wall(0), wall(0), at(0)).unwrap();
        table.open(&key(2), &terms(50), wall(0), wall(0), at(0)).unwrap();
        let longest = Holder {
            end: at(100),
            client: key(1).client,
        };
        assert_eq!(table.doors().collect::<Vec<_>>(), [(&door(), longest)]);
        assert_eq!(table.close(&key(1), wall(1), wall(1), at(1)), Ok(Some(door())));
        assert_eq!(end_of(&table), Some(at(50)));
        assert_eq!(table.expire(at(50)), [key(2)]);
        assert_eq!(end_of(&table), None);
    }

    #[test]
    fn the_end_is_remembered_for_two_windows() {
        let mut table = GrantTable::default();
        table.open(&key(1), &terms(30), wall(0), wall(0), at(0)).unwrap();
        assert_eq!(table.next_event(), Some(at(30)));
        assert_eq!(table.expire(at(29)), []);
        assert_eq!(table.expire(at(31)), [key(1)]);
        assert_eq!(table.next_event(), Some(at(31) + REMEMBERED));
        assert!(table.forget(at(30) + REMEMBERED).is_empty());
        assert_eq!(table.forget(at(31) + REMEMBERED).len(), 1);
        assert_eq!(table.next_event(), None);
    }

    #[test]
    fn elsewhere_is_the_same_client_service_and_family() {
        let mut table = GrantTable::default();
        let at_address = |client, address: &str| GrantKey {
            address: address.parse().unwrap(),
            ..key(client)
        };
        for (client, address) in [(1, "192.0.2.7"), (1, "192.0.2.8"), (1, "2001:db8::7"), (2, "192.0.2.9")] {
            table
                .open(&at_address(client, address), &terms(30), wall(0), wall(0), at(0))
                .unwrap();
        }
        assert_eq!(
            table.elsewhere(&at_address(1, "192.0.2.7")),
            [at_address(1, "192.0.2.8")]
        );
        assert_eq!(table.elsewhere(&at_address(1, "192.0.2.10")).len(), 2);
    }

    #[test]
    fn grants_are_counted_by_client() {
        let mut table = GrantTable::default();
        for client in [1, 2, 2, 3] {
            let service = format!("s{}", table.grants.len());
            table
                .open(
                    &GrantKey { service, ..key(client) },
                    &terms(30),
                    wall(0),
                    wall(0),
                    at(0),
                )
                .unwrap();
        }
        assert_eq!(
            [1, 2, 3, 4].map(|client| table.count_of(&PublicKey([client; 32]))),
            [1, 2, 1, 0]
        );
    }

    #[test]
    fn a_change_of_width_gives_the_old_door_back() {
        let mut table = GrantTable::default();
        table.open(&key(1), &terms(30), wall(0), wall(0), at(0)).unwrap();
        let wide = Terms {
            opened: "192.0.2.0/24".parse().unwrap(),
            duration: at(30),
        };
        assert_eq!(table.open(&key(1), &wide, wall(1), wall(1), at(1)), Ok(Some(door())));
        assert_eq!(end_of(&table), None);
    }

    proptest! {
        /// What is looked up quickly is what a walk over all grants finds.
        #[test]
        fn the_lists_agree_with_the_grants(
            steps in prop::collection::vec((0_u8..6, 0_u8..3, 0_u8..3, 0_u64..40), 1..60)
        ) {
            let mut table = GrantTable::default();
            for (time, (what, client, host, secs)) in (0_u64..).zip(steps) {
                let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
                let key = GrantKey { address, ..key(client) };
                let terms = Terms { opened: address.into(), duration: at(secs) };
                match what {
                    0 | 1 => drop(table.open(&key, &terms, wall(time), wall(time), at(time))),
                    2 => drop(table.close(&key, wall(time), wall(time), at(time))),
                    3 => drop(table.shorten(&key, at(secs))),
                    4 => drop((table.expire(at(time)), table.forget(at(time + secs * 1000)))),
                    _ => drop(table.put(key, None)),
                }
                prop_assert_eq!(listed(&table), walked(&table));
                let next = table.grants.values().map(Grant::next_event).min();
                prop_assert_eq!(table.next_event(), next);
                prop_assert_eq!(table.events.len(), table.grants.len());
            }
        }
    }

    fn listed(table: &GrantTable) -> BTreeMap<Door, Duration> {
        table.doors().map(|(door, holder)| (door.clone(), holder.end)).collect()
    }

    fn walked(table: &GrantTable) -> BTreeMap<Door, Duration> {
        let mut doors = BTreeMap::new();
        for (key, grant) in table.live() {
            let end = doors.entry(grant.door(key)).or_default();
            *end = grant.end.unwrap().max(*end);
        }
        doors
    }

    #[test]
    fn what_a_sequence_opened_is_not_remembered() {
        let mut table = GrantTable::default();
        let by_sequence = GrantKey { client: None, ..key(1) };
        table.open(&by_sequence, &terms(30), wall(0), wall(0), at(0)).unwrap();
        table.open(&key(1), &terms(30), wall(0), wall(0), at(0)).unwrap();
        assert_eq!((table.count_by_sequence(), table.forget(at(29)).len()), (1, 0));
        assert_eq!(table.expire(at(30)).len(), 2);
        let forgotten: Vec<_> = table.forget(at(30)).into_iter().map(|(key, _)| key).collect();
        assert_eq!((forgotten, table.count_by_sequence()), (vec![by_sequence], 0));
    }
}

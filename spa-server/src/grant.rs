//! Who may pass through which door until when (step 9). Pure: the clock is the caller's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use spa_proto::{PublicKey, UnixTime};

use crate::backend::Door;

/// How long an ended grant is remembered: two of the greatest windows a client can have, and a little more. A request
/// older than that is refused by its timestamp alone.
pub const REMEMBERED: Duration = Duration::from_mins(2 * 60 + 1);

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
}

/// What is asked of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What to open: the address, or the prefix that the policy widens it to.
    pub opened: IpNet,
    /// For how long.
    pub duration: Duration,
}

/// A request earlier than the one that last changed the grant changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older;

/// All grants, live and remembered. Times are those of the clock that starts with the boot.
#[derive(Clone, Debug, Default)]
pub struct GrantTable {
    grants: BTreeMap<GrantKey, Grant>,
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
            forget_at: end.saturating_add(REMEMBERED),
        };
        let moved = live
            .filter(|before| before.opened != grant.opened)
            .map(|before| before.door(key));
        self.grants.insert(key.clone(), grant);
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
            forget_at: now.saturating_add(REMEMBERED),
        };
        let door = was_live.then(|| grant.door(key));
        self.grants.insert(key.clone(), grant);
        Ok(door)
    }

    /// Ends every live grant that `unwanted` picks, whatever its timestamp: an operator's command, a revocation, a
    /// service that is no more.
    pub fn end_where(&mut self, now: Duration, mut unwanted: impl FnMut(&GrantKey, &Grant) -> bool) -> Vec<GrantKey> {
        let ended = self
            .grants
            .iter_mut()
            .filter(|(key, grant)| grant.end.is_some() && unwanted(key, grant));
        let end = |(key, grant): (&GrantKey, &mut Grant)| {
            grant.end = None;
            grant.forget_at = now.saturating_add(REMEMBERED);
            key.clone()
        };
        ended.map(end).collect()
    }

    /// Moves the end of a live grant nearer; returns its door.
    pub fn shorten(&mut self, key: &GrantKey, end: Duration) -> Option<Door> {
        let grant = self
            .grants
            .get_mut(key)
            .filter(|grant| grant.end.is_some_and(|old| end < old))?;
        grant.end = Some(end);
        grant.forget_at = end.saturating_add(REMEMBERED);
        Some(grant.door(key))
    }

    /// Ends every grant whose time is over at `now`.
    pub fn expire(&mut self, now: Duration) -> Vec<GrantKey> {
        self.end_where(now, |_, grant| grant.end.is_some_and(|end| end <= now))
    }

    /// Takes out what need not be remembered any longer.
    pub fn forget(&mut self, now: Duration) -> Vec<(GrantKey, Grant)> {
        self.grants
            .extract_if(.., |_, grant| grant.end.is_none() && grant.forget_at <= now)
            .collect()
    }

    /// Puts back what was remembered durably.
    pub fn restore(&mut self, key: GrantKey, grant: (IpNet, UnixTime, UnixTime), end: Option<Duration>, now: Duration) {
        let (opened, since, changed) = grant;
        let forget_at = end.unwrap_or(now).saturating_add(REMEMBERED);
        self.grants.insert(
            key,
            Grant {
                opened,
                since,
                changed,
                end,
                forget_at,
            },
        );
    }

    /// One grant, live or remembered.
    #[must_use]
    pub fn get(&self, key: &GrantKey) -> Option<&Grant> {
        self.grants.get(key)
    }

    /// Puts a grant back as it was before a change that could not be recorded.
    pub fn put(&mut self, key: GrantKey, before: Option<Grant>) {
        match before {
            Some(grant) => drop(self.grants.insert(key, grant)),
            None => drop(self.grants.remove(&key)),
        }
    }

    /// How many grants of one client are live or remembered.
    #[must_use]
    pub fn count_of(&self, client: &PublicKey) -> usize {
        let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let first = GrantKey {
            client: Some(*client),
            address,
            service: String::new(),
        };
        self.grants
            .range(first..)
            .take_while(|(key, _)| key.client.as_ref() == Some(client))
            .count()
    }

    /// The live grants of the same client to the same service for other addresses of the same family.
    #[must_use]
    pub fn elsewhere(&self, here: &GrantKey) -> Vec<GrantKey> {
        let is_elsewhere = |key: &&GrantKey| {
            (key.client, &key.service) == (here.client, &here.service)
                && key.address != here.address
                && key.address.is_ipv4() == here.address.is_ipv4()
        };
        self.live().map(|(key, _)| key).filter(is_elsewhere).cloned().collect()
    }

    /// The live grants.
    pub fn live(&self) -> impl Iterator<Item = (&GrantKey, &Grant)> {
        self.grants.iter().filter(|(_, grant)| grant.end.is_some())
    }

    /// When a door shuts: the latest end of the grants that hold it open, whoever's they are; none when it is shut.
    #[must_use]
    pub fn door_end(&self, door: &Door) -> Option<Duration> {
        let holds = |(key, grant): &(&GrantKey, &Grant)| key.service == door.service && grant.opened == door.opened;
        self.live().filter(holds).filter_map(|(_, grant)| grant.end).max()
    }

    /// Every open door with its end and the client whose grant lasts longest.
    #[must_use]
    pub fn doors(&self) -> BTreeMap<Door, (Duration, Option<PublicKey>)> {
        let mut doors = BTreeMap::new();
        for (key, grant) in self.live() {
            let end = grant.end.unwrap_or_default();
            let door = doors.entry(grant.door(key)).or_insert((end, key.client));
            if end > door.0 {
                *door = (end, key.client);
            }
        }
        doors
    }

    /// When the next live grant ends or the next ended one may be forgotten.
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        self.grants
            .values()
            .map(|grant| grant.end.unwrap_or(grant.forget_at))
            .min()
    }

    fn newer_than(&self, key: &GrantKey, timestamp: UnixTime) -> Result<Option<&Grant>, Older> {
        let before = self.grants.get(key);
        match before {
            Some(grant) if timestamp < grant.changed => Err(Older),
            _ => Ok(before),
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_later_request_moves_the_end_either_way() {
        let mut table = GrantTable::default();
        table.open(&key(1), &terms(100), wall(0), wall(0), at(10)).unwrap();
        assert_eq!(table.door_end(&door()), Some(at(110)));
        table.open(&key(1), &terms(10), wall(1), wall(1), at(11)).unwrap();
        assert_eq!(table.door_end(&door()), Some(at(21)));
        assert_eq!(table.get(&key(1)).unwrap().since, wall(0));
    }

    #[test]
    fn an_earlier_request_changes_nothing_not_even_after_a_close() {
        let mut table = GrantTable::default();
        assert_eq!(table.close(&key(1), wall(5), wall(5), at(5)), Ok(None));
        assert_eq!(table.open(&key(1), &terms(100), wall(4), wall(6), at(6)), Err(Older));
        assert_eq!(table.door_end(&door()), None);
        table.open(&key(1), &terms(100), wall(6), wall(6), at(6)).unwrap();
        assert_eq!(table.close(&key(1), wall(5), wall(7), at(7)), Err(Older));
    }

    #[test]
    fn a_door_stays_open_while_anyone_holds_it() {
        let mut table = GrantTable::default();
        table.open(&key(1), &terms(100), wall(0), wall(0), at(0)).unwrap();
        table.open(&key(2), &terms(50), wall(0), wall(0), at(0)).unwrap();
        assert_eq!(table.doors()[&door()], (at(100), key(1).client));
        assert_eq!(table.close(&key(1), wall(1), wall(1), at(1)), Ok(Some(door())));
        assert_eq!(table.door_end(&door()), Some(at(50)));
        assert_eq!(table.expire(at(50)), [key(2)]);
        assert_eq!(table.door_end(&door()), None);
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
        assert_eq!(table.door_end(&door()), None);
    }
}

//! What must be: the page's rules kept in plain maps, beside the gateway and without a line of its code.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use spa_proto::{Act, Address, DropReason, Moment, PublicKey, Request, UnixTime};
use spa_server::backend::Door;
use spa_server::grant::GrantKey;

use crate::disk::Fate;
use crate::people::{Person, SERVICES};
use crate::process::Said;

/// A datagram that a person sealed.
#[derive(Debug)]
pub struct Genuine {
    pub id: u64,
    pub person: usize,
    pub identity: u64,
    pub request: Request,
    /// Sealed with the person's own PSK, not by somebody who has the private key alone.
    pub own_psk: bool,
}

/// One client's hold on one service for one address.
#[derive(Clone, Debug)]
pub struct Hold {
    pub end: Option<Duration>,
    pub opened: IpNet,
    changed: UnixTime,
    step: u64,
}

/// What a datagram meets.
pub struct Scene<'a> {
    pub now: Moment,
    pub people: &'a [Person],
    /// The identities that the gateway holds.
    pub held: &'a [u64],
    /// The record was lost and not begun anew.
    pub waits: bool,
}

/// A change of a hold by one request.
struct Effect {
    key: GrantKey,
    before: Option<Hold>,
    /// The door and its end; nothing for a close.
    opens: Option<(Door, Duration)>,
    id: u64,
}

/// What the disk had once.
pub struct Stored {
    used: usize,
    holds: BTreeMap<GrantKey, Hold>,
    boot: u64,
}

#[derive(Default)]
pub struct Truth {
    /// Timestamps that were taken, and by which datagram; what is beyond `durable` is not on the disk yet.
    used: BTreeSet<(usize, UnixTime)>,
    order: Vec<(usize, UnixTime, u64)>,
    durable: usize,
    /// Holds as the process has them, and as the disk has them.
    holds: BTreeMap<GrantKey, Hold>,
    stored: BTreeMap<GrantKey, Hold>,
    stored_boot: u64,
    owed: BTreeSet<GrantKey>,
    batch: Vec<Effect>,
    /// Datagrams that have opened something, and those whose record was lost since, with the step of the loss.
    opened: HashSet<u64>,
    lost: HashMap<u64, u64>,
    /// Datagrams that passed step 4 while this process lives.
    seen: HashSet<u64>,
    credit: BTreeMap<usize, (Duration, Duration)>,
    /// The latest wall clock at which something of a person was accepted.
    latest: BTreeMap<usize, UnixTime>,
    /// The greatest end that a door had in this boot by a request that was durable.
    limits: BTreeMap<Door, Duration>,
    /// When the gateway's clock last went back.
    pub set_back: u64,
    pub step: u64,
}

impl Truth {
    /// Holds what the gateway said of one datagram against what must be said. The reason when it is refused.
    pub fn judge(&mut self, scene: &Scene<'_>, genuine: Option<&Genuine>, source: IpAddr, said: &Said) -> &'static str {
        let expected = match genuine {
            Some(genuine) => self.expect(scene, genuine, said),
            None => Err(reason_of(said)),
        };
        match (expected, genuine) {
            (Ok(()), Some(genuine)) => self.take(scene.now, genuine, source, &scene.people[genuine.person], said),
            (Err(expected), _) => {
                assert!(matches!(said, Said::Refused(_)), "{said:?}, where {expected} refuses");
                assert_eq!(reason_of(said), expected);
                expected
            }
            (Ok(()), None) => unreachable!("nobody's datagram is never expected"),
        }
    }

    /// Steps 2 to 7. `Ok` when the timestamp must be taken.
    fn expect(&mut self, scene: &Scene<'_>, genuine: &Genuine, said: &Said) -> Result<(), &'static str> {
        let Genuine {
            id, person, request, ..
        } = genuine;
        let (now, timestamp) = (scene.now, request.timestamp);
        let in_time = timestamp.distance(now.wall) <= window(request);
        let day = timestamp.day();
        if !scene.held.contains(&genuine.identity) {
            return Err("tag");
        }
        if day != now.wall.day() && day != now.wall.neighbour_day() {
            assert!(!in_time, "the tag's day shuts out a clock inside the window");
            return Err("tag");
        }
        if self.seen.contains(id) {
            return Err("copy");
        }
        if !genuine.own_psk || scene.people[*person].revoked {
            return Err("who");
        }
        if !self.spend(*person, now.uptime) {
            return Err("rate");
        }
        self.seen.insert(*id);
        if !in_time {
            return Err("time");
        }
        if scene.waits {
            return Err("record");
        }
        if self.used.contains(&(*person, timestamp)) {
            return Err("replay");
        }
        if matches!(said, Said::Refused(DropReason::Replay)) {
            return self.shut_out(now, *person, timestamp);
        }
        Ok(())
    }

    /// A timestamp that was never taken is refused as if it were for two reasons only.
    fn shut_out(&self, now: Moment, person: usize, timestamp: UnixTime) -> Result<(), &'static str> {
        let later = self
            .used
            .range((person, timestamp)..=(person, UnixTime::from_nanos(u64::MAX)))
            .count();
        let went_back = self.latest.get(&person).is_some_and(|latest| *latest > now.wall);
        assert!(later >= 256 || went_back, "an honest client is shut out");
        Err("replay")
    }

    /// 50 at once, 10 more each second.
    fn spend(&mut self, person: usize, uptime: Duration) -> bool {
        let (credit, at) = self.credit.entry(person).or_insert((Duration::from_secs(5), uptime));
        *credit = (*credit + uptime.saturating_sub(*at)).min(Duration::from_secs(5));
        *at = uptime;
        let left = credit.checked_sub(Duration::from_millis(100));
        *credit = left.unwrap_or(*credit);
        left.is_some()
    }

    /// The key's rate is counted anew.
    pub fn forget_rate(&mut self, person: usize) {
        self.credit.remove(&person);
    }

    /// Steps 8 and 9.
    fn take(&mut self, now: Moment, genuine: &Genuine, source: IpAddr, person: &Person, said: &Said) -> &'static str {
        let Genuine { id, request, .. } = genuine;
        assert!(self.used.insert((genuine.person, request.timestamp)));
        assert!(!self.opened.contains(id), "one datagram opens twice");
        if let Some(lost) = self.lost.remove(id) {
            assert!(self.set_back > lost, "the wait after a lost record was too short");
        }
        self.order.push((genuine.person, request.timestamp, *id));
        let latest = self.latest.entry(genuine.person).or_default();
        *latest = now.wall.max(*latest);
        let (address, services, duration_s) = match &request.act {
            Act::Open {
                address,
                services,
                duration_s,
            } => (*address, services, Some(*duration_s)),
            Act::Close { address, services } => (*address, services, None),
            Act::Enroll(_) => unreachable!("nobody enrolls here"),
        };
        let address = address.named().unwrap_or(source);
        let (mut changed, mut older) = (Vec::new(), Vec::new());
        for name in services.iter().filter(|name| person.policy.services.contains(name)) {
            let Some((_, own, most)) = SERVICES.iter().find(|(known, ..)| *known == name.as_str()) else {
                continue;
            };
            let key = GrantKey {
                client: Some(person.key),
                address,
                service: name.as_str().into(),
            };
            let said_changed = matches!(said, Said::Taken { changed, .. } if changed.contains(&key.service));
            if self.is_older(&key, request.timestamp, said_changed) {
                older.push(key.service);
                continue;
            }
            changed.push(key.service.clone());
            let end = duration_s.map(|asked| now.uptime + length(person, u64::from(asked), *own, *most));
            self.change(key, request.timestamp, end, person, *id);
        }
        match said {
            Said::Policy => assert!(
                changed.is_empty() && older.is_empty(),
                "refused, and may: {changed:?} {older:?}"
            ),
            Said::Taken { changed: c, older: o } => assert_eq!((c, o), (&changed, &older)),
            Said::Refused(reason) => panic!("an honest client is shut out: {reason}"),
        }
        if changed.is_empty() && older.is_empty() {
            "policy"
        } else {
            ""
        }
    }

    /// A later request has changed it. The gateway forgets that after two hours; then only a clock that was set back
    /// lets the earlier request through.
    fn is_older(&self, key: &GrantKey, timestamp: UnixTime, said_changed: bool) -> bool {
        let Some(hold) = self.holds.get(key).filter(|hold| timestamp < hold.changed) else {
            return false;
        };
        assert!(
            !said_changed || self.set_back > hold.step,
            "an earlier request undid a later one"
        );
        !said_changed
    }

    fn change(&mut self, key: GrantKey, timestamp: UnixTime, end: Option<Duration>, person: &Person, id: u64) {
        let widen = person.policy.widen;
        let length = if key.address.is_ipv4() { widen.v4 } else { widen.v6 };
        let hold = Hold {
            end,
            opened: IpNet::new(key.address, length).unwrap().trunc(),
            changed: timestamp,
            step: self.step,
        };
        let door = door(&key, &hold);
        let before = self.holds.insert(key.clone(), hold);
        self.batch.push(Effect {
            key,
            before,
            opens: end.map(|end| (door, end)),
            id,
        });
    }

    /// A durable write has ended so.
    pub fn committed(&mut self, fate: Fate) {
        let staged: Vec<GrantKey> = self.batch.iter().map(|effect| effect.key.clone()).collect();
        if matches!(fate, Fate::Done | Fate::RefusedYetKept | Fate::CrashKept) {
            for key in staged.iter().chain(&self.owed) {
                self.stored.insert(key.clone(), self.holds[key].clone());
            }
            self.durable = self.order.len();
            for effect in &self.batch {
                if let Some((door, end)) = &effect.opens {
                    self.opened.insert(effect.id);
                    let limit = self.limits.entry(door.clone()).or_default();
                    *limit = (*end).max(*limit);
                }
            }
        }
        match fate {
            Fate::Done => self.owed.clear(),
            Fate::Refused | Fate::RefusedYetKept => return self.take_back(),
            Fate::CrashLost | Fate::CrashKept => {}
        }
        self.batch.clear();
    }

    /// What was opened was not; what was closed stays closed.
    fn take_back(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let keys: BTreeSet<GrantKey> = batch.iter().map(|effect| effect.key.clone()).collect();
        for key in keys {
            let mut own = batch.iter().enumerate().filter(|(_, effect)| effect.key == key);
            let (_, first) = own.clone().next().unwrap();
            let Some((at, _)) = own.rfind(|(_, effect)| effect.opens.is_none()) else {
                put(&mut self.holds, key, first.before.clone());
                continue;
            };
            // As it was after its last close.
            let after = batch[at + 1..].iter().find(|effect| effect.key == key);
            let closed = after.map_or_else(|| self.holds.get(&key).cloned(), |later| later.before.clone());
            put(&mut self.holds, key.clone(), closed);
            self.owed.insert(key);
        }
    }

    /// Ends what is unwanted.
    pub fn end_where(&mut self, unwanted: impl Fn(&GrantKey, &Hold) -> bool) {
        for (key, hold) in &mut self.holds {
            if hold.end.is_some() && unwanted(key, hold) {
                hold.end = None;
                self.owed.insert(key.clone());
            }
        }
    }

    pub fn expire(&mut self, uptime: Duration) {
        self.end_where(|_, hold| hold.end.is_some_and(|end| end <= uptime));
    }

    /// Openings that the kernel refused.
    pub fn not_opened(&mut self, keys: &[GrantKey]) {
        self.end_where(|key, _| keys.contains(key));
    }

    /// What the batch has opened so far.
    pub fn opening(&self) -> Vec<GrantKey> {
        let opening = self.batch.iter().filter(|effect| effect.opens.is_some());
        opening.map(|effect| effect.key.clone()).collect()
    }

    /// The process is gone, and what was not written.
    pub fn crash(&mut self) {
        for (person, timestamp, id) in self.order.drain(self.durable..) {
            self.used.remove(&(person, timestamp));
            assert!(!self.opened.contains(&id), "opened before it was durable");
        }
        self.holds.clear();
        self.owed.clear();
        self.batch.clear();
        self.seen.clear();
        self.credit.clear();
    }

    /// A process starts with what the disk has.
    pub fn start(&mut self, boot: u64, uptime: Duration, revoked: &[PublicKey]) {
        self.holds.clone_from(&self.stored);
        let same_boot = self.stored_boot == boot;
        for (key, hold) in &mut self.holds {
            let is_revoked = key.client.is_some_and(|client| revoked.contains(&client));
            let over = hold.end.is_some_and(|end| end <= uptime);
            if hold.end.is_some() && (!same_boot || over || is_revoked) {
                hold.end = None;
                if same_boot {
                    self.owed.insert(key.clone());
                }
            }
        }
        if !same_boot {
            self.limits.clear();
            self.stored.values_mut().for_each(|hold| hold.end = None);
            self.stored_boot = boot;
        }
    }

    pub fn snapshot(&self) -> Stored {
        Stored {
            used: self.durable,
            holds: self.stored.clone(),
            boot: self.stored_boot,
        }
    }

    /// The disk is as it was then. What was recorded since is forgotten: a limit of the design.
    pub fn restore(&mut self, snapshot: &Stored) {
        let keep = snapshot.used.min(self.order.len());
        for (person, timestamp, id) in self.order.drain(keep..) {
            self.used.remove(&(person, timestamp));
            self.opened.remove(&id);
        }
        self.durable = self.order.len();
        self.stored.clone_from(&snapshot.holds);
        if snapshot.boot != self.stored_boot {
            self.stored.values_mut().for_each(|hold| hold.end = None);
        }
    }

    /// The record is gone.
    pub fn lose(&mut self) {
        for (.., id) in self.order.drain(..) {
            if self.opened.remove(&id) {
                self.lost.insert(id, self.step);
            }
        }
        self.used.clear();
        self.durable = 0;
        self.stored.clear();
    }

    /// Every door that must stand open now, with its end.
    pub fn doors(&self, uptime: Duration) -> BTreeMap<Door, Duration> {
        let mut doors = BTreeMap::new();
        for (key, hold) in &self.holds {
            if let Some(end) = hold.end.filter(|end| *end > uptime) {
                let latest: &mut Duration = doors.entry(door(key, hold)).or_default();
                *latest = end.max(*latest);
            }
        }
        doors
    }

    /// The end that a door can have in the kernel at most, whatever the daemon could do about it.
    pub fn limit(&self, door: &Door) -> Option<Duration> {
        self.limits.get(door).copied()
    }
}

fn put(holds: &mut BTreeMap<GrantKey, Hold>, key: GrantKey, hold: Option<Hold>) {
    match hold {
        Some(hold) => drop(holds.insert(key, hold)),
        None => drop(holds.remove(&key)),
    }
}

fn door(key: &GrantKey, hold: &Hold) -> Door {
    Door {
        service: key.service.clone(),
        opened: hold.opened,
    }
}

fn length(person: &Person, asked: u64, own: u64, most: u64) -> Duration {
    let asked = if asked == 0 { own } else { asked };
    let cap = person.policy.max_duration.map_or(most, |cap| cap.as_secs().min(most));
    Duration::from_secs(asked.min(cap))
}

fn window(request: &Request) -> Duration {
    let (Act::Open { address, .. } | Act::Close { address, .. }) = &request.act else {
        unreachable!("nobody enrolls here")
    };
    Duration::from_secs(if *address == Address::AsSeen { 60 } else { 300 })
}

pub fn reason_of(said: &Said) -> &'static str {
    let Said::Refused(reason) = said else { return "" };
    match reason {
        DropReason::Frame(_) | DropReason::NotOurs | DropReason::Length(_) => "shape",
        DropReason::Tag => "tag",
        DropReason::Copy { .. } => "copy",
        DropReason::StaticKey | DropReason::Unknown | DropReason::Seal | DropReason::Revoked | DropReason::Expired => {
            "who"
        }
        DropReason::Rate => "rate",
        DropReason::Payload(_) => "payload",
        DropReason::Time { .. } | DropReason::TagDay { .. } => "time",
        DropReason::Replay => "replay",
        DropReason::Record => "record",
        DropReason::Kind | DropReason::Enroll(_) => "enroll",
    }
}

//! The world: time, network, people, an attacker, and everything that can happen to a gateway.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use spa_proto::{Moment, Psk, PublicKey, SecretKey};

use crate::dice::Dice;
use crate::disk::{Disk, Fate, Snapshot};
use crate::kernel::Kernel;
use crate::people::{Clock, GatewayKeys, Person, again, people};
use crate::process::{Process, Said};
use crate::truth::{Genuine, Scene, Stored, Truth};

const MALLORY: [u8; 4] = [203, 0, 113, 66];
/// How many datagrams the daemon takes at a time.
const BATCH: usize = 64;
/// How many datagrams the attacker remembers, the last ones and some from long ago.
const RECENT: usize = 300;
const OLD: usize = 60;

/// A datagram on its way or in the attacker's hands.
struct Sealed {
    octets: Vec<u8>,
    genuine: Option<Genuine>,
}

/// What happened, so that a run in which nothing did is noticed.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: u64,
    pub delivered: u64,
    pub opened: u64,
    pub closed: u64,
    pub older: u64,
    pub refused: BTreeMap<&'static str, u64>,
    pub refused_commits: u64,
    pub crashes: u64,
    pub reboots: u64,
    pub snapshots_restored: u64,
    pub records_lost: u64,
    pub rotations: u64,
    pub most_kept: usize,
}

pub struct World {
    seed: u64,
    dice: Dice,
    now: Duration,
    booted: Duration,
    boot: u64,
    clock: Clock,
    people: Vec<Person>,
    held: Vec<(u64, GatewayKeys)>,
    disk: Disk,
    kernel: Kernel,
    process: Option<Process>,
    truth: Truth,
    snapshots: Vec<(Snapshot, Stored)>,
    network: BTreeMap<(Duration, u64), (Rc<Sealed>, SocketAddr)>,
    recent: VecDeque<Rc<Sealed>>,
    old: Vec<Rc<Sealed>>,
    /// Counts datagrams, flights and identities.
    number: u64,
    /// From then on the sets must be exactly what they should be.
    exact_from: Duration,
    pub tally: Tally,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, step {}, true time {:?}", self.seed, self.truth.step, self.now);
        }
    }
}

impl World {
    pub fn new(seed: u64, disk: Disk) -> Self {
        let mut dice = Dice::new(seed);
        let people = people(&mut dice);
        let held = vec![(0, GatewayKeys::generate(&mut dice))];
        Self {
            seed,
            now: Duration::from_secs(1),
            booted: Duration::ZERO,
            boot: 0,
            clock: Clock::default(),
            people,
            held,
            disk,
            kernel: Kernel::default(),
            process: None,
            truth: Truth::default(),
            snapshots: Vec::new(),
            network: BTreeMap::new(),
            recent: VecDeque::new(),
            old: Vec::new(),
            number: 0,
            exact_from: Duration::ZERO,
            tally: Tally::default(),
            dice,
        }
    }

    pub fn at_step(&mut self, step: u64) {
        self.truth.step = step;
    }

    /// One thing happens, and what follows from it.
    pub fn step(&mut self) {
        match self.dice.below(2_000) {
            0..800 => self.pass_time(),
            800..930 => self.knock(),
            930..1_040 => self.attack(),
            1_040..1_044 => self.crash(),
            1_044..1_046 => self.reboot(),
            1_046..1_050 => self.take_snapshot(),
            1_050 => self.restore_snapshot(),
            1_051 if self.dice.once_in(4) => self.lose_record(),
            1_052..1_062 => self.set_somebodys_clock(),
            1_062..1_065 => self.set_own_clock(),
            1_065..1_067 => self.rotate(),
            1_067..1_073 => self.revoke_or_restore(),
            1_073..1_076 => self.flush_sets(),
            1_076..1_081 => self.break_or_mend_kernel(),
            1_081..1_086 => self.close_by_command(),
            1_086 if self.dice.once_in(3) => self.flood(),
            _ => self.now += self.dice.up_to_ms(300),
        }
        if self.process.is_none() && self.dice.once_in(4) {
            self.start();
        }
        self.deliver();
        self.on_time();
        self.check();
    }

    fn moment(&self) -> Moment {
        Moment {
            wall: self.clock.read(self.now),
            uptime: self.now.checked_sub(self.booted).unwrap(),
        }
    }

    fn pass_time(&mut self) {
        let most = *self.dice.pick(&[1, 50, 50, 2_000, 2_000, 20_000]);
        // Long enough that ended grants are forgotten.
        let most = if self.dice.once_in(2_000) { 4 * 3_600_000 } else { most };
        self.now += self.dice.up_to_ms(most);
    }

    /// A client's three rounds.
    fn knock(&mut self) {
        let who = self.dice.below(self.people.len());
        let home = self.people[who].home(&mut self.dice);
        let act = self.people[who].wish(home, &mut self.dice);
        let rounds = [0, 500, 1_500];
        let count = 1 + self.dice.below(3);
        for ms in &rounds[..count] {
            let at = self.now + Duration::from_millis(*ms);
            let sealed = self.seal(who, again(&act), at, true);
            self.send(&sealed, home, at);
        }
    }

    fn seal(&mut self, who: usize, act: spa_proto::Act, at: Duration, own_psk: bool) -> Rc<Sealed> {
        self.number += 1;
        let person = &mut self.people[who];
        let (identity, keys) = self
            .held
            .iter()
            .find(|(id, _)| *id == person.identity)
            .unwrap_or(&self.held[0]);
        let psk = if own_psk {
            Psk::from_bytes(person.psk.expose())
        } else {
            Psk::generate(&mut self.dice)
        };
        let (request, octets) = person.seal(act, keys, &psk, at, &mut self.dice);
        let genuine = Genuine {
            id: self.number,
            person: who,
            identity: *identity,
            request,
            own_psk,
        };
        let sealed = Rc::new(Sealed {
            octets,
            genuine: Some(genuine),
        });
        self.remember(&sealed);
        sealed
    }

    fn remember(&mut self, sealed: &Rc<Sealed>) {
        self.tally.sent += 1;
        self.recent.push_back(Rc::clone(sealed));
        if self.recent.len() > RECENT {
            let oldest = self.recent.pop_front().unwrap();
            if self.old.len() < OLD {
                self.old.push(oldest);
            } else if self.dice.once_in(20) {
                let place = self.dice.below(OLD);
                self.old[place] = oldest;
            }
        }
    }

    /// On the way it is lost, doubled, or late.
    fn send(&mut self, sealed: &Rc<Sealed>, from: IpAddr, at: Duration) {
        if self.dice.once_in(8) {
            return;
        }
        let copies = if self.dice.once_in(10) { 2 } else { 1 };
        for _ in 0..copies {
            let most = *self.dice.pick(&[10, 10, 10, 200, 3_000, 400_000]);
            let late = self.dice.up_to_ms(most);
            self.fly(Rc::clone(sealed), from, at + late);
        }
    }

    fn fly(&mut self, sealed: Rc<Sealed>, from: IpAddr, at: Duration) {
        self.number += 1;
        let source = SocketAddr::new(from, 40_000);
        self.network.insert((at, self.number), (sealed, source));
    }

    fn attack(&mut self) {
        let all = if self.dice.once_in(3) { self.old.len() } else { 0 };
        let known = if all > 0 {
            self.dice.below(all)
        } else {
            self.dice.below(self.recent.len().max(1))
        };
        let known = if all > 0 {
            self.old.get(known)
        } else {
            self.recent.get(known)
        };
        let Some(known) = known.cloned() else { return };
        let from = if self.dice.once_in(2) {
            MALLORY.into()
        } else {
            self.people[self.dice.below(5)].homes[0]
        };
        let sealed = match self.dice.below(10) {
            0 => self.changed(&known),
            1 => self.with_stolen_key(),
            2 => self.of_a_stranger(),
            _ => known,
        };
        let late = self.dice.up_to_ms(100);
        self.fly(sealed, from, self.now + late);
    }

    fn changed(&mut self, known: &Sealed) -> Rc<Sealed> {
        let mut octets = known.octets.clone();
        let place = self.dice.below(octets.len());
        octets[place] ^= 1 << self.dice.below(8);
        Rc::new(Sealed { octets, genuine: None })
    }

    /// Whoever has a client's private key and not its PSK.
    fn with_stolen_key(&mut self) -> Rc<Sealed> {
        let who = self.dice.below(self.people.len());
        let act = self.people[who].wish(MALLORY.into(), &mut self.dice);
        self.seal(who, act, self.now, false)
    }

    /// Whoever has the gateway's keys that clients have, and a key of his own.
    fn of_a_stranger(&mut self) -> Rc<Sealed> {
        let own = SecretKey::generate(&mut self.dice);
        let person = &mut self.people[0];
        let theirs = std::mem::replace(&mut person.secret, own);
        let act = person.wish(MALLORY.into(), &mut self.dice);
        let psk = Psk::from_bytes(person.psk.expose());
        let (_, octets) = person.seal(act, &self.held[0].1, &psk, self.now, &mut self.dice);
        person.secret = theirs;
        Rc::new(Sealed { octets, genuine: None })
    }

    /// One client sends more than one may.
    fn flood(&mut self) {
        let who = self.dice.below(self.people.len());
        let home = self.people[who].home(&mut self.dice);
        for _ in 0..60 {
            let act = self.people[who].wish(home, &mut self.dice);
            let sealed = self.seal(who, act, self.now, true);
            self.fly(sealed, home, self.now);
        }
    }

    /// How the next durable write ends.
    fn fate(&mut self) -> Fate {
        if !self.dice.once_in(60) {
            return Fate::Done;
        }
        let crash = [Fate::CrashLost, Fate::CrashKept];
        let all = [Fate::CrashLost, Fate::CrashKept, Fate::Refused, Fate::RefusedYetKept];
        let fates: &[Fate] = if self.disk.is_real() { &crash } else { &all };
        *self.dice.pick(fates)
    }

    /// Everything that is due arrives.
    fn deliver(&mut self) {
        let later = self.network.split_off(&(self.now, u64::MAX));
        let due: Vec<_> = std::mem::replace(&mut self.network, later).into_values().collect();
        for batch in due.chunks(BATCH) {
            self.take(batch);
        }
    }

    fn take(&mut self, batch: &[(Rc<Sealed>, SocketAddr)]) {
        let (fate, now) = (self.fate(), self.moment());
        let Some(process) = &mut self.process else { return };
        let waits = process.record.waits_until().is_some();
        let datagrams: Vec<_> = batch
            .iter()
            .map(|(sealed, source)| (*source, &*sealed.octets))
            .collect();
        let said = process.take(now, &datagrams, &mut self.kernel, fate);
        let held: Vec<u64> = self.held.iter().map(|(id, _)| *id).collect();
        let scene = Scene {
            now,
            people: &self.people,
            held: &held,
            waits,
        };
        for ((sealed, source), said) in batch.iter().zip(&said) {
            self.tally.delivered += 1;
            let genuine = sealed.genuine.as_ref();
            let reason = self.truth.judge(&scene, genuine, source.ip(), said);
            self.tally.count(genuine, reason, said);
        }
        let opening = self.truth.opening();
        let fails = self.kernel.fails;
        self.follow(move |truth| {
            if fails {
                truth.not_opened(&opening);
            }
        });
    }

    /// Tells the truth how the process's writes ended; `between` is what the process did after the first of them, if
    /// that was done.
    fn follow(&mut self, between: impl FnOnce(&mut Truth)) {
        let Some(process) = &mut self.process else { return };
        let mut fates = std::mem::take(&mut process.log).into_iter();
        let mut last = fates.next();
        if let Some(first) = last {
            self.truth.committed(first);
            if first == Fate::Done {
                between(&mut self.truth);
            }
            self.tally.refused_commits += u64::from(matches!(first, Fate::Refused | Fate::RefusedYetKept));
        }
        for fate in fates {
            self.truth.committed(fate);
            last = Some(fate);
        }
        if matches!(last, Some(Fate::CrashLost | Fate::CrashKept)) {
            self.crash();
        }
    }

    fn on_time(&mut self) {
        let (fate, now) = (self.fate(), self.moment());
        let Some(process) = &mut self.process else { return };
        process.on_time(now, &mut self.kernel, fate);
        self.truth.expire(now.uptime);
        self.follow(|_| {});
    }

    fn crash(&mut self) {
        if self.process.take().is_some() {
            self.tally.crashes += 1;
            self.truth.crash();
        }
    }

    fn start(&mut self) {
        let (fate, now) = (self.fate(), self.moment());
        let identities = self.held.iter().map(|(_, keys)| keys.identity()).collect();
        let boot_id = format!("boot {}", self.boot);
        let revoked: Vec<PublicKey> = self.people.iter().filter(|p| p.revoked).map(|p| p.key).collect();
        self.truth.start(self.boot, now.uptime, &revoked);
        let process = Process::start(
            &self.disk,
            identities,
            &self.people,
            boot_id,
            now,
            &mut self.kernel,
            fate,
        );
        self.process = Some(process);
        self.follow(|_| {});
    }

    fn reboot(&mut self) {
        self.crash();
        self.kernel.flush();
        self.now += Duration::from_secs(20);
        self.booted = self.now.checked_sub(Duration::from_secs(5)).unwrap();
        self.boot += 1;
        self.tally.reboots += 1;
    }

    fn take_snapshot(&mut self) {
        if self.snapshots.len() < 20 {
            self.snapshots.push((self.disk.snapshot(), self.truth.snapshot()));
        }
    }

    fn restore_snapshot(&mut self) {
        self.crash();
        if self.snapshots.is_empty() {
            return;
        }
        let place = self.dice.below(self.snapshots.len());
        // Later ones are of another past now.
        self.snapshots.truncate(place + 1);
        let (disk, stored) = self.snapshots.pop().unwrap();
        self.disk.restore(&disk);
        self.truth.restore(&stored);
        self.tally.snapshots_restored += 1;
    }

    fn lose_record(&mut self) {
        self.crash();
        self.disk.lose();
        self.truth.lose();
        self.snapshots.clear();
        self.tally.records_lost += 1;
    }

    fn set_somebodys_clock(&mut self) {
        let who = self.dice.below(self.people.len());
        self.people[who].clock.set(&mut self.dice, self.now);
    }

    fn set_own_clock(&mut self) {
        if self.clock.set(&mut self.dice, self.now) {
            self.truth.set_back = self.truth.step;
        }
    }

    /// A new identity beside the old, or the old one goes; people follow when they hear of it.
    fn rotate(&mut self) {
        if self.held.len() > 1 {
            self.held.remove(0);
        } else {
            self.number += 1;
            let new = (self.number, GatewayKeys::generate(&mut self.dice));
            self.held.push(new);
        }
        let newest = self.held.last().unwrap().0;
        for person in &mut self.people {
            if self.dice.once_in(2) || !self.held.iter().any(|(id, _)| *id == person.identity) {
                person.identity = newest;
            }
        }
        self.tally.rotations += 1;
        let identities = self.held.iter().map(|(_, keys)| keys.identity()).collect();
        if let Some(process) = &mut self.process {
            process.hold(identities);
        }
    }

    fn revoke_or_restore(&mut self) {
        let who = self.dice.below(self.people.len());
        let revoked = !self.people[who].revoked && self.dice.once_in(8);
        self.people[who].revoked = revoked;
        let key = self.people[who].key;
        let (fate, now) = (self.fate(), self.moment());
        let Some(process) = &mut self.process else { return };
        process.revoke(&key, revoked, now.uptime, &mut self.kernel, fate);
        self.truth.forget_rate(who);
        if revoked {
            self.truth.end_where(|grant, _| grant.client == Some(key));
        }
        self.follow(|_| {});
    }

    fn close_by_command(&mut self) {
        let service = *self.dice.pick(&["ssh", "db", "web"]);
        let (fate, now) = (self.fate(), self.moment());
        let Some(process) = &mut self.process else { return };
        process.end_grants(now.uptime, &mut self.kernel, fate, |grant| grant.service == service);
        self.truth.end_where(|grant, _| grant.service == service);
        self.follow(|_| {});
    }

    fn flush_sets(&mut self) {
        self.kernel.flush();
        self.exact_from = self.now + Duration::from_secs(2);
    }

    fn break_or_mend_kernel(&mut self) {
        self.kernel.fails = !self.kernel.fails && self.dice.once_in(3);
        self.exact_from = self.now + Duration::from_secs(2);
    }

    /// The doors in the kernel are those that must be open, and no other.
    fn check(&mut self) {
        let uptime = self.moment().uptime;
        let second = Duration::from_secs(1);
        let expected = self.truth.doors(uptime);
        let is_exact = self.process.is_some() && !self.kernel.fails && self.now >= self.exact_from;
        let there = self.kernel.doors(uptime);
        for (door, end) in there {
            let limit = if is_exact {
                expected.get(door).copied()
            } else {
                self.truth.limit(door)
            };
            assert!(
                limit.is_some_and(|limit| *end < limit + second),
                "{door:?} is open until {end:?}, not {limit:?}"
            );
        }
        if is_exact {
            for (door, end) in &expected {
                assert!(
                    there.get(door).is_some_and(|there| there >= end),
                    "{door:?} is not open until {end:?}"
                );
            }
        }
        if let Some(process) = &self.process {
            let kept = self.people.iter().map(|person| process.kept_of(&person.key));
            self.tally.most_kept = self.tally.most_kept.max(kept.max().unwrap());
            assert!(self.tally.most_kept <= 64 * 3);
        }
    }
}

impl Tally {
    fn count(&mut self, genuine: Option<&Genuine>, reason: &'static str, said: &Said) {
        if !reason.is_empty() {
            *self.refused.entry(reason).or_default() += 1;
        }
        let (Said::Taken { changed, older }, Some(genuine)) = (said, genuine) else {
            return;
        };
        let is_open = matches!(genuine.request.act, spa_proto::Act::Open { .. });
        let count = changed.len() as u64;
        *(if is_open { &mut self.opened } else { &mut self.closed }) += count;
        self.older += older.len() as u64;
    }
}

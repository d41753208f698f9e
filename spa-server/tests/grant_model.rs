//! Ends of grants, model-checked: every order in which few requests of two clients behind one address arrive, with time
//! passing, revocation, and restarts in between (docs/proofs.md).
//!
//! The model is step 9 of the protocol page. The real `GrantTable` walks beside it through every state and must hold
//! the same door open until the same end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use ipnet::IpNet;
use spa_proto::{PublicKey, UnixTime};
use spa_server::backend::Door;
use spa_server::grant::{GrantKey, GrantTable, Older, Terms};

/// Requests of a client have timestamps 1 to `LAST`; each arrives once at most, as step 7 sees to.
const LAST: u8 = 3;
/// Time goes to here.
const END: u8 = 4;
const LENGTHS: [u8; 2] = [1, 3];

/// One client's hold on the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Hold {
    /// 0 when it has ended.
    end: u8,
    changed: u8,
    /// Which timestamps have arrived, a bit for each.
    arrived: u8,
    /// What the request with the greatest timestamp of all that arrived has asked for; 0 is a close or a revocation.
    wanted: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    now: u8,
    holds: [Hold; 2],
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open { client: usize, stamp: u8, length: u8 },
    Close { client: usize, stamp: u8 },
    Tick,
    Revoke { client: usize },
    Restart,
}

fn steps() -> Vec<Step> {
    let mut steps = vec![Step::Tick, Step::Restart];
    for client in 0..2 {
        steps.push(Step::Revoke { client });
        for stamp in 1..=LAST {
            steps.push(Step::Close { client, stamp });
            steps.extend(LENGTHS.map(|length| Step::Open { client, stamp, length }));
        }
    }
    steps
}

impl State {
    /// Nothing when the step is none: a timestamp that has arrived, or the end of time.
    fn after(mut self, step: Step) -> Option<Self> {
        match step {
            Step::Open { client, stamp, length } => self.request(client, stamp, self.now + length)?,
            Step::Close { client, stamp } => self.request(client, stamp, 0)?,
            Step::Tick => {
                self.now = (self.now < END).then_some(self.now + 1)?;
                for hold in &mut self.holds {
                    hold.end = if hold.end > self.now { hold.end } else { 0 };
                }
            }
            Step::Revoke { client } => {
                let hold = &mut self.holds[client];
                (hold.end, hold.wanted) = (0, 0);
            }
            Step::Restart => {}
        }
        Some(self)
    }

    fn request(&mut self, client: usize, stamp: u8, end: u8) -> Option<()> {
        let hold = &mut self.holds[client];
        if hold.arrived & 1 << stamp != 0 {
            return None;
        }
        if hold.arrived < 1 << stamp {
            hold.wanted = end;
        }
        hold.arrived |= 1 << stamp;
        if stamp >= hold.changed {
            (hold.end, hold.changed) = (end, stamp);
        }
        Some(())
    }

    /// The theorems.
    fn check(self) {
        for hold in self.holds {
            let wanted = if hold.wanted > self.now { hold.wanted } else { 0 };
            assert_eq!(hold.end, wanted, "the latest request does not win: {self:?}");
            let longest = self.now + *LENGTHS.last().unwrap();
            assert!(hold.end <= longest, "it outlasts what anyone asked for: {self:?}");
        }
    }

    fn door_end(self) -> Option<Duration> {
        let end = self.holds.iter().map(|hold| hold.end).max().unwrap();
        (end > 0).then(|| uptime(end))
    }
}

fn uptime(time: u8) -> Duration {
    Duration::from_secs(time.into())
}

fn stamp_of(stamp: u8) -> UnixTime {
    UnixTime::from_secs(1_800_000_000 + u64::from(stamp))
}

fn key(client: usize) -> GrantKey {
    GrantKey {
        client: Some(PublicKey([u8::try_from(client).unwrap(); 32])),
        address: "192.0.2.7".parse().unwrap(),
        service: "ssh".into(),
    }
}

fn opened() -> IpNet {
    "192.0.2.7/32".parse().unwrap()
}

fn door() -> Door {
    Door {
        service: "ssh".into(),
        opened: opened(),
    }
}

/// The same step with the real table.
fn play(table: &mut GrantTable, step: Step, before: &State, after: &State) {
    let (now, wall) = (uptime(before.now), UnixTime::default());
    match step {
        Step::Open { client, stamp, length } => {
            let terms = Terms {
                opened: opened(),
                duration: uptime(length),
            };
            let said = table.open(&key(client), &terms, stamp_of(stamp), wall, now);
            assert_eq!(said.is_err(), before.holds[client].changed > stamp);
            assert!(matches!(said, Ok(None) | Err(Older)));
        }
        Step::Close { client, stamp } => {
            let was_open = before.holds[client].end > 0;
            let said = table.close(&key(client), stamp_of(stamp), wall, now);
            let newer = before.holds[client].changed > stamp;
            let expected = if newer { Err(Older) } else { Ok(was_open.then(door)) };
            assert_eq!(said, expected);
        }
        Step::Tick => {
            let over = (0..2).filter(|client| before.holds[*client].end > 0 && after.holds[*client].end == 0);
            let mut said = table.expire(uptime(after.now));
            said.sort();
            assert_eq!(said, over.map(key).collect::<Vec<_>>());
        }
        Step::Revoke { client } => drop(table.end_where(now, |other, _| *other == key(client))),
        Step::Restart => *table = restarted(table, now),
    }
}

/// Written and read back.
fn restarted(table: &GrantTable, now: Duration) -> GrantTable {
    let mut new = GrantTable::default();
    for client in 0..2 {
        if let Some(grant) = table.get(&key(client)) {
            new.restore(key(client), (grant.opened, grant.since, grant.changed), grant.end, now);
        }
    }
    new
}

fn is_same(table: &GrantTable, state: &State) {
    let held = table.holder(&door()).map(|holder| holder.end);
    assert_eq!(held, state.door_end(), "{state:?}");
    assert_eq!(table.opened("ssh").count(), usize::from(held.is_some()));
    for (client, hold) in state.holds.iter().enumerate() {
        let grant = table.get(&key(client));
        let end = grant.and_then(|grant| grant.end);
        assert_eq!(end, (hold.end > 0).then(|| uptime(hold.end)), "{state:?}");
        let changed = grant.map(|grant| grant.changed);
        assert_eq!(changed, (hold.changed > 0).then(|| stamp_of(hold.changed)), "{state:?}");
    }
}

#[test]
fn the_latest_request_wins_in_every_order_and_the_table_agrees() {
    let steps = steps();
    let mut seen = HashSet::from([State::default()]);
    let mut queue = VecDeque::from([(State::default(), GrantTable::default())]);
    let mut walked = 0_u64;
    while let Some((before, table)) = queue.pop_front() {
        for step in &steps {
            let Some(after) = before.after(*step) else { continue };
            after.check();
            let mut table = table.clone();
            play(&mut table, *step, &before, &after);
            is_same(&table, &after);
            walked += 1;
            if seen.insert(after) {
                queue.push_back((after, table));
            }
        }
    }
    println!("{} states, {walked} steps", seen.len());
    assert!(seen.len() > 1_000);
}

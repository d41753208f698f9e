//! When doors end, for a packet process that does not close them: no kernel ends those of TCP Wrappers and of commands. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use super::message::Timed;
use crate::backend::Door;

/// The packet process closes a door at its end; this long after it is clear that it does not.
const GRACE: Duration = Duration::from_secs(2);

/// What was asked to stand open, until when, on the clock of the boot.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    ends: BTreeMap<Door, Duration>,
}

impl Overdue {
    pub(super) fn opened(&mut self, asked: &Timed) {
        self.ends.insert(asked.door.clone(), asked.until);
    }

    pub(super) fn closed(&mut self, door: &Door) {
        self.ends.remove(door);
    }

    pub(super) fn replace(&mut self, all: &[Timed]) {
        let ends = all.iter().map(|asked| (asked.door.clone(), asked.until));
        self.ends = ends.collect();
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn contains(&self, door: &Door) -> bool {
        self.ends.contains_key(door)
    }

    /// When the next one is to be closed.
    pub(super) fn due(&self) -> Option<Duration> {
        self.ends.values().min().map(|end| *end + GRACE)
    }

    /// Takes out what is to be closed at `now`.
    pub(super) fn take(&mut self, now: Duration) -> Vec<Door> {
        let over = self.ends.extract_if(.., |_, end| *end + GRACE <= now);
        over.map(|(door, _)| door).collect()
    }

    /// What else stands open to a service.
    pub(super) fn others(&self, service: &str) -> Vec<IpNet> {
        let doors = self.ends.keys().filter(|door| door.service == service);
        doors.map(|door| door.opened).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(opened: &str, until: u64) -> Timed {
        Timed {
            door: Door {
                service: "ssh".into(),
                opened: opened.parse().unwrap(),
            },
            client: None,
            until: Duration::from_secs(until),
        }
    }

    #[test]
    fn closed_when_nobody_else_does() {
        let mut overdue = Overdue::default();
        let (first, second) = (timed("192.0.2.1/32", 10), timed("192.0.2.2/32", 20));
        overdue.opened(&first);
        overdue.opened(&second);
        assert_eq!(overdue.due(), Some(Duration::from_secs(12)));
        assert!(overdue.take(Duration::from_secs(11)).is_empty());
        assert_eq!(overdue.take(Duration::from_secs(12)), [first.door]);
        assert_eq!(overdue.others("ssh"), ["192.0.2.2/32".parse().unwrap()]);
        overdue.closed(&second.door);
        assert_eq!(overdue.due(), None);
    }
}

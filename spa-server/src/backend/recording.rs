//! A backend that does nothing and remembers what it was asked: for tests and for `--dry-run`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Backend, BackendError, Door, Opening, Repairs};

/// One call of [`Backend`] that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Backend::protect`].
    Protect,
    /// [`Backend::self_test`].
    SelfTest,
    /// [`Backend::open`].
    Open(Opening),
    /// [`Backend::close`].
    Close(Door),
    /// [`Backend::reconcile`].
    Reconcile(Vec<Opening>),
    /// [`Backend::close_all`].
    CloseAll,
    /// [`Backend::uninstall`].
    Uninstall,
}

/// What a [`Recording`] was asked, readable while a daemon owns the backend.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// Takes out the calls so far, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, call: Call) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// The do-nothing twin of a backend.
#[derive(Debug)]
pub struct Recording {
    name: &'static str,
    calls: Calls,
    doors: BTreeMap<Door, Opening>,
}

impl Recording {
    /// A twin of the backend called `name`, with every door closed.
    #[must_use]
    pub fn of(name: &'static str) -> Self {
        Self {
            name,
            calls: Calls::default(),
            doors: BTreeMap::new(),
        }
    }

    /// What it was and will be asked.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }
}

impl Backend for Recording {
    fn name(&self) -> &'static str {
        self.name
    }

    fn protect(&mut self) -> Result<Repairs, BackendError> {
        self.calls.push(Call::Protect);
        Ok(Repairs::default())
    }

    fn self_test(&mut self) -> Result<(), BackendError> {
        self.calls.push(Call::SelfTest);
        Ok(())
    }

    fn open(&mut self, opening: &Opening) -> Result<(), BackendError> {
        self.calls.push(Call::Open(opening.clone()));
        self.doors.insert(opening.door.clone(), opening.clone());
        Ok(())
    }

    fn close(&mut self, door: &Door) -> Result<(), BackendError> {
        self.calls.push(Call::Close(door.clone()));
        self.doors.remove(door);
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<Opening>, BackendError> {
        Ok(self.doors.values().cloned().collect())
    }

    fn reconcile(&mut self, openings: &[Opening]) -> Result<Repairs, BackendError> {
        self.calls.push(Call::Reconcile(openings.to_vec()));
        let wanted: BTreeMap<_, _> = openings.iter().map(|o| (o.door.clone(), o.clone())).collect();
        let reopened = wanted
            .keys()
            .filter(|door| !self.doors.contains_key(door))
            .cloned()
            .collect();
        let removed = self
            .doors
            .keys()
            .filter(|door| !wanted.contains_key(door))
            .cloned()
            .collect();
        self.doors = wanted;
        Ok(Repairs {
            removed,
            reopened,
            ..Repairs::default()
        })
    }

    fn close_all(&mut self) -> Result<(), BackendError> {
        self.calls.push(Call::CloseAll);
        self.doors.clear();
        Ok(())
    }

    fn uninstall(&mut self) -> Result<(), BackendError> {
        self.calls.push(Call::Uninstall);
        self.doors.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn opening(service: &str, seconds: u64) -> Opening {
        let door = Door {
            service: service.into(),
            opened: "192.0.2.5/32".parse().unwrap(),
        };
        Opening {
            door,
            client: Some("alice".into()),
            remaining: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn it_remembers_calls_and_what_would_be_open() {
        let mut backend = Recording::of("iptables");
        let calls = backend.calls();
        backend.open(&opening("ssh", 30)).unwrap();
        backend.open(&opening("ssh", 60)).unwrap();
        assert_eq!(backend.list().unwrap(), [opening("ssh", 60)]);
        backend.close(&opening("ssh", 0).door).unwrap();
        assert_eq!(backend.list().unwrap(), []);
        let expected = [
            Call::Open(opening("ssh", 30)),
            Call::Open(opening("ssh", 60)),
            Call::Close(opening("ssh", 0).door),
        ];
        assert_eq!(calls.take(), expected);
        assert_eq!(calls.take(), []);
    }

    #[test]
    fn reconciling_says_what_it_changed() {
        let mut backend = Recording::of("iptables");
        backend.open(&opening("db", 30)).unwrap();
        let repairs = backend.reconcile(&[opening("ssh", 30)]).unwrap();
        assert_eq!(repairs.reopened, [opening("ssh", 0).door]);
        assert_eq!(repairs.removed, [opening("db", 0).door]);
    }
}

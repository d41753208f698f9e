//! The sets: who may come in, and until when. Nothing here starts a program.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::fault;
use super::plan::{Plan, allow_set, set_name, set_prefix};
use crate::backend::{BackendError, Door, Opening};
use crate::config::LONGEST_DURATION;
use crate::netlink::Family;
use crate::netlink::ipset::{Creation, Element, Ipset, LONGEST_TIMEOUT, SET_TYPE, Set};

/// How long the peers of connections that existed before the drop may come in.
pub const GUEST_TIME_S: u32 = 60;
/// Ends in the kernel and in the daemon's clock differ by their rounding and by the time between two looks.
const SLACK_S: u32 = 2;
/// A rule's hold on a set ends a little after the rule: nf_tables frees it in the background.
const RELEASE: Duration = Duration::from_secs(2);
/// What the self-test puts in; the kernel takes no packet from a multicast address.
const PROBES: [(Family, &str); 2] = [(Family::V4, "224.0.0.1/32"), (Family::V6, "ff02::1/128")];
const PROBE_TIME_S: u32 = 2;

/// The sets of this backend, over one line to the kernel that is opened when first needed.
#[derive(Debug, Default)]
pub struct Doors {
    line: Option<Ipset>,
    guests: BTreeMap<(String, IpNet), Instant>,
}

/// One way in which a set is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The set.
    pub set: String,
    /// Which door.
    pub door: Door,
    /// How long it should be open from now; none when it should not be.
    pub wanted: Option<u32>,
}

/// What is left in whole seconds as the kernel counts them: rounded up, and none when nothing is left, since 0 would
/// mean for ever.
#[must_use]
pub fn whole_seconds(remaining: Duration) -> Option<u32> {
    let up = remaining
        .as_secs()
        .saturating_add(u64::from(remaining.subsec_nanos() > 0));
    let seconds = u32::try_from(up).unwrap_or(u32::MAX).min(LONGEST_TIMEOUT);
    (seconds > 0).then_some(seconds)
}

impl Doors {
    /// Opens a door for `remaining`, or shuts it if nothing remains.
    pub fn open(&mut self, opening: &Opening) -> Result<(), BackendError> {
        let Some(seconds) = whole_seconds(opening.remaining) else {
            return self.close(&opening.door);
        };
        let set = set_of(&opening.door);
        self.ipset()?.add(&set, opening.door.opened.trunc(), seconds)?;
        self.guests.remove(&(set, opening.door.opened.trunc()));
        Ok(())
    }

    /// Shuts a door.
    pub fn close(&mut self, door: &Door) -> Result<(), BackendError> {
        let set = set_of(door);
        self.ipset()?.remove(&set, door.opened.trunc())?;
        self.guests.remove(&(set, door.opened.trunc()));
        Ok(())
    }

    /// What is in the services' sets of `family`; absent sets are empty.
    pub fn list(&mut self, plan: &Plan, family: Family) -> Result<Vec<Opening>, BackendError> {
        let mut openings = Vec::new();
        for service in &plan.services {
            let set = self.look(&set_name(family, &service.name))?.unwrap_or_default();
            openings.extend(set.elements.into_iter().map(|element| opening(&service.name, element)));
        }
        Ok(openings)
    }

    /// Makes the sets of `family` where they are absent, and the always-allow set what it should be. What was absent.
    pub fn ensure(&mut self, plan: &Plan, family: Family) -> Result<Vec<String>, BackendError> {
        let mut restored = Vec::new();
        for name in plan.sets(family) {
            if self.ipset()?.create(&name, family)? == Creation::Created {
                restored.push(format!("set {name}"));
            }
        }
        restored.extend(self.ensure_allowed(plan, family)?);
        Ok(restored)
    }

    fn ensure_allowed(&mut self, plan: &Plan, family: Family) -> Result<Vec<String>, BackendError> {
        let name = allow_set(family);
        let wanted: BTreeSet<Element> = plan
            .allowed(family)
            .map(|net| Element { net, remaining: None })
            .collect();
        let there = self.allowed(family)?;
        for element in there.difference(&wanted) {
            self.ipset()?.remove(&name, element.net)?;
        }
        let absent: Vec<IpNet> = wanted.difference(&there).map(|element| element.net).collect();
        for net in &absent {
            self.ipset()?.add(&name, *net, 0)?;
        }
        if self.allowed(family)? != wanted {
            return Err(fault(format!("the set {name} does not hold what was put into it")));
        }
        Ok(absent.iter().map(|net| format!("{net} in set {name}")).collect())
    }

    fn allowed(&mut self, family: Family) -> Result<BTreeSet<Element>, BackendError> {
        let set = self.look(&allow_set(family))?.unwrap_or_default();
        Ok(set.elements.into_iter().filter(|element| !is_ending(element)).collect())
    }

    /// Whether all sets of `family` are there, of the right kind, and hold just what they should.
    pub fn are_intact(&mut self, plan: &Plan, family: Family, openings: &[Opening]) -> Result<bool, BackendError> {
        for name in plan.sets(family) {
            let kind = self.ipset()?.header(&name)?;
            if kind.is_none_or(|set| set.kind != SET_TYPE || set.family != family.number()) {
                return Ok(false);
            }
        }
        let wanted: BTreeSet<Element> = plan
            .allowed(family)
            .map(|net| Element { net, remaining: None })
            .collect();
        Ok(self.allowed(family)? == wanted && self.differences(plan, family, openings)?.is_empty())
    }

    /// In what the services' sets of `family` differ from `openings`.
    pub fn differences(
        &mut self,
        plan: &Plan,
        family: Family,
        openings: &[Opening],
    ) -> Result<Vec<Difference>, BackendError> {
        let now = Instant::now();
        self.guests.retain(|_, end| *end > now);
        let mut differences = Vec::new();
        for service in &plan.services {
            let set = set_name(family, &service.name);
            let there = self.look(&set)?.unwrap_or_default();
            let wanted = wanted_in(&service.name, family, openings);
            let found = compare(&there.elements, &wanted).into_iter();
            let unexplained =
                found.filter(|(net, end)| end.is_some() || !self.guests.contains_key(&(set.clone(), *net)));
            differences.extend(unexplained.map(|(opened, wanted)| {
                let door = Door {
                    service: service.name.clone(),
                    opened,
                };
                Difference {
                    set: set.clone(),
                    door,
                    wanted,
                }
            }));
        }
        Ok(differences)
    }

    /// Does away with one difference.
    pub fn mend(&mut self, difference: &Difference) -> Result<(), BackendError> {
        let Difference { set, door, wanted } = difference;
        let ipset = self.ipset()?;
        let mended = match wanted {
            Some(seconds) => ipset.add(set, door.opened, *seconds),
            None => ipset.remove(set, door.opened),
        };
        Ok(mended?)
    }

    /// Lets somebody who is connected already come in for a minute, unless he may anyway.
    pub fn admit(&mut self, set: &str, net: IpNet) -> Result<(), BackendError> {
        if self.ipset()?.add_absent(set, net, GUEST_TIME_S)? {
            self.remember(set, net, GUEST_TIME_S);
        }
        Ok(())
    }

    /// Takes those of `nets` for guests that another process has let in for a minute.
    pub fn adopt(&mut self, set: &str, nets: &[IpNet]) -> Result<(), BackendError> {
        for element in self.look(set)?.unwrap_or_default().elements {
            let seconds = element.remaining.filter(|seconds| *seconds <= GUEST_TIME_S);
            if let Some(seconds) = seconds.filter(|_| nets.contains(&element.net)) {
                self.remember(set, element.net, seconds);
            }
        }
        Ok(())
    }

    fn remember(&mut self, set: &str, net: IpNet, seconds: u32) {
        let end = Instant::now() + Duration::from_secs(u64::from(seconds + SLACK_S));
        self.guests.insert((set.to_owned(), net), end);
    }

    /// Puts a probe into every set of `family`, reads it back and takes it out.
    pub fn probe(&mut self, plan: &Plan, family: Family) -> Result<(), BackendError> {
        let probes = PROBES.iter().filter(|(of, _)| *of == family);
        for net in probes.filter_map(|(_, text)| text.parse::<IpNet>().ok()) {
            for set in plan.sets(family) {
                self.probe_set(&set, net)?;
            }
        }
        Ok(())
    }

    fn probe_set(&mut self, name: &str, net: IpNet) -> Result<(), BackendError> {
        self.ipset()?.add(name, net, PROBE_TIME_S)?;
        let seen = self
            .look(name)?
            .unwrap_or_default()
            .elements
            .iter()
            .any(|e| e.net == net && e.remaining.is_some());
        self.ipset()?.remove(name, net)?;
        let left = self
            .look(name)?
            .unwrap_or_default()
            .elements
            .iter()
            .any(|e| e.net == net);
        match (seen, left) {
            (true, false) => Ok(()),
            (false, _) => Err(fault(format!(
                "self-test: {net} was put into the set {name} but is not in it"
            ))),
            (true, true) => Err(fault(format!(
                "self-test: {net} was taken out of the set {name} but is in it"
            ))),
        }
    }

    /// Empties the services' sets of `family`.
    pub fn flush(&mut self, plan: &Plan, family: Family) -> Result<(), BackendError> {
        for service in &plan.services {
            let set = set_name(family, &service.name);
            self.ipset()?.flush(&set)?;
            self.guests.retain(|(of, _), _| *of != set);
        }
        Ok(())
    }

    /// Takes away every set with an own name except those in `keep`; what could not be taken away.
    pub fn sweep(&mut self, keep: &BTreeSet<String>) -> Vec<BackendError> {
        let names = match self.own_sets() {
            Ok(names) => names,
            Err(error) => return vec![error],
        };
        let stale: Vec<String> = names.into_iter().filter(|name| !keep.contains(name)).collect();
        self.guests.retain(|(set, _), _| keep.contains(set));
        stale.iter().filter_map(|name| self.destroy(name).err()).collect()
    }

    fn own_sets(&mut self) -> Result<Vec<String>, BackendError> {
        if self.line.is_none() && matches!(Ipset::open(), Err(error) if error.is_unsupported()) {
            return Ok(Vec::new());
        }
        let names = self.ipset()?.names()?;
        let own = |name: &String| Family::BOTH.iter().any(|family| name.starts_with(set_prefix(*family)));
        Ok(names.into_iter().filter(own).collect())
    }

    fn destroy(&mut self, name: &str) -> Result<(), BackendError> {
        let deadline = Instant::now() + RELEASE;
        loop {
            match self.ipset()?.destroy(name) {
                Err(error) if error.is_busy() && Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                other => return Ok(other?),
            }
        }
    }

    fn look(&mut self, name: &str) -> Result<Option<Set>, BackendError> {
        Ok(self.ipset()?.list(name)?)
    }

    fn ipset(&mut self) -> Result<&mut Ipset, BackendError> {
        if self.line.is_none() {
            self.line = Some(Ipset::open()?);
        }
        self.line.as_mut().ok_or_else(|| fault("no line to ipset".to_owned()))
    }
}

fn set_of(door: &Door) -> String {
    set_name(Family::of(&door.opened), &door.service)
}

fn opening(service: &str, element: Element) -> Opening {
    let remaining = element
        .remaining
        .map_or(LONGEST_DURATION, |seconds| Duration::from_secs(u64::from(seconds)));
    Opening {
        door: Door {
            service: service.to_owned(),
            opened: element.net,
        },
        client: None,
        remaining,
    }
}

/// What `openings` want in one set; of two for one door the longer.
fn wanted_in(service: &str, family: Family, openings: &[Opening]) -> BTreeMap<IpNet, u32> {
    let mut wanted = BTreeMap::new();
    for Opening { door, remaining, .. } in openings {
        if door.service == service && Family::of(&door.opened) == family {
            let seconds = whole_seconds(*remaining).unwrap_or(0);
            let longest: &mut u32 = wanted.entry(door.opened.trunc()).or_default();
            *longest = seconds.max(*longest);
        }
    }
    wanted
}

/// Which networks should be in for how long, or should not be in. What is about to end is left to end.
fn compare(there: &[Element], wanted: &BTreeMap<IpNet, u32>) -> Vec<(IpNet, Option<u32>)> {
    let ends: BTreeMap<IpNet, u32> = there.iter().map(|e| (e.net, e.remaining.unwrap_or(u32::MAX))).collect();
    let unwanted = there
        .iter()
        .filter(|e| !wanted.contains_key(&e.net) && !is_ending(e))
        .map(|e| (e.net, None));
    let otherwise = wanted.iter().filter(|(net, seconds)| {
        let differs = ends.get(net).copied().unwrap_or(0).abs_diff(**seconds);
        differs > SLACK_S
    });
    unwanted
        .chain(otherwise.map(|(net, seconds)| (*net, (*seconds > 0).then_some(*seconds))))
        .collect()
}

fn is_ending(element: &Element) -> bool {
    element.remaining.is_some_and(|seconds| seconds <= SLACK_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_nothing_left_is_nothing() {
        let cases = [
            (0, None),
            (1, Some(1)),
            (999, Some(1)),
            (1000, Some(1)),
            (1001, Some(2)),
            (u64::MAX, Some(LONGEST_TIMEOUT)),
        ];
        for (ms, seconds) in cases {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms} ms");
        }
    }

    #[test]
    fn a_set_is_compared_with_what_is_wanted() {
        let net = |last: u8| IpNet::from(std::net::IpAddr::from([192, 0, 2, last]));
        let there = [
            (1, Some(29)),
            (2, Some(30)),
            (3, None),
            (4, Some(100)),
            (5, Some(1)),
            (6, None),
        ];
        let there = there.map(|(last, remaining)| Element {
            net: net(last),
            remaining,
        });
        let wanted = [(1, 30), (3, 30), (4, 30), (7, 30), (8, 1)]
            .map(|(last, seconds)| (net(last), seconds))
            .into();
        let expected = [
            (net(2), None),     // nobody's
            (net(6), None),     // nobody's, for ever
            (net(3), Some(30)), // for ever
            (net(4), Some(30)), // too long
            (net(7), Some(30)), // missing
        ];
        assert_eq!(compare(&there, &wanted), expected);
    }
}

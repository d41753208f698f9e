//! What is in a set beside what should be: pure functions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{Door, Opening, ShutOut};
use crate::config::LONGEST_DURATION;
use crate::netlink::Element;
use crate::netlink::Family;
use crate::netlink::ipset::LONGEST_TIMEOUT;

/// Ends in the kernel and in the daemon's clock differ by their rounding and by the time between two looks.
pub const SLACK_S: u32 = 2;

/// What the self-test puts in; the kernel takes no packet from a multicast address.
pub fn probe(family: Family) -> IpNet {
    match family {
        Family::V4 => IpAddr::from([224, 0, 0, 1]).into(),
        Family::V6 => IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1]).into(),
    }
}

/// What is left in whole seconds as the kernel counts them: rounded up, and none when nothing is left, since 0 would
/// mean for ever.
pub fn whole_seconds(remaining: Duration) -> Option<u32> {
    let up = remaining
        .as_secs()
        .saturating_add(u64::from(remaining.subsec_nanos() > 0));
    let seconds = u32::try_from(up).unwrap_or(u32::MAX).min(LONGEST_TIMEOUT);
    (seconds > 0).then_some(seconds)
}

/// What `openings` want in one set; of two for one door the longer.
pub fn wanted_in(service: &str, family: Family, openings: &[Opening]) -> BTreeMap<IpNet, u32> {
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
pub fn compare(there: &[Element], wanted: &BTreeMap<IpNet, u32>) -> Vec<(IpNet, Option<u32>)> {
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

/// What an element of a service's set means.
pub fn opening(service: &str, element: Element) -> Opening {
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

/// What an element of a set of bans means. One that somebody put there for ever has the longest end there is.
pub fn shut_out(element: Element) -> ShutOut {
    let remaining = element
        .remaining
        .map_or(LONGEST_DURATION, |seconds| Duration::from_secs(u64::from(seconds)));
    ShutOut {
        network: element.net,
        remaining: Some(remaining),
    }
}

/// Whether an element is as good as gone.
pub fn is_ending(element: &Element) -> bool {
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
        let net = |last: u8| IpNet::from(IpAddr::from([192, 0, 2, last]));
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

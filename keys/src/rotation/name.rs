//! What the client is called that takes another's place.

use std::collections::BTreeSet;

use spa_proto::UnixTime;

use crate::directory::{KeyDirectory, Kind};
use crate::invites::InviteState;
use crate::name::ClientName;

/// The names that clients, whole or broken, and live invites have.
#[must_use]
pub fn taken_names(directory: &KeyDirectory, now: UnixTime) -> BTreeSet<String> {
    let live = directory
        .invites()
        .filter(|invite| invite.state(now) == InviteState::Live);
    let broken = directory.broken().filter(|(kind, ..)| *kind == Kind::Client);
    let clients = directory.clients().map(|view| view.name().to_owned());
    let others = live
        .map(|invite| invite.name.to_string())
        .chain(broken.map(|(_, name, _)| name.to_owned()));
    clients.chain(others).collect()
}

/// The name of who takes a client's place: `alice` → `alice.2` → `alice.3`, the first that is not taken.
#[must_use]
pub fn next_name(taken: &BTreeSet<String>, name: &str) -> Option<ClientName> {
    let (base, number) = split_number(name);
    let mut names = (number + 1..number + 10_000).filter_map(|number| numbered(base, number));
    names.find(|name| !taken.contains(name.as_str()))
}

/// `alice.2` is the second alice; `alice` the first.
fn split_number(name: &str) -> (&str, u32) {
    let numbered = name.rsplit_once('.').and_then(|(base, digits)| {
        let number = digits
            .parse::<u32>()
            .ok()
            .filter(|number| *number >= 2 && number.to_string() == digits)?;
        (number < 1_000_000).then_some((base, number))
    });
    numbered.filter(|(base, _)| !base.is_empty()).unwrap_or((name, 1))
}

/// Cut where it would be too long.
fn numbered(base: &str, number: u32) -> Option<ClientName> {
    let ending = format!(".{number}");
    let room = ClientName::MOST - ending.len();
    format!("{}{ending}", base.get(..room.min(base.len()))?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_on() {
        let taken = ["alice", "alice.2", "bob.2", "bob.3", "v1.0", "x.1"]
            .map(str::to_owned)
            .into();
        let next = |name: &str| next_name(&taken, name).unwrap().to_string();
        assert_eq!(next("alice"), "alice.3");
        assert_eq!(next("bob.2"), "bob.4");
        assert_eq!(next("v1.0"), "v1.0.2");
        assert_eq!(next("x.1"), "x.1.2");
        assert_eq!(next(&"x".repeat(63)), format!("{}.2", "x".repeat(61)));
    }
}

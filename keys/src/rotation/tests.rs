use std::collections::HashMap;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_proto::{Enrollment, Psk};

use super::*;
use crate::client::{Client, Terms};
use crate::file;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const OLD: PublicKey = PublicKey([200; 32]);
const NEW: PublicKey = PublicKey([201; 32]);
const DAY: Duration = Duration::from_hours(24);

struct Place {
    dir: tempfile::TempDir,
    seen: HashMap<PublicKey, Seen>,
}

fn days_ago(days: u32) -> UnixTime {
    NOW.saturating_sub(DAY * days)
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["clients.d", "invites.d"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self {
            dir,
            seen: HashMap::new(),
        }
    }

    fn folder(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn client(&self, name: &str, key: u8, enrolled: UnixTime, replaces: Option<u8>) {
        let client = Client {
            public_key: PublicKey([key; 32]),
            psk: Psk::from_bytes(&[9; 32]),
            label: "".parse().unwrap(),
            enrolled: Some(enrolled),
            revoked: None,
            terms: Terms {
                replaces: replaces.map(|key| PublicKey([key; 32])),
                ..Terms::default()
            },
        };
        let path = self.folder("clients.d").join(format!("{name}.toml"));
        file::create_new(&path, client.to_text().as_bytes(), 0o600).unwrap();
    }

    /// An invite made now, spent for this key where one is given.
    fn invite(&self, name: &str, replaces: Option<u8>, gateway: Option<PublicKey>, spent: Option<u8>) {
        let terms = Terms {
            replaces: replaces.map(|key| PublicKey([key; 32])),
            ..Terms::default()
        };
        let ends = NOW.saturating_add(DAY);
        let (_, mut invite) = Invite::generate(name.parse().unwrap(), ends, terms, &mut UnwrapErr(SysRng));
        invite.gateway = gateway;
        invite.spent = spent.map(|key| {
            let enrollment = Enrollment {
                public_key: PublicKey([key; 32]),
                psk: Psk::from_bytes(&[9; 32]),
                label: "".parse().unwrap(),
            };
            crate::Spent::by(&enrollment, NOW)
        });
        invite.create(&self.folder("invites.d")).unwrap();
    }

    fn knocked(&mut self, key: u8, identity: PublicKey, at: UnixTime) {
        let identity = fingerprint(&identity);
        self.seen.insert(PublicKey([key; 32]), Seen { at, identity });
    }

    fn load(&self) -> KeyDirectory {
        KeyDirectory::load(&self.folder("clients.d"), &self.folder("invites.d")).unwrap()
    }

    fn needs(&self) -> Vec<String> {
        self.needs_since(days_ago(300))
    }

    fn needs_since(&self, since: UnixTime) -> Vec<String> {
        let directory = self.load();
        let rotation = Rotation::new(&directory, self.seen.clone(), since, NOW);
        let needs = rotation.needs(&fingerprint(&OLD));
        needs.iter().map(|view| view.name().to_owned()).collect()
    }

    fn progress(&self, name: &str) -> Progress {
        let directory = self.load();
        let client = directory.client_named(name).unwrap();
        Rotation::new(&directory, self.seen.clone(), days_ago(300), NOW).progress(client, &fingerprint(&NEW))
    }
}

#[test]
fn a_client_on_its_way() {
    let mut place = Place::new();
    place.client("alice", 1, days_ago(100), None);
    place.knocked(1, OLD, days_ago(1));
    assert_eq!(place.progress("alice"), Progress::Lagging);
    place.invite("alice.2", Some(1), Some(NEW), None);
    assert_eq!(place.progress("alice"), Progress::Invited);
    place.client("alice.2", 2, NOW, Some(1));
    assert_eq!(place.progress("alice"), Progress::Enrolled);
    place.knocked(2, NEW, days_ago(2));
    assert_eq!(place.progress("alice"), Progress::Enrolled, "the old one knocked later");
    assert_eq!(place.needs(), ["alice"]);
    place.knocked(2, NEW, days_ago(0));
    assert_eq!(place.progress("alice"), Progress::Replaced);
    assert_eq!(place.progress("alice.2"), Progress::Moved);
    assert!(place.needs().is_empty());
}

#[test]
fn nobody_takes_its_own_place() {
    let place = Place::new();
    place.client("alice", 1, days_ago(100), Some(1));
    assert_eq!(place.progress("alice"), Progress::Lagging);
}

#[test]
fn a_name_used_again_has_no_successor() {
    let place = Place::new();
    place.client("alice", 3, NOW, None);
    place.client("alice.2", 2, NOW, Some(1));
    place.invite("alice.3", Some(1), Some(NEW), None);
    assert_eq!(place.progress("alice"), Progress::Lagging);
}

#[test]
fn who_may_need_an_identity() {
    let mut place = Place::new();
    place.client("long-ago", 2, days_ago(100), None);
    place.knocked(2, OLD, days_ago(99));
    place.client("another", 3, days_ago(100), None);
    place.knocked(3, NEW, days_ago(90));
    place.client("emergency", 5, days_ago(500), None);
    place.client("by-invite", 7, days_ago(5), None);
    place.invite("by-invite", None, Some(NEW), Some(7));
    place.client("by-old-invite", 8, days_ago(60), None);
    place.invite("by-old-invite", None, Some(OLD), Some(8));
    assert_eq!(place.needs(), ["by-old-invite", "emergency", "long-ago"]);
}

#[test]
fn who_may_need_an_identity_beside_a_successor() {
    let mut place = Place::new();
    place.client("recent", 1, days_ago(100), None);
    place.knocked(1, OLD, days_ago(29));
    place.client("long-ago", 2, days_ago(100), None);
    place.knocked(2, OLD, days_ago(31));
    place.client("new-and-silent", 4, days_ago(5), None);
    place.client("old-and-silent", 5, days_ago(50), None);
    for old in [1, 2, 4, 5] {
        let (name, key) = (format!("next-{old}"), 100 + old);
        place.client(&name, key, days_ago(1), Some(old));
        place.invite(&name, Some(old), Some(NEW), Some(key));
    }
    assert_eq!(place.needs(), ["new-and-silent", "recent"]);
    let since = place.needs_since(days_ago(20));
    assert_eq!(
        since,
        ["new-and-silent", "old-and-silent", "recent"],
        "a young record may have lost knocks"
    );
}

#[test]
fn who_is_revoked_or_expired_needs_nothing() {
    let mut place = Place::new();
    place.client("alice", 1, days_ago(100), None);
    place.knocked(1, OLD, days_ago(1));
    let path = place.folder("clients.d").join("alice.toml");
    let edit = crate::ClientEdit {
        revoked: Some(Some(NOW)),
        ..crate::ClientEdit::default()
    };
    edit.apply(&path).unwrap();
    assert!(place.needs().is_empty());
}

#[test]
fn invites_carry_an_identity() {
    let place = Place::new();
    place.invite("old", None, Some(OLD), None);
    place.invite("new", None, Some(NEW), None);
    place.invite("unsaid", None, None, None);
    place.invite("spent", None, Some(OLD), Some(9));
    let directory = place.load();
    let rotation = Rotation::new(&directory, HashMap::new(), NOW, NOW);
    let mut names: Vec<_> = rotation
        .invites_with(&OLD)
        .iter()
        .map(|invite| invite.name.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["old", "unsaid"]);
}

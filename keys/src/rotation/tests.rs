use std::collections::HashMap;
use std::path::Path;

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

    fn client(&self, name: &str, key: u8, enrolled: UnixTime, replaces: Option<&str>) {
        let client = Client {
            public_key: PublicKey([key; 32]),
            psk: Psk::from_bytes(&[9; 32]),
            label: "".parse().unwrap(),
            enrolled: Some(enrolled),
            revoked: None,
            terms: Terms {
                replaces: replaces.map(|name| name.parse().unwrap()),
                ..Terms::default()
            },
        };
        let path = self.folder("clients.d").join(format!("{name}.toml"));
        file::create_new(&path, client.to_text().as_bytes(), 0o600).unwrap();
    }

    /// An invite made now, spent for this key where one is given.
    fn invite(&self, name: &str, replaces: Option<&str>, gateway: Option<PublicKey>, spent: Option<u8>) {
        let terms = Terms {
            replaces: replaces.map(|name| name.parse().unwrap()),
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
        let folder = |name: &str| -> &Path { Box::leak(self.folder(name).into_boxed_path()) };
        KeyDirectory::load(folder("clients.d"), folder("invites.d")).unwrap()
    }

    fn needs(&self) -> Vec<String> {
        let directory = self.load();
        let needs = self.rotation(&directory).needs(&fingerprint(&OLD));
        needs.iter().map(|view| view.name().to_owned()).collect()
    }

    fn progress(&self, name: &str) -> Progress {
        let directory = self.load();
        let client = directory.client_named(name).unwrap();
        self.rotation(&directory).progress(client, &fingerprint(&NEW))
    }

    fn rotation<'a>(&'a self, directory: &'a KeyDirectory) -> Rotation<'a, impl Fn(&PublicKey) -> Option<Seen>> {
        Rotation {
            directory,
            seen: |key: &PublicKey| self.seen.get(key).cloned(),
            now: NOW,
        }
    }
}

#[test]
fn a_client_on_its_way() {
    let mut place = Place::new();
    place.client("alice", 1, days_ago(100), None);
    place.knocked(1, OLD, days_ago(1));
    assert_eq!(place.progress("alice"), Progress::Lagging);
    place.invite("alice.2", Some("alice"), Some(NEW), None);
    assert_eq!(place.progress("alice"), Progress::Invited);
    place.client("alice.2", 2, NOW, Some("alice"));
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
fn who_may_need_an_identity() {
    let mut place = Place::new();
    place.client("recent", 1, days_ago(100), None);
    place.knocked(1, OLD, days_ago(29));
    place.client("long-ago", 2, days_ago(100), None);
    place.knocked(2, OLD, days_ago(31));
    place.client("another", 3, days_ago(100), None);
    place.knocked(3, NEW, days_ago(1));
    place.client("new-and-silent", 4, days_ago(5), None);
    place.client("old-and-silent", 5, days_ago(50), None);
    place.client("by-invite", 7, days_ago(5), None);
    place.invite("by-invite", None, Some(NEW), Some(7));
    assert_eq!(place.needs(), ["new-and-silent", "recent"]);
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
    let rotation = place.rotation(&directory);
    let mut names: Vec<_> = rotation
        .invites_with(&OLD)
        .iter()
        .map(|invite| invite.name.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["old", "unsaid"]);
}

#[test]
fn names_are_counted_on() {
    let place = Place::new();
    for (key, name) in (1..).zip(["alice", "bob.2", "bob.3", "v1.0", "x.1"]) {
        place.client(name, key, NOW, None);
    }
    place.invite("alice.2", Some("alice"), None, None);
    let directory = place.load();
    let rotation = place.rotation(&directory);
    let next = |name: &str| rotation.next_name(name).unwrap().to_string();
    assert_eq!(next("alice"), "alice.3", "a live invite has alice.2");
    assert_eq!(next("bob.2"), "bob.4");
    assert_eq!(next("v1.0"), "v1.0.2");
    assert_eq!(next("x.1"), "x.1.2");
    assert_eq!(next(&"x".repeat(63)), format!("{}.2", "x".repeat(61)));
}

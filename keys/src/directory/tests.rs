use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_proto::{Enrollment, Psk, Standing, UnixTime};

use super::*;
use crate::client::Terms;
use crate::invites::Spent;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

struct Place {
    _dir: tempfile::TempDir,
    clients: PathBuf,
    invites: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (clients, invites) = (dir.path().join("clients.d"), dir.path().join("invites.d"));
    fs::create_dir(&clients).unwrap();
    fs::create_dir(&invites).unwrap();
    Place {
        _dir: dir,
        clients,
        invites,
    }
}

impl Place {
    fn put(&self, name: &str, key: u8, more: &str) {
        let key = crate::text::encode(&[key; 32]);
        let psk = crate::text::encode(&[9; 32]);
        let text = format!("public-key = \"{key}\"\npsk = \"{psk}\"\nservices = [\"ssh\"]\n{more}");
        file::replace(&self.clients.join(format!("{name}.toml")), text.as_bytes(), 0o600).unwrap();
    }

    fn load(&self) -> KeyDirectory {
        KeyDirectory::load(&self.clients, &self.invites).unwrap()
    }

    fn invite(&self, name: &str) -> Invite {
        let (_, invite) = Invite::generate(name.parse().unwrap(), NOW, Terms::default(), &mut UnwrapErr(SysRng));
        invite.create(&self.invites).unwrap();
        invite
    }
}

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn broken(directory: &KeyDirectory) -> Vec<&str> {
    directory.broken().map(|(_, stem, _)| stem).collect()
}

#[test]
fn clients_are_found_by_key_and_by_name() {
    let place = place();
    place.put("a", 1, "");
    place.put("b", 2, "revoked = \"2026-01-01\"\n");
    place.put("c", 3, "expires = \"2027-01-15T08:00:00Z\"\nwindow-as-seen = \"90s\"\n");
    let mut directory = place.load();
    assert_eq!(directory.client(&key(1)).unwrap().name(), "a");
    assert_eq!(directory.client_named("b").unwrap().public_key(), &key(2));
    let found = directory.find(&key(3)).unwrap();
    assert_eq!(found.standing, Standing::Active { until: Some(NOW) });
    assert_eq!(
        (found.role, found.windows.as_seen),
        (Role::Client, Duration::from_secs(90))
    );
    assert_eq!(directory.find(&key(2)).unwrap().standing, Standing::Revoked);
    assert!(directory.find(&key(4)).is_none());
    let counts = directory.counts(NOW);
    assert_eq!(
        (counts.active, counts.expired, counts.revoked, counts.broken),
        (1, 1, 1, 0)
    );
    assert_eq!(directory.counts(NOW.saturating_sub(Duration::from_nanos(1))).active, 2);
}

#[test]
fn a_broken_file_disables_its_client_alone() {
    let place = place();
    place.put("a", 1, "");
    place.put("b", 2, "colour = \"red\"\n");
    fs::write(place.clients.join("Bad Name.toml"), "").unwrap();
    fs::set_permissions(place.clients.join("Bad Name.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut directory = place.load();
    assert!(directory.client(&key(1)).is_some());
    assert_eq!(broken(&directory), ["Bad Name", "b"]);
    let file = directory.broken_client("b").unwrap();
    assert_eq!((file.line, file.what.as_str()), (Some(4), "unknown key colour"));
    place.put("b", 2, "");
    assert_eq!(directory.reload_file(Kind::Client, "b"), Reload::Loaded);
    assert!(directory.client(&key(2)).is_some());
    fs::set_permissions(place.clients.join("a.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(directory.reload_file(Kind::Client, "a"), Reload::Broken);
    assert!(directory.client(&key(1)).is_none());
    assert!(
        directory
            .broken_client("a")
            .unwrap()
            .hint
            .as_ref()
            .unwrap()
            .starts_with("chmod 600 ")
    );
}

#[test]
fn two_files_with_one_key_are_both_broken_until_one_is_left() {
    let place = place();
    for name in ["a", "b", "c"] {
        place.put(name, 1, "");
    }
    let mut directory = place.load();
    assert_eq!(broken(&directory), ["a", "b", "c"]);
    assert!(directory.knows(&key(1)) && directory.find(&key(1)).is_none());
    assert_eq!(directory.reload_file(Kind::Client, "a"), Reload::Broken);
    place.put("c", 3, "");
    directory.reload_file(Kind::Client, "c");
    assert_eq!(broken(&directory), ["a", "b"]);
    fs::remove_file(place.clients.join("a.toml")).unwrap();
    assert_eq!(directory.reload_file(Kind::Client, "a"), Reload::Removed);
    assert_eq!(directory.client(&key(1)).unwrap().name(), "b");
    assert!(broken(&directory).is_empty());
    place.put("b", 3, "");
    directory.reload_all().unwrap();
    assert_eq!(broken(&directory), ["b", "c"]);
    place.put("b", 1, "");
    directory.reload_all().unwrap();
    assert!(broken(&directory).is_empty());
}

#[test]
fn a_renamed_file_is_another_client_with_the_same_key() {
    let place = place();
    place.put("a", 1, "");
    let mut directory = place.load();
    fs::rename(place.clients.join("a.toml"), place.clients.join("b.toml")).unwrap();
    let changes = Changes {
        clients: ["a".to_owned(), "b".to_owned()].into(),
        ..Changes::default()
    };
    directory.apply(&changes).unwrap();
    assert_eq!(directory.client(&key(1)).unwrap().name(), "b");
    // The new name may be seen first: both are held to have the key, until the old one is seen to be gone.
    fs::rename(place.clients.join("b.toml"), place.clients.join("a.toml")).unwrap();
    assert_eq!(directory.reload_file(Kind::Client, "a"), Reload::Broken);
    directory.reload_file(Kind::Client, "b");
    assert_eq!(directory.client(&key(1)).unwrap().name(), "a");
}

#[test]
fn what_did_not_change_stays() {
    let place = place();
    place.put("a", 1, "");
    let mut directory = place.load();
    assert_eq!(directory.reload_file(Kind::Client, "a"), Reload::Unchanged);
    directory.reload_all().unwrap();
    assert_eq!(directory.reload_file(Kind::Client, "a"), Reload::Unchanged);
    place.put("a", 1, "revoked = \"2026-01-01\"\n");
    assert_eq!(directory.reload_file(Kind::Client, "a"), Reload::Loaded);
    place.put("a", 2, "");
    assert_eq!(directory.reload_file(Kind::Client, "a"), Reload::Loaded);
    assert!(!directory.knows(&key(1)) && directory.knows(&key(2)));
}

#[test]
fn reading_all_again_names_what_changed_and_what_is_broken() {
    let place = place();
    for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
        place.put(name, number, "");
    }
    let mut directory = place.load();
    place.put("b", 2, "x");
    place.put("d", 4, "");
    fs::remove_file(place.clients.join("c.toml")).unwrap();
    let everything = Changes {
        all: true,
        ..Changes::default()
    };
    let mut said = directory.apply(&everything).unwrap();
    said.sort_by(|one, other| one.1.cmp(&other.1));
    let client = |stem: &str, outcome| (Kind::Client, stem.to_owned(), outcome);
    let expected = [("b", Reload::Broken), ("c", Reload::Removed), ("d", Reload::Loaded)];
    assert_eq!(said, expected.map(|(stem, outcome)| client(stem, outcome)));
}

#[test]
fn files_that_go_are_forgotten() {
    let place = place();
    place.put("a", 1, "");
    place.put("b", 2, "x");
    let mut directory = place.load();
    fs::remove_dir_all(&place.clients).unwrap();
    directory.reload_all().unwrap();
    assert!(directory.is_empty() && !directory.knows(&key(1)));
}

#[test]
fn an_enrollment_may_be_written_twice() {
    let place = place();
    let invite = place.invite("anna");
    let mut directory = place.load();
    assert!(directory.has_name("anna", NOW.saturating_sub(Duration::from_secs(1))));
    assert!(!directory.has_name("anna", NOW));
    let found = directory.find(&invite.public_key).unwrap();
    assert_eq!(found.role, Role::Invite { spent_by: None });
    let enrollment = Enrollment {
        public_key: key(5),
        psk: Psk::from_bytes(&[6; 32]),
        label: "phone".parse().unwrap(),
    };
    let (client, spent) = (invite.client(&enrollment, NOW), Spent::by(&enrollment, NOW));
    for written in [Written::New, Written::Already] {
        assert_eq!(directory.write_enrolled(&invite.name, &client).unwrap(), written);
        assert_eq!(directory.write_spent(&invite.public_key, &spent).unwrap(), written);
    }
    assert_eq!(directory.client(&key(5)).unwrap().label(), "phone");
    let role = Role::Invite { spent_by: Some(key(5)) };
    assert_eq!(directory.find(&invite.public_key).unwrap().role, role);
    let mut again = place.load();
    assert_eq!(again.find(&invite.public_key).unwrap().role, role);
    assert_eq!(again.write_spent(&invite.public_key, &spent).unwrap(), Written::Already);
}

#[test]
fn an_enrollment_overwrites_nobody() {
    let place = place();
    let invite = place.invite("anna");
    place.put("anna", 1, "");
    let mut directory = place.load();
    let enrollment = |byte| Enrollment {
        public_key: key(byte),
        psk: Psk::from_bytes(&[6; 32]),
        label: "".parse().unwrap(),
    };
    let client = invite.client(&enrollment(5), NOW);
    let error = directory.write_enrolled(&invite.name, &client).unwrap_err();
    assert!(matches!(error, EnrollError::NameTaken { .. }));
    directory
        .write_spent(&invite.public_key, &Spent::by(&enrollment(5), NOW))
        .unwrap();
    let error = directory
        .write_spent(&invite.public_key, &Spent::by(&enrollment(7), NOW))
        .unwrap_err();
    assert!(matches!(error, EnrollError::SpentBefore { .. }));
    assert_eq!(
        directory.write_spent(&key(8), &Spent::by(&enrollment(5), NOW)).unwrap(),
        Written::Gone
    );
}

#[test]
fn ended_invites_are_swept_two_days_later() {
    let place = place();
    let invite = place.invite("anna");
    let mut directory = place.load();
    assert!(
        directory
            .sweep(NOW.saturating_add(Invite::REMEMBERED))
            .unwrap()
            .is_empty()
    );
    let swept = directory
        .sweep(NOW.saturating_add(Invite::REMEMBERED + Duration::from_secs(1)))
        .unwrap();
    assert_eq!(swept, [invite.name]);
    assert!(!directory.knows(&invite.public_key) && place.load().invites().next().is_none());
}

#[test]
fn equal_policies_are_kept_once() {
    let place = place();
    for (name, byte) in [("a", 1), ("b", 2)] {
        place.put(name, byte, "max-duration = \"1h\"\n");
    }
    place.put("c", 3, "");
    let directory = place.load();
    let policy = |name| directory.client_named(name).unwrap().policy();
    assert!(Arc::ptr_eq(policy("a"), policy("b")));
    assert!(!Arc::ptr_eq(policy("a"), policy("c")));
    assert!(Arc::ptr_eq(&policy("a").services, &policy("c").services));
}

//! What an enrollment leaves on the disk, said once, again after a crash, and by two devices.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_keys::directory::{EnrollError, Written};
use spa_keys::state::{Change, EnrollmentRow, State, StateLock};
use spa_keys::{ClientPolicy, Invite, KeyDirectory, Terms};
use spa_proto::{Enrollment, Keyring, Psk, PublicKey, Role, UnixTime};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(place.clients()).unwrap();
        fs::create_dir(place.invites()).unwrap();
        place
    }

    fn clients(&self) -> PathBuf {
        self.dir.path().join("clients.d")
    }

    fn invites(&self) -> PathBuf {
        self.dir.path().join("invites.d")
    }

    fn directory(&self) -> KeyDirectory {
        KeyDirectory::load(&self.clients(), &self.invites()).unwrap()
    }

    fn invite(&self, name: &str) -> Invite {
        let policy = ClientPolicy {
            window_explicit: Duration::from_mins(20),
            ..ClientPolicy::default()
        };
        let terms = Terms {
            policy,
            ..Terms::default()
        };
        let (_, invite) = Invite::generate(name.parse().unwrap(), NOW, terms, &mut UnwrapErr(SysRng));
        invite.create(&self.invites()).unwrap();
        invite
    }
}

fn enrollment(key: u8, psk: u8) -> Enrollment {
    Enrollment {
        public_key: PublicKey([key; 32]),
        psk: Psk::from_bytes(&[psk; 32]),
        label: "a phone".parse().unwrap(),
    }
}

#[test]
fn it_is_written_once_however_often_it_is_said() {
    let place = Place::new();
    let invite = place.invite("alice").public_key;
    let mut directory = place.directory();
    assert_eq!(directory.greatest_window(), Duration::from_mins(5));
    let mut say = |new: &Enrollment| directory.write_enrollment(&invite, new, NOW);
    assert_eq!(say(&enrollment(1, 2)).unwrap(), Written::New);
    assert_eq!(say(&enrollment(1, 2)).unwrap(), Written::Already);
    assert!(matches!(say(&enrollment(3, 2)), Err(EnrollError::NameTaken { .. })));
    assert_eq!(directory.greatest_window(), Duration::from_mins(20));
    let spent_by = Some(PublicKey([1; 32]));
    assert_eq!(directory.find(&invite).unwrap().role, Role::Invite { spent_by });
    assert_eq!(place.directory().client_named("alice").unwrap().label(), "a phone");
    directory.retain_shared(&[]);
}

#[test]
fn a_client_that_was_taken_away_stays_away() {
    let place = Place::new();
    let invite = place.invite("alice").public_key;
    let mut directory = place.directory();
    directory.write_enrollment(&invite, &enrollment(1, 2), NOW).unwrap();
    fs::remove_file(place.clients().join("alice.toml")).unwrap();
    let mut directory = place.directory();
    assert_eq!(
        directory.write_enrollment(&invite, &enrollment(1, 2), NOW).unwrap(),
        Written::Already
    );
    assert!(directory.client_named("alice").is_none());
    let other = directory.write_enrollment(&invite, &enrollment(3, 2), NOW);
    assert!(matches!(other, Err(EnrollError::SpentBefore { .. })));
}

#[test]
fn an_invite_that_was_taken_away_enrolls_nobody() {
    let place = Place::new();
    let mut directory = place.directory();
    let gone = directory.write_enrollment(&PublicKey([9; 32]), &enrollment(1, 2), NOW);
    assert_eq!(gone.unwrap(), Written::Gone);
    assert!(directory.is_empty());
}

#[test]
fn the_state_remembers_it_until_it_is_told_to_forget() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::create(dir.path(), StateLock::acquire(dir.path()).unwrap()).unwrap();
    let new = enrollment(1, 2);
    let row = EnrollmentRow {
        invite: PublicKey([9; 32]),
        public_key: new.public_key,
        psk_digest: spa_keys::client::psk_digest(&new.psk),
        name: "alice".into(),
        label: "a phone".into(),
        at: NOW,
        source: IpAddr::from([192, 0, 2, 7]),
    };
    assert_eq!(state.enrollment(&row.invite).unwrap(), None);
    state.commit(&[]).unwrap();
    state.commit(&[Change::Enrollment(row.clone(), new.psk)]).unwrap();
    assert_eq!(state.enrollment(&row.invite).unwrap(), Some(row.clone()));
    assert!(row.is_repeat(&enrollment(1, 2)));
    assert!(!row.is_repeat(&enrollment(1, 3)) && !row.is_repeat(&enrollment(3, 2)));
    state.commit(&[Change::ForgetEnrollment(row.invite)]).unwrap();
    assert_eq!(state.enrollment(&row.invite).unwrap(), None);
    assert!(state.enrollments().unwrap().is_empty());
}

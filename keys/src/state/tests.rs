use super::*;

mod crash;

fn lock(directory: &Path) -> StateLock {
    StateLock::acquire(directory).unwrap()
}

fn set(secs: &[u64]) -> ReplaySet {
    ReplaySet::restore(
        UnixTime::from_secs(1),
        secs.iter().map(|secs| UnixTime::from_secs(*secs)),
    )
}

fn grant() -> GrantRow {
    GrantRow {
        client: Some(PublicKey([1; 32])),
        address: "2001:db8::7".parse().unwrap(),
        service: "ssh".into(),
        opened: "2001:db8::/64".parse().unwrap(),
        since: UnixTime::from_secs(5),
        changed: UnixTime::from_nanos(6),
        end_boottime: Some(7),
        boot_id: "a-boot".into(),
    }
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let key = PublicKey([1; 32]);
    let knock = LastKnock {
        at: UnixTime::from_secs(9),
        address: "192.0.2.7".parse().unwrap(),
        gateway: PublicKey([8; 32]),
    };
    let enrollment = EnrollmentRow {
        invite: PublicKey([2; 32]),
        public_key: key,
        psk_digest: [3; 32],
        name: "alice".into(),
        label: "a phone".into(),
        at: UnixTime::from_secs(9),
        source: "192.0.2.7".parse().unwrap(),
    };
    let mut state = State::create(dir.path(), lock(dir.path())).unwrap();
    let changes = [
        Change::Replay(key, set(&[10, 20])),
        Change::Knock(key, knock),
        Change::Grant(grant()),
        Change::Enrollment(enrollment.clone(), Psk::from_bytes(&[4; 32])),
    ];
    state.commit(&changes).unwrap();
    drop(state);

    let mut state = State::open(dir.path(), lock(dir.path())).unwrap();
    assert_eq!(state.replay(&key).unwrap(), Some(set(&[10, 20])));
    assert_eq!(state.replay(&PublicKey([9; 32])).unwrap(), None);
    assert_eq!(state.last_knock(&key).unwrap(), Some(knock));
    assert_eq!(state.grants().unwrap(), [grant()]);
    assert_eq!(state.greatest().unwrap(), UnixTime::from_secs(20));
    assert_eq!(
        state.enrollments().unwrap(),
        [(enrollment.clone(), Some(Psk::from_bytes(&[4; 32])))]
    );

    state
        .commit(&[
            Change::EnrollmentWritten(enrollment.invite),
            Change::ForgetGrant(grant()),
        ])
        .unwrap();
    assert_eq!(state.enrollments().unwrap(), [(enrollment, None)]);
    assert_eq!(state.grants().unwrap(), []);
    state.commit(&[Change::ForgetReplay(key)]).unwrap();
    assert_eq!(state.replay(&key).unwrap(), None);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let held = lock(dir.path());
    assert!(matches!(StateLock::acquire(dir.path()), Err(StateError::Locked(_))));
    drop(held);
    lock(dir.path());
}

#[test]
fn nothing_is_made_over_what_exists() {
    let dir = tempfile::tempdir().unwrap();
    drop(State::create(dir.path(), lock(dir.path())).unwrap());
    assert!(matches!(
        State::create(dir.path(), lock(dir.path())),
        Err(StateError::Exists(_))
    ));
}

#[test]
fn missing_and_damaged_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        State::open(dir.path(), lock(dir.path())),
        Err(StateError::Missing(_))
    ));
    for junk in [&b""[..], b"junk", &[0; 8192]] {
        std::fs::write(dir.path().join(FILE), junk).unwrap();
        let error = State::open(dir.path(), lock(dir.path())).unwrap_err();
        assert!(matches!(error, StateError::Damaged(..)), "{junk:.8?}: {error:?}");
    }
    let aside = State::set_aside(dir.path(), UnixTime::from_secs(5)).unwrap();
    assert!(aside.ends_with("record.redb.damaged-5"));
    assert!(matches!(
        State::open(dir.path(), lock(dir.path())),
        Err(StateError::Missing(_))
    ));
}

/// Whatever octet of the file is changed: the record is either whole or refused, never quietly another one.
#[test]
fn a_changed_octet_is_noticed_or_means_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key = PublicKey([1; 32]);
    let mut state = State::create(dir.path(), lock(dir.path())).unwrap();
    state.commit(&[Change::Replay(key, set(&[10, 20]))]).unwrap();
    drop(state);
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for place in (0..whole.len()).step_by(whole.len() / 200) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(mut state) = State::open(dir.path(), lock(dir.path())) {
            assert_eq!(state.replay(&key).unwrap(), Some(set(&[10, 20])), "octet {place}");
        }
    }
    std::panic::set_hook(hook);
}

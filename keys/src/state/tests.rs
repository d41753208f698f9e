use super::*;

mod crash;

/// As `spa-server init` makes state/.
fn folder() -> tempfile::TempDir {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir().unwrap()
}

fn write_private(path: &Path, octets: &[u8]) {
    std::fs::write(path, octets).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

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
    let dir = folder();
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

/// As an older version left it.
#[test]
fn a_lock_that_is_let_go_at_once_is_waited_for() {
    let dir = folder();
    let held = lock(dir.path());
    let (ask, asked) = std::sync::mpsc::channel();
    let holder = std::thread::spawn(move || {
        asked.recv().unwrap();
        drop(held);
    });
    ask.send(()).unwrap();
    lock(dir.path());
    holder.join().unwrap();
}

#[test]
fn tables_that_came_later_are_made() {
    let dir = folder();
    let key = PublicKey([1; 32]);
    let mut state = State::create(dir.path(), lock(dir.path())).unwrap();
    assert!(state.began().unwrap().is_some());
    state.commit(&[Change::Replay(key, set(&[10]))]).unwrap();
    let database = state.take_database().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(CODES).unwrap();
    transaction.delete_table(PINS).unwrap();
    transaction.delete_table(GONE).unwrap();
    transaction.commit().unwrap();
    drop((database, state));
    let mut state = State::open(dir.path(), lock(dir.path())).unwrap();
    assert_eq!((state.code(&key).unwrap(), state.pin(&key).unwrap()), (None, None));
    assert_eq!(state.replay(&key).unwrap(), Some(set(&[10])));
    let wrong = PinRow {
        wrong: vec![1, 2],
        at: UnixTime::from_secs(9),
    };
    state.commit(&[Change::Pin(key, wrong.clone())]).unwrap();
    assert_eq!(state.pins().unwrap(), [(key, wrong)]);
}

#[test]
fn one_process_at_a_time() {
    let dir = folder();
    let held = lock(dir.path());
    assert!(matches!(StateLock::acquire(dir.path()), Err(StateError::Locked(_))));
    drop(held);
    lock(dir.path());
}

#[test]
fn nothing_is_made_over_what_exists() {
    let dir = folder();
    drop(State::create(dir.path(), lock(dir.path())).unwrap());
    assert!(matches!(
        State::create(dir.path(), lock(dir.path())),
        Err(StateError::Exists(_))
    ));
}

#[test]
fn missing_and_damaged_are_told_apart() {
    let dir = folder();
    assert!(matches!(
        State::open(dir.path(), lock(dir.path())),
        Err(StateError::Missing(_))
    ));
    for junk in [&b""[..], b"junk", &[0; 8192]] {
        write_private(&dir.path().join(FILE), junk);
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
    let dir = folder();
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

#[test]
fn what_others_may_read_or_write_is_refused_with_what_to_type() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder();
    drop(State::create(dir.path(), lock(dir.path())).unwrap());
    let record = dir.path().join(FILE);
    for (path, wrong, right) in [(record.as_path(), 0o644, 0o600), (dir.path(), 0o755, 0o700)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(wrong)).unwrap();
        let error = State::open(dir.path(), lock(dir.path())).unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.exit, Exit::Config);
        assert_eq!(failure.hints, [format!("chmod {right:o} {}", path.display())]);
        std::fs::set_permissions(path, PermissionsExt::from_mode(right)).unwrap();
        State::open(dir.path(), lock(dir.path())).unwrap();
    }
}

#[test]
fn what_is_used_of_sequences_is_kept() {
    let dir = folder();
    let row = |next| SequenceRow {
        name: "card".into(),
        key: [7; 32],
        next,
        used: vec![1, u64::MAX],
    };
    let mut state = State::create(dir.path(), lock(dir.path())).unwrap();
    assert_eq!(state.sequences().unwrap(), []);
    state
        .commit(&[Change::Sequence(row(5)), Change::Sequence(row(6))])
        .unwrap();
    drop(state);
    let mut state = State::open(dir.path(), lock(dir.path())).unwrap();
    assert_eq!(state.sequences().unwrap(), [row(6)]);
}

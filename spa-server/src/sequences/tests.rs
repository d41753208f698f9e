use super::*;
use crate::config::Config;

const HEAD: &str = "gateway.host = \"gw\"\n[[service]]\nname = \"ssh\"\nbackends = [\"iptables\"]\nports = [\"tcp/22\"]\n\
    [[sequence]]\nname = \"card\"\nservice = \"ssh\"\n";

fn load(keys: &str, folder: &Path) -> (Sequences, Vec<Unusable>) {
    let config = Config::from_text("server.toml", &format!("{HEAD}{keys}\n")).unwrap().0;
    Sequences::load(&config.sequences, &Paths::new(Some(folder), None))
}

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn turns_at(sequences: &Sequences, now: u64, used: &Used) -> Vec<u64> {
    sequences
        .patterns(at(now), used)
        .iter()
        .map(|pattern| pattern.id.turn)
        .collect()
}

fn id(turn: u64) -> SequenceId {
    SequenceId { place: 0, turn }
}

/// What a restart would know.
fn restarted(used: &mut Used) -> Used {
    Used::new(used.take_changed())
}

const LIST: &str =
    "one-time = [\"1/tcp 9/tcp 5/tcp\", \"2/tcp 9/tcp 5/tcp\", \"3/tcp 9/tcp 5/tcp\", \"4/tcp 9/tcp 5/tcp\"]";

#[test]
fn a_list_is_used_up_one_by_one_and_what_is_used_never_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let (sequences, _) = load(LIST, folder.path());
    let mut used = Used::default();
    assert_eq!(turns_at(&sequences, 0, &used), [0, 1, 2]);
    assert_eq!(sequences.spend(id(0), at(0), &mut used), Some(()));
    assert_eq!(sequences.spend(id(0), at(0), &mut used), None, "used");
    assert_eq!(
        sequences.spend(id(2), at(0), &mut used),
        Some(()),
        "one was passed over"
    );
    assert_eq!(sequences.spend(id(1), at(0), &mut used), None, "passed over");
    let mut used = restarted(&mut used);
    assert_eq!(turns_at(&sequences, 0, &used), [3]);
    assert_eq!(
        sequences.warnings(at(0), &used),
        ["sequence card: 1 of its list are left"]
    );
    assert_eq!(sequences.spend(id(3), at(0), &mut used), Some(()));
    assert_eq!(turns_at(&sequences, 0, &used), [0; 0]);
    // Another list keeps what was used of this one.
    let (longer, _) = load(&LIST.replace("[\"1", "[\"8/udp 1/udp 5/udp\", \"1"), folder.path());
    assert_eq!(turns_at(&longer, 0, &used), [0]);
}

#[test]
fn rolling_steps_are_used_once_and_neighbours_count() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(Some(folder.path()), None);
    rolling::create_key(&paths.sequences, "card", &RollingKey::from_bytes(&[1; 32])).unwrap();
    let (sequences, unusable) = load("rolling = true\nstep = \"1m\"", folder.path());
    assert!(unusable.is_empty());
    let mut used = Used::default();
    assert_eq!(turns_at(&sequences, 600, &used), [9, 10, 11]);
    assert_eq!(sequences.spend(id(10), at(600), &mut used), Some(()));
    assert_eq!(sequences.spend(id(10), at(600), &mut used), None, "a recorded one");
    assert_eq!(sequences.spend(id(9), at(600), &mut used), None, "an earlier one");
    let mut used = restarted(&mut used);
    assert_eq!(turns_at(&sequences, 600, &used), [11]);
    assert_eq!(sequences.spend(id(11), at(600), &mut used), Some(()));
    assert_eq!(sequences.spend(id(12), at(600), &mut used), None, "too early");
    assert_eq!(sequences.spend(id(12), at(900), &mut used), None, "too late");
    assert_eq!(turns_at(&sequences, 720, &used), [12, 13]);
    assert_eq!(sequences.warnings(at(0), &used).len(), 1, "the clock went back");
    // Another key, or another step, begins anew.
    let (other, _) = load("rolling = true\nstep = \"2m\"", folder.path());
    assert_eq!(turns_at(&other, 600, &used), [4, 5, 6]);
}

#[test]
fn after_a_lost_record_nothing_that_may_have_been_used_works() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(Some(folder.path()), None);
    rolling::create_key(&paths.sequences, "card", &RollingKey::from_bytes(&[1; 32])).unwrap();
    for (keys, later) in [(LIST, vec![]), ("rolling = true", vec![12])] {
        let (sequences, _) = load(keys, folder.path());
        let mut used = Used::default();
        sequences.spend_all(at(600), &mut used);
        assert_eq!(turns_at(&sequences, 600, &used), [0; 0], "{keys}");
        assert_eq!(turns_at(&sequences, 660, &used), later, "{keys}");
    }
}

#[test]
fn a_fixed_one_is_always_there() {
    let folder = tempfile::tempdir().unwrap();
    let (sequences, _) = load("knocks = [\"1/tcp\", \"9/tcp\", \"5/tcp\"]", folder.path());
    let mut used = Used::default();
    for _ in 0..2 {
        assert_eq!(sequences.spend(id(0), at(0), &mut used), Some(()));
    }
    assert!(used.take_changed().is_empty());
    assert_eq!(sequences.get(id(0)).unwrap().1.marked(), "sequence (replayable)");
}

#[test]
fn one_that_was_completed_under_another_configuration_is_nobody_s() {
    let folder = tempfile::tempdir().unwrap();
    let (old, _) = load("knocks = [\"1/tcp\", \"9/tcp\", \"5/tcp\"]", folder.path());
    let (new, _) = load("knocks = [\"2/tcp\", \"9/tcp\", \"5/tcp\"]", folder.path());
    let new = new.after(&old);
    assert!(new.get(id(0)).is_none());
    assert_eq!(new.patterns(at(0), &Used::default())[0].id.place, 1);
}

#[test]
fn without_its_key_or_list_it_is_left_out_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (sequences, unusable) = load("rolling = true", folder.path());
    assert!(sequences.is_empty());
    assert_eq!(
        unusable[0].failure.hints.last().unwrap(),
        "spa-keys sequence card --new"
    );
    let (_, unusable) = load("one-time = \"card.list\"", folder.path());
    assert!(unusable[0].to_string().contains("card.list"), "{}", unusable[0]);
    let file = folder.path().join("sequences.d/card.list");
    spa_keys::file::create_dir(&folder.path().join("sequences.d"), 0o700).unwrap();
    spa_keys::file::create_new(&file, b"1/tcp 9/tcp 5/tcp\n7/tcp 70000/tcp 5/tcp\n", 0o600).unwrap();
    let (_, unusable) = load("one-time = \"card.list\"", folder.path());
    assert!(
        unusable[0]
            .to_string()
            .contains("line 2: its port 2 names a port above 65535"),
        "{}",
        unusable[0]
    );
}

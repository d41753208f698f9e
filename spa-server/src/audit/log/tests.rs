use std::fs;

use proptest::prelude::*;

use super::super::chain::{Chain, Followed};
use super::super::event::Event;
use super::*;

const BIG: Limits = Limits {
    file_size: 1 << 20,
    files: 4,
};

fn at(secs: u64) -> Moment {
    Moment {
        wall: UnixTime::from_secs(1_795_384_800 + secs),
        uptime: Duration::from_secs(secs),
    }
}

/// Writes one line at a time, each by a flush of its own.
fn write(log: &mut AuditLog, lines: std::ops::Range<u64>) {
    for number in lines {
        let why = number.to_string();
        log.note(at(number), Event::Rejected { why });
        log.flush(at(number));
    }
}

/// Everything that is there, in its order.
fn read(folder: &Path) -> (Followed, Vec<Event>) {
    let (mut chain, mut events) = (Chain::default(), Vec::new());
    let mut is_midline = false;
    for (name, file) in files::open_all(folder).unwrap() {
        let text = io::read_to_string(file).unwrap();
        is_midline = !text.ends_with('\n');
        for (line, octets) in text.split_inclusive('\n').enumerate() {
            let line = chain.follow(octets.as_bytes(), &(name.clone(), line + 1)).unwrap();
            events.extend(line.and_then(|line| line.event));
        }
    }
    (chain.end(is_midline).unwrap(), events)
}

fn numbers_of(events: &[Event]) -> Vec<u64> {
    let number = |event: &Event| match event {
        Event::Rejected { why } => why.parse().ok(),
        _ => None,
    };
    events.iter().filter_map(number).collect()
}

#[test]
fn what_is_noted_is_written_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut log = AuditLog::open(dir.path(), BIG, at(0));
        write(&mut log, round * 10..round * 10 + 10);
        log.close(at(99));
    }
    let (followed, events) = read(dir.path());
    assert_eq!((followed.head.unwrap().n, followed.torn), (30, 0));
    assert_eq!(numbers_of(&events), (0..30).collect::<Vec<_>>());
}

#[test]
fn a_dry_run_keeps_nothing() {
    let mut log = AuditLog::none();
    log.note(at(0), Event::Confirmed);
    log.flush(at(0));
    assert_eq!(log.state(), None);
}

#[test]
fn files_are_rotated_by_size_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let small = Limits {
        file_size: 1000,
        files: 3,
    };
    let mut log = AuditLog::open(dir.path(), small, at(0));
    write(&mut log, 0..100);
    assert_eq!(files::numbers(dir.path()).unwrap(), [0, 1, 2]);
    let (followed, events) = read(dir.path());
    let kept = numbers_of(&events);
    assert_eq!(followed.head.unwrap().n, 100);
    assert_eq!(kept, (100 - kept.len() as u64..100).collect::<Vec<_>>());
    assert_eq!(followed.first, Some(101 - kept.len() as u64));
    assert!(kept.len() >= 10, "{kept:?}");
}

#[test]
fn a_torn_tail_is_marked_and_nothing_else_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), BIG, at(0));
    write(&mut log, 0..3);
    log.close(at(9));
    let file = files::path(dir.path(), 0);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() - 9]).unwrap();
    let mut log = AuditLog::open(dir.path(), BIG, at(10));
    write(&mut log, 3..5);
    let (followed, events) = read(dir.path());
    assert_eq!(
        (followed.head.unwrap().n, followed.torn, followed.unfinished),
        (5, 1, 0)
    );
    assert!(matches!(events[2], Event::Torn { .. }), "{events:?}");
    assert_eq!(numbers_of(&events), [0, 1, 3, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn wherever_a_crash_cuts_it_off_only_that_line_is_lost(cut: prop::sample::Index, zeros in 0..40usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::open(dir.path(), BIG, at(0));
        write(&mut log, 0..5);
        log.close(at(9));
        let file = files::path(dir.path(), 0);
        let text = fs::read(&file).unwrap();
        let cut = cut.index(text.len() + 1);
        fs::write(&file, [&text[..cut], &vec![0; zeros]].concat()).unwrap();
        let mut log = AuditLog::open(dir.path(), BIG, at(10));
        write(&mut log, 5..7);
        let (followed, events) = read(dir.path());
        let whole = text[..cut].split(|octet| *octet == b'\n').filter(|line| line.ends_with(b"\"}")).count() as u64;
        // Zeros behind a line that lacks its end are in that line.
        let whole = whole - u64::from(zeros > 0 && text[..cut].ends_with(b"\"}"));
        prop_assert_eq!(numbers_of(&events), (0..whole).chain(5..7).collect::<Vec<_>>());
        prop_assert_eq!(followed.unfinished, 0);
    }
}

#[test]
fn a_log_whose_end_is_not_known_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), BIG, at(0));
    write(&mut log, 0..3);
    log.close(at(9));
    let (file, aside) = (files::path(dir.path(), 0), dir.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    fs::create_dir(&file).unwrap();
    let mut log = AuditLog::open(dir.path(), BIG, at(10));
    write(&mut log, 3..5);
    assert!(log.state().unwrap().failure.is_some());
    fs::remove_dir(&file).unwrap();
    fs::rename(&aside, &file).unwrap();
    write(&mut log, 20..21);
    let (followed, events) = read(dir.path());
    assert_eq!(numbers_of(&events), [0, 1, 2, 3, 4, 20]);
    assert_eq!((followed.head.unwrap().n, followed.torn), (7, 0));
}

#[test]
fn a_file_that_was_moved_away_is_said_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), BIG, at(0));
    write(&mut log, 0..3);
    fs::rename(files::path(dir.path(), 0), files::path(dir.path(), 1)).unwrap();
    write(&mut log, 3..6);
    let (followed, events) = read(dir.path());
    assert_eq!(followed.head.unwrap().n, 7);
    assert_eq!(numbers_of(&events), (0..6).collect::<Vec<_>>());
    let what = "the file was taken away".to_owned();
    assert_eq!(events[3], Event::Altered { what });
}

#[test]
fn a_tail_that_is_cut_off_under_the_daemon_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(dir.path(), BIG, at(0));
    write(&mut log, 0..3);
    let file = files::path(dir.path(), 0);
    let whole = fs::metadata(&file).unwrap().len();
    let text = fs::read_to_string(&file).unwrap();
    let cut: String = text.split_inclusive('\n').take(2).collect();
    fs::write(&file, &cut).unwrap();
    write(&mut log, 3..4);
    let text = fs::read_to_string(&file).unwrap();
    let told = format!("the file is {} octets long, and {whole} were written", cut.len());
    assert!(text.lines().nth(2).unwrap().contains(&told), "{text}");
    let mut chain = Chain::default();
    let broken = text
        .lines()
        .enumerate()
        .find_map(|(line, text)| chain.follow(text.as_bytes(), &line).err());
    assert_eq!(broken.unwrap().0, 2);
}

/// A disk of so little that it is full at once, or none where that cannot be had here.
fn small_disk(dir: &Path) -> Option<impl Drop + use<>> {
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs"];
    let mounted = std::process::Command::new("mount").args(options).arg(dir).status();
    if mounted.is_ok_and(|status| status.success()) {
        return Some(Mounted(dir.to_owned()));
    }
    eprintln!("skipped: no right to mount a small file system");
    None
}

#[test]
fn a_full_disk_is_outlived_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = small_disk(dir.path()) else {
        return;
    };
    let filler = dir.path().join("filler");
    let mut log = AuditLog::open(dir.path(), BIG, at(0));
    write(&mut log, 0..3);
    // Whole pages are left to it: a write ends in the middle of a line.
    let _ = fs::write(&filler, vec![0; 1 << 16]);
    write(&mut log, 3..60);
    let failure = log.state().unwrap().failure.unwrap();
    assert!(failure.contains("No space left on device"), "{failure}");
    fs::remove_file(&filler).unwrap();
    write(&mut log, 60..62);
    assert_eq!(log.state().unwrap().failure, None);
    let (followed, events) = read(dir.path());
    assert_eq!(numbers_of(&events), (0..62).collect::<Vec<_>>());
    assert_eq!(followed.torn, 1, "the disk was full in the middle of a line");
    let gap = events.iter().find(|event| matches!(event, Event::Gap { lost: 0, .. }));
    assert!(gap.is_some(), "{events:?}");
}

#[test]
fn what_no_memory_holds_is_counted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("state");
    let mut log = AuditLog::open(&gone, BIG, at(0));
    assert!(log.state().unwrap().failure.is_some());
    write(&mut log, 0..5_000);
    fs::create_dir(&gone).unwrap();
    write(&mut log, 5_001..5_002);
    let (_, events) = read(&gone);
    assert_eq!(numbers_of(&events), (0..4_096).collect::<Vec<_>>());
    let Some(Event::Gap { lost, late, .. }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!((*lost, *late), (905, 4_096));
}

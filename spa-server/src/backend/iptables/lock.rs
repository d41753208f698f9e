//! Who holds the lock that all programs of iptables-legacy take in turn.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{major, minor};

/// What the programs lock unless told otherwise by an environment that is not passed on to them.
const LOCK_FILE: &str = "/run/xtables.lock";

/// The process that holds the xtables lock, in words; none when nobody does or it cannot be seen from here.
#[must_use]
pub fn holder() -> Option<String> {
    let file = fs::metadata(LOCK_FILE).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = holder_in(&locks, major(file.dev()), minor(file.dev()), file.ino())?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = crate::escape::escape(name.trim_end()).into_owned();
    Some(format!("process {pid} ({name})"))
}

/// Reads `1: FLOCK  ADVISORY  WRITE 4711 fe:00:5743166 0 EOF`; a line with `->` only waits for it.
fn holder_in(locks: &str, major: u32, minor: u32, inode: u64) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let held = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
        let [_, _, _, pid, place, ..] = words[..] else {
            return None;
        };
        // 0 is a process that is not in this PID namespace.
        (place == file)
            .then(|| pid.parse().ok())
            .flatten()
            .filter(|pid| *pid != 0)
    };
    locks.lines().find_map(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "1: FLOCK  ADVISORY  WRITE 19771 fe:00:5743166 0 EOF\n\
        2: -> FLOCK  ADVISORY  WRITE 5 00:1a:99 0 EOF\n\
        3: POSIX  ADVISORY  READ 0 00:1a:99 0 EOF\n\
        4: FLOCK  ADVISORY  WRITE 4711 00:1a:99 0 EOF\n";

    #[test]
    fn the_holder_is_told_from_those_who_wait() {
        assert_eq!(holder_in(LOCKS, 0, 0x1a, 99), Some(4711));
        assert_eq!(holder_in(LOCKS, 0xfe, 0, 5_743_166), Some(19771));
        assert_eq!(holder_in(LOCKS, 0, 0x1a, 98), None);
        assert_eq!(holder_in("x\n1:\n", 0, 0, 0), None);
    }
}

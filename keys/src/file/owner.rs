//! Users and groups by name, read from the system's own text files.

use std::fs;
use std::sync::OnceLock;

use rustix::process::geteuid;

/// The user that owns secrets, and that the packet process runs as.
pub const SPA_USER: &str = "spa";

/// The id of a user in /etc/passwd.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    id_in(&fs::read_to_string("/etc/passwd").ok()?, name)
}

/// The ids of a user in /etc/passwd and of its group.
#[must_use]
pub fn user_ids(name: &str) -> Option<(u32, u32)> {
    ids_in(&fs::read_to_string("/etc/passwd").ok()?, name)
}

/// The id of a group in /etc/group.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    id_in(&fs::read_to_string("/etc/group").ok()?, name)
}

/// Both files have the name first and the id third, between colons.
fn id_in(table: &str, name: &str) -> Option<u32> {
    let mut rows = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    rows.find_map(|row| match row[..] {
        [found, _, id, ..] if found == name => id.parse().ok(),
        _ => None,
    })
}

fn ids_in(table: &str, name: &str) -> Option<(u32, u32)> {
    let mut rows = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    rows.find_map(|row| match row[..] {
        [found, _, user, group, ..] if found == name => Some((user.parse().ok()?, group.parse().ok()?)),
        _ => None,
    })
}

/// Who owns the secrets that this process writes: the user `spa` where it exists and this is root; else itself.
#[must_use]
pub fn owner_of_secrets() -> Option<u32> {
    if geteuid().is_root() { spa_user() } else { None }
}

/// Whether a file of this owner may be believed: root's, this process's own, or the user `spa`'s.
pub(super) fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw() || spa_user() == Some(owner)
}

/// Looked up once: a gateway may have 100,000 files to read.
fn spa_user() -> Option<u32> {
    static ID: OnceLock<Option<u32>> = OnceLock::new();
    *ID.get_or_init(|| user_id(SPA_USER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_third_field() {
        let table = "root:x:0:0:root:/root:/bin/sh\nspare:x\nspa:x:998:997::/var/lib/spa:/usr/sbin/nologin\n";
        assert_eq!(id_in(table, "spa"), Some(998));
        assert_eq!(ids_in(table, "spa"), Some((998, 997)));
        assert_eq!(id_in(table, "root"), Some(0));
        assert_eq!(id_in(table, "spare"), None);
        assert_eq!(id_in(table, "sp"), None);
    }
}

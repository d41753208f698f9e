use std::fs;

use super::*;
use crate::file;

struct Place {
    _dir: tempfile::TempDir,
    clients: PathBuf,
    invites: PathBuf,
    watch: Watch,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (clients, invites) = (dir.path().join("clients.d"), dir.path().join("invites.d"));
    fs::create_dir(&clients).unwrap();
    fs::create_dir(&invites).unwrap();
    let watch = Watch::new(&clients, &invites).unwrap();
    Place {
        _dir: dir,
        clients,
        invites,
        watch,
    }
}

impl Place {
    fn seen(&mut self) -> String {
        let changes = self.watch.drain().unwrap();
        let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
        format!("{}|{}|{}", list(changes.clients), list(changes.invites), changes.all)
    }
}

#[test]
fn every_way_to_change_a_file_is_noticed() {
    let mut place = place();
    let a = place.clients.join("a.toml");
    assert!(place.watch.drain().unwrap().is_empty());
    file::create_new(&a, b"1", 0o600).unwrap();
    assert_eq!(place.seen(), "a||false");
    file::replace(&a, b"2", 0o600).unwrap();
    assert_eq!(place.seen(), "a||false");
    fs::write(&a, "3").unwrap();
    assert_eq!(place.seen(), "a||false");
    fs::set_permissions(&a, fs::metadata(&a).unwrap().permissions()).unwrap();
    assert_eq!(place.seen(), "a||false");
    fs::rename(&a, place.clients.join("b.toml")).unwrap();
    assert_eq!(place.seen(), "a b||false");
    fs::hard_link(place.clients.join("b.toml"), place.clients.join("c.toml")).unwrap();
    assert!(place.seen().contains('c'));
    fs::remove_file(place.clients.join("b.toml")).unwrap();
    assert!(place.seen().contains('b'));
    std::os::unix::fs::symlink("nowhere", place.invites.join("d.toml")).unwrap();
    assert_eq!(place.seen(), "|d|false");
}

#[test]
fn drafts_and_half_files_are_not() {
    let mut place = place();
    fs::write(place.clients.join(".a.toml.0.tmp"), "x").unwrap();
    fs::write(place.clients.join(".lock"), "").unwrap();
    fs::write(place.clients.join("README"), "").unwrap();
    assert_eq!(place.seen(), "||false");
    let begun = fs::File::create(place.clients.join("a.toml")).unwrap();
    assert_eq!(place.seen(), "||false");
    drop(begun);
    assert_eq!(place.seen(), "a||false");
}

#[test]
fn a_directory_may_go_and_come_back() {
    let mut place = place();
    let away = place.clients.with_file_name("away");
    fs::rename(&place.clients, &away).unwrap();
    assert_eq!(place.seen(), "||true");
    fs::rename(&away, &place.clients).unwrap();
    assert_eq!(place.seen(), "||true");
    fs::write(place.clients.join("a.toml"), "").unwrap();
    assert_eq!(place.seen(), "a||false");
    fs::remove_dir_all(&place.invites).unwrap();
    assert_eq!(place.seen(), "||true");
    fs::create_dir(&place.invites).unwrap();
    assert_eq!(place.seen(), "||true");
    fs::write(place.invites.join("b.toml"), "").unwrap();
    assert_eq!(place.seen(), "|b|false");
}

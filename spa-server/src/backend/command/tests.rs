//! The backend with a script that writes down what it was run with.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// The script fails while a file `broken` lies beside it.
    fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let folder = host.dir.path().display().to_string();
        let script = format!("#!/bin/sh\necho \"$@\" >> {folder}/log\n! test -e {folder}/broken\n");
        fs::write(host.path("script"), script).unwrap();
        fs::set_permissions(host.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn backend(&self, open: &str) -> Command {
        let argv = |words: &str| -> Vec<String> {
            let script = self.path("script").display().to_string();
            std::iter::once(script)
                .chain(words.split(' ').map(str::to_owned))
                .collect()
        };
        let pair = Pair {
            open: argv(open),
            close: argv("down {address} {client}"),
            user: None,
        };
        Command::new([("vpn".to_owned(), pair)].into(), &self.path("command.json")).unwrap()
    }

    /// What was run since this was asked last.
    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        text.lines().map(str::to_owned).collect()
    }

    fn breaks(&self, broken: bool) {
        if broken {
            fs::write(self.path("broken"), "").unwrap();
        } else {
            fs::remove_file(self.path("broken")).unwrap();
        }
    }
}

fn opening(net: &str, seconds: u64) -> Opening {
    let door = Door {
        service: "vpn".into(),
        opened: net.parse().unwrap(),
    };
    Opening {
        door,
        client: Some("alice".into()),
        remaining: Duration::from_secs(seconds),
    }
}

#[test]
fn open_runs_once_and_close_once() {
    let host = Host::new();
    let mut backend = host.backend("up {address} {family} {client} {service}");
    let both = [opening("192.0.2.5/32", 30), opening("2001:db8::5/128", 30)];
    for opening in both.iter().chain(&both) {
        backend.open(opening).unwrap();
    }
    assert_eq!(host.log(), ["up 192.0.2.5 4 alice vpn", "up 2001:db8::5 6 alice vpn"]);
    assert_eq!(backend.list().unwrap().len(), 2);
    assert!(backend.doors_intact(&both).unwrap());
    backend.close(&both[0].door).unwrap();
    backend.close(&both[0].door).unwrap();
    backend.close_all().unwrap();
    assert_eq!(host.log(), ["down 192.0.2.5 alice", "down 2001:db8::5 alice"]);
    assert!(!host.path("command.json").exists());
}

#[test]
fn a_command_that_is_told_the_end_runs_again_when_it_moves() {
    let host = Host::new();
    let mut backend = host.backend("up {end}");
    backend.open(&opening("192.0.2.5/32", 30)).unwrap();
    backend.open(&opening("192.0.2.5/32", 600)).unwrap();
    assert_eq!(host.log().len(), 2);
    assert!(backend.doors_intact(&[opening("192.0.2.5/32", 600)]).unwrap());
    assert!(backend.reconcile(&[opening("192.0.2.5/32", 599)]).unwrap().is_empty());
    assert_eq!(host.log(), [""; 0]);
}

#[test]
fn a_failing_open_is_not_open_and_is_undone() {
    let host = Host::new();
    let mut backend = host.backend("up");
    host.breaks(true);
    let error = backend.open(&opening("192.0.2.5/32", 30)).unwrap_err();
    assert_eq!(error.what, "vpn, 192.0.2.5/32: open failed: exit status: 1");
    host.breaks(false);
    // As the daemon does after a failure: nobody knows how far it went.
    backend.close(&opening("192.0.2.5/32", 0).door).unwrap();
    assert_eq!(host.log(), ["up", "down 192.0.2.5 alice"]);
    assert_eq!(backend.list().unwrap(), []);
}

#[test]
fn a_new_process_closes_what_is_overdue_whatever_is_configured() {
    let host = Host::new();
    let mut backend = host.backend("up {address}");
    for net in ["192.0.2.5/32", "192.0.2.6/32"] {
        backend.open(&opening(net, 30)).unwrap();
    }
    host.log();
    let mut backend = host.backend("up {address}");
    let repairs = backend
        .reconcile(&[opening("192.0.2.6/32", 20), opening("192.0.2.7/32", 20)])
        .unwrap();
    assert_eq!(repairs.removed, [opening("192.0.2.5/32", 0).door]);
    assert_eq!(repairs.reopened, [opening("192.0.2.7/32", 0).door]);
    assert_eq!(host.log(), ["down 192.0.2.5 alice", "up 192.0.2.7"]);
    let mut without = Command::new(BTreeMap::new(), &host.path("command.json")).unwrap();
    without.reconcile(&[]).unwrap();
    assert_eq!(host.log(), ["down 192.0.2.6 alice", "down 192.0.2.7 alice"]);
}

#[test]
fn what_was_cut_short_or_is_of_another_boot_is_closed_first() {
    let host = Host::new();
    host.backend("up").open(&opening("192.0.2.5/32", 30)).unwrap();
    let text = fs::read_to_string(host.path("command.json")).unwrap();
    for other in [
        text.replace("\"is_open\":true", "\"is_open\":false"),
        text.replace(&clock::boot_id(), "x"),
    ] {
        assert_ne!(other, text);
        fs::write(host.path("command.json"), other).unwrap();
        host.log();
        let mut backend = host.backend("up");
        assert!(!backend.doors_intact(&[opening("192.0.2.5/32", 30)]).unwrap());
        backend.reconcile(&[opening("192.0.2.5/32", 30)]).unwrap();
        assert_eq!(host.log(), ["down 192.0.2.5 alice", "up"]);
    }
}

#[test]
fn a_failing_close_is_tried_again_later_and_not_forgotten() {
    let host = Host::new();
    let mut backend = host.backend("up");
    backend.open(&opening("192.0.2.5/32", 30)).unwrap();
    host.breaks(true);
    backend.close(&opening("192.0.2.5/32", 0).door).unwrap_err();
    host.log();
    let waiting = backend.doors_intact(&[]).unwrap_err();
    assert_eq!(waiting.what, "vpn, 192.0.2.5/32: close failed: exit status: 1");
    backend.reconcile(&[]).unwrap();
    assert_eq!((host.log().len(), backend.list().unwrap().len()), (0, 1));
    host.breaks(false);
    backend.patience.clear();
    assert!(!backend.doors_intact(&[]).unwrap());
    backend.reconcile(&[]).unwrap();
    assert_eq!((host.log().len(), backend.list().unwrap().len()), (1, 0));
}

#[test]
fn a_ledger_that_others_may_have_written_is_not_believed() {
    let host = Host::new();
    fs::write(host.path("command.json"), "[]").unwrap();
    fs::set_permissions(host.path("command.json"), fs::Permissions::from_mode(0o666)).unwrap();
    let error = Command::new(BTreeMap::new(), &host.path("command.json")).unwrap_err();
    assert!(
        error.what.ends_with("somebody else may have written this file"),
        "{error}"
    );
}

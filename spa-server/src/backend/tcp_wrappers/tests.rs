//! The backend on a folder of its own; what libwrap makes of it is in tests/system/test_wrappers.py.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A folder like a system's.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(host.path("state")).unwrap();
        fs::write(host.path("hosts.allow"), "# theirs\r\nftpd: ALL\n").unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn plan(&self, always_allow: &[&str]) -> Plan {
        Plan {
            hosts_allow: self.path("hosts.allow"),
            bans: false,
            hosts_deny: self.path("hosts.deny"),
            folder: self.path("run/wrappers"),
            record: self.path("state/tcp-wrappers.json"),
            daemons: [("ssh".to_owned(), "sshd".to_owned())].into(),
            retired: BTreeSet::new(),
            always_allow: always_allow.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    fn backend(&self) -> TcpWrappers {
        TcpWrappers::new(self.plan(&["10.0.0.0/8"]))
    }

    fn pattern(&self) -> String {
        fs::read_to_string(self.path("run/wrappers/sshd")).unwrap()
    }

    fn allow(&self) -> String {
        fs::read_to_string(self.path("hosts.allow")).unwrap()
    }
}

fn opening(net: &str, seconds: u64) -> Opening {
    let door = Door {
        service: "ssh".into(),
        opened: net.parse().unwrap(),
    };
    Opening {
        door,
        client: None,
        remaining: Duration::from_secs(seconds),
    }
}

#[test]
fn protecting_lets_in_the_way_back_alone() {
    let host = Host::new();
    let repairs = host.backend().protect().unwrap();
    let [file, allow] = ["run/wrappers/sshd", "hosts.allow"].map(|name| host.path(name));
    let said = [
        format!("the pattern file {}", file.display()),
        format!("the block in {}", allow.display()),
    ];
    assert_eq!(repairs.restored, said);
    assert_eq!(host.pattern(), "10.0.0.0/8\n");
    assert!(host.allow().starts_with("# BEGIN spa-server") && host.allow().ends_with("# theirs\r\nftpd: ALL\n"));
    let mode = |name: &str| fs::metadata(host.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run/wrappers"), mode("run/wrappers/sshd")), (0o755, 0o644));
    assert!(host.backend().protect().unwrap().is_empty());
}

#[test]
fn doors_are_lines_that_come_and_go() {
    let host = Host::new();
    let mut backend = host.backend();
    backend.protect().unwrap();
    backend.self_test().unwrap();
    for _ in 0..2 {
        backend.open(&opening("192.0.2.5/32", 30)).unwrap();
        backend.open(&opening("2001:db8::/64", 30)).unwrap();
    }
    assert_eq!(host.pattern(), "10.0.0.0/8\n192.0.2.5\n[2001:db8::]/64\n");
    let listed: Vec<_> = backend
        .list()
        .unwrap()
        .into_iter()
        .map(|opening| opening.door.opened)
        .collect();
    assert_eq!(
        listed,
        ["192.0.2.5/32".parse().unwrap(), "2001:db8::/64".parse().unwrap()]
    );
    backend.close(&opening("192.0.2.5/32", 0).door).unwrap();
    backend.close(&opening("192.0.2.5/32", 0).door).unwrap();
    backend.open(&opening("2001:db8::/64", 0)).unwrap();
    assert_eq!(host.pattern(), "10.0.0.0/8\n");
}

#[test]
fn a_grant_for_the_way_back_does_not_take_it_away_at_its_end() {
    let host = Host::new();
    let mut backend = host.backend();
    backend.protect().unwrap();
    backend.open(&opening("10.0.0.0/8", 30)).unwrap();
    assert_eq!(backend.list().unwrap().len(), 1);
    backend.close(&opening("10.0.0.0/8", 0).door).unwrap();
    assert_eq!(
        (host.pattern().as_str(), backend.list().unwrap().len()),
        ("10.0.0.0/8\n", 0)
    );
}

#[test]
fn a_new_process_keeps_who_is_in_until_it_is_told() {
    let host = Host::new();
    let mut backend = host.backend();
    backend.protect().unwrap();
    backend.open(&opening("192.0.2.5/32", 30)).unwrap();
    backend.open(&opening("192.0.2.6/32", 30)).unwrap();
    let mut backend = host.backend();
    backend.protect().unwrap();
    assert_eq!(host.pattern(), "10.0.0.0/8\n192.0.2.5\n192.0.2.6\n");
    let openings = [opening("192.0.2.6/32", 20), opening("192.0.2.7/32", 20)];
    assert!(!backend.doors_intact(&openings).unwrap());
    let repairs = backend.reconcile(&openings).unwrap();
    assert_eq!(repairs.removed, [opening("192.0.2.5/32", 0).door]);
    assert_eq!(repairs.reopened, [opening("192.0.2.7/32", 0).door]);
    assert_eq!(repairs.restored, [""; 0]);
    assert!(backend.doors_intact(&openings).unwrap());
}

#[test]
fn whatever_others_do_is_noticed_and_mended() {
    let host = Host::new();
    let openings = [opening("192.0.2.6/32", 20)];
    let mut backend = host.backend();
    backend.reconcile(&openings).unwrap();
    let (allow, file) = (host.allow(), host.path("run/wrappers/sshd"));
    let harm: [&dyn Fn(); 6] = [
        &|| fs::write(host.path("hosts.allow"), "# theirs\r\nftpd: ALL\n").unwrap(),
        &|| fs::write(host.path("hosts.allow"), allow.replace("sshd:", "#sshd:")).unwrap(),
        &|| fs::remove_file(&file).unwrap(),
        &|| fs::write(&file, "192.0.2.6\n").unwrap(),
        &|| fs::write(&file, host.pattern() + "192.0.2.99\n").unwrap(),
        &|| fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap(),
    ];
    for (number, harm) in harm.iter().enumerate() {
        harm();
        assert!(!backend.doors_intact(&openings).unwrap(), "{number}");
        assert!(!backend.reconcile(&openings).unwrap().is_empty(), "{number}");
        assert_eq!(host.pattern(), "10.0.0.0/8\n192.0.2.6\n");
        assert!(backend.doors_intact(&openings).unwrap() && backend.reconcile(&openings).unwrap().is_empty());
    }
    assert_eq!(host.allow().matches("/run/wrappers/sshd").count(), 1);
}

#[test]
fn a_daemon_that_lost_its_service_keeps_the_way_back_alone() {
    let host = Host::new();
    let mut backend = host.backend();
    backend.reconcile(&[opening("192.0.2.6/32", 20)]).unwrap();
    let record = Record::load(&host.plan(&[]).record).unwrap();
    assert_eq!(record.daemons.values().collect::<Vec<_>>(), ["sshd"]);
    let mut backend = TcpWrappers::new(Plan {
        daemons: BTreeMap::new(),
        retired: ["sshd".to_owned()].into(),
        ..host.plan(&["10.0.0.0/8"])
    });
    backend.protect().unwrap();
    assert_eq!(host.pattern(), "10.0.0.0/8\n");
    assert!(host.allow().contains("/run/wrappers/sshd"));
    backend.uninstall().unwrap();
    assert_eq!(host.allow(), "# theirs\r\nftpd: ALL\n");
}

#[test]
fn uninstalling_leaves_every_byte_as_it_was() {
    for existed in [true, false] {
        let host = Host::new();
        if !existed {
            fs::remove_file(host.path("hosts.allow")).unwrap();
        }
        let before = fs::read(host.path("hosts.allow")).ok();
        let mut backend = host.backend();
        backend.protect().unwrap();
        backend.reconcile(&[opening("192.0.2.6/32", 20)]).unwrap();
        backend.uninstall().unwrap();
        assert_eq!(fs::read(host.path("hosts.allow")).ok(), before);
        assert!(!host.path("run/wrappers").exists() && !host.path("state/tcp-wrappers.json").exists());
        backend.uninstall().unwrap();
    }
}

#[test]
fn what_cannot_be_written_is_said() {
    let host = Host::new();
    let mut backend = host.backend();
    backend.protect().unwrap();
    fs::remove_dir_all(host.path("run")).unwrap();
    fs::write(host.path("run"), "").unwrap();
    let error = backend.open(&opening("192.0.2.5/32", 30)).unwrap_err();
    let file = host.path("run/wrappers/sshd");
    assert_eq!(
        error.to_string(),
        format!("tcp-wrappers: {}: Not a directory (os error 20)", file.display())
    );
    let stranger = Opening {
        door: Door {
            service: "db".into(),
            ..opening("192.0.2.5/32", 30).door
        },
        ..opening("192.0.2.5/32", 30)
    };
    assert_eq!(
        backend.open(&stranger).unwrap_err().what,
        "there is no service db in this backend"
    );
}

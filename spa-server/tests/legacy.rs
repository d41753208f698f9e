//! What iptables-legacy alone has: a lock, and rules whose changes nobody tells of.

// A test's helper that fails fails the test.
#![allow(clippy::unwrap_used)]

mod netns;

use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use netns::{again_with_legacy, in_namespace, run};
use spa_server::backend::Backend;
use spa_server::backend::iptables::Iptables;
use spa_server::backend::iptables::plan::Plan;

/// Set where /run and the programs are this test's own.
const ALONE: &str = "SPA_TEST_ALONE";

#[test]
fn with_legacy_programs_and_an_own_lock() {
    let prepare = format!("mount -t tmpfs tmpfs /run && mkdir /run/netns && export {ALONE}=1 &&");
    again_with_legacy(&prepare, &["alone", "--test-threads=1"]);
}

#[test]
fn alone_a_lock_that_another_holds_is_waited_for_and_then_reported() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    in_namespace("lock", || {
        let mut brief = hold("2");
        let started = Instant::now();
        Iptables::new(Plan::default()).protect().unwrap();
        assert!(started.elapsed() > Duration::from_secs(1), "it was waited for");
        brief.wait().unwrap();

        let mut long = hold("60");
        let error = Iptables::new(Plan {
            knock_ports: vec![62201],
            bans: false,
            ..Plan::default()
        })
        .protect()
        .unwrap_err();
        long.kill().unwrap();
        long.wait().unwrap();
        let holder = format!("process {} (sleep) has held the xtables lock for 5 s", long.id());
        assert_eq!(error.what, holder);
        assert_eq!(error.hint.as_deref(), Some("see who it is: fuser -v /run/xtables.lock"));
    });
}

#[test]
fn alone_looking_at_unchanged_rules_starts_no_program() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    in_namespace("idle", || {
        let mut backend = Iptables::new(Plan {
            knock_ports: vec![62201],
            bans: false,
            ..Plan::default()
        });
        backend.protect().unwrap();
        // One that others put besides: looked at once.
        run("iptables", &["-A", "FORWARD", "-j", "ACCEPT"]);
        assert_eq!(backend.rules_intact(), Ok(true));
        run("mount", &["--bind", "/bin/false", "/usr/sbin/xtables-nft-multi"]);
        let unchanged = backend.rules_intact();
        run("umount", &["/usr/sbin/xtables-nft-multi"]);
        assert_eq!(unchanged, Ok(true));
        run("iptables", &["-D", "INPUT", "-j", "SPA"]);
        run("iptables", &["-A", "INPUT", "-j", "LOG"]);
        assert_eq!(
            backend.rules_intact(),
            Ok(false),
            "as many rules, of the same size or not"
        );
    });
}

/// Somebody takes the lock and lets it go when he is killed.
fn hold(seconds: &str) -> Child {
    let arguments = ["--no-fork", "/run/xtables.lock", "sleep", seconds];
    let holder = Command::new("flock").args(arguments).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    holder
}

//! What people are told when files, profiles or the daemon fail them: words, exit code and what to try.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, json};
use spa_keys::directory::EnrollError;
use spa_keys::file::FileError;
use spa_keys::profile::{Profile, ProfileError, ProfileName, ProfileNameError};
use spa_keys::{ControlError, Exit, Failure, Invite, Spent, SpentBy};
use spa_proto::{PublicKey, UnixTime};

fn path() -> PathBuf {
    "/f".into()
}

fn os(kind: io::ErrorKind) -> FileError {
    FileError::Io {
        path: path(),
        verb: "write",
        error: io::Error::from(kind),
    }
}

fn told(error: impl Into<Failure>) -> (Exit, String) {
    let failure = error.into();
    (failure.exit, failure.to_string())
}

#[test]
fn files() {
    let path = path();
    let expected = [
        (
            FileError::Absent { path: path.clone() },
            Exit::Config,
            "error: /f does not exist",
        ),
        (
            FileError::Exists { path: path.clone() },
            Exit::Failed,
            "error: /f exists already",
        ),
        (
            FileError::NotRegular {
                path: path.clone(),
                kind: "a folder",
            },
            Exit::Config,
            "error: /f is a folder, where only a regular file is read",
        ),
        (
            FileError::Owner {
                path: path.clone(),
                owner: 1000,
            },
            Exit::Config,
            "error: /f belongs to user 1000, who could have put anything there\n  try: chown root /f, after you have looked at what is in it",
        ),
        (
            FileError::Mode {
                path: path.clone(),
                mode: 0o644,
                allowed: 0o600,
            },
            Exit::Config,
            "error: /f is open to others (mode 0644, at most 0600)\n  try: chmod 600 /f",
        ),
        (
            FileError::Large {
                path: path.clone(),
                most: 9,
            },
            Exit::Config,
            "error: /f is larger than 9 bytes",
        ),
        (
            FileError::NotText { path: path.clone() },
            Exit::Config,
            "error: /f is not UTF-8 text",
        ),
        (
            FileError::Busy { path },
            Exit::Failed,
            "error: /f is held by another command\n  try: again when the other command has ended",
        ),
        (
            os(io::ErrorKind::PermissionDenied),
            Exit::NoPermission,
            "error: cannot write /f: permission denied\n  try: the same as root",
        ),
        (
            os(io::ErrorKind::StorageFull),
            Exit::Failed,
            "error: cannot write /f: no storage space\n  try: df -h /f",
        ),
        (
            os(io::ErrorKind::TimedOut),
            Exit::Failed,
            "error: cannot write /f: timed out",
        ),
    ];
    for (error, exit, words) in expected {
        assert_eq!(error.path(), self::path());
        assert_eq!(
            std::error::Error::source(&error).is_some(),
            matches!(error, FileError::Io { .. })
        );
        assert_eq!(told(error), (exit, words.into()));
    }
}

#[test]
fn profiles() {
    let name: ProfileName = "home".parse().unwrap();
    assert_eq!(name.as_str(), "home");
    let unknown = |others: &[&str]| ProfileError::Unknown {
        name: name.clone(),
        others: others.iter().map(ToString::to_string).collect(),
    };
    let syntax = Profile::parse("host = 1").unwrap_err();
    let place = format!("error: /f, {syntax}");
    let expected = [
        (
            unknown(&[]),
            Exit::Config,
            "error: there is no profile home\n  try: spa-client enroll, with an invite from who runs the gateway",
        ),
        (
            unknown(&["a", "b"]),
            Exit::Config,
            "error: there is no profile home\n  try: one of those that exist: a, b",
        ),
        (
            ProfileError::Taken {
                name: name.clone(),
                path: path(),
            },
            Exit::Failed,
            "error: there is a profile home already, and it was not made from this invite: /f\n  try: another name with --profile NAME, or --replace, which keeps the old one",
        ),
        (
            ProfileError::File(FileError::Exists { path: path() }),
            Exit::Failed,
            "error: /f exists already",
        ),
        (
            ProfileError::Syntax {
                path: path(),
                error: syntax,
            },
            Exit::Config,
            &place,
        ),
        (
            ProfileError::NoFolder,
            Exit::Config,
            "error: none of SPA_CONFIG_DIR, XDG_CONFIG_HOME and HOME says where profiles are\n  try: export SPA_CONFIG_DIR=/a/folder/of/yours",
        ),
    ];
    for (error, exit, words) in expected {
        assert_eq!(told(error), (exit, words.into()));
    }
    assert!(
        ProfileNameError
            .to_string()
            .starts_with("a profile's name is 1 to 240 characters")
    );
}

#[test]
fn the_daemon() {
    let refused = |parameters| ControlError::Refused {
        error: "spa.NotFound".into(),
        parameters,
    };
    let with_words = json!({ "message": "no client bob" }).as_object().unwrap().clone();
    let io = ControlError::Io {
        path: path(),
        error: io::ErrorKind::AddrInUse.into(),
    };
    let expected = [
        (
            ControlError::NotRunning { path: path() },
            Exit::Unreachable,
            "error: the daemon is not running: nobody answers at /f\n  try: spa-server run",
        ),
        (
            ControlError::NoPermission { path: path() },
            Exit::NoPermission,
            "error: no permission to talk to the daemon at /f\n  try: the same as root, or as a member of the group spa-admin",
        ),
        (
            ControlError::Silent {
                patience: Duration::from_secs(10),
            },
            Exit::Unreachable,
            "error: the daemon did not answer within 10 s",
        ),
        (
            ControlError::Ended,
            Exit::Unreachable,
            "error: the daemon ended the connection without an answer",
        ),
        (
            ControlError::Garbled,
            Exit::Unreachable,
            "error: the daemon's answer is no message that is known here",
        ),
        (refused(with_words), Exit::Failed, "error: no client bob"),
        (
            refused(Map::new()),
            Exit::Failed,
            "error: the daemon refused: spa.NotFound",
        ),
        (
            io,
            Exit::Unreachable,
            "error: cannot talk to the daemon at /f: address in use",
        ),
    ];
    for (error, exit, words) in expected {
        assert_eq!(told(error), (exit, words.into()));
    }
}

#[test]
fn enrollments() {
    let public_key = PublicKey([1; 32]);
    let by = SpentBy::Device {
        public_key,
        psk_digest: [2; 32],
    };
    let spent = Spent {
        at: UnixTime::from_secs(1),
        by,
    };
    let fingerprint = spa_keys::text::fingerprint(&public_key);
    let before = EnrollError::SpentBefore { spent };
    assert_eq!(
        before.to_string(),
        format!("the invite was spent before, for the key {fingerprint}")
    );
    let taken = EnrollError::NameTaken { path: path() };
    assert_eq!(told(taken), (Exit::Failed, "error: /f is another client's".into()));
    let file = EnrollError::from(FileError::Exists { path: path() });
    assert_eq!(file.to_string(), "/f exists already");
    assert_eq!(told(file).0, Exit::Failed);
    assert!(
        Invite::parse("name = 1")
            .unwrap_err()
            .to_string()
            .starts_with("line 1, column")
    );
}

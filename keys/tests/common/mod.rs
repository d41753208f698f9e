//! A gateway's directory, and the command run on it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "each test file uses some of it; the helpers of a test fail by panicking, as the test does"
)]

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use assert_cmd::Command;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::Value;
use spa_keys::{Client, GatewayKey, text};
use spa_proto::{SecretKey, UnixTime};

pub const SERVER: &str = "[gateway]\nhost = \"gw.example.net\"\n[listen]\nports = [62201, 53]\n\
    [[service]]\nname = \"ssh\"\nports = [\"tcp/22\"]\n[[service]]\nname = \"db\"\n";

/// A gateway's directory.
pub struct Gateway(tempfile::TempDir);

/// What a command did.
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Gateway {
    pub fn new() -> Self {
        let gateway = Self(tempfile::tempdir().unwrap());
        gateway.write("server.toml", SERVER, 0o640);
        let key = GatewayKey::generate(UnixTime::from_secs(1_800_000_000), &mut UnwrapErr(SysRng));
        key.create(&gateway.path("gateway.key")).unwrap();
        gateway
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        // Never through a link: these tests may run as root.
        drop(fs::remove_file(self.path(name)));
        fs::File::create_new(self.path(name))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    pub fn run(&self, line: &str) -> Done {
        self.run_with(line, "")
    }

    pub fn run_with(&self, line: &str, stdin: &str) -> Done {
        let mut command = Command::cargo_bin("spa-keys").unwrap();
        let output = command.arg("--dir").arg(self.0.path()).args(line.split_whitespace());
        let output = output.write_stdin(stdin).output().unwrap();
        let text = |octets: Vec<u8>| {
            let text = String::from_utf8(octets).unwrap();
            text.replace(self.0.path().to_str().unwrap(), "DIR")
        };
        Done {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    pub fn json(&self, line: &str) -> Value {
        let done = self.run(&format!("{line} --json"));
        assert_eq!(done.code, 0, "{}", done.err);
        serde_json::from_str(&done.out).unwrap()
    }

    /// A client added by hand; returns its public key.
    pub fn add(&self, name: &str, more: &str) -> String {
        let key = key();
        let done = self.run_with(
            &format!("add {name} --public-key {key} --psk-file - --services ssh {more}"),
            &psk(),
        );
        assert_eq!(done.code, 0, "{}", done.err);
        key
    }

    pub fn client(&self, name: &str) -> Client {
        Client::load(&self.path(&format!("clients.d/{name}.toml"))).unwrap()
    }
}

pub fn key() -> String {
    text::encode(SecretKey::generate(&mut UnwrapErr(SysRng)).public().as_bytes())
}

pub fn psk() -> String {
    text::encode(&[7; 32])
}

/// Exit code, then stderr; stdout must be empty.
pub fn refused(done: &Done) -> String {
    assert_eq!(done.out, "");
    format!("{}\n{}", done.code, done.err.trim_end())
}

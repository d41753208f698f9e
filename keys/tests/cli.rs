//! The command, as a person meets it.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking, as the test does"
)]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use assert_cmd::Command;
use insta::assert_snapshot;
use serde_json::Value;
use spa_keys::{InviteText, text};

mod common;

use common::{Gateway, SERVER, key, psk, refused};

#[test]
fn an_invite_is_alone_on_stdout() {
    let gateway = Gateway::new();
    let done = gateway.run("invite alice-phone --services ssh,db --address explicit");
    assert_eq!(done.code, 0, "{}", done.err);
    let invite = InviteText::parse(done.out.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(invite.name.as_str(), "alice-phone");
    assert_eq!(invite.services.to_string(), "ssh=tcp/22,db");
    assert_eq!(invite.host.as_str(), "gw.example.net");
    assert_eq!(invite.ports.numbers().collect::<Vec<_>>(), [62201, 53]);
    assert!(invite.demands.explicit_address && !invite.demands.pin);
    assert!(done.err.contains("Invite for alice-phone: ssh, db; good until "));
    let files: Vec<_> = fs::read_dir(gateway.path("invites.d"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].metadata().unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(gateway.path("invites.d")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn an_invite_as_json() {
    let gateway = Gateway::new();
    let facts = gateway.json("invite bob --services ssh --valid 30d");
    let invite = InviteText::parse(facts["invite"].as_str().unwrap()).unwrap();
    assert_eq!(facts["name"], "bob");
    assert_eq!(facts["services"], serde_json::json!(["ssh"]));
    assert_eq!(facts["pin"], Value::Null);
    assert_eq!(facts["ends"], spa_keys::units::format_time(invite.end()));
    assert_eq!(facts.as_object().unwrap().len(), 5);
}

#[test]
fn invites_refused() {
    let gateway = Gateway::new();
    gateway.run("invite taken --services ssh");
    let said = [
        "invite taken --services ssh",
        "invite bob --services ftp",
        "invite bob --services ssh --valid 31d",
    ]
    .map(|line| refused(&gateway.run(line)));
    assert_snapshot!(said.join("\n\n"), @"
    1
    error: a client or a live invite has the name taken
      try: another name
      try: spa-keys remove taken

    78
    error: the service ftp does not exist in server.toml
      try: one of these: ssh, db

    64
    error: an invite is good for at most 30d
    ");
}

#[test]
fn wrong_usage_is_64() {
    let gateway = Gateway::new();
    for line in [
        "",
        "invite",
        "invite bob",
        "invite bob --services ,",
        "invite bob --services ssh,ssh",
        "invite bob --services *",
        "invite bob --services ssh --valid 15",
        "invite bob --services ssh --valid 0s",
        "invite bob --services ssh --expires tomorrow",
        "invite bob --services ssh --sources 10.0.0.1/8",
        "invite bob --services ssh --one-time-code=7",
        "invite bob --services ssh --widen /8",
        "invite bob --services ssh --widen /24,/25",
        "rename alice",
        "export ../alice",
        "import /etc/passwd",
        "gateway rotate --valid 31d",
        "invite ../bob --services ssh",
        "invite .bob --services ssh",
        "show a/b",
        "remove ..",
        "revoke /etc/passwd",
        "add bob --public-key short --psk-file - --services ssh",
        "frobnicate",
    ] {
        let done = gateway.run(line);
        assert_eq!(done.code, 64, "{line}: {}", done.err);
        assert_eq!(done.out, "", "{line}");
    }
    let mut empty = Command::cargo_bin("spa-keys").unwrap();
    empty.args(["invite", "bob", "--services", ""]).assert().code(64);
}

#[test]
fn a_gateway_that_is_not_whole_is_78() {
    let gateway = Gateway::new();
    let invite = || refused(&gateway.run("invite bob --services ssh"));
    let mut said = Vec::new();
    fs::set_permissions(gateway.path("gateway.key"), Permissions::from_mode(0o644)).unwrap();
    said.push(invite());
    fs::remove_file(gateway.path("gateway.key")).unwrap();
    said.push(invite());
    // The link's target is a file of this test's own, and the link is gone before anything is written again.
    gateway.write("elsewhere", "", 0o600);
    symlink(gateway.path("elsewhere"), gateway.path("gateway.key")).unwrap();
    said.push(invite());
    fs::remove_file(gateway.path("gateway.key")).unwrap();
    gateway.write("gateway.key", "version = 1\n[[identity]]\ncreatd = 1\n", 0o600);
    said.push(invite());
    gateway.write("server.toml", "[gateway]\nhost = 1\n", 0o640);
    said.push(invite());
    fs::set_permissions(gateway.path("server.toml"), Permissions::from_mode(0o666)).unwrap();
    said.push(invite());
    fs::remove_file(gateway.path("server.toml")).unwrap();
    said.push(invite());
    assert_snapshot!(said.join("\n\n"), @"
    78
    error: DIR/gateway.key is open to others (mode 0644, at most 0600)
      try: chmod 600 DIR/gateway.key

    78
    error: DIR/gateway.key does not exist
      try: spa-server init

    78
    error: DIR/gateway.key is a symbolic link, where only a regular file is read

    78
    error: DIR/gateway.key, line 2, column 1: created is missing

    78
    error: DIR/server.toml, line 2, column 8: host is a text: write it in quotes

    78
    error: DIR/server.toml is open to others (mode 0666, at most 0640)
      try: chmod 640 DIR/server.toml

    78
    error: DIR/server.toml does not exist
      try: spa-server init
    ");
}

#[test]
fn an_invite_needs_a_host() {
    let gateway = Gateway::new();
    gateway.write("server.toml", &SERVER.replace("host =", "#"), 0o640);
    assert_snapshot!(refused(&gateway.run("invite bob --services ssh")), @r#"
    78
    error: server.toml does not say where the gateway is
      try: these two lines in server.toml: [gateway] and host = "gw.example.net"
    "#);
    assert!(!gateway.path("invites.d").exists());
}

#[test]
fn another_configuration_may_be_named() {
    let gateway = Gateway::new();
    gateway.write("other.toml", &SERVER.replace("gw.", "other."), 0o640);
    let other = gateway.path("other.toml");
    let facts = gateway.json(&format!("gateway show --config {}", other.display()));
    assert_eq!(facts["host"], "other.example.net");
}

#[test]
fn a_client_comes_and_goes() {
    let gateway = Gateway::new();
    let key = gateway.add(
        "ci",
        "--label runner --expires 2030-01-01 --max-duration 1h --sources 192.0.2.0/24",
    );
    let shown = gateway.json("show ci");
    assert_eq!(shown["public_key"], key.as_str());
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["label"], "runner");
    assert_eq!(shown["expires"], "2030-01-01T00:00:00Z");
    assert_eq!(shown["last_knock"], Value::Null);
    assert_eq!(shown.as_object().unwrap().len(), 10);
    assert_eq!(gateway.json("revoke ci")["state"], "revoked");
    let since = gateway.client("ci").revoked;
    assert_eq!(gateway.run("revoke ci").out, "ci was revoked before\n");
    assert_eq!(gateway.client("ci").revoked, since);
    assert_eq!(gateway.run("restore ci").out, "ci restored\n");
    assert_eq!(gateway.run("restore ci").out, "ci was not revoked\n");
    assert_eq!(gateway.run("remove ci").out, "client ci removed\n");
    assert_snapshot!(refused(&gateway.run("show ci")), @"
    1
    error: there is no client ci
      try: spa-keys list
    ");
    assert!(!gateway.path("clients.d/ci.toml").exists());
}

#[test]
fn settings_change_and_comments_stay() {
    let gateway = Gateway::new();
    gateway.add("ci", "");
    let file = gateway.path("clients.d/ci.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("# nightly builds\n{text}")).unwrap();
    let set = "set ci --services ssh,db --expires 2030-01-01 --max-duration 2h --address explicit \
               --sources 192.0.2.0/24 --sources 2001:db8::/32 --label nightly";
    assert_eq!(gateway.run(set).out, "ci changed\n");
    let client = gateway.client("ci");
    assert_eq!(
        (client.terms.policy.services.len(), client.terms.policy.sources.len()),
        (2, 2)
    );
    assert_eq!(client.label.as_str(), "nightly");
    gateway.run("set ci --expires never --max-duration none --sources any");
    let client = gateway.client("ci");
    assert!(client.terms.expires.is_none() && client.terms.policy.sources.is_empty());
    assert!(client.terms.policy.max_duration.is_none());
    assert!(fs::read_to_string(&file).unwrap().starts_with("# nightly builds\n"));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let said = [
        "set ci",
        "set ci --services ftp",
        "set bob --label x",
        "set ci --sources any --sources 192.0.2.1",
    ];
    assert_snapshot!(said.map(|line| refused(&gateway.run(line))).join("\n\n"), @"
        64
        error: nothing to set
          try: spa-keys set ci --expires 2027-01-01

        78
        error: the service ftp does not exist in server.toml
          try: one of these: ssh, db

        1
        error: there is no client bob
          try: spa-keys list

        64
        error: --sources: either any or networks, not both
        ");
}

#[test]
fn a_key_may_begin_with_a_hyphen() {
    let gateway = Gateway::new();
    let key = std::iter::repeat_with(key).find(|key| key.starts_with('-')).unwrap();
    let line = format!("add ci --public-key {key} --psk-file - --services ssh");
    assert_eq!(gateway.run_with(&line, &psk()).code, 0);
    assert_eq!(gateway.json("show ci")["public_key"], key.as_str());
}

#[test]
fn keys_that_cannot_be_added() {
    let gateway = Gateway::new();
    let known = gateway.add("ci", "");
    let own = gateway.json("gateway show")["identities"][0]["public_key"]
        .as_str()
        .unwrap()
        .to_owned();
    let low = text::encode(&[0; 32]);
    let add = |name: &str, key: &str, psk: &str| {
        refused(&gateway.run_with(
            &format!("add {name} --public-key {key} --psk-file - --services ssh"),
            psk,
        ))
    };
    let said = [
        add("ci", &key(), &psk()),
        add("bob", &known, &psk()),
        add("bob", &own, &psk()),
        add("bob", &low, &psk()),
        add("bob", &key(), &low),
        add("bob", &key(), "short\n"),
    ];
    assert_snapshot!(said.join("\n\n"), @"
        1
        error: a client or a live invite has the name ci
          try: another name
          try: spa-keys remove ci

        1
        error: --public-key: a client or an invite has this key

        1
        error: --public-key: this is the gateway's own key

        1
        error: --public-key: this is no usable X25519 public key

        78
        error: -, line 1, column 1: the PSK: all zeros, which no key may be

        78
        error: -, line 1, column 1: the PSK: 5 characters, where a key has 43
        ");
    gateway.write("open.psk", &psk(), 0o644);
    let line = format!(
        "add bob --public-key {} --psk-file {} --services ssh",
        key(),
        gateway.path("open.psk").display()
    );
    let done = gateway.run(&line);
    assert_eq!(done.code, 78);
    assert!(done.err.contains("try: chmod 600 DIR/open.psk"), "{}", done.err);
    assert!(!done.err.contains(&psk()));
}

#[test]
fn lists_are_for_people_and_programs() {
    let gateway = Gateway::new();
    assert_snapshot!(gateway.run("list").out, @"
no client and no invite
  try: spa-keys invite NAME --services ssh
");
    gateway.add("ci", "--expires 2020-01-01");
    gateway.add("anna", "");
    gateway.run("invite bob --services ssh");
    let broken = gateway.path("clients.d/broken.toml");
    gateway.write("clients.d/broken.toml", "psk = \"\u{1b}[2J\"\n", 0o600);
    let done = gateway.run("list");
    assert_eq!(done.code, 0);
    let ends = done.out.rsplit("  ").next().unwrap().trim().to_owned();
    assert_snapshot!(done.out.replace(&ends, "ENDS"), @"
    CLIENT  STATE    SERVICES  EXPIRES                      LAST KNOCK  FROM  IDENTITY
    anna    active   ssh       -                            -           -     -
    broken  broken   -         -                            -           -     -
    ci      expired  ssh       2020-01-01T00:00:00Z (over)  -           -     -

    INVITE  STATE  SERVICES  ENDS
    bob     live   ssh       ENDS
    ");
    assert_snapshot!(done.err, @r"warning: DIR/clients.d/broken.toml, line 1: invalid basic string, expected non-double-quote visible characters, `\`");
    let facts = gateway.json("list");
    assert_eq!(facts["clients"].as_array().unwrap().len(), 3);
    assert_eq!(facts["clients"][1]["state"], "broken");
    assert_eq!(facts["clients"][1].as_object().unwrap().len(), 10);
    assert_eq!(facts["invites"][0]["state"], "live");
    let done = gateway.run("show broken --json");
    assert_eq!((done.code, done.out.contains("\"broken\"")), (78, true));
    assert_eq!(gateway.run("revoke broken").code, 78);
    assert_eq!(gateway.run("remove broken").code, 0);
    assert!(!broken.exists());
}

#[test]
fn two_clients_with_one_key_are_loud() {
    let gateway = Gateway::new();
    gateway.add("ci", "");
    fs::copy(gateway.path("clients.d/ci.toml"), gateway.path("clients.d/copy.toml")).unwrap();
    let done = gateway.run("list");
    assert_eq!(
        done.err.matches("another file has the same public key").count(),
        2,
        "{}",
        done.err
    );
    gateway.run("remove copy");
    assert_eq!(gateway.json("show ci")["state"], "active");
}

#[test]
fn an_invite_is_withdrawn() {
    let gateway = Gateway::new();
    gateway.run("invite bob --services ssh");
    assert_snapshot!(refused(&gateway.run("revoke bob")), @"
    1
    error: bob has an invite and has not enrolled yet
      try: spa-keys remove bob, to withdraw the invite
    ");
    assert_eq!(gateway.run("remove bob").out, "invite for bob withdrawn\n");
    assert_eq!(gateway.run("remove bob").code, 1);
    assert_eq!(gateway.run("invite bob --services ssh").code, 0);
}

#[test]
fn the_gateway_shows_no_secret_unasked() {
    let gateway = Gateway::new();
    let facts = gateway.json("gateway show");
    assert_eq!(facts["host"], "gw.example.net");
    assert_eq!(facts["ports"], serde_json::json!([62201, 53]));
    assert_eq!(facts["identities"][0]["hmac_key"], Value::Null);
    assert_eq!(facts["identities"][0]["created"], "2027-01-15T08:00:00Z");
    let secret = gateway.json("gateway show --secrets")["identities"][0]["hmac_key"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(secret.len(), 43);
    assert!(!gateway.run("gateway show").out.contains(&secret));
    assert!(gateway.run("gateway show --secrets").out.contains(&secret));
    let key = fs::read_to_string(gateway.path("gateway.key")).unwrap();
    let private = key
        .split("private-key = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    assert!(!gateway.run("gateway show --secrets --json").out.contains(&private));
}

#[test]
fn a_running_daemon_tells_the_last_knock() {
    let gateway = Gateway::new();
    let key = gateway.add("ci", "");
    fs::create_dir(gateway.path("run")).unwrap();
    let listener = UnixListener::bind(gateway.path("run/control.sock")).unwrap();
    let knock = serde_json::json!({ "key": key, "at": "2026-11-22T12:00:00Z", "address": "192.0.2.7" });
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        write!(
            stream,
            "{}\0",
            serde_json::json!({ "parameters": { "knocks": [knock] } })
        )
        .unwrap();
        serde_json::from_slice::<Value>(&request[..length - 1]).unwrap()
    });
    let shown = gateway.json("show ci");
    assert_eq!(shown["last_knock"], "2026-11-22T12:00:00Z");
    assert_eq!(shown["last_address"], "192.0.2.7");
    let asked = serde_json::json!({ "method": "spa.LastKnocks", "parameters": { "keys": [key] } });
    assert_eq!(daemon.join().unwrap(), asked);
    // The socket is still there, the daemon is not: nothing is known, and that is no error.
    assert_eq!(gateway.json("show ci")["last_knock"], Value::Null);
}

#[test]
fn commands_wait_for_each_other() {
    let gateway = Gateway::new();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let gateway = &gateway;
            scope.spawn(move || assert_eq!(gateway.run(&format!("invite {name} --services ssh")).code, 0));
        }
        let same: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| gateway.run("invite same --services ssh").code))
            .collect();
        let codes: Vec<i32> = same.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    });
    assert_eq!(gateway.json("list")["invites"].as_array().unwrap().len(), 5);
}

#[test]
fn every_command_has_an_example() {
    for line in [
        "",
        "invite",
        "add",
        "list",
        "show",
        "revoke",
        "restore",
        "remove",
        "set",
        "rename",
        "export",
        "import",
        "backup",
        "reset-replay",
        "gateway show",
        "gateway rotate",
        "gateway reinvite",
        "gateway drop",
    ] {
        let mut command = Command::cargo_bin("spa-keys").unwrap();
        let output = command.args(line.split_whitespace()).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(
            String::from_utf8(output.stdout).unwrap().contains("Example: spa-keys "),
            "{line}"
        );
    }
}

#[test]
fn rolling_sequences() {
    let gateway = Gateway::new();
    let rolling = "[[sequence]]\nname = \"card\"\nservice = \"ssh\"\nrolling = true\nstep = \"1d\"\n\
        [[sequence]]\nname = \"fixed\"\nservice = \"ssh\"\nknocks = [\"1/tcp\"]\n";
    gateway.write("server.toml", &format!("{SERVER}{rolling}"), 0o640);
    let absent = gateway.run("sequence card --next 3");
    assert_eq!((absent.code, absent.out.as_str()), (78, ""));
    assert!(
        absent.err.contains("try: spa-keys sequence card --new"),
        "{}",
        absent.err
    );
    assert_eq!(gateway.run("sequence card --new").code, 0);
    assert_eq!(
        gateway.path("sequences.d/card.key").metadata().unwrap().mode() & 0o777,
        0o600
    );
    let again = gateway.run("sequence card --new");
    assert_eq!((again.code, again.out.as_str()), (1, ""));
    let card = gateway.run("sequence card --next 3");
    assert_eq!((card.code, card.err.as_str()), (0, ""));
    assert_eq!(card.out.matches("[ ] 20").count(), 3, "{}", card.out);
    assert!(card.out.contains("knock -d 200 gw.example.net "), "{}", card.out);
    let key = fs::read_to_string(gateway.path("sequences.d/card.key")).unwrap();
    assert!(!card.out.contains(key.trim()), "a card does not hold the key");
    let profile = gateway.run("sequence card --profile");
    assert!(profile.out.contains(key.trim()) && !profile.err.contains(key.trim()));
    for (line, code) in [
        ("sequence card", 64),
        ("sequence card --next 0", 64),
        ("sequence card --next 3 --new", 64),
        ("sequence fixed --new", 78),
        ("sequence other --new", 78),
        ("sequence ../card --new", 64),
    ] {
        let refused = gateway.run(line);
        assert_eq!((refused.code, refused.out.as_str()), (code, ""), "{line}");
    }
}

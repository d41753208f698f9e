//! Giving, taking away, rotating and moving, as a person meets it.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking, as the test does"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use insta::assert_snapshot;
use serde_json::{Value, json};
use spa_keys::state::{Change, LastKnock, State, StateLock};
use spa_keys::units::{now, parse_time};
use spa_keys::{Invite, InviteText, text};
use spa_proto::{PublicKey, ReplaySet, UnixTime};

mod common;

use common::{Gateway, psk, refused};

impl Gateway {
    /// Writes into the state what a daemon would have written.
    fn record(&self, changes: &[Change]) {
        let dir = self.path("state");
        let lock = StateLock::acquire(&dir).unwrap();
        let mut state = State::create(&dir, lock)
            .or_else(|_| State::open(&dir, StateLock::acquire(&dir).unwrap()))
            .unwrap();
        state.commit(changes).unwrap();
    }

    fn knocked(&self, name: &str, identity: &str, at: UnixTime) {
        let own = self.json("gateway show")["identities"].as_array().unwrap().clone();
        let own = own.iter().find(|own| own["fingerprint"] == identity).unwrap()["public_key"].clone();
        let key = text::public_key(self.json(&format!("show {name}"))["public_key"].as_str().unwrap()).unwrap();
        let gateway = text::public_key(own.as_str().unwrap()).unwrap();
        let knock = LastKnock {
            at,
            address: "192.0.2.7".parse().unwrap(),
            gateway,
        };
        self.record(&[Change::Knock(key, knock)]);
    }

    fn identities(&self) -> Vec<String> {
        let own = self.json("gateway show")["identities"].as_array().unwrap().clone();
        own.iter()
            .map(|own| own["fingerprint"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Each client with its progress.
    fn progress(&self) -> Vec<(String, String)> {
        let facts = self.json("gateway rotate --status");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let clients = facts["clients"].as_array().unwrap().iter();
        clients
            .map(|client| (text(&client["name"]), text(&client["progress"])))
            .collect()
    }

    /// Enrolls by an invite as the daemon does, into files.
    fn enroll(&self, invite: &str) {
        let text = InviteText::parse(invite.trim()).unwrap();
        let folder = self.path("invites.d");
        let mut files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let file = files
            .find(|path| path.to_str().unwrap().contains(&format!("/{}@", text.name)))
            .unwrap();
        let known = Invite::load(&file).unwrap();
        let enrollment = spa_proto::Enrollment {
            public_key: text::public_key(&common::key()).unwrap(),
            psk: spa_proto::Psk::from_bytes(&[7; 32]),
            label: "".parse().unwrap(),
        };
        let mut directory = spa_keys::KeyDirectory::load(&self.path("clients.d"), &folder).unwrap();
        directory
            .write_enrollment(&known.public_key, &enrollment, now())
            .unwrap();
    }
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn an_invite_with_everything() {
    let gateway = Gateway::new();
    let picture = gateway.path("bob.svg");
    let line = format!(
        "invite bob --services ssh --pin --qr --qr-file {} --one-time-code=8 --widen /24,/64 --address explicit \
         --max-duration 1h --sources 192.0.2.0/24 --expires 2030-01-01",
        picture.display()
    );
    let done = gateway.run(&line);
    assert_eq!(done.code, 0, "{}", done.err);
    let invite = InviteText::parse(done.out.strip_suffix('\n').unwrap()).unwrap();
    assert!(invite.demands.pin && invite.demands.one_time_code && invite.demands.explicit_address);
    assert!(done.err.contains("PIN: ") && done.err.contains('\u{2588}'));
    assert!(
        done.err.contains("otpauth://totp/gw.example.net:bob?secret="),
        "{}",
        done.err
    );
    assert!(done.err.contains("&digits=8&"));
    assert_eq!(mode(&picture), 0o600);
    let file = fs::read_dir(gateway.path("invites.d"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let stored = Invite::load(&file.path()).unwrap();
    assert_eq!((stored.terms.policy.widen.v4, stored.terms.policy.widen.v6), (24, 64));
    let pin = stored.pin_text().unwrap();
    assert!(done.err.contains(&format!("PIN: {}    ", *pin)));
    let secret = stored.terms.one_time_code.unwrap().to_base32();
    assert!(done.err.contains(&format!("secret={}&", *secret)));
    assert!(!done.out.contains(&*pin) && !done.out.contains(&*secret));
}

#[test]
fn a_picture_that_cannot_be_written_makes_no_invite() {
    let gateway = Gateway::new();
    gateway.write("taken.svg", "mine", 0o600);
    let line = format!(
        "invite bob --services ssh --qr-file {}",
        gateway.path("taken.svg").display()
    );
    assert_snapshot!(refused(&gateway.run(&line)), @"
    1
    error: DIR/taken.svg exists already
    ");
    assert_eq!(fs::read_to_string(gateway.path("taken.svg")).unwrap(), "mine");
    assert_eq!(gateway.json("list")["invites"], json!([]));
}

#[test]
fn a_rotation_from_beginning_to_end() {
    let gateway = Gateway::new();
    for name in ["anna", "bob", "carol"] {
        gateway.add(name, "--max-duration 1h");
    }
    gateway.add("gone", "");
    gateway.run("revoke gone");
    let old = gateway.identities().remove(0);
    for name in ["anna", "bob", "carol"] {
        gateway.knocked(name, &old, now());
    }
    let out = gateway.path("invites");
    let facts = gateway.json(&format!("gateway rotate --out {} --pin", out.display()));
    let new = facts["identity"].as_str().unwrap().to_owned();
    assert_eq!(gateway.identities(), [old.clone(), new.clone()]);
    assert_eq!(mode(&gateway.path("gateway.key")), 0o600);
    let names: Vec<&str> = facts["invites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["anna.2", "bob.2", "carol.2"]);
    assert_eq!(mode(&out), 0o700);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 6);
    for file in fs::read_dir(&out).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    assert!(facts["invites"][0]["pin"].as_str().unwrap().len() == 8);
    assert!(gateway.progress().iter().all(|(_, progress)| progress == "invited"));

    let text = |name: &str| fs::read_to_string(out.join(format!("{name}.txt"))).unwrap();
    gateway.enroll(&text("anna.2"));
    gateway.enroll(&text("bob.2"));
    let anna = gateway.client("anna.2");
    assert_eq!(anna.terms.replaces, Some(gateway.client("anna").public_key));
    assert_eq!(anna.terms.policy, gateway.client("anna").terms.policy, "the same terms");
    gateway.knocked("anna.2", &new, now());
    let at = |name: &str| {
        gateway
            .progress()
            .into_iter()
            .find(|(found, _)| found == name)
            .unwrap()
            .1
    };
    assert_eq!(
        [at("anna"), at("anna.2"), at("bob"), at("carol")],
        ["replaced", "moved", "enrolled", "invited"]
    );

    let drop_old = format!("gateway drop {old}");
    assert_snapshot!(refused(&gateway.run(&drop_old)).replace(&old, "OLD"), @"
    1
    error: OLD is needed; nothing was changed
      bob has used it, or may have been given it
      carol has used it, or may have been given it
      try: spa-keys gateway rotate --status
      try: spa-keys revoke bob, if it is never to come back
      try: --force, which shuts them out
    ");
    gateway.knocked("bob.2", &new, now());
    gateway.enroll(&text("carol.2"));
    assert_eq!(gateway.run(&drop_old).code, 1, "carol has not knocked yet");
    gateway.knocked("carol.2", &new, now());
    let done = gateway.run(&format!("{drop_old} --remove-replaced"));
    assert_snapshot!(done.out.replace(&old, "OLD"), @"
    OLD is dropped
    anna removed: another took its place
    bob removed: another took its place
    carol removed: another took its place
    ");
    assert_eq!(gateway.identities(), [new]);
    assert_eq!(gateway.run("rename anna.2 anna").out, "anna.2 is called anna now\n");
    assert_eq!(gateway.json("show anna")["state"], "active");
}

#[test]
fn who_lags_is_invited_again_and_shut_out_only_by_force() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    gateway.record(&[]);
    let old = gateway.identities().remove(0);
    gateway.run("gateway rotate");
    let folder = fs::read_dir(gateway.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    assert_eq!(
        folder
            .filter(|path| path.to_str().unwrap().contains("/rotation-2"))
            .count(),
        1
    );
    assert_snapshot!(gateway.run("gateway reinvite").out, @"everybody has moved or has an invite");
    let facts = gateway.json(&format!(
        "gateway reinvite anna --out {}",
        gateway.path("again").display()
    ));
    assert_eq!(facts["invites"][0]["name"], "anna.2", "the first one was withdrawn");
    assert_eq!(gateway.json("list")["invites"].as_array().unwrap().len(), 1);
    gateway.run("remove anna.2");
    assert_eq!(gateway.progress(), [("anna".into(), "lagging".into())]);
    let done = gateway.run(&format!("gateway drop {old}"));
    assert_eq!(done.code, 1, "anna was enrolled just now and may hold it: {}", done.err);
    let facts = gateway.json(&format!("gateway drop {old} --force"));
    assert_eq!(facts["shut_out"], json!(["anna"]));
    let last = gateway.identities().remove(0);
    let done = gateway.run(&format!("gateway drop {last} --force"));
    assert_eq!((done.code, gateway.identities()), (78, vec![last]));
    assert_eq!(gateway.run("gateway drop SHA256:x").code, 1);
    assert_eq!(gateway.run("gateway reinvite nobody").code, 1);
    gateway.run("revoke anna");
    assert_snapshot!(refused(&gateway.run("gateway reinvite anna")), @"
    1
    error: anna is revoked
    ");
}

#[test]
fn whoever_is_revoked_does_not_come_back_by_a_rotation() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    gateway.add("bob", "");
    let out = gateway.path("out");
    gateway.run(&format!("gateway rotate --out {}", out.display()));
    let done = gateway.run("set anna --label x");
    assert_eq!(
        done.err,
        "warning: the invite for anna.2, which will take the place of anna, stays as it is\n"
    );
    let done = gateway.run("revoke anna");
    assert!(
        done.err
            .contains("The invite for anna.2, which would have taken its place, is withdrawn.\n")
    );
    gateway.enroll(&fs::read_to_string(out.join("bob.2.txt")).unwrap());
    let done = gateway.run("revoke bob");
    assert_eq!(done.err, "warning: bob.2 took the place of bob and stays as it is\n");
    let live = gateway.json("list")["invites"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|i| i["state"] == "live")
        .count();
    assert_eq!(live, 0);
}

#[test]
fn who_waits_for_an_emergency_is_not_shut_out_unnamed() {
    let gateway = Gateway::new();
    gateway.add("emergency", "");
    let file = gateway.path("clients.d/emergency.toml");
    let text = fs::read_to_string(&file).unwrap();
    let enrolled = text.lines().find(|line| line.starts_with("enrolled")).unwrap();
    let text = text.replace(enrolled, "enrolled = \"2020-01-01T00:00:00Z\"");
    gateway.write("clients.d/emergency.toml", &text, 0o600);
    let old = gateway.identities().remove(0);
    let long_ago = parse_time("2020-02-01").unwrap();
    gateway.knocked("emergency", &old, long_ago);
    gateway.run(&format!("gateway rotate --out {}", gateway.path("out").display()));
    assert_snapshot!(refused(&gateway.run(&format!("gateway drop {old}"))).replace(&old, "OLD"), @"
    1
    error: OLD is needed; nothing was changed
      emergency has used it, or may have been given it
      try: spa-keys gateway rotate --status
      try: spa-keys revoke emergency, if it is never to come back
      try: --force, which shuts them out
    ");
    let facts = gateway.json(&format!("gateway drop {old} --force"));
    assert_eq!(facts["shut_out"], json!(["emergency"]));
}

#[test]
fn a_new_name_loses_no_invite() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    gateway.record(&[]);
    gateway.run(&format!("gateway rotate --out {}", gateway.path("out").display()));
    gateway.run("rename anna anna-phone");
    assert_eq!(gateway.progress(), [("anna-phone".into(), "invited".into())]);
    let withdrawn = "The invite for anna.2, which would have taken its place, is withdrawn.\n";
    assert_eq!(gateway.run("revoke anna-phone").err, withdrawn);
    assert_eq!(gateway.json("list")["invites"], json!([]));
}

#[test]
fn who_moved_is_invited_by_the_next_rotation() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    let old = gateway.identities().remove(0);
    gateway.knocked("anna", &old, now());
    let rotate = |out: &str| gateway.json(&format!("gateway rotate --out {}", gateway.path(out).display()));
    let new = rotate("first")["identity"].as_str().unwrap().to_owned();
    gateway.enroll(&fs::read_to_string(gateway.path("first/anna.2.txt")).unwrap());
    gateway.knocked("anna.2", &new, now());
    assert_eq!(gateway.run(&format!("gateway drop {old} --remove-replaced")).code, 0);
    gateway.run("rename anna.2 anna");
    gateway.add("bob", "");
    let invites = rotate("second")["invites"].clone();
    assert_eq!([&invites[0]["replaces"], &invites[1]["replaces"]], ["anna", "bob"]);
    assert_eq!(gateway.progress().remove(0), ("anna".into(), "invited".into()));
}

#[test]
fn whoever_is_removed_does_not_come_back_by_a_rotation() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    gateway.add("bob", "");
    gateway.add("carol", "");
    gateway.run(&format!("gateway rotate --out {}", gateway.path("out").display()));
    let withdrawn = |name| format!("The invite for {name}, which would have taken its place, is withdrawn.\n");
    assert_eq!(gateway.run("remove anna").err, withdrawn("anna.2"));
    let bob = fs::read_to_string(gateway.path("clients.d/bob.toml")).unwrap();
    gateway.write("clients.d/bob.toml", &format!("{bob}colour = \"red\"\n"), 0o600);
    assert_eq!(gateway.run("remove bob").err, withdrawn("bob.2"));
    gateway.write("clients.d/carol.toml", "no toml", 0o600);
    let done = gateway.run("remove carol");
    let warning = "warning: the key of carol cannot be read; an invite that would take its place stays\n";
    assert_eq!((done.code, &*done.err), (0, warning));
    let invites = gateway.json("list")["invites"].clone();
    assert_eq!(invites.as_array().unwrap().len(), 1, "{invites}");
}

#[test]
fn rotations_at_once_lose_no_identity() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let gateway = &gateway;
            let out = gateway.path(&format!("out{number}"));
            scope.spawn(move || assert_eq!(gateway.run(&format!("gateway rotate --out {}", out.display())).code, 0));
        }
    });
    let identities = gateway.identities();
    assert_eq!(identities.len(), 5);
    for number in 0..4 {
        let folder = fs::read_dir(gateway.path(&format!("out{number}")))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let file = folder
            .into_iter()
            .find(|path| path.extension().unwrap() == "txt")
            .unwrap();
        let invite = InviteText::parse(fs::read_to_string(file).unwrap().trim()).unwrap();
        assert!(
            identities.contains(&text::fingerprint(&invite.gateway)),
            "each invite is good"
        );
    }
}

#[test]
fn an_invite_that_carries_the_old_identity_keeps_it() {
    let gateway = Gateway::new();
    gateway.record(&[]);
    gateway.run("invite bob --services ssh");
    let old = gateway.identities().remove(0);
    gateway.run(&format!("gateway rotate --out {}", gateway.path("out").display()));
    assert_snapshot!(refused(&gateway.run(&format!("gateway drop {old}"))).replace(&old, "OLD"), @"
    1
    error: OLD is needed; nothing was changed
      the invite for bob carries it
      try: spa-keys gateway rotate --status
      try: spa-keys remove bob, to withdraw its invite
      try: --force, which shuts them out
    ");
    gateway.run("remove bob");
    assert_eq!(gateway.run(&format!("gateway drop {old}")).code, 0);
}

#[test]
fn without_a_record_nothing_is_dropped() {
    let gateway = Gateway::new();
    let old = gateway.identities().remove(0);
    gateway.run("gateway rotate");
    let done = gateway.run(&format!("gateway drop {old}"));
    assert_snapshot!(refused(&done), @"
    1
    error: there is no record now that tells who has knocked
      try: spa-server status
      try: --force, which may shut clients out
    ");
    assert_eq!(gateway.identities().len(), 2);
}

#[test]
fn renaming() {
    let gateway = Gateway::new();
    let key = gateway.add("anna", "");
    gateway.add("bob", "");
    gateway.run("invite carol --services ssh");
    for taken in ["bob", "carol"] {
        assert_eq!(gateway.run(&format!("rename anna {taken}")).code, 1);
    }
    assert_eq!(
        gateway.json("rename anna anna.old"),
        json!({ "name": "anna.old", "was": "anna" })
    );
    assert_eq!(gateway.json("show anna.old")["public_key"], key.as_str());
    assert_eq!(gateway.run("rename anna x").code, 1);
    gateway.write("clients.d/broken.toml", "psk", 0o600);
    assert_eq!(gateway.run("rename broken x").code, 78);
}

#[test]
fn a_lost_authenticator_gets_another_secret() {
    let gateway = Gateway::new();
    gateway.add("anna", "--one-time-code=8 --widen /24");
    let code = |gateway: &Gateway| gateway.client("anna").terms.one_time_code.map(|code| code.to_base32());
    let first = code(&gateway).unwrap();
    let done = gateway.run("set anna --one-time-code 6 --widen none");
    assert_eq!((done.code, done.out.as_str()), (0, "anna changed\n"));
    let second = code(&gateway).unwrap();
    assert!(first != second && done.err.contains(&format!("secret={}&", *second)));
    let client = gateway.client("anna");
    assert_eq!(
        (client.terms.one_time_code.unwrap().digits, client.terms.policy.widen.v4),
        (6, 32)
    );
    gateway.run("set anna --one-time-code none --widen /16,/48");
    let terms = gateway.client("anna").terms;
    assert_eq!(
        (terms.one_time_code, terms.policy.widen.v4, terms.policy.widen.v6),
        (None, 16, 48)
    );
    assert_eq!(gateway.run("set anna --one-time-code 7").code, 64);
}

#[test]
fn a_client_goes_to_another_gateway() {
    let (here, there) = (Gateway::new(), Gateway::new());
    here.add("anna", "--label phone --expires 2030-01-01 --one-time-code");
    let file = here.path("clients.d/anna.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("# on call\n{text}")).unwrap();

    let public = here.run("export anna").out;
    assert!(public.starts_with("# on call\n") && !public.contains("psk") && !public.contains("one-time-code"));
    assert!(
        public.contains("one-time-digits = 6\n"),
        "that it needs codes is no secret"
    );
    assert_eq!(here.run("export anna").out, public, "the same again");
    let secret = here.run("export anna --secrets").out;
    assert_eq!(secret, fs::read_to_string(&file).unwrap());
    let out = there.path("anna.toml");
    assert_eq!(here.run(&format!("export anna --out {}", out.display())).code, 0);
    assert_eq!(mode(&out), 0o600);
    assert_eq!(
        here.run(&format!("export anna --out {}", out.display())).code,
        1,
        "never over a file"
    );

    let import = format!("import {}", out.display());
    assert_eq!(there.json(&import), json!({ "name": "anna", "outcome": "added" }));
    assert_eq!(there.json(&import), json!({ "name": "anna", "outcome": "unchanged" }));
    assert_eq!(fs::read_to_string(there.path("clients.d/anna.toml")).unwrap(), secret);
    there.run("set anna --label another");
    assert_eq!(there.run(&import).code, 1);
    assert_eq!(there.json(&format!("{import} --replace"))["outcome"], "replaced");
    assert_eq!(there.json("show anna")["label"], "phone");
}

#[test]
fn a_public_text_takes_no_code_away() {
    let gateway = Gateway::new();
    gateway.add("anna", "--one-time-code");
    gateway.add("bob", "");
    let before = gateway.client("anna");
    let public = gateway.run("export anna").out;
    gateway.write("public.toml", &public.replace("\"ssh\"", "\"db\""), 0o644);
    gateway.write("bob.toml", &gateway.run("export bob").out, 0o644);
    gateway.write("the.psk", &psk(), 0o600);
    let import = |file: &str, name: &str| {
        let (file, psk) = (gateway.path(file), gateway.path("the.psk"));
        format!("import {} --name {name} --psk-file {}", file.display(), psk.display())
    };
    let without_psk = format!("import {} --name anna", gateway.path("public.toml").display());
    assert_eq!(gateway.run(&without_psk).code, 78, "it has no psk");

    let done = gateway.run(&format!("{} --replace", import("public.toml", "anna")));
    assert_eq!((done.code, &*done.out), (0, "anna replaced\n"), "{}", done.err);
    assert_eq!(
        done.err,
        "anna keeps its one-time code; to take it out: spa-keys set anna --one-time-code none\n"
    );
    assert_eq!(gateway.client("anna").terms.one_time_code, before.terms.one_time_code);
    assert_eq!(gateway.client("anna").psk, before.psk);
    assert_eq!(gateway.run(&import("public.toml", "anna")).out, "anna unchanged\n");

    gateway.run("remove anna");
    assert_snapshot!(refused(&gateway.run(&import("public.toml", "anna"))), @"
    78
    error: DIR/public.toml, line 3, column 19: one-time-digits without one-time-code: write the secret of the codes too, or neither
      try: spa-keys export anna --out FILE, where it comes from, and import that
    ");
    gateway.run("remove bob");
    assert_eq!(
        gateway.run(&import("bob.toml", "bob")).out,
        "bob added\n",
        "who needs none"
    );
}

#[test]
fn an_import_makes_no_revoked_key_good() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    let out = gateway.path("anna.toml");
    gateway.run(&format!("export anna --out {}", out.display()));
    gateway.run("set anna --label another");
    gateway.run("revoke anna");
    let import = format!("import {} --replace", out.display());
    let done = gateway.run(&import);
    assert_eq!((done.code, &*done.out), (0, "anna replaced\n"));
    assert_eq!(
        done.err,
        "anna stays revoked; --replace --restore makes its key good again\n"
    );
    assert_eq!(gateway.json("show anna")["state"], "revoked");
    assert_eq!(gateway.run(&import).out, "anna unchanged\n");
    assert_eq!(gateway.run(&format!("import {} --restore", out.display())).code, 64);
    assert_eq!(gateway.json(&format!("{import} --restore"))["outcome"], "replaced");
    assert_eq!(gateway.json("show anna")["state"], "active");
}

#[test]
fn what_is_not_imported() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    let own = gateway.run("export anna --secrets").out;
    let import = |text: &str, line: &str| refused(&gateway.run_with(&format!("import - {line}"), text));
    let said = [
        import(&own, ""),
        import(&own, "--name bob"),
        import(&own.replace("\"ssh\"", "\"ftp\""), "--name bob"),
        import("", "--name bob"),
        import(&"x".repeat(70_000), "--name bob"),
    ];
    assert_snapshot!(said.join("\n\n"), @"
    64
    error: the file's name is no client's name with .toml
      try: --name NAME

    1
    error: public-key: a client or an invite has this key

    78
    error: the service ftp does not exist in server.toml
      try: one of these: ssh, db

    78
    error: -, line 1, column 1: public-key is missing

    1
    error: cannot read stdin: it is longer than such a text ever is
      try: with --psk-file, where - holds no secret
    ");
    gateway.write("open.toml", &own, 0o644);
    assert_eq!(
        gateway
            .run(&format!("import {} --name bob", gateway.path("open.toml").display()))
            .code,
        78
    );
    // Two files of this test's own.
    symlink(gateway.path("clients.d/anna.toml"), gateway.path("link.toml")).unwrap();
    assert_eq!(
        gateway
            .run(&format!("import {} --name bob", gateway.path("link.toml").display()))
            .code,
        78
    );
    assert_eq!(gateway.json("list")["clients"].as_array().unwrap().len(), 1);
}

#[test]
fn a_backup_is_whole_and_secret() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    gateway.run("invite bob --services ssh");
    gateway.write("clients.d/broken.toml", "# kept as it is", 0o600);
    let file = gateway.path("all.backup");
    let done = gateway.run(&format!("backup {}", file.display()));
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.ends_with("2 clients, 1 invites\n") && done.err.contains("Never run two gateways"));
    assert_eq!(mode(&file), 0o600);
    let backup = spa_keys::backup::Backup::parse(&fs::read_to_string(&file).unwrap()).unwrap();
    for (place, text) in &backup.files {
        assert_eq!(fs::read_to_string(gateway.path(&place.to_string())).unwrap(), **text);
    }
    assert_eq!(backup.files.len(), 5);
    assert_eq!(
        gateway.run(&format!("backup {}", file.display())).code,
        1,
        "never over a file"
    );
    assert!(gateway.run("backup -").out.starts_with("spa-backup 1 2"));
    fs::set_permissions(gateway.path("clients.d/anna.toml"), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(refused(&gateway.run("backup -")).lines().next(), Some("78"));
}

#[test]
fn a_backup_can_be_read_whatever_lies_there() {
    let gateway = Gateway::new();
    gateway.add("anna", "");
    gateway.write("clients.d/a\nb.toml", "x", 0o600);
    gateway.write("invites.d/a\nb.toml", "x", 0o600);
    let done = gateway.run("backup -");
    let names = "warning: left out, no name of a client: DIR/clients.d/a\\u{a}b.toml\n\
         warning: left out, no name of a client: DIR/invites.d/a\\u{a}b.toml\n";
    assert!(done.code == 0 && done.err.starts_with(names), "{}", done.err);
    let backup = spa_keys::backup::Backup::parse(&done.out).unwrap();
    assert_eq!(backup.files.len(), 3);
}

#[test]
fn a_record_is_reset_when_no_daemon_runs() {
    let gateway = Gateway::new();
    let key = text::public_key(&gateway.add("anna", "")).unwrap();
    assert_eq!(gateway.run("reset-replay anna --yes").code, 1, "there is no record");
    let other = PublicKey([9; 32]);
    let set = || ReplaySet::restore(UnixTime::default(), [parse_time("2026-11-22").unwrap()]);
    gateway.record(&[Change::Replay(key, set()), Change::Replay(other, set())]);
    let asked = gateway.run("reset-replay anna");
    assert_eq!((asked.code, asked.out.as_str()), (64, ""));
    assert!(
        asked.err.contains("can then use it once more"),
        "it says first what it means"
    );
    assert_eq!(
        gateway.run("reset-replay anna --yes").out,
        "the replay record of anna was reset\n"
    );
    let dir = gateway.path("state");
    let mut state = State::open(&dir, StateLock::acquire(&dir).unwrap()).unwrap();
    assert_eq!(
        (state.replay(&key).unwrap(), state.replay(&other).unwrap()),
        (None, Some(set()))
    );
    assert_eq!(gateway.run("reset-replay nobody --yes").code, 1);
}

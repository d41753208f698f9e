use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::Exit;
use crate::file::FileError;

const EXAMPLE: &str = r#"
host = "gw.example.net"
ports = [62201, 443]
name = "anna-phone"
address = ["192.0.2.7", "2001:db8::7"]
gateway-public-key = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
gateway-hmac-key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
private-key = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
psk = "BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
[services.ssh]
connect = "tcp/22"
for = "1h"
[services."a/b.c"]
"#;

fn refused(change: (&str, &str)) -> String {
    assert!(EXAMPLE.contains(change.0), "{change:?}");
    let text = EXAMPLE.replacen(change.0, change.1, 1);
    Profile::parse(&text).unwrap_err().to_string()
}

fn name(text: &str) -> ProfileName {
    text.parse().unwrap()
}

#[test]
fn a_profile_is_read_as_it_is_written() {
    let profile = Profile::parse(EXAMPLE).unwrap();
    let ssh = profile.services[&"ssh".parse().unwrap()];
    assert_eq!(ssh.connect.unwrap().to_string(), "tcp/22");
    assert_eq!(ssh.duration.unwrap().get(), 3_600);
    assert_eq!(profile.address.named().len(), 2);
    insta::assert_snapshot!(*profile.to_text(), @r#"
    # A profile of spa-client. It holds secrets: keep its mode 0600.
    host = "gw.example.net"
    ports = [62201, 443]
    name = "anna-phone"
    address = ["192.0.2.7", "2001:db8::7"]
    gateway-public-key = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    gateway-hmac-key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    private-key = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    psk = "BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

    [services."a/b.c"]

    [services.ssh]
    connect = "tcp/22"
    for = "1h"
    "#);
    let again = Profile::parse(&profile.to_text()).unwrap();
    assert_eq!(again.to_text(), profile.to_text());
}

#[test]
fn the_enrollment_is_kept() {
    let mut profile = Profile::parse(EXAMPLE).unwrap();
    profile.home.invite = Some(PublicKey([7; 32]));
    profile.address = AddressMode::Resolve;
    let again = Profile::parse(&profile.to_text()).unwrap();
    assert_eq!(again.home.invite, profile.home.invite);
    assert_eq!(again.address, AddressMode::Resolve);
}

#[test]
fn errors_say_where_and_never_what_a_secret_is() {
    let said = [
        ("gw.example.net", "gw example"),
        ("[62201, 443]", "[]"),
        ("[62201, 443]", "[0]"),
        ("[62201, 443]", "[70000]"),
        ("[62201, 443]", "62201"),
        ("\"2001:db8::7\"", "\"192.0.2.8\""),
        ("[\"192.0.2.7\", \"2001:db8::7\"]", "[]"),
        ("[\"192.0.2.7\", \"2001:db8::7\"]", "\"as_seen\""),
        ("\"192.0.2.7\"", "\"0.0.0.0\""),
        ("for = \"1h\"", "for = \"0s\""),
        ("for = \"1h\"", "for = \"1\""),
        ("for = \"1h\"", "for = \"50000d\""),
        ("tcp/22", "tcp/0"),
        ("connect =", "conect ="),
        ("host =", "hots ="),
        ("psk = \"BQ", "psk = \"SECRET"),
        ("BQAA", "BQ+A"),
        ("BQ", "AA"),
        ("psk =", "# psk ="),
        ("psk = ", "psk = \"SECRET"),
        ("\"a/b.c\"", "\"A\""),
    ]
    .map(refused);
    assert!(!said.iter().any(|said| said.contains("SECRET")));
    insta::assert_snapshot!(said.join("\n"), @r#"
    line 2, column 8: a host is a DNS name in lower case or an address without brackets
      host = ...
             ^
    line 3, column 9: 0 knock ports, where an invite has 1 to 8
      ports = ...
              ^
    line 3, column 9: the knock port 0
      ports = ...
              ^
    line 3, column 10: invalid value: integer `70000`, expected u16
      ports = ...
              ^
    line 3, column 9: invalid type: integer `62201`, expected a sequence
      ports = ...
              ^
    line 5, column 11: two addresses of one family, where one IPv4 and one IPv6 address can be named
      address = ...
                ^
    line 5, column 11: no address
      address = ...
                ^
    line 5, column 11: write "as-seen", "resolve" or a list such as ["192.0.2.7"]
      address = ...
                ^
    line 5, column 11: 0.0.0.0 is not the address of one host
      address = ...
                ^
    line 12, column 7: no time at all; leave it away for the default
      for = ...
            ^
    line 12, column 7: "1" has no unit: write 1s, 1m, 1h or 1d
      for = ...
            ^
    line 12, column 7: longer than a request can carry (136 years)
      for = ...
            ^
    line 11, column 11: a port is written tcp/22 or udp/53, 1 to 65535, without leading zeros
      connect = ...
                ^
    line 11, column 1: unknown field `conect`, expected `connect` or `for`
      conect = ...
      ^
    line 2, column 1: unknown field `hots`, expected one of `host`, `ports`, `name`, `address`, `one-time-code`, `stun`, `ntp`, `gateway-public-key`, `gateway-hmac-key`, `private-key`, `psk`, `services`, `enroll`, `also`
      hots = ...
      ^
    line 9, column 7: 47 characters, where a key has 43
      psk = ...
            ^
    line 9, column 7: + at character 3 is not base64url (A-Z a-z 0-9 - _)
      psk = ...
            ^
    line 9, column 7: all zeros, which no key may be
      psk = ...
            ^
    line 1, column 1: missing field `psk`
    line 9, column 15: unexpected key or value, expected newline, `#`
      psk = ...
            ^
    line 13, column 11: a service name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ / -
    "#);
}

#[test]
fn hosts_are_taken_as_people_type_them() {
    for (typed, meant) in [
        ("GW.example.net", "gw.example.net"),
        ("[2001:DB8::7]", "2001:db8::7"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ] {
        assert_eq!(host(typed).unwrap().as_str(), meant);
    }
    assert!(host("a b").is_err());
    assert!(host("192.0.2.1:22").is_err());
}

#[test]
fn names_are_plain_files() {
    for (host, profile) in [
        ("gw.example.net", "gw.example.net"),
        ("2001:db8::7", "2001-db8--7"),
        ("::1", "1"),
    ] {
        assert_eq!(ProfileName::of(&host.parse().unwrap()), Ok(name(profile)));
    }
    for bad in ["", ".", "..", "../x", "a/b", "-a", "A", "a b", &"x".repeat(241)] {
        assert!(bad.parse::<ProfileName>().is_err(), "{bad:?}");
    }
}

#[test]
fn the_environment_says_where() {
    let folder = |variables: &[(&str, &str)]| {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Folder::from_env(|name| find(name).map(|(_, value)| (*value).into()))
    };
    let all = [("SPA_CONFIG_DIR", "/a"), ("XDG_CONFIG_HOME", "/b"), ("HOME", "/c")];
    assert_eq!(folder(&all).unwrap(), Folder::at("/a".as_ref()));
    assert_eq!(folder(&all[1..]).unwrap(), Folder::at("/b/spa".as_ref()));
    assert_eq!(folder(&all[2..]).unwrap(), Folder::at("/c/.config/spa".as_ref()));
    let relative = [("SPA_CONFIG_DIR", ""), ("XDG_CONFIG_HOME", "b"), ("HOME", "/c")];
    assert_eq!(folder(&relative).unwrap(), Folder::at("/c/.config/spa".as_ref()));
    assert_eq!(folder(&[]).unwrap_err().exit(), Exit::Config);
}

#[test]
fn a_profile_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::at(&dir.path().join("spa"));
    let profile = Profile::parse(EXAMPLE).unwrap();
    folder.create(&name("gw"), &profile, None).unwrap();
    let error = folder.create(&name("gw"), &profile, None).unwrap_err();
    assert!(matches!(error, ProfileError::Taken { .. }), "{error}");
    assert_eq!(folder.names().unwrap(), ["gw"]);
    assert_eq!(folder.load(&name("gw")).unwrap().to_text(), profile.to_text());
    for (path, mode) in [(dir.path().join("spa"), 0o700), (folder.file(&name("gw")), 0o600)] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn what_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::at(dir.path());
    folder
        .create(&name("gw"), &Profile::parse(EXAMPLE).unwrap(), None)
        .unwrap();
    fs::set_permissions(folder.file(&name("gw")), Permissions::from_mode(0o640)).unwrap();
    let error = folder.load(&name("gw")).unwrap_err();
    assert!(matches!(error, ProfileError::File(FileError::Mode { .. })), "{error}");
    assert_eq!(error.exit(), Exit::Config);
}

#[test]
fn an_unknown_name_brings_the_known_ones() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::at(dir.path());
    folder
        .create(&name("gw"), &Profile::parse(EXAMPLE).unwrap(), None)
        .unwrap();
    fs::write(dir.path().join(".gw.tmp.toml"), "").unwrap();
    let failure = crate::Failure::from(folder.load(&name("gv")).unwrap_err());
    assert_eq!(failure.exit, Exit::Config);
    insta::assert_snapshot!(failure, @r"
    error: there is no profile gv
      try: one of those that exist: gw
    ");
}

#[test]
fn all_that_a_profile_can_say() {
    let also = r#"
        [[also]]
        host = "192.0.2.9"
        ports = [443]
        name = "anna"
        gateway-public-key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        gateway-hmac-key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        private-key = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        psk = "BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        enroll = { invite-public-key = "BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }
    "#;
    let manner = "one-time-code = true\nstun = [\"a.example\", \"[::1]:5\"]\nntp = [\"b.example\"]\nhost =";
    let profile = Profile::parse(&(EXAMPLE.replacen("host =", manner, 1) + also)).unwrap();
    assert!(profile.one_time_code);
    assert_eq!(profile.stun[1].to_string(), "[::1]:5");
    assert_eq!(profile.ntp[0].to_string(), "b.example:123");
    let hosts: Vec<_> = profile.memberships().map(|gateway| gateway.host.as_str()).collect();
    assert_eq!(hosts, ["gw.example.net", "192.0.2.9"]);
    let invite = profile.also[0].invite.map(|key| text::encode(key.as_bytes()));
    assert_eq!(invite.unwrap(), format!("Bw{}", "A".repeat(41)));
    let again = Profile::parse(&profile.to_text()).unwrap();
    assert_eq!(again.to_text(), profile.to_text());
    assert!(Profile::parse(&(EXAMPLE.to_owned() + &also.replacen("psk", "pks", 1))).is_err());
}

#[test]
fn the_old_one_is_kept_beside() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::at(dir.path());
    let profile = Profile::parse(EXAMPLE).unwrap();
    folder.create(&name("gw"), &profile, None).unwrap();
    for old in ["gw.old", "gw.old.2", "gw.old.3"] {
        assert_eq!(folder.keep_old(&name("gw")).unwrap(), name(old));
        folder.replace(&name("gw"), &profile, None).unwrap();
    }
    assert_eq!(folder.names().unwrap(), ["gw", "gw.old", "gw.old.2", "gw.old.3"]);
    assert!(folder.load(&name("gw.old")).is_ok());
    assert!(folder.keep_old(&name("other")).is_err());
}

#[test]
fn renamed_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::at(dir.path());
    let profile = Profile::parse(EXAMPLE).unwrap();
    folder.create(&name("a"), &profile, None).unwrap();
    folder.create(&name("b"), &profile, None).unwrap();
    let taken = folder.rename(&name("a"), &name("b")).unwrap_err();
    assert!(matches!(taken, ProfileError::NameTaken { .. }), "{taken}");
    folder.rename(&name("a"), &name("c")).unwrap();
    assert_eq!(folder.names().unwrap(), ["b", "c"]);
    let gone = folder.rename(&name("a"), &name("d")).unwrap_err();
    assert!(matches!(gone, ProfileError::Unknown { .. }), "{gone}");
    folder.forget(&name("b")).unwrap();
    assert!(matches!(folder.forget(&name("b")), Err(ProfileError::Unknown { .. })));
    assert_eq!(folder.names().unwrap(), ["c"]);
}

#[test]
fn under_a_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::at(dir.path());
    let profile = Profile::parse(EXAMPLE).unwrap();
    let passphrase = |text: &str| Passphrase::new(Zeroizing::new(text.into())).unwrap();
    folder.create(&name("gw"), &profile, Some(&passphrase("x"))).unwrap();
    let locked = folder.load(&name("gw")).unwrap_err();
    assert!(matches!(locked, ProfileError::Locked { .. }), "{locked}");
    let Stored::Sealed(sealed) = folder.read(&name("gw")).unwrap() else {
        panic!("not sealed");
    };
    let opened = folder.open(&name("gw"), &sealed, &passphrase("x")).unwrap();
    assert_eq!(opened.to_text(), profile.to_text());
    let wrong = folder.open(&name("gw"), &sealed, &passphrase("y")).unwrap_err();
    assert_eq!(wrong.exit(), Exit::Failed);
    assert_eq!(fs::metadata(folder.file(&name("gw"))).unwrap().mode() & 0o7777, 0o600);
    // A file that ends early, as after a crash of another program that copied it.
    let whole = fs::read_to_string(folder.file(&name("gw"))).unwrap();
    for cut in [20, whole.len() / 2, whole.len() - 3] {
        fs::write(folder.file(&name("gw")), &whole[..cut]).unwrap();
        let broken = folder.load(&name("gw")).unwrap_err();
        assert_eq!(broken.exit(), Exit::Config, "{broken}");
    }
}

#[test]
fn under_a_passphrase_the_file_is_as_closed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::at(dir.path());
    let passphrase = Passphrase::new(Zeroizing::new("x".into())).unwrap();
    let profile = Profile::parse(EXAMPLE).unwrap();
    folder.create(&name("gw"), &profile, Some(&passphrase)).unwrap();
    let file = folder.file(&name("gw"));
    std::os::unix::fs::symlink(&file, folder.file(&name("link"))).unwrap();
    let link = folder.read(&name("link")).unwrap_err();
    assert!(
        matches!(link, ProfileError::File(FileError::NotRegular { .. })),
        "{link}"
    );
    fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
    let open = folder.read(&name("gw")).unwrap_err();
    assert!(matches!(open, ProfileError::File(FileError::Mode { .. })), "{open}");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    if std::os::unix::fs::chown(&file, Some(12_345), None).is_err() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    let strange = folder.read(&name("gw")).unwrap_err();
    assert!(
        matches!(strange, ProfileError::File(FileError::Owner { .. })),
        "{strange}"
    );
}

#[test]
fn a_full_disk_leaves_the_sealed_profile_whole() {
    let dir = tempfile::tempdir().unwrap();
    let run = |program: &str, words: &[&str]| {
        let status = std::process::Command::new(program).args(words).arg(dir.path()).status();
        status.is_ok_and(|status| status.success())
    };
    if !run("mount", &["-t", "tmpfs", "-o", "size=16k", "tmpfs"]) {
        eprintln!("skipped: no right to mount a small file system");
        return;
    }
    let folder = Folder::at(dir.path());
    let passphrase = |text: &str| Passphrase::new(Zeroizing::new(text.into())).unwrap();
    let mut profile = Profile::parse(EXAMPLE).unwrap();
    let created = folder.create(&name("gw"), &profile, Some(&passphrase("old")));
    // Grown beyond what is left.
    for number in 0..400 {
        let service = format!("service-{number}").parse().unwrap();
        profile.services.insert(service, ProfileService::default());
    }
    let replaced = folder.replace(&name("gw"), &profile, Some(&passphrase("new")));
    let (names, stored) = (fs::read_dir(dir.path()).map(Iterator::count), folder.read(&name("gw")));
    let opened = match stored {
        Ok(Stored::Sealed(sealed)) => folder.open(&name("gw"), &sealed, &passphrase("old")),
        other => panic!("{other:?}"),
    };
    run("umount", &[]);
    created.unwrap();
    assert_eq!(replaced.unwrap_err().exit(), Exit::Failed);
    assert!(opened.is_ok());
    assert_eq!(names.unwrap(), 1, "no draft is left");
}

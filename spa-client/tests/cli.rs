//! What the program says to right and wrong use.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use insta::assert_snapshot;
use spa_keys::Demands;
use spa_keys::profile::AddressMode;

mod common;

use common::{Device, invite, profile};

/// A device with the profile `gw` of a gateway that is not there: nothing is to be sent.
fn device() -> Device {
    let device = Device::new();
    device.write("gw", &profile("gw.invalid", &[62201]));
    device
}

#[test]
fn nothing_typed() {
    let said = device().tell(&[]);
    assert!(said.starts_with("exit 64\n---\n"), "{said}");
    assert!(device().tell(&["--help"]).starts_with("exit 0\nOpens doors"));
    assert!(
        device()
            .tell(&["open", "--help"])
            .contains("Example: spa-client open gw.example.net ssh")
    );
}

#[test]
fn wrong_words() {
    assert_snapshot!(device().tell(&["open", "gw"]), @r"
    exit 64
    ---
    error: the following required arguments were not provided:
      <SERVICE>...

    Usage: spa-client open <PROFILE> <SERVICE>...

    For more information, try '--help'.
    ");
    assert_snapshot!(device().tell(&["open", "gw", "ssh", "--for", "1"]), @r#"
    exit 64
    ---
    error: invalid value '1' for '--for <TIME>': "1" has no unit: write 1s, 1m, 1h or 1d

    For more information, try '--help'.
    "#);
    assert_snapshot!(device().tell(&["open", "gw", "ssh", "--for", "0s"]), @r"
    exit 64
    ---
    error: invalid value '0s' for '--for <TIME>': no time at all; leave it away for the default

    For more information, try '--help'.
    ");
    assert_snapshot!(device().tell(&["open", "gw", "ssh", "--for", "50000d"]), @r"
    exit 64
    ---
    error: invalid value '50000d' for '--for <TIME>': longer than a request can carry (136 years)

    For more information, try '--help'.
    ");
    assert_snapshot!(device().tell(&["open", "gw", "SSH"]), @r"
    exit 64
    ---
    error: invalid value 'SSH' for '<SERVICE>...': a service name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ / -

    For more information, try '--help'.
    ");
    assert_snapshot!(device().tell(&["open", "../gw", "ssh"]), @r"
    exit 64
    ---
    error: invalid value '../gw' for '<PROFILE>': a profile's name is 1 to 240 characters, a-z or 0-9 first, then a-z 0-9 . _ -

    For more information, try '--help'.
    ");
    assert_snapshot!(device().tell(&["open", "gw", "ssh", "--address", "0.0.0.0"]), @r"
    exit 64
    ---
    error: invalid value '0.0.0.0' for '--address <ADDRESS>': 0.0.0.0 is not the address of one host

    For more information, try '--help'.
    ");
    assert_snapshot!(device().tell(&["open", "gw", "ssh", "--as-seen", "--address", "192.0.2.7"]), @r"
    exit 64
    ---
    error: the argument '--as-seen' cannot be used with '--address <ADDRESS>'

    Usage: spa-client open --as-seen <PROFILE> <SERVICE>...

    For more information, try '--help'.
    ");
    assert_snapshot!(device().tell(&["open", "gw", "ssh", "--once", "--wait"]), @r"
    exit 64
    ---
    error: the argument '--once' cannot be used with '--wait'

    Usage: spa-client open --once <PROFILE> <SERVICE>...

    For more information, try '--help'.
    ");
    assert_snapshot!(device().tell(&["close", "gw", "ssh", "ssh"]), @r"
    exit 64
    ---
    error: service ssh stands there twice
    ");
}

#[test]
fn two_addresses_of_a_family() {
    let typed = ["open", "gw", "ssh", "--address", "192.0.2.7", "--address", "192.0.2.8"];
    assert_snapshot!(device().tell(&typed), @r"
    exit 64
    ---
    error: two addresses of one family, where one IPv4 and one IPv6 address can be named
    ");
}

#[test]
fn a_profile_that_is_not_there() {
    assert_snapshot!(device().tell(&["open", "gv", "ssh"]), @r"
    exit 78
    ---
    error: there is no profile gv
      try: one of those that exist: gw
    ");
    assert_snapshot!(device().tell(&["open", "gv", "ssh", "--json"]), @r#"
    exit 78
    {"sent":[],"services":[{"name":"ssh","state":"closed"}],"hints":["there is no profile gv","one of those that exist: gw"]}
    ---
    error: there is no profile gv
      try: one of those that exist: gw
    "#);
    assert_snapshot!(Device::new().tell(&["show", "gv", "--json"]), @r#"
    exit 78
    {"profile":"gv","host":null,"ports":[],"name":null,"fingerprint":null,"gateway_public_key":null,"public_key":null,"address":null,"services":[],"also":[],"one_time_code":false,"stun":[],"ntp":[],"error":"there is no profile gv"}
    ---
    error: there is no profile gv
      try: spa-client enroll, with an invite from who runs the gateway
    "#);
}

#[test]
fn a_profile_that_is_wrong() {
    let device = device();
    let path = device.path().join("gw.toml");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replace("psk = \"", "psk = \"SECRET")).unwrap();
    assert_snapshot!(device.tell(&["open", "gw", "ssh"]), @r"
    exit 78
    ---
    error: DIR/gw.toml, line 9, column 7: 49 characters, where a key has 43
      psk = ...
            ^
    ");
    fs::write(&path, whole.replace("host =", "hots =")).unwrap();
    assert_snapshot!(device.tell(&["show", "gw"]), @r"
    exit 78
    ---
    error: DIR/gw.toml, line 2, column 1: unknown field `hots`, expected one of `host`, `ports`, `name`, `address`, `one-time-code`, `stun`, `ntp`, `gateway-public-key`, `gateway-hmac-key`, `private-key`, `psk`, `services`, `enroll`, `also`
      hots = ...
      ^
    ");
    fs::write(&path, whole).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_snapshot!(device.tell(&["close", "gw", "ssh"]), @r"
    exit 78
    ---
    error: DIR/gw.toml is open to others (mode 0644, at most 0600)
      try: chmod 600 DIR/gw.toml
    ");
    assert_snapshot!(device.tell(&["profiles"]), @r"
    exit 0
    gw  -  broken: DIR/gw.toml is open to others (mode 0644, at most 0600)
    ---
    ");
    assert_snapshot!(device.tell(&["profiles", "--json"]), @r#"
    exit 0
    {"profiles":[{"profile":"gw","host":null,"name":null,"services":[],"sealed":false,"error":"DIR/gw.toml is open to others (mode 0644, at most 0600)"}]}
    ---
    "#);
}

#[test]
fn a_profile_that_is_a_link() {
    let device = device();
    symlink("gw.toml", device.path().join("link.toml")).unwrap();
    assert_snapshot!(device.tell(&["show", "link"]), @r"
    exit 78
    ---
    error: DIR/link.toml is a symbolic link, where only a regular file is read
    ");
}

#[test]
fn wait_needs_a_place_to_connect_to() {
    let device = device();
    let mut known = profile("gw.invalid", &[62201]);
    known.services.get_mut(&"ssh".parse().unwrap()).unwrap().connect = Some("udp/53".parse().unwrap());
    device.write("udp", &known);
    assert_snapshot!(device.tell(&["open", "gw", "db", "--wait"]), @r#"
    exit 64
    ---
    error: --wait cannot tell whether db is open: the profile does not say where it answers
      try: connect = "tcp/22", or whatever its port is, under [services.db] in the profile
      try: without --wait
    "#);
    assert_snapshot!(device.tell(&["open", "udp", "ssh", "--wait"]), @r"
    exit 64
    ---
    error: --wait cannot tell whether ssh is open: udp/53 need not answer, only a TCP connection proves it
      try: without --wait
    ");
}

#[test]
fn resolve_asks_nobody_who_was_not_named() {
    let device = Device::new();
    let mut known = profile("gw.invalid", &[62201]);
    known.address = AddressMode::Resolve;
    device.write("gw", &known);
    assert_snapshot!(device.tell(&["open", "gw", "ssh"]), @r#"
    exit 64
    ---
    error: no STUN server is named that could tell this device's public address
      try: stun = ["HOST:PORT", "HOST:PORT"] in the profile: servers that you trust to see this device's address
      try: --stun HOST:PORT, twice
      try: --address with this device's public address
      try: --as-seen, if the gateway allows it
    "#);
    let one = ["open", "gw", "ssh", "--resolve", "--stun", "127.0.0.1"];
    assert!(
        device
            .tell(&one)
            .contains("one STUN server is named, where two must agree")
    );
    let both = ["open", "gw", "ssh", "--resolve", "--as-seen"];
    assert!(device.tell(&both).starts_with("exit 64\n"));
}

#[test]
fn a_host_without_an_address() {
    let said = device().tell(&["open", "gw", "ssh", "--once"]);
    assert!(
        said.starts_with("exit 1\n---\nerror: no address found for gw.invalid: "),
        "{said}"
    );
    let said = device().tell(&["open", "gw", "ssh", "--once", "--json"]);
    let start = r#"exit 1
{"sent":[],"services":[{"name":"ssh","state":"closed"}],"hints":["no address found for gw.invalid"#;
    assert!(said.starts_with(start), "{said}");
}

#[test]
fn profiles_and_show() {
    let device = device();
    fs::write(device.path().join("Odd.toml"), "").unwrap();
    assert_snapshot!(device.tell(&["profiles"]), @r"
    exit 0
    Odd  -           broken: a profile's name is 1 to 240 characters, a-z or 0-9 first, then a-z 0-9 . _ -
    gw   gw.invalid  ssh
    ---
    ");
    assert_snapshot!(device.tell(&["profiles", "--json"]), @r#"
    exit 0
    {"profiles":[{"profile":"Odd","host":null,"name":null,"services":[],"sealed":false,"error":"a profile's name is 1 to 240 characters, a-z or 0-9 first, then a-z 0-9 . _ -"},{"profile":"gw","host":"gw.invalid","name":"anna-phone","services":["ssh"],"sealed":false,"error":null}]}
    ---
    "#);
    assert_snapshot!(device.tell(&["show", "gw"]), @r"
    exit 0
    profile      gw
    host         gw.invalid
    ports        62201
    gateway      SHA256:GpLyOFLckI2XMWo7E1eCgRlsHdc9muXjE_P7a4lUv1U
    own name     anna-phone
    own key      Xf7dO2vUf2-ijuFdlp1bsOpTd01Ii9r53xxuASSz7yI
    address      as-seen
    service      ssh at tcp/22
    ---
    ");
    assert_snapshot!(device.tell(&["show", "gw", "--json"]), @r#"
    exit 0
    {"profile":"gw","host":"gw.invalid","ports":[62201],"name":"anna-phone","fingerprint":"SHA256:GpLyOFLckI2XMWo7E1eCgRlsHdc9muXjE_P7a4lUv1U","gateway_public_key":"pOCSkrZRwni5dyxWn1-puxPZBrRqtoyd-dwrRAn4ogk","public_key":"Xf7dO2vUf2-ijuFdlp1bsOpTd01Ii9r53xxuASSz7yI","address":"as-seen","services":[{"name":"ssh","connect":"tcp/22","for_s":null}],"also":[],"one_time_code":false,"stun":[],"ntp":[],"error":null}
    ---
    "#);
    assert_snapshot!(Device::new().tell(&["profiles"]), @r"
    exit 0
    ---
    note: no profiles yet: spa-client enroll makes one from an invite
    ");
}

#[test]
fn damaged_invites() {
    let device = Device::new();
    let text = invite("gw.invalid", &[62201], "ssh=tcp/22", Demands::default()).to_text();
    assert_snapshot!(device.tell(&["enroll"]), @r"
    exit 64
    ---
    error: no invite: standard input was empty
      try: spa-client enroll INVITE
    ");
    assert_snapshot!(device.tell(&["enroll", "hello"]), @r"
    exit 64
    ---
    error: not a whole invite: an invite begins with spa1-invite:
      try: copy all of it, from spa1-invite: on
    ");
    assert_snapshot!(device.tell(&["enroll", &text[..text.len() - 3]]), @r"
    exit 64
    ---
    error: not a whole invite: the invite is damaged or cut: its checksum does not match
      try: copy all of it, from spa1-invite: on
    ");
    assert_snapshot!(device.tell(&["enroll", &text.replacen("AQAA", "AQAB", 1)]), @r"
    exit 64
    ---
    error: not a whole invite: the invite is damaged or cut: its checksum does not match
      try: copy all of it, from spa1-invite: on
    ");
    assert_snapshot!(device.tell_with(&["enroll", "-", "--json"], &text.replace('A', "A ")), @r#"
    exit 64
    {"profile":null,"host":null,"fingerprint":null,"name":null,"services":[],"ends":null,"sent":[],"proof":"none","hints":["not a whole invite: white space after the prefix, at character 2; an invite is one line","copy all of it, from spa1-invite: on"]}
    ---
    error: not a whole invite: white space after the prefix, at character 2; an invite is one line
      try: copy all of it, from spa1-invite: on
    "#);
    assert!(!device.path().exists());
}

/// Runs without a terminal, wherever the tests were started.
fn tell_without_terminal(device: &Device, words: &[&str], stdin: &str) -> String {
    device.tell_in(&["setsid", "--wait"], words, stdin)
}

#[test]
fn a_pin_is_asked_for() {
    let device = Device::new();
    let demands = Demands {
        pin: true,
        ..Demands::default()
    };
    let text = invite("gw.invalid", &[62201], "ssh", demands).to_text();
    assert_snapshot!(tell_without_terminal(&device, &["enroll", &text], ""), @r"
    exit 64
    ---
    error: this invite demands a PIN: cannot read the PIN from standard input: nothing came
      try: --pin-fd N
    ");
    assert_snapshot!(tell_without_terminal(&device, &["enroll", &text], "1234567\n"), @r"
    exit 64
    ---
    error: a PIN has 8 digits
    ");
    assert_snapshot!(tell_without_terminal(&device, &["enroll", "-"], &text), @r"
    exit 64
    ---
    error: no terminal to ask for the PIN on
      try: --pin-fd N
    ");
    assert!(!device.path().exists());
    let said = tell_without_terminal(&device, &["enroll", &text, "--pin-fd", "0"], "1234 5678\n");
    assert!(said.starts_with("exit 1\n---\nerror: no address found"), "{said}");
    assert!(device.path().exists());
}

#[test]
fn a_one_time_code_is_asked_for() {
    let device = Device::new();
    let mut known = profile("127.0.0.1", &[9]);
    known.one_time_code = true;
    device.write("gw", &known);
    assert_snapshot!(tell_without_terminal(&device, &["open", "gw", "ssh", "--once"], ""), @r"
    exit 64
    ---
    error: no terminal to ask for the one-time code on
      try: --one-time-code-fd N
    ");
    let by_fd = ["open", "gw", "ssh", "--once", "--one-time-code-fd", "0"];
    assert_snapshot!(tell_without_terminal(&device, &by_fd, "12345\n"), @r"
    exit 64
    ---
    error: a one-time code has 6 or 8 digits
    ");
    assert!(tell_without_terminal(&device, &by_fd, "123456\n").starts_with("exit 0\n"));
    // A close never needs one, and a dry run uses none up.
    assert!(tell_without_terminal(&device, &["close", "gw", "ssh", "--once"], "").starts_with("exit 0\n"));
    assert!(tell_without_terminal(&device, &["open", "gw", "ssh", "--dry-run"], "").starts_with("exit 0\n"));
}

#[test]
fn a_profile_under_a_passphrase() {
    let device = Device::new();
    let text = invite("127.0.0.1", &[9], "ssh", Demands::default()).to_text();
    let enroll = ["enroll", &text, "--passphrase", "--passphrase-fd", "0"];
    assert!(tell_without_terminal(&device, &enroll, "correct horse\n").starts_with("exit 0\n"));
    let written = fs::read_to_string(device.path().join("127.0.0.1.toml")).unwrap();
    assert!(written.contains("[sealed]") && !written.contains("psk"), "{written}");
    assert_snapshot!(device.tell(&["profiles"]), @r"
    exit 0
    127.0.0.1  -  under a passphrase
    ---
    ");
    let show = ["show", "127.0.0.1"];
    assert_snapshot!(tell_without_terminal(&device, &show, ""), @r"
    exit 64
    ---
    error: no terminal to ask for the passphrase on
      try: --passphrase-fd N
    ");
    let by_fd = ["show", "127.0.0.1", "--passphrase-fd", "0"];
    assert_snapshot!(tell_without_terminal(&device, &by_fd, "wrong\n"), @r"
    exit 1
    ---
    error: DIR/127.0.0.1.toml: wrong passphrase
      try: again; nobody can open it without the passphrase, so else a new invite
    ");
    assert!(tell_without_terminal(&device, &by_fd, "correct horse\n").contains("service      ssh"));
    let remove = ["passwd", "127.0.0.1", "--remove", "--passphrase-fd", "0"];
    assert_snapshot!(tell_without_terminal(&device, &remove, "correct horse\n"), @r"
    exit 0
    127.0.0.1 lies there without a passphrase now
    ---
    ");
    let set = ["passwd", "127.0.0.1", "--new-passphrase-fd", "0"];
    assert!(tell_without_terminal(&device, &set, "other\n").starts_with("exit 0\n"));
    assert!(tell_without_terminal(&device, &by_fd, "other\n").starts_with("exit 0\n"));
    assert!(tell_without_terminal(&device, &set, "").contains("no terminal to ask for the passphrase on"));
}

#[test]
fn renamed_and_forgotten() {
    let device = device();
    device.write("other", &profile("gw.invalid", &[62201]));
    assert_snapshot!(device.tell(&["rename", "gw", "other"]), @r"
    exit 1
    ---
    error: there is a profile other already: DIR/other.toml
      try: another name
    ");
    assert_snapshot!(device.tell(&["rename", "gw", "work"]), @r"
    exit 0
    gw is called work now
    ---
    ");
    assert_snapshot!(tell_without_terminal(&device, &["forget", "work"], "yes\n"), @r"
    exit 64
    ---
    error: Forget work? Its keys are lost: only a new invite brings this device in again. There is no terminal to ask on
      try: --yes
    ");
    assert_snapshot!(device.tell(&["forget", "work", "--yes"]), @r"
    exit 0
    work is forgotten here; the gateway knows its key until `spa-keys revoke` or `spa-keys remove` there
    ---
    ");
    assert_snapshot!(device.tell(&["forget", "work", "--yes"]), @r"
    exit 78
    ---
    error: there is no profile work
      try: one of those that exist: other
    ");
}

#[test]
fn a_profile_is_replaced_when_asked() {
    let device = device();
    let mut before = device.read("gw");
    before.services.get_mut(&"ssh".parse().unwrap()).unwrap().duration = std::num::NonZeroU32::new(60);
    before.home.host = "127.0.0.1".parse().unwrap();
    device.folder().replace(&"gw".parse().unwrap(), &before, None).unwrap();
    let text = invite("127.0.0.1", &[9], "ssh=tcp/2222,db", Demands::default()).to_text();
    let said = device.tell(&["enroll", &text, "--profile", "gw", "--replace", "--no-proof"]);
    assert!(said.contains("\nold profile  gw.old\n"), "{said}");
    assert_eq!(device.read("gw.old").to_text(), before.to_text());
    let after = device.read("gw");
    assert_ne!(after.home.secret.public(), before.home.secret.public());
    let ssh = after.services[&"ssh".parse().unwrap()];
    assert_eq!(ssh.duration.unwrap().get(), 60, "what a person wrote stays");
    assert_eq!(ssh.connect.unwrap().to_string(), "tcp/2222");
    // Again with the same invite: the same enrollment, and no further old profile.
    let said = device.tell(&["enroll", &text, "--profile", "gw", "--replace", "--no-proof"]);
    assert!(said.starts_with("exit 0\n") && !said.contains("old profile"), "{said}");
    assert_eq!(device.read("gw").to_text(), after.to_text());
}

#[test]
fn what_is_under_a_passphrase_stays_so() {
    let device = Device::new();
    let enroll = |text: &str, more: &[&str]| {
        let words = [&["enroll", text, "--passphrase-fd", "0", "--no-proof"], more].concat();
        tell_without_terminal(&device, &words, "correct horse\n")
    };
    let mut text = invite("127.0.0.1", &[9], "ssh", Demands::default());
    assert!(enroll(&text.to_text(), &["--passphrase"]).starts_with("exit 0\n"));
    text.seed = spa_proto::InviteSeed::from_bytes(&[6; 32]);
    assert!(enroll(&text.to_text(), &[]).starts_with("exit 1\n---\nerror: there is a profile"));
    assert!(enroll(&text.to_text(), &["--replace"]).contains("\nold profile  127.0.0.1.old\n"));
    text.seed = spa_proto::InviteSeed::from_bytes(&[7; 32]);
    text.gateway = common::secret(9).public();
    let also = ["--also", "--profile", "127.0.0.1"];
    assert!(enroll(&text.to_text(), &also).starts_with("exit 0\n"));
    for name in ["127.0.0.1", "127.0.0.1.old"] {
        let written = fs::read_to_string(device.path().join(format!("{name}.toml"))).unwrap();
        assert!(
            written.contains("[sealed]") && !written.contains("psk"),
            "{name}: {written}"
        );
    }
}

#[test]
fn a_passphrase_for_a_profile_that_has_none_is_refused() {
    let device = Device::new();
    let enroll = |text: &str, more: &[&str]| {
        let words = [&["enroll", text, "--passphrase-fd", "0", "--no-proof"], more].concat();
        tell_without_terminal(&device, &words, "correct horse\n")
    };
    let mut text = invite("127.0.0.1", &[9], "ssh", Demands::default());
    assert!(enroll(&text.to_text(), &[]).starts_with("exit 0\n"));
    let before = device.read("127.0.0.1").to_text();
    let again = enroll(&text.to_text(), &["--passphrase"]);
    assert_snapshot!(again, @r"
    exit 64
    ---
    error: the profile 127.0.0.1 is there already, without a passphrase
      try: spa-client passwd 127.0.0.1, then the same without --passphrase
    ");
    text.seed = spa_proto::InviteSeed::from_bytes(&[7; 32]);
    text.gateway = common::secret(9).public();
    let also = ["--also", "--profile", "127.0.0.1", "--passphrase"];
    assert_eq!(enroll(&text.to_text(), &also), again);
    assert_eq!(device.read("127.0.0.1").to_text(), before);
}

#[test]
fn a_second_gateway() {
    let device = device();
    let mut text = invite("127.0.0.1", &[9], "ssh=tcp/22,web=tcp/443", Demands::default());
    let also = ["enroll", "-", "--profile", "gw", "--also", "--no-proof"];
    let said = device.tell_with(&also, &text.to_text());
    assert!(
        said.starts_with("exit 64\n---\nerror: the profile gw has this gateway already"),
        "{said}"
    );
    text.gateway = common::secret(9).public();
    assert!(device.tell_with(&also, &text.to_text()).starts_with("exit 0\n"));
    let after = device.read("gw");
    assert_eq!(after.also[0].host.as_str(), "127.0.0.1");
    assert!(after.services.contains_key(&"web".parse().unwrap()));
    assert!(
        device
            .tell(&["show", "gw"])
            .contains("\nalso         127.0.0.1 as anna-phone, SHA256:")
    );
    // The first has no address: without --wait the next one is asked, and it is said.
    let said = device.tell(&["open", "gw", "ssh", "--once"]);
    assert!(
        said.starts_with("exit 0\nsent: open ssh (1 datagram to 127.0.0.1)\n---\n"),
        "{said}"
    );
    assert!(said.contains("warning: no address found for gw.invalid"), "{said}");
    let missing = ["enroll", "-", "--profile", "new", "--also"];
    assert!(device.tell_with(&missing, &text.to_text()).starts_with("exit 78\n"));
}

#[test]
fn what_goes_into_the_configuration_of_ssh() {
    let device = device();
    let program = assert_cmd::cargo::cargo_bin("spa-client");
    let said = device
        .tell(&["ssh-config", "gw"])
        .replace(program.to_str().unwrap(), "SPA");
    assert_snapshot!(said, @r"
    exit 0
    # Knocks, and hands ssh the connection: for ssh, scp, sftp, rsync and git.
    Host gw gw.invalid
        HostName gw.invalid
        ProxyCommand SPA proxy --fdpass gw %h %p
        ProxyUseFdpass yes
    ---
    ");
    let said = device
        .tell(&["ssh-config", "gw", "--match"])
        .replace(program.to_str().unwrap(), "SPA");
    assert_snapshot!(said, @r#"
    exit 0
    # Knocks, then lets ssh connect by itself.
    Match originalhost gw,gw.invalid exec "SPA open gw ssh --wait >/dev/null"
        HostName gw.invalid
    ---
    "#);
}

#[test]
fn proxy_needs_a_service_at_the_port() {
    assert_snapshot!(device().tell(&["proxy", "gw", "gw.invalid", "443"]), @r#"
    exit 64
    ---
    error: the profile knows no service that answers at tcp/443
      try: connect = "tcp/443" under [services.NAME] in the profile
      try: --service NAME
    "#);
}

#[test]
fn an_invite_that_ended_is_sent_all_the_same() {
    let device = Device::new();
    let mut ended = invite("127.0.0.1", &[9], "ssh=tcp/22", Demands::default());
    ended.end_s = 1_500_000_000;
    ended.demands.explicit_address = true;
    assert_snapshot!(device.tell(&["enroll", &ended.to_text()]), @r"
    exit 0
    gateway      SHA256:GpLyOFLckI2XMWo7E1eCgRlsHdc9muXjE_P7a4lUv1U
    own name     anna-phone
    services     ssh
    invite ends  2017-07-14T02:40:00Z
    profile      127.0.0.1
    sent: enroll (3 datagrams to 127.0.0.1)
    try: spa-client open 127.0.0.1 ssh
    ---
    warning: by the clock here this invite ended at 2017-07-14T02:40:00Z; the gateway's clock decides
    warning: this gateway opens only for an address that is named: use open with --address, or name STUN servers (stun) in the profile
    ");
    assert_eq!(device.read("127.0.0.1").address, AddressMode::Resolve);
}

#[test]
fn a_profile_is_not_overwritten() {
    let device = device();
    let text = invite("gw.invalid", &[62201], "ssh", Demands::default()).to_text();
    let before = fs::read(device.path().join("gw.toml")).unwrap();
    assert_snapshot!(device.tell(&["enroll", &text, "--profile", "gw"]), @r"
    exit 1
    ---
    error: there is a profile gw already, and it was not made from this invite: DIR/gw.toml
      try: another name with --profile NAME, or --replace, which keeps the old one
    ");
    assert_eq!(fs::read(device.path().join("gw.toml")).unwrap(), before);
}

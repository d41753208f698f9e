use super::*;
use proptest::prelude::*;

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
const PSK: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";

fn with(more: &str) -> String {
    format!("public-key = \"{KEY}\"\npsk = \"{PSK}\"\nservices = [\"ssh\"]\n{more}")
}

fn fault(text: &str) -> String {
    Client::parse(text).unwrap_err().to_string()
}

#[test]
fn the_least_file() {
    let client = Client::parse(&with("")).unwrap();
    assert_eq!(client.public_key, PublicKey([1; 32]));
    assert_eq!(client.psk.expose(), &[2; 32]);
    assert_eq!(client.terms.policy.services[..], ["ssh".parse().unwrap()]);
    assert_eq!(client.terms.policy.windows(), spa_proto::Windows::default());
    assert_eq!(client.to_text().as_str(), with(""));
}

#[test]
fn every_key() {
    let text = with(
        "address = \"explicit\"\nsources = [\"198.51.100.0/24\", \"2001:db8::/32\"]\nallow-local = true\n\
         window-as-seen = \"90s\"\nwindow-explicit = \"1h\"\nmax-duration = \"8h\"\nwiden = [\"/24\", \"/64\"]\n\
         roam = true\nexpires = \"2026-12-31T00:00:00Z\"\n\
         one-time-code = \"GEZDGNBVGY3TQOJQ\"\none-time-digits = 8\n\
         label = \"Anna's \\\"phone\\\"\"\nenrolled = \"2026-11-22T12:00:00Z\"\nrevoked = \"2026-11-23T12:00:00Z\"\n",
    );
    let client = Client::parse(&text).unwrap();
    assert_eq!(client.label.as_str(), "Anna's \"phone\"");
    assert_eq!(client.terms.policy.widen, Widen { v4: 24, v6: 64 });
    assert_eq!(client.terms.one_time_code.as_ref().unwrap().digits, 8);
    let again = Client::parse(&client.to_text()).unwrap();
    assert_eq!(again, client);
}

#[test]
fn the_key_in_a_broken_file() {
    assert_eq!(Client::key_in(&with("expire = 1\n")), Some(PublicKey([1; 32])));
    assert_eq!(Client::key_in("psk"), None);
    assert_eq!(Client::key_in("public-key = \"short\""), None);
}

#[test]
fn an_empty_list_opens_nothing() {
    let client = Client::parse(&with("").replace("\"ssh\"", "")).unwrap();
    assert!(client.terms.policy.services.is_empty());
}

#[test]
fn faults_say_where() {
    let said = [
        fault(""),
        fault("public-key = "),
        fault(&with("expire = \"2026-12-31\"\n")),
        fault(&with("colour = \"red\"\n")),
        fault(&with("expires = 2026-12-31\n")),
        fault(&with("expires = \"tomorrow\"\n")),
        fault(&with("window-as-seen = \"61m\"\n")),
        fault(&with("window-as-seen = \"0s\"\n")),
        fault(&with("max-duration = \"8\"\n")),
        fault(&with("widen = [\"/15\"]\n")),
        fault(&with("widen = [\"/47\"]\n")),
        fault(&with("widen = [\"/24\", \"/25\"]\n")),
        fault(&with("address = \"seen\"\n")),
        fault(&with("sources = [\"198.51.100.7/24\"]\n")),
        fault(&with("sources = [\"here\"]\n")),
        fault(&with("one-time-digits = 7\n")),
        fault(&with("one-time-digits = 6\n")),
        fault(&with("one-time-code = \"secret\"\n")),
        fault(&with("label = \"\\u001b[2J\"\n")),
        fault(&with("services = []\n")),
        fault(&with("").replace("\"ssh\"", "\"ssh\", \"ssh\"")),
        fault(&with("").replace("\"ssh\"", "\"*\"")),
        fault(&with("").replace(PSK, &PSK[1..])),
        fault(&with("").replace(PSK, &"A".repeat(43))),
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
    line 1, column 1: public-key is missing
    line 1, column 14: string values must be quoted, expected literal string
    line 4, column 1: unknown key expire; is expires meant?
    line 4, column 1: unknown key colour
    line 4, column 11: expires is a text: write it in quotes
    line 4, column 11: "tomorrow" is no time: write 2026-12-31 (its start, UTC) or 2026-12-31T18:00:00Z
    line 4, column 18: a window is at most 1h
    line 4, column 18: 0s is no time at all
    line 4, column 16: "8" has no unit: write 8s, 8m, 8h or 8d
    line 4, column 10: widen takes /16 to /32 for IPv4 and /48 to /128 for IPv6
    line 4, column 10: widen takes /16 to /32 for IPv4 and /48 to /128 for IPv6
    line 4, column 9: widen takes one length for IPv4 and one for IPv6
    line 4, column 11: address is any, explicit or as-seen
    line 4, column 12: 198.51.100.7/24 has host bits: write 198.51.100.0/24
    line 4, column 12: "here" is no network such as 198.51.100.0/24
    line 4, column 19: one-time-digits is 6 or 8
    line 4, column 19: one-time-digits without one-time-code: write the secret of the codes too, or neither
    line 4, column 17: a one-time code's secret is 16 to 103 characters of base32 (A-Z 2-7) without padding
    line 4, column 9: a label with the hidden character \u{1b}
    line 4, column 1: duplicate key
    line 3, column 20: it stands there twice
    line 3, column 13: a service name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ / -
    line 2, column 7: 42 characters, where a key has 43
    line 2, column 7: all zeros, which no key may be
    "#);
}

#[test]
fn a_fault_never_tells_the_psk() {
    for text in [
        with("").replace("psk = \"", "psk = \" "),
        with("").replace("psk", "pks"),
        with("x").replace('"', ""),
    ] {
        let fault = format!("{:?}", Client::parse(&text).unwrap_err());
        assert!(!fault.contains(&PSK[..8]), "{fault}");
    }
}

#[test]
fn edits_keep_comments_and_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let text = format!(
        "# Anna, on call\n{}# until the contract ends\nexpires = \"2027-01-01T00:00:00Z\" # ask Bo\n",
        with("")
    );
    file::create_new(&path, text.as_bytes(), 0o600).unwrap();
    let edit = ClientEdit {
        services: Some(vec!["ssh".parse().unwrap(), "db".parse().unwrap()]),
        expires: Some(Some(UnixTime::from_secs(1_830_000_000))),
        revoked: Some(Some(UnixTime::from_secs(1_800_000_000))),
        ..ClientEdit::default()
    };
    edit.apply(&path).unwrap();
    let changed = text
        .replace("[\"ssh\"]", "[\"ssh\", \"db\"]")
        .replace("2027-01-01T00:00:00Z", "2027-12-28T13:20:00Z");
    let changed = format!("{changed}revoked = \"2027-01-15T08:00:00Z\"\n");
    assert_eq!(*file::read_text(&path, Limits::SECRET).unwrap(), changed);
    let back = ClientEdit {
        revoked: Some(None),
        ..ClientEdit::default()
    };
    assert_eq!(back.apply(&path).unwrap().revoked, None);
}

#[test]
fn a_broken_file_is_not_edited() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    file::create_new(&path, b"psk = ", 0o600).unwrap();
    assert!(matches!(
        ClientEdit::default().apply(&path),
        Err(LoadError::Fault { .. })
    ));
    assert_eq!(*file::read_text(&path, Limits::SECRET).unwrap(), "psk = ");
}

proptest! {
    #[test]
    fn nothing_panics(text: String) {
        let _ = Client::parse(&text);
        let _ = Client::parse(&with(&text));
    }
}

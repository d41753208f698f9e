//! The shared vectors, and properties.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vectors {
    invites: Vec<Good>,
    invites_refused: Vec<Bad>,
}

#[derive(Deserialize)]
struct Good {
    gateway_public: String,
    gateway_hmac_key: String,
    seed: String,
    end: u64,
    flags: u8,
    host: String,
    ports: Vec<u16>,
    name: String,
    services: Vec<String>,
    invite_private: String,
    invite_public: String,
    invite_psk: String,
    text: String,
}

#[derive(Deserialize)]
struct Bad {
    why: String,
    text: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../vectors/spa1.json")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|n| char::from_digit(n.into(), 16))
        .collect()
}

#[test]
fn vectors_are_read_and_written_back() {
    for good in vectors().invites {
        let invite = InviteText::parse(&good.text).unwrap();
        assert_eq!(hex(invite.gateway.as_bytes()), good.gateway_public);
        assert_eq!(hex(invite.hmac_key.expose()), good.gateway_hmac_key);
        assert_eq!(hex(invite.seed.expose()), good.seed);
        assert_eq!(invite.end_s, good.end);
        assert_eq!(invite.demands.flags(), good.flags);
        assert_eq!(invite.host.as_str(), good.host);
        assert_eq!(invite.ports.numbers().collect::<Vec<_>>(), good.ports);
        assert_eq!(invite.name.as_str(), good.name);
        assert_eq!(invite.services.to_string(), good.services.join(","));
        assert_eq!(hex(invite.seed.secret_key().expose()), good.invite_private);
        assert_eq!(hex(invite.seed.secret_key().public().as_bytes()), good.invite_public);
        assert_eq!(hex(invite.seed.psk().expose()), good.invite_psk);
        assert_eq!(*invite.to_text(), good.text);
    }
}

#[test]
fn refused_vectors_say_why() {
    let said: Vec<String> = vectors()
        .invites_refused
        .iter()
        .map(|bad| format!("{}: {}", bad.why, InviteText::parse(&bad.text).unwrap_err()))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @"
    padding: after the prefix: padding (=) at character 185; base64url goes without
    white space: white space after the prefix, at character 41; an invite is one line
    cut by four characters: the invite is damaged or cut: its checksum does not match
    one byte left over: 1 bytes after the invite's end
    checksum: the invite is damaged or cut: its checksum does not match
    version 2: an invite of version 2, where 1 is known
    unknown flag: the invite demands what is not known here (flags 0x08)
    no port: 0 knock ports, where an invite has 1 to 8
    nine ports: 9 knock ports, where an invite has 1 to 8
    port 0: the knock port 0
    empty host: a host is a DNS name in lower case or an address without brackets
    host with a space: a host is a DNS name in lower case or an address without brackets
    host with a semicolon: a host is a DNS name in lower case or an address without brackets
    host in capitals: a host is a DNS name in lower case or an address without brackets
    host in brackets: a host is a DNS name in lower case or an address without brackets
    name empty: a client's name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ -
    name with a slash: a client's name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ -
    name begins with a dot: a client's name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ -
    service in capitals: a service name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ / -
    service hint without a port: a port is written tcp/22 or udp/53, 1 to 65535, without leading zeros
    service hint with port 0: a port is written tcp/22 or udp/53, 1 to 65535, without leading zeros
    service hint with a leading zero: a port is written tcp/22 or udp/53, 1 to 65535, without leading zeros
    service hint with another protocol: a port is written tcp/22 or udp/53, 1 to 65535, without leading zeros
    service hint over 65535: a port is written tcp/22 or udp/53, 1 to 65535, without leading zeros
    empty service between commas: a service name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ / -
    service twice: the service ssh stands there twice
    prefix in capitals: an invite begins with spa1-invite:
    no prefix: an invite begins with spa1-invite:
    empty: an invite begins with spa1-invite:
    prefix alone: the invite is cut short
    unused bits not zero: after the prefix: the last character is mistyped or cut: its unused bits are not zero
    standard instead of URL alphabet: after the prefix: / at character 79 is not base64url (A-Z a-z 0-9 - _)
    ");
}

/// Any octets with the right prefix and checksum.
fn dressed(contents: &[u8]) -> String {
    format!(
        "{PREFIX}{}",
        URL_SAFE_NO_PAD.encode([contents, &check(contents)].concat())
    )
}

proptest! {
    #[test]
    fn nothing_panics(text: String, octets: Vec<u8>) {
        let _ = InviteText::parse(&text);
        let _ = InviteText::parse(&format!("{PREFIX}{text}"));
        let _ = InviteText::parse(&dressed(&octets));
        let _ = InviteText::parse(&dressed(&[&[1, 0], &*octets].concat()));
    }

    #[test]
    fn what_is_read_is_written(at in 0usize..200, octet: u8, cut in 0usize..200) {
        for good in vectors().invites {
            let mut octets = InviteText::parse(&good.text).unwrap().to_octets();
            let contents = octets.len() - 4;
            octets.truncate(contents);
            octets[at % contents] = octet;
            for changed in [&octets[..], &octets[..cut % contents]] {
                if let Ok(invite) = InviteText::parse(&dressed(changed)) {
                    prop_assert_eq!(&*invite.to_text(), &dressed(changed));
                }
            }
        }
    }

    #[test]
    fn a_changed_character_is_noticed(at in 0usize..300, to in "[A-Za-z0-9_-]") {
        for good in vectors().invites {
            let at = PREFIX.len() + at % (good.text.len() - PREFIX.len());
            let mut text = good.text.clone();
            text.replace_range(at..=at, &to);
            prop_assert!(text == good.text || InviteText::parse(&text).is_err());
        }
    }
}

//! Reads gateway.key, clients.d/NAME.toml, invites.d/, a device's profile, and the words that stand in them.
//!
//! Held: what is read is written as a text that is read as the same again, and written the same; a fault has a line
//! that the file has, and shows no secret of it; what is printed has no control characters.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spa_fuzz::halves::split;
use spa_keys::escape::escape;
use spa_keys::profile::{self, Profile, ProfileName};
use spa_keys::{
    Client, ClientName, Fault, GatewayKey, Host, Invite, OneTimeCode, ServiceHint, ServiceHints, ServicePort, text,
    units,
};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = split(data) else { return };
    let Ok(text) = str::from_utf8(rest) else { return };
    match first % 5 {
        0 => file(text, GatewayKey::parse, |key| key.to_text().to_string()),
        1 => file(text, Client::parse, |client| client.to_text().to_string()),
        2 => file(text, Invite::parse, |invite| invite.to_text().to_string()),
        3 => own_profile(text),
        _ => words(text),
    }
});

fn file<T>(text: &str, parse: impl Fn(&str) -> Result<T, Fault>, write: impl Fn(&T) -> String) {
    match parse(text) {
        Ok(read) => {
            let written = write(&read);
            let again = parse(&written).map(|again| write(&again));
            assert_eq!(again.as_ref(), Ok(&written), "{text}");
        }
        Err(fault) => {
            let lines = text.lines().count().max(1) + 1;
            assert!((1..=lines).contains(&fault.line), "{fault:?}");
            is_plain(&fault.to_string());
        }
    }
}

fn own_profile(text: &str) {
    match Profile::parse(text) {
        Ok(profile) => {
            let written = profile.to_text();
            let again = Profile::parse(&written).map(|again| again.to_text());
            assert_eq!(again.as_ref().ok(), Some(&written));
        }
        Err(error) => is_plain(&error.to_string()),
    }
}

fn words(text: &str) {
    is_plain(&escape(text));
    if let Ok(length) = units::parse_duration(text) {
        assert_eq!(units::parse_duration(&units::format_duration(length)), Ok(length));
    }
    if let Ok(time) = units::parse_time(text) {
        let whole = units::parse_time(&units::format_time(time)).expect("it was written here");
        assert_eq!(whole.as_secs(), time.as_secs());
    }
    if let Ok(key) = text::decode(text) {
        assert_eq!(text::encode(&key), text);
    }
    for digits in [6, 8] {
        if let Ok(code) = OneTimeCode::parse(text, digits) {
            assert_eq!(*code.to_base32(), *text);
        }
    }
    if let Ok(name) = text.parse::<ClientName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(host) = text.parse::<Host>() {
        assert_eq!(host.as_str(), text);
    }
    if let Ok(hint) = text.parse::<ServiceHint>() {
        let one = ServiceHints::new(vec![hint]).expect("one is not too many");
        assert_eq!(one.to_string(), text);
    }
    if let Ok(port) = text.parse::<ServicePort>() {
        assert_eq!(port.to_string(), text);
    }
    if let Ok(name) = text.parse::<ProfileName>() {
        assert_eq!(name.as_str(), text);
    }
    let _ = (profile::seconds(text), profile::host(text));
    let _ = spa_keys::client::parse_source(text);
}

/// It may go to a terminal.
fn is_plain(text: &str) {
    let moves = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(moves), "{text:?}");
}

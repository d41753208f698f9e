//! Reads invites as text ("Enrollment in one packet").
//!
//! Raw text, and octets that are given their checksum and written as text. Held: what is read is written back as the
//! same text, so that there is one text for each invite; an invite whose text is changed in any way is another or none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use spa_fuzz::halves::split;
use spa_keys::InviteText;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = split(data) else { return };
    if first & 1 == 0 {
        let Ok(text) = str::from_utf8(rest) else { return };
        read(text);
    } else {
        let checksum = &Sha256::digest(rest)[..4];
        read(&format!("spa1-invite:{}", base64url(&[rest, checksum].concat())));
    }
});

fn read(text: &str) {
    match InviteText::parse(text) {
        Ok(invite) => assert_eq!(*invite.to_text(), *text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn base64url(octets: &[u8]) -> String {
    let mut out = String::new();
    for chunk in octets.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        let digit = |place: usize| char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]);
        out.extend((0..=chunk.len()).map(digit));
    }
    out
}

//! The crate `snow` as the referee of the Noise layer, both ways, with random keys.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Keys, NOW, World, open, rng};
use spa_proto::{Request, Role, pick_length};

const PATTERN: &str = "Noise_Xpsk1_25519_ChaChaPoly_SHA256";

fn builder(keys: &Keys) -> snow::Builder<'_> {
    let builder = snow::Builder::new(PATTERN.parse().unwrap());
    builder.prologue(b"spa/1").unwrap().psk(1, keys.psk.expose()).unwrap()
}

/// The Noise message inside a datagram: `e` unmasked, then the rest.
fn noise_message(keys: &Keys, datagram: &[u8]) -> Vec<u8> {
    let mask = mask(keys, &datagram[48..]);
    let e: Vec<u8> = datagram[16..48].iter().zip(mask).map(|(a, b)| a ^ b).collect();
    [&e, &datagram[48..]].concat()
}

/// The datagram around a Noise message.
fn datagram(keys: &Keys, message: &[u8], day: u64) -> Vec<u8> {
    use sha2::Digest;
    let mask = mask(keys, &message[32..]);
    let masked: Vec<u8> = message[..32].iter().zip(mask).map(|(a, b)| a ^ b).collect();
    let tagged = [&masked, &message[32..]].concat();
    let public = keys.gateway.public();
    let key = hmac(
        keys.hmac_key.expose(),
        &[&b"spa/1 tag"[..], public.as_bytes(), &day.to_be_bytes()].concat(),
    );
    let tag = hmac(&key, &sha2::Sha256::digest(&tagged));
    [&tag[..16], &tagged].concat()
}

fn mask(keys: &Keys, rest: &[u8]) -> [u8; 32] {
    let key = hmac(
        keys.hmac_key.expose(),
        &[b"spa/1 mask", &keys.gateway.public().as_bytes()[..]].concat(),
    );
    hmac(&key, rest)
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().into()
}

#[test]
fn snow_opens_what_we_seal() {
    for _ in 0..32 {
        let keys = Keys::new();
        let request = open(NOW);
        let sealed = keys.seal(&request, pick_length(180, &mut rng()));
        let mut responder = builder(&keys)
            .local_private_key(keys.gateway.expose())
            .unwrap()
            .build_responder()
            .unwrap();
        let mut payload = vec![0; 1232];
        let length = responder
            .read_message(&noise_message(&keys, &sealed), &mut payload)
            .unwrap();
        assert_eq!(Request::decode(&payload[..length]), Ok(request));
        assert_eq!(
            responder.get_remote_static(),
            Some(&keys.client.public().as_bytes()[..])
        );
    }
}

#[test]
fn we_open_what_snow_seals() {
    for _ in 0..32 {
        let mut world = World::new(Role::Client);
        let keys = &world.keys;
        let ours = keys.seal(&open(NOW), 300);
        let mut responder = builder(keys)
            .local_private_key(keys.gateway.expose())
            .unwrap()
            .build_responder()
            .unwrap();
        let mut payload = vec![0; 1232];
        let length = responder
            .read_message(&noise_message(keys, &ours), &mut payload)
            .unwrap();

        let remote = keys.gateway.public();
        let initiator = builder(keys).local_private_key(keys.client.expose()).unwrap();
        let mut initiator = initiator
            .remote_public_key(remote.as_bytes())
            .unwrap()
            .build_initiator()
            .unwrap();
        let mut message = vec![0; 1232];
        let length = initiator.write_message(&payload[..length], &mut message).unwrap();
        let octets = datagram(keys, &message[..length], NOW.day().0);
        assert_eq!(world.handle(NOW, &octets).unwrap().request(), &open(NOW));
    }
}

//! Decodes payloads (step 5): one encoding for each request, and nothing else is taken.
//!
//! The encoding is written a second time in `spa_fuzz::wire`. Held: what decodes is encoded to the very same octets;
//! a request that can be made is decoded to itself, with any padding of zeros, and not with another octet in it.

#![no_main]

use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use spa_fuzz::cast::CAST;
use spa_fuzz::halves::split;
use spa_fuzz::steps::Wish;
use spa_fuzz::wire;
use spa_proto::{Request, UnixTime};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = split(data) else { return };
    if first & 1 == 0 {
        raw(rest);
    } else if let Ok(wish) = Wish::arbitrary(&mut Unstructured::new(rest)) {
        built(&wish, usize::from(first));
    }
});

fn raw(octets: &[u8]) {
    if let Ok(request) = Request::decode(octets) {
        assert!(request.payload_len() <= octets.len());
        assert_eq!(wire::payload(&request, octets.len()), octets);
    }
}

fn built(wish: &Wish, padding: usize) {
    let Some(request) = wish.request(UnixTime::from_secs(1_800_000_000), &CAST) else {
        return;
    };
    let need = request.payload_len();
    let mut octets = wire::payload(&request, need + padding);
    assert_eq!(octets.len(), need + padding, "payload_len is what it takes");
    assert_eq!(Request::decode(&octets).as_ref(), Ok(&request));
    octets[need + padding / 2] ^= 1;
    assert!(Request::decode(&octets).is_err());
    assert!(Request::decode(&octets[..need - 1]).is_err());
}

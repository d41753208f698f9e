//! The payload's one encoding, written a second time ("Payload").

use std::net::IpAddr;

use spa_proto::{Act, Address, Request, Services};

/// Octets before the body.
const HEAD: usize = 36;

/// A request's payload, with zeros up to `length` where it is shorter.
#[must_use]
pub fn payload(request: &Request, length: usize) -> Vec<u8> {
    let mut out = head(request);
    match &request.act {
        Act::Open { services, .. } | Act::Close { services, .. } => names(services, &mut out),
        Act::Enroll(new) => {
            out.extend(new.public_key.0);
            out.extend(new.psk.expose());
            text(new.label.as_str(), &mut out);
        }
    }
    out.resize(out.len().max(length), 0);
    out
}

fn head(request: &Request) -> Vec<u8> {
    let (kind, address, duration_s) = match &request.act {
        Act::Open {
            address, duration_s, ..
        } => (1, *address, *duration_s),
        Act::Close { address, .. } => (2, *address, 0),
        Act::Enroll(_) => (3, Address::AsSeen, 0),
    };
    let mut out = vec![0; HEAD];
    out[0] = kind;
    out[4..8].copy_from_slice(&duration_s.to_be_bytes());
    out[8..16].copy_from_slice(&request.timestamp.as_nanos().to_be_bytes());
    match address.named() {
        None => {}
        Some(IpAddr::V4(v4)) => {
            out[1] = 4;
            out[16..20].copy_from_slice(&v4.octets());
        }
        Some(IpAddr::V6(v6)) => {
            out[1] = 6;
            out[16..32].copy_from_slice(&v6.octets());
        }
    }
    let code = request.code.map_or(u32::MAX, |code| code.number());
    out[32..36].copy_from_slice(&code.to_be_bytes());
    out
}

fn names(services: &Services, out: &mut Vec<u8>) {
    out.push(u8::try_from(services.len()).expect("at most 16"));
    services.iter().for_each(|name| text(name.as_str(), out));
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).expect("at most 63"));
    out.extend(text.as_bytes());
}

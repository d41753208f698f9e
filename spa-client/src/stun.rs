//! STUN's binding request, and the address in its answer (RFC 8489): how this device looks from outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 8489, section 5.
const MAGIC: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
/// RFC 8489, section 14.2.
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// What ties an answer to its request; random, so that nobody off the path can answer.
pub(crate) type Transaction = [u8; 12];

/// Writes a binding request without attributes.
pub(crate) fn request(transaction: &Transaction) -> [u8; 20] {
    let mut octets = [0; 20];
    octets[..2].copy_from_slice(&BINDING_REQUEST.to_be_bytes());
    octets[4..8].copy_from_slice(&MAGIC);
    octets[8..].copy_from_slice(transaction);
    octets
}

/// The address in the answer to this request; `None` for everything else.
pub(crate) fn answer(octets: &[u8], transaction: &Transaction) -> Option<IpAddr> {
    let (head, rest) = octets.split_first_chunk::<20>()?;
    let kind = u16::from_be_bytes([head[0], head[1]]);
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if kind != BINDING_SUCCESS || head[4..8] != MAGIC || head[8..] != transaction[..] || length != rest.len() {
        return None;
    }
    let value = attribute(rest, XOR_MAPPED_ADDRESS)?;
    xor_mapped(value, transaction).map(|address| address.to_canonical())
}

/// The first attribute of this type; each is padded to four octets.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if u16::from_be_bytes([head[0], head[1]]) == wanted {
            return tail.get(..length);
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
}

fn xor_mapped(value: &[u8], transaction: &Transaction) -> Option<IpAddr> {
    let (head, address) = value.split_first_chunk::<4>()?;
    let mask = [&MAGIC[..], transaction].concat();
    let plain: Vec<u8> = address.iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect();
    match (head[1], address.len()) {
        (IPV4, 4) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?).into()),
        (IPV6, 16) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 5769, section 2.2 and 2.3: the sample responses, without the attributes after the address.
    const TRANSACTION: Transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
    const SOFTWARE: [u8; 16] = *b"\x80\x22\x00\x0btest vector ";

    fn response(attributes: &[&[u8]]) -> Vec<u8> {
        let attributes = attributes.concat();
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&[1, 1][..], &length, &MAGIC, &TRANSACTION, &attributes].concat()
    }

    fn ipv4() -> Vec<u8> {
        let address = b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
        response(&[&SOFTWARE, address])
    }

    #[test]
    fn the_sample_responses() {
        assert_eq!(answer(&ipv4(), &TRANSACTION), Some("192.0.2.1".parse().unwrap()));
        let address =
            b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        let found = answer(&response(&[&SOFTWARE, address]), &TRANSACTION);
        assert_eq!(found, Some("2001:db8:1234:5678:11:2233:4455:6677".parse().unwrap()));
    }

    #[test]
    fn a_request_is_a_bare_header() {
        let request = request(&TRANSACTION);
        assert_eq!(request[..8], [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(request[8..], TRANSACTION);
    }

    #[test]
    fn what_is_not_an_answer_is_none() {
        let good = ipv4();
        for at in 0..20 {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(answer(&other, &TRANSACTION), None, "octet {at}");
        }
        for cut in 0..good.len() {
            assert_eq!(answer(&good[..cut], &TRANSACTION), None, "{cut} octets");
        }
        assert_eq!(answer(&response(&[]), &TRANSACTION), None);
        assert_eq!(
            answer(
                &response(&[b"\x00\x20\x00\x08\x00\x02\xa1\x47\xe1\x12\xa6\x43"]),
                &TRANSACTION
            ),
            None
        );
        assert_eq!(
            answer(
                &response(&[b"\x00\x20\xff\xff\x00\x01\xa1\x47\xe1\x12\xa6\x43"]),
                &TRANSACTION
            ),
            None
        );
        assert_eq!(answer(&response(&[b"\x00\x01\xff\xff"]), &TRANSACTION), None);
    }
}

//! Junk is told from knocks eight packets at a time, where the processor is made for that.

use std::net::SocketAddr;

use spa_proto::{Datagram, LENGTHS, Sieve, UnixTime};

use super::rows::Rows;

/// From so many on it takes less time than one after the other.
const WORTHWHILE: usize = 3;

/// Datagrams that wait, no longer than libpcap has more at hand, until there are enough to be looked at side by side.
pub(super) struct Batch {
    waiting: Vec<Waiting>,
    rows: Rows,
}

/// A datagram, copied out of the ring.
pub(super) struct Waiting {
    source: SocketAddr,
    destination: SocketAddr,
    /// The interface that it came through, where that is known.
    pub(super) interface: Option<u32>,
    length: usize,
    octets: [u8; *LENGTHS.end()],
}

impl Waiting {
    pub(super) fn datagram(&self) -> Datagram<'_> {
        Datagram {
            source: self.source,
            destination: self.destination,
            payload: self.octets.get(..self.length).unwrap_or(&[]),
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            rows: Rows::of_this_processor(),
        }
    }
}

impl Batch {
    /// Puts a datagram aside; says whether it did.
    pub(super) fn put(&mut self, datagram: &Datagram<'_>, interface: Option<u32>) -> bool {
        let length = datagram.payload.len();
        let mut octets = [0; *LENGTHS.end()];
        let (true, Some(place)) = (self.rows != Rows::Narrow, octets.get_mut(..length)) else {
            return false;
        };
        place.copy_from_slice(datagram.payload);
        self.waiting.push(Waiting {
            source: datagram.source,
            destination: datagram.destination,
            interface,
            length,
            octets,
        });
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= Sieve::AT_ONCE
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Which of those that wait bear no tag of ours; none is said to where asking is not worthwhile.
    pub(super) fn untagged(&self, sieve: &mut Sieve, now: UnixTime) -> [bool; Sieve::AT_ONCE] {
        if self.waiting.len() < WORTHWHILE {
            return [false; Sieve::AT_ONCE];
        }
        let payload = |at| {
            self.waiting
                .get(at)
                .map_or(&[][..], |waiting: &Waiting| waiting.datagram().payload)
        };
        self.rows.untagged(sieve, now, &std::array::from_fn(payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_proto::{Act, Address, HmacKey, Identity, Listen, Psk, Request, SecretKey, Sender, Services};

    #[test]
    fn knocks_among_junk_are_found_wherever_they_stand() {
        let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
        let (secret, client, psk) = (SecretKey::generate(rng), SecretKey::generate(rng), Psk::generate(rng));
        let identity = || Identity::new(SecretKey::from_bytes(secret.expose()), HmacKey::from_bytes(&[3; 32]));
        let own = identity();
        let sender = Sender {
            gateway: own.public(),
            hmac_key: own.hmac_key(),
            secret: &client,
            psk: &psk,
        };
        // At 08:00: the day before is taken too.
        let now = UnixTime::from_secs(1_800_000_000);
        let mut sealed_at = |timestamp| {
            let act = Act::Open {
                address: Address::AsSeen,
                duration_s: 0,
                services: Services::new(vec!["ssh".parse().unwrap()]).unwrap(),
            };
            let request = Request {
                timestamp,
                code: None,
                act,
            };
            sender.seal(&request, 400, rng).unwrap()
        };
        let yesterday = UnixTime::from_secs(now.as_secs() - 9 * 3600);
        let knocks = [sealed_at(now), sealed_at(yesterday)];
        let other = Identity::new(SecretKey::generate(rng), HmacKey::generate(rng));
        let mut sieve = Sieve::new(vec![other, identity()], Listen::port(62201));
        let put = |batch: &mut Batch, payload: &[u8]| {
            let datagram = Datagram {
                source: "192.0.2.7:40000".parse().unwrap(),
                destination: "192.0.2.1:62201".parse().unwrap(),
                payload,
            };
            batch.put(&datagram, None)
        };
        let batch_of = |rows| Batch {
            waiting: Vec::new(),
            rows,
        };
        for (rows, genuine) in Rows::all_of_this_processor()
            .into_iter()
            .flat_map(|rows| (0..Sieve::AT_ONCE).map(move |at| (rows, at)))
        {
            let mut batch = batch_of(rows);
            for at in 0..Sieve::AT_ONCE {
                let junk = vec![7; 288 + 20 * at];
                assert!(put(&mut batch, if at == genuine { &knocks[at % 2] } else { &junk }));
            }
            assert!(batch.is_full());
            let untagged = batch.untagged(&mut sieve, now);
            assert_eq!(untagged, std::array::from_fn(|at| at != genuine), "{rows:?}");
            batch.clear();
            assert!(!put(&mut batch, &[7; 1233]), "longer than any knock");
            assert!(put(&mut batch, &[7; 288]));
            assert_eq!(
                batch.untagged(&mut sieve, now),
                [false; Sieve::AT_ONCE],
                "too few: one after the other"
            );
        }
        assert!(
            !put(&mut batch_of(Rows::Narrow), &knocks[0]),
            "nothing is put aside without gain"
        );
    }
}

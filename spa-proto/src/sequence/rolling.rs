//! Rolling sequences: the ports of a time step from a key, so that a recorded one is worth nothing.

use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU16;
use core::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{FEWEST_STAGES, Stage, Transport};
use crate::frame::TcpFlags;
use crate::time::UnixTime;

const LABEL: &[u8] = b"spa/1 rolling sequence";
/// The fewest ports to choose from: with three stages a blind guess hits once in a thousand million tries.
const FEWEST_PORTS: usize = 1024;
/// The most stages of a rolling sequence: who reads them off a card types them too.
pub const MOST_ROLLING: usize = 8;

/// The key of one rolling sequence: 32 octets that gateway and client share.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RollingKey([u8; 32]);

impl RollingKey {
    /// Takes 32 octets as a key.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// A new random key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut key = Self([0; 32]);
        rng.fill_bytes(&mut key.0);
        key
    }

    /// The octets, to be written to a file of mode 0600 and nowhere else.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RollingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RollingKey(..)")
    }
}

/// The protocols of a rolling sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollingTransport {
    /// TCP throughout.
    Tcp,
    /// UDP throughout.
    Udp,
    /// Each stage one or the other, as the key says.
    Mixed,
}

/// What a rolling sequence is made of, beside its key. Gateway and client must agree on all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolling {
    /// Its name: two sequences with one key differ by it.
    pub name: alloc::string::String,
    /// The ports to choose from.
    pub pool: PortPool,
    /// How many stages, 3 to 8.
    pub stages: u8,
    /// Which protocols.
    pub transport: RollingTransport,
    /// How long each sequence is today's, in whole seconds.
    pub step: Duration,
}

impl Rolling {
    /// The time step that `now` lies in.
    #[must_use]
    pub const fn step_at(&self, now: UnixTime) -> u64 {
        let length = self.step.as_secs();
        now.as_secs() / if length == 0 { 1 } else { length }
    }

    /// When a step begins.
    #[must_use]
    pub const fn begin_of(&self, step: u64) -> UnixTime {
        UnixTime::from_secs(step.saturating_mul(self.step.as_secs()))
    }

    /// The stages of a step, no port twice:
    ///
    /// ```text
    /// draws = HMAC-SHA256(key, "spa/1 rolling sequence" || len(name) || name || step as u64 || block as u32), block = 0, 1, ..
    /// ```
    ///
    /// Numbers are big-endian, len(name) is one octet. Of each four octets of the draws the first two are a number d
    /// and the last bit chooses the protocol (1 is TCP) where it is mixed. With n ports, a d of `floor(65536 / n) * n`
    /// or more is passed over, so that no port is likelier than another; else port `d mod n` of the pool is next,
    /// unless it has been.
    #[must_use]
    pub fn at(&self, key: &RollingKey, step: u64) -> Vec<Stage> {
        let mut stages: Vec<Stage> = Vec::new();
        for block in 0..=u32::MAX {
            let octets = self.block(key, step, block);
            let (draws, _) = octets.as_chunks::<4>();
            for draw in draws {
                if stages.len() >= usize::from(self.stages) {
                    return stages;
                }
                let next = self.stage(*draw);
                stages.extend(next.filter(|next| stages.iter().all(|stage| stage.port != next.port)));
            }
        }
        stages
    }

    fn block(&self, key: &RollingKey, step: u64, block: u32) -> [u8; 32] {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key.0) else {
            return [0; 32];
        };
        mac.update(LABEL);
        mac.update(&[u8::try_from(self.name.len()).unwrap_or(u8::MAX)]);
        mac.update(self.name.as_bytes());
        mac.update(&step.to_be_bytes());
        mac.update(&block.to_be_bytes());
        mac.finalize().into_bytes().into()
    }

    fn stage(&self, draw: [u8; 4]) -> Option<Stage> {
        let [high, low, _, last] = draw;
        let port = self.pool.draw(u16::from_be_bytes([high, low]))?;
        let transport = match self.transport {
            RollingTransport::Mixed if last & 1 == 0 => Transport::Udp,
            RollingTransport::Udp => Transport::Udp,
            _ => Transport::Tcp(TcpFlags::SYN),
        };
        Some(Stage { transport, port })
    }
}

/// A range of ports without some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPool {
    first: NonZeroU16,
    last: u16,
    /// Rising, all of them within the range.
    except: Vec<u16>,
    count: u32,
}

impl PortPool {
    /// The ports from `first` to `last` that are not in `except`.
    ///
    /// # Errors
    ///
    /// [`PortPoolError`] when too few are left.
    pub fn new(first: u16, last: u16, except: impl IntoIterator<Item = u16>) -> Result<Self, PortPoolError> {
        let mut except: Vec<u16> = except
            .into_iter()
            .filter(|port| (first..=last).contains(port))
            .collect();
        except.sort_unstable();
        except.dedup();
        let all = (usize::from(last) + 1).saturating_sub(usize::from(first));
        let have = all.saturating_sub(except.len());
        let first = NonZeroU16::new(first).ok_or(PortPoolError::Zero)?;
        match u32::try_from(have) {
            Ok(count) if have >= FEWEST_PORTS => Ok(Self {
                first,
                last,
                except,
                count,
            }),
            _ => Err(PortPoolError::Few { have }),
        }
    }

    /// How many ports there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether `port` may be drawn.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first.get()..=self.last).contains(&port) && self.except.binary_search(&port).is_err()
    }

    /// The first and the last port of the range.
    #[must_use]
    pub const fn range(&self) -> (u16, u16) {
        (self.first.get(), self.last)
    }

    /// The ports of the range that are left out, rising.
    #[must_use]
    pub fn except(&self) -> &[u16] {
        &self.except
    }

    /// The port that a number out of 65 536 stands for; none for the few that would make some ports likelier.
    fn draw(&self, number: u16) -> Option<NonZeroU16> {
        let number = u32::from(number);
        if number >= 65_536 / self.count * self.count {
            return None;
        }
        let place = u16::try_from(number % self.count).ok()?;
        let port = self.first.get().checked_add(place)?;
        let port = self.except.iter().try_fold(port, |port, left_out| {
            if *left_out <= port {
                port.checked_add(1)
            } else {
                Some(port)
            }
        })?;
        NonZeroU16::new(port)
    }
}

/// Ports that no rolling sequence can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortPoolError {
    /// Port 0 cannot be reached.
    Zero,
    /// Too few to choose from.
    Few {
        /// How many there are.
        have: usize,
    },
}

impl fmt::Display for PortPoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("begins with port 0, which nobody can reach"),
            Self::Few { have } => write!(
                f,
                "leaves {have} ports to choose from; at least {FEWEST_PORTS} are needed"
            ),
        }
    }
}

impl core::error::Error for PortPoolError {}

/// A sequence has at least three stages, a rolling one at most eight.
const _: () = assert!(FEWEST_STAGES < MOST_ROLLING);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::string::ToString;

    fn rolling(pool: PortPool, transport: RollingTransport) -> Rolling {
        Rolling {
            name: "card".into(),
            pool,
            stages: 4,
            transport,
            step: Duration::from_mins(1),
        }
    }

    fn key() -> RollingKey {
        RollingKey::from_bytes(&[7; 32])
    }

    /// Computed with another program, from the formula.
    #[test]
    fn known_sequences() {
        let pool = PortPool::new(20_000, 29_999, [20_500, 29_999]).unwrap();
        let text = |rolling: &Rolling, step| {
            let stages: Vec<_> = rolling.at(&key(), step).iter().map(ToString::to_string).collect();
            stages.join(" ")
        };
        let udp = rolling(pool.clone(), RollingTransport::Udp);
        assert_eq!(text(&udp, 0), "26238/udp 27555/udp 21089/udp 29605/udp");
        let mixed = rolling(pool, RollingTransport::Mixed);
        assert_eq!(text(&mixed, 29_000_000), "26814/udp 29631/udp 25022/udp 24147/tcp");
    }

    #[test]
    fn ports_are_of_the_pool_and_differ() {
        let pool = PortPool::new(1, 1100, [7, 22, 1100]).unwrap();
        assert_eq!(pool.count(), 1097);
        let rolling = Rolling {
            stages: 8,
            ..rolling(pool, RollingTransport::Mixed)
        };
        for step in 0..2_000 {
            let stages = rolling.at(&key(), step);
            let ports: BTreeSet<_> = stages.iter().map(|stage| stage.port.get()).collect();
            assert_eq!(ports.len(), 8);
            assert!(ports.iter().all(|port| rolling.pool.contains(*port)), "{ports:?}");
        }
    }

    #[test]
    fn every_port_is_as_likely_as_every_other() {
        for (first, last, except) in [
            (1, 65_535, std::vec![22]),
            (30_000, 49_999, std::vec![]),
            (5, 1030, std::vec![6, 7]),
        ] {
            let pool = PortPool::new(first, last, except).unwrap();
            let mut hits = std::collections::BTreeMap::new();
            for port in (0..=u16::MAX).filter_map(|number| pool.draw(number)) {
                *hits.entry(port.get()).or_insert(0) += 1;
            }
            let each = 65_536 / pool.count();
            assert_eq!(hits.len(), usize::try_from(pool.count()).unwrap());
            assert!(hits.iter().all(|(port, count)| *count == each && pool.contains(*port)));
        }
    }

    #[test]
    fn names_keys_and_steps_make_others() {
        let pool = PortPool::new(1024, 65_535, []).unwrap();
        let one = rolling(pool, RollingTransport::Tcp);
        let other = Rolling {
            name: "case".into(),
            ..one.clone()
        };
        let all = [
            one.at(&key(), 1),
            one.at(&key(), 2),
            other.at(&key(), 1),
            one.at(&RollingKey::from_bytes(&[8; 32]), 1),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn pools_that_are_too_small() {
        assert_eq!(PortPool::new(0, 9999, []), Err(PortPoolError::Zero));
        assert_eq!(PortPool::new(5000, 6022, []), Err(PortPoolError::Few { have: 1023 }));
        assert_eq!(PortPool::new(5000, 4000, []), Err(PortPoolError::Few { have: 0 }));
        assert!(PortPool::new(5000, 6023, [1, 2, 3]).is_ok());
    }

    #[test]
    fn steps_are_counted_from_the_epoch() {
        let rolling = rolling(PortPool::new(1024, 65_535, []).unwrap(), RollingTransport::Udp);
        assert_eq!(rolling.step_at(UnixTime::from_secs(119)), 1);
        assert_eq!(rolling.begin_of(2), UnixTime::from_secs(120));
    }
}

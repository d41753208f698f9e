//! The datagram's fields and lengths ("Datagram").

use core::fmt;
use core::ops::RangeInclusive;

use rand_core::CryptoRng;

/// Octets of tag, masked ephemeral key and encrypted static key with its authenticator.
pub(crate) const HEAD: usize = 16 + 32 + 48;

/// What a datagram adds to its payload.
pub const OVERHEAD: usize = HEAD + 16;

/// The lengths of a datagram that are accepted.
pub const LENGTHS: RangeInclusive<usize> = 192..=1232;

/// A datagram of an acceptable length, cut into its fields.
#[derive(Clone, Copy, Debug)]
pub struct SealedKnock<'a> {
    pub(crate) tag: &'a [u8; 16],
    /// Everything after the tag: what it authenticates.
    pub(crate) tagged: &'a [u8],
    pub(crate) masked_e: &'a [u8; 32],
    pub(crate) enc_s: &'a [u8; 48],
    pub(crate) enc_payload: &'a [u8],
}

impl<'a> SealedKnock<'a> {
    /// Cuts a UDP payload into the datagram's fields.
    ///
    /// # Errors
    ///
    /// [`LengthError`] when it is shorter than 192 or longer than 1232 octets.
    pub fn parse(octets: &'a [u8]) -> Result<Self, LengthError> {
        let error = LengthError { have: octets.len() };
        if !LENGTHS.contains(&octets.len()) {
            return Err(error);
        }
        let (tag, tagged) = octets.split_first_chunk().ok_or(error)?;
        let (masked_e, rest) = tagged.split_first_chunk().ok_or(error)?;
        let (enc_s, enc_payload) = rest.split_first_chunk().ok_or(error)?;
        Ok(Self {
            tag,
            tagged,
            masked_e,
            enc_s,
            enc_payload,
        })
    }

    /// What the mask of the ephemeral key is computed over: `enc_s ‖ enc_payload`.
    pub(crate) fn masked_by(&self) -> [&'a [u8]; 2] {
        [self.enc_s, self.enc_payload]
    }
}

/// A datagram too short or too long to be a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthError {
    /// How many octets it has.
    pub have: usize,
}

impl fmt::Display for LengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} octets, where {} to {} are a knock",
            self.have,
            LENGTHS.start(),
            LENGTHS.end()
        )
    }
}

impl core::error::Error for LengthError {}

/// Picks the length of a datagram uniformly from the class that `need` falls into; `need` is [`OVERHEAD`] plus the
/// payload without padding. Lengths so tell an observer the class and no more.
pub fn pick_length(need: usize, rng: &mut impl CryptoRng) -> usize {
    let class = match need {
        0..=288 => 288..=512,
        289..=512 => 513..=1232,
        _ => need..=1232.max(need),
    };
    class.start() + below(class.end() - class.start() + 1, rng)
}

/// A uniform number below `bound`, by rejection.
fn below(bound: usize, rng: &mut impl CryptoRng) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
    let unbiased = u64::MAX - u64::MAX % bound;
    loop {
        let number = rng.next_u64();
        if number < unbiased {
            return usize::try_from(number % bound).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::SeededRng;

    #[test]
    fn fields_lie_where_the_protocol_says() {
        let octets: [u8; 192] = core::array::from_fn(|i| u8::try_from(i).unwrap());
        let sealed = SealedKnock::parse(&octets).unwrap();
        assert_eq!(sealed.tag, &octets[..16]);
        assert_eq!(sealed.masked_e, &octets[16..48]);
        assert_eq!(sealed.enc_s, &octets[48..96]);
        assert_eq!(sealed.enc_payload, &octets[96..]);
        assert_eq!(sealed.tagged, &octets[16..]);
    }

    #[test]
    fn lengths_outside_the_limits_are_refused() {
        for have in [0, 1, 95, 191, 1233, 65_507] {
            assert_eq!(
                SealedKnock::parse(&std::vec![0; have]).unwrap_err(),
                LengthError { have }
            );
        }
        for have in [192, 193, 1232] {
            assert!(SealedKnock::parse(&std::vec![0; have]).is_ok());
        }
    }

    #[test]
    fn lengths_are_spread_over_their_class() {
        for (need, class) in [
            (149, 288..=512),
            (288, 288..=512),
            (289, 513..=1232),
            (512, 513..=1232),
            (513, 513..=1232),
            (1200, 1200..=1232),
        ] {
            let mut rng = SeededRng(need as u64);
            let lengths: std::vec::Vec<_> = (0..20_000).map(|_| pick_length(need, &mut rng)).collect();
            assert_eq!(lengths.iter().min(), Some(class.start()), "{need}");
            assert_eq!(lengths.iter().max(), Some(class.end()), "{need}");
        }
    }
}

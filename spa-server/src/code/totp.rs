//! TOTP: `code = truncate(HMAC-SHA-1(secret, step)) mod 10^digits`, step = seconds / 30 (RFC 6238, RFC 4226).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use spa_keys::OneTimeCode;
use spa_proto::{Code, UnixTime};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Seconds of a time step.
const STEP_S: u64 = 30;

/// The step that this is the code of, of the present one and those before and after it. Where it is the code of
/// several, the latest: fewer codes are good afterwards. All three are compared, in constant time.
pub(super) fn step_of(secret: &OneTimeCode, code: Code, now: UnixTime) -> Option<u64> {
    let present = now.as_secs() / STEP_S;
    let mut found = (Choice::from(0), 0_u64);
    for step in present.saturating_sub(1)..=present.saturating_add(1) {
        let same = at(secret, step)?.to_be_bytes().ct_eq(&code.number().to_be_bytes());
        found = (found.0 | same, u64::conditional_select(&found.1, &step, same));
    }
    bool::from(found.0).then_some(found.1)
}

/// The code of a step. HMAC takes keys of every length, so there always is one.
pub(super) fn at(secret: &OneTimeCode, step: u64) -> Option<u32> {
    let mac = Hmac::<Sha1>::new_from_slice(secret.expose()).ok()?;
    let mac = mac.chain_update(step.to_be_bytes()).finalize().into_bytes();
    let offset = usize::from(mac.last()? & 15);
    let word = mac.get(offset..)?.first_chunk().copied()?;
    let modulus = if secret.digits == 8 { 100_000_000 } else { 1_000_000 };
    Some((u32::from_be_bytes(word) & 0x7fff_ffff) % modulus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(digits: u8) -> OneTimeCode {
        OneTimeCode::parse("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", digits).unwrap()
    }

    /// RFC 6238, appendix B, the lines of SHA-1.
    #[test]
    fn rfc_6238_vectors() {
        for (seconds, code) in [
            (59, 94_287_082),
            (1_111_111_109, 7_081_804),
            (1_111_111_111, 14_050_471),
            (1_234_567_890, 89_005_924),
            (2_000_000_000, 69_279_037),
            (20_000_000_000, 65_353_130),
        ] {
            assert_eq!(at(&secret(8), seconds / 30), Some(code), "{seconds}");
            assert_eq!(at(&secret(6), seconds / 30), Some(code % 1_000_000), "{seconds}");
        }
    }

    #[test]
    fn one_step_before_and_after() {
        // Step 1.
        let code = Code::new(94_287_082).unwrap();
        let step = |seconds| step_of(&secret(8), code, UnixTime::from_secs(seconds));
        assert_eq!([0, 29, 30, 59, 60, 89].map(step), [Some(1); 6]);
        assert_eq!(step(90), None);
        let far = UnixTime::from_nanos(u64::MAX);
        assert_eq!(step_of(&secret(8), code, far), None);
        assert_eq!(step_of(&secret(6), code, UnixTime::from_secs(59)), None, "other digits");
    }
}

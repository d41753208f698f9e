//! Helpers of `scripts/bench.sh`: the flood's packets, and a way to hand many of them to the kernel at once.

pub mod batch;
pub mod packet;

/// Octets from hex digits.
///
/// # Errors
///
/// When they are not that.
pub fn octets(hex: &str) -> Result<Vec<u8>, String> {
    let digits = |at| hex.get(at..at + 2).ok_or("an odd number of hex digits");
    let octet = |at| u8::from_str_radix(digits(at)?, 16).map_err(|error| error.to_string());
    (0..hex.len()).step_by(2).map(octet).collect()
}

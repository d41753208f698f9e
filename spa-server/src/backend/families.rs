//! Which address families there are to protect.

use std::path::Path;

use crate::netlink::Family;

/// The families that this kernel has.
#[must_use]
pub fn available() -> Vec<Family> {
    Family::BOTH
        .into_iter()
        .filter(|family| is_available(*family))
        .collect()
}

/// A clause for each family that is none of `available`.
pub fn missing(available: &[Family]) -> impl Iterator<Item = String> {
    let missing = Family::BOTH.into_iter().filter(|family| !available.contains(family));
    missing.map(|family| format!("this kernel has no {family}: nothing is protected or opened there"))
}

/// A kernel booted with `ipv6.disable=1` has no such file, and no packet of that family either.
fn is_available(family: Family) -> bool {
    family == Family::V4 || Path::new("/proc/thread-self/net/if_inet6").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_the_kernel_lacks_is_said() {
        let notes: Vec<String> = missing(&[Family::V4]).collect();
        assert_eq!(notes, ["this kernel has no IPv6: nothing is protected or opened there"]);
    }
}

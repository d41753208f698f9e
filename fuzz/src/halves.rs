//! Inputs whose first octet says which of two ways they go: raw, or built into something that gets further.

/// The first octet, and what follows it.
#[must_use]
pub fn split(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}

/// A number below `bound` from the first octet.
#[must_use]
pub fn pick<T: Copy>(first: u8, all: &[T]) -> T {
    all[usize::from(first) % all.len()]
}

//! What a process that outlives its caller must not keep of it.

/// Marks every descriptor but the first three as not for children: a lock or a pipe that a script has open would
/// otherwise be held by the armed process. Where the kernel cannot (before 5.11), nothing happens.
pub(super) fn keep_descriptors() {
    // SAFETY: only a flag of descriptors is changed; none is closed, and no memory is touched.
    #[allow(unsafe_code, reason = "no safe wrapper of close_range(2) is at hand")]
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed());
    }
}

//! The allocator's habits. A guardian is small and lives long, so what it no longer uses goes back to the host.
#![expect(unsafe_code, reason = "mallopt and malloc_trim have no safe form in the standard library")]

/// One arena for all threads (mallopt(3), `M_ARENA_MAX`): the default of eight a processor keeps a share of free memory
/// for each thread that ever allocated. To be called before there are threads. Does nothing where the C library has no
/// such setting.
pub fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two numbers; a value that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory back to the host (malloc_trim(3)); takes about a millisecond for ten megabytes.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: one number; free memory stays usable.
    unsafe {
        libc::malloc_trim(0);
    }
}

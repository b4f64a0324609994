//! A thread with descriptors of its own.
#![expect(unsafe_code, reason = "this is its home")]

use std::io;
use std::os::fd::RawFd;

/// Gives the calling thread a table of descriptors of its own, with those below `first` in it (close_range(2),
/// `CLOSE_RANGE_UNSHARE`). As with fork(2), what others close at this very moment is closed a moment later.
pub(crate) fn keep_descriptors_below(first: RawFd) -> io::Result<()> {
    // SAFETY: no memory is touched, and what is closed is closed in a table that nobody else has. The caller has no descriptor
    // beyond `first` that it would use or close later.
    // WHY UNSAFE: no crate has this as a safe call, because a thread that has such descriptors must not make it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            RawFd::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

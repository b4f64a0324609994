//! Attributes of mounts. Nothing else.
#![expect(unsafe_code, reason = "this is its home")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets and clears the attributes of one mount (`MOUNT_ATTR_*`, mount_setattr(2)), attached or not.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64, clear: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a literal that ends in zero, the structure lives until the call returns, and its size is the one
    // that is passed; the kernel reads both and keeps neither.
    // WHY UNSAFE: neither rustix nor nix nor the C library of Debian 12 wraps mount_setattr.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

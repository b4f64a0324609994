//! The ioctls of `/dev/fuse`. Nothing else.
#![expect(unsafe_code, reason = "this is its home")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `_IOW(229, 1, struct fuse_backing_map)`.
const BACKING_OPEN: libc::Ioctl = 0x4010_e501;

/// `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: libc::Ioctl = 0x4004_e502;

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// Gives the kernel a file to read and write by itself; returns its number on this connection.
pub(crate) fn backing_open(device: impl AsFd, file: impl AsFd) -> io::Result<i32> {
    let map = BackingMap {
        fd: file.as_fd().as_raw_fd(),
        flags: 0,
        padding: 0,
    };
    // SAFETY: the kernel reads the 16 bytes that the number names, and both descriptors are borrowed for the call.
    // WHY UNSAFE: no crate has this ioctl as a safe call.
    let id = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BACKING_OPEN, &raw const map) };
    if id > 0 {
        Ok(id)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes it back; open files that use it go on.
pub(crate) fn backing_close(device: impl AsFd, id: i32) -> io::Result<()> {
    // SAFETY: the kernel reads four bytes.
    // WHY UNSAFE: no crate has this ioctl as a safe call.
    let done = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BACKING_CLOSE, &raw const id) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::File;

    use super::{backing_close, backing_open};

    #[test]
    fn what_is_no_connection_is_refused() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(
            backing_open(&null, &null).unwrap_err().raw_os_error(),
            Some(libc::ENOTTY)
        );
        assert_eq!(
            backing_close(&null, 1).unwrap_err().raw_os_error(),
            Some(libc::ENOTTY)
        );
    }
}

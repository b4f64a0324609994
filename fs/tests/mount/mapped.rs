//! Memory maps of files, which have no safe form: the one place of these tests that needs it.
#![expect(unsafe_code, reason = "mmap")]

use std::fs::File;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

/// A shared map of a file's start.
pub(crate) struct Mapped {
    at: *mut u8,
    len: usize,
}

impl Mapped {
    /// Maps `len` bytes, to read and, with `write`, to write.
    pub(crate) fn new(file: &File, len: usize, write: bool) -> Self {
        let mut prot = ProtFlags::READ;
        if write {
            prot |= ProtFlags::WRITE;
        }
        // SAFETY: a new map at an address of the kernel's choice disturbs nothing.
        let at = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, file, 0).unwrap()
        };
        Self { at: at.cast(), len }
    }

    /// Copies a part out.
    pub(crate) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len);
        // SAFETY: within the map; others may change it meanwhile, hence volatile.
        (offset..offset + len)
            .map(|at| unsafe { self.at.add(at).read_volatile() })
            .collect()
    }

    /// Stores bytes.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: within the map, which the caller has made to be written.
            unsafe { self.at.add(offset + at).write_volatile(*byte) };
        }
    }

    /// Writes it back to the file.
    pub(crate) fn sync(&self) {
        // SAFETY: within the map.
        unsafe { rustix::mm::msync(self.at.cast(), self.len, MsyncFlags::SYNC).unwrap() };
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { rustix::mm::munmap(self.at.cast(), self.len).unwrap() };
    }
}

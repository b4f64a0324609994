//! Undo records of a writable layer: what an inode was before bytes were copied into its data file that nobody has synced.
//!
//! A record that names copied bytes may reach the disk before they do. A sync before each such record would cost a wait for
//! the disk at the first write to every file of the image. So the record that it replaces is kept beside it, until the
//! data file is synced; whoever opens the layer after the power was lost puts it back. After a kill alone the kernel still
//! has the bytes, and nothing is put back: an undo record names the [`Instance`] of the host's filesystem that it holds for.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Upper;
use super::keys::{UNDO, collect, ino_key, key, key_ino};
use crate::boot::this_boot;
use crate::codec;
use crate::db::{Batch, Family};
use crate::{Ino, Inode, Result, UpperId};

/// One run of the host's kernel with one filesystem mounted: as long as it goes on, no write to a file is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Instance([u8; INSTANCE_BYTES]);

/// A boot id of 16 bytes, a device number of 8.
const INSTANCE_BYTES: usize = 24;

impl Instance {
    /// The one that `root` is in now; `None` where the kernel does not tell.
    pub(super) fn of(root: &Path) -> Option<Self> {
        let boot = hex::decode(this_boot().ok()?.replace('-', "")).ok()?;
        let device = std::fs::metadata(root).ok()?.dev();
        let bytes = [boot.as_slice(), &device.to_be_bytes()].concat();
        Some(Self(bytes.try_into().ok()?))
    }
}

/// An undo record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undo {
    /// The inode.
    pub ino: Ino,
    /// What it was.
    pub before: Inode,
    /// Whether what was written since is still there: neither the host nor its filesystem has been restarted.
    pub is_void: bool,
}

/// Adds an undo record to a batch. Without an instance nobody could tell later whether it holds, so it always will.
pub(super) fn put(
    out: &mut Batch<'_>,
    id: UpperId,
    instance: Option<Instance>,
    (ino, before): (Ino, &Inode),
) -> Result<()> {
    let instance = instance.map_or([0; INSTANCE_BYTES], |instance| instance.0);
    let value = [&instance, codec::encode_inode(before).as_slice()].concat();
    out.put(Family::Upper, &ino_key(id, UNDO, ino), &value)
}

/// Takes one away.
pub(super) fn delete(out: &mut Batch<'_>, id: UpperId, ino: Ino) -> Result<()> {
    out.delete(Family::Upper, &ino_key(id, UNDO, ino))
}

impl Upper {
    /// The undo records, by inode number.
    pub fn undos(&self) -> Result<Vec<Undo>> {
        let now = self.0.instance;
        let scan = self
            .inner()
            .db
            .scan(Family::Upper, &key(self.id(), UNDO, b""))?;
        collect(scan, "undo record of upper", |key, value| {
            let (instance, inode) = value.split_at_checked(INSTANCE_BYTES)?;
            Some(Undo {
                ino: key_ino(key)?,
                before: codec::decode_inode(inode)?,
                is_void: now.is_some_and(|now| now.0 == *instance),
            })
        })
    }
}

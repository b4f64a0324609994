//! What a container or a named mount changed. Reads only.

use std::sync::Arc;

use nacre_fs::diff::{Change, Snapshot};
use nacre_fs::vfs::Vfs;
use nacre_store::{ImageId, UpperId};

use super::Engine;
use super::container::Container;
use super::containers::Live;
use super::error::{Error, Result};

/// A writable layer and whose it is.
pub(crate) enum Subject {
    /// A container's.
    Container(Arc<Live>, Box<Container>),
    /// A named mount's.
    Mount {
        /// The image below.
        image: ImageId,
        /// The layer.
        upper: UpperId,
    },
}

impl Subject {
    pub(crate) fn image(&self) -> ImageId {
        match self {
            Subject::Container(_, document) => document.image,
            Subject::Mount { image, .. } => *image,
        }
    }

    pub(crate) fn upper(&self) -> UpperId {
        match self {
            Subject::Container(_, document) => document.upper,
            Subject::Mount { upper, .. } => *upper,
        }
    }
}

impl Engine {
    /// Finds a container or a named mount; they share one namespace.
    pub(crate) fn subject(&self, name: &str) -> Result<Subject> {
        // A name is exact, the ID of a container may be only begun.
        if let Some(kept) = self.mounts.kept(name) {
            return Ok(Subject::Mount {
                image: kept.image,
                upper: kept.upper,
            });
        }
        let live = self.containers.find(name)?;
        let document = live.document();
        Ok(Subject::Container(live, Box::new(document)))
    }

    /// Returns what a container or a named mount changed, sorted by path, parents first.
    pub fn changes(&self, name: &str) -> Result<Vec<Change>> {
        let subject = self.subject(name)?;
        // Nobody starts or removes the container while its layer is looked at.
        let _working = match &subject {
            Subject::Container(live, _) => Some(live.work.lock()),
            Subject::Mount { .. } => None,
        };
        let vfs = self.roots.tree(&self.store, subject.upper(), name)?;
        Ok(snapshot(&vfs, name)?.changes()?)
    }
}

/// A tree's overrides at this moment.
pub(crate) fn snapshot<'a>(vfs: &'a Vfs, name: &str) -> Result<Snapshot<'a>> {
    let fail = |errno: nacre_fs::errno::Errno| Error::Io {
        what: "cannot read the changes of",
        path: name.into(),
        source: errno.into(),
    };
    let settled = vfs.settled().map_err(fail)?;
    Ok(Snapshot::new(vfs.base(), settled.inodes, settled.entries))
}

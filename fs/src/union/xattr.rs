//! Extended attributes, as ext4 keeps them; POSIX ACLs travel as two of them.
//!
//! The kernel checks who may (`xattr_permission`: `user.` on files and directories only, `trusted.` for
//! CAP_SYS_ADMIN, ACLs for the owner). What an image brought is kept and shown verbatim, whatever its name.

use nacre_store::{Ino, Inode, Kind};

use super::acl::{self, Acl};
use super::draft::Draft;
use super::setattr;
use super::{Context, Errno, Layers, Plan, getattr};

/// The longest name (XATTR_NAME_MAX).
const NAME_BYTES_MAX: usize = 255;
/// The longest value (XATTR_SIZE_MAX).
const VALUE_BYTES_MAX: usize = 64 << 10;
/// All names of an inode with their NULs (XATTR_LIST_MAX): more could not be listed.
const LIST_BYTES_MAX: usize = 64 << 10;
/// All values of an inode, as much as a layer archive may bring.
const VALUES_BYTES_MAX: usize = 1 << 20;

/// Prefixes that ext4 knows, besides the two ACLs.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Listed for root alone.
const TRUSTED: &[u8] = b"trusted.";

/// The flags of `setxattr(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Whether it is there or not.
    Either,
    /// The same, by one who is neither in the file's group nor may ignore that: an access ACL takes setgid away.
    ByStranger,
    /// `XATTR_CREATE`.
    Create,
    /// `XATTR_REPLACE`.
    Replace,
}

/// Returns a value; `NoData` where there is none.
pub fn get(layers: &dyn Layers, ino: Ino, name: &[u8]) -> Result<Box<[u8]>, Errno> {
    let inode = getattr::inode(layers, ino)?;
    if let Some(value) = inode.xattrs.get(name) {
        return Ok(value.clone());
    }
    check_name(name)?;
    Err(Errno::NoData)
}

/// Returns the names as `listxattr(2)` does, each with a NUL; `trusted.` only for root.
pub fn list(layers: &dyn Layers, ctx: &Context, ino: Ino) -> Result<Vec<u8>, Errno> {
    let inode = getattr::inode(layers, ino)?;
    let mut names = Vec::new();
    for name in inode.xattrs.keys() {
        if ctx.uid == 0 || !name.starts_with(TRUSTED) {
            names.extend_from_slice(name);
            names.push(0);
        }
    }
    Ok(names)
}

/// Plans `setxattr`. An access ACL changes the mode too (and is not kept if the mode says it all).
pub fn set(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    name: &[u8],
    value: &[u8],
    how: How,
) -> Result<Plan<()>, Errno> {
    check_name(name)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Errno::TooBig);
    }
    let mut draft = Draft::new(layers, ctx);
    let inode = draft.inode(ino)?;
    if is_acl(name) {
        set_acl(inode, how, name, value)?;
    } else {
        match how {
            How::Create if inode.xattrs.contains_key(name) => return Err(Errno::Exist),
            How::Replace if !inode.xattrs.contains_key(name) => return Err(Errno::NoData),
            How::Either | How::ByStranger | How::Create | How::Replace => {}
        }
        inode.xattrs.insert(name.into(), value.into());
    }
    let names: usize = inode.xattrs.keys().map(|name| name.len() + 1).sum();
    let values: usize = inode.xattrs.values().map(|value| value.len()).sum();
    if names > LIST_BYTES_MAX || values > VALUES_BYTES_MAX {
        return Err(Errno::NoSpc);
    }
    inode.ctime = ctx.now;
    Ok(draft.finish(()))
}

/// Plans `removexattr`. An ACL that is not there can be removed all the same, as on ext4.
pub fn remove(
    layers: &dyn Layers,
    ctx: &Context,
    ino: Ino,
    name: &[u8],
) -> Result<Plan<()>, Errno> {
    let mut draft = Draft::new(layers, ctx);
    let inode = draft.inode(ino)?;
    if is_acl(name) {
        has_acls(inode)?;
        inode.xattrs.remove(name);
    } else if inode.xattrs.remove(name).is_none() {
        check_name(name)?;
        return Err(Errno::NoData);
    }
    inode.ctime = ctx.now;
    Ok(draft.finish(()))
}

fn is_acl(name: &[u8]) -> bool {
    name == acl::ACCESS || name == acl::DEFAULT
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Errno::Range);
    }
    if is_acl(name) {
        return Ok(());
    }
    match PREFIXES.iter().find(|prefix| name.starts_with(prefix)) {
        None => Err(Errno::NotSup),
        Some(prefix) if prefix.len() == name.len() => Err(Errno::Inval),
        Some(_) => Ok(()),
    }
}

fn has_acls(inode: &Inode) -> Result<(), Errno> {
    if inode.kind == Kind::Symlink {
        Err(Errno::NotSup)
    } else {
        Ok(())
    }
}

fn set_acl(inode: &mut Inode, how: How, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    has_acls(inode)?;
    let wants_dir = name == acl::DEFAULT && inode.kind != Kind::Dir;
    let acl = match Acl::parse(value) {
        Ok(None) => {
            inode.xattrs.remove(name);
            return Ok(());
        }
        Ok(Some(_)) | Err(Errno::Inval) if wants_dir => return Err(Errno::Access),
        Ok(Some(acl)) => acl,
        Err(error) => return Err(error),
    };
    if name == acl::DEFAULT {
        inode.xattrs.insert(name.into(), acl.to_bytes());
        return Ok(());
    }
    setattr::set_access_acl(inode, &acl);
    if how == How::ByStranger {
        setattr::drop_set_group_id(inode);
    }
    Ok(())
}

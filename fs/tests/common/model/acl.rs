//! Extended attributes and ACLs of the model.

use rustix::io::Errno;

use super::{Model, Place};
use crate::common::ops::{AclSpec, Outcome, SetXattr, WhichAcl};

impl Model {
    /// What the kernel says to a name before a filesystem sees it.
    pub(super) fn check_xattr(&self, id: u64, name: &str) -> Outcome {
        let kind = self.at(id).kind;
        match name {
            _ if name.starts_with("user.") && !matches!(kind, 'f' | 'd') => Err(Errno::PERM),
            "user." => Err(Errno::INVAL),
            "odd" => Err(Errno::OPNOTSUPP),
            _ if name.starts_with("system.") && kind == 'l' => Err(Errno::OPNOTSUPP),
            _ => Ok(()),
        }
    }

    pub(super) fn set_xattr(
        &mut self,
        path: &str,
        name: &str,
        value: &str,
        how: SetXattr,
    ) -> Outcome {
        let id = self.find(path)?;
        self.check_xattr(id, name)?;
        let there = self.at(id).xattrs.contains_key(name);
        match how {
            SetXattr::Create if there => return Err(Errno::EXIST),
            SetXattr::Replace if !there => return Err(Errno::NODATA),
            _ => {}
        }
        self.at_mut(id)
            .xattrs
            .insert(name.to_owned(), value.as_bytes().to_vec());
        self.changed(id);
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, path: &str, name: &str) -> Outcome {
        let id = self.find(path)?;
        self.check_xattr(id, name)?;
        let there = self.at_mut(id).xattrs.remove(name).is_some();
        if !there && !name.starts_with("system.") {
            return Err(Errno::NODATA);
        }
        self.changed(id);
        Ok(())
    }

    pub(super) fn set_acl(&mut self, path: &str, which: WhichAcl, acl: &AclSpec) -> Outcome {
        let id = self.find(path)?;
        self.check_xattr(id, which.name())?;
        let bytes = acl.to_bytes();
        if bytes.len() == 4 {
            self.at_mut(id).xattrs.remove(which.name());
            self.changed(id);
            return Ok(());
        }
        if which == WhichAcl::Default && self.at(id).kind != 'd' {
            return Err(Errno::ACCESS);
        }
        let named = has(&bytes, 2) || has(&bytes, 8);
        if !has(&bytes, 1) || !has(&bytes, 4) || !has(&bytes, 32) || (named && !has(&bytes, 16)) {
            return Err(Errno::INVAL);
        }
        let place = self.at_mut(id);
        match which {
            WhichAcl::Default => drop(place.xattrs.insert(which.name().to_owned(), bytes)),
            WhichAcl::Access => set_access(place, bytes),
        }
        self.changed(id);
        Ok(())
    }

    pub(super) fn chmod(&mut self, id: u64, mode: u16) {
        let place = self.at_mut(id);
        place.mode = mode;
        if let Some(mut acl) = place.xattrs.remove(WhichAcl::Access.name()) {
            let group = if has(&acl, 16) { 16 } else { 4 };
            for (tag, shift) in [(1, 6), (group, 3), (32, 0)] {
                set_perm(&mut acl, tag, (mode >> shift) & 7);
            }
            set_access(place, acl);
        }
        self.changed(id);
    }
}

/// An entry of an ACL: tag and permissions.
fn entries(acl: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    acl[4..].chunks(8).map(|entry| (entry[0], entry[2]))
}

fn has(acl: &[u8], tag: u8) -> bool {
    entries(acl).any(|(t, _)| t == tag)
}

fn perm(acl: &[u8], tag: u8) -> u16 {
    u16::from(entries(acl).find(|(t, _)| *t == tag).unwrap().1)
}

fn set_perm(acl: &mut [u8], tag: u8, perm: u16) {
    let entry = acl[4..]
        .chunks_mut(8)
        .find(|entry| entry[0] == tag)
        .unwrap();
    entry[2] = u8::try_from(perm).unwrap();
}

/// Gives a place an access ACL, or only the mode that says the same.
fn set_access(place: &mut Place, acl: Vec<u8>) {
    let group = if has(&acl, 16) { 16 } else { 4 };
    place.mode =
        (place.mode & !0o777) | (perm(&acl, 1) << 6) | (perm(&acl, group) << 3) | perm(&acl, 32);
    place.xattrs.remove(WhichAcl::Access.name());
    if acl.len() > 4 + 3 * 8 {
        place.xattrs.insert(WhichAcl::Access.name().to_owned(), acl);
    }
}

pub(super) fn inherit(place: &mut Place, default: &[u8]) {
    if place.kind == 'd' {
        place
            .xattrs
            .insert(WhichAcl::Default.name().to_owned(), default.to_vec());
    }
    let mut acl = default.to_vec();
    let group = if has(&acl, 16) { 16 } else { 4 };
    for (tag, shift) in [(1, 6), (group, 3), (32, 0)] {
        let both = perm(&acl, tag) & (place.mode >> shift);
        set_perm(&mut acl, tag, both);
    }
    set_access(place, acl);
}

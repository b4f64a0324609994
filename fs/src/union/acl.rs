//! POSIX ACLs in their xattr form: what they mean for the mode, and the mode for them (acl(5), POSIX 1003.1e draft 17).

use super::Errno;

/// The access ACL's attribute.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The default ACL's attribute, which a directory hands down.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The version that the xattr form begins with.
const VERSION: u32 = 2;
/// Length of that version.
const HEADER_BYTES: usize = 4;
/// Tag and permissions of two bytes each, an id of four; all little-endian.
const ENTRY_BYTES: usize = 8;
/// The id of an entry that has none.
const NO_ID: u32 = u32::MAX;

/// Whom an entry is about. Entries stand in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Other,
}

impl Tag {
    fn from_number(number: u16) -> Option<Self> {
        match number {
            0x01 => Some(Self::Owner),
            0x02 => Some(Self::User),
            0x04 => Some(Self::OwningGroup),
            0x08 => Some(Self::Group),
            0x10 => Some(Self::Mask),
            0x20 => Some(Self::Other),
            _ => None,
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::Owner => 0x01,
            Self::User => 0x02,
            Self::OwningGroup => 0x04,
            Self::Group => 0x08,
            Self::Mask => 0x10,
            Self::Other => 0x20,
        }
    }

    /// There may be any number of it, told apart by id.
    fn is_named(self) -> bool {
        matches!(self, Self::User | Self::Group)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    /// Read, write, execute: 0 to 7.
    perm: u16,
    id: u32,
}

/// A valid ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

impl Acl {
    /// Reads the xattr form; `None` for one without entries, which means no ACL.
    pub(super) fn parse(value: &[u8]) -> Result<Option<Self>, Errno> {
        let (version, rest) = value
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(Errno::Inval)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::NotSup);
        }
        let mut entries = Vec::new();
        for bytes in rest.chunks(ENTRY_BYTES) {
            entries.push(parse_entry(bytes).ok_or(Errno::Inval)?);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        if is_valid(&entries) {
            Ok(Some(Self(entries)))
        } else {
            Err(Errno::Inval)
        }
    }

    /// Returns the xattr form.
    pub fn to_bytes(&self) -> Box<[u8]> {
        let mut bytes = Vec::from(VERSION.to_le_bytes());
        for entry in &self.0 {
            bytes.extend(entry.tag.number().to_le_bytes());
            bytes.extend(entry.perm.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes.into()
    }

    /// Returns whether the nine permission bits say all that it says.
    pub fn is_mode(&self) -> bool {
        self.0
            .iter()
            .all(|entry| !entry.tag.is_named() && entry.tag != Tag::Mask)
    }

    /// Returns the nine permission bits: owner, mask (the owning group where there is none), others.
    pub fn mode(&self) -> u16 {
        let group = self.group_class();
        let shifted = self.0.iter().map(|entry| match entry.tag {
            Tag::Owner => entry.perm << 6,
            Tag::Other => entry.perm,
            tag if tag == group => entry.perm << 3,
            _ => 0,
        });
        shifted.fold(0, |mode, bits| mode | bits)
    }

    /// Follows a `chmod`.
    pub fn follow(&mut self, mode: u16) {
        let group = self.group_class();
        for entry in &mut self.0 {
            if let Some(bits) = class_bits(entry.tag, group, mode) {
                entry.perm = bits;
            }
        }
    }

    /// Becomes, from a directory's default ACL, the access ACL of a new inode for which `mode` was asked; returns the
    /// mode that it gets.
    pub fn inherit(&mut self, mode: u16) -> u16 {
        let group = self.group_class();
        for entry in &mut self.0 {
            if let Some(bits) = class_bits(entry.tag, group, mode) {
                entry.perm &= bits;
            }
        }
        (mode & !0o777) | self.mode()
    }

    /// The entry that the group bits of the mode stand for.
    fn group_class(&self) -> Tag {
        let has_mask = self.0.iter().any(|entry| entry.tag == Tag::Mask);
        if has_mask {
            Tag::Mask
        } else {
            Tag::OwningGroup
        }
    }
}

/// Returns the bits of `mode` that stand for an entry, if any do.
fn class_bits(tag: Tag, group_class: Tag, mode: u16) -> Option<u16> {
    match tag {
        Tag::Owner => Some((mode >> 6) & 7),
        Tag::Other => Some(mode & 7),
        tag if tag == group_class => Some((mode >> 3) & 7),
        _ => None,
    }
}

fn parse_entry(bytes: &[u8]) -> Option<Entry> {
    let [tag0, tag1, perm0, perm1, id @ ..] = bytes else {
        return None;
    };
    let tag = Tag::from_number(u16::from_le_bytes([*tag0, *tag1]))?;
    let id = u32::from_le_bytes(id.try_into().ok()?);
    let perm = u16::from_le_bytes([*perm0, *perm1]);
    let named = tag.is_named();
    (perm <= 7 && (!named || id != NO_ID)).then_some(Entry {
        tag,
        perm,
        id: if named { id } else { NO_ID },
    })
}

/// Owner, owning group and others once each, in order; a mask if anyone is named.
fn is_valid(entries: &[Entry]) -> bool {
    let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let ordered = entries.windows(2).all(|pair| match pair {
        [one, next] => one.tag < next.tag || (one.tag == next.tag && one.tag.is_named()),
        _ => true,
    });
    let named = entries.iter().any(|entry| entry.tag.is_named());
    ordered
        && count(Tag::Owner) == 1
        && count(Tag::OwningGroup) == 1
        && count(Tag::Other) == 1
        && (count(Tag::Mask) == 1 || !named)
}

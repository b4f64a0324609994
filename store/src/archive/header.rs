//! The 512-byte header block of every tar dialect. Decodes and encodes fields, never reads on.

use std::ops::Range;

use super::number;
use crate::Time;

/// A tar is made of these.
pub(super) const BLOCK_BYTES: usize = 512;
/// The same where lengths are counted.
pub(super) const BLOCK_BYTES_U64: u64 = 512;

/// One block.
pub(super) type Block = [u8; BLOCK_BYTES];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const VERSION: Range<usize> = 263..265;
const DEV_MAJOR: Range<usize> = 329..337;
const DEV_MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
/// star keeps access and change time behind a shorter prefix, and signs at the block's end.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_MAGIC: Range<usize> = 508..512;

/// The type flags that mean something here.
pub(super) mod kind {
    pub(in super::super) const OLD_FILE: u8 = 0;
    pub(in super::super) const FILE: u8 = b'0';
    pub(in super::super) const HARD_LINK: u8 = b'1';
    pub(in super::super) const SYMLINK: u8 = b'2';
    pub(in super::super) const CHAR: u8 = b'3';
    pub(in super::super) const BLOCK: u8 = b'4';
    pub(in super::super) const DIR: u8 = b'5';
    pub(in super::super) const FIFO: u8 = b'6';
    pub(in super::super) const CONTIGUOUS: u8 = b'7';
    /// GNU: a directory and, as data, the list of its names (incremental backups).
    pub(in super::super) const DUMP_DIR: u8 = b'D';
    /// GNU: a sparse file with its map in the header.
    pub(in super::super) const GNU_SPARSE: u8 = b'S';
    /// GNU: the volume's label.
    pub(in super::super) const VOLUME: u8 = b'V';
    /// GNU: the next entry's name.
    pub(in super::super) const LONG_NAME: u8 = b'L';
    /// GNU: the next entry's link target.
    pub(in super::super) const LONG_LINK: u8 = b'K';
    /// PAX: records for the next entry.
    pub(in super::super) const PAX: u8 = b'x';
    /// Solaris' name for the same.
    pub(in super::super) const SOLARIS_PAX: u8 = b'X';
    /// PAX: records for all entries to come.
    pub(in super::super) const PAX_GLOBAL: u8 = b'g';
}

/// A block whose checksum holds.
pub(super) struct Header(Block);

/// Why a block is no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChecksumMismatch;

/// A field that does not parse, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BadField(pub(super) &'static str);

/// Tells whether a block is all zeros, as the end of an archive is.
pub(super) fn is_zero(block: &Block) -> bool {
    block == &[0; BLOCK_BYTES]
}

/// Returns how many bytes fill `len` up to whole blocks.
pub(super) fn padding(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK_BYTES_U64
}

impl Header {
    /// Checks `block`. Sun's tar summed signed bytes: either sum will do.
    pub(super) fn new(block: &Block) -> Result<Self, ChecksumMismatch> {
        let stated = number::parse(&block[CHECKSUM]).ok_or(ChecksumMismatch)?;
        let unsigned: u32 = block.iter().copied().map(u32::from).sum();
        let field: u32 = block[CHECKSUM].iter().copied().map(u32::from).sum();
        // The sum is taken with the field itself blank.
        let blank = 8 * i64::from(b' ');
        if stated == i64::from(unsigned) - i64::from(field) + blank {
            return Ok(Self(*block));
        }
        let signed: i32 = block.iter().map(|b| i32::from(b.cast_signed())).sum();
        let field: i32 = block[CHECKSUM]
            .iter()
            .map(|b| i32::from(b.cast_signed()))
            .sum();
        if stated == i64::from(signed) - i64::from(field) + blank {
            Ok(Self(*block))
        } else {
            Err(ChecksumMismatch)
        }
    }

    /// The type flag.
    pub(super) fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    /// The whole block.
    pub(super) fn block(&self) -> &Block {
        &self.0
    }

    /// The name; POSIX and star keep the front of a long one in a field of its own. Appends to `name`.
    pub(super) fn name(&self, name: &mut Vec<u8>) {
        // GNU's magic is `ustar` and two spaces, and its times are where the prefix would be.
        if &self.0[MAGIC] == b"ustar\0" {
            let star = &self.0[STAR_MAGIC] == b"tar\0";
            let prefix = until_nul(&self.0[if star { STAR_PREFIX } else { PREFIX }]);
            if !prefix.is_empty() {
                name.extend_from_slice(prefix);
                name.push(b'/');
            }
        }
        name.extend_from_slice(until_nul(&self.0[NAME]));
    }

    /// Tells whether GNU's fields stand behind the device numbers.
    pub(super) fn is_gnu(&self) -> bool {
        &self.0[MAGIC] == b"ustar " && &self.0[VERSION] == b" \0"
    }

    /// The target of a link.
    pub(super) fn link(&self) -> &[u8] {
        until_nul(&self.0[LINK])
    }

    /// Permission bits; what old writers put above them (the file's type) is dropped.
    pub(super) fn mode(&self) -> Result<u16, BadField> {
        let mode = number::parse(&self.0[MODE]).ok_or(BadField("mode"))?;
        u16::try_from(mode & 0o7777).map_err(|_| BadField("mode"))
    }

    /// The owner.
    pub(super) fn uid(&self) -> Result<u32, BadField> {
        number::parse(&self.0[UID])
            .and_then(owner)
            .ok_or(BadField("uid"))
    }

    /// The group.
    pub(super) fn gid(&self) -> Result<u32, BadField> {
        number::parse(&self.0[GID])
            .and_then(owner)
            .ok_or(BadField("gid"))
    }

    /// Bytes of data behind the header.
    pub(super) fn size(&self) -> Result<u64, BadField> {
        number::parse(&self.0[SIZE])
            .and_then(|size| u64::try_from(size).ok())
            .ok_or(BadField("size"))
    }

    /// Last change.
    pub(super) fn mtime(&self) -> Result<Time, BadField> {
        let seconds = number::parse(&self.0[MTIME]).ok_or(BadField("mtime"))?;
        Ok(Time { seconds, nanos: 0 })
    }

    /// The device's number, as `makedev(3)` encodes it.
    pub(super) fn device(&self) -> Result<u64, BadField> {
        let part = |range: Range<usize>| {
            let part = number::parse(&self.0[range]).and_then(|part| u32::try_from(part).ok());
            part.ok_or(BadField("device number"))
        };
        Ok(rustix::fs::makedev(part(DEV_MAJOR)?, part(DEV_MINOR)?))
    }
}

/// Returns an owner as the kernel holds it. Writers with a signed type write 4294967294 as -2; -1 is what chown takes
/// as "leave it", so that it never is an owner, and anything wider must not wrap to root.
pub(super) fn owner(id: i64) -> Option<u32> {
    if id == -1 || id == i64::from(u32::MAX) {
        return None;
    }
    i32::try_from(id)
        .map(i32::cast_unsigned)
        .or_else(|_| u32::try_from(id))
        .ok()
}

/// Returns a text field up to its first NUL.
pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or(field)
}

/// The fields of a header to be written.
#[derive(Clone, Copy, Default)]
pub(super) struct Fields<'a> {
    /// At most 100 bytes, or at most 155 before some slash.
    pub(super) name: &'a [u8],
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Octal only: what does not fit stands in a PAX record.
    pub(super) mtime: u64,
    pub(super) kind: u8,
    /// At most 100 bytes.
    pub(super) link: &'a [u8],
    pub(super) device: Option<u64>,
}

/// The largest time that a header says in octal.
pub(super) const MTIME_MAX: u64 = (1 << 33) - 1;

impl Fields<'_> {
    /// Writes the block. A number that octal cannot hold goes in base-256, so that a reader that knows no PAX still
    /// finds the next header. `None` if a name does not fit.
    pub(super) fn encode(&self) -> Option<Block> {
        let mut block = [0; BLOCK_BYTES];
        let (prefix, name) = split(self.name)?;
        put(&mut block[NAME], name)?;
        put(&mut block[PREFIX], prefix)?;
        put(&mut block[LINK], self.link)?;
        number::write(&mut block[MODE], u64::from(self.mode));
        number::write(&mut block[UID], u64::from(self.uid));
        number::write(&mut block[GID], u64::from(self.gid));
        number::write(&mut block[SIZE], self.size);
        number::write(&mut block[MTIME], self.mtime.min(MTIME_MAX));
        block[TYPE] = self.kind;
        put(&mut block[MAGIC], b"ustar")?;
        put(&mut block[VERSION], b"00")?;
        let device = self.device.unwrap_or_default();
        number::write(&mut block[DEV_MAJOR], u64::from(rustix::fs::major(device)));
        number::write(&mut block[DEV_MINOR], u64::from(rustix::fs::minor(device)));
        put(&mut block[CHECKSUM], &[b' '; 8])?;
        let sum: u64 = block.iter().copied().map(u64::from).sum();
        // Six digits, a NUL, and the last of the spaces.
        number::write(&mut block[CHECKSUM.start..CHECKSUM.end - 1], sum);
        Some(block)
    }
}

fn put(field: &mut [u8], text: &[u8]) -> Option<()> {
    field.get_mut(..text.len())?.copy_from_slice(text);
    Some(())
}

/// Splits a name into what goes to the prefix field and to the name field; `None` if it does not fit.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME.len() {
        return Some((b"", name));
    }
    // The rightmost slash that the prefix can hold leaves the shortest rest. A rest that is empty would be a directory's
    // own trailing slash, lost: the slash before it has to do.
    let (body, _) = name.split_at_checked(name.len() - 1)?;
    let head = body.get(..body.len().min(PREFIX.len() + 1))?;
    let slash = head.iter().rposition(|b| *b == b'/')?;
    let (prefix, rest) = name.split_at_checked(slash)?;
    let rest = rest.get(1..)?;
    (!prefix.is_empty() && rest.len() <= NAME.len()).then_some((prefix, rest))
}

/// Tells whether a header holds `name` without PAX.
pub(super) fn name_fits(name: &[u8]) -> bool {
    split(name).is_some()
}

/// Tells whether a header holds a link's `target` without PAX.
pub(super) fn link_fits(target: &[u8]) -> bool {
    target.len() <= LINK.len()
}

/// Tells whether a header holds `id` in octal.
pub(super) fn owner_fits(id: u32) -> bool {
    number::fits_octal(UID.len(), u64::from(id))
}

/// Tells whether a header holds `size` in octal.
pub(super) fn size_fits(size: u64) -> bool {
    number::fits_octal(SIZE.len(), size)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn plain() -> Fields<'static> {
        Fields {
            name: b"a/b",
            mode: 0o644,
            uid: 1,
            gid: 2,
            size: 3,
            mtime: 4,
            kind: kind::FILE,
            ..Fields::default()
        }
    }

    fn name_of(header: &Header) -> Vec<u8> {
        let mut name = Vec::new();
        header.name(&mut name);
        name
    }

    #[test]
    fn fields_come_back() {
        let header = Header::new(&plain().encode().unwrap()).unwrap();
        assert_eq!(name_of(&header), b"a/b");
        assert_eq!(
            (header.mode(), header.uid(), header.gid()),
            (Ok(0o644), Ok(1), Ok(2))
        );
        assert_eq!(
            (header.size(), header.mtime()),
            (
                Ok(3),
                Ok(Time {
                    seconds: 4,
                    nanos: 0
                })
            )
        );
        assert_eq!(header.kind(), kind::FILE);
    }

    #[test]
    fn one_changed_bit_breaks_the_checksum() {
        let good = plain().encode().unwrap();
        for place in [0, 100, 156, 300, 511] {
            let mut block = good;
            block[place] ^= 1;
            assert!(Header::new(&block).is_err(), "byte {place}");
        }
        assert!(Header::new(&[0xff; BLOCK_BYTES]).is_err());
    }

    #[test]
    fn signed_checksums_of_old_writers_hold() {
        let mut block = Fields {
            name: b"h\xe9llo\xff",
            ..plain()
        }
        .encode()
        .unwrap();
        block[CHECKSUM].copy_from_slice(b"        ");
        let signed: i32 = block.iter().map(|b| i32::from(b.cast_signed())).sum();
        block[CHECKSUM].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
        assert_eq!(name_of(&Header::new(&block).unwrap()), b"h\xe9llo\xff");
    }

    #[test]
    fn long_names_use_the_prefix_where_a_slash_allows() {
        let fits = format!("{}/{}", "p".repeat(155), "n".repeat(100));
        let header = Header::new(
            &Fields {
                name: fits.as_bytes(),
                ..plain()
            }
            .encode()
            .unwrap(),
        )
        .unwrap();
        assert_eq!(name_of(&header), fits.as_bytes());
        let dir = format!("{}/{}/", "p".repeat(90), "n".repeat(98));
        let header = Header::new(
            &Fields {
                name: dir.as_bytes(),
                ..plain()
            }
            .encode()
            .unwrap(),
        )
        .unwrap();
        assert_eq!(name_of(&header), dir.as_bytes());
        assert!(!name_fits(
            format!("{}/{}", "p".repeat(156), "n".repeat(100)).as_bytes()
        ));
        assert!(!name_fits("n".repeat(101).as_bytes()));
        assert!(!name_fits(format!("{}/", "n".repeat(100)).as_bytes()));
        assert!(!name_fits(format!("/{}", "n".repeat(100)).as_bytes()));
    }

    #[test]
    fn gnu_and_v7_headers_have_no_prefix() {
        for magic in [b"ustar \x20\0", b"\0\0\0\0\0\0\0\0"] {
            let mut block = plain().encode().unwrap();
            block[257..265].copy_from_slice(magic);
            block[345..357].copy_from_slice(b"15301231706\0");
            let header = Header(block);
            assert_eq!(name_of(&header), b"a/b");
        }
    }

    #[test]
    fn star_has_a_shorter_prefix() {
        let mut block = plain().encode().unwrap();
        block[345..350].copy_from_slice(b"front");
        block[476..488].copy_from_slice(b"15301231706 ");
        block[STAR_MAGIC].copy_from_slice(b"tar\0");
        assert_eq!(name_of(&Header(block)), b"front/a/b");
    }

    #[test]
    fn owners_never_wrap_to_root() {
        let cases = [
            (0, Some(0)),
            (3_000_000_000, Some(3_000_000_000)),
            (-2, Some(4_294_967_294)),
            (-1, None),
            (4_294_967_295, None),
            (4_294_967_296, None),
            (i64::MIN, None),
        ];
        for (id, owner_id) in cases {
            assert_eq!(owner(id), owner_id, "{id}");
        }
    }

    #[test]
    fn devices_and_large_numbers_come_back() {
        let device = Some(rustix::fs::makedev(259, 1_048_575));
        let fields = Fields {
            kind: kind::CHAR,
            uid: 4_294_967_294,
            size: 1 << 40,
            device,
            ..plain()
        };
        let header = Header::new(&fields.encode().unwrap()).unwrap();
        assert_eq!(header.device().ok(), device);
        assert_eq!(
            (header.uid(), header.size()),
            (Ok(4_294_967_294), Ok(1 << 40))
        );
    }

    #[test]
    fn padding_fills_blocks() {
        for (len, fill) in [
            (0, 0),
            (1, 511),
            (511, 1),
            (512, 0),
            (513, 511),
            (u64::MAX, 1),
        ] {
            assert_eq!(padding(len), fill, "{len}");
        }
    }
}

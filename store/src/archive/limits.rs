//! What an archive may ask for. Holds the numbers and their reasons; never enforces them.

/// What an archive may ask for before it is refused; every limit has a default and can be overridden.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Uncompressed bytes of one layer.
    pub layer_bytes_max: u64,
    /// Uncompressed over compressed bytes, looked at beyond `inflate_grace_bytes`.
    pub inflate_ratio_max: u64,
    /// Uncompressed bytes of which no ratio is asked.
    pub inflate_grace_bytes: u64,
    /// Entries of one layer.
    pub entries_max: u64,
    /// Bytes of one PAX or GNU extension header.
    pub extension_bytes_max: u64,
    /// Bytes of names and attributes that global PAX headers may hold for the entries to come.
    pub global_bytes_max: usize,
    /// Bytes that belong to no file: data of entries that make none, and what follows the end blocks.
    pub unplaced_bytes_max: u64,
    /// Components of a path.
    pub depth_max: usize,
    /// Bytes of one extended attribute's value.
    pub xattr_bytes_max: usize,
    /// Bytes of all extended attributes of one entry, names and values.
    pub xattrs_bytes_max: usize,
    /// Runs of one sparse file.
    pub extents_max: usize,
}

/// Twice the largest compressed layer that the big registries take (52 GB), so that a layer of model weights passes
/// and a bomb that keeps below the ratio still ends.
const LAYER_BYTES_MAX: u64 = 128 << 30;

/// Deflate reaches 1032:1, and only on zeros; text stays below 50:1 and a layer of debug logs below 200:1. Half of
/// deflate's best refuses pure zeros (a bomb) and passes a large empty disk image that comes with anything else.
const INFLATE_RATIO_MAX: u64 = 512;

/// The ratio is looked at only beyond this: a layer may be one swap file or empty database of zeros, and what was
/// committed here must be pulled back. A bomb costs this much of the disk, for seconds, and no more.
const INFLATE_GRACE_BYTES: u64 = 4 << 30;

/// The largest images that are known have 2 million files; each entry costs its record in the store.
const ENTRIES_MAX: u64 = 10_000_000;

/// What Go's reader allows since CVE-2022-2879: an extension header is held in memory whole.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// Global records come back with every later entry of 512 bytes, so that they multiply; a commit's name is 52 bytes.
const GLOBAL_BYTES_MAX: usize = 4 << 10;

/// These bytes stay in the stream of headers, that is kept for good; real ones are padding of 10 KiB or so.
const UNPLACED_BYTES_MAX: u64 = 256 << 20;

/// PATH_MAX of Linux: a deeper path of components of one byte could not even be spelled in one call.
const DEPTH_MAX: usize = 4096;

/// XATTR_SIZE_MAX of Linux.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Sixteen attributes of the largest size; ext4 holds one.
const XATTRS_BYTES_MAX: usize = 1 << 20;

/// A map of 16 MiB in memory: a disk image of 4 GiB with every second block a hole has half of it.
const EXTENTS_MAX: usize = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes_max: LAYER_BYTES_MAX,
            inflate_ratio_max: INFLATE_RATIO_MAX,
            inflate_grace_bytes: INFLATE_GRACE_BYTES,
            entries_max: ENTRIES_MAX,
            extension_bytes_max: EXTENSION_BYTES_MAX,
            global_bytes_max: GLOBAL_BYTES_MAX,
            unplaced_bytes_max: UNPLACED_BYTES_MAX,
            depth_max: DEPTH_MAX,
            xattr_bytes_max: XATTR_BYTES_MAX,
            xattrs_bytes_max: XATTRS_BYTES_MAX,
            extents_max: EXTENTS_MAX,
        }
    }
}

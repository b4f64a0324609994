//! The database: the only module that names RocksDB. Knows families, keys and bytes; never what they mean.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, DBRawIterator, MergeOperands, Options, ReadOptions, WaitForCompactOptions,
    WriteBatch, WriteOptions,
};

use crate::room::Room;
use crate::{Error, Result};

/// Memory for what is not flushed yet, all families together.
const WRITE_BUFFERS_BYTES: usize = 160 << 20;

/// One family's share before it is flushed: large enough that a layer of small files is a few flushes. RocksDB recovers from
/// a full disk by itself once it finds that much free, so it is less than `room`'s reserve.
const SMALL_BUFFER_BYTES: usize = 24 << 20;

/// Size of a file of small contents.
const BLOB_FILE_BYTES: u64 = 64 << 20;

/// The same for the index families.
const INDEX_BUFFER_BYTES: usize = 16 << 20;

/// WAL that may have to be replayed after an unclean end (about 50 ms), and that a full disk must have room for as tables:
/// as much as `room`'s reserve.
const WAL_BYTES_MAX: u64 = 32 << 20;

/// How long is waited for tables that are being written anew when a disk becomes tight.
const QUIET: Duration = Duration::from_secs(5);

/// How long is waited for RocksDB to notice that there is room again: it looks every five seconds.
const RECOVERY: Duration = Duration::from_secs(12);

/// How often that is asked for.
const RECOVERY_STEP: Duration = Duration::from_millis(200);

/// Open table files: far above what a store of hundreds of images has, far below RLIMIT_NOFILE's usual 1024.
const OPEN_FILES_MAX: i32 = 400;

/// Contents below this stay in the table itself: a separate place would cost more than they do.
const BLOB_BYTES_MIN: u64 = 512;

/// The column families.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// Small objects under typed keys: see `catalog.rs`.
    Catalog,
    /// (inode, !layer) → inode.
    Inodes,
    /// (inode, !layer, first name) → page of a directory.
    Dirs,
    /// (layer, inode) → nothing.
    Changed,
    /// digest → place and size; digest, `#` → how many hold it.
    Blobs,
    /// (pack, index) → content of a small blob.
    Small,
    /// (record, part, chunk) → compressed entries or headers of a layer archive.
    Records,
    /// (upper, tag, …) → overrides of a writable layer.
    Upper,
}

impl Family {
    /// All of them, in the order of the README's table.
    pub(crate) const ALL: [Family; 8] = [
        Family::Catalog,
        Family::Inodes,
        Family::Dirs,
        Family::Changed,
        Family::Blobs,
        Family::Small,
        Family::Records,
        Family::Upper,
    ];

    /// Its name on disk.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            // RocksDB insists on a family of this name.
            Family::Catalog => "default",
            Family::Inodes => "inodes",
            Family::Dirs => "dirs",
            Family::Changed => "changed",
            Family::Blobs => "blobs",
            Family::Small => "small",
            Family::Records => "records",
            Family::Upper => "upper",
        }
    }

    fn options(self, cache: &Cache, divisor: usize) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_format_version(6);
        table.set_block_size(16 << 10);
        let mut options = Options::default();
        options.set_write_buffer_size(INDEX_BUFFER_BYTES / divisor);
        options.set_compression_type(DBCompressionType::Zstd);
        match self {
            Family::Inodes | Family::Blobs | Family::Upper => table.set_bloom_filter(10.0, false),
            Family::Records => options.set_compression_type(DBCompressionType::None),
            Family::Small => {
                options.set_write_buffer_size(SMALL_BUFFER_BYTES / divisor);
                options.set_enable_blob_files(true);
                options.set_min_blob_size(BLOB_BYTES_MIN);
                options.set_blob_compression_type(DBCompressionType::Lz4);
                options.set_blob_file_size(BLOB_FILE_BYTES);
            }
            Family::Catalog | Family::Dirs | Family::Changed => {}
        }
        if self == Family::Blobs {
            options.set_merge_operator_associative("count", merge_count);
        }
        options.set_block_based_table_factory(&table);
        options
    }
}

/// Adds counts: 64-bit two's complement, little endian. What is no count makes the merge fail, which RocksDB
/// reports as corruption.
fn merge_count(_key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let mut sum = 0i64;
    for operand in existing.into_iter().chain(operands) {
        sum = sum.checked_add(i64::from_le_bytes(operand.try_into().ok()?))?;
    }
    Some(sum.to_le_bytes().to_vec())
}

/// How far a write must have got when it returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Durability {
    /// In memory: lost by a crash unless the family is flushed.
    Unlogged,
    /// In the WAL: survives us, and power loss once a later write is synced.
    Logged,
    /// On disk, with every logged write before it.
    Synced,
}

/// The open database.
pub(crate) struct Db {
    inner: DB,
    room: Arc<Room>,
    /// Logged since everything was flushed last, at most.
    logged: AtomicU64,
    log_bytes_max: u64,
    /// Free bytes without which RocksDB does not recover from a full disk.
    needed: u64,
    /// The disk is tight, and the families have been told.
    lean: AtomicBool,
    /// Serialises what is done on a tight disk. Rank: before the room's.
    thrift: Mutex<()>,
}

fn db_error(error: rocksdb::Error) -> Error {
    let text = error.into_string();
    // RocksDB has a code for this, its C interface only these words (its own, whatever the locale).
    if text.starts_with("IO error: No space left on device") {
        return Error::DbFull(text);
    }
    Error::Db(text)
}

impl Db {
    /// Opens or makes the database, with so much memory for blocks of all families together; what it keeps in memory before
    /// it writes tables is smaller than usual on a small disk.
    pub(crate) fn open(path: &Path, room: &Arc<Room>, cache_bytes: usize) -> Result<Db> {
        let divisor = room.buffers_divisor().max(1);
        let cache = Cache::new_lru_cache(cache_bytes);
        // Off: of what is left of a disk, a new log would take up to `WAL_BYTES_MAX` for itself, and the tables that free the
        // old ones would find nothing. RocksDB has this switch in its text form alone.
        let mut options = Options::default()
            .get_options_from_string("allow_fallocate=false")
            .map_err(db_error)?;
        let log_bytes_max = WAL_BYTES_MAX / divisor as u64;
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES / divisor);
        options.set_max_total_wal_size(log_bytes_max);
        options.set_max_open_files(OPEN_FILES_MAX);
        // Contents and records lie in the order of their archive, which is that of a walk: the host's readahead finds out by itself
        // whether it is one.
        options.set_advise_random_on_open(false);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        options.set_wal_bytes_per_sync(1 << 20);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_skip_stats_update_on_db_open(true);
        let families =
            Family::ALL.map(|f| ColumnFamilyDescriptor::new(f.name(), f.options(&cache, divisor)));
        let inner = DB::open_cf_descriptors(&options, path, families).map_err(db_error)?;
        Ok(Db {
            inner,
            room: Arc::clone(room),
            logged: AtomicU64::new(0),
            log_bytes_max,
            needed: (SMALL_BUFFER_BYTES / divisor) as u64,
            lean: AtomicBool::new(false),
            thrift: Mutex::new(()),
        })
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily> {
        self.inner
            .cf_handle(family.name())
            .ok_or_else(|| Error::corrupt("column family", family.name()))
    }

    /// Reads a value.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner
            .get_cf(self.family(family)?, key)
            .map_err(db_error)
    }

    /// Reads a value where it lies, without a copy.
    pub(crate) fn with<T>(
        &self,
        family: Family,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        let value = self
            .inner
            .get_pinned_cf(self.family(family)?, key)
            .map_err(db_error)?;
        Ok(value.map(|v| read(&v)))
    }

    /// Says whether a key is there.
    pub(crate) fn has(&self, family: Family, key: &[u8]) -> Result<bool> {
        Ok(self.with(family, key, |_| ())?.is_some())
    }

    /// Starts a batch.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            db: self,
            inner: WriteBatch::default(),
        }
    }

    /// Reads all pairs whose key starts with `prefix`, ascending.
    pub(crate) fn scan(&self, family: Family, prefix: &[u8]) -> Result<Scan<'_>> {
        self.scan_from(family, prefix, prefix)
    }

    /// The same, from key `start` on.
    pub(crate) fn scan_from(
        &self,
        family: Family,
        prefix: &[u8],
        start: &[u8],
    ) -> Result<Scan<'_>> {
        self.scan_until(family, start, prefix_end(prefix))
    }

    /// Reads all pairs from key `start` to before `end`, ascending.
    pub(crate) fn scan_between(
        &self,
        family: Family,
        start: &[u8],
        end: &[u8],
    ) -> Result<Scan<'_>> {
        self.scan_until(family, start, Some(end.to_vec()))
    }

    fn scan_until(&self, family: Family, start: &[u8], end: Option<Vec<u8>>) -> Result<Scan<'_>> {
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        let mut inner = self
            .inner
            .raw_iterator_cf_opt(self.family(family)?, options);
        inner.seek(start);
        Ok(Scan {
            inner,
            started: false,
        })
    }

    /// Makes every logged write durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.inner.flush_wal(true).map_err(db_error)
    }

    /// Moves a family's writes from memory to tables, unlogged ones too; durable when it returns.
    pub(crate) fn flush(&self, family: Family) -> Result<()> {
        self.inner.flush_cf(self.family(family)?).map_err(db_error)
    }

    /// The same for all families.
    pub(crate) fn flush_all(&self) -> Result<()> {
        if self.room.is_tight() {
            let _serial = self.thrift.lock();
            return self.flush_tight();
        }
        self.sync()?;
        for family in Family::ALL {
            self.flush(family)?;
        }
        self.logged.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// To be called before `bytes` are logged: on a tight disk there is room for them first. A log of more than a step is
    /// written into tables, which takes less and frees it, and tables are not written anew meanwhile: that
    /// takes room before it gives some back.
    fn before_logging(&self, bytes: u64) -> Result<()> {
        let tight = self.room.is_tight();
        if !tight && !self.lean.load(Ordering::Relaxed) {
            self.logged.fetch_add(bytes, Ordering::Relaxed);
            return Ok(());
        }
        let _serial = self.thrift.lock();
        if self.lean.load(Ordering::Relaxed) != tight {
            if tight {
                self.wait_until_quiet();
            }
            self.room.make(self.room.step());
            let value = if tight { "true" } else { "false" };
            for family in Family::ALL {
                self.inner
                    .set_options_cf(self.family(family)?, &[("disable_auto_compactions", value)])
                    .map_err(db_error)?;
            }
            self.lean.store(tight, Ordering::Relaxed);
        }
        if tight && self.logged.load(Ordering::Relaxed) + bytes > self.room.step() {
            self.flush_tight()?;
        }
        self.room.make(bytes);
        self.logged.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Writes what is in memory into tables out of what is free and the reserve, which is taken back afterwards.
    fn flush_tight(&self) -> Result<()> {
        let logged = self.logged.load(Ordering::Relaxed).min(self.log_bytes_max);
        self.room.make(logged);
        self.sync()?;
        for family in Family::ALL {
            // Unlogged contents of a layer that is on its way in: it is about to be refused, and what was deleted in memory
            // needs no room.
            if family == Family::Small && self.bytes_in_memory(family)? > self.room.free()? {
                continue;
            }
            match self.flush(family) {
                // It flushes everything to recover.
                Err(Error::DbFull(_)) if self.recovers() => {}
                flushed => flushed?,
            }
        }
        self.logged.store(0, Ordering::Relaxed);
        self.room.take_back();
        Ok(())
    }

    /// Tables that are being written anew take what is given back: they come to their end, or fail, before that.
    fn wait_until_quiet(&self) {
        let mut options = WaitForCompactOptions::default();
        options.set_timeout(u64::try_from(QUIET.as_micros()).unwrap_or(u64::MAX));
        if let Err(error) = self.inner.wait_for_compact(&options) {
            tracing::debug!(%error, "the database is not quiet");
        }
    }

    /// RocksDB has met a full disk, in the background perhaps, and writes nothing: gives it all of the reserve, and says
    /// whether it goes on with that.
    fn recovers(&self) -> bool {
        self.room.make(u64::MAX);
        let begun = Instant::now();
        let mut options = WriteOptions::default();
        options.set_sync(true);
        while begun.elapsed() < RECOVERY && self.room.free().is_ok_and(|free| free >= self.needed) {
            match self.inner.write_opt(WriteBatch::default(), &options) {
                Ok(()) => {
                    tracing::warn!(waited = ?begun.elapsed(), "the database goes on after it met a full disk");
                    return true;
                }
                Err(error) => tracing::debug!(%error, "the database has not recovered yet"),
            }
            std::thread::sleep(RECOVERY_STEP);
        }
        false
    }

    fn bytes_in_memory(&self, family: Family) -> Result<u64> {
        let bytes = self
            .inner
            .property_int_value_cf(self.family(family)?, "rocksdb.cur-size-all-mem-tables");
        Ok(bytes.map_err(db_error)?.unwrap_or(0))
    }

    /// Gives the space of deleted keys from `from` to before `to` back to the host.
    pub(crate) fn compact(&self, family: Family, from: &[u8], to: &[u8]) -> Result<()> {
        let handle = self.family(family)?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        self.inner
            .compact_range_cf_opt(handle, Some(from), Some(to), &options);
        Ok(())
    }

    /// Says whether compactions of separate values also collect what is left of half-empty files. Only a
    /// removal wants that: in every other compaction it would copy live content about.
    pub(crate) fn collect_garbage(&self, family: Family, on: bool) -> Result<()> {
        let on = if on { "true" } else { "false" };
        let options = [
            ("enable_blob_garbage_collection", on),
            ("blob_garbage_collection_age_cutoff", "1.0"),
        ];
        self.inner
            .set_options_cf(self.family(family)?, &options)
            .map_err(db_error)
    }
}

/// The first key after all that start with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// A run of pairs, ascending.
pub(crate) struct Scan<'a> {
    inner: DBRawIterator<'a>,
    started: bool,
}

impl Scan<'_> {
    /// Steps to the next pair.
    pub(crate) fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.started && self.inner.valid() {
            self.inner.next();
        }
        self.started = true;
        if !self.inner.valid() {
            self.inner.status().map_err(db_error)?;
        }
        Ok(self.inner.item())
    }
}

/// Changes that happen together.
pub(crate) struct Batch<'a> {
    db: &'a Db,
    inner: WriteBatch,
}

impl Batch<'_> {
    /// Sets a value.
    pub(crate) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<()> {
        self.inner.put_cf(self.db.family(family)?, key, value);
        Ok(())
    }

    /// Adds to a count.
    pub(crate) fn add(&mut self, family: Family, key: &[u8], delta: i64) -> Result<()> {
        self.inner
            .merge_cf(self.db.family(family)?, key, delta.to_le_bytes());
        Ok(())
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, family: Family, key: &[u8]) -> Result<()> {
        self.inner.delete_cf(self.db.family(family)?, key);
        Ok(())
    }

    /// Removes all keys that start with `prefix`.
    pub(crate) fn delete_prefix(&mut self, family: Family, prefix: &[u8]) -> Result<()> {
        let handle = self.db.family(family)?;
        if let Some(end) = prefix_end(prefix) {
            self.inner.delete_range_cf(handle, prefix, &end);
        }
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.size_in_bytes()
    }

    /// Does the changes, all or none.
    pub(crate) fn write(self, durability: Durability) -> Result<()> {
        if self.inner.is_empty() && durability != Durability::Synced {
            return Ok(());
        }
        if durability != Durability::Unlogged {
            self.db.before_logging(self.inner.size_in_bytes() as u64)?;
        }
        let mut options = WriteOptions::default();
        match durability {
            Durability::Unlogged => options.disable_wal(true),
            Durability::Logged => {}
            Durability::Synced => options.set_sync(true),
        }
        let again = self.db.room.is_tight().then(|| self.inner.data().to_vec());
        let written = self.db.inner.write_opt(self.inner, &options);
        match (written.map_err(db_error), again) {
            (Err(Error::DbFull(_)), Some(batch)) if self.db.recovers() => {
                let batch = WriteBatch::from_data(&batch);
                self.db.inner.write_opt(batch, &options).map_err(db_error)
            }
            (written, _) => written,
        }
    }
}

#[cfg(test)]
mod tests;

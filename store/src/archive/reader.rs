//! A tar's bytes in, entries out. Never opens a path, never keeps content.

use std::io::{Read, Write};

use super::context::Context;
use super::entry::{Entry, EntryKind};
use super::error::ArchiveError;
use super::header::{self, BLOCK_BYTES, BLOCK_BYTES_U64, Block, Header, kind, padding, until_nul};
use super::input::{self, Input, count};
use super::limits::Limits;
use super::path;
use super::pax::Pax;
use crate::FileName;

mod shape;

/// PATH_MAX of Linux without its NUL: no kernel makes a longer symbolic link.
const SYMLINK_BYTES_MAX: usize = 4095;

/// Room for what almost every extension header holds.
const EXTENSION_BYTES_USUAL: usize = 4 << 10;

/// Reads the entries of an uncompressed tar.
///
/// Every byte that is no file's content (headers, extensions, sparse maps, data of entries that make no file, padding,
/// end blocks, what follows them) goes to `headers` as it is, so that the archive can be rebuilt bit for bit: the
/// content of each `File` entry belongs where [`header_bytes`](Self::header_bytes) stood when the entry was returned.
/// Entries that are skipped (aufs' leftovers, volume labels) are in the header stream whole.
///
/// After an error the reader is at no defined place; it is of no further use.
pub struct Reader<R, H> {
    input: Input<R, H>,
    context: Context,
    /// What global headers said so far.
    globals: Pax,
    entries: u64,
    unplaced: u64,
    content_left: u64,
    padding_left: u64,
    done: bool,
}

/// What extension headers say of the entry that follows them.
#[derive(Default)]
struct Ahead {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read, H: Write> Reader<R, H> {
    /// Starts at the first byte of `archive`.
    pub fn new(archive: R, headers: H, limits: Limits) -> Self {
        Self {
            input: Input::new(archive, headers, limits.layer_bytes_max),
            context: Context {
                limits,
                name: Vec::new(),
                at: 0,
            },
            globals: Pax::default(),
            entries: 0,
            unplaced: 0,
            content_left: 0,
            padding_left: 0,
            done: false,
        }
    }

    /// Returns the next entry, or `None` at the end, when the input has been read to its last byte.
    /// What is left of the previous entry's content is skipped (and is lost: callers read it all).
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.leave_entry()?;
        let mut ahead = Ahead::default();
        while let Some(header) = self.next_header()? {
            match header.kind() {
                kind::PAX | kind::SOLARIS_PAX => {
                    let body = self.read_extension(&header)?;
                    let mut pax = self.globals.clone();
                    pax.apply(&body, &self.context.limits)
                        .map_err(|fault| self.context.pax_error(fault))?;
                    ahead.pax = Some(pax);
                }
                kind::PAX_GLOBAL => {
                    let body = self.read_extension(&header)?;
                    self.apply_globals(&body)?;
                }
                kind::LONG_NAME => ahead.name = Some(self.read_long(&header)?),
                kind::LONG_LINK => ahead.link = Some(self.read_long(&header)?),
                kind::VOLUME => {
                    let size = header
                        .size()
                        .map_err(|field| self.context.field_error(field))?;
                    self.keep_data(size)?;
                    ahead = Ahead::default();
                }
                _ => {
                    if let Some(entry) = self.read_entry(&header, std::mem::take(&mut ahead))? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Reads stored content of the entry returned last (of a sparse file: the runs' bytes, one after another);
    /// 0 at its end.
    pub fn read_content(&mut self, buf: &mut [u8]) -> Result<usize, ArchiveError> {
        if self.content_left == 0 || buf.is_empty() {
            return Ok(0);
        }
        match self.input.take(buf, self.content_left) {
            Ok(got) => {
                self.content_left -= count(got);
                Ok(got)
            }
            Err(fault) => Err(self.context.input_error(fault, "content")),
        }
    }

    /// Bytes that went to `headers` so far. Right after [`next_entry`](Self::next_entry) returned a `File`, this is
    /// where its stored content has to be put back.
    pub fn header_bytes(&self) -> u64 {
        self.input.header_bytes()
    }

    /// Passes the rest of the entry before, its padding to the headers.
    fn leave_entry(&mut self) -> Result<(), ArchiveError> {
        let (content, padding) = (self.content_left, self.padding_left);
        self.content_left = 0;
        self.padding_left = 0;
        self.input
            .skip(content)
            .map_err(|fault| self.context.input_error(fault, "content"))?;
        self.input
            .keep(padding)
            .map_err(|fault| self.context.input_error(fault, "padding"))
    }

    /// Returns the next header; at the end of the archive, keeps what is left and returns `None`.
    fn next_header(&mut self) -> Result<Option<Header>, ArchiveError> {
        if self.done {
            return Ok(None);
        }
        self.context.name.clear();
        self.context.at = self.input.offset();
        let Some(block) = self.peek_block()? else {
            return self.finish();
        };
        if header::is_zero(&block) {
            self.check_end()?;
            return self.finish();
        }
        let header = Header::new(&block).map_err(|_| ArchiveError::BadChecksum {
            at: self.context.place(),
        })?;
        self.keep_block("header")?;
        header.name(&mut self.context.name);
        Ok(Some(header))
    }

    /// Returns the next block without taking it; `None` at the end of the input.
    fn peek_block(&mut self) -> Result<Option<Block>, ArchiveError> {
        let result = match self.input.peek(BLOCK_BYTES) {
            Ok([]) => return Ok(None),
            Ok(window) => window
                .first_chunk::<BLOCK_BYTES>()
                .copied()
                .ok_or(input::Fault::Ended),
            Err(fault) => Err(fault),
        };
        result
            .map(Some)
            .map_err(|fault| self.context.input_error(fault, "header"))
    }

    fn keep_block(&mut self, what: &'static str) -> Result<(), ArchiveError> {
        self.input
            .keep(BLOCK_BYTES_U64)
            .map_err(|fault| self.context.input_error(fault, what))
    }

    /// Two blocks of zeros end an archive, or one that nothing follows. Readers disagree about entries behind a lone
    /// one, so that nobody could say what such a layer holds: refuse it, as Go's do.
    fn check_end(&mut self) -> Result<(), ArchiveError> {
        let window = self.input.peek(2 * BLOCK_BYTES);
        let lone = window.map(|window| window.iter().take(2 * BLOCK_BYTES).any(|b| *b != 0));
        match lone {
            Ok(false) => Ok(()),
            Ok(true) => {
                let reason = "something follows a single block of zeros, an archive ends with two";
                Err(ArchiveError::BadHeader {
                    at: self.context.place(),
                    reason,
                })
            }
            Err(fault) => Err(self.context.input_error(fault, "end")),
        }
    }

    /// Keeps everything up to the end of the input: a layer's digest covers what follows the end blocks too.
    fn finish(&mut self) -> Result<Option<Header>, ArchiveError> {
        self.done = true;
        loop {
            match self.input.is_empty() {
                Ok(true) => break,
                Ok(false) => self.keep_unplaced(count(self.input.buffered()), "end")?,
                Err(fault) => return Err(self.context.input_error(fault, "end")),
            }
        }
        self.input
            .flush_headers()
            .map_err(|fault| self.context.input_error(fault, "end"))?;
        Ok(None)
    }

    /// Reads an extension header's body whole.
    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let size = header
            .size()
            .map_err(|field| self.context.field_error(field))?;
        let max = self.context.limits.extension_bytes_max;
        if size > max {
            return Err(self.context.limit_error(
                "extension_bytes_max",
                "bytes of an extension header",
                max,
            ));
        }
        // The header claims a size, the data has to prove it.
        let claimed = usize::try_from(size).unwrap_or_default();
        let mut body = Vec::with_capacity(claimed.min(EXTENSION_BYTES_USUAL));
        self.input
            .keep_each(size, |piece| body.extend_from_slice(piece))
            .and_then(|()| self.input.keep(padding(size)))
            .map_err(|fault| self.context.input_error(fault, "extension header"))?;
        Ok(body)
    }

    /// Reads the body of a GNU long name: it ends with a NUL.
    fn read_long(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let mut name = self.read_extension(header)?;
        name.truncate(until_nul(&name).len());
        Ok(name)
    }

    fn apply_globals(&mut self, body: &[u8]) -> Result<(), ArchiveError> {
        let mut globals = std::mem::take(&mut self.globals);
        globals
            .apply(body, &self.context.limits)
            .map_err(|fault| self.context.pax_error(fault))?;
        let max = self.context.limits.global_bytes_max;
        if globals.bytes() > max {
            return Err(self.context.limit_error(
                "global_bytes_max",
                "bytes of global PAX records",
                count(max),
            ));
        }
        self.globals = globals;
        Ok(())
    }

    /// Reads what makes an entry, or `None` if it means nothing; its content, if it has any, is next.
    fn read_entry(&mut self, header: &Header, ahead: Ahead) -> Result<Option<Entry>, ArchiveError> {
        self.entries += 1;
        if self.entries > self.context.limits.entries_max {
            return Err(self.context.limit_error(
                "entries_max",
                "entries",
                self.context.limits.entries_max,
            ));
        }
        let mut pax = ahead.pax.unwrap_or_else(|| self.globals.clone());
        self.choose_name(header, ahead.name, &pax);
        let size = pax
            .size
            .map_or_else(|| header.size(), Ok)
            .map_err(|field| self.context.field_error(field))?;
        // Whatever the entry turns out to be, first get to its data's end right: a size that is believed or not decides
        // what the next header is.
        let (shape, kind) = match header.kind() {
            kind::FILE | kind::OLD_FILE | kind::CONTIGUOUS | kind::GNU_SPARSE => {
                let shape = self.read_shape(header, &pax, size)?;
                // Before there was a type for it, a directory was a file with a slash.
                if shape.extents.is_none() && self.context.name.last() == Some(&b'/') {
                    self.keep_data(shape.stored)?;
                    (None, EntryKind::Dir)
                } else {
                    let kind = EntryKind::File {
                        size: shape.size,
                        extents: shape.extents,
                    };
                    (Some(shape.stored), kind)
                }
            }
            kind::DUMP_DIR => {
                self.keep_data(size)?;
                (None, EntryKind::Dir)
            }
            _ => {
                let kind = self.read_kind(header, ahead.link.or(pax.link.take().map(Vec::from)))?;
                self.keep_doubtful_data(size)?;
                (None, kind)
            }
        };
        self.make_entry(header, &mut pax, kind, shape)
    }

    /// GNU's long name comes before PAX's, as in Go's reader: what a registry's other users see is what we see.
    fn choose_name(&mut self, header: &Header, long: Option<Vec<u8>>, pax: &Pax) {
        let regular = matches!(
            header.kind(),
            kind::FILE | kind::OLD_FILE | kind::CONTIGUOUS
        );
        let sparse = pax.sparse.name().filter(|_| regular);
        if let Some(name) = sparse.or(long.as_deref()).or(pax.path.as_deref()) {
            self.context.name.clear();
            self.context.name.extend_from_slice(name);
        }
    }

    /// Reads a type that stores no data.
    fn read_kind(&self, header: &Header, link: Option<Vec<u8>>) -> Result<EntryKind, ArchiveError> {
        let target = link.as_deref().unwrap_or_else(|| header.link());
        let device = || {
            header
                .device()
                .map_err(|field| self.context.field_error(field))
        };
        Ok(match header.kind() {
            kind::DIR => EntryKind::Dir,
            kind::FIFO => EntryKind::Fifo,
            kind::CHAR => EntryKind::Char(device()?),
            kind::BLOCK => EntryKind::Block(device()?),
            kind::SYMLINK => {
                if target.is_empty() || target.len() > SYMLINK_BYTES_MAX || target.contains(&0) {
                    return Err(self.context.name_error(
                        target,
                        "no target for a symbolic link: 1 to 4095 bytes, no NUL",
                    ));
                }
                EntryKind::Symlink(target.into())
            }
            kind::HARD_LINK => {
                let path = path::clean(target, self.context.limits.depth_max)
                    .map_err(|fault| self.context.path_error(fault))?;
                if path.is_empty() {
                    return Err(self.context.name_error(target, "a hard link to the root"));
                }
                EntryKind::HardLink(path)
            }
            kind => {
                return Err(ArchiveError::UnsupportedType {
                    at: self.context.place(),
                    kind,
                });
            }
        })
    }

    /// Reads the name for what it means and puts the entry together.
    fn make_entry(
        &mut self,
        header: &Header,
        pax: &mut Pax,
        kind: EntryKind,
        stored: Option<u64>,
    ) -> Result<Option<Entry>, ArchiveError> {
        let name = path::read(&self.context.name, self.context.limits.depth_max)
            .map_err(|fault| self.context.path_error(fault))?;
        let (path, kind) = match name {
            path::Name::Plain(path) => {
                if path.is_empty() && kind != EntryKind::Dir {
                    return Err(self
                        .context
                        .name_error(&self.context.name, "only a directory can be the root"));
                }
                self.content_left = stored.unwrap_or_default();
                self.padding_left = padding(self.content_left);
                return self.finish_entry(header, pax, path, kind).map(Some);
            }
            path::Name::Whiteout(path) => (path, EntryKind::Whiteout),
            path::Name::Opaque(path) => (path, EntryKind::Opaque),
            path::Name::Leftover => {
                self.keep_data(stored.unwrap_or_default())?;
                return Ok(None);
            }
        };
        self.keep_data(stored.unwrap_or_default())?;
        self.finish_entry(header, pax, path, kind).map(Some)
    }

    fn finish_entry(
        &self,
        header: &Header,
        pax: &mut Pax,
        path: Vec<FileName>,
        kind: EntryKind,
    ) -> Result<Entry, ArchiveError> {
        let wrong = |field| self.context.field_error(field);
        Ok(Entry {
            path,
            kind,
            mode: header.mode().map_err(wrong)?,
            uid: pax.uid.map_or_else(|| header.uid(), Ok).map_err(wrong)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok).map_err(wrong)?,
            mtime: pax
                .mtime
                .map_or_else(|| header.mtime(), Ok)
                .map_err(wrong)?,
            xattrs: std::mem::take(&mut pax.xattrs),
        })
    }

    /// Passes data of an entry that should have none. A size in a link's header is by most writers just the target's,
    /// and by POSIX the length of data that follows: what stands there decides. Where Go's reader, which believes no
    /// such size, finds a header or the end, so do we, so that we see no other entries than the image's other users.
    fn keep_doubtful_data(&mut self, size: u64) -> Result<(), ArchiveError> {
        if size == 0 {
            return Ok(());
        }
        let no_data = match self.input.peek(BLOCK_BYTES) {
            Ok(window) => match window.first_chunk::<BLOCK_BYTES>() {
                Some(block) => header::is_zero(block) || Header::new(block).is_ok(),
                None => window.is_empty(),
            },
            Err(fault) => return Err(self.context.input_error(fault, "data")),
        };
        if no_data {
            Ok(())
        } else {
            self.keep_data(size)
        }
    }

    /// Passes data that is no file's content, and its padding, to the headers.
    fn keep_data(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.keep_unplaced(size, "data")?;
        self.input
            .keep(padding(size))
            .map_err(|fault| self.context.input_error(fault, "padding"))
    }

    fn keep_unplaced(&mut self, len: u64, what: &'static str) -> Result<(), ArchiveError> {
        self.unplaced = self.unplaced.saturating_add(len);
        let max = self.context.limits.unplaced_bytes_max;
        if self.unplaced > max {
            return Err(self.context.limit_error(
                "unplaced_bytes_max",
                "bytes that belong to no file",
                max,
            ));
        }
        self.input
            .keep(len)
            .map_err(|fault| self.context.input_error(fault, what))
    }
}

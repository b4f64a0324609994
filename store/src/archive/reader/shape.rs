//! How a regular file's content is stored: whole, or as the runs of one of four kinds of sparse map. Leaves the reader
//! at the content's first byte.

use std::io::{Read, Write};

use super::Reader;
use crate::Extent;
use crate::archive::error::ArchiveError;
use crate::archive::header::{self, BLOCK_BYTES_U64, Block, Header, kind};
use crate::archive::input;
use crate::archive::pax::Pax;
use crate::archive::sparse::{self, MapText, PaxMap, Runs};

/// How a regular file is stored.
pub(super) struct Shape {
    pub(super) size: u64,
    pub(super) extents: Option<Vec<Extent>>,
    pub(super) stored: u64,
}

impl<R: Read, H: Write> Reader<R, H> {
    /// Reads how a regular file is stored; map blocks go to the headers.
    pub(super) fn read_shape(
        &mut self,
        header: &Header,
        pax: &Pax,
        stored: u64,
    ) -> Result<Shape, ArchiveError> {
        let runs_max = self.context.limits.extents_max;
        if header.kind() == kind::GNU_SPARSE {
            if !header.is_gnu() {
                // star's flag is the same, its fields are elsewhere.
                let fault = sparse::Fault::Map("no GNU header");
                return Err(self.context.sparse_error(fault));
            }
            let mut runs = Runs::default();
            let (size, mut more) = sparse::old_header(header.block(), &mut runs, runs_max)
                .map_err(|fault| self.context.sparse_error(fault))?;
            while more {
                let block = self.take_map_block()?;
                more = sparse::old_more(&block, &mut runs, runs_max)
                    .map_err(|fault| self.context.sparse_error(fault))?;
            }
            return self.make_shape(runs, size, stored);
        }
        match pax
            .sparse
            .map(runs_max)
            .map_err(|fault| self.context.sparse_error(fault))?
        {
            None if stored > sparse::SIZE_MAX => {
                Err(self.context.field_error(header::BadField("size")))
            }
            None => Ok(Shape {
                size: stored,
                extents: None,
                stored,
            }),
            Some((size, PaxMap::Known(runs))) => self.make_shape(runs, size, stored),
            Some((size, PaxMap::InData)) => {
                let mut left = stored;
                let mut map = MapText::default();
                loop {
                    let too_long = sparse::Fault::Map("longer than the entry's data");
                    left = left
                        .checked_sub(BLOCK_BYTES_U64)
                        .ok_or_else(|| self.context.sparse_error(too_long))?;
                    let block = self.take_map_block()?;
                    if map
                        .feed(&block, runs_max)
                        .map_err(|fault| self.context.sparse_error(fault))?
                    {
                        return self.make_shape(map.into_runs(), size, left);
                    }
                }
            }
        }
    }

    fn make_shape(&self, runs: Runs, size: u64, stored: u64) -> Result<Shape, ArchiveError> {
        let extents = runs
            .finish(size, stored)
            .map_err(|fault| self.context.sparse_error(fault))?;
        Ok(Shape {
            size,
            extents,
            stored,
        })
    }

    fn take_map_block(&mut self) -> Result<Block, ArchiveError> {
        let ended = input::Fault::Ended;
        let block = self
            .peek_block()?
            .ok_or_else(|| self.context.input_error(ended, "sparse map"))?;
        self.keep_block("sparse map")?;
        Ok(block)
    }
}

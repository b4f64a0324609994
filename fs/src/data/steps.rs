//! The steps of a plan, done to a data file: they come before the bytes and before the batch, so that what a record
//! names is there already.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use nacre_store::{Content, Ino, Inode};

use super::{COPY_BYTES, Data, clamp};
use crate::errno::{Result, of_host};
use crate::union::content::DataStep;
use crate::union::setattr::SetTime;

impl Data {
    /// Does the steps, in order. `was` is the record that they start from; `None` for a new file. A data file that was made
    /// for steps that failed is gone again.
    pub(crate) fn run(&self, ino: Ino, was: Option<&Inode>, steps: &[DataStep]) -> Result<()> {
        let done = self.run_all(ino, was, steps);
        if done.is_err() && steps.contains(&DataStep::Create) {
            self.files()?.remove(ino);
        }
        done
    }

    fn run_all(&self, ino: Ino, was: Option<&Inode>, steps: &[DataStep]) -> Result<()> {
        let files = self.files()?;
        for step in steps {
            match step {
                DataStep::Create => {
                    files.create(ino)?;
                    if let Some(was) = was {
                        // Its times are the file's from now on: it starts with those that the file had.
                        let (atime, mtime) = (SetTime::At(was.atime), SetTime::At(was.mtime));
                        files.set_times(ino, Some(atime), Some(mtime))?;
                    }
                }
                DataStep::SetLen(len) => {
                    files.get(ino)?.set_len(*len).map_err(|e| of_host(&e))?;
                }
                DataStep::Copy { from, range } => self.copy_up(ino, from, range)?,
                DataStep::Punch(range) => files.punch(ino, range.start, length(range))?,
                DataStep::Reserve(range) => files.reserve(ino, range.start, length(range))?,
            }
        }
        Ok(())
    }

    /// Copies stored bytes of lower content to the data file.
    fn copy_up(&self, ino: Ino, from: &Content, range: &Range<u64>) -> Result<()> {
        let file = self.files()?.get(ino)?;
        let mut buf = Vec::new();
        let mut at = range.start;
        while at < range.end {
            buf.clear();
            buf.resize(clamp(at, COPY_BYTES, range.end), 0);
            self.fill_base(from, at, &mut buf)?;
            file.write_all_at(&buf, at).map_err(|e| of_host(&e))?;
            at = at.saturating_add(buf.len() as u64);
        }
        Ok(())
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

//! Numbers that are never used again, also not after a crash: handed out from blocks below a synced high-water mark.

use parking_lot::Mutex;

use crate::db::{Db, Family};
use crate::failpoint::{self, Point};
use crate::{Error, Ino, LayerNo, Result, UpperId};

/// One counter.
struct Counter {
    key: &'static [u8],
    /// How many numbers one synced write reserves.
    block: u64,
    /// Next number, and the first that is not reserved.
    state: Mutex<(u64, u64)>,
}

impl Counter {
    fn open(db: &Db, key: &'static [u8], first: u64, block: u64) -> Result<Counter> {
        let next = match db.get(Family::Catalog, key)? {
            None => first,
            Some(mark) => {
                let bytes = mark
                    .try_into()
                    .map_err(|_| Error::corrupt("counter", key.escape_ascii()))?;
                u64::from_be_bytes(bytes)
            }
        };
        Ok(Counter {
            key,
            block,
            state: Mutex::new((next, next)),
        })
    }

    fn take(&self, db: &Db) -> Result<u64> {
        let mut state = self.state.lock();
        if state.0 == state.1 {
            let mark = state
                .1
                .checked_add(self.block)
                .ok_or_else(|| Error::corrupt("counter", "at its end"))?;
            let mut batch = db.batch();
            batch.put(Family::Catalog, self.key, &mark.to_be_bytes())?;
            batch.write(failpoint::synced(Point::SyncNumbers))?;
            failpoint::pass(Point::NumbersReserved)?;
            state.1 = mark;
        }
        let number = state.0;
        state.0 += 1;
        Ok(number)
    }
}

/// The store's counters.
pub(crate) struct Numbers {
    ino: Counter,
    layer: Counter,
    upper: Counter,
    record: Counter,
}

impl Numbers {
    /// Reads the high-water marks.
    pub(crate) fn open(db: &Db) -> Result<Numbers> {
        Ok(Numbers {
            // 1 is the root of every tree.
            ino: Counter::open(db, b"#ino", Ino::ROOT.0 + 1, 1 << 16)?,
            layer: Counter::open(db, b"#layer", 1, 32)?,
            upper: Counter::open(db, b"#upper", 1, 8)?,
            record: Counter::open(db, b"#record", 1, 64)?,
        })
    }

    /// A fresh inode number.
    pub(crate) fn ino(&self, db: &Db) -> Result<Ino> {
        self.ino.take(db).map(Ino)
    }

    /// A fresh layer number.
    pub(crate) fn layer(&self, db: &Db) -> Result<LayerNo> {
        let number = self.layer.take(db)?;
        u32::try_from(number)
            .map(LayerNo)
            .map_err(|_| Error::corrupt("counter", "layer numbers are used up"))
    }

    /// A fresh number for a writable layer.
    pub(crate) fn upper(&self, db: &Db) -> Result<UpperId> {
        let number = self.upper.take(db)?;
        u32::try_from(number)
            .map(UpperId)
            .map_err(|_| Error::corrupt("counter", "upper numbers are used up"))
    }

    /// A fresh number for a record and its pack of small contents.
    pub(crate) fn record(&self, db: &Db) -> Result<RecordNo> {
        self.record.take(db).map(RecordNo)
    }
}

/// The number under which a layer's record and its small contents are kept; never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct RecordNo(pub(crate) u64);

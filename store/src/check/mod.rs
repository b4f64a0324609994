//! The store's check: every reference, every digest, every count. Changes nothing; goes on where it meets damage.

mod catalog;
mod contents;
mod trees;
mod uppers;

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use crate::catalog::Doomed;
use crate::numbers::RecordNo;
use crate::store::Inner;
use crate::{BlobId, ChainId, DiffId, LayerNo, Result, Store};

/// What the store check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many of each kind of object were looked at.
    pub checked: Vec<(&'static str, u64)>,
    /// One line a fault, each with its object. Empty: the store is whole.
    pub faults: Vec<String>,
}

/// A check under way.
struct Check<'a> {
    store: &'a Store,
    inner: &'a Inner,
    report: Report,
    /// Numbers of layers in the catalog, and of those that are being written or deleted.
    layers: HashSet<LayerNo>,
    doomed_layers: HashSet<LayerNo>,
    doomed_records: HashSet<RecordNo>,
    /// Tops of chains whose trees are to be walked.
    tops: HashSet<ChainId>,
    /// Layers that something needs: what is in neither is left over.
    needed: HashSet<ChainId>,
    diffs: HashSet<DiffId>,
    /// How often records hold each blob.
    held: HashMap<BlobId, i64>,
}

impl Store {
    /// Checks every reference, digest and count. Images, layers and records cannot change meanwhile; uppers may.
    pub fn check(&self) -> Result<Report> {
        let inner = &*self.inner;
        let _serial = inner.catalog.lock();
        let records = inner.records.lock();
        let mut check = Check {
            store: self,
            inner,
            report: Report::default(),
            layers: HashSet::new(),
            doomed_layers: HashSet::new(),
            doomed_records: HashSet::new(),
            tops: HashSet::new(),
            needed: HashSet::new(),
            diffs: HashSet::new(),
            held: HashMap::new(),
        };
        for doomed in inner.db.doomed()? {
            match doomed {
                Doomed::Layer(no) => drop(check.doomed_layers.insert(no)),
                Doomed::Record(no) => drop(check.doomed_records.insert(no)),
                Doomed::Upper(_) => {}
            }
        }
        check.images()?;
        check.uppers()?;
        check.layers()?;
        check.records(&records)?;
        check.versions()?;
        check.trees()?;
        check.blobs()?;
        check.files()?;
        Ok(check.report)
    }
}

impl Check<'_> {
    fn fault(&mut self, object: impl Display, what: impl Display) {
        self.report.faults.push(format!("{object}: {what}"));
    }

    fn checked(&mut self, kind: &'static str, count: usize) {
        self.report.checked.push((kind, count as u64));
    }

    /// Takes damage of one object as a fault of its own, so that the rest is checked too.
    fn noted<T>(&mut self, object: impl Display, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(object, error);
                None
            }
        }
    }
}

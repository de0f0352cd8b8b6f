//! Registered files.
use std::rc::Rc;

use crate::op::RingId;

/// A table.
#[derive(Debug)]
pub struct FileTable;
/// A file.
#[derive(Debug, Clone)]
pub struct FixedFile;
impl FixedFile {
    pub(crate) fn ring(&self) -> RingId {
        RingId(0)
    }
    pub(crate) fn index(&self) -> i32 {
        0
    }
}
#[derive(Debug)]
pub(crate) struct Table;
impl Table {
    pub(crate) fn ring(&self) -> RingId {
        RingId(0)
    }
    pub(crate) fn adopt(_table: &Rc<Self>, _index: i32) -> Option<FixedFile> {
        None
    }
}

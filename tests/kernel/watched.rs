//! A buffer that is watched: how often it is dropped, and what happens when it panics.
#![allow(unsafe_code, reason = "implements what says how much was written")]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use annulus::buf::{IoBuf, IoBufMut, Region, RegionMut};

/// A buffer of 8 bytes that counts how often it is dropped, and may panic on the way.
pub struct Watched {
    bytes: [u8; 8],
    drops: Rc<Cell<u32>>,
    panics: Panics,
}

/// Where a buffer panics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Panics {
    Never,
    InRegion,
    InFilled,
    InDrop,
    /// In both, one after the other.
    InRegionAndDrop,
}

impl Watched {
    pub fn new(drops: &Rc<Cell<u32>>, panics: Panics) -> Self {
        Self { bytes: [0xee; 8], drops: Rc::clone(drops), panics }
    }

    /// Its contents.
    pub fn bytes(&self) -> &[u8; 8] {
        &self.bytes
    }

    fn at(&self, place: Panics) {
        let both = self.panics == Panics::InRegionAndDrop && place != Panics::InFilled;
        if both || self.panics == place {
            unwind();
        }
    }
}

impl IoBuf for Watched {
    fn region(&self) -> Region<'_> {
        self.at(Panics::InRegion);
        self.bytes.as_slice().into()
    }
}

impl IoBufMut for Watched {
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.at(Panics::InRegion);
        self.bytes.as_mut_slice().into()
    }

    unsafe fn set_filled(&mut self, _: usize) {
        self.at(Panics::InFilled);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
        self.at(Panics::InDrop);
    }
}

/// Panics without printing: so a panic that is printed is never on purpose.
pub fn unwind() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// The result of `body`, even when it panics.
pub fn quietly<T>(body: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(body))
}

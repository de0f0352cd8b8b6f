//! The kernel's half of a buffer ring.
//!
//! ```text
//!   offered ──selected──► given, in a completion, then leased ──offered again──►
//!   scribbled in          left alone
//! ```
//!
//! The group notes when a buffer is offered that was not given (BR1). The kernel writes to all
//! offered buffers at every enter, so a lease whose buffer went back too early loses its bytes.
//!
//! # Safety
//!
//! Touches only the buffers that are on offer, which nothing else may touch (BR1).
#![allow(unsafe_code, reason = "plays the kernel")]

use std::ptr::{self, NonNull};

use annulus_sys::abi::{BUF_RING_TAIL_OFFSET, Buf};
use annulus_sys::abi_register::BufReg;
use annulus_sys::index::{Entries, Index};
use annulus_sys::orderings::{AtomicU16, ObservedHalf};
use annulus_sys::slots::{Slot, Slots, Width};

use super::chance::Chance;
use super::ledger::OpId;
use super::request::{Region, Use};

/// A registered buffer ring.
#[derive(Debug)]
pub struct Group {
    pub id: u16,
    tail: ObservedHalf,
    slots: Slots<Buf>,
    /// Up to which index buffers were selected, and up to which index the entries were read.
    head: u16,
    seen: u16,
    places: Vec<Place>,
}

/// The state of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Offered,
    Given(Gift),
}

/// The operation that a buffer was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gift {
    pub op: OpId,
    /// The number at the front of the buffer's contents.
    pub serial: u64,
}

impl Group {
    /// The ring that `reg` describes.
    pub fn new(reg: &BufReg) -> Self {
        let entries = Entries::new(reg.ring_entries).expect("a power of two");
        let start = usize::try_from(reg.ring_addr).expect("64 bits");
        let start = NonNull::new(ptr::with_exposed_provenance_mut::<Slot<Buf>>(start));
        let start = start.expect("nothing lies at 0");
        // SAFETY: inside entry 0, since the offset is below its size.
        let tail = unsafe { start.byte_add(BUF_RING_TAIL_OFFSET) }.cast::<AtomicU16>();
        // SAFETY: the ring that was registered, whose memory stays until it is unregistered (RG1).
        let tail = unsafe { ObservedHalf::new(tail) };
        // SAFETY: likewise, of that many entries, as promised to `Backend::register`.
        let slots = unsafe { Slots::new(start, entries, Width::Single) };
        let places = vec![Place::Nowhere; entries.count() as usize];
        Self { id: reg.bgid, tail, slots, head: 0, seen: 0, places }
    }

    /// Reads the newly offered entries, and reports what is wrong with them.
    pub fn look(&mut self) -> Result<(), String> {
        let tail = self.tail.observe();
        while self.seen != tail {
            let bid = usize::from(self.entry(self.seen).bid);
            self.seen = self.seen.wrapping_add(1);
            match self.places.get_mut(bid) {
                Some(Place::Offered) => return Err(format!("BR1: buffer {bid} is offered twice")),
                Some(place) => *place = Place::Offered,
                None => return Err(format!("BR1: there is no buffer {bid}")),
            }
        }
        Ok(())
    }

    /// Writes to every buffer on offer.
    pub fn scribble(&mut self, chance: &mut Chance) {
        for at in 0..self.seen.wrapping_sub(self.head) {
            let buf = self.entry(self.head.wrapping_add(at));
            let bytes = chance.bytes(buf.len as usize);
            Region::new(buf.addr, buf.len, Use::Writes).write(bytes);
        }
    }

    /// Selects the next buffer, for `op`.
    pub fn select(&mut self, op: OpId) -> Option<(u16, Region)> {
        if self.head == self.seen {
            return None;
        }
        let buf = self.entry(self.head);
        self.head = self.head.wrapping_add(1);
        self.give(buf.bid, Gift { op, serial: u64::MAX });
        Some((buf.bid, Region::new(buf.addr, buf.len, Use::Writes)))
    }

    /// Notes which operation a buffer was given to, and with what contents.
    pub fn give(&mut self, bid: u16, gift: Gift) {
        self.places[usize::from(bid)] = Place::Given(gift);
    }

    /// The buffers that are not on offer.
    pub fn given(&self) -> impl Iterator<Item = Gift> {
        self.places.iter().filter_map(|place| match place {
            Place::Given(gift) => Some(*gift),
            Place::Nowhere | Place::Offered => None,
        })
    }

    fn entry(&self, at: u16) -> Buf {
        // SAFETY: ours to read: `tail` covers the slot (BR2).
        unsafe { self.slots.read(Index::from_raw(u32::from(at))) }
    }
}

//! The kernel's half of a buffer ring of any kind: whole, used in parts, or sent from.
//!
//! ```text
//!   whole      │ 0 │ 1 │ 2 │ 3 │     a completion takes one; a bundle as many as it fills
//!   in parts   │ ▒▒0 │ 1 │           the entry moves on; F_BUF_MORE while room is left
//!   sent       │ 0 │ 1 │             read in order, as far as the socket takes it
//! ```
//!
//! BR1 is checked where entries are read: nothing is offered that the kernel has.
//!
//! # Safety
//!
//! Touches the ring that was registered, and the buffers that are on offer (BR1, BR2).
#![allow(unsafe_code, reason = "plays the kernel")]

use std::ptr;

use annulus_sys::abi::{BUF_RING_TAIL_OFFSET, Buf};
use annulus_sys::abi_register::BufReg;
use annulus_sys::flags_register::PbufRingFlags;

use crate::bodies::chance::Chance;

/// A registered buffer ring.
#[derive(Debug)]
pub struct Group {
    pub id: u16,
    pub in_parts: bool,
    /// Whether it is sent from: then any part of a buffer may be offered.
    pub is_sent: bool,
    address: usize,
    entries: u16,
    /// Up to which index buffers were selected, and up to which index entries were read.
    pub head: u16,
    seen: u16,
    /// Whether the kernel has it, by its number; and the whole buffer, as it was first offered.
    held: Vec<bool>,
    first: Vec<Option<(u64, u32)>>,
    /// What was selected and came with no completion, and whether it must be back when nothing is
    /// in flight.
    lost: Vec<(u16, Due)>,
    /// Whether a request has ended without data since there was none at last.
    is_doubted: bool,
}

/// When a buffer that came with no completion is offered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// When a request has ended without data and there is none any more, or a later buffer comes.
    Later,
    Now,
}

/// What a completion takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub bid: u16,
    pub addr: u64,
    pub len: u32,
    /// Whether the buffer stays with the kernel.
    pub more: bool,
}

fn at<T>(address: usize) -> *mut T {
    ptr::with_exposed_provenance_mut(address)
}

/// Copies `len` bytes from memory that the kernel may read.
pub fn read(addr: u64, len: u32) -> Vec<u8> {
    let start = at::<u8>(usize::try_from(addr).expect("64 bits"));
    let mut bytes = vec![0; len as usize];
    // SAFETY: memory that was offered or named in an entry, which only its owner may free (OP1).
    unsafe { ptr::copy_nonoverlapping(start, bytes.as_mut_ptr(), bytes.len()) };
    bytes
}

/// Copies bytes to memory that the kernel may write.
pub fn write(addr: u64, bytes: &[u8]) {
    let start = at::<u8>(usize::try_from(addr).expect("64 bits"));
    // SAFETY: memory that was offered or named in an entry, which nothing else uses (OP1, BR1).
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
}

impl Group {
    /// The ring that `reg` describes.
    pub fn new(reg: &BufReg, is_sent: bool) -> Self {
        let entries = u16::try_from(reg.ring_entries).expect("a short one");
        let count = usize::from(entries);
        Self {
            id: reg.bgid,
            in_parts: reg.flags.contains(PbufRingFlags::INC),
            is_sent,
            address: usize::try_from(reg.ring_addr).expect("64 bits"),
            entries,
            head: 0,
            seen: 0,
            held: vec![false; count],
            first: vec![None; count],
            lost: Vec::new(),
            is_doubted: false,
        }
    }

    fn tail(&self) -> u16 {
        // SAFETY: the tail of the ring, in memory that stays until it is unregistered (BR2).
        unsafe { at::<u16>(self.address + BUF_RING_TAIL_OFFSET).read_volatile() }
    }

    fn place(&self, index: u16) -> usize {
        self.address + usize::from(index % self.entries) * size_of::<Buf>()
    }

    fn entry(&self, index: u16) -> Buf {
        // SAFETY: an entry of the ring, which `tail` covers (BR2).
        unsafe { at::<Buf>(self.place(index)).read() }
    }

    /// Reads new entries, and says what is wrong with them.
    pub fn look(&mut self) -> Result<(), String> {
        let tail = self.tail();
        if self.is_sent {
            // What is queued may be taken back, and queued again, while nothing sends.
            self.held.fill(false);
            self.seen = self.head;
        }
        while self.seen != tail {
            let Buf { addr, len, bid, .. } = self.entry(self.seen);
            let index = usize::from(bid);
            let Some(held) = self.held.get_mut(index) else {
                return Err(format!("BR1: there is no buffer {bid}"));
            };
            if std::mem::replace(held, true) {
                return Err(format!("BR1: buffer {bid} is offered twice"));
            }
            let whole = *self.first[index].get_or_insert((addr, len));
            if !self.is_sent && whole != (addr, len) {
                return Err(format!("BR1: a part of buffer {bid} is offered"));
            }
            self.seen = self.seen.wrapping_add(1);
            self.lost.retain(|(lost, _)| *lost != bid);
        }
        if self.seen.wrapping_sub(self.head) > self.entries {
            return Err("BR1: more buffers are offered than there are".into());
        }
        Ok(())
    }

    /// How many buffers can be selected.
    pub fn ready(&self) -> u16 {
        self.seen.wrapping_sub(self.head)
    }

    /// How many buffers the kernel has.
    pub fn held(&self) -> usize {
        self.held.iter().filter(|held| **held).count()
    }

    /// Writes to every buffer on offer.
    pub fn scribble(&self, chance: &mut Chance) {
        for index in 0..self.ready() {
            let Buf { addr, len, .. } = self.entry(self.head.wrapping_add(index));
            write(addr, &chance.bytes(len as usize));
        }
    }

    /// How much room the next `count` buffers have, together.
    pub fn room(&self, count: u16) -> u32 {
        let each = (0..count.min(self.ready())).map(|index| self.head.wrapping_add(index));
        each.map(|index| self.entry(index).len).sum()
    }

    /// Takes `bytes` bytes from the front: whole buffers and the rest.
    pub fn take(&mut self, bytes: u32) -> Vec<Part> {
        let (mut left, mut parts) = (bytes, Vec::new());
        while left > 0 {
            let Buf { addr, len, bid, .. } = self.entry(self.head);
            let here = left.min(len);
            left -= here;
            let more = self.in_parts && here < len;
            if more {
                self.go_on(addr + u64::from(here), len - here);
            } else {
                self.skip();
            }
            parts.push(Part { bid, addr, len: here, more });
        }
        parts
    }

    /// Selects the buffer at the front as a whole.
    pub fn skip(&mut self) -> Option<Part> {
        if self.ready() == 0 {
            return None;
        }
        let Buf { addr, len, bid, .. } = self.entry(self.head);
        self.held[usize::from(bid)] = false;
        self.head = self.head.wrapping_add(1);
        Some(Part { bid, addr, len, more: false })
    }

    /// Selects the buffer at the front, of which no completion will speak.
    pub fn lose(&mut self) {
        if let Some(part) = self.skip() {
            self.note_lost(part.bid, false);
        }
    }

    /// That buffer was selected, and comes with no data; a completion may name it.
    pub fn note_lost(&mut self, bid: u16, named: bool) {
        self.lost.push((bid, if named { Due::Now } else { Due::Later }));
    }

    /// All that was selected and that no completion names is known: a completion of a request that
    /// is alone names what is selected next.
    pub fn pass_over(&mut self) {
        self.lost.iter_mut().for_each(|(_, due)| *due = Due::Now);
    }

    /// A request has ended, with data or without, and was the last one or not.
    pub fn ended(&mut self, result: i32, was_last: bool) {
        self.is_doubted |= result <= 0;
        if was_last && std::mem::take(&mut self.is_doubted) {
            self.pass_over();
        }
    }

    /// Goes on behind so many bytes of the buffer at the front, which nothing fills. Returns
    /// whether there is room left in it.
    pub fn waste(&mut self, bytes: u32) -> bool {
        let Buf { addr, len, .. } = self.entry(self.head);
        if bytes >= len {
            self.skip();
            return false;
        }
        self.go_on(addr + u64::from(bytes), len - bytes);
        true
    }

    /// The number of the buffer at the front, if buffers are selected as a whole.
    pub fn next_whole(&self) -> Option<u16> {
        (self.ready() > 0 && !self.in_parts).then(|| self.entry(self.head).bid)
    }

    /// How much room the buffer at the front has.
    pub fn front(&self) -> u32 {
        if self.ready() == 0 { 0 } else { self.entry(self.head).len }
    }

    /// What should be on offer again, nothing being in flight, and no lease being held.
    pub fn overdue(&mut self) -> Vec<u16> {
        let _ = self.look(); // The next enter finds what is wrong with it.
        self.lost.iter().filter(|(_, due)| *due == Due::Now).map(|(bid, _)| *bid).collect()
    }

    /// The buffer at the front begins there from now on, and is that long.
    fn go_on(&self, addr: u64, len: u32) {
        let place = self.place(self.head);
        // SAFETY: `addr` of an entry that the kernel has; only it writes there (BR2).
        unsafe { at::<u64>(place).write_volatile(addr) };
        // SAFETY: `len` of that entry (BR2).
        unsafe { at::<u32>(place + 8).write_volatile(len) };
    }
}

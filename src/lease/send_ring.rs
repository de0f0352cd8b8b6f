//! Rings of buffers to send: filled and queued by us, sent in that order by the kernel.
//!
//! ```text
//!   free ── get ──► SendBuf ── queue ──► │ 3 │ 0 │ 2 │ ── SendBundle ──► the socket
//!     ▲                                     in order
//!     └──────────────── sent; what was not sent stays queued ────────────┘
//! ```
//!
//! So bytes can be queued while a send is in flight, and go out in order all the same: the kernel
//! takes all that is there, and the next [`SendBundle`](crate::op::SendBundle) what came since.
//!
//! A ring is of one socket at a time: the operation takes the [`SendRing`] along, and gives it
//! back. A [`SendQueue`] is what stays behind, for more bytes.
//!
//! Keeps BR1: a buffer is free, in a lease, or queued; a queued one is ours again when the
//! operation has ended, and the kernel has told how far it got. OP1: nobody has a lease of what is
//! queued.
#![allow(unsafe_code, reason = "owns buffers that the kernel reads")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::slice;

use super::Source;
use super::buf_ring::{Offered, Pool};
use super::error::RegisterError;
use crate::buf::{IoBuf, IoBufMut, Region, RegionMut};
use crate::register::{Used, Whose};
use crate::ring::Ring;

/// A ring of buffers to send, which one [`SendBundle`](crate::op::SendBundle) at a time has.
#[derive(Debug)]
pub struct SendRing(Rc<Shared>);

/// Where the buffers of a [`SendRing`] come from, also while that is in an operation. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct SendQueue(Rc<Shared>);

/// A buffer to be filled, and queued. Dropped, it is free again.
///
/// It shows the bytes that are filled; the kernel reads into all of it, from the front.
#[derive(Debug)]
pub struct SendBuf {
    shared: Rc<Shared>,
    filled: u32,
    bid: u16,
}

/// What is queued of one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    bid: u16,
    start: u32,
    len: u32,
}

#[derive(Debug)]
struct Shared {
    pool: Rc<Pool>,
    free: RefCell<Vec<u16>>,
    /// As in the ring that the kernel reads.
    queue: RefCell<VecDeque<Part>>,
    /// How many buffers the kernel had picked before those, in wrapping arithmetic.
    picked: Cell<u16>,
}

impl<U: Default> Ring<U> {
    /// Makes `count` buffers of `size` bytes each, to be filled and sent in order. Since Linux
    /// 5.19; sent since Linux 6.10.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] unless `count` is a power of two of at most 32768;
    /// [`RegisterError::Restricted`] on a ring that may not ask what the kernel has taken
    /// (`PBUF_STATUS`).
    #[doc(alias = "IORING_REGISTER_PBUF_RING")]
    pub fn send_ring(&mut self, count: u32, size: u32) -> Result<SendRing, RegisterError> {
        let pool = self.pool(count, size, Whose::Ours, Used::Whole, Offered::None)?;
        // What was sent would count as unsent, and its buffers would be lost (BR1).
        if pool.may_not_ask() {
            return Err(RegisterError::Restricted { call: "PBUF_STATUS" });
        }
        let free: Vec<u16> = (0..=u16::MAX).zip(0..count).map(|(bid, _)| bid).rev().collect();
        let queue = RefCell::new(VecDeque::with_capacity(free.len()));
        let free = RefCell::new(free);
        Ok(SendRing(Rc::new(Shared { pool, free, queue, picked: Cell::new(0) })))
    }
}

impl Shared {
    fn get(self: &Rc<Self>) -> Option<SendBuf> {
        let bid = self.free.borrow_mut().pop()?;
        Some(SendBuf { shared: Rc::clone(self), filled: 0, bid })
    }

    /// Queues `part`, behind all others.
    fn push(&self, part: Part) {
        self.queue.borrow_mut().push_back(part);
        self.pool.offer_part(part.bid, part.start, part.len);
    }

    /// The only operation that sends from here has ended, with `result`; its last completion named
    /// buffer `named`. Frees what was sent, and returns how many bytes that is.
    fn settle(&self, result: i32, named: Option<u16>) -> usize {
        // Before Linux 6.8 it does not tell; nor does it send from here.
        let picked = self.pool.head().map_or(0, |head| head.wrapping_sub(self.picked.get()));
        self.settle_picked(picked, result, named)
    }

    /// [`settle`](Self::settle), after the kernel has picked so many buffers.
    fn settle_picked(&self, picked: u16, result: i32, named: Option<u16>) -> usize {
        let mut queue = self.queue.borrow_mut();
        let picked = picked.min(u16::try_from(queue.len()).unwrap_or(u16::MAX));
        // All that was picked before what the last completion is about has been sent.
        let last = queue.iter().take(picked.into()).position(|part| named == Some(part.bid));
        let (mut sent, mut unsent) = (0, Vec::new());
        let mut left = u32::try_from(result).unwrap_or(0);
        for (at, Part { bid, start, len }) in queue.drain(..usize::from(picked)).enumerate() {
            let here = match last {
                Some(last) if at >= last => {
                    let here = left.min(len);
                    left -= here;
                    here
                }
                _ => len,
            };
            sent += here as usize;
            if here == len {
                self.free.borrow_mut().push(bid);
            } else {
                unsent.push(Part { bid, start: start + here, len: len - here });
            }
        }
        self.pool.taken(picked.into());
        self.picked.set(self.picked.get().wrapping_add(picked));
        if !unsent.is_empty() {
            let rest: Vec<Part> = queue.drain(..).collect();
            drop(queue);
            self.requeue(&unsent, &rest);
        }
        sent
    }

    /// Queues `unsent` in front of `rest`, which is all that is queued.
    fn requeue(&self, unsent: &[Part], rest: &[Part]) {
        let count = u32::try_from(rest.len()).expect("BR1: no more than 32768");
        // SAFETY: the kernel has not picked these, as it has just told, and nothing is in flight
        // that could (BR1), because the only ring that sends from here is ours now.
        unsafe { self.pool.rewind(count) };
        unsent.iter().chain(rest).for_each(|&part| self.push(part));
    }
}

impl SendRing {
    /// A buffer to be filled; `None` when all are in leases, or queued.
    pub fn get(&self) -> Option<SendBuf> {
        self.0.get()
    }

    /// What gives buffers also while the ring is in an operation.
    pub fn queue(&self) -> SendQueue {
        SendQueue(Rc::clone(&self.0))
    }

    /// The number by which entries name the ring.
    pub(crate) fn group(&self) -> u16 {
        self.0.pool.id()
    }

    /// What an operation that sends from here picks from.
    pub(crate) fn source(&self) -> Source {
        Source::sends(Rc::clone(&self.0.pool))
    }

    /// An operation that had it has ended: see [`Shared::settle`].
    pub(crate) fn settle(&self, result: i32, named: Option<u16>) -> usize {
        self.0.settle(result, named)
    }
}

impl SendQueue {
    /// A buffer to be filled; `None` when all are in leases, or queued.
    pub fn get(&self) -> Option<SendBuf> {
        self.0.get()
    }

    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.0.pool.count()
    }

    /// How many are free.
    pub fn available(&self) -> usize {
        self.0.free.borrow().len()
    }

    /// How many bytes are queued. What an operation in flight has sent counts until that ends.
    pub fn bytes(&self) -> usize {
        self.0.queue.borrow().iter().map(|part| part.len as usize).sum()
    }
}

impl SendBuf {
    /// How many bytes it holds.
    pub fn capacity(&self) -> usize {
        self.shared.pool.each() as usize
    }

    /// Makes the first `len` bytes the filled ones. Those that were not filled before hold zeroes,
    /// or what was there.
    ///
    /// # Panics
    ///
    /// If `len` exceeds the capacity.
    #[track_caller]
    pub fn set_len(&mut self, len: usize) {
        let size = self.shared.pool.each();
        let fits = u32::try_from(len).ok().filter(|&len| len <= size);
        let Some(len) = fits else { panic!("{len} bytes do not fit a buffer of {size}") };
        self.filled = len;
    }

    /// Queues what is filled, behind all that is queued. It goes out with the operation that is in
    /// flight, or with the next.
    pub fn queue(self) {
        // Without bytes, or without a ring that could send them, it is free again.
        if self.filled == 0 || !self.shared.pool.is_registered() {
            return;
        }
        let this = ManuallyDrop::new(self);
        this.shared.push(Part { bid: this.bid, start: 0, len: this.filled });
        // SAFETY: not used again, because `this` is not dropped.
        drop(unsafe { std::ptr::read(&raw const this.shared) });
    }

    fn bytes(&mut self, len: usize) -> &mut [u8] {
        let start = self.shared.pool.at(self.bid).as_ptr();
        // SAFETY: zeroed at first, within the buffer, and ours alone while the lease lives (BR1).
        unsafe { slice::from_raw_parts_mut(start, len) }
    }
}

impl Drop for SendBuf {
    fn drop(&mut self) {
        self.shared.free.borrow_mut().push(self.bid);
    }
}

/// The filled bytes.
impl Deref for SendBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.shared.pool.at(self.bid).as_ptr();
        // SAFETY: zeroed at first, and ours alone while the lease lives (BR1).
        unsafe { slice::from_raw_parts(start, self.filled as usize) }
    }
}

/// The filled bytes.
impl DerefMut for SendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes(self.filled as usize)
    }
}

/// The kernel reads the filled bytes.
impl IoBuf for SendBuf {
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

/// The kernel writes from the front, and what it wrote is filled afterwards.
impl IoBufMut for SendBuf {
    fn region_mut(&mut self) -> RegionMut<'_> {
        let capacity = self.capacity();
        self.bytes(capacity).into()
    }

    /// Sets no more than the capacity.
    unsafe fn set_filled(&mut self, count: usize) {
        let size = self.shared.pool.each();
        self.filled = u32::try_from(count).map_or(size, |count| count.min(size));
    }
}

#[cfg(test)]
mod tests {
    use memmap2::MmapOptions;

    use super::*;
    use crate::op::RingId;
    use annulus_sys::process::Process;

    /// Four buffers of 8 bytes that no kernel knows, all of them queued, from buffer 3 down.
    fn queued() -> SendRing {
        let memory = MmapOptions::new().len(32).map_anon().expect("memory");
        let ring = RingId(std::num::NonZero::<u32>::MIN);
        let pool = Rc::new(Pool::over(memory, ring, 0, 4, 8, Process::this()));
        let queue = (0..4).rev().map(|bid| Part { bid, start: 0, len: 8 }).collect();
        let (free, queue) = (RefCell::default(), RefCell::new(queue));
        SendRing(Rc::new(Shared { pool, free, queue, picked: Cell::new(u16::MAX) }))
    }

    #[test]
    fn br1_what_a_kernel_does_not_tell_stays_queued() {
        for (result, named) in [(0, None), (32, Some(3)), (i32::MAX, Some(9)), (-1, Some(0))] {
            let ring = queued();
            assert_eq!(ring.settle(result, named), 0, "{result}");
            assert_eq!((ring.queue().bytes(), ring.queue().available()), (32, 0));
        }
    }

    #[test]
    fn br1_what_was_sent_is_free_and_the_rest_queued_in_order() {
        let part = |bid, start, len| Part { bid, start, len };
        // How many were picked, the result, and what the last completion names.
        for (picked, result, named, sent, rest) in [
            (0, -9, None, 0, vec![part(3, 0, 8), part(2, 0, 8), part(1, 0, 8), part(0, 0, 8)]),
            (2, 16, Some(3), 16, vec![part(1, 0, 8), part(0, 0, 8)]),
            (3, 5, Some(2), 13, vec![part(2, 5, 3), part(1, 0, 8), part(0, 0, 8)]),
            (4, 9, Some(1), 25, vec![part(0, 1, 7)]),
            (4, -32, Some(0), 24, vec![part(0, 0, 8)]),
            (4, i32::MAX, Some(3), 32, vec![]),
            (9, 8, Some(7), 32, vec![]),
        ] {
            let ring = queued();
            assert_eq!(ring.0.settle_picked(picked, result, named), sent, "{picked} {result}");
            assert_eq!(*ring.0.queue.borrow(), rest, "{picked} {result}");
            assert_eq!(ring.queue().available(), 4 - rest.len());
            let moved = picked.min(4);
            assert_eq!(ring.0.picked.get(), u16::MAX.wrapping_add(moved), "across the wrap");
        }
    }
}

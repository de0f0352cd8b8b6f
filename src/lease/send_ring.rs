//! Send rings: buffers that the caller fills and queues, and that the kernel sends in that order.
//!
//! ```text
//!   free ── get ──► SendBuf ── queue ──► │ 3 │ 0 │ 2 │ ── SendBundle ──► the socket
//!     ▲                                     in order
//!     └──────────────── sent; what was not sent stays queued ────────────┘
//! ```
//!
//! Bytes can be queued while a send is in flight, and still go out in order: the kernel takes
//! everything that is queued, and the next [`SendBundle`](crate::op::SendBundle) takes what was
//! queued since.
//!
//! A send ring serves one socket at a time: the operation takes the [`SendRing`] along, and gives
//! it back. A [`SendQueue`] stays with the caller, to queue more bytes.
//!
//! Keeps BR1: a buffer is free, in a lease, or queued. A queued buffer is ours again once the
//! operation has ended and the kernel has reported how far it got. Keeps OP1: no lease covers a
//! queued buffer.
#![allow(unsafe_code, reason = "owns buffers that the kernel reads")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::slice;

use super::buf_ring::{Offered, Pool, Wanted};
use super::{Registered, Source};
use crate::buf::{IoBuf, IoBufMut, Region, RegionMut};
use crate::raw::register::RegisterError;
use crate::raw::register::{Consumption, RingMemory};
use crate::raw::{RawRing, RingId};

/// A buffer ring to send from, used by one [`SendBundle`](crate::op::SendBundle) at a time.
#[derive(Debug)]
pub struct SendRing(Rc<Shared>);

/// Hands out the buffers of a [`SendRing`], even while the ring is in an operation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SendQueue(Rc<Shared>);

/// A buffer to fill and queue. Dropping it frees it again.
///
/// It derefs to its filled bytes. A read operation fills the whole buffer, from the front.
#[derive(Debug)]
pub struct SendBuf {
    shared: Rc<Shared>,
    filled: u32,
    bid: u16,
}

/// The queued bytes of one buffer.
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
    /// The queued parts, in the order of the ring that the kernel reads.
    queue: RefCell<VecDeque<Part>>,
    /// How many buffers the kernel had selected before those, in wrapping arithmetic.
    selected: Cell<u16>,
}

impl Registered {
    /// Makes the buffers, and provides none of them to the kernel yet.
    pub(crate) fn send_ring(
        &mut self,
        raw: &RawRing,
        ring: RingId,
        count: u32,
        size: u32,
    ) -> Result<SendRing, RegisterError> {
        let wanted = Wanted { count, size, memory: RingMemory::User, used: Consumption::Whole };
        let pool = self.pools.register(raw, ring, wanted, Offered::None)?;
        // Without it, sent bytes would count as unsent, and their buffers would be lost (BR1).
        if pool.may_not_ask() {
            return Err(RegisterError::Restricted { call: "PBUF_STATUS" });
        }
        let free: Vec<u16> = (0..=u16::MAX).zip(0..count).map(|(bid, _)| bid).rev().collect();
        let queue = RefCell::new(VecDeque::with_capacity(free.len()));
        let free = RefCell::new(free);
        Ok(SendRing(Rc::new(Shared { pool, free, queue, selected: Cell::new(0) })))
    }
}

impl Shared {
    fn get(self: &Rc<Self>) -> Option<SendBuf> {
        let bid = self.free.borrow_mut().pop()?;
        Some(SendBuf { shared: Rc::clone(self), filled: 0, bid })
    }

    /// Queues `part`, after all others.
    ///
    /// # Safety
    ///
    /// Its buffer must be neither leased nor with the kernel (BR1).
    unsafe fn push(&self, part: Part) {
        self.queue.borrow_mut().push_back(part);
        // SAFETY: as promised to `push`.
        unsafe { self.pool.offer_part(part.bid, part.start, part.len) };
    }

    /// The only operation that sends from this ring has ended with `result`; its last completion
    /// named buffer `named`. Frees the buffers that were sent, and returns how many bytes were
    /// sent.
    ///
    /// # Safety
    ///
    /// No operation that sends from this ring may be in flight.
    unsafe fn record(&self, result: i32, named: Option<u16>) -> usize {
        // Linux before 6.8 does not report it; nor does it send from a buffer ring.
        let selected = self.pool.head().map_or(0, |head| head.wrapping_sub(self.selected.get()));
        // SAFETY: as promised to `record`; the kernel reports that it has selected as many.
        unsafe { self.record_selected(selected, result, named) }
    }

    /// [`record`](Self::record), once it is known that the kernel has selected `selected` buffers.
    ///
    /// # Safety
    ///
    /// As for [`record`](Self::record); and the kernel must have selected as many, and no more.
    unsafe fn record_selected(&self, selected: u16, result: i32, named: Option<u16>) -> usize {
        let mut queue = self.queue.borrow_mut();
        let selected = selected.min(u16::try_from(queue.len()).unwrap_or(u16::MAX));
        // Everything selected before the last completion's buffers has been sent.
        let last = queue.iter().take(selected.into()).position(|part| named == Some(part.bid));
        let (mut sent, mut unsent) = (0, Vec::new());
        let mut left = u32::try_from(result).unwrap_or(0);
        for (at, Part { bid, start, len }) in queue.drain(..usize::from(selected)).enumerate() {
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
        // SAFETY: the kernel reports that it has selected them, and they were queued until now. The
        // operation that selected them has ended, as promised to `record_selected` (BR1).
        unsafe { self.pool.taken(selected.into()) };
        self.selected.set(self.selected.get().wrapping_add(selected));
        if !unsent.is_empty() {
            let rest: Vec<Part> = queue.drain(..).collect();
            drop(queue);
            // SAFETY: the operation has ended, as promised to `record_selected`, and its buffers
            // were just taken from the kernel (BR1).
            unsafe { self.requeue(&unsent, &rest) };
        }
        sent
    }

    /// Queues `unsent` before `rest`, which is everything that is queued.
    ///
    /// # Safety
    ///
    /// No operation that sends from this ring may be in flight. The kernel must not have selected
    /// the parts of `rest`, and must have given up those of `unsent`.
    unsafe fn requeue(&self, unsent: &[Part], rest: &[Part]) {
        let count = u32::try_from(rest.len()).expect("BR1: no more than 32768");
        // SAFETY: not selected, and nothing in flight could do so, as promised to `requeue` (BR1).
        unsafe { self.pool.rewind(count) };
        for &part in unsent.iter().chain(rest) {
            // SAFETY: given up, as promised to `requeue`, or just removed from the ring. It stayed
            // queued, so no lease covers it (BR1).
            unsafe { self.push(part) };
        }
    }
}

impl SendRing {
    /// A buffer to fill; `None` when all buffers are leased or queued.
    pub fn get(&self) -> Option<SendBuf> {
        self.0.get()
    }

    /// A handle that hands out buffers even while the ring is in an operation.
    pub fn queue(&self) -> SendQueue {
        SendQueue(Rc::clone(&self.0))
    }

    /// The buffer group that entries name.
    pub(crate) fn group(&self) -> u16 {
        self.0.pool.id()
    }

    /// The source that an operation which sends from this ring selects from.
    pub(crate) fn source(&self) -> Source {
        Source::sends(Rc::clone(&self.0.pool))
    }

    /// An operation that owned the ring has ended: see [`Shared::record`].
    ///
    /// # Safety
    ///
    /// No operation that sends from this ring may be in flight.
    pub(crate) unsafe fn record(&self, result: i32, named: Option<u16>) -> usize {
        // SAFETY: as promised to `record`.
        unsafe { self.0.record(result, named) }
    }
}

impl SendQueue {
    /// A buffer to fill; `None` when all buffers are leased or queued.
    pub fn get(&self) -> Option<SendBuf> {
        self.0.get()
    }

    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.0.pool.count()
    }

    /// How many buffers are free.
    pub fn available(&self) -> usize {
        self.0.free.borrow().len()
    }

    /// How many bytes are queued. Bytes that an operation in flight has sent count until it ends.
    pub fn bytes(&self) -> usize {
        self.0.queue.borrow().iter().map(|part| part.len as usize).sum()
    }
}

impl SendBuf {
    /// The size of the buffer, in bytes.
    pub fn capacity(&self) -> usize {
        self.shared.pool.each() as usize
    }

    /// Marks the first `len` bytes as filled. Bytes that were not filled before are zero, or keep
    /// what they last held.
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

    /// Queues the filled bytes, after everything that is queued. They go out with the operation in
    /// flight, or with the next one.
    pub fn queue(self) {
        // Without bytes, or without a ring that could send them, dropping `self` frees the buffer.
        if self.filled == 0 || !self.shared.pool.is_registered() {
            return;
        }
        let this = ManuallyDrop::new(self);
        let part = Part { bid: this.bid, start: 0, len: this.filled };
        // SAFETY: a lease has the buffer, and so not the kernel; and it is given up here (BR1).
        unsafe { this.shared.push(part) };
        // SAFETY: not used again, because `this` is not dropped.
        drop(unsafe { std::ptr::read(&raw const this.shared) });
    }

    /// Where the buffer begins.
    fn start(&self) -> *mut u8 {
        // SAFETY: there is such a buffer, because only `Shared::get` makes a lease.
        unsafe { self.shared.pool.at(self.bid) }.as_ptr()
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
        // SAFETY: zeroed at first, and ours alone while the lease lives (BR1).
        unsafe { slice::from_raw_parts(self.start(), self.filled as usize) }
    }
}

/// The filled bytes.
impl DerefMut for SendBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: zeroed at first, and ours alone while the lease lives (BR1).
        unsafe { slice::from_raw_parts_mut(self.start(), self.filled as usize) }
    }
}

/// The kernel reads the filled bytes.
impl IoBuf for SendBuf {
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

/// The kernel writes from the front; the bytes that it wrote count as filled afterwards.
impl IoBufMut for SendBuf {
    fn region_mut(&mut self) -> RegionMut<'_> {
        let (start, len) = (self.start(), self.capacity());
        // SAFETY: zeroed at first, and ours alone while the lease lives (BR1).
        let all = unsafe { slice::from_raw_parts_mut(start, len) };
        all.into()
    }

    /// Clamps `count` to the capacity.
    unsafe fn set_filled(&mut self, count: usize) {
        let size = self.shared.pool.each();
        self.filled = u32::try_from(count).map_or(size, |count| count.min(size));
    }
}

#[cfg(test)]
mod tests {
    use memmap2::MmapOptions;

    use super::*;
    use annulus_sys::process::Process;

    /// Four buffers of 8 bytes that no kernel knows, all of them queued, from buffer 3 down.
    fn queued() -> SendRing {
        let memory = MmapOptions::new().len(32).map_anon().expect("memory");
        let ring = RingId(std::num::NonZero::<u32>::MIN);
        let pool = Rc::new(Pool::over(memory, ring, 0, 4, 8, Process::this()));
        let queue = (0..4).rev().map(|bid| Part { bid, start: 0, len: 8 }).collect();
        let (free, queue) = (RefCell::default(), RefCell::new(queue));
        SendRing(Rc::new(Shared { pool, free, queue, selected: Cell::new(u16::MAX) }))
    }

    #[test]
    fn br1_what_a_kernel_does_not_tell_stays_queued() {
        for (result, named) in [(0, None), (32, Some(3)), (i32::MAX, Some(9)), (-1, Some(0))] {
            let ring = queued();
            // SAFETY: no kernel knows the buffers, and so none uses them.
            assert_eq!(unsafe { ring.record(result, named) }, 0, "{result}");
            assert_eq!((ring.queue().bytes(), ring.queue().available()), (32, 0));
        }
    }

    #[test]
    fn br1_what_was_sent_is_free_and_the_rest_queued_in_order() {
        let part = |bid, start, len| Part { bid, start, len };
        // How many buffers were selected, the result, and what the last completion names.
        for (selected, result, named, sent, rest) in [
            (0, -9, None, 0, vec![part(3, 0, 8), part(2, 0, 8), part(1, 0, 8), part(0, 0, 8)]),
            (2, 16, Some(3), 16, vec![part(1, 0, 8), part(0, 0, 8)]),
            (3, 5, Some(2), 13, vec![part(2, 5, 3), part(1, 0, 8), part(0, 0, 8)]),
            (4, 9, Some(1), 25, vec![part(0, 1, 7)]),
            (4, -32, Some(0), 24, vec![part(0, 0, 8)]),
            (4, i32::MAX, Some(3), 32, vec![]),
            (9, 8, Some(7), 32, vec![]),
        ] {
            let ring = queued();
            // SAFETY: no kernel knows the buffers, and so none uses them.
            let counted = unsafe { ring.0.record_selected(selected, result, named) };
            assert_eq!(counted, sent, "{selected} {result}");
            assert_eq!(*ring.0.queue.borrow(), rest, "{selected} {result}");
            assert_eq!(ring.queue().available(), 4 - rest.len());
            let moved = selected.min(4);
            assert_eq!(ring.0.selected.get(), u16::MAX.wrapping_add(moved), "across the wrap");
        }
    }
}

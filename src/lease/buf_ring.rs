//! Buffer rings: the kernel picks a buffer when data is there, and a completion names it.
//!
//! ```text
//!             offered ──── the kernel picks ───► in a completion ──► BufLease
//!                ▲                                                      │
//!                └───────────────────── dropped ────────────────────────┘
//! ```
//!
//! So a thousand idle connections need no thousand buffers. An operation that selects from an empty
//! ring fails at once with `ENOBUFS`: drop leases sooner, or make the ring larger.
//!
//! Keeps BR1: a buffer is with the kernel, in a lease, or in a completion that nobody has taken
//! yet; one that a failed or abandoned operation had picked goes back too.
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::RecvMulti;
//! use std::io::Write;
//! use std::os::unix::net::UnixStream;
//!
//! let mut ring = Setup::new(8).build()?;
//! let (mut ours, theirs) = UnixStream::pair()?;
//! let Ok(buffers) = ring.buf_ring(4, 64) else { return Ok(()) }; // Linux 5.19
//! let stream = ring.submit(RecvMulti::new(theirs, &buffers))?;
//! ours.write_all(b"hello")?;
//! match ring.next(&stream)? {
//!     Some(shot) => assert_eq!(&shot?[..], b"hello"),
//!     None => println!("multishot recv needs Linux 6.0"),
//! }
//! ring.detach(stream);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "owns buffers that the kernel fills")]

mod bundle;

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use annulus_sys::abi::{Buf, Cqe};
use annulus_sys::buf_ring::BufferRing;
use annulus_sys::errno::Errno;
use annulus_sys::flags_register::PbufRingFlags;
use annulus_sys::groups::{Group, Whose};
use annulus_sys::index::Entries;
use annulus_sys::rings::Base;
use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::error::RegisterError;
use super::fork::Mark;
use crate::buf::{IoBuf, Region};
use crate::op::RingId;
use crate::ring::Ring;

pub use bundle::Bundle;

/// A ring of buffers that the kernel picks from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BufRing(pub(crate) Rc<Pool>);

/// A buffer that the kernel picked and filled. Dropped, it is offered again.
#[derive(Debug)]
pub struct BufLease {
    pool: Rc<Pool>,
    bid: u16,
    len: u32,
}

/// Where each buffer is (BR1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Kernel,
    Lease,
}

/// In which order buffers were offered, which is that of the ring, and so the one in which the
/// kernel picks.
#[derive(Debug)]
struct Order {
    /// What was offered after each, last time that it was.
    next: Box<[u16]>,
    last: u16,
}

impl Order {
    /// No buffer: a ring has at most 32768 of them.
    const NONE: u16 = u16::MAX;

    fn of(count: u32) -> Self {
        Self { next: vec![Self::NONE; count as usize].into(), last: Self::NONE }
    }

    /// `bid` is offered, behind all others.
    fn push(&mut self, bid: u16) {
        if let Some(next) = self.next.get_mut(usize::from(self.last)) {
            *next = bid;
        }
        self.next[usize::from(bid)] = Self::NONE;
        self.last = bid;
    }
}

/// Which buffers of a new ring are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    All,
    None,
}

/// The buffers, and the ring that offers them.
#[derive(Debug)]
pub(crate) struct Pool {
    ring: RingId,
    /// `None` once the ring is gone.
    group: RefCell<Option<Group>>,
    places: RefCell<Box<[Place]>>,
    order: RefCell<Order>,
    /// Unmapped only if it is idle (RG1).
    memory: ManuallyDrop<MmapRaw>,
    start: NonNull<u8>,
    each: u32,
    id: u16,
    mark: Rc<Mark>,
    /// The kernel is known to be done with the buffers.
    idle: Cell<bool>,
}

impl<U: Default> Ring<U> {
    /// Makes `count` buffers of `size` bytes each that the kernel picks from. Since Linux 5.19.
    ///
    /// A ring has as many of these as it likes, up to 65536 in its life. Dropped with all its
    /// leases, one is given up when the next is made, or with the ring.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] unless `count` is a power of two of at most 32768.
    #[doc(alias = "IORING_REGISTER_PBUF_RING")]
    pub fn buf_ring(&mut self, count: u32, size: u32) -> Result<BufRing, RegisterError> {
        self.pool(count, size, Offered::All).map(BufRing)
    }

    /// Makes and registers buffers, as a group that is new.
    pub(super) fn pool(
        &mut self,
        count: u32,
        size: u32,
        offered: Offered,
    ) -> Result<Rc<Pool>, RegisterError> {
        // Those that only we know of are idle: an operation in flight would know of its own.
        self.pools.retain(|pool| {
            let known = Rc::strong_count(pool) > 1;
            if !known {
                pool.retire(Idle::Yes);
            }
            known
        });
        // No number twice: under an old number Linux 6.1 goes on in the new ring where it was in
        // the old one, and picks what nobody offers (BR1). Linux 6.12 begins anew.
        let reason = "a ring makes at most 65536 rings of buffers in its life";
        let id = u16::try_from(self.fixed.groups).map_err(|_| RegisterError::Invalid { reason })?;
        let (base, mark) = (self.raw.base(), Rc::clone(&self.mark));
        let pool = Pool::register(base, self.id, id, count, size, mark)?;
        if offered == Offered::All {
            (0..=u16::MAX).zip(0..count).for_each(|(bid, _)| pool.offer(bid));
        }
        self.fixed.groups += 1;
        self.pools.push(Rc::clone(&pool));
        Ok(pool)
    }
}

impl Pool {
    /// Makes `count` buffers of `each` bytes, as group `id` of `base`.
    fn register(
        base: &Arc<Base>,
        ring: RingId,
        id: u16,
        count: u32,
        each: u32,
        mark: Rc<Mark>,
    ) -> Result<Rc<Self>, RegisterError> {
        let entries = Entries::new(count).filter(|_| count <= BufferRing::MAX_ENTRIES && each > 0);
        let reason = "a ring of buffers has 1, 2, 4, and so on, at most 32768, and none is empty";
        let entries = entries.ok_or(RegisterError::Invalid { reason })?;
        let bytes = each as usize * count as usize;
        let exhausted = RegisterError::OutOfMemory { needed: bytes as u64 };
        let memory = MmapOptions::new().len(bytes).map_anon().map_err(|_| exhausted)?;
        let pool = Self::over(memory, ring, id, count, each, mark);
        let group = Group::register(base, id, entries, Whose::Ours, PbufRingFlags::empty());
        pool.group.replace(Some(group.map_err(|errno| explain(errno, count))?));
        pool.idle.set(false);
        Ok(Rc::new(pool))
    }

    /// Over `memory`, which holds `count` buffers of `each` bytes, and which no kernel knows yet.
    pub(super) fn over(
        memory: MmapMut,
        ring: RingId,
        id: u16,
        count: u32,
        each: u32,
        mark: Rc<Mark>,
    ) -> Self {
        let memory = ManuallyDrop::new(MmapRaw::from(memory));
        let start = NonNull::new(memory.as_mut_ptr()).expect("mmap maps nothing at 0");
        let places = RefCell::new(vec![Place::Kernel; count as usize].into());
        let order = RefCell::new(Order::of(count));
        let (group, idle) = (RefCell::default(), Cell::new(true));
        Self { ring, group, places, order, memory, start, each, id, mark, idle }
    }

    pub(crate) fn ring(&self) -> RingId {
        self.ring
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn at(&self, bid: u16) -> NonNull<u8> {
        // SAFETY: within the buffers, because ids are checked where they come from.
        unsafe { self.start.add(usize::from(bid) * self.each as usize) }
    }

    /// Gives the buffer to the kernel.
    fn offer(&self, bid: u16) {
        self.offer_part(bid, 0, self.each);
    }

    /// Gives `len` bytes from the `start`th of the buffer to the kernel.
    pub(super) fn offer_part(&self, bid: u16, start: u32, len: u32) {
        let mut group = self.group.borrow_mut();
        let Some(group) = group.as_mut() else { return };
        assert!(start.checked_add(len).is_some_and(|end| end <= self.each), "BR1: within it");
        let addr = self.at(bid).as_ptr().expose_provenance() as u64 + u64::from(start);
        // SAFETY: it does not leave this function, and the group does (BR2).
        let ring = unsafe { group.ring() };
        // SAFETY: the pool keeps the buffer, which is in nobody's hands but ours, and gives it back
        // only when a completion names it (BR1).
        let offered = unsafe { ring.push(addr, len, bid) };
        assert!(offered.is_ok(), "BR1: more buffers than there are");
        ring.flush();
        self.order.borrow_mut().push(bid);
    }

    /// Takes note that completions have brought `count` buffers back, each once, since they were
    /// with the kernel.
    pub(super) fn taken(&self, count: u32) {
        if let Some(group) = self.group.borrow_mut().as_mut() {
            // SAFETY: it does not leave this block, and the group does (BR2).
            let ring = unsafe { group.ring() };
            // SAFETY: as the caller has seen, by their places (BR1).
            unsafe { ring.taken(count) };
        }
    }

    /// How many buffers the kernel has picked, if it tells.
    pub(super) fn head(&self) -> Option<u16> {
        self.group.borrow().as_ref().and_then(|group| group.head().ok())
    }

    /// Takes the last `count` buffers off the ring again.
    ///
    /// # Safety
    ///
    /// Nothing may be in flight that could pick one of them, nor one of them have been picked.
    pub(super) unsafe fn rewind(&self, count: u32) {
        if let Some(group) = self.group.borrow_mut().as_mut() {
            // SAFETY: it does not leave this block, and the group does (BR2).
            let ring = unsafe { group.ring() };
            // SAFETY: as promised to `rewind`.
            unsafe { ring.rewind(count) };
        }
    }

    /// Whether there is a ring that it is registered with.
    pub(super) fn is_registered(&self) -> bool {
        self.group.borrow().is_some()
    }

    pub(super) fn each(&self) -> u32 {
        self.each
    }

    pub(super) fn count(&self) -> usize {
        self.places.borrow().len()
    }

    /// The buffer that a completion names, whether it succeeded or failed.
    pub(crate) fn lease(pool: &Rc<Self>, cqe: Cqe) -> Option<BufLease> {
        let bid = cqe.buffer_id()?;
        let mut places = pool.places.borrow_mut();
        // What names no buffer that the kernel has is no completion of ours: nothing is leased.
        let place = places.get_mut(usize::from(bid)).filter(|place| **place == Place::Kernel)?;
        *place = Place::Lease;
        drop(places);
        pool.taken(1);
        let len = u32::try_from(cqe.res).unwrap_or(0).min(pool.each);
        Some(BufLease { pool: Rc::clone(pool), bid, len })
    }

    /// The ring goes, or nobody else knows of it. `idle`: nothing is in flight that could pick a
    /// buffer.
    pub(crate) fn retire(&self, idle: Idle) {
        let Some(group) = self.group.take() else { return };
        let unregistered = match idle {
            // SAFETY: nothing is in flight, as promised to `retire` (RG1).
            Idle::Yes => unsafe { group.unregister_idle() },
            Idle::No => group.unregister(),
        };
        // Failing, it leaks (RG1).
        self.idle.set(idle == Idle::Yes && unregistered.is_ok());
    }

    fn leased(&self) -> usize {
        self.places.borrow().iter().filter(|&&place| place == Place::Lease).count()
    }
}

fn explain(errno: Errno, count: u32) -> RegisterError {
    match errno.raw() {
        libc::EINVAL => RegisterError::Unsupported { what: "a ring of buffers", since: "5.19" },
        // Of the ring, not of the buffers: only that is pinned.
        libc::ENOMEM => RegisterError::no_memory(u64::from(count) * size_of::<Buf>() as u64),
        _ => RegisterError::Other(errno),
    }
}

/// Whether every request of a ring has completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    Yes,
    No,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // RG1: leaked unless the kernel is known to be done. No lease is left, since each holds us.
        if self.idle.get() {
            // SAFETY: dropped once, because the pool is not used again; and idle (RG1).
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl BufRing {
    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.0.places.borrow().len()
    }

    /// How many bytes each holds.
    pub fn buffer_size(&self) -> u32 {
        self.0.each
    }

    /// The number by which entries of one's own name the ring, in their `buf_group`.
    #[doc(alias = "bgid")]
    pub fn group(&self) -> u16 {
        self.0.id
    }

    /// How many are in leases now.
    pub fn leased(&self) -> usize {
        self.0.leased()
    }
}

impl Deref for BufLease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.pool.at(self.bid).as_ptr();
        // SAFETY: zeroed at first, and ours alone while the lease lives (BR1).
        unsafe { slice::from_raw_parts(start, self.len as usize) }
    }
}

impl DerefMut for BufLease {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.pool.at(self.bid).as_ptr();
        // SAFETY: zeroed at first, and ours alone while the lease lives (BR1).
        unsafe { slice::from_raw_parts_mut(start, self.len as usize) }
    }
}

impl AsRef<[u8]> for BufLease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for BufLease {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// A lease can be sent on as it is, and is offered again when that is done.
impl IoBuf for BufLease {
    fn region(&self) -> Region<'_> {
        (&**self).into()
    }
}

impl Drop for BufLease {
    fn drop(&mut self) {
        if self.pool.mark.is_ours() {
            self.pool.places.borrow_mut()[usize::from(self.bid)] = Place::Kernel;
            self.pool.offer(self.bid);
        }
    }
}

/// A lease of a buffer of `size` bytes that no kernel knows, of which a completion said `result`.
#[cfg(test)]
pub(super) fn lone_lease(size: u32, result: i32) -> BufLease {
    use annulus_sys::flags::CqeFlags;

    let memory = MmapOptions::new().len(size as usize).map_anon().expect("memory");
    let mark = Rc::new(Mark::new().expect("a page"));
    let pool = Rc::new(Pool::over(memory, RingId(1), 0, 1, size, mark));
    let cqe = Cqe { user_data: 0, res: result, flags: CqeFlags::BUFFER };
    Pool::lease(&pool, cqe).expect("the only one")
}

#[cfg(test)]
mod tests {
    use annulus_sys::flags::{CQE_BUFFER_SHIFT, CqeFlags};

    use super::*;

    /// `count` buffers of 8 bytes that no kernel knows.
    fn pool(count: u32) -> Rc<Pool> {
        let memory = MmapOptions::new().len(count as usize * 8).map_anon().expect("memory");
        let mark = Rc::new(Mark::new().expect("a page"));
        Rc::new(Pool::over(memory, RingId(1), 0, count, 8, mark))
    }

    /// A completion with `result` that names buffer `bid`.
    fn cqe(result: i32, bid: u16) -> Cqe {
        let bits = CqeFlags::BUFFER.bits() | u32::from(bid) << CQE_BUFFER_SHIFT;
        Cqe { user_data: 0, res: result, flags: CqeFlags::from_bits_retain(bits) }
    }

    #[test]
    fn br1_what_cannot_be_is_not_leased() {
        let pool = pool(4);
        assert!(Pool::lease(&pool, cqe(1, 4)).is_none(), "beyond the last");
        assert!(Pool::lease(&pool, cqe(1, u16::MAX)).is_none());
        let none = Cqe { flags: CqeFlags::empty(), ..cqe(1, 3) };
        assert!(Pool::lease(&pool, none).is_none(), "names no buffer");
        let lease = Pool::lease(&pool, cqe(1, 3)).expect("the last");
        assert!(Pool::lease(&pool, cqe(1, 3)).is_none(), "leased already");
        assert_eq!(pool.leased(), 1);
        drop(lease);
        assert!(Pool::lease(&pool, cqe(1, 3)).is_some());
    }

    #[test]
    fn br1_a_lease_is_no_longer_than_its_buffer() {
        let pool = pool(2);
        for (result, len) in [(0, 0), (3, 3), (8, 8), (9, 8), (i32::MAX, 8), (-5, 0), (i32::MIN, 0)]
        {
            let lease = Pool::lease(&pool, cqe(result, 1)).expect("it is free");
            assert_eq!(*lease, vec![0; len], "{result}");
        }
    }
}

//! Buffer rings: the kernel selects a buffer when data arrives, and the completion names it.
//!
//! ```text
//!           provided ─── the kernel selects ──► in a completion ──► BufLease
//!                ▲                                                      │
//!                └───────────────────── dropped ────────────────────────┘
//! ```
//!
//! So a thousand idle connections do not need a thousand buffers. An operation that selects from an
//! empty ring fails at once with `ENOBUFS`: drop leases sooner, or make the ring larger.
//!
//! With incremental consumption ([`Consumption::Incremental`]), several leases share one buffer.
//! Each lease is the part that one completion filled, and the kernel keeps the buffer as long as
//! there is room in it. The buffer is provided again once the kernel has given it up and its last
//! lease is dropped. A completion does not say where its part begins: it begins where the previous
//! part ended. So not every mix of operations may select from such a ring at once. Others are
//! [rejected](crate::Rejection::BufRingBusy):
//!
//! | in flight | may be submitted as well |
//! |---|---|
//! | any number of multishot receives or reads | more of these |
//! | one single-shot operation | nothing |
//!
//! A [bundle](crate::op::RecvBundle) must be alone on its buffer ring, too.
//!
//! Keeps BR1: a buffer is with the kernel, in a lease, or in a completion that no code has taken
//! yet. A buffer goes back even if the operation that selected it failed or was given up. A failed
//! operation may also name a buffer that belongs to another operation in flight on this ring. Such
//! a buffer goes back only when none of those is in flight any more. So where a multishot receive
//! is always armed, give receives that are forced and cancelled their own buffer ring.
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
//!     Some(bytes) => assert_eq!(&bytes?[..], b"hello"),
//!     None => println!("multishot recv needs Linux 6.0"),
//! }
//! ring.detach(stream);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "owns buffers that the kernel fills")]

mod bundle;
mod lease;
mod make;
mod place;
mod sharing;

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;
use annulus_sys::groups::Group;
use annulus_sys::process::Process;
use memmap2::{MmapMut, MmapOptions, MmapRaw};

use crate::raw::RingId;
use crate::raw::register::Consumption;
use crate::raw::register::RegisterError;

pub use bundle::Bundle;
pub use lease::BufLease;
pub(crate) use make::{Pools, Wanted};
use place::{Order, Owner, Place};
pub(super) use sharing::{MayLose, Share};

/// A buffer ring: buffers that the kernel selects from. Cheap to clone.
///
/// Made by [`Ring::buf_ring`](crate::Ring::buf_ring), which has an example.
#[derive(Debug, Clone)]
pub struct BufRing(pub(crate) Rc<Pool>);

/// Which buffers of a new ring are provided to the kernel at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    All,
    None,
}

/// The buffers, and the shared ring that offers them to the kernel.
#[derive(Debug)]
pub(crate) struct Pool {
    ring: RingId,
    /// `None` once the ring is gone.
    group: RefCell<Option<Group>>,
    places: RefCell<Box<[Place]>>,
    order: RefCell<Order>,
    /// Unmapped only if the kernel is known to be done with it (RG1).
    memory: ManuallyDrop<MmapRaw>,
    start: NonNull<u8>,
    each: u32,
    used: Consumption,
    id: u16,
    /// How many operations in flight select from this ring.
    claims: Cell<u32>,
    /// The share of the operation that was submitted last.
    share: Cell<Share>,
    may_lose: Cell<MayLose>,
    process: Process,
    /// The kernel is known to be done with the buffers.
    idle: Cell<bool>,
}

impl Pool {
    /// Memory for `count` buffers of `each` bytes.
    fn map(count: u32, each: u32) -> Result<MmapMut, RegisterError> {
        let bytes = each as usize * count as usize;
        let exhausted = RegisterError::OutOfMemory { needed: bytes as u64 };
        let mut memory = MmapOptions::new().len(bytes).map_anon().map_err(|_| exhausted)?;
        let start = memory.as_mut_ptr().cast();
        // A forked child sees zeroes there, and the kernel goes on filling the parent's memory.
        // SAFETY: the range is a whole new mapping, and the advice changes nothing in this process:
        // it only says what a child sees.
        let advised = unsafe { libc::madvise(start, bytes, libc::MADV_WIPEONFORK) };
        if advised < 0 { Err(exhausted) } else { Ok(memory) }
    }

    /// Belongs from now on to `group`, which is new.
    fn join(&self, group: Group) {
        self.group.replace(Some(group));
        self.idle.set(false);
    }

    /// A pool over `memory`, which holds `count` buffers of `each` bytes. No kernel knows them yet.
    pub(super) fn over(
        memory: MmapMut,
        ring: RingId,
        id: u16,
        count: u32,
        each: u32,
        process: Process,
    ) -> Self {
        let memory = ManuallyDrop::new(MmapRaw::from(memory));
        let start = NonNull::new(memory.as_mut_ptr()).expect("mmap maps nothing at 0");
        let places = RefCell::new(vec![Place::OFFERED; count as usize].into());
        let order = RefCell::new(Order::of(count));
        let (group, idle) = (RefCell::default(), Cell::new(true));
        let used = Consumption::Whole;
        let (claims, share, may_lose) =
            (Cell::new(0), Cell::new(Share::WithOthers), Cell::new(MayLose::No));
        Self {
            ring,
            group,
            places,
            order,
            memory,
            start,
            each,
            used,
            id,
            claims,
            share,
            may_lose,
            process,
            idle,
        }
    }

    pub(crate) fn ring(&self) -> RingId {
        self.ring
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// Whether several completions may fill one buffer (incremental consumption).
    pub(crate) fn is_used_in_parts(&self) -> bool {
        matches!(self.used, Consumption::Incremental { .. })
    }

    /// The start of buffer `bid`.
    ///
    /// # Safety
    ///
    /// There must be a buffer of that id.
    pub(super) unsafe fn at(&self, bid: u16) -> NonNull<u8> {
        // SAFETY: within the buffers, as promised to `at`.
        unsafe { self.start.add(usize::from(bid) * self.each as usize) }
    }

    /// Gives the buffer to the kernel.
    ///
    /// # Safety
    ///
    /// As for [`offer_part`](Self::offer_part).
    unsafe fn offer(&self, bid: u16) {
        // SAFETY: as promised to `offer`.
        unsafe { self.offer_part(bid, 0, self.each) };
    }

    /// Gives `len` bytes of the buffer to the kernel, from offset `start`.
    ///
    /// # Safety
    ///
    /// There must be a buffer of that id. The kernel must not have it, and no lease may cover it,
    /// nor be made before a completion names the buffer (BR1).
    pub(super) unsafe fn offer_part(&self, bid: u16, start: u32, len: u32) {
        let mut group = self.group.borrow_mut();
        let Some(group) = group.as_mut() else { return };
        assert!(start.checked_add(len).is_some_and(|end| end <= self.each), "BR1: within it");
        // SAFETY: as promised to `offer_part`.
        let addr = unsafe { self.at(bid) }.as_ptr().expose_provenance() as u64 + u64::from(start);
        // SAFETY: the ring does not leave this function, and the group outlives it (BR2).
        let ring = unsafe { group.ring() };
        // SAFETY: the pool keeps the buffer. The kernel does not have it and no lease covers it, as
        // promised to `offer_part` (BR1).
        let offered = unsafe { ring.push(addr, len, bid) };
        assert!(offered.is_ok(), "BR1: more buffers than there are");
        ring.flush();
        self.order.borrow_mut().push(bid);
    }

    /// Records that the kernel has given up `count` buffers.
    ///
    /// # Safety
    ///
    /// The kernel must have given up each of them, according to a completion or to what it reports
    /// that it has selected, and each must be recorded once (BR1).
    pub(super) unsafe fn taken(&self, count: u32) {
        if let Some(group) = self.group.borrow_mut().as_mut() {
            // SAFETY: the ring does not leave this block, and the group outlives it (BR2).
            let ring = unsafe { group.ring() };
            // SAFETY: as promised to `taken` (BR1).
            unsafe { ring.taken(count) };
        }
        let count = u16::try_from(count).expect("BR1: a ring has at most 32768 entries");
        self.order.borrow_mut().taken(count);
    }

    /// How many buffers the kernel has selected so far, if it reports that (`PBUF_STATUS`).
    pub(super) fn head(&self) -> Option<u16> {
        self.group.borrow().as_ref().and_then(|group| group.head().ok())
    }

    /// Whether the ring's restrictions forbid asking for [`head`](Self::head).
    pub(super) fn may_not_ask(&self) -> bool {
        let group = self.group.borrow();
        group.as_ref().is_some_and(|group| group.head().is_err_and(|why| why.is(libc::EACCES)))
    }

    /// Removes the last `count` buffers from the ring again.
    ///
    /// # Safety
    ///
    /// The kernel must not have selected any of these buffers, and nothing in flight may do so.
    pub(super) unsafe fn rewind(&self, count: u32) {
        if let Some(group) = self.group.borrow_mut().as_mut() {
            // SAFETY: the ring does not leave this block, and the group outlives it (BR2).
            let ring = unsafe { group.ring() };
            // SAFETY: as promised to `rewind`.
            unsafe { ring.rewind(count) };
        }
        let count = u16::try_from(count).expect("BR1: a ring has at most 32768 entries");
        self.order.borrow_mut().rewind(count);
    }

    /// Whether the pool is registered with a ring of this process.
    pub(super) fn is_registered(&self) -> bool {
        self.process.is_this() && self.group.borrow().is_some()
    }

    pub(super) fn each(&self) -> u32 {
        self.each
    }

    pub(super) fn count(&self) -> usize {
        self.places.borrow().len()
    }

    /// The buffer that a completion names, whether it succeeded or failed.
    ///
    /// # Safety
    ///
    /// The kernel must have posted `cqe` for an operation that selects from this pool. Each
    /// completion must be used once, in the order in which they came.
    pub(crate) unsafe fn lease(pool: &Rc<Self>, cqe: Cqe) -> Option<BufLease> {
        let bid = cqe.buffer_id()?;
        // SAFETY: a completion of the kernel's names it, as promised to `lease`.
        unsafe { pool.pass_over(bid) };
        let mut places = pool.places.borrow_mut();
        // A completion that names no buffer of the kernel's is not ours: nothing is leased.
        let place =
            places.get_mut(usize::from(bid)).filter(|place| place.owner == Owner::Kernel)?;
        let bytes = u32::try_from(cqe.res);
        let owner = match bytes {
            Ok(bytes) => pool.owner_after(bid, *place, bytes, cqe.flags),
            Err(_) => pool.note_failure(bid),
        };
        let bytes = bytes.unwrap_or(0);
        let (start, len) = place.fill(bytes, pool.each, owner);
        drop(places);
        if owner != Owner::Kernel {
            // SAFETY: the completion names it, as promised to `lease`, and its place said that the
            // kernel had it (BR1).
            unsafe { pool.taken(1) };
        }
        Some(BufLease { pool: Rc::clone(pool), bid, start, len })
    }

    /// Who has the buffer at `place`, after a completion has said that `bytes` of it were filled.
    fn owner_after(&self, bid: u16, place: Place, bytes: u32, flags: CqeFlags) -> Owner {
        match self.used {
            Consumption::Whole => Owner::Us,
            // A completion that filled nothing has consumed nothing, whatever its flags say: at the
            // end of a stream, kernels were seen to report a buffer as done and then go on filling
            // it.
            Consumption::Incremental { .. } if bytes == 0 || flags.contains(CqeFlags::BUF_MORE) => {
                Owner::Kernel
            }
            // If there is room left, the completion may come from a worker thread: Linux 6.16 then
            // reports a buffer as done that it goes on filling.
            Consumption::Incremental { .. }
                if self.is_alone() && bytes < self.each - place.filled =>
            {
                self.owner_of(bid)
            }
            Consumption::Incremental { .. } => Owner::Us,
        }
    }

    /// The ring ends, or nothing else refers to the pool. `idle` says whether anything in flight
    /// could still select a buffer.
    ///
    /// # Safety
    ///
    /// If `idle` is [`Idle::Yes`], nothing in flight may select from this pool.
    pub(crate) unsafe fn retire(&self, idle: Idle) {
        let Some(group) = self.group.take() else { return };
        let unregistered = match idle {
            // SAFETY: nothing is in flight, as promised to `retire` (RG1).
            Idle::Yes => unsafe { group.unregister_idle() },
            Idle::No => group.unregister(),
        };
        // If unregistering fails, the buffers are leaked (RG1).
        self.idle.set(idle == Idle::Yes && unregistered.is_ok());
    }

    fn leased(&self) -> usize {
        self.places.borrow().iter().filter(|place| place.leases > 0).count()
    }
}

/// Whether every request of a ring that ends has completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    Yes,
    No,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // RG1: leaked unless the kernel is known to be done. No lease is left, because each holds
        // the pool.
        if self.idle.get() {
            // SAFETY: dropped once, because the pool is not used again; and the kernel is done with
            // it (RG1).
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

/// What [`Pool::lease`] returns for a pool that no kernel knows.
#[cfg(test)]
fn leased(pool: &Rc<Pool>, cqe: Cqe) -> Option<BufLease> {
    assert!(pool.group.borrow().is_none(), "no kernel fills it");
    // SAFETY: nothing fills the buffers while they are leased, because no kernel knows them.
    unsafe { Pool::lease(pool, cqe) }
}

/// A lease of a buffer of `size` bytes that no kernel knows, filled by a completion with `result`.
#[cfg(test)]
pub(super) fn lone_lease(size: u32, result: i32) -> BufLease {
    let memory = MmapOptions::new().len(size as usize).map_anon().expect("memory");
    let ring = RingId(std::num::NonZero::<u32>::MIN);
    let pool = Rc::new(Pool::over(memory, ring, 0, 1, size, Process::this()));
    let cqe = Cqe { user_data: 0, res: result, flags: CqeFlags::BUFFER };
    leased(&pool, cqe).expect("the only one")
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use annulus_sys::flags::CQE_BUFFER_SHIFT;

    use super::*;

    /// `count` buffers of 8 bytes that no kernel knows.
    fn pool(count: u32) -> Rc<Pool> {
        let memory = MmapOptions::new().len(count as usize * 8).map_anon().expect("memory");
        Rc::new(Pool::over(memory, RingId(NonZero::<u32>::MIN), 0, count, 8, Process::this()))
    }

    /// A completion with `result` that names buffer `bid`.
    fn cqe(result: i32, bid: u16) -> Cqe {
        let bits = CqeFlags::BUFFER.bits() | u32::from(bid) << CQE_BUFFER_SHIFT;
        Cqe { user_data: 0, res: result, flags: CqeFlags::from_bits_retain(bits) }
    }

    #[test]
    fn br1_what_cannot_be_is_not_leased() {
        let pool = pool(4);
        assert!(leased(&pool, cqe(1, 4)).is_none(), "beyond the last");
        assert!(leased(&pool, cqe(1, u16::MAX)).is_none());
        let none = Cqe { flags: CqeFlags::empty(), ..cqe(1, 3) };
        assert!(leased(&pool, none).is_none(), "names no buffer");
        let lease = leased(&pool, cqe(1, 3)).expect("the last");
        assert!(leased(&pool, cqe(1, 3)).is_none(), "leased already");
        assert_eq!(pool.leased(), 1);
        drop(lease);
        assert!(leased(&pool, cqe(1, 3)).is_some());
    }

    #[test]
    fn br1_a_lease_is_no_longer_than_its_buffer() {
        let pool = pool(2);
        for (result, len) in [(0, 0), (3, 3), (8, 8), (9, 8), (i32::MAX, 8), (-5, 0), (i32::MIN, 0)]
        {
            let lease = leased(&pool, cqe(result, 1)).expect("it is free");
            assert_eq!(*lease, vec![0; len], "{result}");
        }
    }

    /// A pool with incremental consumption.
    fn pool_of_parts(count: u32) -> Rc<Pool> {
        let mut pool = Rc::into_inner(pool(count)).expect("nobody else has it");
        pool.used = Consumption::Incremental { min_left: 0 };
        Rc::new(pool)
    }

    /// As [`cqe`], for a buffer that the kernel goes on filling.
    fn more(result: i32, bid: u16) -> Cqe {
        let cqe = cqe(result, bid);
        Cqe { flags: cqe.flags | CqeFlags::BUF_MORE, ..cqe }
    }

    #[test]
    fn br1_parts_of_a_buffer_follow_each_other() {
        let pool = pool_of_parts(2);
        let first = leased(&pool, more(5, 1)).expect("with the kernel");
        let second = leased(&pool, more(2, 1)).expect("with the kernel still");
        let last = leased(&pool, cqe(9, 1)).expect("with the kernel still");
        let parts = [&first, &second, &last].map(|lease| (lease.start, lease.len()));
        assert_eq!(parts, [(0, 5), (5, 2), (7, 1)], "and no part is beyond the end");
        assert_eq!(pool.leased(), 1);
        assert!(leased(&pool, more(1, 1)).is_none(), "given up by the kernel");
    }

    #[test]
    fn br1_a_buffer_is_offered_again_when_all_of_its_parts_are_back() {
        let pool = pool_of_parts(1);
        let first = leased(&pool, more(5, 0)).expect("with the kernel");
        drop(leased(&pool, more(1, 0)));
        let last = leased(&pool, cqe(2, 0)).expect("with the kernel still");
        drop(last);
        assert!(leased(&pool, cqe(1, 0)).is_none(), "the first part is held");
        drop(first);
        let again = leased(&pool, more(3, 0)).expect("offered again");
        assert_eq!((again.start, again.len()), (0, 3));
    }

    #[test]
    fn br1_a_part_of_no_bytes_uses_nothing_up() {
        let pool = pool_of_parts(1);
        for result in [0, -1, i32::MIN] {
            drop(leased(&pool, cqe(result, 0)));
            assert_eq!(pool.places.borrow()[0], Place::OFFERED, "{result}");
        }
        let whole = self::pool(1);
        drop(leased(&whole, more(0, 0)));
        let lease = leased(&whole, more(1, 0)).expect("it came back");
        assert!(leased(&whole, cqe(1, 0)).is_none(), "a whole one is in one lease");
        drop(lease);
    }
}

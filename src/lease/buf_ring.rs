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
//! A buffer that is used in parts ([`Used::InParts`]) is in several leases, each of what one
//! completion filled, and with the kernel as long as there is room in it. It is offered again when
//! the kernel has given it up and the last of its leases is dropped. A completion does not say
//! where its part begins: that is where the one before it ended. So not everything may pick from
//! such a ring at once, and what may not is [rejected](crate::Rejection::Picking):
//!
//! | in flight | may come beside it |
//! |---|---|
//! | any number of receives or reads that complete many times | others of these |
//! | one that completes once | nothing |
//!
//! A [bundle](crate::op::RecvBundle) has its ring of buffers alone, too.
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
mod claim;
mod lease;
mod make;
mod place;

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;
use annulus_sys::groups::Group;
use annulus_sys::process::Process;
use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::error::RegisterError;
use crate::op::RingId;
use crate::register::Used;

pub use bundle::Bundle;
pub(super) use claim::{Doubt, Share};
use place::{Order, Place, With};

/// A ring of buffers that the kernel picks from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BufRing(pub(crate) Rc<Pool>);

/// A buffer that the kernel picked and filled. Dropped, it is offered again.
#[derive(Debug)]
pub struct BufLease {
    pool: Rc<Pool>,
    bid: u16,
    /// Where in its buffer it begins.
    start: u32,
    len: u32,
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
    used: Used,
    id: u16,
    /// How many operations in flight pick from here.
    claims: Cell<u32>,
    /// How the last one that was submitted does.
    share: Cell<Share>,
    doubt: Cell<Doubt>,
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
        // A forked child has zeroes of its own there, and the kernel goes on to fill ours.
        // SAFETY: all of a new mapping, and advice that changes nothing in this process, because it
        // says what a child is to see.
        let advised = unsafe { libc::madvise(start, bytes, libc::MADV_WIPEONFORK) };
        if advised < 0 { Err(exhausted) } else { Ok(memory) }
    }

    /// Is of `group` from now on, which is new.
    fn join(&self, group: Group) {
        self.group.replace(Some(group));
        self.idle.set(false);
    }

    /// Over `memory`, which holds `count` buffers of `each` bytes, and which no kernel knows yet.
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
        let used = Used::Whole;
        let (claims, share, doubt) =
            (Cell::new(0), Cell::new(Share::WithOthers), Cell::new(Doubt::No));
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
            doubt,
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

    /// Whether a buffer is filled by several completions.
    pub(crate) fn is_used_in_parts(&self) -> bool {
        matches!(self.used, Used::InParts { .. })
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
        let count = u16::try_from(count).expect("BR1: a ring has at most 32768 entries");
        self.order.borrow_mut().taken(count);
    }

    /// How many buffers the kernel has picked, if it tells.
    pub(super) fn head(&self) -> Option<u16> {
        self.group.borrow().as_ref().and_then(|group| group.head().ok())
    }

    /// Whether the ring is restricted from asking for [`head`](Self::head).
    pub(super) fn may_not_ask(&self) -> bool {
        let group = self.group.borrow();
        group.as_ref().is_some_and(|group| group.head().is_err_and(|why| why.is(libc::EACCES)))
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
        let count = u16::try_from(count).expect("BR1: a ring has at most 32768 entries");
        self.order.borrow_mut().rewind(count);
    }

    /// Whether there is a ring that it is registered with, and not a parent's.
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
    pub(crate) fn lease(pool: &Rc<Self>, cqe: Cqe) -> Option<BufLease> {
        let bid = cqe.buffer_id()?;
        pool.pass_over(bid);
        let mut places = pool.places.borrow_mut();
        // What names no buffer that the kernel has is no completion of ours: nothing is leased.
        let place = places.get_mut(usize::from(bid)).filter(|place| place.with == With::Kernel)?;
        let bytes = u32::try_from(cqe.res);
        let with = match bytes {
            Ok(bytes) => pool.with(bid, *place, bytes, cqe.flags),
            Err(_) => pool.with_whom_failing(bid),
        };
        let bytes = bytes.unwrap_or(0);
        let (start, len) = place.fill(bytes, pool.each, with);
        drop(places);
        if with != With::Kernel {
            pool.taken(1);
        }
        Some(BufLease { pool: Rc::clone(pool), bid, start, len })
    }

    /// With whom the buffer at `place` is, once a completion has said that `bytes` of it were
    /// filled.
    fn with(&self, bid: u16, place: Place, bytes: u32, flags: CqeFlags) -> With {
        match self.used {
            Used::Whole => With::Us,
            // A completion that has filled nothing has used nothing up, whatever its flags say: at
            // the end of a stream kernels were seen to give back what they go on to fill.
            Used::InParts { .. } if bytes == 0 || flags.contains(CqeFlags::BUF_MORE) => {
                With::Kernel
            }
            // With room left, it may have come from a worker thread, and Linux 6.16 says of what it
            // goes on to fill that it has given it up.
            Used::InParts { .. } if self.is_alone() && bytes < self.each - place.filled => {
                self.with_whom(bid)
            }
            Used::InParts { .. } => With::Us,
        }
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
        self.places.borrow().iter().filter(|place| place.leases > 0).count()
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

/// A lease of a buffer of `size` bytes that no kernel knows, of which a completion said `result`.
#[cfg(test)]
pub(super) fn lone_lease(size: u32, result: i32) -> BufLease {
    let memory = MmapOptions::new().len(size as usize).map_anon().expect("memory");
    let ring = RingId(std::num::NonZero::<u32>::MIN);
    let pool = Rc::new(Pool::over(memory, ring, 0, 1, size, Process::this()));
    let cqe = Cqe { user_data: 0, res: result, flags: CqeFlags::BUFFER };
    Pool::lease(&pool, cqe).expect("the only one")
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

    /// A pool whose buffers are used in parts.
    fn pool_of_parts(count: u32) -> Rc<Pool> {
        let mut pool = Rc::into_inner(pool(count)).expect("nobody else has it");
        pool.used = Used::InParts { min_left: 0 };
        Rc::new(pool)
    }

    /// The same buffer, which the kernel goes on to fill.
    fn more(result: i32, bid: u16) -> Cqe {
        let cqe = cqe(result, bid);
        Cqe { flags: cqe.flags | CqeFlags::BUF_MORE, ..cqe }
    }

    #[test]
    fn br1_parts_of_a_buffer_follow_each_other() {
        let pool = pool_of_parts(2);
        let first = Pool::lease(&pool, more(5, 1)).expect("with the kernel");
        let second = Pool::lease(&pool, more(2, 1)).expect("with the kernel still");
        let last = Pool::lease(&pool, cqe(9, 1)).expect("with the kernel still");
        let parts = [&first, &second, &last].map(|lease| (lease.start, lease.len()));
        assert_eq!(parts, [(0, 5), (5, 2), (7, 1)], "and no part is beyond the end");
        assert_eq!(pool.leased(), 1);
        assert!(Pool::lease(&pool, more(1, 1)).is_none(), "given up by the kernel");
    }

    #[test]
    fn br1_a_buffer_is_offered_again_when_all_of_its_parts_are_back() {
        let pool = pool_of_parts(1);
        let first = Pool::lease(&pool, more(5, 0)).expect("with the kernel");
        drop(Pool::lease(&pool, more(1, 0)));
        let last = Pool::lease(&pool, cqe(2, 0)).expect("with the kernel still");
        drop(last);
        assert!(Pool::lease(&pool, cqe(1, 0)).is_none(), "the first part is held");
        drop(first);
        let again = Pool::lease(&pool, more(3, 0)).expect("offered again");
        assert_eq!((again.start, again.len()), (0, 3));
    }

    #[test]
    fn br1_a_part_of_no_bytes_uses_nothing_up() {
        let pool = pool_of_parts(1);
        for result in [0, -1, i32::MIN] {
            drop(Pool::lease(&pool, cqe(result, 0)));
            assert_eq!(pool.places.borrow()[0], Place::OFFERED, "{result}");
        }
        let whole = self::pool(1);
        drop(Pool::lease(&whole, more(0, 0)));
        let lease = Pool::lease(&whole, more(1, 0)).expect("it came back");
        assert!(Pool::lease(&whole, cqe(1, 0)).is_none(), "a whole one is in one lease");
        drop(lease);
    }
}

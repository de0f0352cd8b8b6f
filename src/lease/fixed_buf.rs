//! Registered buffers: the kernel looks their pages up once, and not with each operation.
//!
//! ```text
//!   one map │ buffer 0 │ buffer 1 │ buffer 2 │ …      each registered under its number
//!                ▲          │
//!        get ────┘          └──── dropped: free again
//!        FixedBuf { pool, 1, filled } ──► ReadFixed ──► the kernel knows the pages of 1
//! ```
//!
//! That saves some of the cost of `O_DIRECT` and of zero-copy sends; where bytes are copied (page
//! cache, pipes, plain sockets) it saves nothing.
//!
//! The kernel holds references to the pages, so once it knows an address no unmapping can make it
//! write elsewhere. But a lease in a plain [`Read`](crate::op::Read) is named by its address alone,
//! and addresses are reused. So the map stays until no lease is left and the ring is known to be
//! idle; otherwise it is leaked (RG1). An operation holds its lease in its slot, so a lease is not
//! handed out again while the kernel uses it (OP1).
//!
//! A forked child has zeroes of its own there (`MADV_WIPEONFORK`): what it reads or writes in a
//! lease is nobody else's.
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::{ReadFixed, WriteFixed};
//!
//! let mut ring = Setup::new(8).build()?;
//! let pool = ring.fixed_pool(2, 4096)?;
//! let (reader, writer) = std::io::pipe()?;
//!
//! let mut line = pool.get().expect("both are free");
//! line.set_len(5);
//! line.copy_from_slice(b"hello");
//! let write = ring.submit(WriteFixed::new(writer, line))?;
//! let read = ring.submit(ReadFixed::new(reader, pool.get().expect("one is free")))?;
//! assert!(pool.get().is_none());
//! assert_eq!(ring.wait(write)?.result?, 5);
//! let (_, line) = ring.wait(read)?.ok()?;
//! assert_eq!(&line[..], b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "owns memory that the kernel uses by number")]

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use annulus_sys::errno::Errno;
use annulus_sys::map::{Map, Pages};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;

use super::buf_ring::Idle;
use super::error::RegisterError;
use crate::buf::{IoBuf, IoBufMut, Region, RegionMut};
use crate::op::RingId;
use crate::ring::Ring;

/// The longest buffer that the kernel registers: 1 GiB.
const LONGEST: u32 = 1 << 30;

/// Buffers that are registered with a ring. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FixedPool(Rc<Pool>);

/// A registered buffer. Dropped, it is free again.
///
/// It shows, and the kernel reads, the bytes that are filled; the kernel writes all of it, from the
/// front. It can be used in any operation that takes buffers, and is known by its number in
/// [`ReadFixed`](crate::op::ReadFixed) and [`WriteFixed`](crate::op::WriteFixed).
#[derive(Debug)]
pub struct FixedBuf {
    pool: Rc<Pool>,
    filled: u32,
    index: u16,
}

const _: () = assert!(size_of::<FixedBuf>() == 16);

/// The buffers, and which of them are free.
#[derive(Debug)]
pub(crate) struct Pool {
    ring: RingId,
    /// `None` once the ring is gone.
    base: RefCell<Option<Arc<Base>>>,
    map: Map,
    start: NonNull<u8>,
    size: u32,
    /// How far apart they begin.
    stride: usize,
    count: u16,
    free: RefCell<Vec<u16>>,
}

impl<U: Default> Ring<U> {
    /// Makes and registers `count` buffers of `size` bytes each, zeroed. Each begins at a multiple
    /// of 64 bytes, and of a page if `size` is one. Since Linux 5.1.
    ///
    /// A ring has one pool at a time. When the pool and all its buffers are dropped, another can be
    /// made. Before Linux 6.13 that waits for every operation in flight that uses a registered
    /// file, and before 5.13 any registration waits for all that is in flight: make it first.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] while there is another, and [`RegisterError::LockedMemory`] beyond
    /// what this user may lock into memory.
    #[doc(alias = "IORING_REGISTER_BUFFERS")]
    pub fn fixed_pool(&mut self, count: u16, size: u32) -> Result<FixedPool, RegisterError> {
        if let Some(old) = self.fixed.buffers.take_if(|old| Rc::strong_count(old) == 1) {
            old.retire(Idle::Yes); // An operation in flight would have a lease.
        }
        if self.fixed.buffers.is_some() {
            return Err(RegisterError::Taken { what: "pool of registered buffers" });
        }
        let pool = Pool::register(self.raw.base(), self.id, count, size)?;
        self.fixed.buffers = Some(Rc::clone(&pool));
        Ok(FixedPool(pool))
    }
}

impl Pool {
    fn register(
        base: &Arc<Base>,
        ring: RingId,
        count: u16,
        size: u32,
    ) -> Result<Rc<Self>, RegisterError> {
        if count == 0 || size == 0 || size > LONGEST {
            let reason = "registered buffers are one or more, of 1 byte to 1 GiB each";
            return Err(RegisterError::Invalid { reason });
        }
        let stride = (size as usize).next_multiple_of(64);
        let bytes = stride * usize::from(count);
        let needed = bytes as u64;
        let map =
            Map::own(bytes, Pages::Ordinary).map_err(|_| RegisterError::OutOfMemory { needed })?;
        let registered = register(base, &map, count, size, stride);
        let free = RefCell::new((0..count).rev().collect());
        let (start, base) = (map.at(0, bytes), RefCell::new(Some(Arc::clone(base))));
        let pool = Self { ring, base, map, start, size, stride, count, free };
        if let Err(errno) = registered {
            // SAFETY: the kernel refused the memory, so it has no use for it (RG1).
            unsafe { pool.map.found_idle() };
            return Err(explain(errno, needed));
        }
        Ok(Rc::new(pool))
    }

    /// The ring goes, or nobody has a lease any more. `idle`: nothing in flight uses the buffers.
    pub(crate) fn retire(&self, idle: Idle) {
        let Some(base) = self.base.take() else { return };
        if idle == Idle::Yes {
            // SAFETY: takes no argument, because `io_uring_register(2)` says so. Failing, the
            // kernel keeps references to pages, and names no address.
            let _ = unsafe { base.register(RegisterOp::UNREGISTER_BUFFERS, ptr::null_mut(), 0) };
            // SAFETY: nothing in flight names an address in it, as promised to `retire` (RG1).
            unsafe { self.map.found_idle() };
        }
    }

    fn at(&self, index: u16) -> NonNull<u8> {
        // SAFETY: within the map, because the index is of a lease, and so below `count`.
        unsafe { self.start.add(usize::from(index) * self.stride) }
    }
}

fn register(base: &Base, map: &Map, count: u16, size: u32, stride: usize) -> Result<u32, Errno> {
    let each = |index: u16| libc::iovec {
        iov_base: map.at::<u8>(usize::from(index) * stride, size as usize).as_ptr().cast(),
        iov_len: size as usize,
    };
    let _ = map.address(); // Exposes the memory, which the kernel writes.
    let mut iovecs: Vec<libc::iovec> = (0..count).map(each).collect();
    let arg = iovecs.as_mut_ptr().cast();
    // SAFETY: `count` live iovecs, which the kernel copies, since it says so; their memory is the
    // map's, which leaks unless it is found idle (RG1).
    unsafe { base.register(RegisterOp::BUFFERS, arg, u32::from(count)) }
}

fn explain(errno: Errno, needed: u64) -> RegisterError {
    match errno.raw() {
        libc::ENOMEM => RegisterError::no_memory(needed),
        // Registered by other means.
        libc::EBUSY => RegisterError::Taken { what: "pool of registered buffers" },
        libc::EINVAL => RegisterError::Invalid {
            reason: "a ring registers 16384 buffers at most, and old kernels 1024: ask for fewer",
        },
        _ => RegisterError::other(errno),
    }
}

impl FixedPool {
    /// A buffer, nothing of it filled; `None` when all are leased. What an earlier user left in it
    /// is still there.
    #[inline]
    pub fn get(&self) -> Option<FixedBuf> {
        let index = self.0.free.borrow_mut().pop()?;
        Some(FixedBuf { pool: Rc::clone(&self.0), filled: 0, index })
    }

    /// How many buffers there are.
    pub fn count(&self) -> u16 {
        self.0.count
    }

    /// How many are free.
    pub fn available(&self) -> usize {
        self.0.free.borrow().len()
    }

    /// How many bytes each holds.
    pub fn buffer_size(&self) -> u32 {
        self.0.size
    }
}

impl FixedBuf {
    /// How many bytes it holds.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.pool.size as usize
    }

    /// Makes the first `len` bytes the filled ones. Those that were not filled before hold zeroes,
    /// or what was there.
    ///
    /// # Panics
    ///
    /// If `len` exceeds the capacity.
    #[inline]
    #[track_caller]
    pub fn set_len(&mut self, len: usize) {
        let size = self.pool.size;
        let fits = u32::try_from(len).ok().filter(|&len| len <= size);
        let Some(len) = fits else { panic!("{len} bytes do not fit a buffer of {size}") };
        self.filled = len;
    }

    /// Makes the filled bytes `len` at most.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.filled = u32::try_from(len).map_or(self.filled, |len| self.filled.min(len));
    }

    /// The number under which it is registered.
    #[inline]
    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// The ring that it is registered with.
    #[inline]
    pub(crate) fn ring(&self) -> RingId {
        self.pool.ring
    }
}

impl Drop for FixedBuf {
    #[inline]
    fn drop(&mut self) {
        self.pool.free.borrow_mut().push(self.index);
    }
}

/// The filled bytes.
impl Deref for FixedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let start = self.pool.at(self.index).as_ptr();
        // SAFETY: zeroed at first, mapped while the pool lives, and nobody's but this lease's.
        unsafe { slice::from_raw_parts(start, self.filled as usize) }
    }
}

/// The filled bytes.
impl DerefMut for FixedBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.pool.at(self.index).as_ptr();
        // SAFETY: zeroed at first, mapped while the pool lives, and nobody's but this lease's.
        unsafe { slice::from_raw_parts_mut(start, self.filled as usize) }
    }
}

/// The filled bytes.
impl AsRef<[u8]> for FixedBuf {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// The filled bytes.
impl AsMut<[u8]> for FixedBuf {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// The kernel reads the filled bytes.
impl IoBuf for FixedBuf {
    #[inline]
    fn region(&self) -> Region<'_> {
        self.as_ref().into()
    }
}

/// The kernel writes from the front, and what it wrote is filled afterwards.
impl IoBufMut for FixedBuf {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        let (start, len) = (self.pool.at(self.index).as_ptr(), self.capacity());
        // SAFETY: zeroed at first, mapped while the pool lives, and nobody's but this lease's.
        let all = unsafe { slice::from_raw_parts_mut(start, len) };
        all.into()
    }

    /// Sets no more than the capacity.
    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        self.filled =
            u32::try_from(count).map_or(self.pool.size, |count| count.min(self.pool.size));
    }
}

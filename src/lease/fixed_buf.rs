//! Registered buffers: the kernel looks up their pages once, not with each operation.
//!
//! ```text
//!   one map │ buffer 0 │ buffer 1 │ buffer 2 │ …      each registered under its number
//!                ▲          │
//!        get ────┘          └──── dropped: free again
//!        FixedBuf { pool, 1, filled } ──► ReadFixed ──► the kernel knows the pages of 1
//! ```
//!
//! This saves some of the cost of `O_DIRECT` and of zero-copy sends. Where the kernel copies the
//! bytes anyway (page cache, pipes, plain sockets), it saves nothing.
//!
//! The kernel holds references to the pages, so unmapping cannot make it write elsewhere once it
//! has looked them up. But a plain [`Read`](crate::op::Read) names a lease by its address alone,
//! and addresses are reused. So the map stays until no lease is left and the ring is known to be
//! idle; otherwise it is leaked (RG1). An operation holds its lease in its slot, so a buffer is not
//! leased again while the kernel uses it (OP1).
//!
//! A forked child sees zeroes there (`MADV_WIPEONFORK`): whatever it reads or writes in a lease
//! stays private to it.
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

use super::Registered;
use super::buf_ring::Idle;
use crate::buf::{IoBuf, IoBufMut, Region, RegionMut};
use crate::raw::RingId;
use crate::raw::register::RegisterError;

/// The longest buffer that the kernel registers: 1 GiB.
const LONGEST: u32 = 1 << 30;

/// Buffers that are registered with a ring. Cheap to clone.
///
/// Made by [`Ring::fixed_pool`](crate::Ring::fixed_pool), which has an example.
#[derive(Debug, Clone)]
pub struct FixedPool(Rc<RegisteredBufs>);

/// A registered buffer. Dropping it returns it to its pool.
///
/// It derefs to its filled bytes, which are also the bytes that the kernel reads. The kernel writes
/// into the whole buffer, from the front. Any operation that takes buffers accepts it;
/// [`ReadFixed`](crate::op::ReadFixed) and [`WriteFixed`](crate::op::WriteFixed) name it by its
/// number.
#[derive(Debug)]
pub struct FixedBuf {
    pool: Rc<RegisteredBufs>,
    filled: u32,
    index: u16,
}

const _: () = assert!(size_of::<FixedBuf>() == 16);

/// The buffers, and which of them are free.
#[derive(Debug)]
pub(crate) struct RegisteredBufs {
    ring: RingId,
    /// `None` once the ring is gone.
    base: RefCell<Option<Arc<Base>>>,
    map: Map,
    start: NonNull<u8>,
    size: u32,
    /// The distance between the starts of two buffers, in bytes.
    stride: usize,
    count: u16,
    free: RefCell<Vec<u16>>,
}

impl Registered {
    /// Makes a pool, unless the ring has one that is still used.
    pub(crate) fn fixed_pool(
        &mut self,
        base: &Arc<Base>,
        ring: RingId,
        count: u16,
        size: u32,
    ) -> Result<FixedPool, RegisterError> {
        if let Some(old) = self.buffers.take_if(|old| Rc::strong_count(old) == 1) {
            // SAFETY: nothing in flight uses its buffers: an operation would have a lease.
            unsafe { old.retire(Idle::Yes) };
        }
        if self.buffers.is_some() {
            return Err(RegisterError::InUse { what: "pool of registered buffers" });
        }
        let pool = RegisteredBufs::register(base, ring, count, size)?;
        self.buffers = Some(Rc::clone(&pool));
        Ok(FixedPool(pool))
    }
}

impl RegisteredBufs {
    fn register(
        base: &Arc<Base>,
        ring: RingId,
        count: u16,
        size: u32,
    ) -> Result<Rc<Self>, RegisterError> {
        if count == 0 || size == 0 || size > LONGEST {
            let reason = "a pool has one or more buffers, of 1 byte to 1 GiB each";
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
            // SAFETY: the kernel refused the memory, so it does not use it (RG1).
            unsafe { pool.map.found_idle() };
            return Err(explain(errno, needed));
        }
        Ok(Rc::new(pool))
    }

    /// The ring ends, or no lease is left. `idle` says whether anything in flight uses the buffers.
    ///
    /// # Safety
    ///
    /// If `idle` is [`Idle::Yes`], nothing in flight may use the buffers.
    pub(crate) unsafe fn retire(&self, idle: Idle) {
        let Some(base) = self.base.take() else { return };
        if idle == Idle::Yes {
            // SAFETY: takes no argument, according to `io_uring_register(2)`. If it fails, the
            // kernel keeps references to pages, and names no address.
            let _ = unsafe { base.register(RegisterOp::UNREGISTER_BUFFERS, ptr::null_mut(), 0) };
            // SAFETY: nothing in flight names an address in the map, as promised to `retire` (RG1).
            unsafe { self.map.found_idle() };
        }
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
    // SAFETY: `count` live iovecs, which the kernel copies, according to its documentation. Their
    // memory is the map's, which leaks unless it is found idle (RG1).
    unsafe { base.register(RegisterOp::BUFFERS, arg, u32::from(count)) }
}

fn explain(errno: Errno, needed: u64) -> RegisterError {
    match errno.raw() {
        libc::ENOMEM => RegisterError::no_memory(needed),
        // Buffers were registered through the raw API.
        libc::EBUSY => RegisterError::InUse { what: "pool of registered buffers" },
        libc::EINVAL => RegisterError::Invalid {
            reason: "a ring registers 16384 buffers at most, and old kernels 1024: ask for fewer",
        },
        _ => RegisterError::other(errno),
    }
}

impl FixedPool {
    /// Leases a free buffer, with no byte filled. `None` when all are leased. The bytes of an
    /// earlier user are still in it.
    #[inline]
    pub fn get(&self) -> Option<FixedBuf> {
        let index = self.0.free.borrow_mut().pop()?;
        Some(FixedBuf { pool: Rc::clone(&self.0), filled: 0, index })
    }

    /// How many buffers there are.
    pub fn count(&self) -> u16 {
        self.0.count
    }

    /// How many buffers are free.
    pub fn available(&self) -> usize {
        self.0.free.borrow().len()
    }

    /// The size of each buffer, in bytes.
    pub fn buffer_size(&self) -> u32 {
        self.0.size
    }
}

impl FixedBuf {
    /// The size of the buffer, in bytes.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.pool.size as usize
    }

    /// Marks the first `len` bytes as filled. Bytes that were not filled before are zero, or keep
    /// what they last held.
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

    /// Shortens the filled part to at most `len` bytes.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.filled = u32::try_from(len).map_or(self.filled, |len| self.filled.min(len));
    }

    /// Where the buffer begins.
    #[inline]
    fn start(&self) -> NonNull<u8> {
        // SAFETY: within the map, because `index` is below `count`: only `FixedPool::get` makes a
        // lease.
        unsafe { self.pool.start.add(usize::from(self.index) * self.pool.stride) }
    }

    /// The number under which it is registered.
    #[inline]
    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// The ring that the buffer is registered with.
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
        let start = self.start().as_ptr();
        // SAFETY: zeroed at first, mapped while the pool lives, and used by this lease only.
        unsafe { slice::from_raw_parts(start, self.filled as usize) }
    }
}

/// The filled bytes.
impl DerefMut for FixedBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.start().as_ptr();
        // SAFETY: zeroed at first, mapped while the pool lives, and used by this lease only.
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

/// The kernel writes from the front; the bytes that it wrote count as filled afterwards.
impl IoBufMut for FixedBuf {
    #[inline]
    fn region_mut(&mut self) -> RegionMut<'_> {
        let (start, len) = (self.start().as_ptr(), self.capacity());
        // SAFETY: zeroed at first, mapped while the pool lives, and used by this lease only.
        let all = unsafe { slice::from_raw_parts_mut(start, len) };
        all.into()
    }

    /// Clamps `count` to the capacity.
    #[inline]
    unsafe fn set_filled(&mut self, count: usize) {
        self.filled =
            u32::try_from(count).map_or(self.pool.size, |count| count.min(self.pool.size));
    }
}

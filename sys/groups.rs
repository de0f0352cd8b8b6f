//! Buffer groups: a registered buffer ring, which entries name by a number.
//!
//! ```text
//!   register ──► Group { id, BufferRing over one map } ──► unregister ──► idle? ──► unmapped
//!                                                                          └ no ──► leaked (RG1)
//! ```
//!
//! | memory | allocated by | since |
//! |---|---|---|
//! | [`RingMemory::User`] | us, and the kernel pins it | Linux 5.19 |
//! | [`RingMemory::Kernel`] | the kernel, and we map it (`IOU_PBUF_RING_MMAP`) | Linux 6.4 |
//!
//! Where the kernel allocates, a group's number is part of the offset at which it is mapped, which
//! has 11 bits for it. Linux registers a higher number too, and would then map nothing for it, or
//! the ring of another group: two owners of one tail (BR1). So that is refused here.
//!
//! Leaves to others: the buffers themselves, and which buffer an id names (BR1).
//!
//! # Safety
//!
//! Vouches to `buf_ring` for pointers that `Map::at` has checked.
#![allow(unsafe_code, reason = "vouches for the tail and slots of a buffer ring")]

use std::sync::Arc;

use crate::abi::{BUF_RING_TAIL_OFFSET, Buf};
use crate::abi_register::{BufReg, BufStatus};
use crate::buf_ring::BufferRing;
use crate::errno::Errno;
use crate::flags::{OFF_PBUF_RING, OFF_PBUF_SHIFT};
use crate::flags_register::PbufRingFlags;
use crate::index::Entries;
use crate::map::{Map, Pages};
use crate::opcode::RegisterOp;
use crate::orderings::PublishedHalf;
use crate::rings::Base;
use crate::slots::{Slot, Slots, Width};

/// Which side allocates the memory of a buffer ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingMemory {
    /// We do, and the kernel pins it.
    User,
    /// The kernel does, and we map it.
    Kernel,
}

/// A registered buffer ring.
#[derive(Debug)]
pub struct Group {
    ring: BufferRing,
    map: Map,
    id: u16,
    /// The io_uring ring that the group is registered with, which this keeps open.
    base: Arc<Base>,
}

impl Group {
    /// A group in the kernel's memory has a number below this.
    pub const MAPPED_IDS: u16 = 1 << 11;

    /// Makes a buffer ring of `entries`, and registers it as group `id`
    /// (`IORING_REGISTER_PBUF_RING`).
    ///
    /// # Errors
    ///
    /// The kernel's: `EEXIST` when the group id is taken; `EINVAL` before Linux 5.19, for more than
    /// 32768 entries, for flags that the kernel does not know, or for memory of the kernel's unless
    /// `id` is below [`MAPPED_IDS`](Self::MAPPED_IDS).
    pub fn register(
        base: &Arc<Base>,
        id: u16,
        entries: Entries,
        memory: RingMemory,
        flags: PbufRingFlags,
    ) -> Result<Self, Errno> {
        Self::register_leaving(base, id, entries, memory, flags, 0)
    }

    /// As [`register`](Self::register), with a minimum for incremental consumption
    /// (`IOU_PBUF_RING_INC`): once a buffer has fewer than `min_left` unused bytes, the kernel
    /// leaves them unused. With 0 it uses all bytes. Since Linux 7.1.
    ///
    /// # Errors
    ///
    /// As [`register`](Self::register); `EINVAL` before Linux 7.1 unless `min_left` is 0.
    pub fn register_leaving(
        base: &Arc<Base>,
        id: u16,
        entries: Entries,
        memory: RingMemory,
        flags: PbufRingFlags,
        min_left: u32,
    ) -> Result<Self, Errno> {
        let cannot_map = memory == RingMemory::Kernel && id >= Self::MAPPED_IDS;
        if entries.count() > BufferRing::MAX_ENTRIES || cannot_map {
            return Err(Errno::new(libc::EINVAL));
        }
        let len = entries.count() as usize * size_of::<Buf>();
        let mut reg = BufReg { ring_entries: entries.count(), bgid: id, ..BufReg::default() };
        reg.min_left = min_left;
        reg.flags = flags - PbufRingFlags::MMAP;
        let map = match memory {
            RingMemory::User => {
                let map = Map::own(len, Pages::Ordinary)?;
                reg.ring_addr = map.address();
                if let Err(errno) = register(base, RegisterOp::PBUF_RING, &mut reg) {
                    // SAFETY: the kernel refused the memory, so it does not use it (RG1).
                    unsafe { map.found_idle() };
                    return Err(errno);
                }
                map
            }
            RingMemory::Kernel => {
                reg.flags |= PbufRingFlags::MMAP;
                register(base, RegisterOp::PBUF_RING, &mut reg)?;
                let offset = OFF_PBUF_RING | u64::from(id) << OFF_PBUF_SHIFT;
                let map = base.kernel().map(base.fd(), offset, len);
                if map.is_err() {
                    let mut reg = BufReg { bgid: id, ..BufReg::default() };
                    let _ = register(base, RegisterOp::UNREGISTER_PBUF_RING, &mut reg);
                }
                map?
            }
        };
        let slots = map.at::<Slot<Buf>>(0, entries.count() as usize);
        let tail = map.at(BUF_RING_TAIL_OFFSET, 1);
        // SAFETY: in the map, because `at` checked, and the group owns it; only we store the tail.
        let tail = unsafe { PublishedHalf::new(tail) };
        // SAFETY: in the map, because `at` checked, and the group owns it; any bytes are a `Buf`.
        let slots = unsafe { Slots::new(slots, entries, Width::Single) };
        // SAFETY: a new ring starts at 0; the kernel selects only provided buffers (BR1).
        let ring = unsafe { BufferRing::over(tail, slots, 0) };
        Ok(Self { ring, map, id, base: Arc::clone(base) })
    }

    /// Our half of the buffer ring.
    ///
    /// # Safety
    ///
    /// The buffer ring must not be moved out so that it outlives the group, and must not be used in
    /// a forked child.
    pub unsafe fn ring(&mut self) -> &mut BufferRing {
        &mut self.ring
    }

    /// The number by which entries name the group.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// How many buffers the kernel has selected, modulo 2¹⁶
    /// (`IORING_REGISTER_PBUF_STATUS`). Since Linux 6.8.
    ///
    /// # Errors
    ///
    /// The kernel's: `EINVAL` before Linux 6.8.
    pub fn head(&self) -> Result<u16, Errno> {
        let mut status = BufStatus { buf_group: self.id.into(), ..BufStatus::default() };
        let arg = core::ptr::from_mut(&mut status).cast();
        // SAFETY: a live `struct io_uring_buf_status`, which is what this operation fills in.
        unsafe { self.base.register(RegisterOp::PBUF_STATUS, arg, 1) }?;
        let [low, high, ..] = status.head.to_le_bytes();
        Ok(u16::from_le_bytes([low, high]))
    }

    /// Unregisters the buffer ring. Memory that we allocated for it is leaked, since a request that
    /// has selected a buffer may still be in flight (RG1). To free it, use
    /// [`unregister_idle`](Self::unregister_idle).
    ///
    /// # Errors
    ///
    /// The kernel's, together with the group, which is still registered: `EACCES` on a ring whose
    /// restrictions do not allow the operation.
    pub fn unregister(self) -> Result<(), (Self, Errno)> {
        let mut reg = BufReg { bgid: self.id, ..BufReg::default() };
        match register(&self.base, RegisterOp::UNREGISTER_PBUF_RING, &mut reg) {
            Ok(_) => Ok(()),
            Err(errno) => Err((self, errno)),
        }
    }

    /// Unregisters the buffer ring, and unmaps its memory.
    ///
    /// # Errors
    ///
    /// As [`unregister`](Self::unregister).
    ///
    /// # Safety
    ///
    /// No request that selects from this group may be in flight.
    pub unsafe fn unregister_idle(self) -> Result<(), (Self, Errno)> {
        let mut reg = BufReg { bgid: self.id, ..BufReg::default() };
        if let Err(errno) = register(&self.base, RegisterOp::UNREGISTER_PBUF_RING, &mut reg) {
            return Err((self, errno));
        }
        // SAFETY: as promised to `unregister_idle`, and the kernel no longer knows the ring.
        unsafe { self.map.found_idle() };
        Ok(())
    }
}

fn register(base: &Base, op: RegisterOp, reg: &mut BufReg) -> Result<u32, Errno> {
    let arg = core::ptr::from_mut(reg).cast();
    // SAFETY: a live `struct io_uring_buf_reg`; the ring that it names stays mapped, because own
    // memory leaks unless it was found idle (RG1).
    unsafe { base.register(op, arg, 1) }
}

//! What waits go by: the clock of a ring, and arguments in a region that was registered.
//!
//! ```text
//!   MEM_REGION ── of the program, or of the kernel's, mapped ──► │ slot │ slot │ …   64 bytes each
//!   enter(.., EXT_ARG_REG, offset) ─────────────────────────────────┘ timeout, minimum wait
//! ```
//!
//! Every clock is the virtual one. A limit that is absolute counts from the beginning of the
//! simulation.
#![allow(unsafe_code, reason = "reads and writes the arguments of calls")]

use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use annulus_sys::abi::RegWait;
use annulus_sys::abi_register::{ClockRegister, MemRegionReg, RegionDesc};
use annulus_sys::errno::Errno;
use annulus_sys::flags::EnterFlags;
use annulus_sys::flags_register::{MemRegionFlags, RegWaitFlags, RegionDescFlags};
use annulus_sys::map::page_size;
use annulus_sys::syscall::EnterArg;

use super::block::{Block, Region, is_mapped};
use super::region::{copy_in, read_value, write_value};
use super::request::nanoseconds;
use super::state::State;

/// At which offset the memory of a region is mapped that the kernel has made.
pub(super) const OFF_REGION: u64 = 0x2000_0000;

/// The limits of a wait: how long at most, and how long for all completions.
pub(super) type Limits = (Option<u64>, Option<u64>);

fn refused<T>(errno: i32) -> Result<T, Errno> {
    Err(Errno::new(errno))
}

impl State {
    /// Sets the clock of a ring's waits.
    ///
    /// # Safety
    ///
    /// `address` must be 0, or point to a `struct io_uring_clock_register`.
    pub(super) unsafe fn set_clock(&self, address: u64, count: u32) -> Result<u32, Errno> {
        if address == 0 || count != 0 {
            return refused(libc::EINVAL);
        }
        // SAFETY: as promised to `set_clock`.
        let ClockRegister { clockid, resv } = unsafe { copy_in(address) }?;
        let known = [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME];
        let is_known = known.iter().any(|&clock| u32::try_from(clock) == Ok(clockid));
        if is_known && resv == [0; 3] { Ok(0) } else { refused(libc::EINVAL) }
    }

    /// Registers a region.
    ///
    /// # Safety
    ///
    /// `address` must be 0, or point to a `struct io_uring_mem_region_reg` that names a descriptor.
    pub(super) unsafe fn add_region(
        &mut self,
        ring: usize,
        address: u64,
        count: u32,
    ) -> Result<u32, Errno> {
        if address == 0 || count != 1 {
            return refused(libc::EINVAL);
        }
        if self.rings[ring].region.is_some() {
            return refused(libc::EBUSY);
        }
        // SAFETY: as promised to `add_region`.
        let MemRegionReg { region_uptr, flags, resv } = unsafe { copy_in(address) }?;
        // SAFETY: as promised to `add_region`.
        let desc = unsafe { copy_in::<RegionDesc>(region_uptr) }?;
        let known = MemRegionFlags::REG_WAIT_ARG;
        if resv != [0; 2] || !known.contains(flags) {
            return refused(libc::EINVAL);
        }
        // While a ring is disabled nobody waits.
        let has_waits = flags.contains(MemRegionFlags::REG_WAIT_ARG);
        if has_waits && !self.rings[ring].gate.is_disabled {
            return refused(libc::EINVAL);
        }
        let block = self.block_of(desc)?;
        let at = usize::try_from(region_uptr).expect("64 bits");
        let at = ptr::with_exposed_provenance_mut::<libc::c_void>(at);
        let is_theirs = block.is_theirs();
        let mmap_offset = if is_theirs { desc.mmap_offset } else { OFF_REGION };
        // SAFETY: as promised to `add_region`.
        unsafe { write_value(at, RegionDesc { mmap_offset, ..desc }) };
        let waits = if has_waits { desc.size } else { 0 };
        self.rings[ring].region = Some(Region { block, waits });
        Ok(0)
    }

    /// The memory that a descriptor names, or that it asks for.
    fn block_of(&self, desc: RegionDesc) -> Result<Arc<Block>, Errno> {
        let RegionDesc { user_addr, size, flags, id, mmap_offset, resv } = desc;
        let page = page_size() as u64 - 1;
        if resv != [0; 4] || !RegionDescFlags::TYPE_USER.contains(flags) {
            return refused(libc::EINVAL);
        }
        let is_theirs = flags.contains(RegionDescFlags::TYPE_USER);
        if is_theirs != (user_addr != 0) || (!is_theirs && self.release.is_before(6, 14)) {
            return refused(libc::EFAULT);
        }
        if size == 0 || mmap_offset != 0 || id != 0 {
            return refused(libc::EINVAL);
        }
        if size >> 12 > i32::MAX.cast_unsigned().into() {
            return refused(libc::E2BIG);
        }
        if (user_addr | size) & page != 0 {
            return refused(libc::EINVAL);
        }
        if user_addr.checked_add(size).is_none() {
            return refused(libc::EOVERFLOW);
        }
        let len = usize::try_from(size).expect("64 bits");
        if is_theirs { Block::of_program(user_addr, len) } else { Ok(Block::new(len)) }
    }

    /// The limits that the argument of an enter sets.
    pub(super) fn limits(
        &self,
        ring: usize,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<Limits, Errno> {
        let (limit, min_wait) = match arg {
            EnterArg::None | EnterArg::SigMask(_) => return Ok((None, None)),
            EnterArg::Ext(ext) => (ext.timeout, ext.min_wait),
            EnterArg::Registered(offset) => {
                let wait = self.registered_wait(ring, offset as u64)?;
                let micros = u64::from(wait.min_wait_usec);
                let min_wait = (micros > 0).then(|| Duration::from_micros(micros));
                (wait.flags.contains(RegWaitFlags::TS).then_some(wait.ts), min_wait)
            }
        };
        if min_wait.is_some() && self.release.is_before(6, 12) {
            return refused(libc::EINVAL);
        }
        // A negative limit has passed.
        let limit = limit.map(|limit| nanoseconds(limit).unwrap_or(0));
        let is_absolute = flags.contains(EnterFlags::ABS_TIMER);
        let limit = limit.map(|at| if is_absolute { at.saturating_sub(self.now) } else { at });
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Ok((limit, min_wait.map(nanos)))
    }

    /// What a slot of the region says.
    fn registered_wait(&self, ring: usize, offset: u64) -> Result<RegWait, Errno> {
        let size = size_of::<RegWait>() as u64;
        let region = self.rings[ring].region.as_ref();
        let end = offset.checked_add(size);
        let is_in = region.is_some_and(|it| end.is_some_and(|end| end <= it.waits));
        let (Some(region), true, true) = (region, is_in, offset.is_multiple_of(8)) else {
            return refused(libc::EFAULT);
        };
        let address = region.block.base().as_ptr().expose_provenance() as u64 + offset;
        if region.block.is_theirs() && !is_mapped(address, size) {
            return refused(libc::EFAULT);
        }
        // SAFETY: in the region, which is mapped; the program lets the kernel read it (RG1).
        let wait = unsafe { read_value::<RegWait>(address) };
        if RegWaitFlags::TS.contains(wait.flags) { Ok(wait) } else { refused(libc::EINVAL) }
    }
}

//! A region of waits: how a wait is bounded, in memory that the kernel has mapped already.
//!
//! ```text
//!   build_disabled ─► register_wait_region(2) ─► enable ─► enter(.., region.arg(slot))
//!                          │                                          │
//!                     │ slot 0: 5 ms       │ slot 1: 1 s, min 50 µs │ ◄┘  64 bytes each
//! ```
//!
//! A bounded wait hands the kernel a struct that names a timespec, and both are copied at each
//! enter. Written once into a region, they are read where they lie. A slot is written when the ring
//! is made, or whenever it is to say something else, and named at each wait.
//!
//! | memory | is | since |
//! |---|---|---|
//! | [`Whose::Ours`] | ours, pinned (`IORING_MEM_REGION_TYPE_USER`) | Linux 6.13 |
//! | [`Whose::Kernels`] | the kernel's, which we map | Linux 6.14 |
//!
//! The kernel takes a region of waits only while the ring is disabled, one in its life, and only
//! reads it. What is pinned stays until the ring is gone, also when the [`WaitRegion`] is dropped
//! before: then its slots say for ever what they said.
//!
//! Leaves to others: waits with it ([`Patience::stored_at`](crate::Patience::stored_at)), and
//! entering by hand ([`EnterArg::Registered`]).
#![allow(unsafe_code, reason = "writes memory that the kernel reads")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use annulus_sys::abi::{RegWait, Timespec};
use annulus_sys::abi_register::{MemRegionReg, RegionDesc};
use annulus_sys::flags_register::{MemRegionFlags, RegWaitFlags, RegionDescFlags};
pub use annulus_sys::groups::Whose;
use annulus_sys::map::{Map, Pages, page_size};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;
use annulus_sys::syscall::EnterArg;

use super::call::Call;
use crate::disabled::DisabledRing;
use crate::lease::RegisterError;

/// The most slots that we ask for: 64 MiB of them.
const MOST: u32 = 1 << 20;

/// Slots that bound waits, registered with a ring. May go to another thread, as its ring may.
///
/// ```
/// use annulus::Setup;
/// use annulus::register::Whose;
/// use annulus::sys::flags::EnterFlags;
/// use std::time::Duration;
///
/// let mut disabled = Setup::new(4).build_disabled()?;
/// let Ok(mut region) = disabled.register_wait_region(1, Whose::Ours) else { return Ok(()) };
/// let slot = region.slot(0).expect("the first");
/// region.set(slot, Some(Duration::from_millis(1)), None);
///
/// let mut ring = disabled.enable_raw().map_err(|(_, errno)| errno)?;
/// let waited = ring.enter(0, 1, EnterFlags::GETEVENTS, region.arg(slot));
/// assert!(waited.is_err_and(|errno| errno.is(62))); // ETIME
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "io_uring_reg_wait")]
#[derive(Debug)]
pub struct WaitRegion {
    map: Map,
    count: u32,
    /// The ring that it is registered with.
    base: Weak<Base>,
}

/// A slot of a [`WaitRegion`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WaitSlot(u32);

impl DisabledRing {
    /// Makes `count` slots that bound waits, and registers them. Each says first that nothing does.
    /// Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] for a second region, [`RegisterError::Unsupported`] before Linux
    /// 6.13, and for memory of the kernel's before 6.14; [`RegisterError::Invalid`] for no slots,
    /// or more than a million. [`RegisterError::OutOfMemory`] when memory of the kernel's cannot be
    /// mapped: then ask again, for as many slots or fewer.
    #[doc(alias = "IORING_REGISTER_MEM_REGION")]
    #[doc(alias = "IORING_MEM_REGION_REG_WAIT_ARG")]
    #[doc(alias = "io_uring_register_region")]
    pub fn register_wait_region(
        &mut self,
        count: u32,
        whose: Whose,
    ) -> Result<WaitRegion, RegisterError> {
        if count == 0 || count > MOST {
            let reason = "a region has 1 to 1048576 slots";
            return Err(RegisterError::Invalid { reason });
        }
        let bytes = count as usize * size_of::<RegWait>();
        let len = bytes.next_multiple_of(page_size());
        let base = Arc::clone(self.rings().base());
        let map = match whose {
            Whose::Ours => ours(&base, len)?,
            Whose::Kernels => self.kernels(&base, len)?,
        };
        Ok(WaitRegion { map, count, base: Arc::downgrade(&base) })
    }

    /// Memory of the kernel's, mapped. What could not be mapped is kept for the next time.
    fn kernels(&mut self, base: &Base, len: usize) -> Result<Map, RegisterError> {
        if !base.is_of_this_process() {
            return Err(RegisterError::NotHere); // What is kept is its parent's.
        }
        let (offset, registered) = match self.unmapped {
            Some(region) if len <= region.1 => region,
            _ => (kernels(base, len)?, len),
        };
        self.unmapped = Some((offset, registered));
        let map = base.kernel().map(base.fd(), offset, len).map_err(|errno| match errno.raw() {
            libc::ENOMEM => RegisterError::OutOfMemory { needed: len as u64 },
            _ => RegisterError::Other(errno),
        })?;
        self.unmapped = None;
        Ok(map)
    }
}

/// Memory of ours, registered.
fn ours(base: &Base, len: usize) -> Result<Map, RegisterError> {
    let exhausted = RegisterError::OutOfMemory { needed: len as u64 };
    let map = Map::own(len, Pages::Ordinary).map_err(|_| exhausted)?;
    let mut desc = RegionDesc {
        user_addr: map.address(),
        size: map.len() as u64,
        flags: RegionDescFlags::TYPE_USER,
        ..RegionDesc::default()
    };
    let registered = register(base, &mut desc);
    // SAFETY: the kernel only reads it, by pages that it has pinned, and never by its address; so
    // what is mapped there later is not touched (RG1).
    unsafe { map.found_idle() };
    registered.map(|()| map)
}

/// Memory of the kernel's, registered: the offset at which it can be mapped.
fn kernels(base: &Base, len: usize) -> Result<u64, RegisterError> {
    let mut desc = RegionDesc { size: len as u64, ..RegionDesc::default() };
    register(base, &mut desc).map_err(|error| match error {
        // Linux 6.13 wants an address.
        RegisterError::Invalid { .. } => {
            RegisterError::Unsupported { what: "a region of the kernel's", since: "6.14" }
        }
        error => error.unless(
            libc::EFAULT,
            RegisterError::Unsupported { what: "a region of the kernel's", since: "6.14" },
        ),
    })?;
    Ok(desc.mmap_offset)
}

fn register(base: &Base, desc: &mut RegionDesc) -> Result<(), RegisterError> {
    let needed = desc.size;
    let mut reg = MemRegionReg {
        region_uptr: std::ptr::from_mut(desc).expose_provenance() as u64,
        flags: MemRegionFlags::REG_WAIT_ARG,
        ..MemRegionReg::default()
    };
    let call = Call::new(RegisterOp::MEM_REGION, 1, "a region is whole pages, and not too large");
    // SAFETY: a live `struct io_uring_mem_region_reg` that names a live descriptor; the memory that
    // this one names is pinned, and read only, because it holds waits (RG1).
    let answer = unsafe { call.make(base, &raw mut reg) };
    answer.map(drop).map_err(|error| {
        error
            .unless(libc::EBUSY, RegisterError::Taken { what: "region of waits" })
            .unless(libc::ENOMEM, RegisterError::no_memory(needed))
    })
}

impl WaitRegion {
    /// How many slots there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The slot number `index`, if there are so many.
    pub fn slot(&self, index: u32) -> Option<WaitSlot> {
        (index < self.count).then_some(WaitSlot(index))
    }

    /// Says what bounds the waits that name `slot` from now on: `timeout`, or nothing; and, with
    /// `min_wait` (whole microseconds, rounded up), how long to insist on as many completions as
    /// were asked for, before one is enough. In a forked child it does nothing.
    ///
    /// # Panics
    ///
    /// When the slot is of a larger region.
    pub fn set(&mut self, slot: WaitSlot, timeout: Option<Duration>, min_wait: Option<Duration>) {
        let mut wait = RegWait::default();
        if let Some(timeout) = timeout {
            (wait.ts, wait.flags) = (Timespec::from(timeout), RegWaitFlags::TS);
        }
        let micros = min_wait.map_or(0, |time| time.as_nanos().div_ceil(1000));
        wait.min_wait_usec = u32::try_from(micros).unwrap_or(u32::MAX);
        // SAFETY: it names no signal mask, because the default has none.
        unsafe { self.set_raw(slot, wait) };
    }

    /// Says what bounds the waits that name `slot`, signal mask and all. Not in a forked child.
    ///
    /// # Panics
    ///
    /// When the slot is of a larger region.
    ///
    /// # Safety
    ///
    /// A signal mask that it names must stay, and be left alone, while a wait may name the slot.
    pub unsafe fn set_raw(&mut self, slot: WaitSlot, wait: RegWait) {
        assert!(slot.0 < self.count, "slot {} of {}", slot.0, self.count);
        if !self.map.is_here() {
            return;
        }
        let at = self.map.at::<RegWait>(slot.offset(), 1);
        // SAFETY: in the map, because `at` checked; nobody else writes it, since `self` is
        // exclusive, and the kernel copies it when it begins to wait.
        unsafe { at.write_volatile(wait) };
    }

    /// What to enter the ring with, so that `slot` bounds the wait: for
    /// [`RawRing::enter`](crate::RawRing::enter), which takes no offset that is not a slot's.
    pub fn arg(&self, slot: WaitSlot) -> EnterArg<'static> {
        EnterArg::Registered(slot.offset())
    }

    /// Whether it is registered with the ring over `base`.
    pub fn is_of(&self, base: &Arc<Base>) -> bool {
        Weak::ptr_eq(&self.base, &Arc::downgrade(base))
    }
}

impl WaitSlot {
    /// Where in its region it lies, in bytes.
    pub fn offset(self) -> usize {
        self.0 as usize * size_of::<RegWait>()
    }
}

/// Whether `arg` names a slot, if it names anything in a region: from any other place the kernel
/// would read halves of two slots, and take a number in them for the address of a signal mask.
pub(crate) fn names_a_slot(arg: &EnterArg<'_>) -> bool {
    match arg {
        // The kernel refuses what lies beyond the region, and what no slot was set to is zeroes.
        EnterArg::Registered(offset) => offset % size_of::<RegWait>() == 0,
        _ => true,
    }
}

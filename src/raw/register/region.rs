//! Wait regions: wait arguments in memory that the kernel has already mapped.
//!
//! ```text
//!   build_disabled ─► register_wait_region(2) ─► enable ─► enter(.., region.arg(slot))
//!                          │                                          │
//!                     │ slot 0: 5 ms       │ slot 1: 1 s, min 50 µs │ ◄┘  64 bytes each
//! ```
//!
//! Without a region, a bounded wait passes the kernel a struct that names a timespec, and the
//! kernel copies both at each enter. With a region, the arguments are written once, and the kernel
//! reads them in place. Write a slot when the ring is made, or when it should say something else;
//! name it at each wait.
//!
//! | memory | owner | since |
//! |---|---|---|
//! | [`RingMemory::User`] | this process; pinned (`IORING_MEM_REGION_TYPE_USER`) | Linux 6.13 |
//! | [`RingMemory::Kernel`] | the kernel; mapped by this process | Linux 6.14 |
//!
//! The kernel accepts a wait region only while the ring is disabled, and only one in the ring's
//! life. It only reads the region. Pinned memory stays until the ring is gone, even if the
//! [`WaitRegion`] is dropped before; then the slots keep their last contents.
//!
//! Leaves to others: waits that use a region
//! ([`WaitOptions::in_slot`](crate::WaitOptions::in_slot)), and entering by hand
//! ([`EnterArg::Registered`]).
#![allow(unsafe_code, reason = "writes memory that the kernel reads")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use annulus_sys::abi::{RegWait, Timespec};
use annulus_sys::abi_register::{MemRegionReg, RegionDesc};
use annulus_sys::flags_register::{MemRegionFlags, RegWaitFlags, RegionDescFlags};
pub use annulus_sys::groups::RingMemory;
use annulus_sys::map::{Map, Pages, page_size};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;
use annulus_sys::syscall::EnterArg;

use super::call::Call;
use super::error::RegisterError;
use crate::raw::disabled::DisabledRing;

/// The most slots to ask for: they take 64 MiB.
const MAX_SLOTS: u32 = 1 << 20;

/// Slots with wait arguments, registered with a ring. It can go to another thread, like its ring.
///
/// ```
/// use annulus::Setup;
/// use annulus::raw::register::RingMemory;
/// use annulus::sys::flags::EnterFlags;
/// use std::time::Duration;
///
/// let mut disabled = Setup::new(4).build_disabled()?;
/// let Ok(mut region) = disabled.register_wait_region(1, RingMemory::User) else { return Ok(()) };
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

/// # A region for the arguments of waits
impl DisabledRing {
    /// Makes `count` slots for wait arguments, and registers them. At first, no slot sets a
    /// timeout. Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] for a second region. [`RegisterError::Unsupported`] before Linux
    /// 6.13, and for kernel memory before Linux 6.14. [`RegisterError::Invalid`] for no slots, or
    /// for more than 1048576. [`RegisterError::OutOfMemory`] if kernel memory cannot be mapped:
    /// then ask again, for as many slots or fewer.
    #[doc(alias = "IORING_REGISTER_MEM_REGION")]
    #[doc(alias = "IORING_MEM_REGION_REG_WAIT_ARG")]
    #[doc(alias = "io_uring_register_region")]
    pub fn register_wait_region(
        &mut self,
        count: u32,
        memory: RingMemory,
    ) -> Result<WaitRegion, RegisterError> {
        if count == 0 || count > MAX_SLOTS {
            let reason = "a region has 1 to 1048576 slots";
            return Err(RegisterError::Invalid { reason });
        }
        let bytes = count as usize * size_of::<RegWait>();
        let len = bytes.next_multiple_of(page_size());
        let base = Arc::clone(self.rings().base());
        let map = match memory {
            RingMemory::User => ours(&base, len)?,
            RingMemory::Kernel => self.kernels(&base, len)?,
        };
        Ok(WaitRegion { map, count, base: Arc::downgrade(&base) })
    }

    /// Maps memory of the kernel. A region that could not be mapped is kept for the next try.
    fn kernels(&mut self, base: &Base, len: usize) -> Result<Map, RegisterError> {
        if !base.is_of_this_process() {
            return Err(RegisterError::OtherProcess); // The kept region belongs to the parent.
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

/// Registers memory of this process.
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
    // the kernel does not touch what is mapped there later (RG1).
    unsafe { map.found_idle() };
    registered.map(|()| map)
}

/// Registers memory of the kernel. Returns the offset at which it can be mapped.
fn kernels(base: &Base, len: usize) -> Result<u64, RegisterError> {
    let mut desc = RegionDesc { size: len as u64, ..RegionDesc::default() };
    register(base, &mut desc).map_err(|error| match error {
        // Linux 6.13 requires an address.
        RegisterError::Invalid { .. } => {
            RegisterError::Unsupported { what: "a region in kernel memory", since: "6.14" }
        }
        error => error.unless(
            libc::EFAULT,
            RegisterError::Unsupported { what: "a region in kernel memory", since: "6.14" },
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
    // the descriptor names is pinned, and only read, because it holds wait arguments (RG1).
    let answer = unsafe { call.make(base, &raw mut reg) };
    answer.map(drop).map_err(|error| {
        error
            .unless(libc::EBUSY, RegisterError::InUse { what: "region of waits" })
            .unless(libc::ENOMEM, RegisterError::no_memory(needed))
    })
}

impl WaitRegion {
    /// How many slots there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The slot at `index`, if there are that many.
    pub fn slot(&self, index: u32) -> Option<WaitSlot> {
        (index < self.count).then_some(WaitSlot(index))
    }

    /// Sets the arguments of waits that name `slot` from now on. `timeout` bounds the wait, if it
    /// is given. `min_wait` (whole microseconds, rounded up) is how long the wait insists on all
    /// the completions it wants; after that, one is enough. In a forked child this does nothing.
    ///
    /// # Panics
    ///
    /// If the slot belongs to a larger region.
    #[track_caller]
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

    /// Sets all wait arguments of `slot`, including the signal mask. In a forked child this does
    /// nothing.
    ///
    /// # Panics
    ///
    /// If the slot belongs to a larger region.
    ///
    /// # Safety
    ///
    /// If `wait` names a signal mask, the mask must stay valid and unchanged while a wait may name
    /// the slot.
    #[track_caller]
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

    /// The argument for [`RawRing::enter`](crate::RawRing::enter) that makes `slot` bound the wait.
    /// `enter` accepts only the offset of a slot.
    pub fn arg(&self, slot: WaitSlot) -> EnterArg<'static> {
        EnterArg::Registered(slot.offset())
    }

    /// Whether the region is registered with the ring over `base`.
    pub fn is_of(&self, base: &Arc<Base>) -> bool {
        Weak::ptr_eq(&self.base, &Arc::downgrade(base))
    }
}

impl WaitSlot {
    /// The slot's offset in its region, in bytes.
    pub fn offset(self) -> usize {
        self.0 as usize * size_of::<RegWait>()
    }
}

/// Whether `arg`, if it names something in a region, names a slot. At any other offset the kernel
/// would read halves of two slots, and take a number in them for the address of a signal mask.
pub(crate) fn names_a_slot(arg: &EnterArg<'_>) -> bool {
    match arg {
        // The kernel refuses an offset beyond the region, and a slot that was never set is all
        // zeroes.
        EnterArg::Registered(offset) => offset % size_of::<RegWait>() == 0,
        _ => true,
    }
}

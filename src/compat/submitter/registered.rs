//! The other register calls: probing, credentials, restrictions, workers, cancelling, NAPI.
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::io;
use std::ptr;

use annulus_sys::abi;
use annulus_sys::abi_register::{self, SyncCancelReg};
use annulus_sys::flags_register::NapiOp;
use annulus_sys::opcode::RegisterOp;

use super::super::register::{Probe, Restriction};
use super::super::types::{CancelBuilder, Napi, Timespec, io_uring_zcrx_ifq_reg};
use super::Submitter;

impl Submitter<'_> {
    /// Asks which operations the kernel has. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_probe(&self, probe: &mut Probe) -> io::Result<()> {
        *probe = Probe::new(); // The kernel refuses what is not all zeroes.
        let (op, count) = (RegisterOp::PROBE, Probe::COUNT as usize);
        // SAFETY: `count` operations follow the header in a `Probe`, which is borrowed mutably; the
        // kernel does not keep it.
        unsafe { self.register(op, &raw mut *probe, count) }.map(drop)
    }

    /// Registers the credentials of the calling task, and returns their id. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_personality(&self) -> io::Result<u16> {
        // SAFETY: takes no argument.
        let id = unsafe { self.register(RegisterOp::PERSONALITY, ptr::null::<()>(), 0) }?;
        u16::try_from(id).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
    }

    /// Unregisters credentials. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's: `EINVAL` for an id that names none.
    pub fn unregister_personality(&self, personality: u16) -> io::Result<()> {
        let (op, id) = (RegisterOp::UNREGISTER_PERSONALITY, usize::from(personality));
        // SAFETY: takes no argument, since the count is the id.
        unsafe { self.register(op, ptr::null::<()>(), id) }.map(drop)
    }

    /// Restricts a disabled ring. Since Linux 5.10.
    ///
    /// # Errors
    ///
    /// The kernel's: `EBADFD` for a ring that is enabled.
    pub fn register_restrictions(&self, res: &mut [Restriction]) -> io::Result<()> {
        // SAFETY: the kernel copies the array, whose length it gets.
        unsafe { self.register(RegisterOp::RESTRICTIONS, res.as_ptr(), res.len()) }.map(drop)
    }

    /// Enables a ring that was made [disabled](super::super::Builder::setup_r_disabled). Since
    /// Linux 5.10.
    ///
    /// # Errors
    ///
    /// The kernel's: `EBADFD` for a ring that is enabled.
    pub fn register_enable_rings(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.register(RegisterOp::ENABLE_RINGS, ptr::null::<()>(), 0) }.map(drop)
    }

    /// Binds the worker threads to CPUs. Since Linux 5.14.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_iowq_aff(&self, cpu_set: &libc::cpu_set_t) -> io::Result<()> {
        let (op, size) = (RegisterOp::IOWQ_AFF, size_of_val(cpu_set));
        // SAFETY: the kernel copies the mask, whose size it gets.
        unsafe { self.register(op, ptr::from_ref(cpu_set), size) }.map(drop)
    }

    /// Lets the worker threads run on any CPU again. Since Linux 5.14.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn unregister_iowq_aff(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.register(RegisterOp::UNREGISTER_IOWQ_AFF, ptr::null::<()>(), 0) }.map(drop)
    }

    /// Limits the worker threads: those for work that ends soon, and those for work that may not. 0
    /// leaves a limit as it is. The old limits are written back. Since Linux 5.15.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_iowq_max_workers(&self, max: &mut [u32; 2]) -> io::Result<()> {
        let op = RegisterOp::IOWQ_MAX_WORKERS;
        // SAFETY: two numbers, which the kernel replaces, and does not keep.
        unsafe { self.register(op, max.as_mut_ptr(), 2) }.map(drop)
    }

    /// Cancels at once what `builder` matches, and waits until it has ended, for `timeout` at most.
    /// Since Linux 6.0.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENOENT` if nothing matches, `ETIME` when the time was up.
    pub fn register_sync_cancel(
        &self,
        timeout: Option<Timespec>,
        builder: CancelBuilder,
    ) -> io::Result<()> {
        let forever = abi::Timespec { tv_sec: -1, tv_nsec: -1 };
        let cancel = SyncCancelReg {
            addr: builder.user_data.unwrap_or(0),
            fd: builder.number(),
            flags: builder.flags,
            timeout: timeout.map_or(forever, |timeout| timeout.0),
            ..SyncCancelReg::default()
        };
        // SAFETY: the kernel copies the struct, which names no memory.
        unsafe { self.register(RegisterOp::SYNC_CANCEL, &raw const cancel, 1) }.map(drop)
    }

    /// Sets busy polling of network cards. The old settings are written back. Since Linux 6.9.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_napi(&self, napi: &mut Napi) -> io::Result<()> {
        // SAFETY: one struct, borrowed mutably, which the kernel replaces and does not keep.
        unsafe { self.register(RegisterOp::NAPI, &raw mut *napi, 1) }.map(drop)
    }

    /// Ends busy polling. The old settings are written back. Since Linux 6.9.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn unregister_napi(&self, napi: &mut Napi) -> io::Result<()> {
        // SAFETY: one struct, borrowed mutably, which the kernel replaces and does not keep.
        unsafe { self.register(RegisterOp::UNREGISTER_NAPI, &raw mut *napi, 1) }.map(drop)
    }

    /// Adds an id to those that are polled, with
    /// [`NapiTracking::Static`](super::super::types::NapiTracking::Static). Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_napi_add_id(&self, napi_id: u32) -> io::Result<()> {
        self.napi_id(NapiOp::STATIC_ADD_ID, napi_id)
    }

    /// Takes an id away from those that are polled. Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_napi_del_id(&self, napi_id: u32) -> io::Result<()> {
        self.napi_id(NapiOp::STATIC_DEL_ID, napi_id)
    }

    fn napi_id(&self, opcode: NapiOp, op_param: u32) -> io::Result<()> {
        let mut napi = abi_register::Napi { opcode, op_param, ..Default::default() };
        // SAFETY: one live struct, which the kernel replaces and does not keep.
        unsafe { self.register(RegisterOp::NAPI, &raw mut napi, 1) }.map(drop)
    }

    /// Refuses, always: the kernel writes to the argument and to what it points to, so this cannot
    /// be a safe function of a shared reference. Call
    /// [`register_ifq_mut`](Self::register_ifq_mut).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported).
    pub fn register_ifq(&self, reg: &io_uring_zcrx_ifq_reg) -> io::Result<()> {
        let _ = reg;
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel writes to the argument of `register_ifq`: call `register_ifq_mut`",
        ))
    }

    /// Registers a receive queue of a network card for [`RecvZc`](super::super::opcode::RecvZc).
    /// The kernel fills in its offsets and its id. Since Linux 6.15.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Safety
    ///
    /// `area_ptr` and `region_ptr` must be the addresses of a live
    /// [`io_uring_zcrx_area_reg`](super::super::types::io_uring_zcrx_area_reg) and
    /// [`io_uring_region_desc`](super::super::types::io_uring_region_desc), which the kernel
    /// writes to. The memory that those name must stay valid until the ring is gone (RG1).
    pub unsafe fn register_ifq_mut(&self, reg: &mut io_uring_zcrx_ifq_reg) -> io::Result<()> {
        // SAFETY: one struct, borrowed mutably; the rest is as promised to `register_ifq_mut`.
        unsafe { self.register(RegisterOp::ZCRX_IFQ, &raw mut *reg, 1) }.map(drop)
    }
}

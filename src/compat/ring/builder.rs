//! What ring to make.
#![allow(unsafe_code, reason = "asks the kernel for a ring")]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;

use annulus_sys::abi::Params;
use annulus_sys::flags::SetupFlags;
use annulus_sys::kernel::Kernel;
use annulus_sys::rings::Rings;

use super::super::{cqueue, squeue};
use super::IoUring;

/// What ring to make. It comes from [`IoUring::builder`].
pub struct Builder<S = squeue::Entry, C = cqueue::Entry>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    params: Params,
    of: PhantomData<(S, C)>,
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Clone for Builder<S, C> {
    fn clone(&self) -> Self {
        Self { params: self.params, of: PhantomData }
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Default for Builder<S, C> {
    /// The ring of the kernel's defaults, with entries of the sizes of `S` and `C`.
    fn default() -> Self {
        let flags = SetupFlags::from_bits_retain(S::BUILD_FLAGS | C::BUILD_FLAGS);
        Self { params: Params { flags, ..Params::default() }, of: PhantomData }
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> fmt::Debug for Builder<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("params", &self.params).finish()
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Builder<S, C> {
    /// Does nothing: no forked child ever inherits the memory of a ring of ours.
    pub fn dontfork(&mut self) -> &mut Self {
        self
    }

    /// The kernel polls devices for completions.
    pub fn setup_iopoll(&mut self) -> &mut Self {
        self.with(SetupFlags::IOPOLL)
    }

    /// A kernel thread polls for entries. It sleeps after `idle` milliseconds without any; 0 means
    /// a second.
    pub fn setup_sqpoll(&mut self, idle: u32) -> &mut Self {
        self.params.sq_thread_idle = idle;
        self.with(SetupFlags::SQPOLL)
    }

    /// Binds the polling thread to a CPU.
    pub fn setup_sqpoll_cpu(&mut self, cpu: u32) -> &mut Self {
        self.params.sq_thread_cpu = cpu;
        self.with(SetupFlags::SQ_AFF)
    }

    /// How many completion entries the ring has: at least as many as submission entries.
    pub fn setup_cqsize(&mut self, entries: u32) -> &mut Self {
        self.params.cq_entries = entries;
        self.with(SetupFlags::CQSIZE)
    }

    /// Reduces sizes beyond the kernel's maximum to it, where it would refuse them. Since Linux
    /// 5.6.
    pub fn setup_clamp(&mut self) -> &mut Self {
        self.with(SetupFlags::CLAMP)
    }

    /// Shares worker threads, and the polling thread, with the ring `fd`. Since Linux 5.6.
    pub fn setup_attach_wq(&mut self, fd: RawFd) -> &mut Self {
        self.params.wq_fd = fd.cast_unsigned();
        self.with(SetupFlags::ATTACH_WQ)
    }

    /// The ring starts disabled, until
    /// [`register_enable_rings`](super::super::Submitter::register_enable_rings). Since Linux 5.10.
    pub fn setup_r_disabled(&mut self) -> &mut Self {
        self.with(SetupFlags::R_DISABLED)
    }

    /// The kernel goes on after an entry that it refuses. Since Linux 5.18.
    pub fn setup_submit_all(&mut self) -> &mut Self {
        self.with(SetupFlags::SUBMIT_ALL)
    }

    /// Completions that are due do not interrupt the task: they wait for its next system call.
    /// Since Linux 5.19.
    pub fn setup_coop_taskrun(&mut self) -> &mut Self {
        self.with(SetupFlags::COOP_TASKRUN)
    }

    /// A flag in the ring says that completions are due. Since Linux 5.19.
    pub fn setup_taskrun_flag(&mut self) -> &mut Self {
        self.with(SetupFlags::TASKRUN_FLAG)
    }

    /// Completions that are due wait for an enter that asks for some; needs
    /// [`setup_single_issuer`](Self::setup_single_issuer). Since Linux 6.1.
    pub fn setup_defer_taskrun(&mut self) -> &mut Self {
        self.with(SetupFlags::DEFER_TASKRUN)
    }

    /// Only one thread submits. Since Linux 6.0.
    pub fn setup_single_issuer(&mut self) -> &mut Self {
        self.with(SetupFlags::SINGLE_ISSUER)
    }

    /// The ring has no index array: slots are consumed in their order. Since Linux 6.6.
    pub fn setup_no_sqarray(&mut self) -> &mut Self {
        self.with(SetupFlags::NO_SQARRAY)
    }

    /// Makes the ring, with `entries` submission entries, rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// Those of `io_uring_setup(2)` and `mmap(2)`.
    pub fn build(&self, entries: u32) -> io::Result<IoUring<S, C>> {
        let kernel = Kernel::LINUX;
        let mut params = self.params;
        // SAFETY: no memory of ours is named, since no flag here says so; the caller of
        // `setup_attach_wq` named the ring to share.
        let fd = unsafe { kernel.setup(entries, &mut params) }?;
        // SAFETY: `params` is what `setup` returned for this descriptor, which is new, so nobody
        // has mapped it.
        let rings = unsafe { Rings::adopt(&kernel, fd, params) }?;
        Ok(IoUring::over(rings))
    }

    fn with(&mut self, flag: SetupFlags) -> &mut Self {
        self.params.flags |= flag;
        self
    }
}

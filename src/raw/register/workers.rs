//! Worker threads: on which processors they run, and how many there may be.
//!
//! ```text
//!   would block ─┬─ bounded work: files, block devices ──► few workers
//!                └─ unbounded work: sockets, pipes ──────► as many workers as processes allowed
//! ```
//!
//! The workers (`io-wq`, named `iou-wrk-…` in `/proc`) belong to the thread that submits, not to a
//! ring: the settings here apply to all rings of this thread. With a polling thread (`SQPOLL`), the
//! workers belong to that thread. Limits also apply to other threads that submit to the ring;
//! affinity does not.
//!
//! Leaves to others: which operations go to a worker ([`Op::forced`](crate::op::Op::forced)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::num::NonZeroU32;

use annulus_sys::opcode::RegisterOp;

use super::call::Call;
use super::error::RegisterError;
use crate::raw::RawRing;

/// More processors than any kernel can be configured for.
const PROCESSORS: u32 = 1 << 16;

/// How many workers there may be; `None` leaves a limit as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WorkerLimits {
    /// For work that ends in bounded time: regular files, block devices.
    #[doc(alias = "IO_WQ_BOUND")]
    pub bounded: Option<NonZeroU32>,
    /// For work that may never end: sockets, pipes, terminals.
    #[doc(alias = "IO_WQ_UNBOUND")]
    pub unbounded: Option<NonZeroU32>,
}

/// How many workers there may be, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Workers {
    /// For work that ends in bounded time.
    pub bounded: u32,
    /// For work that may never end.
    pub unbounded: u32,
}

/// # Worker threads
impl RawRing {
    /// Lets the workers run on these processors only. The kernel ignores numbers of processors that
    /// do not exist; if no processor remains, the workers run anywhere. Since Linux 5.14.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] if there are no numbers, if one is above 65535, and for a
    /// processor outside this thread's cpuset.
    #[doc(alias = "IORING_REGISTER_IOWQ_AFF")]
    #[doc(alias = "io_uring_register_iowq_aff")]
    pub fn set_worker_cpus(
        &self,
        cpus: impl IntoIterator<Item = u32>,
    ) -> Result<(), RegisterError> {
        let reason = "name at least one processor, and only those in the cpuset of this thread";
        let mut words: Vec<u64> = Vec::new();
        for cpu in cpus {
            if cpu >= PROCESSORS {
                return Err(RegisterError::Invalid { reason });
            }
            let word = (cpu / u64::BITS) as usize;
            words.resize(words.len().max(word + 1), 0);
            words[word] |= 1 << (cpu % u64::BITS);
        }
        if words.is_empty() {
            return Err(RegisterError::Invalid { reason });
        }
        let bytes = u32::try_from(words.len() * 8).expect("at most 8192 bytes");
        let call = Call::new(RegisterOp::IOWQ_AFF, bytes, reason);
        // SAFETY: as many live bytes of a mask as the count says, which the kernel copies, because
        // it says so.
        unsafe { call.make(self.base(), words.as_mut_ptr()) }.map(drop)
    }

    /// Lets the workers run wherever this thread may run, as they do by default. Since Linux 5.14.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    #[doc(alias = "IORING_UNREGISTER_IOWQ_AFF")]
    #[doc(alias = "io_uring_unregister_iowq_aff")]
    pub fn reset_worker_cpus(&self) -> Result<(), RegisterError> {
        let op = RegisterOp::UNREGISTER_IOWQ_AFF;
        Call::new(op, 0, "it takes no argument").bare(self.base()).map(drop)
    }

    /// How many workers there may be. Since Linux 5.15.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    #[doc(alias = "IORING_REGISTER_IOWQ_MAX_WORKERS")]
    pub fn max_workers(&self) -> Result<Workers, RegisterError> {
        self.set_max_workers(WorkerLimits::default())
    }

    /// Sets how many workers there may be, and returns the previous limits. Since Linux 5.15.
    ///
    /// Work beyond the limit waits for its turn. So operations that depend on each other may wait
    /// forever.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] above 2147483647.
    #[doc(alias = "IORING_REGISTER_IOWQ_MAX_WORKERS")]
    #[doc(alias = "io_uring_register_iowq_max_workers")]
    pub fn set_max_workers(&self, limits: WorkerLimits) -> Result<Workers, RegisterError> {
        let number = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
        let mut counts = [number(limits.bounded), number(limits.unbounded)];
        let reason = "a limit is 1 to 2147483647 workers";
        let call = Call::new(RegisterOp::IOWQ_MAX_WORKERS, 2, reason);
        // SAFETY: two live numbers, which the kernel copies in and out, because it says so.
        unsafe { call.make(self.base(), counts.as_mut_ptr()) }?;
        let [bounded, unbounded] = counts;
        Ok(Workers { bounded, unbounded })
    }
}

//! What ring to make: its sizes, its flags, and the fallback on older kernels.
//!
//! | start from | flags | falls back |
//! |---|---|---|
//! | [`Setup::new`] | what the kernel's developers recommend for a ring that one thread uses | yes, to what this kernel accepts |
//! | [`Setup::plain`] | none | – |
//!
//! The next table has the recommended flags. Its rows are tried from the top, and the first that
//! the kernel accepts is used. A ring with a polling thread (`SQPOLL`) cannot defer task work to
//! our thread, so it tries only the rows that fit it.
//!
//! | since | flags |
//! |---|---|
//! | Linux 6.6 | `SINGLE_ISSUER` `DEFER_TASKRUN` `TASKRUN_FLAG` `SUBMIT_ALL` `NO_SQARRAY` |
//! | Linux 6.1 | `SINGLE_ISSUER` `DEFER_TASKRUN` `TASKRUN_FLAG` `SUBMIT_ALL` |
//! | Linux 5.19 | `COOP_TASKRUN` `TASKRUN_FLAG` `SUBMIT_ALL` |
//! | Linux 5.18 | `SUBMIT_ALL` |
//! | before | none |
//!
//! A flag that you ask for by name is never dropped: a kernel that lacks it returns an error that
//! says so. Combinations that no kernel accepts are refused before the kernel is asked, with the
//! reason.
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//!
//! let ring = Setup::new(20).cq_entries(100).build_raw()?;
//! assert_eq!((ring.sq_entries(), ring.cq_entries()), (32, 128)); // rounded up
//! # Ok::<(), annulus::SetupError>(())
//! ```
#![allow(unsafe_code, reason = "attaches to a ring whose threads it will share")]

pub(crate) mod allowed;
pub mod enter_error;
pub mod setup_error;

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::time::Duration;

use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;
use annulus_sys::kernel::Kernel;
use annulus_sys::map::Pages;
use annulus_sys::place::Place;
use annulus_sys::rings::{Attached, MAX_CQ_ENTRIES, MAX_SQ_ENTRIES, Request, Rings, SetupFailure};

use setup_error::{FlagName, SetupError};

/// What ring to make: its sizes, its flags, and whose memory it uses.
///
/// Start from [`new`](Self::new), which adds the flags that are best on this kernel (the
/// [module](self) lists them). Then build the ring on the thread that will use it.
///
/// # Choosing sizes
///
/// | size | is | choose |
/// |---|---|---|
/// | `entries`, of [`new`](Self::new) | how many operations one system call can submit | as many as you submit between two waits: 8 for a tool, 64 to 256 for a server |
/// | [`cq_entries`](Self::cq_entries) | how many completions fit into the queue | as many operations as are in flight at once, and more for multishot operations |
/// | slots of a safe ring | how many operations it can own at once | they follow: one for each completion entry |
///
/// Each size is rounded up to a power of two. A submission queue that is too small costs system
/// calls, and nothing fails: [`Ring::submit`](crate::Ring::submit) makes room when it is full. So
/// `entries` need not cover everything that is in flight.
///
/// The completion queue does limit a safe [`Ring`](crate::Ring), which has as many slots as that
/// queue has entries. So single completions never overflow it. An operation keeps its slot until
/// its ticket is redeemed, and a multishot operation keeps one for as long as it goes on. When all
/// slots are taken, submitting fails with [`Rejection::NoSlot`](crate::Rejection::NoSlot). So a
/// server of 1000 connections, each with a receive and sometimes a send in flight, asks for at
/// least 2001 `cq_entries`: one more for the accept. Unless you ask, the queue has twice as many
/// entries as the submission queue.
///
/// A multishot operation may complete many times before you look. When the queue is full, nothing
/// is lost: the kernel ends the multishot operation with success
/// ([`Ending::Stopped`](crate::op::Ending::Stopped)), to be submitted again, and holds back the
/// completions of others until the ring asks. Both cost time, so give such a server more entries
/// than it has operations. If [`Stats::overflows`](crate::Stats::overflows) grows, ask for more.
///
/// Memory: 64 bytes for each submission entry, 16 for each completion entry, and more than 256 for
/// each slot of a safe ring. A ring has at most 32768 submission entries and 65536 completion
/// entries.
///
/// # Example
///
/// ```
/// use annulus::Setup;
///
/// // 64 operations per system call, and up to 4096 in flight.
/// let ring = Setup::new(64).cq_entries(4096).build()?;
/// assert_eq!((ring.raw().sq_entries(), ring.vacant()), (64, 4096));
/// # Ok::<(), annulus::SetupError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a `Setup` makes no ring until it is built, by `build` or one of its variants"]
pub struct Setup<'a> {
    request: Request<'a>,
    memory: Memory,
    preset: Preset,
    kernel: Kernel,
}

/// Whose memory the rings use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Kernels,
    Ours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preset {
    Recommended,
    None,
}

/// The recommended flags, best first.
const LADDER: [SetupFlags; 5] = [
    SetupFlags::SINGLE_ISSUER
        .union(SetupFlags::DEFER_TASKRUN)
        .union(SetupFlags::TASKRUN_FLAG)
        .union(SetupFlags::SUBMIT_ALL)
        .union(SetupFlags::NO_SQARRAY),
    SetupFlags::SINGLE_ISSUER
        .union(SetupFlags::DEFER_TASKRUN)
        .union(SetupFlags::TASKRUN_FLAG)
        .union(SetupFlags::SUBMIT_ALL),
    SetupFlags::COOP_TASKRUN.union(SetupFlags::TASKRUN_FLAG).union(SetupFlags::SUBMIT_ALL),
    SetupFlags::SUBMIT_ALL,
    SetupFlags::empty(),
];

/// Flags that a ring with a polling thread cannot have.
const NOT_POLLED: SetupFlags =
    SetupFlags::DEFER_TASKRUN.union(SetupFlags::COOP_TASKRUN).union(SetupFlags::TASKRUN_FLAG);

/// Flags that a method sets, since each needs a value with it.
const BY_METHOD: [(SetupFlags, &str); 3] = [
    (SetupFlags::CQSIZE, "CQSIZE needs a size: call `cq_entries` instead"),
    (SetupFlags::ATTACH_WQ, "ATTACH_WQ needs a ring: call `attach` instead"),
    (
        SetupFlags::R_DISABLED,
        "R_DISABLED makes a ring that must be enabled: call `build_disabled`, or \
         `build_raw_disabled`",
    ),
];

/// Combinations that the kernel refuses with EINVAL: the first flag needs one of the second flags.
const NEEDS: [(SetupFlags, SetupFlags, &str); 6] = [
    (
        SetupFlags::DEFER_TASKRUN,
        SetupFlags::SINGLE_ISSUER,
        "DEFER_TASKRUN runs completions on the one thread that submits: add SINGLE_ISSUER",
    ),
    (
        SetupFlags::TASKRUN_FLAG,
        SetupFlags::COOP_TASKRUN.union(SetupFlags::DEFER_TASKRUN),
        "TASKRUN_FLAG tells of deferred work: add COOP_TASKRUN or DEFER_TASKRUN",
    ),
    (
        SetupFlags::SQ_AFF,
        SetupFlags::SQPOLL,
        "SQ_AFF binds the polling thread to a CPU: add SQPOLL",
    ),
    (SetupFlags::HYBRID_IOPOLL, SetupFlags::IOPOLL, "HYBRID_IOPOLL refines IOPOLL: add IOPOLL"),
    (
        SetupFlags::SQ_REWIND,
        SetupFlags::NO_SQARRAY,
        "SQ_REWIND works on the entries themselves, without an index array: add NO_SQARRAY",
    ),
    (
        SetupFlags::REGISTERED_FD_ONLY,
        SetupFlags::NO_MMAP,
        "REGISTERED_FD_ONLY leaves no descriptor to map: call `own_memory` too",
    ),
];

/// Combinations that the kernel refuses with EINVAL: the first flag excludes each of the second
/// flags.
const BARS: [(SetupFlags, SetupFlags, &str); 4] = [
    (
        SetupFlags::SQPOLL,
        NOT_POLLED,
        "SQPOLL runs requests on a thread of the kernel: drop DEFER_TASKRUN, COOP_TASKRUN and \
         TASKRUN_FLAG, which control work on the submitting thread",
    ),
    (
        SetupFlags::SQPOLL,
        SetupFlags::SQ_REWIND,
        "SQ_REWIND starts at slot 0 with each submit, and SQPOLL has no submits: drop one of them",
    ),
    (
        SetupFlags::CQE32,
        SetupFlags::CQE_MIXED,
        "CQE32 makes every completion large: drop CQE_MIXED",
    ),
    (SetupFlags::SQE128, SetupFlags::SQE_MIXED, "SQE128 makes every entry large: drop SQE_MIXED"),
];

/// # Choosing
impl<'a> Setup<'a> {
    /// A ring with at least `entries` submission slots, with the flags that the kernel's developers
    /// recommend for a ring that one thread uses. How many: see [choosing sizes](#choosing-sizes).
    pub fn new(entries: u32) -> Self {
        Self { preset: Preset::Recommended, ..Self::plain(entries) }
    }

    /// A ring with at least `entries` submission slots, and only the flags that you ask for.
    pub fn plain(entries: u32) -> Self {
        let (request, memory) = (Request::new(entries), Memory::Kernels);
        Self { request, memory, preset: Preset::None, kernel: Kernel::LINUX }
    }

    /// Asks for at least `entries` completion slots, instead of twice the number of submission
    /// slots. A safe ring can own as many operations at once: see [choosing
    /// sizes](#choosing-sizes). The kernel refuses fewer completion than submission slots. A mixed
    /// ring has at least four. Since Linux 5.5.
    #[doc(alias = "IORING_SETUP_CQSIZE")]
    pub fn cq_entries(mut self, entries: u32) -> Self {
        self.request.cq_entries = Some(entries);
        self
    }

    /// Adds `flags`. If the kernel does not accept them, building the ring fails.
    pub fn with(mut self, flags: SetupFlags) -> Self {
        self.request.flags = self.request.flags.union(flags);
        self
    }

    /// Starts a polling thread in the kernel, which takes entries without a system call. The thread
    /// uses a CPU while it is awake, and sleeps when it has found no entries for `idle`. `idle` is
    /// rounded up to whole milliseconds; zero means the kernel's default of one second. Needs no
    /// privilege since Linux 5.13.
    #[doc(alias = "IORING_SETUP_SQPOLL")]
    pub fn sqpoll(mut self, idle: Duration) -> Self {
        let millis = idle.as_nanos().div_ceil(1_000_000);
        self.request.sq_thread_idle = u32::try_from(millis).unwrap_or(u32::MAX);
        self.with(SetupFlags::SQPOLL)
    }

    /// Like [`sqpoll`](Self::sqpoll), and binds the polling thread to a CPU.
    #[doc(alias = "IORING_SETUP_SQ_AFF")]
    pub fn sqpoll_on(mut self, cpu: u32, idle: Duration) -> Self {
        self.request.sq_thread_cpu = cpu;
        self.sqpoll(idle).with(SetupFlags::SQ_AFF)
    }

    /// Puts the rings into memory of this process instead of the kernel's. If anything is still in
    /// flight when the ring goes away, that memory is leaked. Since Linux 6.5.
    #[doc(alias = "IORING_SETUP_NO_MMAP")]
    pub fn own_memory(mut self, pages: Pages) -> Self {
        self.request.pages = pages;
        self.memory = Memory::Ours;
        self.with(SetupFlags::NO_MMAP)
    }

    /// Puts the rings into this memory of yours, at addresses that you choose; it is cleared first.
    /// It begins at the start of a page, and has [`memory_size`](Self::memory_size) bytes, asked
    /// after everything else is set. A rule of [`Pages::Ordinary`] holds for it too: before Linux
    /// 6.14 each region of the ring must be contiguous in physical memory. Since Linux 6.5.
    ///
    /// # Safety
    ///
    /// The memory must be valid for reads and writes, and nothing else may use it, until the ring
    /// is gone and everything that was in flight has completed:
    /// [`Ring::shutdown`](crate::Ring::shutdown) returned `Ok`, for example. Until then no second
    /// ring may be built from this `Setup` or a clone of it: it would lie there too. A forked child
    /// must not find it shared with this process (`MAP_PRIVATE`, or `MADV_DONTFORK`).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use std::ptr::NonNull;
    ///
    /// let setup = Setup::plain(4);
    /// let mut memory = memmap2::MmapMut::map_anon(setup.memory_size())?;
    /// let place = NonNull::from(&mut memory[..]);
    /// // SAFETY: a private mapping, which nothing else uses, and which outlives the ring.
    /// let ring = unsafe { setup.memory_at(place) }.build();
    /// if let Ok(ring) = ring { // Linux 6.5
    ///     ring.shutdown(std::time::Duration::from_secs(1))?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("IORING_SETUP_NO_MMAP", "io_uring_queue_init_mem"))]
    pub unsafe fn memory_at(mut self, memory: NonNull<[u8]>) -> Self {
        // SAFETY: as promised to `Setup::memory_at`.
        self.request.place = Some(unsafe { Place::at(memory) });
        self.own_memory(Pages::Ordinary)
    }

    /// How many bytes [`memory_at`](Self::memory_at) needs, at most.
    pub fn memory_size(&self) -> usize {
        self.request.own_memory_size()
    }

    /// Shares the worker threads of another ring, and its polling thread. Since Linux 5.6.
    ///
    /// A polling thread that several rings share takes at most eight entries of a ring at a time,
    /// and cuts a chain there: what is left of it begins at once, as a chain of its own.
    ///
    /// # Safety
    ///
    /// The two rings depend on each other: if the polling thread dies, it dies for both. The code
    /// that owns the other ring must be prepared for that.
    #[doc(alias = "IORING_SETUP_ATTACH_WQ")]
    pub unsafe fn attach(mut self, ring: BorrowedFd<'a>) -> Self {
        // SAFETY: as promised to `Setup::attach`.
        self.request.attach = Some(unsafe { Attached::to(ring) });
        self
    }

    /// Makes the ring on `kernel` instead of Linux.
    #[cfg(feature = "sim")]
    pub fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// The flags that were asked for by name.
    pub(crate) fn flags(&self) -> SetupFlags {
        self.request.flags
    }

    /// Makes and maps the ring. Adds the flags in `extra` to those that were asked for.
    pub(crate) fn rings(&self, extra: SetupFlags) -> Result<Rings, SetupError> {
        self.check()?;
        let asked = Request { flags: self.request.flags | extra, ..self.request };
        let mut refused = Errno::new(libc::EINVAL);
        for preset in self.candidates() {
            let request = Request { flags: asked.flags | preset, ..asked };
            match Rings::setup(&self.kernel, &request) {
                Ok(rings) => return Ok(rings),
                // This kernel does not know one of the flags: try the next preset.
                Err(SetupFailure::Setup(errno)) if errno.is(libc::EINVAL) => refused = errno,
                Err(failure) => return Err(setup_error::explain(failure, &request)),
            }
        }
        Err(setup_error::explain_invalid(&self.kernel, refused, &asked))
    }

    /// The presets to try, best first: those that fit the flags that were asked for.
    fn candidates(&self) -> Vec<SetupFlags> {
        let polled = self.request.flags.contains(SetupFlags::SQPOLL);
        let fits = |preset: &SetupFlags| !(polled && preset.intersects(NOT_POLLED));
        let ladder: &[SetupFlags] = match self.preset {
            Preset::Recommended => &LADDER,
            Preset::None => &[SetupFlags::empty()],
        };
        ladder.iter().copied().filter(fits).collect()
    }

    /// Refuses what no kernel accepts.
    fn check(&self) -> Result<(), SetupError> {
        let flags = self.request.flags;
        let refuse = |reason| Err(SetupError::Invalid { reason });
        let known: SetupFlags = flags.iter_names().map(|(_, flag)| flag).collect();
        if flags != known {
            // An unknown flag might change what a slot means, as others have.
            let flag = FlagName(flags - known);
            return Err(SetupError::Unsupported { flag, since: setup_error::NEWER });
        }
        if let Some((_, reason)) = BY_METHOD.iter().find(|(flag, _)| flags.intersects(*flag)) {
            return refuse(reason);
        }
        if flags.contains(SetupFlags::NO_MMAP) && self.memory == Memory::Kernels {
            return refuse("NO_MMAP needs memory: call `own_memory` instead");
        }
        if self.request.place.is_some_and(|place| !place.fits(self.memory_size())) {
            return refuse("this memory is too small, or does not begin a page: see `memory_size`");
        }
        // A flag that another one needs may also come from the recommended preset.
        let flags = flags | self.companions();
        for (flag, needed, reason) in NEEDS {
            if flags.contains(flag) && !flags.intersects(needed) {
                return refuse(reason);
            }
        }
        for (flag, barred, reason) in BARS {
            if flags.contains(flag) && flags.intersects(barred) {
                return refuse(reason);
            }
        }
        self.check_sizes()
    }

    /// The flags of the best preset that fits, which need not be asked for by name.
    fn companions(&self) -> SetupFlags {
        match self.preset {
            Preset::Recommended => self.candidates().first().copied().unwrap_or_default(),
            Preset::None => SetupFlags::empty(),
        }
    }

    fn check_sizes(&self) -> Result<(), SetupError> {
        let Request { entries, cq_entries, flags, .. } = self.request;
        let refuse = |reason| Err(SetupError::Invalid { reason });
        let clamps = flags.contains(SetupFlags::CLAMP);
        if entries == 0 {
            return refuse("a ring with no entries: ask for at least one");
        }
        if entries > MAX_SQ_ENTRIES && !clamps {
            return refuse("more than 32768 submission entries: ask for fewer, or add CLAMP");
        }
        if flags.contains(SetupFlags::SQE_MIXED) && entries < 3 {
            return refuse("a mixed ring of 1 or 2 slots cannot hold a large entry: ask for 4");
        }
        let Some(cq_entries) = cq_entries else { return Ok(()) };
        if cq_entries > MAX_CQ_ENTRIES && !clamps {
            return refuse("more than 65536 completion entries: ask for fewer, or add CLAMP");
        }
        let sq_entries = entries.min(MAX_SQ_ENTRIES).next_power_of_two();
        if cq_entries.min(MAX_CQ_ENTRIES).next_power_of_two() < sq_entries || cq_entries == 0 {
            return refuse("fewer completion than submission entries: ask for at least as many");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(setup: Setup<'_>) -> &'static str {
        match setup.check() {
            Err(SetupError::Invalid { reason }) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn what_no_kernel_takes_is_refused_with_words() {
        let plain = Setup::plain;
        let flags = |flags| plain(8).with(flags);
        assert!(refusal(plain(0)).contains("no entries"));
        assert!(refusal(plain(40_000)).contains("CLAMP"));
        assert!(refusal(plain(2).with(SetupFlags::SQE_MIXED)).contains("ask for 4"));
        assert!(refusal(plain(8).cq_entries(0)).contains("at least as many"));
        assert!(refusal(plain(9).cq_entries(8)).contains("at least as many"));
        assert!(refusal(plain(8).cq_entries(100_000)).contains("CLAMP"));
        assert!(refusal(flags(SetupFlags::DEFER_TASKRUN)).contains("SINGLE_ISSUER"));
        assert!(refusal(flags(SetupFlags::TASKRUN_FLAG)).contains("COOP_TASKRUN"));
        assert!(refusal(flags(SetupFlags::SQ_AFF)).contains("SQPOLL"));
        assert!(refusal(flags(SetupFlags::HYBRID_IOPOLL)).contains("IOPOLL"));
        assert!(refusal(flags(SetupFlags::SQ_REWIND)).contains("NO_SQARRAY"));
        assert!(refusal(flags(SetupFlags::REGISTERED_FD_ONLY)).contains("own_memory"));
        assert!(refusal(flags(SetupFlags::CQE32 | SetupFlags::CQE_MIXED)).contains("CQE_MIXED"));
        assert!(refusal(flags(SetupFlags::SQE128 | SetupFlags::SQE_MIXED)).contains("SQE_MIXED"));
        assert!(refusal(flags(SetupFlags::SQPOLL | SetupFlags::COOP_TASKRUN)).contains("SQPOLL"));
        assert!(refusal(flags(SetupFlags::CQSIZE)).contains("cq_entries"));
        assert!(refusal(flags(SetupFlags::R_DISABLED)).contains("build_disabled"));
        assert!(refusal(flags(SetupFlags::ATTACH_WQ)).contains("attach"));
        assert!(refusal(flags(SetupFlags::NO_MMAP)).contains("own_memory"));
        assert!(flags(SetupFlags::NO_MMAP).own_memory(Pages::Ordinary).check().is_ok());
        let rewinding = SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY;
        let polled = plain(8).sqpoll(Duration::ZERO).with(rewinding);
        assert!(refusal(polled).contains("slot 0"));
    }

    #[test]
    fn a_polling_ring_is_recommended_only_what_fits_it() {
        let candidates = Setup::new(8).sqpoll(Duration::ZERO).candidates();
        assert_eq!(candidates, [SetupFlags::SUBMIT_ALL, SetupFlags::empty()]);
    }

    #[test]
    fn idle_time_is_whole_milliseconds_rounded_up() {
        let idle = |time| Setup::plain(1).sqpoll(time).request.sq_thread_idle;
        assert_eq!(idle(Duration::ZERO), 0);
        assert_eq!(idle(Duration::from_micros(1)), 1);
        assert_eq!(idle(Duration::from_millis(20)), 20);
        assert_eq!(idle(Duration::MAX), u32::MAX);
    }
}

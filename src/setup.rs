//! What ring to make: sizes, flags, and what to do without on an older kernel.
//!
//! | start from | flags | falls back |
//! |---|---|---|
//! | [`Setup::new`] | what the kernel's developers recommend, for one thread | yes, by what this kernel takes |
//! | [`Setup::plain`] | none | – |
//!
//! The recommendation, best first; the first that the kernel takes is used. A polling ring
//! (`SQPOLL`) runs no deferred work of ours, so it gets only what fits it.
//!
//! | since | flags |
//! |---|---|
//! | Linux 6.6 | `SINGLE_ISSUER` `DEFER_TASKRUN` `TASKRUN_FLAG` `SUBMIT_ALL` `NO_SQARRAY` |
//! | Linux 6.1 | `SINGLE_ISSUER` `DEFER_TASKRUN` `TASKRUN_FLAG` `SUBMIT_ALL` |
//! | Linux 5.19 | `COOP_TASKRUN` `TASKRUN_FLAG` `SUBMIT_ALL` |
//! | Linux 5.18 | `SUBMIT_ALL` |
//! | before | none |
//!
//! What is asked for by name is never dropped: a kernel that lacks it gives an error that says so.
//! Combinations that no kernel takes are refused before it is asked, with the reason.
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

use std::os::fd::BorrowedFd;
use std::time::Duration;

use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;
use annulus_sys::kernel::Kernel;
use annulus_sys::map::Pages;
use annulus_sys::rings::{Attached, MAX_CQ_ENTRIES, MAX_SQ_ENTRIES, Request, Rings, SetupFailure};

use crate::denied::{self, FlagName, SetupError};

/// What ring to make. See the [module](self) for what it starts from.
#[derive(Debug, Clone)]
#[must_use = "nothing is made before `build_raw`"]
pub struct Setup<'a> {
    request: Request<'a>,
    memory: Memory,
    preset: Preset,
    kernel: Kernel,
}

/// Whose memory the rings are to lie in.
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

/// What a polling ring cannot have.
const NOT_POLLED: SetupFlags =
    SetupFlags::DEFER_TASKRUN.union(SetupFlags::COOP_TASKRUN).union(SetupFlags::TASKRUN_FLAG);

/// Flags that a method sets, since each needs a value beside it.
const BY_METHOD: [(SetupFlags, &str); 3] = [
    (SetupFlags::CQSIZE, "CQSIZE needs a size: call `cq_entries` instead"),
    (SetupFlags::ATTACH_WQ, "ATTACH_WQ needs a ring: call `attach` instead"),
    (SetupFlags::R_DISABLED, "R_DISABLED makes a ring that must be enabled: call `build_disabled`"),
];

/// Combinations that the kernel refuses with EINVAL: the first flag needs one of the second ones.
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
    (SetupFlags::HYBRID_IOPOLL, SetupFlags::IOPOLL, "HYBRID_IOPOLL is a way of IOPOLL: add IOPOLL"),
    (
        SetupFlags::SQ_REWIND,
        SetupFlags::NO_SQARRAY,
        "SQ_REWIND works on the entries themselves: add NO_SQARRAY",
    ),
    (
        SetupFlags::REGISTERED_FD_ONLY,
        SetupFlags::NO_MMAP,
        "REGISTERED_FD_ONLY leaves no descriptor to map: call `own_memory` too",
    ),
];

/// Combinations that the kernel refuses with EINVAL: the first flag bars each of the second ones.
const BARS: [(SetupFlags, SetupFlags, &str); 4] = [
    (
        SetupFlags::SQPOLL,
        NOT_POLLED,
        "SQPOLL runs requests on a thread of the kernel: DEFER_TASKRUN, COOP_TASKRUN and \
         TASKRUN_FLAG, which steer work on ours, do not go with it",
    ),
    (
        SetupFlags::SQPOLL,
        SetupFlags::SQ_REWIND,
        "SQ_REWIND starts at slot 0 with each submit, and SQPOLL knows no submit",
    ),
    (
        SetupFlags::CQE32,
        SetupFlags::CQE_MIXED,
        "CQE32 makes every completion large: drop CQE_MIXED",
    ),
    (SetupFlags::SQE128, SetupFlags::SQE_MIXED, "SQE128 makes every entry large: drop SQE_MIXED"),
];

impl<'a> Setup<'a> {
    /// A ring with at least `entries` submission slots, set up as the kernel's developers recommend
    /// for a ring that one thread uses.
    pub fn new(entries: u32) -> Self {
        Self { preset: Preset::Recommended, ..Self::plain(entries) }
    }

    /// A ring with at least `entries` submission slots and no flag that is not asked for.
    pub fn plain(entries: u32) -> Self {
        let (request, memory) = (Request::new(entries), Memory::Kernels);
        Self { request, memory, preset: Preset::None, kernel: Kernel::LINUX }
    }

    /// At least `entries` completion slots, instead of twice the submission slots. Since Linux 5.5.
    #[doc(alias = "IORING_SETUP_CQSIZE")]
    pub fn cq_entries(mut self, entries: u32) -> Self {
        self.request.cq_entries = Some(entries);
        self
    }

    /// Adds `flags`, which the kernel must then take.
    pub fn with(mut self, flags: SetupFlags) -> Self {
        self.request.flags = self.request.flags.union(flags);
        self
    }

    /// Lets a thread of the kernel take entries without being entered, and sleep when it found none
    /// for `idle`; whole milliseconds, zero being the kernel's default of one second. It takes a
    /// CPU while awake. Unprivileged since Linux 5.13.
    #[doc(alias = "IORING_SETUP_SQPOLL")]
    pub fn sqpoll(mut self, idle: Duration) -> Self {
        let millis = idle.as_nanos().div_ceil(1_000_000);
        self.request.sq_thread_idle = u32::try_from(millis).unwrap_or(u32::MAX);
        self.with(SetupFlags::SQPOLL)
    }

    /// As [`sqpoll`](Self::sqpoll), with the thread bound to a CPU.
    #[doc(alias = "IORING_SETUP_SQ_AFF")]
    pub fn sqpoll_on(mut self, cpu: u32, idle: Duration) -> Self {
        self.request.sq_thread_cpu = cpu;
        self.sqpoll(idle).with(SetupFlags::SQ_AFF)
    }

    /// Puts the rings into memory of ours instead of the kernel's. It is leaked with the ring
    /// unless nothing was in flight. Since Linux 6.5.
    #[doc(alias = "IORING_SETUP_NO_MMAP")]
    pub fn own_memory(mut self, pages: Pages) -> Self {
        self.request.pages = pages;
        self.memory = Memory::Ours;
        self.with(SetupFlags::NO_MMAP)
    }

    /// Shares the worker threads, and the polling thread, of another ring. Since Linux 5.6.
    ///
    /// # Safety
    ///
    /// The two rings share their fate: a polling thread that dies, dies for both. The other ring
    /// must belong to code that reckons with that.
    #[doc(alias = "IORING_SETUP_ATTACH_WQ")]
    pub unsafe fn attach(mut self, ring: BorrowedFd<'a>) -> Self {
        // SAFETY: as promised to `Setup::attach`.
        self.request.attach = Some(unsafe { Attached::to(ring) });
        self
    }

    /// Makes the ring of a kernel that is not Linux.
    #[cfg(feature = "sim")]
    pub fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// The flags that were asked for by name.
    pub(crate) fn flags(&self) -> SetupFlags {
        self.request.flags
    }

    /// Makes and maps the ring, `extra` flags added to those that were asked for.
    pub(crate) fn rings(&self, extra: SetupFlags) -> Result<Rings, SetupError> {
        self.check()?;
        let asked = Request { flags: self.request.flags | extra, ..self.request };
        let mut refused = Errno::new(libc::EINVAL);
        for preset in self.candidates() {
            let request = Request { flags: asked.flags | preset, ..asked };
            match Rings::setup(&self.kernel, &request) {
                Ok(rings) => return Ok(rings),
                // This kernel does not know one of the flags: try fewer.
                Err(SetupFailure::Setup(errno)) if errno.is(libc::EINVAL) => refused = errno,
                Err(failure) => return Err(denied::explain(failure, &request)),
            }
        }
        Err(denied::explain_invalid(&self.kernel, refused, &asked))
    }

    /// The presets to try, best first: those that go with what was asked for.
    fn candidates(&self) -> Vec<SetupFlags> {
        let polled = self.request.flags.contains(SetupFlags::SQPOLL);
        let fits = |preset: &SetupFlags| !(polled && preset.intersects(NOT_POLLED));
        let ladder: &[SetupFlags] = match self.preset {
            Preset::Recommended => &LADDER,
            Preset::None => &[SetupFlags::empty()],
        };
        ladder.iter().copied().filter(fits).collect()
    }

    /// Refuses what no kernel takes.
    fn check(&self) -> Result<(), SetupError> {
        let flags = self.request.flags;
        let refuse = |reason| Err(SetupError::Invalid { reason });
        let known: SetupFlags = flags.iter_names().map(|(_, flag)| flag).collect();
        if flags != known {
            // It might change what a slot means, as others have.
            let flag = FlagName(flags - known);
            return Err(SetupError::Unsupported { flag, since: denied::NEWER });
        }
        if let Some((_, reason)) = BY_METHOD.iter().find(|(flag, _)| flags.intersects(*flag)) {
            return refuse(reason);
        }
        if flags.contains(SetupFlags::NO_MMAP) && self.memory == Memory::Kernels {
            return refuse("NO_MMAP needs memory: call `own_memory` instead");
        }
        // A companion that the recommendation brings along counts as asked for.
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

    /// What every rung of the ladder above some kernel brings along, so that it need not be asked
    /// for.
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
            return refuse("a ring of no entries: ask for at least one");
        }
        if entries > MAX_SQ_ENTRIES && !clamps {
            return refuse("more than 32768 entries: ask for fewer, or add CLAMP");
        }
        if flags.contains(SetupFlags::SQE_MIXED) && entries < 3 {
            return refuse("a mixed ring of 1 or 2 has no room for a large entry: ask for 4");
        }
        let Some(cq_entries) = cq_entries else { return Ok(()) };
        if cq_entries > MAX_CQ_ENTRIES && !clamps {
            return refuse("more than 65536 completion entries: ask for fewer, or add CLAMP");
        }
        if flags.contains(SetupFlags::CQE_MIXED) && cq_entries == 1 {
            return refuse("a mixed ring of 1 completion has no room for a large one: ask for 4");
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
        let mixed = plain(1).with(SetupFlags::CQE_MIXED);
        assert!(refusal(mixed.clone().cq_entries(1)).contains("ask for 4"));
        assert_eq!(mixed.cq_entries(2).check(), Ok(()));
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

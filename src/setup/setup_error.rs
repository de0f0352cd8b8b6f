//! Why a ring could not be made, and what to do about it.
//!
//! | `io_uring_setup(2)` returns | because of | how we find out |
//! |---|---|---|
//! | `EPERM` | `kernel.io_uring_disabled` | `/proc/sys/kernel/io_uring_disabled`, `io_uring_group` |
//! | `EPERM` | a seccomp filter: Docker, containerd, a sandbox | `/proc/self/status`, `Seccomp: 2` |
//! | `ENOSYS` | no io_uring in the kernel, or a filter that hides it | `/proc/self/status`, `Seccomp: 2` |
//! | `ENOMEM` | `RLIMIT_MEMLOCK`, without `CAP_IPC_LOCK` | `getrlimit(2)`, `/proc/self/status` |
//! | `ENOMEM` from mapping the ring | `RLIMIT_AS` | `getrlimit(2)` |
//! | `EBUSY` | 16 rings are registered already | – |
//! | `EMFILE` | `RLIMIT_NOFILE` | `getrlimit(2)` |
//! | `EINVAL` | a flag that this kernel does not know | try each flag on its own |
//! | `EINVAL` | no CPU for the polling thread | try a small ring with that CPU |
//! | `EINVAL` | nothing to attach to | try to attach a small ring |
//! | `EFAULT` | memory of ours that is not contiguous | it was asked to use such memory |
//!
//! We look for the cause only after the kernel has refused. The kernel's answer decides, never a
//! version number.
#![allow(unsafe_code, reason = "makes small rings to see what the kernel accepts")]

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;
use annulus_sys::kernel::Kernel;
use annulus_sys::map::{Pages, huge_page_size, page_size};
use annulus_sys::rings::{Attached, MAX_CQ_ENTRIES, MAX_SQ_ENTRIES, Request, Rings, SetupFailure};
use annulus_sys::syscall::RingFd;
use thiserror::Error;

pub use super::allowed::Filter;
use super::allowed::{is_privileged, limit_of, memory_lock_limit, seccomp_filter};

/// Why a ring could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// No kernel makes such a ring, so the kernel was not asked.
    #[error("no kernel makes such a ring: {reason}")]
    Invalid {
        /// What is wrong, and how to put it right.
        reason: &'static str,
    },
    /// This kernel does not know a flag that was asked for.
    #[error("this kernel does not know {flag}, which needs Linux {since}")]
    Unsupported {
        /// The flag.
        flag: FlagName,
        /// The first release that knows it.
        since: &'static str,
    },
    /// The administrator has turned io_uring off.
    #[error(
        "io_uring is turned off here (kernel.io_uring_disabled = {value}): an administrator can \
         set it to 0{}, or fall back to epoll",
        group_hint(*value)
    )]
    DisabledBySysctl {
        /// 1: off for unprivileged users outside `kernel.io_uring_group`. 2: off for everyone.
        value: u32,
    },
    /// A seccomp filter refuses the call, as the filters of Docker and other sandboxes do.
    #[error(
        "a seccomp filter refuses io_uring, as Docker, containerd and other sandboxes do: allow \
         io_uring_setup, io_uring_enter and io_uring_register in its profile (docker run \
         --security-opt seccomp=profile.json), or fall back to epoll"
    )]
    DeniedBySeccomp,
    /// A ring can be made, but `io_uring_register(2)` is refused, so we cannot ask what the kernel
    /// can do.
    #[error(
        "io_uring_register is refused ({0}), so we cannot ask what this kernel can do: allow it in \
         the sandbox's seccomp profile, or allow the call PROBE where the task is restricted"
    )]
    Unasked(Errno),
    /// The kernel refuses because this user lacks a privilege.
    #[error("the kernel refuses io_uring to this user (EPERM): {}", denied_hint(*polled))]
    Denied {
        /// Whether a polling thread was asked for. Some old kernels require a privilege for it.
        polled: Polled,
    },
    /// This system has no io_uring.
    #[error(
        "there is no io_uring here (ENOSYS): {}; fall back to epoll",
        absent_hint(*filter)
    )]
    NotSupported {
        /// Whether a seccomp filter is in force. Such a filter may be what hides io_uring.
        filter: Filter,
    },
    /// The ring needs more locked memory than this user may have.
    #[error(
        "the ring needs about {needed} bytes of locked memory, but the limit is {limit}, and rings \
         that were just dropped may still use a part of it: raise it (ulimit -l, RLIMIT_MEMLOCK), \
         or make a smaller ring"
    )]
    LockedMemory {
        /// About how many bytes the ring needs.
        needed: u64,
        /// The soft limit `RLIMIT_MEMLOCK`, in bytes.
        limit: u64,
    },
    /// The ring needs more address space than this process may have.
    #[error(
        "the ring needs about {needed} bytes of address space, but the limit is {limit}, and most \
         of it is used: raise it (ulimit -v, RLIMIT_AS), or make a smaller ring"
    )]
    AddressSpace {
        /// About how many bytes the ring needs.
        needed: u64,
        /// The soft limit `RLIMIT_AS`, in bytes.
        limit: u64,
    },
    /// The kernel has no memory for the ring.
    #[error("the kernel has no memory for the ring ({needed} bytes): make a smaller ring")]
    OutOfMemory {
        /// About how many bytes the ring needs.
        needed: u64,
    },
    /// The pool of huge pages of the default size has too few.
    #[error(
        "too few huge pages are free, and the ring needs {pages} of {} KiB: reserve some (sysctl \
         vm.nr_hugepages), or use ordinary pages",
        .size >> 10
    )]
    NoHugePages {
        /// How many huge pages the ring needs.
        pages: u64,
        /// The size of each, in bytes: the kernel's default size.
        size: u64,
    },
    /// The kernel cannot use the memory that we provide for the ring.
    #[error(
        "the kernel cannot use this memory: before Linux 6.14 each region of a ring must be one \
         page, ordinary or huge; make a smaller ring, or use huge pages"
    )]
    ScatteredMemory,
    /// The kernel cannot bind a polling thread to that CPU.
    #[error(
        "the kernel cannot bind a polling thread to CPU {cpu}: there is none, or it is offline or \
         outside this process's cpuset; choose one from `taskset -p $$`, or call `sqpoll` instead"
    )]
    NoSuchCpu {
        /// The CPU that was asked for.
        cpu: u32,
    },
    /// The descriptor given to `attach` is not that of a suitable ring.
    #[error(
        "the kernel cannot attach the new ring: give `attach` the descriptor of a ring, and with \
         SQPOLL the descriptor of a ring that has a polling thread too"
    )]
    NotAttached,
    /// This thread has no slot for another registered ring.
    #[error(
        "this thread has already registered 16 rings, the maximum: drop one, or make the ring \
         without REGISTERED_FD_ONLY"
    )]
    TooManyRings,
    /// Too many files are open.
    #[error(
        "too many open files; the limit is {limit}: close some, or raise it (ulimit -n, \
         RLIMIT_NOFILE)"
    )]
    TooManyFiles {
        /// The soft limit `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// The ring could not be mapped.
    #[error("the ring could not be mapped: {0}")]
    Map(Errno),
    /// Any other errno.
    #[error("io_uring_setup: {0}")]
    Other(Errno),
}

impl SetupError {
    /// The error number with which the kernel refused, or would have refused, had it been asked:
    /// see the table [above](self).
    pub fn errno(&self) -> Errno {
        Errno::new(match *self {
            Self::DisabledBySysctl { .. } | Self::DeniedBySeccomp | Self::Denied { .. } => {
                libc::EPERM
            }
            Self::NotSupported { .. } => libc::ENOSYS,
            Self::LockedMemory { .. }
            | Self::AddressSpace { .. }
            | Self::OutOfMemory { .. }
            | Self::NoHugePages { .. } => libc::ENOMEM,
            Self::ScatteredMemory => libc::EFAULT,
            Self::Invalid { .. }
            | Self::Unsupported { .. }
            | Self::NoSuchCpu { .. }
            | Self::NotAttached => libc::EINVAL,
            Self::TooManyRings => libc::EBUSY,
            Self::TooManyFiles { .. } => libc::EMFILE,
            Self::Unasked(errno) | Self::Map(errno) | Self::Other(errno) => return errno,
        })
    }
}

/// Keeps [the error number](SetupError::errno), which a runtime decides by, and not the text: an
/// `io::Error` has only one of them.
impl From<SetupError> for io::Error {
    fn from(error: SetupError) -> Self {
        error.errno().into()
    }
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetupError({self})")
    }
}

/// Whether a polling thread was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the name says it")]
pub enum Polled {
    Yes,
    No,
}

/// A setup flag that prints as the kernel's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagName(pub SetupFlags);

impl std::fmt::Display for FlagName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.iter_names().next() {
            Some((name, _)) => write!(f, "IORING_SETUP_{name}"),
            None => write!(f, "the setup flag {:#x}", self.0.bits()),
        }
    }
}

/// The `since` of a flag that this crate does not know: it is newer than any kernel known here.
pub(crate) const NEWER: &str = "later than 7.3";

fn group_hint(value: u32) -> &'static str {
    if value == 1 { ", or put this user's group into kernel.io_uring_group" } else { "" }
}

fn absent_hint(filter: Filter) -> &'static str {
    match filter {
        Filter::Present => "a seccomp filter hides it, or the kernel was built without it",
        Filter::Absent => "it needs Linux 5.1, built with CONFIG_IO_URING",
    }
}

fn denied_hint(polled: Polled) -> &'static str {
    match polled {
        Polled::Yes => "before Linux 5.13 a polling thread needs CAP_SYS_ADMIN or CAP_SYS_NICE",
        Polled::No => "a security module or a sandbox does not allow it",
    }
}

/// Explains why the kernel refused `request` with any errno but `EINVAL`.
pub(crate) fn explain(failure: SetupFailure, request: &Request<'_>) -> SetupError {
    let needed = bytes_needed(request);
    let errno = match failure {
        SetupFailure::Setup(errno) => errno,
        // This can happen where all memory is locked (`mlockall(2)`).
        SetupFailure::Map(errno) if errno.is(libc::EAGAIN) => return out_of_memory(needed),
        SetupFailure::Map(errno) => {
            return unmapped(needed, errno).unwrap_or(SetupError::Map(errno));
        }
        SetupFailure::OwnMemory(_) if request.pages == Pages::Huge => {
            let size = huge_page_size();
            let pages = request.huge_pages(size) as u64;
            return SetupError::NoHugePages { pages, size: size as u64 };
        }
        SetupFailure::OwnMemory(errno) => {
            return unmapped(needed, errno).unwrap_or(SetupError::OutOfMemory { needed });
        }
    };
    match errno.raw() {
        libc::EPERM => explain_denial(request),
        libc::ENOSYS => SetupError::NotSupported { filter: seccomp_filter() },
        libc::ENOMEM => out_of_memory(needed),
        libc::EMFILE => SetupError::TooManyFiles { limit: limit_of(libc::RLIMIT_NOFILE) },
        libc::EBUSY if request.flags.contains(SetupFlags::REGISTERED_FD_ONLY) => {
            SetupError::TooManyRings
        }
        libc::EFAULT if request.flags.contains(SetupFlags::NO_MMAP) => SetupError::ScatteredMemory,
        _ => SetupError::Other(errno),
    }
}

/// Explains why the kernel refused `request` with `EINVAL`: tries each flag on a small ring of its
/// own, oldest flag first.
pub(crate) fn explain_invalid(kernel: &Kernel, errno: Errno, request: &Request<'_>) -> SetupError {
    let mut asked = request.flags;
    // A size set by a method counts as a flag asked for by name.
    asked.set(SetupFlags::CQSIZE, request.cq_entries.is_some());
    for (_, flag) in asked.iter_names() {
        if !accepts(kernel, flag) {
            let since = flag.since().unwrap_or(NEWER);
            return SetupError::Unsupported { flag: FlagName(flag), since };
        }
    }
    let bound = SetupFlags::SQPOLL | SetupFlags::SQ_AFF;
    let cpu = request.sq_thread_cpu;
    if asked.contains(bound) && !makes(kernel, &polled_on(cpu)) {
        return SetupError::NoSuchCpu { cpu };
    }
    if let Some(attach) = request.attach {
        let flags = request.flags & SetupFlags::SQPOLL;
        let request = Request { flags, attach: Some(attach), ..Request::new(1) };
        if !makes(kernel, &request) {
            return SetupError::NotAttached;
        }
    }
    // Kernels that need contiguous memory return EINVAL if it is not contiguous.
    if request.flags.contains(SetupFlags::NO_MMAP) {
        return SetupError::ScatteredMemory;
    }
    SetupError::Other(errno)
}

/// Whether the kernel accepts `flag` on a small ring, together with the flags that it needs.
pub(crate) fn accepts(kernel: &Kernel, flag: SetupFlags) -> bool {
    let needed = match flag {
        SetupFlags::DEFER_TASKRUN => SetupFlags::SINGLE_ISSUER,
        SetupFlags::TASKRUN_FLAG => SetupFlags::COOP_TASKRUN,
        SetupFlags::SQ_AFF => SetupFlags::SQPOLL,
        SetupFlags::HYBRID_IOPOLL => SetupFlags::IOPOLL,
        SetupFlags::SQ_REWIND => SetupFlags::NO_SQARRAY,
        SetupFlags::REGISTERED_FD_ONLY => SetupFlags::NO_MMAP,
        _ => SetupFlags::empty(),
    };
    let (mut request, mut flags) = (Request::new(1), flag | needed);
    if flags.contains(SetupFlags::CQSIZE) {
        flags -= SetupFlags::CQSIZE;
        request.cq_entries = Some(2);
    }
    // For ATTACH_WQ, make a ring to attach to.
    let other = match flags.contains(SetupFlags::ATTACH_WQ) {
        true => Rings::setup(kernel, &Request::new(1)).ok(),
        false => None,
    };
    if let Some(RingFd::Owned(fd)) = other.as_ref().map(|rings| rings.base().fd()) {
        // SAFETY: both rings are made here, and only to see whether the kernel makes them.
        request.attach = Some(unsafe { Attached::to(fd.as_fd()) });
    }
    if flag == SetupFlags::SQ_AFF {
        // Not every CPU is in our cpuset; the one we run on is.
        request = polled_on(this_cpu());
    }
    makes(kernel, &Request { flags: flags - SetupFlags::ATTACH_WQ, ..request })
}

/// A small ring whose polling thread is bound to `cpu`.
fn polled_on(cpu: u32) -> Request<'static> {
    let flags = SetupFlags::SQPOLL | SetupFlags::SQ_AFF;
    Request { flags, sq_thread_cpu: cpu, ..Request::new(1) }
}

/// A CPU on which this process may run.
fn this_cpu() -> u32 {
    // SAFETY: takes nothing, because that is its signature.
    u32::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Whether the kernel makes the ring, or refuses it for a reason other than `EINVAL`.
fn makes(kernel: &Kernel, request: &Request<'_>) -> bool {
    match Rings::setup(kernel, request) {
        Ok(rings) => {
            // SAFETY: nothing was ever submitted to it. If a thread polls it, the kernel has its
            // pages pinned (RG1).
            unsafe { rings.found_idle() };
            true
        }
        // Any other error means that the kernel understood the flag.
        Err(SetupFailure::Setup(errno)) => !errno.is(libc::EINVAL),
        Err(_) => true,
    }
}

/// Explains why the kernel refused to say what it can do.
pub(crate) fn explain_silence(errno: Errno) -> SetupError {
    match errno.raw() {
        libc::EPERM if seccomp_filter() == Filter::Present => SetupError::DeniedBySeccomp,
        libc::ENOSYS if seccomp_filter() == Filter::Present => SetupError::DeniedBySeccomp,
        _ => SetupError::Unasked(errno),
    }
}

fn explain_denial(request: &Request<'_>) -> SetupError {
    let value = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    // 0 denies no one, 1 the unprivileged, 2 everyone.
    let spared = if is_privileged() { 1 } else { 0 };
    match value.ok().and_then(|text| text.trim().parse().ok()) {
        Some(value) if value > spared => return SetupError::DisabledBySysctl { value },
        Some(_) | None => {}
    }
    if seccomp_filter() == Filter::Present {
        return SetupError::DeniedBySeccomp;
    }
    let polled = request.flags.contains(SetupFlags::SQPOLL);
    SetupError::Denied { polled: if polled { Polled::Yes } else { Polled::No } }
}

fn out_of_memory(needed: u64) -> SetupError {
    match memory_lock_limit() {
        None => SetupError::OutOfMemory { needed },
        Some(limit) => SetupError::LockedMemory { needed, limit },
    }
}

/// The error for `needed` bytes that could not be mapped, if a limit on address space explains it.
fn unmapped(needed: u64, errno: Errno) -> Option<SetupError> {
    let limit = limit_of(libc::RLIMIT_AS);
    let limited = errno.is(libc::ENOMEM) && limit != u64::MAX;
    limited.then_some(SetupError::AddressSpace { needed, limit })
}

/// About how many bytes the rings of `request` need.
fn bytes_needed(request: &Request<'_>) -> u64 {
    let sq = u64::from(request.entries.min(MAX_SQ_ENTRIES).next_power_of_two());
    let rounded = |entries: u32| u64::from(entries.min(MAX_CQ_ENTRIES).next_power_of_two());
    let cq = request.cq_entries.map_or(2 * sq, rounded);
    // The kernel counts pages: those of the entries, and those of the rings with their header.
    let pages = |bytes: u64| bytes.next_multiple_of(page_size() as u64);
    let sqe = if request.flags.contains(SetupFlags::SQE128) { 128 } else { 64 };
    let cqe = if request.flags.contains(SetupFlags::CQE32) { 32 } else { 16 };
    let array = if request.flags.contains(SetupFlags::NO_SQARRAY) { 0 } else { 4 };
    pages(sq * sqe) + pages(HEADER + sq * array + cq * cqe)
}

/// Size of the ring header before the first completion plus the padding after the last, at most.
const HEADER: u64 = 384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_ring_of_any_size_is_explained() {
        let request = Request {
            cq_entries: Some(u32::MAX),
            flags: SetupFlags::CLAMP,
            ..Request::new(u32::MAX)
        };
        let refused = explain(SetupFailure::Setup(Errno::new(libc::ENFILE)), &request);
        assert_eq!(refused, SetupError::Other(Errno::new(libc::ENFILE)));
        // The limits of CLAMP: 32768 entries of 64 bytes, each with an index, and 65536 of 16.
        let page = page_size() as u64;
        assert_eq!(bytes_needed(&request), 32768 * (64 + 4) + 65536 * 16 + page);
        let bare = Request { flags: SetupFlags::NO_SQARRAY, ..Request::new(1) };
        assert_eq!(bytes_needed(&bare), 2 * page, "one of entries, one of completions");
    }
}

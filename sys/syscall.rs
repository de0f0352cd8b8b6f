//! The three system calls, through `libc::syscall` (and one also directly: see [`enter_plain`]).
//!
//! | number | call | what it does |
//! |---|---|---|
//! | 425 | [`setup`] | makes a ring and says where in its memory the indices and entries lie |
//! | 426 | [`enter`] | consumes submissions, waits for completions |
//! | 427 | [`register`] | everything else |
//!
//! Each returns the kernel's value or its error number. Nothing is retried here. A busy ring makes
//! the second call by the machine's own instruction: see [`enter_plain`].
//!
//! Leaves to others: how to handle an error, and the memory of the rings.
//!
//! # Safety
//!
//! Each function passes exactly the arguments that its manual page names.
#![allow(unsafe_code, reason = "makes system calls")]

mod plain;

use core::marker::PhantomData;
use core::ptr;
use core::time::Duration;
use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::abi::{GeteventsArg, Params, RegWait, Timespec};
use crate::errno::Errno;
use crate::flags::{EnterFlags, SetupFlags};
use crate::opcode::RegisterOp;
use crate::process::{Numbers, Process};
pub use plain::enter_plain;

/// How a system call names a ring.
#[derive(Debug, Clone, Copy)]
pub struct RingRef<'a> {
    number: RawFd,
    /// `REGISTERED_RING`, or nothing for a descriptor.
    named: EnterFlags,
    ring: PhantomData<BorrowedFd<'a>>,
}

impl<'a> RingRef<'a> {
    /// No ring: some register operations act on the calling task instead.
    pub const NONE: RingRef<'static> =
        RingRef { number: -1, named: EnterFlags::empty(), ring: PhantomData };

    /// The ring behind a descriptor.
    #[inline]
    pub fn fd(fd: BorrowedFd<'a>) -> Self {
        Self { number: fd.as_raw_fd(), named: EnterFlags::empty(), ring: PhantomData }
    }

    /// The ring that this thread registered at `index` (`IORING_REGISTER_RING_FDS`).
    ///
    /// The kernel refuses the index if nothing is registered there. On another thread it names
    /// nothing, or another ring.
    pub const fn registered(index: u32) -> Self {
        let named = EnterFlags::REGISTERED_RING;
        Self { number: index.cast_signed(), named, ring: PhantomData }
    }

    /// The number that names the ring: a descriptor or an index.
    pub const fn number(&self) -> RawFd {
        self.number
    }

    /// Whether the number is an index among this thread's registered rings.
    pub fn is_registered(&self) -> bool {
        !self.named.is_empty()
    }
}

/// The handle that keeps a ring open.
#[derive(Debug)]
pub enum RingFd {
    /// A descriptor.
    Owned(OwnedFd),
    /// Only an index among the registered rings of the thread that made the ring, without a
    /// descriptor (`IORING_SETUP_REGISTERED_FD_ONLY`).
    Registered(u32),
}

impl RingFd {
    /// The name of the ring for system calls.
    #[inline]
    pub fn by_ref(&self) -> RingRef<'_> {
        match self {
            Self::Owned(fd) => RingRef::fd(std::os::fd::AsFd::as_fd(fd)),
            Self::Registered(index) => RingRef::registered(*index),
        }
    }
}

/// The optional argument of [`enter`]: timeouts and a signal mask for the wait.
#[derive(Debug, Clone, Copy, Default)]
pub enum EnterArg<'a> {
    /// No argument: the wait has no time limit.
    #[default]
    None,
    /// A signal mask, which applies during the wait as in `ppoll(2)`.
    SigMask(&'a libc::sigset_t),
    /// A timeout, a minimum wait, a signal mask, or all of them (`IORING_ENTER_EXT_ARG`, since
    /// Linux 5.11).
    Ext(ExtArg<'a>),
    /// Like `Ext`, but read from the `struct io_uring_reg_wait` at this byte offset of the
    /// registered wait region (`IORING_ENTER_EXT_ARG_REG`, since Linux 6.13).
    Registered(usize),
}

/// The fields of [`EnterArg::Ext`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtArg<'a> {
    /// How long to wait at most or, with `IORING_ENTER_ABS_TIMER`, until which time.
    pub timeout: Option<Timespec>,
    /// How long to wait for all `min_complete` completions; after that, one completion is enough.
    /// Rounded up to whole microseconds. Since Linux 6.12 (`IORING_FEAT_MIN_TIMEOUT`).
    pub min_wait: Option<Duration>,
    /// A signal mask, which applies during the wait.
    pub sigmask: Option<&'a libc::sigset_t>,
}

/// How many bytes of a signal mask the kernel reads: 64 signals. libc's `sigset_t` may be larger.
pub const SIGMASK_SIZE: usize = 8;

const _: () = {
    assert!(SIGMASK_SIZE == 8);
    assert!(size_of::<libc::sigset_t>() >= SIGMASK_SIZE);
};

/// `io_uring_setup(2)`.
///
/// # Errors
///
/// The kernel's. `params` is unchanged in that case.
///
/// # Safety
///
/// With `IORING_SETUP_NO_MMAP` the two `user_addr` of `params` must point to zeroed memory that is
/// large enough for the rings, and that belongs to the kernel until the ring is gone (RG1). With
/// `IORING_SETUP_ATTACH_WQ`, the caller must be allowed to use `wq_fd`.
pub unsafe fn setup(entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
    let pointer = ptr::from_mut(params);
    // SAFETY: a live, exclusive `struct io_uring_params`, because it was a `&mut`; the memory that
    // it names is as promised to `setup`.
    let number = checked(unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, pointer) })?;
    if params.flags.contains(SetupFlags::REGISTERED_FD_ONLY) {
        return Ok(RingFd::Registered(number));
    }
    // SAFETY: a new descriptor without another owner, since that is what success means.
    Ok(RingFd::Owned(unsafe { OwnedFd::from_raw_fd(number.cast_signed()) }))
}

/// `io_uring_enter(2)`. It adds the flags that say what `arg` is and how `ring` is named.
///
/// # Errors
///
/// The kernel's. In that case no entry was consumed; after a partial submission the call succeeds
/// with the number of consumed entries.
///
/// # Safety
///
/// Every request visible in the ring must point to memory that is valid until it completes (OP1).
#[inline]
pub unsafe fn enter(
    ring: RingRef<'_>,
    to_submit: u32,
    min_complete: u32,
    flags: EnterFlags,
    arg: EnterArg<'_>,
) -> Result<u32, Errno> {
    let call = |form: EnterFlags, arg: *const libc::c_void, size: usize| {
        let flags = (flags | form | ring.named).bits();
        // SAFETY: `arg` points to a live argument of the form that the flags name, or is an offset;
        // the requests are as promised to `enter`.
        checked(unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring.number,
                to_submit,
                min_complete,
                flags,
                arg,
                size,
            )
        })
    };
    match arg {
        EnterArg::None => call(EnterFlags::empty(), ptr::null(), 0),
        EnterArg::SigMask(mask) => {
            call(EnterFlags::empty(), ptr::from_ref(mask).cast(), SIGMASK_SIZE)
        }
        EnterArg::Ext(ext) => {
            let timeout = ext.timeout;
            let address = |pointer: *const libc::c_void| pointer.expose_provenance() as u64;
            let arg = GeteventsArg {
                sigmask: ext.sigmask.map_or(0, |mask| address(ptr::from_ref(mask).cast())),
                sigmask_sz: if ext.sigmask.is_some() { 8 } else { 0 },
                min_wait_usec: ext.min_wait.map_or(0, whole_micros),
                ts: timeout.as_ref().map_or(0, |timeout| address(ptr::from_ref(timeout).cast())),
            };
            let size = size_of::<GeteventsArg>();
            call(EnterFlags::EXT_ARG, ptr::from_ref(&arg).cast(), size)
        }
        EnterArg::Registered(offset) => {
            let form = EnterFlags::EXT_ARG | EnterFlags::EXT_ARG_REG;
            call(form, ptr::without_provenance(offset), size_of::<RegWait>())
        }
    }
}

/// [`enter`] with an argument that the caller has laid out: its address, and its size.
///
/// # Errors
///
/// The kernel's.
///
/// # Safety
///
/// As for [`enter`], and `arg` must be what `flags` say.
pub unsafe fn enter_with(
    ring: RingRef<'_>,
    to_submit: u32,
    min_complete: u32,
    flags: EnterFlags,
    arg: (*const libc::c_void, usize),
) -> Result<u32, Errno> {
    let flags = (flags | ring.named).bits();
    let call = libc::SYS_io_uring_enter;
    // SAFETY: as promised to `enter_with`.
    let answer =
        unsafe { libc::syscall(call, ring.number, to_submit, min_complete, flags, arg.0, arg.1) };
    checked(answer)
}

/// `io_uring_register(2)`.
///
/// # Errors
///
/// The kernel's.
///
/// # Safety
///
/// `arg` and `count` must be what `op` takes according to `io_uring_register(2)`. Memory that the
/// kernel keeps using after the call must stay valid until it is unregistered and idle (RG1).
pub unsafe fn register(
    ring: RingRef<'_>,
    op: RegisterOp,
    arg: *mut libc::c_void,
    count: u32,
) -> Result<u32, Errno> {
    let named = if ring.is_registered() { RegisterOp::USE_REGISTERED_RING } else { 0 };
    // SAFETY: `arg` and `count` are what `op` takes, as promised to `register`.
    checked(unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.number, op.0 | named, arg, count)
    })
}

/// Identifies a thread of one process, forever: no later thread and no thread of a forked child
/// equals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    process: Process,
    number: u64,
}

impl Thread {
    /// Whether the thread belongs to the calling process, and not to a process that forked it.
    pub fn is_of_this_process(self) -> bool {
        self.process.is_this()
    }
}

/// The thread that calls.
pub fn this_thread() -> Thread {
    static NUMBERS: Numbers = Numbers::new();
    thread_local! {
        // It has no destructor, so it can be read while the thread ends.
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    if NUMBER.get() == 0 {
        NUMBER.set(NUMBERS.next());
    }
    Thread { process: Process::this(), number: NUMBER.get() }
}

/// `duration` in microseconds, rounded up so that a short wait does not become 0.
fn whole_micros(duration: Duration) -> u32 {
    let micros = duration.as_nanos().div_ceil(1000);
    u32::try_from(micros).unwrap_or(u32::MAX)
}

#[inline]
fn checked(result: libc::c_long) -> Result<u32, Errno> {
    if result < 0 {
        return Err(Errno::last());
    }
    // The check through `i32` ensures that a descriptor fits an int.
    Ok(i32::try_from(result).expect("the three calls return an int").cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_a_microsecond_and_not_none() {
        let micros = [0, 1, 1_000, 1_001].map(|nanos| whole_micros(Duration::from_nanos(nanos)));
        assert_eq!(micros, [0, 1, 1, 2]);
        assert_eq!(whole_micros(Duration::MAX), u32::MAX);
    }
}

//! `io_uring_enter(2)` without an argument, by the machine's own instruction.
//!
//! | machine | instruction | number | arguments | answer | changes |
//! |---|---|---|---|---|---|
//! | x86_64 | `syscall` | `rax` | `rdi` `rsi` `rdx` `r10` `r8` | `rax` | `rcx` `r11` |
//! | aarch64 | `svc 0` | `x8` | `x0` to `x5` | `x0` | the vector registers beyond 128 bits, predicates |
//! | others | through `libc::syscall` | | | | |
//!
//! A busy ring makes this call and hardly any other. `libc::syscall` moves seven arguments by one
//! register each and turns the answer into `errno`, which costs more than the instruction itself:
//! 18 instructions of 123.
//!
//! Leaves to others: every other call, and what the answer means (`syscall`).
//!
//! # Safety
//!
//! Passes exactly the arguments that the manual page names.
#![allow(unsafe_code, reason = "makes a system call")]

use super::RingRef;
use crate::flags::EnterFlags;

/// [`enter`](super::enter) without an argument. Returns the kernel's answer as it is: a count, or
/// the negative of an error number.
///
/// # Safety
///
/// As for [`enter`](super::enter).
#[inline]
pub unsafe fn enter_plain(
    ring: RingRef<'_>,
    to_submit: u32,
    min_complete: u32,
    flags: EnterFlags,
) -> i32 {
    let flags = (flags | ring.named).bits();
    // SAFETY: no argument; the requests are as promised to `enter_plain`.
    unsafe { call(ring.number, to_submit, min_complete, flags) }
}

/// The call's number, in a register of 32 bits, as is the answer.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const NUMBER: i32 = 426;
#[cfg(all(target_arch = "x86_64", not(miri)))]
const _: () = assert!(libc::SYS_io_uring_enter == 426);

/// # Safety
///
/// As for [`enter_plain`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn call(ring: i32, to_submit: u32, min_complete: u32, flags: u32) -> i32 {
    let answer: i32;
    // SAFETY: as promised to `call`. The kernel preserves all other registers, and the stack. It
    // does not look at `r9`, the size of a signal mask, since there is none.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("eax") NUMBER => answer,
            in("edi") ring,
            in("esi") to_submit,
            in("edx") min_complete,
            in("r10d") flags,
            in("r8") 0_usize,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// # Safety
///
/// As for [`enter_plain`].
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline]
unsafe fn call(ring: i32, to_submit: u32, min_complete: u32, flags: u32) -> i32 {
    let answer: i32;
    // SAFETY: as promised to `call`. The kernel preserves the stack, and of the registers all that
    // matter to who has called a C function: it zeroes parts of SVE's.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") libc::SYS_io_uring_enter,
            inlateout("w0") ring => answer,
            in("w1") to_submit,
            in("w2") min_complete,
            in("w3") flags,
            in("x4") 0_usize,
            in("x5") 0_usize,
            clobber_abi("C"),
            options(nostack),
        );
    }
    answer
}

/// # Safety
///
/// As for [`enter_plain`].
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[inline]
unsafe fn call(ring: i32, to_submit: u32, min_complete: u32, flags: u32) -> i32 {
    let no_arg = core::ptr::null::<libc::c_void>();
    let call = libc::SYS_io_uring_enter;
    // SAFETY: as promised to `call`.
    let answer = unsafe { libc::syscall(call, ring, to_submit, min_complete, flags, no_arg, 0) };
    if answer < 0 {
        return -crate::errno::Errno::last().raw();
    }
    i32::try_from(answer).unwrap_or(i32::MAX)
}

//! A ring without a check: what the kernel's interface costs a program, and nothing else.
//!
//! ```text
//!   write BATCH entries ─ store tail ─ enter ─ load tail ─ read BATCH completions ─ store head
//! ```
//!
//! It fits this loop only: every entry completes before the enter returns, so there is always
//! room. It asks for no result and for no flag; only the sum at the end shows whether all went
//! well. An entry is written whole, since in a program another request lay there.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

use annulus::sys::abi::{Cqe, Sqe};
use rustix::fd::OwnedFd;
use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringEnterFlags, IoringSetupFlags, io_uring_enter,
    io_uring_params, io_uring_setup,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::ways::{Mode, Rounds, nop};

/// Memory that is shared with the kernel, unmapped at the end.
struct Map {
    start: *mut c_void,
    bytes: usize,
}

impl Map {
    fn new(fd: &OwnedFd, offset: u64, bytes: usize) -> Self {
        let (read_write, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        let flags = flags | MapFlags::POPULATE;
        // SAFETY: nothing else lies there, since the kernel chooses the place.
        let start = unsafe { mmap(null_mut(), bytes, read_write, flags, fd, offset) };
        Self { start: start.expect("memory"), bytes }
    }

    fn at<T>(&self, offset: u32) -> *mut T {
        self.start.wrapping_byte_add(offset as usize).cast()
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: an index of a ring, as the kernel said, which both sides access as an atomic.
        unsafe { &*self.at(offset) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and every reference borrows from this value.
        let _ = unsafe { munmap(self.start, self.bytes) };
    }
}

fn set_up(loops: Rounds) -> (OwnedFd, io_uring_params) {
    let deferred = IoringSetupFlags::SINGLE_ISSUER
        | IoringSetupFlags::DEFER_TASKRUN
        | IoringSetupFlags::TASKRUN_FLAG
        | IoringSetupFlags::SUBMIT_ALL;
    let candidates = match loops.mode {
        Mode::Deferred => vec![deferred | IoringSetupFlags::NO_SQARRAY, deferred],
        Mode::Plain => vec![IoringSetupFlags::empty()],
        Mode::Sqpoll => vec![IoringSetupFlags::SQPOLL],
    };
    let made = candidates.into_iter().find_map(|flags| {
        let mut params = io_uring_params::default();
        (params.flags, params.sq_thread_idle) = (flags, 1000);
        // SAFETY: no flag makes the kernel use memory of ours.
        let fd = unsafe { io_uring_setup(loops.entries(), &mut params) };
        Some((fd.ok()?, params))
    });
    made.expect("a ring")
}

/// The loop of `nop`.
pub fn run(loops: Rounds) -> u64 {
    let Rounds { mode, batch, rounds } = loops;
    let (fd, params) = set_up(loops);
    let (sq, cq) = (params.sq_off, params.cq_off);
    let slots = params.cq_entries as usize * size_of::<Cqe>();
    let array = params.sq_entries as usize * size_of::<u32>();
    let bytes = (cq.cqes as usize + slots).max(sq.array as usize + array);
    // One mapping has both rings (`IORING_FEAT_SINGLE_MMAP`, Linux 5.4).
    let rings = Map::new(&fd, IORING_OFF_SQ_RING, bytes);
    let entries = params.sq_entries as usize * size_of::<Sqe>();
    let entries = Map::new(&fd, IORING_OFF_SQES, entries);
    if !params.flags.contains(IoringSetupFlags::NO_SQARRAY) {
        for slot in 0..params.sq_entries {
            // SAFETY: so many words are in the array, and the kernel reads none before an enter.
            unsafe { rings.at::<u32>(sq.array).add(slot as usize).write(slot) };
        }
    }
    let flags = match mode {
        Mode::Deferred | Mode::Plain => IoringEnterFlags::GETEVENTS,
        Mode::Sqpoll => IoringEnterFlags::GETEVENTS | IoringEnterFlags::SQ_WAKEUP,
    };
    let (free, done): (*mut Sqe, *mut Cqe) = (entries.at(0), rings.at(cq.cqes));
    let (tail, head, posted) = (rings.word(sq.tail), rings.word(cq.head), rings.word(cq.tail));
    let (mask, done_mask) = (params.sq_entries - 1, params.cq_entries - 1);
    let (mut written, mut taken, mut sum) = (0_u32, 0_u32, 0);
    for _ in 0..rounds {
        for word in 0..batch {
            // SAFETY: the kernel is done with the slot, since its last entry has completed.
            unsafe { free.add((written & mask) as usize).write(nop(u64::from(word))) };
            written = written.wrapping_add(1);
        }
        tail.store(written, Release);
        // SAFETY: a NOP points to nothing.
        let _ = unsafe { io_uring_enter(&fd, batch, batch, flags) };
        let end = posted.load(Acquire);
        while taken != end {
            // SAFETY: the kernel has posted it, and `head` has not passed it, so it stays.
            sum += unsafe { (*done.add((taken & done_mask) as usize)).user_data };
            taken = taken.wrapping_add(1);
        }
        head.store(taken, Release);
    }
    sum
}

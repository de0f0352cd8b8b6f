//! Solutions of chapter 4: what a flush does, memory of one's own, and sizes.
#![allow(unsafe_code, reason = "pushes NOPs, and calls `io_uring_setup`")]

use std::ptr::NonNull;

use annulus::sys::abi::{Cqe, Params, Sqe};
use annulus::sys::flags::{EnterFlags, SetupFlags};
use annulus::sys::syscall;
use annulus::{Capabilities, Setup, prep};
use memmap2::MmapMut;

use crate::raw;

// ANCHOR: unseen
#[test]
fn a_push_moves_nothing_that_is_shared_and_a_flush_the_tail_alone() {
    let Some(mut ring) = raw(Setup::plain(4)) else { return };
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(prep::nop()) }.expect("room");
    let it = ring.positions();
    assert_eq!((it.sq_tail.to_raw(), it.sq_head.to_raw(), it.cq_tail.to_raw()), (0, 0, 0));
    assert_eq!(ring.flush(), 1);
    let it = ring.positions();
    assert_eq!((it.sq_tail.to_raw(), it.sq_head.to_raw(), it.cq_tail.to_raw()), (1, 0, 0));
    ring.submit_and_wait(1).expect("one completes");
    let it = ring.positions();
    assert_eq!((it.sq_tail.to_raw(), it.sq_head.to_raw(), it.cq_tail.to_raw()), (1, 1, 1));
}
// ANCHOR_END: unseen

// ANCHOR: own
#[test]
fn an_entry_and_its_completion_lie_in_the_memory_that_was_given() {
    let here = Capabilities::detect().ok();
    if here.is_none_or(|here| !here.setup_flags().contains(SetupFlags::NO_MMAP)) {
        return eprintln!("skipped: needs Linux 6.5: NO_MMAP");
    }
    let setup = Setup::plain(4);
    let mut memory = MmapMut::map_anon(setup.memory_size()).expect("memory");
    let place = NonNull::from(&mut memory[..]);
    // SAFETY: a private mapping, which nothing else uses, and which outlives the ring.
    let Some(mut ring) = raw(unsafe { setup.memory_at(place) }) else { return };
    let word = 0x0123_4567_89ab_cdef_u64;
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(Sqe { user_data: word, ..prep::nop() }) }.expect("room");
    ring.submit_and_wait(1).expect("one completes");
    assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(word));
    drop(ring);
    let found = memory.windows(8).filter(|bytes| *bytes == word.to_ne_bytes()).count();
    assert_eq!(found, 2, "in the slot of the entry, and in that of the completion");
}
// ANCHOR_END: own

// ANCHOR: sizes
#[test]
fn the_kernel_tells_the_sizes_at_setup() {
    assert_eq!((size_of::<Sqe>(), size_of::<Cqe>()), (64, 16));
    let mut params = Params { cq_entries: 100, ..Params::default() };
    params.flags = SetupFlags::CQSIZE;
    // SAFETY: no flag is set that makes `params` name memory of ours.
    match unsafe { syscall::setup(5, &mut params) } {
        Ok(_ring) => assert_eq!((params.sq_entries, params.cq_entries), (8, 128)),
        Err(errno) => eprintln!("skipped: no ring: {errno}"),
    }
    assert_eq!(EnterFlags::GETEVENTS.bits(), 1, "and nothing of this is said by an enter");
}
// ANCHOR_END: sizes

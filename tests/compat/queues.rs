//! The two queues, and what lends them.

use std::mem::{self, MaybeUninit};

use crate::io_uring::{IoUring, cqueue, squeue};
use crate::{nop, ring, taken};

/// Pushes a NOP for each number.
fn push(ring: &mut IoUring, numbers: impl IntoIterator<Item = u64>) {
    let mut sq = ring.submission();
    for number in numbers {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { sq.push(&nop(number)) }.expect("room");
    }
}

/// Around the wrap of both queues, in batches that do not divide them.
#[test]
fn sq3_cq4_batches_of_any_size_come_back_in_their_order() {
    let mut ring = ring();
    for batch in 1..=8 {
        for round in 0..13 {
            push(&mut ring, (0..batch).map(|at| round << 8 | at));
            let consumed = ring.submit_and_wait(usize::try_from(batch).unwrap()).unwrap();
            assert_eq!(u64::try_from(consumed), Ok(batch));
            let expected: Vec<_> = (0..batch).map(|at| round << 8 | at).collect();
            assert_eq!(taken(&mut ring), expected);
        }
    }
}

#[test]
fn sq2_a_full_queue_refuses_one_entry_and_a_slice_as_a_whole() {
    let mut ring = ring();
    let mut sq = ring.submission();
    let seven: Vec<_> = (0..7).map(nop).collect();
    // SAFETY: NOPs point to nothing (OP1).
    unsafe { sq.push_multiple(&seven) }.unwrap();
    assert_eq!((sq.len(), sq.capacity(), sq.is_full()), (7, 8, false));
    // SAFETY: likewise (OP1).
    let refused = unsafe { sq.push_multiple(&[nop(7), nop(8)]) };
    assert!(refused.is_err() && sq.len() == 7);
    // SAFETY: likewise (OP1).
    unsafe { sq.push(&nop(7)) }.unwrap();
    // SAFETY: likewise (OP1).
    let refused = unsafe { sq.push(&nop(8)) };
    assert!(refused.unwrap_err().to_string().contains("full"));
    drop(sq);
    assert_eq!(ring.submit_and_wait(8).unwrap(), 8);
    assert_eq!(taken(&mut ring), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn split_parts_see_each_other_after_a_sync() {
    let mut ring = ring();
    let (submitter, mut sq, mut cq) = ring.split();
    assert!(sq.is_empty());
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { sq.push(&nop(1)) }.unwrap();
    assert_eq!(submitter.submit().unwrap(), 0);
    sq.sync();
    assert_eq!(submitter.submit_and_wait(1).unwrap(), 1);
    assert_eq!((sq.len(), cq.len()), (1, 0));
    sq.sync();
    cq.sync();
    assert_eq!((sq.len(), cq.len(), cq.capacity()), (0, 1, 16));
    assert_eq!(cq.next().map(|cqe| cqe.user_data()), Some(1));
    assert!(cq.is_empty() && !cq.is_full());
}

/// The stock crate delivers them again. A runtime that frees by completions would free twice.
#[test]
fn cq4_a_forgotten_queue_repeats_no_completion() {
    let mut ring = ring();
    push(&mut ring, 0..3);
    ring.submit_and_wait(3).unwrap();
    let mut cq = ring.completion();
    assert_eq!(cq.next().map(|cqe| cqe.user_data()), Some(0));
    mem::forget(cq);
    assert_eq!(taken(&mut ring), [0; 0], "the rest is lost");
    push(&mut ring, [9]);
    ring.submit_and_wait(1).unwrap();
    assert_eq!(taken(&mut ring), [9]);
}

/// The stock crate forgets them, and reuses their slots.
#[test]
fn sq3_what_a_forgotten_queue_was_given_is_submitted() {
    let mut ring = ring();
    let mut sq = ring.submission();
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { sq.push(&nop(1)) }.unwrap();
    mem::forget(sq);
    push(&mut ring, [2]);
    assert_eq!(ring.submit_and_wait(2).unwrap(), 2);
    assert_eq!(taken(&mut ring), [1, 2]);
}

#[test]
fn fill_takes_what_fits() {
    let mut ring = ring();
    push(&mut ring, 0..5);
    ring.submit_and_wait(5).unwrap();
    let mut room = [const { MaybeUninit::<cqueue::Entry>::uninit() }; 3];
    let mut cq = ring.completion();
    let filled: Vec<_> = cq.fill(&mut room).iter().map(cqueue::Entry::user_data).collect();
    assert_eq!((filled, cq.len()), (vec![0, 1, 2], 2));
    assert_eq!(cq.size_hint(), (2, Some(2)));
    drop(cq);
    assert_eq!(taken(&mut ring), [3, 4]);
}

#[test]
fn a_status_tells_of_completions_without_a_borrow() {
    let mut ring = ring();
    // SAFETY: nothing uses it after the ring is gone.
    let status = unsafe { ring.completion().status() };
    assert!(status.is_empty());
    push(&mut ring, [1]);
    ring.submit_and_wait(1).unwrap();
    assert!(!status.is_empty());
    assert_eq!(taken(&mut ring), [1]);
    assert!(status.is_empty());
}

#[test]
fn queues_are_lent_by_a_shared_reference_too() {
    let ring = ring();
    // SAFETY: the only submission queue.
    let mut sq = unsafe { ring.submission_shared() };
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { sq.push(&nop(4)) }.unwrap();
    drop(sq);
    ring.submit_and_wait(1).unwrap();
    // SAFETY: the only completion queue.
    let mut cq = unsafe { ring.completion_shared() };
    assert_eq!(cq.next().map(|cqe| cqe.user_data()), Some(4));
}

#[test]
fn wide_entries_and_wide_completions_keep_their_width() {
    let ring = IoUring::<squeue::Entry128, cqueue::Entry32>::builder().build(4);
    let Some(mut ring) = crate::or_skip(ring, "wide entries") else { return };
    for round in 0..5 {
        for at in 0..3 {
            let nop = squeue::Entry128::from(nop(round << 8 | at));
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.submission().push(&nop) }.unwrap();
        }
        assert_eq!(ring.submit_and_wait(3).unwrap(), 3);
        let cqes: Vec<_> = ring.completion().map(|cqe| (cqe.user_data(), *cqe.big_cqe())).collect();
        assert_eq!(cqes, [0, 1, 2].map(|at| (round << 8 | at, [0; 2])));
    }
}

/// The child has none of the ring's memory, and must not touch what is at its address.
#[test]
fn a_forked_child_finds_empty_queues_and_an_error() {
    let mut ring = ring();
    push(&mut ring, 0..2);
    ring.submit_and_wait(2).unwrap();
    let (submitter, mut sq, mut cq) = ring.split();
    assert_eq!(cq.next().map(|cqe| cqe.user_data()), Some(0));
    // SAFETY: the child only calls the ring and exits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = |answer: std::io::Result<usize>| {
            answer.is_err_and(|error| error.raw_os_error() == Some(libc::ECHILD))
        };
        let mut right = refused(submitter.submit()) && refused(submitter.submit_and_wait(1));
        right &= cq.next().is_none() && !sq.cq_overflow() && !cq.eventfd_disabled();
        sq.sync();
        cq.sync();
        right &= cq.next().is_none() && sq.is_empty();
        drop((sq, cq));
        right &= ring.completion().is_empty() && ring.submission().is_empty();
        // SAFETY: ends the process, because nothing else is to run in it.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    let mut status = -1;
    // SAFETY: a live number, because `waitpid(2)` writes a status to it.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(cq.next().map(|cqe| cqe.user_data()), Some(1));
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { sq.push(&nop(7)) }.unwrap();
    drop((sq, cq));
    ring.submit_and_wait(1).unwrap();
    assert_eq!(taken(&mut ring), [7]);
}

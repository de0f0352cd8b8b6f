//! Listings that are printed, and wrong: each with its right twin.
//!
//! | listing | what fails |
//! |---|---|
//! | `pdf` | the entry is read before the tail that says it is there |
//! | `pdf-half` | head is moved before the entry is read |
//! | `man` | the wrong index is acquired |
//! | `sqpoll` | a store and a later load of another word: the wake-up is lost |
//! | `sqpoll-acquire` | an acquire does not help there |

use crate::weak::Act::{Acquire, FullBarrier, Load, ReadBarrier, Release, Store, WriteBarrier};
use crate::weak::Word::{CqHead, CqTail, Cqe, Flags, SqTail};
use crate::weak::{Line, Listing, Registers, Word, line};

/// Values of the entry.
const OLD: u32 = 0;
const NEW: u32 = 7;
const NEXT: u32 = 9;

/// All of them.
pub fn all() -> Vec<Listing> {
    vec![pdf(), pdf_half(), man(), sqpoll(), sqpoll_acquire()]
}

/// A line that runs only if tail, in line `on`, is 1; its address comes from `head`.
const fn of_event(text: &'static str, act: crate::weak::Act, on: usize, head: usize) -> Line {
    let address = if act.is_load() { Some(head) } else { None };
    Line { text, act, only_if: Some((on, 1)), address }
}

fn said(word: Word, value: u32) -> String {
    match (word, value) {
        (Cqe, OLD) => "old".into(),
        (Cqe, NEW) => "new".into(),
        (Cqe, _) => "next".into(),
        (Flags, 1) => "set".into(),
        (_, value) => value.to_string(),
    }
}

/// The kernel posts a completion: the entry first, then tail.
fn posts() -> Vec<Line> {
    vec![
        line("cqe[0] = new", Store(Cqe, NEW)),
        line("store_release(cq.tail, 1)", Release(CqTail, 1)),
    ]
}

fn right_reader() -> Vec<Line> {
    vec![
        line("head = *cq.head", Load(CqHead)),
        line("tail = load_acquire(cq.tail)", Acquire(CqTail)),
        of_event("if head != tail: read cqe[0]", Load(Cqe), 1, 0),
        of_event("   store_release(cq.head, 1)", Release(CqHead, 1), 1, 0),
    ]
}

/// The program has seen that there is a completion, and has read what lay there before.
fn reads_stale(program: &Registers, tail: usize, entry: usize) -> bool {
    program[tail] == Some(1) && program[entry] == Some(OLD)
}

fn pdf() -> Listing {
    Listing {
        name: "pdf",
        title: "A barrier before the load of tail, and none after it",
        source: "Efficient IO with io_uring (2019), section 4.2; also copied with barriers that \
                 only the compiler sees",
        program: vec![
            line("head = *cq.head", Load(CqHead)),
            line("read_barrier()", ReadBarrier),
            line("tail = *cq.tail", Load(CqTail)),
            of_event("if head != tail: read cqe[0]", Load(Cqe), 2, 0),
            of_event("   *cq.head = 1", Store(CqHead, 1), 2, 0),
            line("   write_barrier()", WriteBarrier),
        ],
        right: right_reader(),
        kernel: posts(),
        memory: [0, 0, OLD, 0, 0],
        fails: |program, _| reads_stale(program, 2, 3) || reads_stale(program, 1, 2),
        failure: "The program has read what lay in the slot before: a stale completion.",
        said,
    }
}

fn pdf_half() -> Listing {
    Listing {
        name: "pdf-half",
        title: "A barrier after the store of head, and none before it",
        source: "the same listing, with its first mistake mended",
        program: vec![
            line("head = *cq.head", Load(CqHead)),
            line("tail = load_acquire(cq.tail)", Acquire(CqTail)),
            of_event("if head != tail: read cqe[0]", Load(Cqe), 1, 0),
            of_event("   *cq.head = 1", Store(CqHead, 1), 1, 0),
            line("   write_barrier()", WriteBarrier),
        ],
        right: right_reader(),
        kernel: vec![
            line("head = load_acquire(cq.head)", Acquire(CqHead)),
            Line { only_if: Some((0, 1)), ..line("if head == 1: cqe[0] = next", Store(Cqe, NEXT)) },
        ],
        // A ring of one slot, which is full.
        memory: [0, 1, NEW, 0, 0],
        fails: |program, _| program[2] == Some(NEXT),
        failure: "The kernel has written over the completion that the program is reading.",
        said,
    }
}

fn man() -> Listing {
    Listing {
        name: "man",
        title: "An acquire of the wrong index",
        source: "the program in io_uring(7)",
        program: vec![
            line("head = load_acquire(cq.head)", Acquire(CqHead)),
            line("tail = *cq.tail", Load(CqTail)),
            of_event("if head != tail: read cqe[0]", Load(Cqe), 1, 0),
            of_event("   store_release(cq.head, 1)", Release(CqHead, 1), 1, 0),
        ],
        right: right_reader(),
        kernel: posts(),
        memory: [0, 0, OLD, 0, 0],
        fails: |program, _| reads_stale(program, 1, 2),
        failure: "The program has read what lay in the slot before: a stale completion.",
        said,
    }
}

/// The polling thread goes to sleep: the flag, a full barrier, one more look.
fn falls_asleep() -> Vec<Line> {
    vec![
        line("flags = NEED_WAKEUP", Store(Flags, 1)),
        line("full_barrier()", FullBarrier),
        line("if sq.tail == 0: sleep", Load(SqTail)),
    ]
}

fn right_waker() -> Vec<Line> {
    vec![
        line("store_release(sq.tail, 1)", Release(SqTail, 1)),
        line("fence(SeqCst)", FullBarrier),
        line("if *flags: wake", Load(Flags)),
    ]
}

const LOST: &str = "The thread sleeps, the entry is published, and nobody wakes: it waits forever.";

fn sqpoll() -> Listing {
    Listing {
        name: "sqpoll",
        title: "No fence between the store of tail and the look at the flag",
        source: "io_uring_setup(2), io_uring_sqpoll(7)",
        program: vec![
            line("store_release(sq.tail, 1)", Release(SqTail, 1)),
            line("if *flags: wake", Load(Flags)),
        ],
        right: right_waker(),
        kernel: falls_asleep(),
        memory: [0; 5],
        fails: |program, kernel| program.last() == Some(&Some(0)) && kernel[2] == Some(0),
        failure: LOST,
        said,
    }
}

fn sqpoll_acquire() -> Listing {
    Listing {
        name: "sqpoll-acquire",
        title: "An acquire where a fence is needed",
        source: "the same snippet, as its comment asks for",
        program: vec![
            line("store_release(sq.tail, 1)", Release(SqTail, 1)),
            line("if load_acquire(flags): wake", Acquire(Flags)),
        ],
        ..sqpoll()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weak::{overtaken, search};

    #[test]
    fn every_wrong_listing_fails_and_its_twin_never_does() {
        for listing in all() {
            let wrong = search(&listing, &listing.program);
            let steps = wrong.failing.expect(listing.name);
            // It takes a reordering: no order in which every line waits for the one before fails.
            let program = &listing.program;
            let ahead = (0..steps.len())
                .any(|at| !steps[at].is_kernel && !overtaken(program, &steps, at).is_empty());
            assert!(ahead, "{}", listing.name);
            let right = search(&listing, &listing.right);
            assert!(wrong.failures > 0 && wrong.failures < wrong.orders, "{}", listing.name);
            assert!(right.failing.is_none(), "{}: {:?}", listing.name, right.failing);
            assert!(right.orders > 1 && right.orders < wrong.orders, "{}", listing.name);
        }
    }
}

//! Every history to a given depth, on rings of 1, 2 and 4 slots that start just before the wrap,
//! checked against queues.
//!
//! ```text
//!   written ──flush──► visible ──consume──► taken ──post──► posted ──pop, drain──►
//! ```
//!
//! A history is a number in base `STEPS.len()`, whose digits are the steps. After each step both
//! halves must report what the queues hold. Entries here differ only in their `user_data`;
//! `histories.rs` compares all bytes.
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::VecDeque;

use annulus_sys::abi::{Cqe, Cqe32, Sqe};
use annulus_sys::cq::{CompletionQueue, CqeShape};
use annulus_sys::sq::{Full, SubmissionQueue, Turn};
use support::fake_buffers::BufferArena;
use support::fake_kernel::{Arena, FakeKernel, Shape};

#[derive(Debug, Clone, Copy)]
enum Step {
    Push,
    Flush,
    Consume,
    Post,
    Pop,
    Drain,
    /// Reserves two slots and commits one of them.
    Commit,
    /// Reserves two slots, fills both, and commits none.
    Abandon,
}

/// The expected contents, as queues of `user_data`.
#[derive(Debug, Default)]
struct Queues {
    written: VecDeque<u64>,
    visible: VecDeque<u64>,
    taken: VecDeque<u64>,
    posted: VecDeque<u64>,
    pushed: u32,
    popped: u32,
}

impl Queues {
    fn room(&self, entries: u32) -> usize {
        entries as usize - self.written.len() - self.visible.len()
    }

    /// The next entry to push.
    fn next(&self) -> Sqe {
        Sqe { user_data: u64::from(self.pushed), ..Sqe::ZERO }
    }

    fn wrote(&mut self) {
        self.written.push_back(u64::from(self.pushed));
        self.pushed += 1;
    }
}

/// Runs every history of `depth` steps, on rings of 1, 2 and 4.
fn every_history(name: &str, steps: &[Step], depth: u32) {
    let base = u32::try_from(steps.len()).expect("a few steps");
    let mut count = 0_u64;
    for entries in [1, 2, 4] {
        let mut arena = Arena::new(Shape::plain(entries));
        for history in 0..base.pow(depth) {
            arena.run(|sq, cq, kernel| {
                let mut queues = Queues::default();
                for step in digits(history, base, depth) {
                    run(steps[step], sq, cq, kernel, &mut queues);
                    agree(entries, sq, cq, kernel, &queues);
                }
            });
            count += 1;
        }
    }
    println!("{name}: {count} histories of {depth} steps");
}

/// The digits of a history, each the index of a step.
fn digits(history: u32, base: u32, depth: u32) -> impl Iterator<Item = usize> {
    (0..depth).scan(history, move |rest, _| {
        let digit = *rest % base;
        *rest /= base;
        Some(digit as usize)
    })
}

fn run(
    step: Step,
    sq: &mut SubmissionQueue,
    cq: &mut CompletionQueue,
    kernel: &mut FakeKernel,
    queues: &mut Queues,
) {
    let entries = sq.entries();
    match step {
        Step::Push => {
            // SAFETY: the entry is a NOP, which points to nothing (OP1).
            let pushed = unsafe { sq.push(queues.next()) };
            if queues.room(entries) == 0 {
                assert_eq!(pushed, Err(Full));
            } else {
                assert_eq!(pushed, Ok(()));
                queues.wrote();
            }
        }
        Step::Commit | Step::Abandon => reserve(step, sq, queues),
        Step::Flush => {
            queues.visible.append(&mut queues.written);
            assert_eq!(sq.flush() as usize, queues.visible.len());
        }
        Step::Consume => {
            let taken = kernel.consume().map(|sqe| sqe.user_data);
            assert_eq!(taken, queues.visible.pop_front());
            queues.taken.extend(taken);
        }
        Step::Post => {
            if let Some(&user_data) = queues.taken.front() {
                let room = queues.posted.len() < entries as usize;
                assert_eq!(kernel.post(Cqe { user_data, ..Cqe::ZERO }), room);
                if room {
                    queues.posted.extend(queues.taken.pop_front());
                }
            }
        }
        Step::Pop => {
            let popped = cq.pop().map(|cqe| cqe.user_data);
            assert_eq!(popped, queues.posted.pop_front());
            queues.popped += u32::from(popped.is_some());
        }
        Step::Drain => {
            let posted = &mut queues.posted;
            let count = cq.drain(|cqe| assert_eq!(Some(cqe.user_data), posted.pop_front())).count;
            assert!(posted.is_empty());
            queues.popped += count;
        }
    }
}

fn reserve(step: Step, sq: &mut SubmissionQueue, queues: &mut Queues) {
    let room = queues.room(sq.entries());
    let Ok(mut reservation) = sq.reserve(2) else {
        assert!(room < 2);
        return;
    };
    assert!(room >= 2);
    // SAFETY: the entry is a NOP, which points to nothing (OP1).
    assert_eq!(unsafe { reservation.push(queues.next()) }, Ok(()));
    assert_eq!(reservation.left(), 1);
    match step {
        Step::Commit => {
            reservation.commit();
            queues.wrote();
        }
        _ => {
            let lost = Sqe { user_data: u64::MAX, ..Sqe::ZERO };
            // SAFETY: the entry is a NOP, which points to nothing (OP1).
            assert_eq!(unsafe { reservation.push(lost) }, Ok(()));
            // SAFETY: likewise, as it is never handed over (OP1).
            assert_eq!(unsafe { reservation.push(lost) }, Err(Full));
        }
    }
}

/// Both halves, and the kernel, count what the queues count.
fn agree(
    entries: u32,
    sq: &SubmissionQueue,
    cq: &mut CompletionQueue,
    kernel: &FakeKernel,
    queues: &Queues,
) {
    assert_eq!(kernel.visible() as usize, queues.visible.len());
    assert_eq!((entries - kernel.cq_room()) as usize, queues.posted.len());
    assert_eq!(sq.room() as usize, queues.room(entries));
    assert_eq!(sq.pushed(), queues.pushed);
    // Who only looks sees what was published, and not what was only written.
    let seen = sq.watch().look().map(|(published, _)| published as usize);
    assert_eq!(seen, Some(queues.visible.len()));
    assert_eq!(cq.watch().look().map(|ready| ready as usize), Some(queues.posted.len()));
    // Looking takes none, however often.
    for _ in 0..2 {
        assert!(cq.iter_ready().map(|cqe| cqe.first.user_data).eq(queues.posted.iter().copied()));
    }
    assert_eq!(cq.ready() as usize, queues.posted.len());
    assert_eq!(cq.popped(), u64::from(queues.popped));
    assert_eq!(cq.ended(), u64::from(queues.popped));
}

#[test]
fn sq2_sq4_cq2_cq4_rings_agree_with_queues() {
    use Step::{Consume, Flush, Pop, Post, Push};
    every_history("pop", &[Push, Flush, Consume, Post, Pop], 9);
}

#[test]
fn cq4_draining_agrees_with_queues() {
    use Step::{Consume, Drain, Flush, Pop, Post, Push};
    every_history("drain", &[Push, Flush, Consume, Post, Drain], 8);
    every_history("pop and drain", &[Push, Flush, Consume, Post, Pop, Drain], 7);
}

#[test]
fn sq2_sq3_reservations_agree_with_queues() {
    use Step::{Abandon, Commit, Consume, Flush, Push};
    every_history("reserve", &[Push, Commit, Abandon, Flush, Consume], 8);
}

/// The parts of a queue, of which another kind of queue is made, begin where it stood. A slot is
/// one value of its size, also around the wrap.
#[test]
fn cq3_the_parts_of_a_queue_have_what_it_had() {
    let wide = Shape { cqe: CqeShape::Double, ..Shape::plain(4) };
    let (_sq, mut cq, mut kernel) = FakeKernel::new(wide);
    let posted = |user_data| Cqe32 { first: Cqe { user_data, ..Cqe::ZERO }, big: [user_data; 2] };
    for number in 0..4 {
        assert!(kernel.post_wide(posted(number)));
    }
    cq.pop();
    let parts = cq.into_parts();
    let (head, tail) = (parts.head.last(), parts.tail.observe());
    assert_eq!(tail.distance_from(head), 3);
    // SAFETY: any bytes are a `Cqe32`, and the memory lives as long as the parts.
    let slots = unsafe { parts.slots.whole::<Cqe32>() };
    for number in 0..3 {
        // SAFETY: the tail covers the slot (CQ3), and the head has not passed it (CQ4).
        let cqe = unsafe { slots.read(head.advance(number)) };
        assert_eq!(cqe, posted(u64::from(number) + 1));
    }
}

#[test]
#[should_panic(expected = "left == right")]
fn a_slot_is_no_value_of_another_size() {
    let (_sq, cq, _kernel) = FakeKernel::new(Shape::plain(4));
    // SAFETY: not reached, since the size is checked first.
    let _ = unsafe { cq.into_parts().slots.whole::<Cqe32>() };
}

/// A ring that rewinds: an enter gets a count, reads from slot 0, and entries that it did not
/// consume move down.
#[test]
fn sq3_a_rewinding_ring_agrees_with_a_queue() {
    const DEPTH: u32 = 8;
    /// Push, push twice in a reservation, enters that consume none, one and all.
    const BASE: u32 = 5;
    let mut count = 0;
    for entries in [1, 2, 4] {
        let mut arena = Arena::new(Shape { turn: Turn::Rewind, ..Shape::plain(entries) });
        for history in 0..BASE.pow(DEPTH) {
            arena.run(|sq, _cq, kernel| {
                let mut queues = Queues::default();
                for digit in digits(history, BASE, DEPTH) {
                    rewinding_step(digit, sq, kernel, &mut queues);
                    assert_eq!(sq.room() as usize, queues.room(entries));
                    assert_eq!(sq.unconsumed() as usize, queues.written.len());
                    assert_eq!(sq.pushed(), queues.pushed);
                }
            });
            count += 1;
        }
    }
    println!("rewind: {count} histories of {DEPTH} steps");
}

fn rewinding_step(
    digit: usize,
    sq: &mut SubmissionQueue,
    kernel: &mut FakeKernel,
    queues: &mut Queues,
) {
    match digit {
        0 => {
            let room = queues.room(sq.entries()) > 0;
            // SAFETY: the entry is a NOP, which points to nothing (OP1).
            assert_eq!(unsafe { sq.push(queues.next()) }.is_ok(), room);
            if room {
                queues.wrote();
            }
        }
        1 => reserve(Step::Commit, sq, queues),
        _ => {
            let given = sq.flush();
            assert_eq!(given as usize, queues.written.len());
            assert_eq!(kernel.visible(), 0, "the tail of a rewinding ring never moves");
            let read: VecDeque<u64> =
                (0..given).map(|slot| kernel.read_slot(slot).user_data).collect();
            assert_eq!(read, queues.written);
            let consumed = match digit {
                2 => 0,
                3 => given.min(1),
                _ => given,
            };
            queues.written.drain(..consumed as usize);
            sq.consumed(consumed);
        }
    }
}

/// Push, flush, select, and give back what was selected; the 16-bit tail wraps on the way.
#[test]
fn br1_br2_buffer_rings_agree_with_queues() {
    const DEPTH: u32 = 9;
    const BASE: u32 = 4;
    let mut count = 0;
    for entries in [1, 2, 4] {
        let mut arena = BufferArena::new(entries);
        for history in 0..BASE.pow(DEPTH) {
            arena.run(u16::MAX - 1, |ring, kernel| {
                let (mut written, mut visible) = (VecDeque::new(), VecDeque::new());
                let (mut selected, mut next) = (0_u32, 0_u16);
                for digit in digits(history, BASE, DEPTH) {
                    match digit {
                        0 => {
                            let offered = written.len() + visible.len() + selected as usize;
                            let room = offered < entries as usize;
                            // SAFETY: the kernel is a fake, which never looks into the buffer.
                            let pushed = unsafe { ring.push(buffer(next).0, buffer(next).1, next) };
                            assert_eq!(pushed.is_ok(), room);
                            if room {
                                written.push_back(next);
                                next += 1;
                            }
                        }
                        1 => {
                            ring.flush();
                            visible.append(&mut written);
                        }
                        2 => {
                            let buf = kernel.select();
                            let bid = visible.pop_front();
                            assert_eq!(buf.map(|buf| buf.bid), bid);
                            assert_eq!(buf.map(|buf| (buf.addr, buf.len)), bid.map(buffer));
                            selected += u32::from(bid.is_some());
                        }
                        _ => {
                            // SAFETY: the kernel selected so many and gave them to nothing else
                            // (BR1).
                            unsafe { ring.taken(selected) };
                            selected = 0;
                        }
                    }
                    let offered = written.len() + visible.len() + selected as usize;
                    assert_eq!(ring.offered() as usize, offered);
                    assert_eq!(usize::from(kernel.visible()), visible.len());
                }
            });
            count += 1;
        }
    }
    println!("buffers: {count} histories of {DEPTH} steps");
}

/// The address and the length of a buffer, all of whose bytes differ from those of its neighbours.
fn buffer(bid: u16) -> (u64, u32) {
    (0x0101_0101_0101_0101 * (u64::from(bid) + 1), 0x0101_0101 * (u32::from(bid) + 1))
}

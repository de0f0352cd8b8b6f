//! The rings against a kernel that is a thread: many entries, few slots, indices past the wrap.
//!
//! An ordinary test, and a sharper one with ThreadSanitizer, which here sees both sides, unlike
//! against Linux:
//!
//! ```sh
//! TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp" \
//! RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
//!     cargo +nightly test --target x86_64-unknown-linux-gnu --test race
//! ```
//!
//! TSan does not model fences, so a missing SQ5 is no race to it; but the test notices when the
//! kernel's thread sleeps although there is an entry, on a machine that lets that happen.
//! `tests/loom/main.rs` tests every interleaving of a few entries.
#![cfg(not(loom))]
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

use annulus_sys::abi::{Buf, Cqe, Cqe32, Sqe, Sqe128};
use annulus_sys::cq::{CompletionQueue, CqeShape};
use annulus_sys::sq::{SqeShape, SubmissionQueue};

use support::fake_kernel::{FakeBufferKernel, FakeKernel, Shape};

/// How many entries go through a ring.
const COUNT: u64 = 50_000;
/// After this long nothing will happen any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `step` until it returns something.
fn until<T>(mut step: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = step() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "the other side has stopped");
        thread::yield_now();
    }
}

/// The `number`th entry: every number in it differs from those of the entry a lap ago.
fn entry(number: u64) -> Sqe {
    Sqe::from_words([0, 1, 2, 3, 4, 5, 6, 7].map(|word| number << 3 | word))
}

fn completion(number: u64) -> Cqe {
    Cqe { user_data: number, res: 7, ..Cqe::ZERO }
}

/// Rings of `entries` whose indices wrap on the way.
fn shape(entries: u32) -> Shape {
    Shape { start: u32::MAX - 1_000, ..Shape::plain(entries) }
}

fn flush_all(sq: &mut SubmissionQueue, mut push: impl FnMut(&mut SubmissionQueue, u64) -> bool) {
    let mut number = 0;
    while number < COUNT {
        // As many as there is room for, then one flush.
        let before = number;
        while number < COUNT && push(sq, number) {
            number += 1;
        }
        if number == before {
            thread::yield_now();
        } else {
            sq.flush();
        }
    }
}

#[test]
fn sq3_and_sq4_hold_for_every_slot() {
    let (mut sq, _cq, mut kernel) = FakeKernel::new(shape(4));
    let peer = thread::spawn(move || {
        for number in 0..COUNT {
            assert_eq!(until(|| kernel.consume()), entry(number));
        }
    });
    flush_all(&mut sq, |sq, number| {
        // SAFETY: nothing follows the entry's addresses (OP1): the kernel here is a test.
        unsafe { sq.push(entry(number)) }.is_ok()
    });
    peer.join().expect("the kernel's thread");
}

#[test]
fn sq3_and_sq4_hold_for_slots_filled_in_place() {
    let (mut sq, _cq, mut kernel) = FakeKernel::new(shape(4));
    let peer = thread::spawn(move || {
        for number in 0..COUNT {
            assert_eq!(until(|| kernel.consume()), entry(number));
        }
    });
    flush_all(&mut sq, |sq, number| {
        // SAFETY: nothing follows the entry's addresses (OP1): the kernel here is a test.
        unsafe { sq.push_with(|sqe| *sqe = entry(number)) }.is_ok()
    });
    peer.join().expect("the kernel's thread");
}

#[test]
fn sq3_and_sq4_hold_for_double_slots() {
    let wide = |number| Sqe128 { first: entry(number), rest: [number; 8] };
    let shape = Shape { sqe: SqeShape::Double, ..shape(4) };
    let (mut sq, _cq, mut kernel) = FakeKernel::new(shape);
    let peer = thread::spawn(move || {
        for number in 0..COUNT {
            assert_eq!(until(|| kernel.consume_wide()), wide(number));
        }
    });
    flush_all(&mut sq, |sq, number| {
        // SAFETY: nothing follows the entry's addresses (OP1): the kernel here is a test.
        unsafe { sq.push_wide(wide(number)) }.is_ok()
    });
    peer.join().expect("the kernel's thread");
}

/// The kernel posts with `post` as long as there is room; `take` adds what it took to a list.
fn posted(
    shape: Shape,
    post: impl Fn(&mut FakeKernel, u64) -> bool + Send + 'static,
    take: impl Fn(&mut CompletionQueue, &mut Vec<u64>),
) {
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
    let peer = thread::spawn(move || {
        for number in 0..COUNT {
            until(|| post(&mut kernel, number).then_some(()));
        }
    });
    let mut seen = Vec::new();
    until(|| {
        take(&mut cq, &mut seen);
        (seen.len() as u64 == COUNT).then_some(())
    });
    peer.join().expect("the kernel's thread");
    assert!(seen.into_iter().eq(0..COUNT), "lost, doubled or out of order");
}

fn post_wide(kernel: &mut FakeKernel, number: u64) -> bool {
    kernel.post_wide(Cqe32 { first: completion(number), big: [number, !number] })
}

fn pop_wide(cq: &mut CompletionQueue, seen: &mut Vec<u64>) {
    while let Some(Cqe32 { first, big }) = cq.pop_wide() {
        assert_eq!(big, [first.user_data, !first.user_data]);
        seen.push(first.user_data);
    }
}

#[test]
fn cq3_and_cq4_hold_when_popping() {
    let post = |kernel: &mut FakeKernel, number| kernel.post(completion(number));
    posted(shape(4), post, |cq, seen| {
        while let Some(cqe) = cq.pop() {
            assert_eq!(cqe.res, 7);
            seen.push(cqe.user_data);
        }
    });
}

#[test]
fn cq3_and_cq4_hold_when_draining() {
    let post = |kernel: &mut FakeKernel, number| kernel.post(completion(number));
    posted(shape(4), post, |cq, seen| {
        cq.drain(|cqe| {
            assert_eq!(cqe.res, 7);
            seen.push(cqe.user_data);
        });
    });
}

#[test]
fn cq3_and_cq4_hold_for_double_slots() {
    posted(Shape { cqe: CqeShape::Double, ..shape(4) }, post_wide, pop_wide);
}

#[test]
fn cq3_and_cq4_hold_on_a_mixed_ring() {
    let post = |kernel: &mut FakeKernel, number: u64| match number % 3 {
        0 => post_wide(kernel, number),
        _ => kernel.post(completion(number)),
    };
    posted(Shape { cqe: CqeShape::Mixed, ..shape(8) }, post, |cq, seen| {
        while let Some(Cqe32 { first, big }) = cq.pop_wide() {
            let number = first.user_data;
            assert_eq!(big, if number.is_multiple_of(3) { [number, !number] } else { [0; 2] });
            seen.push(number);
        }
    });
}

#[test]
fn both_rings_hold_on_round_trips() {
    let (mut sq, mut cq, mut kernel) = FakeKernel::new(shape(4));
    let peer = thread::spawn(move || {
        for number in 0..COUNT {
            assert_eq!(until(|| kernel.consume()), entry(number));
            until(|| kernel.post(completion(number)).then_some(()));
        }
    });
    let (mut pushed, mut popped) = (0, 0);
    until(|| {
        // SAFETY: nothing follows the entry's addresses (OP1): the kernel here is a test.
        while pushed < COUNT && unsafe { sq.push(entry(pushed)) }.is_ok() {
            pushed += 1;
        }
        sq.flush();
        cq.drain(|cqe| {
            assert_eq!(cqe, completion(popped));
            popped += 1;
        });
        (popped == COUNT).then_some(())
    });
    peer.join().expect("the kernel's thread");
}

#[test]
fn br2_the_kernel_selects_what_was_written() {
    let buffer = |number: u64| Buf { addr: number, len: 7, bid: 3, resv: 0 };
    let (mut ring, mut picker) = FakeBufferKernel::new(4, u16::MAX - 1_000);
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape(4));
    let peer = thread::spawn(move || {
        for number in 0..COUNT {
            let selected = until(|| picker.select());
            // The tail lies in `resv` of entry 0, and is counted on.
            assert_eq!(Buf { resv: 0, ..selected }, buffer(number));
            until(|| kernel.post(completion(number)).then_some(()));
        }
    });
    let mut offered = 0;
    let mut back = 0;
    until(|| {
        // SAFETY: nothing follows the address: the kernel here is a test. One id for all (BR1) is
        // fine, since the test tells buffers apart by their addresses.
        while offered < COUNT && unsafe { ring.push(offered, 7, 3) }.is_ok() {
            offered += 1;
        }
        ring.flush();
        let count = cq.drain(|_| ()).count;
        // SAFETY: each completion has returned one buffer, once (BR1).
        unsafe { ring.taken(count) };
        back += u64::from(count);
        (back == COUNT).then_some(())
    });
    peer.join().expect("the kernel's thread");
}

/// Where the polling thread sleeps: `true` while it may be woken. Not a lock, since TSan cannot see
/// into those of the standard library.
type Bed = Arc<AtomicBool>;

/// Sleeps until woken.
fn sleep(bed: &Bed, kernel: &FakeKernel) {
    let started = Instant::now();
    while bed.load(Acquire) {
        thread::park_timeout(PATIENCE / 4);
        let visible = kernel.visible();
        let long = started.elapsed() >= PATIENCE / 4;
        assert!(!(long && bed.load(Acquire)), "SQ5: slept over {visible} published entries");
    }
}

#[test]
fn sq5_no_wakeup_is_lost() {
    let (mut sq, _cq, mut kernel) = FakeKernel::new(shape(4));
    let bed = Bed::default();
    let peer = thread::spawn({
        let bed = Arc::clone(&bed);
        move || {
            let mut number = 0;
            while number < COUNT {
                if let Some(sqe) = kernel.consume() {
                    assert_eq!(sqe, entry(number));
                    number += 1;
                    continue;
                }
                bed.store(true, Release);
                if kernel.may_sleep() {
                    sleep(&bed, &kernel);
                    kernel.sq_flags.store(0);
                }
            }
        }
    });
    for number in 0..COUNT {
        // SAFETY: nothing follows the entry's addresses (OP1): the kernel here is a test.
        until(|| unsafe { sq.push(entry(number)) }.ok());
        sq.flush();
        if sq.needs_wakeup() {
            bed.store(false, Release);
            peer.thread().unpark();
        }
    }
    peer.join().expect("the kernel's thread");
}

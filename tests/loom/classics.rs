//! Published listings of the ring protocol that must fail: each as a model that loom rejects, and
//! next to it the nearest model that loom accepts.
//!
//! | listing | rejected, since | accepted, when |
//! |---|---|---|
//! | *Efficient IO with io_uring* (Axboe, 2019) §4.2, completions | the barrier stands before the load of `tail` | the load acquires, and .. |
//! | its first barrier moved, as liburing's ecefd795 moved both in July 2019 | the barrier stands after the store of `head` | .. the store releases |
//! | io_uring(7), the example's completions | acquires `head`, which is its own, and not `tail` | acquires `tail`, and .. |
//! | its load fixed | returns a field of the entry after it gave the slot back | .. reads before it gives back |
//! | io_uring_setup(2), io_uring_sqpoll(7), wake-up | nothing between the store of `tail` and the load of the flags | a full fence does |
//! | as its comment has it, with an acquiring load | acquire does not order the store before it | " |
//! | libevpl, before its issue 165 | loads the flags before it stores `tail` | after it, behind a fence |
//!
//! An access that a listing does not mark is Relaxed here, and its barriers are fences. That is the
//! most generous reading: in the C memory model a plain access that races is undefined, and a
//! barrier for the compiler alone orders nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread;

use crate::model::{check, until};
use crate::wakeup::{Awake, Bed};

/// Runs `model`, which loom must reject with `complaint`.
fn rejected(name: &str, complaint: &str, model: impl Fn() + Send + Sync + 'static) {
    let result = catch_unwind(AssertUnwindSafe(|| check(name, model)));
    let panic = result.expect_err("loom accepted a listing that is known to be wrong");
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    let text = text.expect("a panic with a message");
    println!("{name}: rejected, {}", text.lines().next().unwrap_or_default());
    assert!(text.contains(complaint), "rejected for another reason: {text}");
}

/// Loom's complaint about two unordered accesses to a slot.
const RACE: &str = "Causality violation: Concurrent";
/// The polling thread's complaint when it was never woken.
const ASLEEP: &str = "slept over a published entry";

/// A completion ring with one slot: the fewest that can be reused.
struct OneSlot {
    head: AtomicU32,
    tail: AtomicU32,
    slot: UnsafeCell<u32>,
}

// SAFETY: loom stops the model before two accesses to `slot` that nothing orders are made.
unsafe impl Sync for OneSlot {}

impl OneSlot {
    /// The entry's content.
    fn read(&self) -> u32 {
        // SAFETY: loom stops the model before two accesses that nothing orders are made.
        self.slot.with(|slot| unsafe { slot.read() })
    }

    /// The kernel posts `value`, the `number`th, as soon as there is room. It does so correctly.
    fn post(&self, number: u32, value: u32) {
        until(|| (self.head.load(Acquire) == number).then_some(()));
        // SAFETY: loom stops the model before two accesses that nothing orders are made.
        self.slot.with_mut(|slot| unsafe { slot.write(value) });
        self.tail.store(number + 1, Release);
    }
}

/// `count` completions go through a ring of one slot; `take` is the listing. With one completion no
/// slot is reused, so only CQ3 can break; with two, CQ4 can as well.
fn completions(count: u32, take: fn(&OneSlot) -> Option<u32>) {
    let ring =
        OneSlot { head: AtomicU32::new(0), tail: AtomicU32::new(0), slot: UnsafeCell::new(0) };
    let ring = Arc::new(ring);
    let kernel = thread::spawn({
        let ring = Arc::clone(&ring);
        move || (0..count).for_each(|number| ring.post(number, 40 + number))
    });
    for number in 0..count {
        assert_eq!(until(|| take(&ring)), 40 + number);
    }
    kernel.join().expect("the kernel's thread");
}

// ANCHOR: in_2019
/// The listing of 2019: a read barrier, then `tail`; `head`, then a write barrier.
fn as_in_2019(ring: &OneSlot) -> Option<u32> {
    let head = ring.head.load(Relaxed);
    fence(Acquire); // Orders nothing: `tail` is loaded after it.
    if ring.tail.load(Relaxed) == head {
        return None;
    }
    let value = ring.read();
    ring.head.store(head + 1, Relaxed);
    fence(Release); // Orders nothing: `head` was stored before it.
    Some(value)
}
// ANCHOR_END: in_2019

// ANCHOR: first_moved
/// The listing of 2019 with its first barrier after the load of `tail`.
fn as_in_2019_with_its_first_barrier_moved(ring: &OneSlot) -> Option<u32> {
    let head = ring.head.load(Relaxed);
    if ring.tail.load(Relaxed) == head {
        return None;
    }
    fence(Acquire);
    let value = ring.read();
    ring.head.store(head + 1, Relaxed);
    fence(Release); // Orders nothing: `head` was stored before it.
    Some(value)
}
// ANCHOR_END: first_moved

// ANCHOR: both_moved
/// The listing of 2019 with both barriers moved.
fn as_in_2019_with_both_barriers_moved(ring: &OneSlot) -> Option<u32> {
    let head = ring.head.load(Relaxed);
    if ring.tail.load(Relaxed) == head {
        return None;
    }
    fence(Acquire);
    let value = ring.read();
    fence(Release);
    ring.head.store(head + 1, Relaxed);
    Some(value)
}
// ANCHOR_END: both_moved

// ANCHOR: section_7
/// The example of io_uring(7): acquires `head`, gives the slot back, then reads the slot.
fn as_in_section_7(ring: &OneSlot) -> Option<u32> {
    let head = ring.head.load(Acquire); // No other thread stores it.
    if ring.tail.load(Relaxed) == head {
        return None;
    }
    ring.head.store(head + 1, Release);
    Some(ring.read()) // The kernel may be writing by now.
}
// ANCHOR_END: section_7

/// The example of io_uring(7), reading before it gives back.
fn as_in_section_7_reading_first(ring: &OneSlot) -> Option<u32> {
    let head = ring.head.load(Acquire); // No other thread stores it.
    if ring.tail.load(Relaxed) == head {
        return None;
    }
    let value = ring.read();
    ring.head.store(head + 1, Release);
    Some(value)
}

// ANCHOR: acquiring_tail
/// The example of io_uring(7), acquiring the right index.
fn as_in_section_7_acquiring_tail(ring: &OneSlot) -> Option<u32> {
    let head = ring.head.load(Relaxed);
    if ring.tail.load(Acquire) == head {
        return None;
    }
    ring.head.store(head + 1, Release);
    Some(ring.read()) // The kernel may be writing by now.
}
// ANCHOR_END: acquiring_tail

// ANCHOR: section_7_mended
/// The example of io_uring(7) with both fixed.
fn as_in_section_7_mended(ring: &OneSlot) -> Option<u32> {
    let head = ring.head.load(Relaxed);
    if ring.tail.load(Acquire) == head {
        return None;
    }
    let value = ring.read();
    ring.head.store(head + 1, Release);
    Some(value)
}
// ANCHOR_END: section_7_mended

#[test]
fn cq3_the_listing_of_2019_reads_an_entry_that_is_not_there_yet() {
    rejected("the listing of 2019", RACE, || completions(1, as_in_2019));
    check("its first barrier moved", || completions(1, as_in_2019_with_its_first_barrier_moved));
}

#[test]
fn cq4_the_listing_of_2019_gives_back_a_slot_that_it_still_reads() {
    rejected("its first barrier moved, slot reused", RACE, || {
        completions(2, as_in_2019_with_its_first_barrier_moved);
    });
    check("both barriers moved", || completions(2, as_in_2019_with_both_barriers_moved));
}

#[test]
fn cq3_the_example_of_section_7_acquires_the_wrong_index() {
    rejected("io_uring(7)", RACE, || completions(1, as_in_section_7));
    rejected("io_uring(7), reading first", RACE, || completions(1, as_in_section_7_reading_first));
    check("io_uring(7), acquiring tail", || completions(1, as_in_section_7_acquiring_tail));
}

#[test]
fn cq4_the_example_of_section_7_reads_after_it_gave_back() {
    rejected("io_uring(7), acquiring tail, slot reused", RACE, || {
        completions(2, as_in_section_7_acquiring_tail);
    });
    check("io_uring(7), both mended", || completions(2, as_in_section_7_mended));
}

/// The atomics of a submission queue that a polling thread uses.
struct Polled {
    tail: AtomicU32,
    flags: AtomicU32,
}

const NEED_WAKEUP: u32 = 1;

impl Polled {
    /// The polling thread: raises the flag, looks once more, sleeps. It does so correctly.
    fn poll(&self, bed: &Bed) {
        while self.tail.load(Acquire) == 0 {
            bed.lie_down();
            self.flags.store(NEED_WAKEUP, Relaxed);
            fence(SeqCst);
            if self.tail.load(Acquire) == 0 {
                assert_eq!(bed.sleep(), Awake::Rung, "SQ5: slept over a published entry");
            } else {
                bed.get_up();
            }
            self.flags.store(0, Relaxed);
        }
    }
}

/// One entry is handed to a polling thread; `hand_over` is the listing, and says whether to wake.
fn polled(hand_over: fn(&Polled) -> bool) {
    let words = Arc::new(Polled { tail: AtomicU32::new(0), flags: AtomicU32::new(0) });
    let bed = Bed::new();
    let kernel = thread::spawn({
        let (words, bed) = (Arc::clone(&words), Arc::clone(&bed));
        move || words.poll(&bed)
    });
    if hand_over(&words) {
        bed.wake();
    }
    bed.no_more();
    kernel.join().expect("the kernel's thread");
}

// ANCHOR: manual
/// The listing of the manual pages: the entry is published, the flags are loaded, nothing more.
fn as_in_the_manual(words: &Polled) -> bool {
    words.tail.store(1, Release);
    words.flags.load(Relaxed) & NEED_WAKEUP != 0
}
// ANCHOR_END: manual

// ANCHOR: manual_acquiring
/// The listing of the manual pages as its comment describes it.
fn as_in_the_manual_acquiring(words: &Polled) -> bool {
    words.tail.store(1, Release);
    words.flags.load(Acquire) & NEED_WAKEUP != 0
}
// ANCHOR_END: manual_acquiring

// ANCHOR: fence
/// The listing of the manual pages with the fence that liburing has since 744f4156. SQ5.
fn as_in_the_manual_with_a_fence(words: &Polled) -> bool {
    words.tail.store(1, Release);
    fence(SeqCst);
    words.flags.load(Relaxed) & NEED_WAKEUP != 0
}
// ANCHOR_END: fence

/// libevpl before its issue 165: whether to wake is decided before there is anything to wake for.
fn as_in_libevpl(words: &Polled) -> bool {
    fence(SeqCst);
    let wake = words.flags.load(Acquire) & NEED_WAKEUP != 0;
    fence(SeqCst);
    words.tail.store(1, Release);
    wake
}

#[test]
fn sq5_the_wakeup_of_the_manual_is_lost() {
    rejected("io_uring_sqpoll(7)", ASLEEP, || polled(as_in_the_manual));
    rejected("io_uring_sqpoll(7), acquiring", ASLEEP, || polled(as_in_the_manual_acquiring));
    check("io_uring_sqpoll(7), with a fence", || polled(as_in_the_manual_with_a_fence));
}

#[test]
fn sq5_a_wakeup_before_the_publish_is_lost() {
    rejected("libevpl", ASLEEP, || polled(as_in_libevpl));
    check("libevpl, mended", || polled(as_in_the_manual_with_a_fence));
}

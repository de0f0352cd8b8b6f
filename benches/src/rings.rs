//! Pushing and draining alone, on ordinary memory: this program is also the kernel.
//!
//! One operation is one entry. The kernel's part, a store of an index for each batch, is in every
//! figure; so is the filling of the completions that are drained, in a row of its own.

use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::cq::{CompletionQueue, CqParts, CqeShape};
use annulus::sys::index::Entries;
use annulus::sys::opcode::Opcode;
use annulus::sys::orderings::{
    AtomicU32, Counter, Observed, ObservedFlags, Published, PublishedFlags,
};
use annulus::sys::slots::{Slot, Slots, Width};
use annulus::sys::sq::{SqParts, SqeShape, SubmissionQueue, Turn};

use crate::measure::{Contender, race};
use crate::table::Report;

const ENTRIES: u32 = 128;

/// The memory of a ring: two indices, words for the rest, and the slots.
struct Memory<T> {
    words: [AtomicU32; 6],
    slots: Vec<Slot<T>>,
}

impl<T: Copy> Memory<T> {
    fn new(value: T) -> Self {
        let slots = (0..ENTRIES).map(|_| Slot::new(value)).collect();
        Self { words: Default::default(), slots }
    }

    fn word(&self, at: usize) -> NonNull<AtomicU32> {
        NonNull::from(&self.words[at])
    }

    fn slots(&self) -> Slots<T> {
        let base = NonNull::from(&self.slots[0]);
        let entries = Entries::new(ENTRIES).expect("a power of two");
        // SAFETY: so many slots, which live as long as this memory; any bytes are an entry.
        unsafe { Slots::new(base, entries, Width::Single) }
    }
}

fn submission(memory: &Memory<Sqe>) -> SubmissionQueue {
    // SAFETY: the words are only accessed as atomics, and outlive the queue: see `run`.
    let (head, tail, flags, dropped) = unsafe {
        (
            Observed::new(memory.word(0)),
            Published::new(memory.word(1)),
            ObservedFlags::new(memory.word(2)),
            Counter::new(memory.word(3)),
        )
    };
    let (slots, shape, turn) = (memory.slots(), SqeShape::Single, Turn::Round);
    let parts = SqParts { head, tail, flags, dropped, slots, shape, turn, memory: Arc::new([]) };
    // SAFETY: only this program plays the kernel, and the memory outlives the queue.
    unsafe { SubmissionQueue::over(parts) }
}

fn completion(memory: &Memory<Cqe>) -> CompletionQueue {
    // SAFETY: the words are only accessed as atomics, and outlive the queue: see `run`.
    let (head, tail, flags, overflow, hints) = unsafe {
        (
            Published::new(memory.word(0)),
            Observed::new(memory.word(1)),
            Some(PublishedFlags::new(memory.word(2))),
            Counter::new(memory.word(3)),
            ObservedFlags::new(memory.word(4)),
        )
    };
    let (slots, shape, memory) = (memory.slots(), CqeShape::Single, Arc::new([]));
    let parts = CqParts { head, tail, flags, overflow, hints, slots, shape, memory };
    // SAFETY: only this program plays the kernel, and the memory outlives the queue.
    unsafe { CompletionQueue::over(parts) }
}

fn nop(user_data: u64) -> Sqe {
    Sqe { opcode: Opcode::NOP, fd: -1, user_data, ..Sqe::ZERO }
}

pub fn run(samples: u32) -> Report {
    let entries = Memory::new(Sqe::ZERO);
    let done = Memory::new(Cqe { user_data: 1, ..Cqe::ZERO });
    let mut rows = race(vec![push(&entries)], 10, samples);
    rows.extend(race(vec![pusher(&entries)], 10, samples));
    let mut drained = race(vec![drain(&done)], 10, samples);
    drained.extend(race(vec![pop(&done)], 10, samples));
    Report {
        title: "The halves of a ring, without a kernel",
        unit: "entry",
        sections: vec![
            ("push, batches of 128".into(), rows),
            ("take, batches of 128".into(), drained),
        ],
        notes: vec![],
    }
}

fn push(memory: &Memory<Sqe>) -> Contender<'_> {
    let mut queue = submission(memory);
    Contender::new("push", move |count| {
        for _ in 0..count / u64::from(ENTRIES) {
            let first = black_box(0); // Or all entries would be known beforehand.
            for number in first..first + u64::from(ENTRIES) {
                // SAFETY: a NOP points to nothing.
                unsafe { queue.push(nop(number)) }.expect("room");
            }
            // SAFETY: of this process, which made it.
            let tail = unsafe { queue.publish() };
            memory.words[0].store(tail.to_raw(), Release);
        }
    })
}

fn pusher(memory: &Memory<Sqe>) -> Contender<'_> {
    let mut queue = submission(memory);
    Contender::new("pusher", move |count| {
        for _ in 0..count / u64::from(ENTRIES) {
            let mut pusher = queue.pusher();
            let first = black_box(0);
            for number in first..first + u64::from(ENTRIES) {
                // SAFETY: a NOP points to nothing.
                unsafe { pusher.push(nop(number)) }.expect("room");
            }
            drop(pusher);
            // SAFETY: of this process, which made it.
            let tail = unsafe { queue.publish() };
            memory.words[0].store(tail.to_raw(), Release);
        }
    })
}

fn drain(memory: &Memory<Cqe>) -> Contender<'_> {
    let mut queue = completion(memory);
    let mut tail = queue.indices().tail;
    Contender::new("drain", move |count| {
        let mut sum = 0;
        for _ in 0..count / u64::from(ENTRIES) {
            tail = tail.advance(ENTRIES);
            memory.words[1].store(tail.to_raw(), Release);
            assert_eq!(queue.drain(|cqe| sum += cqe.user_data).count, ENTRIES);
        }
        black_box(sum);
    })
}

fn pop(memory: &Memory<Cqe>) -> Contender<'_> {
    let mut queue = completion(memory);
    let mut tail = queue.indices().tail;
    Contender::new("pop", move |count| {
        let mut sum = 0;
        for _ in 0..count / u64::from(ENTRIES) {
            tail = tail.advance(ENTRIES);
            memory.words[1].store(tail.to_raw(), Release);
            while let Some(cqe) = queue.pop() {
                sum += cqe.user_data;
            }
        }
        black_box(sum);
    })
}

//! Solutions of chapter 6: a processor with store buffers, small enough to try everything.

use std::collections::{BTreeSet, VecDeque};

// ANCHOR: machine
/// What a thread does. A store writes 1 to a word that was 0.
#[derive(Clone, Copy)]
enum Step {
    Store(usize),
    Load(usize),
    /// Waits until all stores of this thread are in memory.
    Fence,
}
use Step::{Fence, Load, Store};

/// Two words, two threads, and the stores of each that are not in memory yet.
#[derive(Clone, Default)]
struct Machine {
    memory: [u8; 2],
    done: [usize; 2],
    buffers: [VecDeque<usize>; 2],
    reads: [Vec<u8>; 2],
}

/// All that the two threads can read, each in its own order.
fn outcomes(threads: [&[Step]; 2]) -> BTreeSet<[Vec<u8>; 2]> {
    let (mut found, mut open) = (BTreeSet::new(), vec![Machine::default()]);
    while let Some(now) = open.pop() {
        if now.done == threads.map(<[Step]>::len) {
            found.insert(now.reads.clone());
        }
        for (at, steps) in threads.iter().enumerate() {
            // At any time the oldest store of a thread may reach memory.
            let mut next = now.clone();
            if let Some(word) = next.buffers[at].pop_front() {
                next.memory[word] = 1;
                open.push(next);
            }
            let Some(&step) = steps.get(now.done[at]) else { continue };
            let mut next = now.clone();
            next.done[at] += 1;
            match step {
                Store(word) => next.buffers[at].push_back(word),
                // A thread sees its own stores at once.
                Load(word) if now.buffers[at].contains(&word) => next.reads[at].push(1),
                Load(word) => next.reads[at].push(now.memory[word]),
                Fence if now.buffers[at].is_empty() => {}
                Fence => continue,
            }
            open.push(next);
        }
    }
    found
}
// ANCHOR_END: machine

const TAIL: usize = 0;
const OTHER: usize = 1;
/// Neither thread saw the other's store.
const NEITHER: [[u8; 1]; 2] = [[0], [0]];

fn are_possible(threads: [&[Step]; 2], reads: &[Vec<u8>; 2]) -> bool {
    outcomes(threads).contains(reads)
}

// ANCHOR: wake_up
#[test]
fn both_can_miss_the_others_store_unless_there_is_a_fence() {
    let neither = NEITHER.map(|reads| reads.to_vec());
    // We publish the tail and look at the flag; the kernel sets the flag and looks at the tail.
    let we: &[Step] = &[Store(TAIL), Load(OTHER)];
    let kernel: &[Step] = &[Store(OTHER), Load(TAIL)];
    assert!(are_possible([we, kernel], &neither), "asleep, and nobody wakes it");
    let we: &[Step] = &[Store(TAIL), Fence, Load(OTHER)];
    let kernel: &[Step] = &[Store(OTHER), Fence, Load(TAIL)];
    assert!(!are_possible([we, kernel], &neither));
}
// ANCHOR_END: wake_up

// ANCHOR: one_side
#[test]
fn a_fence_on_one_side_is_not_enough() {
    let neither = NEITHER.map(|reads| reads.to_vec());
    let we: &[Step] = &[Store(TAIL), Load(OTHER)];
    let kernel: &[Step] = &[Store(OTHER), Fence, Load(TAIL)];
    assert!(are_possible([we, kernel], &neither), "the kernel has its fence, and it does not help");
}
// ANCHOR_END: one_side

// ANCHOR: swapped
#[test]
fn a_stale_entry_needs_two_loads_that_change_places() {
    // The kernel writes the slot, and then the tail.
    let kernel: &[Step] = &[Store(OTHER), Store(TAIL)];
    let in_order: &[Step] = &[Load(TAIL), Load(OTHER)];
    let new_tail_old_slot = [vec![], vec![1, 0]];
    assert!(!are_possible([kernel, in_order], &new_tail_old_slot), "x86 hides the mistake");
    // A processor that may do the second load first.
    let swapped: &[Step] = &[Load(OTHER), Load(TAIL)];
    assert!(are_possible([kernel, swapped], &[vec![], vec![0, 1]]), "the old slot, the new tail");
}
// ANCHOR_END: swapped

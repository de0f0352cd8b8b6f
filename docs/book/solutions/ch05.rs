//! Solutions of chapter 5: counters around the wrap.

use std::collections::VecDeque;

use annulus::sys::index::{Entries, Index};
use proptest::prelude::*;

// ANCHOR: wrap
#[test]
fn five_entries_around_the_wrap() {
    let entries = Entries::new(4).expect("a power of two");
    let start = Index::from_raw(u32::MAX - 2);
    let at = |count| start.advance(count);
    let slots: Vec<usize> = (0..5).map(|count| at(count).slot(entries)).collect();
    assert_eq!(slots, [1, 2, 3, 0, 1]);
    assert_eq!(at(3).to_raw(), 0, "the fourth is the one after 4294967295");
    assert_eq!(at(4).distance_from(start), 4);
    assert!(at(4).to_raw() < start.to_raw(), "the newer index is the smaller number");
}
// ANCHOR_END: wrap

// ANCHOR: queue
/// A queue for one thread: two counters that never stop, and a power of two of slots.
struct Queue {
    slots: [u8; 8],
    head: u32,
    tail: u32,
}

impl Queue {
    fn push(&mut self, value: u8) -> bool {
        let has_room = self.tail.wrapping_sub(self.head) < 8;
        if has_room {
            self.slots[(self.tail & 7) as usize] = value;
            self.tail = self.tail.wrapping_add(1);
        }
        has_room
    }

    fn pop(&mut self) -> Option<u8> {
        (self.head != self.tail).then(|| {
            let value = self.slots[(self.head & 7) as usize];
            self.head = self.head.wrapping_add(1);
            value
        })
    }
}

proptest! {
    #[test]
    fn a_queue_agrees_with_a_deque_from_any_start(
        start in prop_oneof![0..=u32::MAX, u32::MAX - 20..=u32::MAX],
        steps in prop::collection::vec(prop::option::of(0..=u8::MAX), 0..100),
    ) {
        let mut queue = Queue { slots: [0; 8], head: start, tail: start };
        let mut deque = VecDeque::new();
        for step in steps {
            match step {
                Some(value) => {
                    prop_assert_eq!(queue.push(value), deque.len() < 8);
                    if deque.len() < 8 {
                        deque.push_back(value);
                    }
                }
                None => prop_assert_eq!(queue.pop(), deque.pop_front()),
            }
        }
    }
}
// ANCHOR_END: queue

// ANCHOR: three
#[test]
fn three_slots_tear_at_the_wrap() {
    let slot = |index: u32| index % 3;
    let (last, first) = (u32::MAX, u32::MAX.wrapping_add(1));
    assert_eq!((slot(last), slot(first)), (0, 0), "two entries, one after the other, in one slot");
    assert!(Entries::new(3).is_none(), "so such a ring cannot be made");
    // A power of two divides 2³².
    assert_eq!((last & 3, first & 3), (3, 0));
}
// ANCHOR_END: three

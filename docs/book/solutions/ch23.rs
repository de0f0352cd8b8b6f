//! Solutions of chapter 23: planted bugs, and what finds them.

use std::collections::VecDeque;

use annulus::op::Recv;
use annulus::sim::shrink::shrink;
use annulus::sim::{Faults, Sim};
use annulus::{Ring, Setup};

// ANCHOR: queue
/// The queue of chapter 5, with two slots, and room for a bug.
struct Queue {
    slots: [u8; 2],
    head: u32,
    tail: u32,
    bug: Bug,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    /// Takes one entry more than there are slots.
    OneTooMany,
    /// Asks whether `head` is below `tail`, and not whether they differ.
    ComparesOrder,
    /// Looks at the slot of the tail.
    WrongEnd,
}

impl Queue {
    fn push(&mut self, value: u8) -> bool {
        let room = if self.bug == Bug::OneTooMany { 3 } else { 2 };
        let has_room = self.tail.wrapping_sub(self.head) < room;
        if has_room {
            self.slots[(self.tail & 1) as usize] = value;
            self.tail = self.tail.wrapping_add(1);
        }
        has_room
    }

    fn pop(&mut self) -> Option<u8> {
        let is_there = match self.bug {
            Bug::ComparesOrder => self.head < self.tail,
            _ => self.head != self.tail,
        };
        let at = if self.bug == Bug::WrongEnd { self.tail } else { self.head };
        is_there.then(|| {
            self.head = self.head.wrapping_add(1);
            self.slots[(at & 1) as usize]
        })
    }
}

/// Whether the queue differs from a `VecDeque` after these steps: true pushes, false pops.
fn differs(bug: Bug, start: u32, steps: impl IntoIterator<Item = bool>) -> bool {
    let mut queue = Queue { slots: [0; 2], head: start, tail: start, bug };
    let mut model = VecDeque::new();
    (1..).zip(steps).any(|(value, pushes)| match pushes {
        true => {
            let has_room = model.len() < 2;
            if has_room {
                model.push_back(value);
            }
            queue.push(value) != has_room
        }
        false => queue.pop() != model.pop_front(),
    })
}
// ANCHOR_END: queue

// ANCHOR: exhaustive
/// How long the shortest history is that shows the bug, among all of up to eight steps.
fn shortest(bug: Bug, start: u32) -> Option<u32> {
    (1..=8).find(|&len| {
        (0..1_u32 << len).any(|bits| differs(bug, start, (0..len).map(|at| bits >> at & 1 == 1)))
    })
}

#[test]
fn every_short_history_shows_each_planted_bug_but_only_if_it_starts_at_the_wrap() {
    let at_the_wrap = u32::MAX;
    for start in [0, at_the_wrap] {
        assert_eq!(shortest(Bug::None, start), None);
        assert_eq!(shortest(Bug::OneTooMany, start), Some(3));
        assert_eq!(shortest(Bug::WrongEnd, start), Some(2));
    }
    assert_eq!(shortest(Bug::ComparesOrder, 0), None);
    assert_eq!(shortest(Bug::ComparesOrder, at_the_wrap), Some(2));
}
// ANCHOR_END: exhaustive

// ANCHOR: bytes
/// What a fuzzer calls: the first byte says where the indices begin, each other one is a step.
fn fails(bug: Bug, bytes: &[u8]) -> bool {
    let [start, steps @ ..] = bytes else { return false };
    let start = u32::from(*start).wrapping_sub(128);
    differs(bug, start, steps.iter().map(|step| step % 2 == 1))
}

/// Leaves out one byte after the other, as long as it still fails.
fn smaller(bug: Bug, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at < bytes.len() {
        let mut fewer = bytes.clone();
        fewer.remove(at);
        if fails(bug, &fewer) { bytes = fewer } else { at += 1 }
    }
    bytes
}

#[test]
fn random_bytes_find_the_bugs_and_get_smaller() {
    // A generator of five lines is enough, and it always gives the same numbers.
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    let inputs: Vec<Vec<u8>> = (0..10_000).map(|_| (0..64).map(|_| byte()).collect()).collect();
    assert!(!inputs.iter().any(|bytes| fails(Bug::None, bytes)));
    for (bug, steps) in [(Bug::OneTooMany, 3), (Bug::WrongEnd, 2), (Bug::ComparesOrder, 2)] {
        let found = inputs.iter().find(|bytes| fails(bug, bytes)).expect("one of them");
        let small = smaller(bug, found.clone());
        assert!(small.len() < found.len() && small.len() > steps, "{bug:?}: {small:?}");
    }
}
// ANCHOR_END: bytes

// ANCHOR: short
/// Receives a message of 24 bytes. The bug: it believes that one receive is enough.
fn receive(sim: &Sim) -> Result<(), String> {
    let mut ring: Ring = Setup::new(8).kernel(sim.kernel()).build().expect("a simulated ring");
    let (ours, theirs) = sim.socket_pair().expect("descriptors");
    sim.write(&theirs, b"hello, is anybody there?").expect("room in the socket");
    let receive = ring.submit(Recv::new(ours, Vec::with_capacity(24))).expect("room");
    let received = ring.wait(receive).map_err(|error| error.to_string())?;
    match received.result {
        Ok(24) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_receive_that_is_believed_fails_by_one_fault_alone() {
    assert_eq!(receive(&Sim::new(1)), Ok(()), "without faults nothing shows");
    let found = (0..1000).find_map(|seed| shrink(seed, Faults::SOME, receive)).expect("a seed");
    assert_eq!(found.decisions.len(), 1, "{found}");
}
// ANCHOR_END: short

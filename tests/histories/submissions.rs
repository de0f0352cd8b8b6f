//! The submission half against a queue of slots.
#![allow(unsafe_code, reason = "pushes entries that no kernel acts on")]

use std::collections::VecDeque;

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::flags::SqeFlags;
use annulus_sys::index::Index;
use annulus_sys::opcode::Opcode;
use annulus_sys::sq::{Full, PushWideError, SqeShape, SubmissionQueue, Turn};
use proptest::prelude::*;

use crate::support::fake_kernel::{FakeKernel, Shape, words};

/// Sixteen numbers: a slot, or with 64-byte slots the half of it and zeroes.
type Bytes = [u64; 16];

#[derive(Debug, Clone)]
pub enum Step {
    Push(Box<Bytes>),
    PushWith(Box<Bytes>),
    /// `push_with`, whose closure panics after it wrote.
    PushInPanic(Box<Bytes>),
    PushWide(Box<Bytes>),
    /// Reserves, pushes these entries, wide where stated, and commits or not.
    Reserve {
        count: u32,
        pushes: Vec<(bool, Box<Bytes>)>,
        keep: bool,
    },
    /// Pushes these entries with a pusher, and drops it or forgets it.
    PushMany {
        pushes: Vec<Bytes>,
        forget: bool,
    },
    Flush,
    /// As `Flush`, without a look at what the kernel consumed; then it consumes all, if stated.
    Publish {
        all: bool,
    },
    /// The kernel takes so many slots; or, when the ring rewinds, an enter does.
    Consume(u32),
}

pub fn steps() -> impl Strategy<Value = Step> {
    let bytes = || any::<Bytes>().prop_map(Box::new);
    let pushes = proptest::collection::vec((any::<bool>(), bytes()), 0..6);
    prop_oneof![
        4 => bytes().prop_map(Step::Push),
        1 => bytes().prop_map(Step::PushWith),
        1 => bytes().prop_map(Step::PushInPanic),
        3 => bytes().prop_map(Step::PushWide),
        2 => (0..12_u32, pushes, any::<bool>())
            .prop_map(|(count, pushes, keep)| Step::Reserve { count, pushes, keep }),
        2 => (proptest::collection::vec(any::<Bytes>(), 0..6), any::<bool>())
            .prop_map(|(pushes, forget)| Step::PushMany { pushes, forget }),
        3 => Just(Step::Flush),
        2 => any::<bool>().prop_map(|all| Step::Publish { all }),
        4 => prop_oneof![1..4_u32, 1..70_u32].prop_map(Step::Consume),
    ]
}

/// The contents of one slot, and whether it counts as a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    bytes: Bytes,
    counts: bool,
}

/// The expected contents.
#[derive(Debug)]
pub struct Submissions {
    shape: Shape,
    /// Written and not consumed, oldest first.
    slots: VecDeque<Slot>,
    /// How many of them are visible.
    visible: usize,
    /// How many slots came before the oldest of them, modulo 2³²; with a rewinding ring always 0.
    head: u32,
    pushed: u32,
}

impl Submissions {
    pub fn new(shape: Shape) -> Self {
        let head = if shape.turn == Turn::Rewind { 0 } else { shape.start };
        Self { shape, slots: VecDeque::new(), visible: 0, head, pushed: 0 }
    }

    pub fn run(&mut self, step: Step, sq: &mut SubmissionQueue, kernel: &mut FakeKernel) {
        match step {
            Step::Push(bytes) => {
                // SAFETY: no kernel acts on the entry (OP1).
                let pushed = unsafe { sq.push(entry(&bytes).first) };
                let room = self.room();
                assert_eq!(pushed, if room > 0 { Ok(()) } else { Err(Full) });
                self.wrote(narrow(&bytes).filter(|_| room > 0));
            }
            Step::PushWith(bytes) => {
                let fill = |sqe: &mut Sqe| {
                    assert_eq!(*sqe, Sqe::ZERO);
                    *sqe = entry(&bytes).first;
                };
                // SAFETY: no kernel acts on the entry (OP1).
                let pushed = unsafe { sq.push_with(fill) };
                let room = self.room();
                assert_eq!(pushed.is_ok(), room > 0);
                self.wrote(narrow(&bytes).filter(|_| room > 0));
            }
            Step::PushInPanic(bytes) => push_in_panic(&bytes, sq),
            Step::PushWide(bytes) => {
                // SAFETY: no kernel acts on the entry (OP1).
                let pushed = unsafe { sq.push_wide(entry(&bytes)) };
                let slots = self.wide(&bytes, 0);
                assert_eq!(pushed, verdict(&slots, self.room()));
                self.wrote(slots.into_iter().flatten().filter(|_| pushed.is_ok()));
            }
            Step::Reserve { count, pushes, keep } => self.reserve(count, &pushes, keep, sq),
            Step::Flush => {
                let expected = self.slots.len();
                assert_eq!(sq.flush() as usize, expected);
                self.visible = expected;
            }
            Step::PushMany { pushes, forget } => self.push_many(&pushes, forget, sq),
            Step::Publish { .. } if self.shape.turn == Turn::Rewind => {}
            Step::Publish { all } => {
                // SAFETY: of this process, which made it (SQ3).
                let published = unsafe { sq.publish() };
                self.visible = self.slots.len();
                if all {
                    self.take(kernel.visible(), kernel);
                    sq.consumed_up_to(published);
                }
            }
            Step::Consume(count) => self.consume(count, sq, kernel),
        }
        self.agree(sq, kernel);
    }

    fn room(&self) -> usize {
        self.shape.sq_entries as usize - self.slots.len()
    }

    /// The slots that a wide entry takes after `ahead` further ones; `None` where wide entries are
    /// refused.
    fn wide(&self, bytes: &Bytes, ahead: usize) -> Option<Vec<Slot>> {
        match self.shape.sqe {
            SqeShape::Single => None,
            SqeShape::Double => Some(vec![Slot { bytes: *bytes, counts: true }]),
            SqeShape::Mixed => {
                let ahead = u32::try_from(self.slots.len() + ahead).expect("a ring is short");
                let at = self.head.wrapping_add(ahead) % self.shape.sq_entries;
                let padding = Slot { bytes: padding(), counts: false };
                let mut halves = [[0; 16]; 2];
                halves[0][..8].copy_from_slice(&bytes[..8]);
                halves[1][..8].copy_from_slice(&bytes[8..]);
                let first = Slot { bytes: halves[0], counts: true };
                let second = Slot { bytes: halves[1], counts: false };
                let straddles = at == self.shape.sq_entries - 1;
                Some([vec![padding; usize::from(straddles)], vec![first, second]].concat())
            }
        }
    }

    fn wrote(&mut self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            self.slots.push_back(slot);
            self.pushed = self.pushed.wrapping_add(u32::from(slot.counts));
        }
    }

    fn reserve(
        &mut self,
        count: u32,
        pushes: &[(bool, Box<Bytes>)],
        keep: bool,
        sq: &mut SubmissionQueue,
    ) {
        let Ok(mut reservation) = sq.reserve(count) else {
            assert!(count as usize > self.room());
            return;
        };
        assert!(count as usize <= self.room());
        let mut written = Vec::new();
        for (is_wide, bytes) in pushes {
            let left = count as usize - written.len();
            if *is_wide {
                let slots = self.wide(bytes, written.len());
                // SAFETY: no kernel acts on the entry (OP1).
                let pushed = unsafe { reservation.push_wide(entry(bytes)) };
                assert_eq!(pushed, verdict(&slots, left));
                written.extend(slots.into_iter().flatten().filter(|_| pushed.is_ok()));
            } else {
                // SAFETY: no kernel acts on the entry (OP1).
                let pushed = unsafe { reservation.push(entry(bytes).first) };
                assert_eq!(pushed.is_ok(), left > 0);
                written.extend(narrow(bytes).filter(|_| pushed.is_ok()));
            }
            assert_eq!(reservation.left() as usize, count as usize - written.len());
        }
        if keep {
            reservation.commit();
            self.wrote(written);
        }
    }

    /// What a forgotten pusher had written stays in the queue up to where it last looked for room.
    fn push_many(&mut self, pushes: &[Bytes], forget: bool, sq: &mut SubmissionQueue) {
        let (before, room) = (sq.indices().written, self.room());
        let mut pusher = sq.pusher();
        for (at, bytes) in pushes.iter().enumerate() {
            // SAFETY: no kernel acts on the entry (OP1).
            let pushed = unsafe { pusher.push(entry(bytes).first) };
            assert_eq!(pushed, if at < room { Ok(()) } else { Err(Full) });
        }
        if forget {
            std::mem::forget(pusher);
        } else {
            drop(pusher);
        }
        let kept = sq.indices().written.distance_from(before) as usize;
        assert!(kept <= pushes.len().min(room));
        assert!(forget || kept == pushes.len().min(room));
        self.wrote(pushes[..kept].iter().filter_map(narrow));
    }

    fn consume(&mut self, count: u32, sq: &mut SubmissionQueue, kernel: &mut FakeKernel) {
        let count = match self.shape.turn {
            Turn::Round => count.min(kernel.visible()),
            Turn::Rewind => count.min(sq.flush()),
        };
        self.take(count, kernel);
        sq.consumed(count);
    }

    /// The kernel takes so many slots.
    fn take(&mut self, count: u32, kernel: &mut FakeKernel) {
        for slot in 0..count {
            let at = match self.shape.turn {
                Turn::Round => kernel.sq_head.last(),
                Turn::Rewind => Index::from_raw(slot),
            };
            let expected = self.slots.pop_front().expect("the queue is as long");
            assert_eq!(read(kernel, at, self.shape.sqe), expected.bytes, "slot {slot}");
            if self.shape.turn == Turn::Round {
                kernel.sq_head.publish(at.advance(1));
                self.head = self.head.wrapping_add(1);
            }
        }
        self.visible = self.visible.saturating_sub(count as usize);
    }

    fn agree(&self, sq: &SubmissionQueue, kernel: &FakeKernel) {
        assert_eq!(sq.room() as usize, self.room());
        assert_eq!(sq.unconsumed() as usize, self.slots.len());
        assert_eq!(sq.pushed(), self.pushed);
        if self.shape.turn == Turn::Round {
            assert_eq!(kernel.visible() as usize, self.visible);
            assert_eq!(sq.unsubmitted() as usize, self.slots.len());
        }
    }
}

/// Whether the slots of an entry, if any, fit into the remaining ones.
fn verdict(slots: &Option<Vec<Slot>>, left: usize) -> Result<(), PushWideError> {
    match slots {
        None => Err(PushWideError::Narrow),
        Some(slots) if slots.len() > left => Err(PushWideError::Full),
        Some(_) => Ok(()),
    }
}

/// A closure that fills half an entry and unwinds has pushed nothing.
fn push_in_panic(bytes: &Bytes, sq: &mut SubmissionQueue) {
    struct Gone;
    let fill = |sqe: &mut Sqe| {
        *sqe = entry(bytes).first;
        std::panic::resume_unwind(Box::new(Gone));
    };
    // SAFETY: no kernel acts on the entry (OP1).
    let push = || unsafe { sq.push_with(fill) };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(push)) {
        Ok(pushed) => assert_eq!(pushed, Err(Full)),
        Err(panic) => assert!(panic.is::<Gone>()),
    }
}

fn entry(bytes: &Bytes) -> Sqe128 {
    let (mut first, mut rest) = ([0; 8], [0; 8]);
    first.copy_from_slice(&bytes[..8]);
    rest.copy_from_slice(&bytes[8..]);
    Sqe128 { first: Sqe::from_words(first), rest }
}

/// The slot of a 64-byte entry: the rest of a slot of 128 bytes is 0.
fn narrow(bytes: &Bytes) -> Option<Slot> {
    let mut whole = [0; 16];
    whole[..8].copy_from_slice(&bytes[..8]);
    Some(Slot { bytes: whole, counts: true })
}

/// A NOP that posts nothing.
fn padding() -> Bytes {
    let flags = SqeFlags::CQE_SKIP_SUCCESS;
    let mut whole = [0; 16];
    whole[..8].copy_from_slice(&words(Sqe { opcode: Opcode::NOP, flags, fd: -1, ..Sqe::ZERO }));
    whole
}

/// All bytes of a slot.
fn read(kernel: &FakeKernel, at: Index, shape: SqeShape) -> Bytes {
    let mut whole = [0; 16];
    // SAFETY: the kernel's to read: `tail` or a count covers the slot (SQ3).
    whole[..8].copy_from_slice(&words(unsafe { kernel.sqes.read(at) }));
    if shape == SqeShape::Double {
        // SAFETY: the kernel's to read, which was just read (SQ3), and double.
        whole[8..].copy_from_slice(&words(unsafe { kernel.sqes.read_rest(at) }));
    }
    whole
}

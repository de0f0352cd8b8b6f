//! The completion half against a queue of completions.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use annulus_sys::abi::{Cqe, Cqe32};
use annulus_sys::cq::{CompletionQueue, CqeShape};
use annulus_sys::flags::{CqRingFlags, CqeFlags};
use annulus_sys::index::Index;
use proptest::prelude::*;

use crate::support::fake_kernel::{FakeKernel, Shape};

#[derive(Debug, Clone)]
pub enum Step {
    Post(Cqe),
    PostWide(Cqe32),
    /// A filler alone, as Linux leaves one when the wide completion after it found no room.
    PostFiller,
    /// The same in the last slot; the next one is written over it, and the tail goes too far.
    FillLast,
    Overstep(Cqe),
    Pop,
    PopWide,
    Drain,
    DrainWide,
    Runs {
        most: usize,
    },
    /// Takes one after the other, and stops after so many, or unwinds there.
    Each {
        most: usize,
        unwinds: bool,
    },
    /// Drains, wide or not, and unwinds in this call of the closure.
    DrainInto {
        calls: usize,
        wide: bool,
    },
    Ready,
    SetFlags(u32),
}

pub fn steps() -> impl Strategy<Value = Step> {
    // Every bit but the two that decide the shape: only the kernel sets those.
    let shape = (CqeFlags::CQE32 | CqeFlags::SKIP).bits();
    let flags = prop_oneof![
        any::<u32>(),
        Just(0),
        Just(CqeFlags::MORE.bits()),
        (0..u32::from(u16::MAX)).prop_map(|bid| bid << 16 | CqeFlags::BUFFER.bits()),
    ];
    let cqe =
        move || {
            (any::<u64>(), any::<i32>(), flags.clone()).prop_map(move |(user_data, res, flags)| {
                Cqe { user_data, res, flags: CqeFlags::from_bits_retain(flags & !shape) }
            })
        };
    let small = cqe();
    let wide = (cqe(), any::<[u64; 2]>()).prop_map(|(first, big)| Cqe32 { first, big });
    prop_oneof![
        6 => cqe().prop_map(Step::Post),
        6 => wide.prop_map(Step::PostWide),
        1 => Just(Step::PostFiller),
        3 => Just(Step::FillLast),
        3 => small.prop_map(Step::Overstep),
        4 => Just(Step::Pop),
        4 => Just(Step::PopWide),
        1 => Just(Step::Drain),
        1 => Just(Step::DrainWide),
        2 => (0..6_usize).prop_map(|most| Step::Runs { most }),
        2 => (0..6_usize, any::<bool>()).prop_map(|(most, unwinds)| Step::Each { most, unwinds }),
        1 => (1..6_usize, any::<bool>()).prop_map(|(calls, wide)| Step::DrainInto { calls, wide }),
        2 => Just(Step::Ready),
        1 => any::<u32>().prop_map(Step::SetFlags),
    ]
}

/// The expected contents.
#[derive(Debug)]
pub struct Completions {
    shape: Shape,
    /// Posted and not popped, oldest first.
    posted: VecDeque<Cqe32>,
    popped: u64,
    ended: u64,
    flags: u32,
    /// After a filler in the last slot: the next completion may overwrite it.
    filled: Option<Index>,
}

impl Completions {
    pub fn new(shape: Shape) -> Self {
        Self { shape, posted: VecDeque::new(), popped: 0, ended: 0, flags: 0, filled: None }
    }

    pub fn run(&mut self, step: Step, cq: &mut CompletionQueue, kernel: &mut FakeKernel) {
        match step {
            Step::Post(first) => {
                // The second half of a slot is not written here: it keeps its contents.
                if self.shape.cqe == CqeShape::Double {
                    self.post_wide(Cqe32 { first, big: [0; 2] }, kernel);
                } else if kernel.post(first) {
                    self.posted.push_back(Cqe32 { first, big: [0; 2] });
                }
            }
            Step::PostWide(wide) if self.shape.cqe != CqeShape::Single => {
                self.post_wide(wide, kernel);
            }
            Step::PostFiller if self.shape.cqe == CqeShape::Mixed => {
                kernel.post(Cqe { flags: CqeFlags::SKIP, ..Cqe::ZERO });
            }
            Step::FillLast if self.shape.cqe == CqeShape::Mixed => {
                // A kernel starts at slot 0, so that each slot was used before. And in a ring of
                // two the filler is skipped, and the completion written over it is lost.
                let lap = kernel.cq_tail.last().to_raw().wrapping_sub(self.shape.start);
                if self.shape.cq_entries > 2 && lap >= self.shape.cq_entries && kernel.fill_last() {
                    self.filled = Some(kernel.cq_tail.last());
                }
            }
            Step::Overstep(first) if self.filled == Some(kernel.cq_tail.last()) => {
                kernel.overstep(first);
                self.posted.push_back(Cqe32 { first, big: [0; 2] });
            }
            Step::PostWide(_) | Step::PostFiller | Step::FillLast | Step::Overstep(_) => {}
            Step::Pop => {
                let popped = cq.pop();
                assert_eq!(popped, self.next().map(|wide| wide.first));
            }
            Step::PopWide => {
                let popped = cq.pop_wide();
                assert_eq!(popped, self.next());
            }
            Step::Drain => {
                let (mut seen, expected) = (Vec::new(), self.rest(usize::MAX));
                assert_eq!(cq.drain(|cqe| seen.push(cqe)).count as usize, expected.len());
                assert!(seen.iter().eq(expected.iter().map(|wide| &wide.first)));
                self.agree_on_slots(cq, kernel);
            }
            Step::DrainWide => {
                let (mut seen, expected) = (Vec::new(), self.rest(usize::MAX));
                assert_eq!(cq.drain_wide(|wide| seen.push(wide)).count as usize, expected.len());
                assert_eq!(seen, expected);
                self.agree_on_slots(cq, kernel);
            }
            Step::Runs { most } => {
                let mut seen = Vec::new();
                while seen.len() < most {
                    let before = seen.len();
                    take_run(cq, most - before, &mut seen);
                    if seen.len() == before {
                        break;
                    }
                }
                let expected = self.rest(most);
                assert!(seen.iter().eq(expected.iter().map(|wide| &wide.first)));
                self.agree_on_slots(cq, kernel);
            }
            Step::Each { most, unwinds } => self.each(most, unwinds, cq, kernel),
            Step::DrainInto { calls, wide } => self.drain_into(calls, wide, cq, kernel),
            Step::Ready => self.agree_on_slots(cq, kernel),
            Step::SetFlags(bits) => {
                assert!(cq.set_flags(CqRingFlags::from_bits_retain(bits)));
                self.flags = bits;
            }
        }
        assert_eq!((cq.popped(), cq.ended()), (self.popped, self.ended));
        assert_eq!(kernel.cq_flags.now(), self.flags);
        assert_eq!(cq.flags().map(|flags| flags.bits()), Some(self.flags));
    }

    fn post_wide(&mut self, wide: Cqe32, kernel: &mut FakeKernel) {
        if kernel.post_wide(wide) {
            let mut first = wide.first;
            if self.shape.cqe == CqeShape::Mixed {
                first.flags |= CqeFlags::CQE32;
            }
            self.posted.push_back(Cqe32 { first, big: wide.big });
        }
    }

    /// The completion that is popped next, taken off the queue.
    fn next(&mut self) -> Option<Cqe32> {
        let next = self.posted.pop_front()?;
        self.popped += 1;
        self.ended += u64::from(next.first.is_last());
        Some(next)
    }

    /// The next completions, at most so many, taken off the queue.
    fn rest(&mut self, most: usize) -> Vec<Cqe32> {
        (0..most).map_while(|_| self.next()).collect()
    }

    /// A closure that unwinds has consumed its completions: not twice, and the rest is still there.
    fn drain_into(
        &mut self,
        calls: usize,
        wide: bool,
        cq: &mut CompletionQueue,
        kernel: &FakeKernel,
    ) {
        struct Gone;
        let mut seen = Vec::new();
        let mut each = |cqe| {
            seen.push(cqe);
            if seen.len() == calls {
                resume_unwind(Box::new(Gone));
            }
        };
        let drain = || if wide { cq.drain_wide(|wide| each(wide.first)) } else { cq.drain(each) };
        let outcome = catch_unwind(AssertUnwindSafe(drain));
        let expected = self.rest(calls);
        assert!(seen.iter().eq(expected.iter().map(|wide| &wide.first)));
        match outcome {
            Ok(batch) => assert_eq!(batch.count as usize, seen.len()),
            Err(panic) => assert!(panic.is::<Gone>() && seen.len() == calls),
        }
        self.agree_on_slots(cq, kernel);
    }

    /// Takes at most so many, one after the other, and perhaps unwinds then.
    fn each(&mut self, most: usize, unwinds: bool, cq: &mut CompletionQueue, kernel: &FakeKernel) {
        let mut seen = Vec::new();
        let taken = catch_unwind(AssertUnwindSafe(|| {
            let mut completions = cq.completions();
            seen.extend(completions.by_ref().take(most));
            if unwinds {
                resume_unwind(Box::new(()));
            }
            completions.finish();
        }));
        assert_eq!(taken.is_err(), unwinds);
        let expected = self.rest(most);
        assert!(seen.iter().eq(expected.iter().map(|wide| &wide.first)));
        self.agree_on_slots(cq, kernel);
    }

    /// Popped slots went back to the kernel (CQ4), and no others did.
    fn agree_on_slots(&self, cq: &mut CompletionQueue, kernel: &FakeKernel) {
        assert!(cq.iter_ready().eq(self.posted.iter().copied()));
        assert_eq!(cq.ready() as usize, self.posted.len());
        assert_eq!(kernel.cq_used(), cq.slots_ready());
    }
}

/// Takes the completion that is alone, or a run of them, or one if they are not all of 16 bytes.
fn take_run(cq: &mut CompletionQueue, most: usize, seen: &mut Vec<Cqe>) {
    let indices = cq.indices();
    let one = indices.tail.distance_from(indices.head) == 1;
    let alone = cq.next_alone();
    assert_eq!(alone.is_some(), one && cq.shape() == CqeShape::Single);
    if let Some(cqe) = alone {
        seen.push(cqe);
    } else if let Some(run) = cq.next_run() {
        seen.extend(run.take(most));
    } else {
        seen.extend(cq.pop());
    }
}

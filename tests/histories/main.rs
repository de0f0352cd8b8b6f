//! Long random histories on every layout, against queues: the bytes, the counts, the flags.
//!
//! ```text
//!   SqeShape × CqeShape × Turn × 1..=64 slots × any start index
//!
//!   pushed ──flush──► visible ──consume──►          every byte as it was pushed
//!   posted ──pop, pop_wide, drain, drain_wide──►    every bit as it was posted, each once
//! ```
//!
//! A failing history shrinks to a short one. The two rings of a history are independent:
//! completions posted are not answers to entries pushed.

mod completions;
mod submissions;
#[path = "../support/mod.rs"]
mod support;

use annulus_sys::cq::CqeShape;
use annulus_sys::sq::{SqeShape, Turn};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use support::fake_kernel::{FakeKernel, Shape};

use completions::Completions;
use submissions::Submissions;

const SQE_SHAPES: [SqeShape; 3] = [SqeShape::Single, SqeShape::Double, SqeShape::Mixed];
const CQE_SHAPES: [CqeShape; 3] = [CqeShape::Single, CqeShape::Double, CqeShape::Mixed];

/// Ring sizes and a start index; half of them soon wrap.
fn sizes() -> impl Strategy<Value = (u32, u32, u32)> {
    let start = prop_oneof![(0..200_u32).prop_map(|before| u32::MAX - before), any::<u32>()];
    (0..=6_u32, 0..=6_u32, start).prop_map(|(sq, cq, start)| (1 << sq, 1 << cq, start))
}

/// Runs `cases` histories of up to 300 steps on each of `shapes`.
fn histories<S: Strategy>(
    cases: u32,
    shapes: impl Iterator<Item = (SqeShape, CqeShape, Turn)>,
    steps: impl Fn() -> S,
    run: impl Fn(Shape, Vec<S::Value>),
) where
    S::Value: Clone,
{
    let mut count = 0;
    for (sqe, cqe, turn) in shapes {
        let config = Config {
            cases,
            rng_seed: RngSeed::Fixed(0x5353_4344),
            failure_persistence: None,
            ..Config::default()
        };
        let outcome = TestRunner::new(config).run(
            &(sizes(), vec(steps(), 0..300)),
            |((sq_entries, cq_entries, start), steps)| {
                run(Shape { sq_entries, cq_entries, start, sqe, cqe, turn }, steps);
                Ok(())
            },
        );
        outcome.unwrap_or_else(|failure| panic!("{sqe:?} {cqe:?} {turn:?}: {failure}"));
        count += cases;
    }
    println!("{count} histories");
}

#[test]
fn sq2_sq3_sq4_each_entry_arrives_whole_and_in_order() {
    let turns = [Turn::Round, Turn::Rewind];
    let shapes =
        SQE_SHAPES.into_iter().flat_map(|sqe| turns.map(|turn| (sqe, CqeShape::Single, turn)));
    histories(500, shapes, submissions::steps, |shape, steps| {
        let (mut sq, _cq, mut kernel) = FakeKernel::new(shape);
        let mut model = Submissions::new(shape);
        for step in steps {
            model.run(step, &mut sq, &mut kernel);
        }
    });
}

#[test]
fn cq2_cq3_cq4_each_completion_arrives_whole_and_once() {
    let shapes = CQE_SHAPES.into_iter().map(|cqe| (SqeShape::Single, cqe, Turn::Round));
    histories(1000, shapes, completions::steps, |shape, steps| {
        let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
        let mut model = Completions::new(shape);
        for step in steps {
            model.run(step, &mut cq, &mut kernel);
        }
    });
}

#[derive(Debug, Clone)]
enum Either {
    Submission(submissions::Step),
    Completion(completions::Step),
}

/// Both halves of one ring at once, on all eighteen layouts: they share nothing that either could
/// notice.
#[test]
fn sq1_cq1_the_two_halves_do_not_disturb_each_other() {
    let turns = [Turn::Round, Turn::Rewind];
    let shapes = SQE_SHAPES.into_iter().flat_map(|sqe| {
        CQE_SHAPES.into_iter().flat_map(move |cqe| turns.map(move |turn| (sqe, cqe, turn)))
    });
    let steps = || {
        prop_oneof![
            submissions::steps().prop_map(Either::Submission),
            completions::steps().prop_map(Either::Completion),
        ]
    };
    histories(200, shapes, steps, |shape, steps| {
        let (mut sq, mut cq, mut kernel) = FakeKernel::new(shape);
        let (mut submissions, mut completions) = (Submissions::new(shape), Completions::new(shape));
        for step in steps {
            match step {
                Either::Submission(step) => submissions.run(step, &mut sq, &mut kernel),
                Either::Completion(step) => completions.run(step, &mut cq, &mut kernel),
            }
        }
    });
}

//! Random turns: whatever the kernel does, each completion is shown once, in order, and a turn that
//! succeeds has shown as many as were waited for.
//!
//! ```text
//!   push some ─► turn(want) or drain ─► shown = the oldest of what was posted, and enough of it
//!                  │
//!                  └ the kernel: consumes all or some, posts some, sets flags, is interrupted
//! ```

use std::sync::Arc;
use std::sync::Mutex;

use annulus::{EnterCause, RawRing};
use annulus_sys::abi::Cqe;
use annulus_sys::flags::{SetupFlags, SqRingFlags};
use proptest::prelude::*;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::support::fake_kernel::FakeKernel;
use crate::{push, ring};

/// What the kernel does in one enter.
#[derive(Debug, Clone, Copy)]
struct Answer {
    /// How many of the entries it leaves.
    leaves: u32,
    /// How many requests complete, at most.
    posts: u32,
    flags: SqRingFlags,
    fails: Option<i32>,
}

#[derive(Debug, Clone)]
struct Step {
    pushes: u32,
    /// `None`: a drain.
    want: Option<u32>,
    answers: Vec<Answer>,
    /// Completions that come between two calls, at most.
    between: u32,
}

fn answer() -> impl Strategy<Value = Answer> {
    let flags = prop_oneof![
        4 => Just(SqRingFlags::empty()),
        2 => Just(SqRingFlags::TASKRUN),
        1 => Just(SqRingFlags::CQ_OVERFLOW),
    ];
    let fails = prop_oneof![
        6 => Just(None),
        1 => Just(Some(libc::EINTR)),
        1 => Just(Some(libc::EBUSY)),
        1 => Just(Some(libc::EAGAIN)),
    ];
    (prop_oneof![4 => Just(0), 1 => 1..3_u32], 0..6_u32, flags, fails)
        .prop_map(|(leaves, posts, flags, fails)| Answer { leaves, posts, flags, fails })
}

fn step() -> impl Strategy<Value = Step> {
    let want = prop_oneof![1 => Just(None), 4 => (0..4_u32).prop_map(Some)];
    (0..4_u32, want, proptest::collection::vec(answer(), 0..4), 0..3_u32)
        .prop_map(|(pushes, want, answers, between)| Step { pushes, want, answers, between })
}

/// The requests that the kernel has, and the completions that it posted, by number.
#[derive(Debug, Default)]
struct Expected {
    requests: u64,
    posted: u64,
}

/// Posts the oldest requests, at most so many.
fn post(kernel: &mut FakeKernel, expected: &Mutex<Expected>, most: u32) {
    let mut expected = expected.lock().expect("no panic");
    for _ in 0..most {
        if expected.posted == expected.requests {
            return;
        }
        if kernel.post(Cqe { user_data: expected.posted, ..Cqe::ZERO }) {
            expected.posted += 1;
        }
    }
}

/// Makes the kernel answer so, and complete everything in the enter after that.
fn script(kernel: &Arc<DriverKernel>, answers: &[Answer], expected: &Arc<Mutex<Expected>>) {
    for &Answer { leaves, posts, flags, fails } in answers {
        let expected = Arc::clone(expected);
        kernel.enters(Enter::Run(Box::new(move |kernel, to_submit| {
            if let Some(errno) = fails {
                return Err(annulus_sys::errno::Errno::new(errno));
            }
            let count = to_submit.saturating_sub(leaves);
            for _ in 0..count {
                let _ = kernel.consume();
            }
            expected.lock().expect("no panic").requests += u64::from(count);
            post(kernel, &expected, posts);
            kernel.sq_flags.store(flags.bits());
            Ok(count)
        })));
    }
    // Patience for every wait that follows: everything completes.
    for _ in 0..64 {
        let expected = Arc::clone(expected);
        kernel.enters(Enter::Run(Box::new(move |kernel, to_submit| {
            for _ in 0..to_submit {
                let _ = kernel.consume();
            }
            expected.lock().expect("no panic").requests += u64::from(to_submit);
            post(kernel, &expected, u32::MAX >> 8);
            kernel.sq_flags.store(0);
            Ok(to_submit)
        })));
    }
}

fn run(flags: SetupFlags, steps: Vec<Step>) {
    let (mut ring, kernel) = ring(flags);
    let expected = Arc::new(Mutex::new(Expected::default()));
    let (mut pushed, mut shown) = (0_u64, 0_u64);
    for Step { pushes, want, answers, between } in steps {
        let room = u64::from(ring.room().min(pushes));
        push(&mut ring, pushed..pushed + room);
        pushed += room;
        kernel.kernel(|kernel| post(kernel, &expected, between));
        kernel.enters_no_more();
        script(&kernel, &answers, &expected);
        let before = shown;
        let each = |cqe: Cqe| {
            assert_eq!(cqe.user_data, shown, "each once, in order");
            shown += 1;
        };
        let ended = match want {
            Some(want) => ring.turn(want, each),
            None => ring.drain(each),
        };
        let posted = expected.lock().expect("no panic").posted;
        assert!(shown <= posted);
        match ended {
            Ok(count) => {
                assert_eq!(u64::from(count), shown - before);
                assert!(count >= want.unwrap_or(0), "{count} of {want:?}");
            }
            Err(error) => check(error.cause, &ring, pushed - shown),
        }
        assert_eq!(ring.stats().cqes, shown);
    }
}

/// An error has a reason.
fn check(cause: EnterCause, ring: &RawRing, left: u64) {
    match cause {
        EnterCause::NothingComing { want, .. } => assert!(u64::from(want) > left),
        EnterCause::Interrupted | EnterCause::CompletionsPending | EnterCause::OutOfRequests => {}
        other => panic!("{other:?} with {} in flight", ring.in_flight()),
    }
}

#[test]
fn cq5_a_turn_shows_each_completion_once_and_never_too_few() {
    let flags = [
        SetupFlags::empty(),
        SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG,
        SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN | SetupFlags::TASKRUN_FLAG,
    ];
    let steps = proptest::collection::vec(step(), 1..12);
    proptest!(ProptestConfig::with_cases(512), |(which in 0..3_usize, steps in steps)| {
        run(flags[which], steps);
    });
}

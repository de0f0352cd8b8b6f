//! CQ5: completions that the kernel holds back are asked for, and a call is made only then.

use std::sync::Arc;

use annulus::{RawRing, Setup};
use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::flags::{SetupFlags, SqRingFlags};
use annulus_sys::opcode::Opcode;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::{GETEVENTS, NONE, plain, push, push_as, ring};

/// The kernel holds completions back without a flag that says so.
const SILENT: [SetupFlags; 3] = [
    SetupFlags::COOP_TASKRUN,
    SetupFlags::SINGLE_ISSUER.union(SetupFlags::DEFER_TASKRUN),
    SetupFlags::IOPOLL,
];

/// The kernel holds none back, or raises a flag.
const OPEN: [SetupFlags; 5] = [
    SetupFlags::empty(),
    SetupFlags::SUBMIT_ALL,
    SetupFlags::COOP_TASKRUN.union(SetupFlags::TASKRUN_FLAG),
    SetupFlags::SINGLE_ISSUER.union(SetupFlags::DEFER_TASKRUN).union(SetupFlags::TASKRUN_FLAG),
    // The polling thread polls the device, too.
    SetupFlags::SQPOLL.union(SetupFlags::IOPOLL),
];

fn raise(kernel: &DriverKernel, flags: SqRingFlags) {
    kernel.kernel(|kernel| kernel.sq_flags.store(flags.bits()));
}

/// The kernel posts so many completions that it held back, then raises these flags.
fn let_go(count: u64, then: SqRingFlags) -> Enter {
    Enter::Run(Box::new(move |kernel, _| {
        for user_data in 0..count {
            assert!(kernel.post(Cqe { user_data, ..Cqe::ZERO }));
        }
        kernel.sq_flags.store(then.bits());
        Ok(0)
    }))
}

/// A ring with one request in flight, about which the kernel was not asked yet.
fn one_in_flight(flags: SetupFlags) -> (RawRing, Arc<DriverKernel>) {
    let (mut ring, kernel) = ring(flags);
    push(&mut ring, [1]);
    if flags.contains(SetupFlags::SQPOLL) {
        assert_eq!(ring.submit(), Ok(1));
    } else {
        kernel.enters(Enter::Consume(1));
        assert_eq!(ring.submit(), Ok(1));
        assert_eq!(kernel.took(), [(1, 0, NONE)]);
    }
    (ring, kernel)
}

#[test]
fn cq5_an_open_ring_is_not_asked_about() {
    for flags in OPEN {
        let (mut ring, kernel) = one_in_flight(flags);
        assert_eq!(ring.pop(), None);
        assert_eq!(ring.peek(), Ok(None));
        assert_eq!(ring.drain(|_| ()), Ok(0));
        assert_eq!(kernel.took(), [], "{flags:?}");
    }
}

#[test]
fn cq5_pop_never_asks() {
    for flags in SILENT {
        let (mut ring, kernel) = one_in_flight(flags);
        raise(&kernel, SqRingFlags::CQ_OVERFLOW | SqRingFlags::TASKRUN);
        assert_eq!((ring.pop(), ring.pop_wide()), (None, None));
        assert_eq!(kernel.took(), []);
    }
}

#[test]
fn cq5_what_is_flagged_is_asked_for_once() {
    for flag in [SqRingFlags::CQ_OVERFLOW, SqRingFlags::TASKRUN] {
        let (mut ring, kernel) = plain();
        raise(&kernel, flag);
        kernel.enters(let_go(1, SqRingFlags::empty()));
        assert!(ring.peek().is_ok_and(|cqe| cqe.is_some()));
        assert_eq!(ring.peek(), Ok(None));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS)]);
        raise(&kernel, flag);
        kernel.enters(let_go(2, SqRingFlags::empty()));
        assert_eq!(ring.drain(|_| ()), Ok(2));
        assert_eq!(ring.drain(|_| ()), Ok(0));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS)]);
    }
}

#[test]
fn cq5_a_flag_behind_which_there_is_nothing_does_not_hold_us() {
    let (mut ring, kernel) = plain();
    raise(&kernel, SqRingFlags::TASKRUN);
    assert_eq!(ring.peek(), Ok(None));
    assert_eq!(kernel.took(), [(0, 0, GETEVENTS)]);
    assert_eq!(ring.drain(|_| ()), Ok(0));
    assert_eq!(kernel.took(), [(0, 0, GETEVENTS)]);
}

#[test]
fn cq5_what_is_held_back_silently_is_asked_for_while_something_is_in_flight() {
    for flags in SILENT {
        let (mut ring, kernel) = one_in_flight(flags);
        assert_eq!(ring.peek(), Ok(None));
        assert_eq!(ring.drain(|_| ()), Ok(0));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS); 2], "{flags:?}");
        kernel.enters(let_go(1, SqRingFlags::empty()));
        assert!(ring.peek().is_ok_and(|cqe| cqe.is_some()));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS)], "{flags:?}");
        assert_eq!(ring.peek(), Ok(None));
        assert_eq!(ring.drain(|_| ()), Ok(0));
        assert_eq!(kernel.took(), [], "{flags:?}");
    }
}

#[test]
fn cq5_a_ring_that_cannot_count_is_asked_about() {
    for flags in SILENT {
        let (mut ring, kernel) = ring(flags);
        ring.expect_others();
        assert_eq!(ring.peek(), Ok(None));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS)], "{flags:?}");
        let (mut ring, kernel) = one_in_flight(flags);
        push_as(&mut ring, Sqe { opcode: Opcode::SEND_ZC, ..Sqe::ZERO });
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        assert!(ring.pop().is_some());
        kernel.took();
        assert_eq!(ring.peek(), Ok(None));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS)], "{flags:?}");
    }
}

#[test]
fn cq5_what_is_ready_is_taken_without_asking() {
    for flags in SILENT {
        let (mut ring, kernel) = one_in_flight(flags);
        assert!(kernel.post(1, 0));
        raise(&kernel, SqRingFlags::TASKRUN);
        assert!(ring.peek().is_ok_and(|cqe| cqe.is_some()));
        assert_eq!(kernel.took(), [], "{flags:?}");
    }
}

#[test]
fn cq5_a_drain_goes_on_while_more_comes() {
    let (mut ring, kernel) = plain();
    let full = SqRingFlags::CQ_OVERFLOW;
    for user_data in 100..108 {
        assert!(kernel.post(user_data, 0));
    }
    raise(&kernel, full);
    kernel.enters(let_go(8, full));
    kernel.enters(let_go(3, SqRingFlags::empty()));
    let mut seen = Vec::new();
    assert_eq!(ring.drain(|cqe| seen.push(cqe.user_data)), Ok(19));
    let expected: Vec<u64> = (100..108).chain(0..8).chain(0..3).collect();
    assert_eq!(seen, expected);
    assert_eq!(kernel.took(), [(0, 0, GETEVENTS); 2]);
    assert_eq!(ring.stats().overflows, 2);
}

#[test]
fn cq5_a_drain_ends_when_nothing_more_comes_whatever_is_flagged() {
    let (mut ring, kernel) = plain();
    raise(&kernel, SqRingFlags::CQ_OVERFLOW);
    kernel.enters(let_go(5, SqRingFlags::CQ_OVERFLOW));
    kernel.enters(let_go(0, SqRingFlags::CQ_OVERFLOW));
    assert_eq!(ring.drain(|_| ()), Ok(5));
    assert_eq!(kernel.took(), [(0, 0, GETEVENTS); 2]);
}

/// As many completions come as are taken: a drain sees a thousand, and so does the next.
#[test]
fn a_drain_ends_while_more_comes_than_it_takes() {
    let full = SqRingFlags::CQ_OVERFLOW;
    let flooded = || {
        let (ring, kernel) = plain();
        raise(&kernel, full);
        (0..300).for_each(|_| kernel.enters(let_go(8, full)));
        (ring, kernel)
    };
    let (mut ring, kernel) = flooded();
    assert_eq!(ring.drain(|_| ()), Ok(1024));
    assert_eq!(kernel.took(), [(0, 0, GETEVENTS); 128]);
    assert_eq!(ring.drain_wide(|_| ()), Ok(1024));
    assert_eq!(kernel.took(), [(0, 0, GETEVENTS); 128]);
    kernel.enters_no_more();
    let (ring, kernel) = flooded();
    let (_submitter, mut reaper) = ring.split().expect("fit for two threads");
    assert_eq!(reaper.drain(|_| ()), Ok(1024));
    assert_eq!(kernel.took(), [(0, 0, GETEVENTS); 128]);
    kernel.enters_no_more();
}

#[test]
fn get_events_is_one_call() {
    for flags in OPEN {
        let (mut ring, kernel) = ring(flags);
        assert_eq!(ring.get_events(), Ok(()));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS)]);
    }
}

#[test]
fn cq5_a_reaper_asks_when_it_cannot_know() {
    for (flags, asks) in [
        (SetupFlags::empty(), false),
        (SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG, false),
        (SetupFlags::COOP_TASKRUN, true),
        (SetupFlags::IOPOLL, true),
    ] {
        let (ring, kernel) = ring(flags);
        let (_submitter, mut reaper) = ring.split().expect("fit for two threads");
        let expected = if asks { vec![(0, 0, GETEVENTS)] } else { vec![] };
        assert_eq!(reaper.peek(), Ok(None));
        assert_eq!(kernel.took(), expected, "{flags:?}");
        assert_eq!(reaper.drain(|_| ()), Ok(0));
        assert_eq!(kernel.took(), expected, "{flags:?}");
        raise(&kernel, SqRingFlags::TASKRUN);
        kernel.enters(let_go(1, SqRingFlags::empty()));
        assert!(reaper.peek().is_ok_and(|cqe| cqe.is_some()));
        raise(&kernel, SqRingFlags::CQ_OVERFLOW);
        kernel.enters(let_go(2, SqRingFlags::empty()));
        assert_eq!(reaper.drain(|_| ()), Ok(2));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS); 2], "{flags:?}");
        assert_eq!((reaper.stats().enters, reaper.stats().overflows), (2 + 2 * u64::from(asks), 1));
    }
}

#[test]
fn a_recommended_ring_is_told_what_is_held_back() {
    let kernel = DriverKernel::new();
    let mut ring = kernel.ring(Setup::new(4));
    push(&mut ring, [1]);
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit(), Ok(1));
    assert_eq!(ring.peek(), Ok(None));
    assert_eq!(kernel.took(), [(1, 0, NONE)]);
}

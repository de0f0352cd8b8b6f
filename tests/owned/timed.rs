//! The ticket of an operation with a time limit, once its chain was taken apart: two slots, two
//! ends, two user values.

use std::sync::Arc;
use std::time::Duration;

use annulus::op::Nop;
use annulus::sys::abi::Cqe;
use annulus::sys::flags::CqeFlags;
use annulus::{Event, Ring, Setup, StepExt as _, TimedTicket};

use crate::support::backend::{Enter, Script, ScriptedKernel};

/// A ring with a NOP of an hour in flight.
fn begun() -> (Ring<u32>, Arc<Script>, TimedTicket<Nop>) {
    let (kernel, script) = ScriptedKernel::new();
    let mut ring = Setup::plain(8).kernel(kernel).build_for().expect("a ring");
    script.enters(Enter::Consume(2));
    let chain = ring.submit_chain((Nop.within(Duration::from_secs(3600)),)).expect("room");
    let (timed,) = chain.into_tickets();
    ring.submit_all().expect("submit");
    (ring, script, timed)
}

/// The first operation in `slot` ends.
fn ends(ring: &mut Ring<u32>, script: &Script, slot: u32, res: i32) -> Vec<(u32, u32)> {
    let cqe = Cqe { user_data: 1 << 32 | u64::from(slot), res, flags: CqeFlags::empty() };
    assert!(script.kernel(|kernel| kernel.post(cqe)));
    let mut events = Vec::new();
    let reaped = ring.reap(|event| match event {
        Event::Ended { user, slot, .. } => events.push((slot, *user)),
        other => panic!("{other:?}"),
    });
    assert_eq!(reaped, Ok(1));
    events
}

#[test]
fn the_user_value_that_was_put_last_comes_with_the_last_end() {
    for operation_first in [true, false] {
        let (mut ring, script, timed) = begun();
        let slots = [timed.slot(), timed.timeout_slot()];
        assert_eq!(slots[0], timed.operation().slot());
        assert_ne!(slots[0], slots[1]);
        let [first, last] = if operation_first { slots } else { [slots[1], slots[0]] };
        let result = |slot| if slot == timed.slot() { 0 } else { -libc::ECANCELED };
        *ring.user(&timed) = 7;
        let shown = if operation_first { 7 } else { 0 };
        assert_eq!(ends(&mut ring, &script, first, result(first)), [(first, shown)]);
        let result = result(last);
        let timed = ring.try_take(timed).expect_err("half of it is in flight");
        *ring.user(&timed) = 8;
        assert_eq!(ends(&mut ring, &script, last, result), [(last, 8)]);
        let timed = ring.try_take(timed).expect("both have ended");
        assert!(!timed.expired);
        timed.output.expect("a NOP succeeds");
    }
}

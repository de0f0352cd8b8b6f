//! A raw ring that is disabled at first: restricted, and enabled by a shared reference.
#![allow(unsafe_code, reason = "reserves slots for entries that point to nothing")]

use std::time::Duration;

use annulus::raw::register::{RegisterError, Restrictions, RingMemory};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::map::Pages;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::sys::syscall::EnterArg;
use annulus::{EnterCause, EnterError, RawRing, Setup, WaitOptions, Woken, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{
    DEFERRING, Need, Part, child_succeeds, drain_user_data, nop, patient, push, ring, test,
};
use crate::processes::{Side, end_with, fork, outcome, works};
use crate::sqpoll::POLLS;

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[("a forked child makes a disabled ring raw", child_makes_it_raw)];

const MOMENT: Duration = Duration::from_millis(1);

/// The tests.
pub fn tests() -> Vec<Trial> {
    let fd_only = SetupFlags::REGISTERED_FD_ONLY;
    let by_index = [Need::Setup(fd_only), Need::Feature(Features::REG_REG_RING)];
    let waits = [Need::Register(RegisterOp::MEM_REGION), Need::Feature(Features::EXT_ARG)];
    vec![
        test("a_raw_ring_is_enabled_once_by_a_shared_reference", &[], || once(Setup::plain(4))),
        test("a_deferring_raw_ring_is_enabled_once", &[Need::Setup(DEFERRING)], || {
            once(Setup::plain(4).with(DEFERRING))
        }),
        test("a_raw_ring_without_descriptor_is_enabled_once", &by_index, move || {
            once(Setup::plain(4).own_memory(Pages::Ordinary).with(fd_only))
        }),
        test("a_disabled_ring_times_no_wait", &[Need::Feature(Features::EXT_ARG)], no_waits),
        test("a_ring_that_was_not_disabled_is_enabled_already", &[], never_disabled),
        test("a_raw_ring_is_restricted_once_while_it_is_disabled", &[], restricted),
        test("a_raw_ring_is_restricted_to_register_calls", &[], restricted_calls),
        test("a_disabled_ring_with_a_poller_says_so_and_does_not_spin", &[POLLS], polled),
        test("a_disabled_ring_becomes_raw_with_its_region", &waits, with_region),
        test("a_forked_child_does_not_enter_the_disabled_ring_that_it_makes_raw", &[], || {
            child_succeeds("a forked child makes a disabled ring raw")
        }),
    ]
}

fn disabled(setup: Setup<'_>) -> RawRing {
    patient(|| setup.build_raw_disabled()).expect("a ring can be made here")
}

fn is_disabled<T>(result: Result<T, EnterError>) -> bool {
    result
        .err()
        .is_some_and(|error| error.cause == EnterCause::Disabled && error.errno().is(libc::EBADFD))
}

fn once(setup: Setup<'_>) -> Result<(), Failed> {
    let mut ring = disabled(setup);
    push(&mut ring, nop(1));
    assert!(is_disabled(ring.submit()), "it is pushed, and not submitted");
    assert!(is_disabled(ring.submit_and_wait(1)));
    assert!(is_disabled(ring.get_events()));
    let entered = ring.enter(1, 0, EnterFlags::GETEVENTS, EnterArg::None);
    assert_eq!(entered, Err(Errno::new(libc::EBADFD)));
    assert_eq!((ring.pop(), ring.in_flight()), (None, 1));

    let shared = &ring;
    shared.enable()?;
    assert_eq!(shared.enable(), Err(RegisterError::Enabled));
    assert_eq!(RegisterError::Enabled.errno(), Errno::new(libc::EBADFD));
    push(&mut ring, nop(2));
    assert_eq!(ring.submit_and_wait(2), Ok(2), "what was pushed before, too");
    assert_eq!(drain_user_data(&mut ring), [1, 2]);
    assert_eq!(ring.enable(), Err(RegisterError::Enabled));
    Ok(())
}

fn no_waits() -> Result<(), Failed> {
    let mut ring = disabled(Setup::plain(4));
    assert!(is_disabled(ring.wait_timeout(1, MOMENT)));
    push(&mut ring, nop(1));
    assert!(is_disabled(ring.submit_and_wait_timeout(1, MOMENT)));
    ring.enable()?;
    assert_eq!(ring.submit_and_wait_timeout(1, MOMENT)?, (1, Woken::Ready));
    Ok(())
}

fn never_disabled() -> Result<(), Failed> {
    let ring = ring(Setup::plain(4));
    assert_eq!(ring.enable(), Err(RegisterError::Enabled));
    assert_eq!(ring.restrict(&Restrictions::new()), Err(RegisterError::Enabled));
    Ok(())
}

fn result(ring: &mut RawRing, op: Opcode) -> i32 {
    push(ring, annulus::sys::abi::Sqe { opcode: op, fd: -1, ..nop(1) });
    ring.submit_and_wait(1).expect("submit");
    ring.pop().expect("its completion").res
}

fn restricted() -> Result<(), Failed> {
    let mut ring = disabled(Setup::plain(4));
    ring.restrict(&Restrictions::new().allow(Opcode::NOP))?;
    let again = ring.restrict(&Restrictions::new().allow(Opcode::READ));
    assert!(matches!(again, Err(RegisterError::InUse { .. })), "{again:?}");
    ring.probe()?; // Everything may be asked until it is enabled.
    ring.enable()?;
    assert_eq!(
        ring.restrict(&Restrictions::new()),
        Err(RegisterError::Restricted { call: "RESTRICTIONS" })
    );
    assert_eq!(ring.probe(), Err(RegisterError::Restricted { call: "PROBE" }));
    assert_eq!(result(&mut ring, Opcode::NOP), 0);
    assert_eq!(result(&mut ring, Opcode::READ), -libc::EACCES);
    Ok(())
}

fn restricted_calls() -> Result<(), Failed> {
    let mut ring = disabled(Setup::plain(4));
    ring.restrict(&Restrictions::new().allow_register(RegisterOp::PROBE))?;
    ring.enable()?;
    assert!(ring.probe()?.has(Opcode::NOP), "what the kernel has, not what the ring may do");
    assert_eq!(result(&mut ring, Opcode::NOP), -libc::EACCES);
    assert_eq!(ring.enable(), Err(RegisterError::Enabled), "that is allowed, and too late");
    Ok(())
}

fn polled() -> Result<(), Failed> {
    let mut ring = disabled(Setup::plain(4).sqpoll(Duration::from_secs(60)));
    (1..4).for_each(|user_data| push(&mut ring, nop(user_data)));
    // Published, and nobody takes them; refused only if the poller asks to be woken.
    let submitted = ring.submit();
    assert!(submitted == Ok(3) || is_disabled(submitted));
    assert_eq!(ring.room(), 1);
    assert!(is_disabled(ring.reserve(2).map(drop)), "one slot is free");
    push(&mut ring, nop(4));
    assert!(is_disabled(ring.wait_for_room()), "no slot is free");
    ring.enable()?;
    ring.wait_for_room()?;
    ring.wait(4)?;
    assert_eq!(drain_user_data(&mut ring), [1, 2, 3, 4]);
    let mut chain = ring.reserve(4)?;
    for _ in 0..4 {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { chain.push(prep::nop()) }?;
    }
    chain.commit();
    ring.submit_and_wait(4)?;
    Ok(())
}

fn with_region() -> Result<(), Failed> {
    let mut early = patient(|| Setup::plain(4).build_disabled())?;
    let mut region = early.register_wait_region(1, RingMemory::User)?;
    let slot = region.slot(0).ok_or("the first")?;
    region.set(slot, Some(MOMENT), None);
    let mut ring = early.into_raw();
    assert!(is_disabled(ring.get_events()));
    ring.enable()?;
    let waited = ring.wait_with(1, &WaitOptions::FOREVER.in_slot(slot));
    assert_eq!(waited?, Woken::TimedOut);
    Ok(())
}

fn child_makes_it_raw() {
    let early = patient(|| Setup::plain(4).build_disabled()).expect("a ring can be made here");
    match fork() {
        Side::Child => end_with(|| {
            let mut ring = early.into_raw();
            let entered = ring.enter(0, 0, EnterFlags::GETEVENTS, EnterArg::None);
            assert_eq!(entered, Err(Errno::new(libc::ECHILD)));
            assert_eq!(ring.enable(), Err(RegisterError::OtherProcess));
            assert_eq!(ring.submit_and_wait(0).map_err(|e| e.cause), Err(EnterCause::OtherProcess));
            assert!(ring.into_send().is_err());
        }),
        Side::Parent(child) => assert_eq!(outcome(child), 0),
    }
    let mut ring = early.into_raw();
    ring.enable().expect("it is disabled still");
    works(&mut ring);
}

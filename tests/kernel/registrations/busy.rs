//! Busy polling is set, read back and ended; and a wait uses either clock.
//!
//! To poll for packets takes a network card; a loopback device has no queue to poll. The tests
//! check only that the kernel keeps the settings, and that waits still end. The two clocks differ
//! only by the time that the machine was suspended.

use std::time::Duration;

use annulus::lease::RegisterError;
use annulus::raw::register::{BusyPoll, Prefer, Tracking, WaitClock};
use annulus::sys::opcode::RegisterOp;
use annulus::{Setup, Woken};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, ring, test};

const POLLS: [Need; 3] = [
    Need::Register(RegisterOp::NAPI),
    Need::Register(RegisterOp::UNREGISTER_NAPI),
    Need::Other(polls_nothing),
];
const STATIC: [Need; 1] = [Need::Other(adds_nothing)];
const CLOCK: [Need; 1] = [Need::Register(RegisterOp::CLOCK)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("the_kernel_tells_how_it_polled_before", &POLLS, told),
        test("each_tracking_of_queues_is_kept", &STATIC, trackings),
        test("queues_are_added_once_and_taken_out_once", &STATIC, queues),
        test("too_long_a_busy_poll_is_refused_with_a_message", &[], too_long),
        test("a_wait_goes_by_either_clock", &CLOCK, clocks),
        test("a_clock_before_6_12_says_so", &[Need::Other(lacks_clocks)], says_so),
    ]
}

fn lacks_clocks() -> Option<String> {
    let has = here().has_register(RegisterOp::CLOCK);
    has.then(|| "needs a kernel without CLOCK".to_owned())
}

fn poll(micros: u64, prefer: Prefer, tracking: Tracking) -> BusyPoll {
    BusyPoll { time: Duration::from_micros(micros), prefer, tracking }
}

fn set(tracking: Tracking) -> Result<BusyPoll, RegisterError> {
    ring(Setup::plain(1)).set_busy_poll(poll(1, Prefer::Interrupts, tracking))
}

/// A kernel may be built without busy polling, so it is tried.
fn polls_nothing() -> Option<String> {
    let error = set(Tracking::Dynamic).err()?;
    Some(format!("needs Linux 6.9 with CONFIG_NET_RX_BUSY_POLL: {error}"))
}

fn adds_nothing() -> Option<String> {
    let error = set(Tracking::Static).err()?;
    Some(format!("needs Linux 6.13 with CONFIG_NET_RX_BUSY_POLL: {error}"))
}

fn told() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(1));
    let first = ring.set_busy_poll(poll(50, Prefer::Polling, Tracking::Dynamic))?;
    assert_eq!((first.time, first.prefer), (Duration::ZERO, Prefer::Interrupts));
    let second = ring.set_busy_poll(poll(7, Prefer::Interrupts, Tracking::Dynamic))?;
    assert_eq!(second, poll(50, Prefer::Polling, Tracking::Dynamic));
    ring.expect_others();
    assert_eq!(ring.wait_timeout(1, Duration::from_millis(1))?, Woken::TimedOut);
    let last = ring.end_busy_poll()?;
    assert_eq!((last.time, last.prefer), (Duration::from_micros(7), Prefer::Interrupts));
    assert_eq!(ring.end_busy_poll()?.time, Duration::ZERO);
    Ok(())
}

fn trackings() -> Result<(), Failed> {
    let ring = ring(Setup::plain(1));
    for tracking in [Tracking::Static, Tracking::Dynamic, Tracking::Static] {
        ring.set_busy_poll(poll(3, Prefer::Interrupts, tracking))?;
        let before = ring.set_busy_poll(poll(3, Prefer::Interrupts, tracking))?;
        assert_eq!(before.tracking, tracking);
    }
    ring.end_busy_poll()?;
    let none = ring.set_busy_poll(poll(3, Prefer::Interrupts, Tracking::Inactive));
    assert!(matches!(none, Err(RegisterError::Invalid { .. })), "{none:?}");
    let before = ring.set_busy_poll(poll(3, Prefer::Interrupts, Tracking::Dynamic))?;
    assert_eq!(before.tracking, Tracking::Inactive);
    Ok(())
}

fn queues() -> Result<(), Failed> {
    let ring = ring(Setup::plain(1));
    let id = 1 << 20;
    ring.add_napi_id(id).expect_err("queues are not tracked so");
    ring.set_busy_poll(poll(3, Prefer::Interrupts, Tracking::Static))?;
    ring.add_napi_id(id)?;
    let what = "queue of that id";
    assert_eq!(ring.add_napi_id(id), Err(RegisterError::InUse { what }));
    ring.remove_napi_id(id)?;
    assert_eq!(ring.remove_napi_id(id), Err(RegisterError::Missing { what }));
    assert!(matches!(ring.add_napi_id(0), Err(RegisterError::Invalid { .. })), "0 is no queue");
    Ok(())
}

fn too_long() -> Result<(), Failed> {
    let error = ring(Setup::plain(1)).set_busy_poll(poll(
        u64::from(u32::MAX) + 1,
        Prefer::Interrupts,
        Tracking::Dynamic,
    ));
    assert!(matches!(error, Err(RegisterError::Invalid { .. })), "{error:?}");
    Ok(())
}

fn clocks() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(1));
    ring.expect_others();
    for clock in [WaitClock::Boottime, WaitClock::Monotonic] {
        ring.set_wait_clock(clock)?;
        assert_eq!(ring.wait_timeout(1, Duration::from_millis(1))?, Woken::TimedOut, "{clock:?}");
    }
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let error = ring(Setup::plain(1)).set_wait_clock(WaitClock::Monotonic).unwrap_err();
    assert_eq!(error.to_string(), "CLOCK needs Linux 6.12");
    Ok(())
}

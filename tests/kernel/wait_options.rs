//! How long a wait lasts, and what may end it: each form, raw API and safe API.
//!
//! The clock decides no test. A wait must not be too short; and whatever is to end a wait is there
//! before it begins.
#![allow(unsafe_code, reason = "registers memory and clocks")]

use std::io::{PipeWriter, Write};
use std::time::{Duration, Instant};

use annulus::op::{Clock, Nop, Read};
use annulus::sys::abi::{RegWait, Timespec};
use annulus::sys::abi_register::{ClockRegister, MemRegionReg, RegionDesc};
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::flags_register::{MemRegionFlags, RegWaitFlags, RegionDescFlags};
use annulus::sys::map::{Map, Pages, page_size};
use annulus::sys::opcode::RegisterOp;
use annulus::{
    DisabledRing, EnterCause, EnterError, RawRing, Ring, Setup, Ticket, WaitOptions, Woken,
};
use libtest_mimic::{Failed, Trial};

use crate::harness::{
    DEFERRING, Need, drain_user_data, here, in_each_mode, nop, patient, push, read_byte, ring,
    safe_ring, test,
};

#[path = "masks.rs"]
mod masks;
#[path = "slots.rs"]
mod slots;

const BOUNDED: Need = Need::Enter(EnterFlags::EXT_ARG);
const MIN_WAIT: Need = Need::Feature(Features::MIN_TIMEOUT);
const IOWAIT: Need = Need::Enter(EnterFlags::NO_IOWAIT);
const SAID: Need = Need::Feature(Features::NO_IOWAIT);
/// Points in time, by the kernel's own clock.
const POINTS: Need = Need::Enter(EnterFlags::ABS_TIMER);
const STORED: Need = Need::Enter(EnterFlags::EXT_ARG_REG);
const REGION: Need = Need::Register(RegisterOp::MEM_REGION);
const CLOCK: Need = Need::Register(RegisterOp::CLOCK);

/// Longer than anything here takes.
const A_MINUTE: Duration = Duration::from_secs(60);
/// As long as something is waited for in vain.
pub const A_WHILE: Duration = Duration::from_millis(5);

/// The tests.
pub fn tests() -> Vec<Trial> {
    let on_counted = Need::Other(|| {
        let lacks = !here().features().contains(Features::NO_IOWAIT);
        (!lacks).then(|| "needs a kernel without NO_IOWAIT".to_owned())
    });
    [
        in_each_mode("a_wait_ends_at_a_time_of_each_clock", &[BOUNDED], each_clock),
        in_each_mode(
            "a_wait_with_options_takes_the_completions_that_are_there",
            &[BOUNDED],
            result_kind,
        ),
        vec![
            test("a_wait_goes_by_the_clock_that_it_names", &[BOUNDED, CLOCK, POINTS], other_clock),
            test("a_wait_without_iowait_is_a_wait", &[BOUNDED, IOWAIT, SAID], uncounted),
            test("no_wait_without_iowait_before_6_15", &[on_counted], no_uncounted),
            test("an_operation_is_waited_for_until_a_time", &[BOUNDED], one_operation),
            test("an_operation_is_waited_for_among_others", &[BOUNDED], among_others),
            test("events_are_waited_for_with_options", &[BOUNDED], events),
            test("a_minimum_wait_for_events_is_content_with_one", &[MIN_WAIT], min_events),
            test("a_limit_ends_a_wait_before_a_longer_minimum", &[MIN_WAIT], longer_minimum),
            test("a_reaper_waits_with_options", &[BOUNDED], reaper),
        ],
        masks::tests(),
        slots::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn plain(flags: SetupFlags) -> RawRing {
    ring(Setup::plain(4).with(flags))
}

fn cause<T>(result: Result<T, EnterError>) -> Option<EnterCause> {
    result.err().map(|error| error.cause)
}

/// A ring with a read in flight that ends when the pipe is written to.
fn endless(mut ring: RawRing) -> Result<(RawRing, PipeWriter), Failed> {
    let (from, to) = std::io::pipe()?;
    push(&mut ring, read_byte(&from, 1));
    ring.submit()?;
    std::mem::forget(from);
    Ok((ring, to))
}

fn each_clock(flags: SetupFlags) -> Result<(), Failed> {
    let (mut ring, mut to) = endless(plain(flags))?;
    for clock in [Clock::Monotonic, Clock::Boottime, Clock::Realtime] {
        for ahead in [A_WHILE, Duration::ZERO] {
            let time = clock.now() + ahead;
            let options = WaitOptions::until(clock, time);
            assert_eq!(ring.wait_with(1, &options), Ok(Woken::TimedOut));
            assert!(clock.now() >= time, "{clock:?}");
            assert_eq!(ring.submit_and_wait_with(1, &options), Ok((0, Woken::TimedOut)));
        }
        let past = WaitOptions::until(clock, Duration::from_secs(1));
        assert_eq!(ring.wait_with(1, &past), Ok(Woken::TimedOut));
    }
    to.write_all(b"x")?;
    let later = WaitOptions::until(Clock::Monotonic, Clock::Monotonic.now() + A_MINUTE);
    assert_eq!(ring.wait_with(1, &later), Ok(Woken::Ready));
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

fn result_kind(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let never = WaitOptions::until(Clock::Boottime, Duration::MAX);
    for options in [WaitOptions::FOREVER, WaitOptions::at_most(A_MINUTE), never] {
        push(&mut ring, nop(1));
        push(&mut ring, nop(2));
        assert_eq!(ring.submit_and_wait_with(2, &options), Ok((2, Woken::Ready)));
        assert_eq!(ring.wait_with(2, &options), Ok(Woken::Ready));
        assert_eq!(drain_user_data(&mut ring), [1, 2]);
    }
    let nothing = EnterCause::NothingComing { want: 1, coming: 0 };
    assert_eq!(cause(ring.wait_with(1, &WaitOptions::FOREVER)), Some(nothing));
    assert_eq!(ring.wait_with(1, &WaitOptions::at_most(A_WHILE)), Ok(Woken::TimedOut));
    let (mut ring, _to) = endless(ring)?;
    let started = Instant::now();
    assert_eq!(ring.wait_with(1, &WaitOptions::at_most(A_WHILE)), Ok(Woken::TimedOut));
    assert!(started.elapsed() >= A_WHILE);
    Ok(())
}

/// The ring's clock is ahead of the one that the wait names, on a system that was suspended; and no
/// wait is too short.
fn other_clock() -> Result<(), Failed> {
    let (mut ring, _to) = endless(plain(SetupFlags::empty()))?;
    let clockid = libc::CLOCK_BOOTTIME.cast_unsigned();
    let mut arg = ClockRegister { clockid, resv: [0; 3] };
    // SAFETY: one live `struct io_uring_clock_register`, because it is a local.
    unsafe { ring.base().register(RegisterOp::CLOCK, (&raw mut arg).cast(), 0) }?;
    for clock in [Clock::Monotonic, Clock::Boottime] {
        let time = clock.now() + A_WHILE;
        assert_eq!(ring.wait_with(1, &WaitOptions::until(clock, time)), Ok(Woken::TimedOut));
        assert!(clock.now() >= time, "{clock:?}");
    }
    Ok(())
}

/// How often the handler ran on this thread, which has a signal to itself.
fn small() -> Ring {
    safe_ring(Setup::new(8))
}

type Reading = Ticket<Read<std::io::PipeReader, [u8; 1]>>;

/// A read that ends when the pipe is written to.
fn reading(ring: &mut Ring) -> Result<(Reading, PipeWriter), Failed> {
    let (from, to) = std::io::pipe()?;
    let read = ring.submit(Read::new(from, [0; 1])).map_err(|rejected| rejected.why)?;
    Ok((read, to))
}

fn uncounted() -> Result<(), Failed> {
    let (mut ring, mut to) = endless(plain(SetupFlags::empty()))?;
    let options = WaitOptions::at_most(A_WHILE).without_iowait();
    assert_eq!(ring.wait_with(1, &options), Ok(Woken::TimedOut));
    to.write_all(b"x")?;
    assert_eq!(ring.wait_with(1, &WaitOptions::FOREVER.without_iowait()), Ok(Woken::Ready));
    Ok(())
}

fn no_uncounted() -> Result<(), Failed> {
    let mut ring = plain(SetupFlags::empty());
    push(&mut ring, nop(1));
    let options = WaitOptions::FOREVER.without_iowait();
    let what = "a wait that does not count as one for a device";
    let unsupported = EnterCause::Unsupported { what, since: "6.15" };
    assert_eq!(cause(ring.submit_and_wait_with(1, &options)), Some(unsupported));
    // Nothing is lost.
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    Ok(())
}

/// A ring with a region made by hand; its second slot contains `A_WHILE`, and the first nothing.
/// The kernel takes a region only while the ring is disabled.
pub fn disabled_with_region() -> Result<DisabledRing, Failed> {
    let disabled = patient(|| Setup::plain(4).with(DEFERRING).build_disabled())?;
    let map = Map::own(page_size(), Pages::Ordinary)?;
    let (ts, flags) = (Timespec::from(A_WHILE), RegWaitFlags::TS);
    let place = map.at::<RegWait>(0, 2);
    // SAFETY: in bounds, because `at` checked.
    let second = unsafe { place.add(1) };
    // SAFETY: in bounds, likewise; nothing else has the memory yet, because it is new.
    unsafe { second.write(RegWait { ts, flags, ..RegWait::default() }) };
    let mut region = RegionDesc {
        user_addr: map.address(),
        size: page_size() as u64,
        flags: RegionDescFlags::TYPE_USER,
        ..RegionDesc::default()
    };
    let mut arg = MemRegionReg {
        region_uptr: (&raw mut region).expose_provenance() as u64,
        flags: MemRegionFlags::REG_WAIT_ARG,
        ..MemRegionReg::default()
    };
    let base = disabled.rings().base();
    // SAFETY: one live argument that names a live description of memory that is never unmapped,
    // since `Map::own` leaks it (RG1).
    unsafe { base.register(RegisterOp::MEM_REGION, (&raw mut arg).cast(), 1) }?;
    Ok(disabled)
}

fn one_operation() -> Result<(), Failed> {
    let mut ring = small();
    let (mut read, mut to) = reading(&mut ring)?;
    let until = WaitOptions::until(Clock::Monotonic, Clock::Monotonic.now() + A_WHILE);
    for options in [WaitOptions::at_most(A_WHILE), until.clone(), until.clone()] {
        read = match ring.wait_with(read, &options.min_wait(A_MINUTE)) {
            Ok(_) => return Err("nothing was written".into()),
            Err(unfinished) => {
                assert_eq!(unfinished.why.cause, EnterCause::TimedOut);
                unfinished.ticket
            }
        };
    }
    assert!(Clock::Monotonic.now() >= A_WHILE);
    to.write_all(b"y")?;
    let read = ring.wait_with(read, &WaitOptions::at_most(A_MINUTE))?;
    assert_eq!((read.result?, read.buf), (1, *b"y"));
    // A completed operation is redeemed, even when the time is up.
    let nop = ring.submit(Nop)?;
    ring.submit_and_wait(1)?;
    assert_eq!(ring.wait_with(nop, &until)??, 0);
    Ok(())
}

fn among_others() -> Result<(), Failed> {
    let mut ring = small();
    let (read, mut to) = reading(&mut ring)?;
    let nops = [ring.submit(Nop)?, ring.submit(Nop)?];
    to.write_all(b"z")?;
    assert_eq!(ring.wait_with(read, &WaitOptions::at_most(A_MINUTE))?.buf, *b"z");
    let mut ended = 0;
    assert_eq!(ring.submit_and_wait_with(2, &WaitOptions::at_most(A_MINUTE))?.1, Woken::Ready);
    ring.reap(|_| ended += 1)?;
    assert_eq!(ended, 2);
    for nop in nops {
        assert!(ring.try_take(nop).is_ok());
    }
    Ok(())
}

/// Even while completions come that are not the caller's: those of a cancel, or of the poll for
/// messages.
fn events() -> Result<(), Failed> {
    let mut ring = small();
    let (first, _one) = reading(&mut ring)?;
    let (second, _two) = reading(&mut ring)?;
    let options = WaitOptions::at_most(A_WHILE);
    assert_eq!(ring.submit_and_wait_with(1, &options)?, (2, Woken::TimedOut));
    ring.cancel(&first)?;
    // One event, though two completions come.
    assert_eq!(ring.submit_and_wait_with(2, &options)?.1, Woken::TimedOut);
    assert_eq!(ring.submit_and_wait_with(1, &options)?, (0, Woken::Ready));
    ring.cancel(&second)?;
    let until = WaitOptions::until(Clock::Boottime, Clock::Boottime.now() + A_MINUTE);
    assert_eq!(ring.submit_and_wait_with(2, &until)?.1, Woken::Ready);
    let sender = ring.sender()?;
    sender.send(7)?;
    assert_eq!(ring.submit_and_wait_with(3, &until)?.1, Woken::Ready);
    let mut events = 0;
    ring.reap(|_| events += 1)?;
    assert_eq!(events, 3);
    Ok(())
}

fn min_events() -> Result<(), Failed> {
    let options = WaitOptions::at_most(A_MINUTE).min_wait(A_WHILE);
    // With the kernel's minimum wait, and with ours: a cancel is in flight.
    for cancels in 0..2 {
        let mut ring = small();
        let (read, _to) = reading(&mut ring)?;
        let (_other, _too) = reading(&mut ring)?;
        let nop = ring.submit(Nop)?;
        for _ in 0..cancels {
            ring.cancel(&read)?;
        }
        let started = Instant::now();
        let (_, woken) = ring.submit_and_wait_with(3, &options)?;
        assert_eq!(woken, Woken::Ready, "one is enough");
        assert!(started.elapsed() >= A_WHILE);
        assert!(ring.try_take(nop).is_ok() || ring.reap(|_| ())? > 0);
    }
    Ok(())
}

/// One answer, whether the kernel counts the ready completions or the ring does.
fn longer_minimum() -> Result<(), Failed> {
    for keeps in [false, true] {
        let mut ring = small();
        let (read, _to) = reading(&mut ring)?;
        let (nop, kept) = (ring.submit(Nop)?, ring.submit(Nop)?);
        if keeps {
            ring.wait(kept)??;
        }
        let started = Instant::now();
        let want = if keeps { 2 } else { 3 };
        let options = WaitOptions::at_most(A_WHILE).min_wait(A_MINUTE);
        assert_eq!(ring.submit_and_wait_with(want, &options)?.1, Woken::TimedOut);
        assert!(started.elapsed() >= A_WHILE && started.elapsed() < A_MINUTE);
        ring.reap(|_| ())?;
        assert!(ring.try_take(nop).is_ok() && ring.try_take(read).is_err());
    }
    Ok(())
}

fn reaper() -> Result<(), Failed> {
    let (mut submitter, mut reaper) =
        plain(SetupFlags::empty()).split().map_err(|_| "it can be split")?;
    let options = WaitOptions::until(Clock::Monotonic, Clock::Monotonic.now() + A_WHILE);
    assert_eq!(reaper.wait_with(1, &options), Ok(Woken::TimedOut));
    // SAFETY: it points to nothing (OP1).
    unsafe { submitter.push(nop(1)) }?;
    submitter.submit()?;
    assert_eq!(reaper.wait_with(1, &WaitOptions::at_most(A_MINUTE)), Ok(Woken::Ready));
    Ok(())
}

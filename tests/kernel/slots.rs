//! Waits that the kernel bounds by the contents of a slot of a region.

use std::io::Write;
use std::time::{Duration, Instant};

use annulus::raw::register::{RingMemory, WaitSlot};
use annulus::sys::abi::RegWait;
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, SetupFlags};
use annulus::sys::map::page_size;
use annulus::sys::syscall::EnterArg;
use annulus::{DisabledRing, EnterCause, RawRing, Ring, Setup, WaitOptions, Woken};
use libtest_mimic::{Failed, Trial};

use super::{A_MINUTE, A_WHILE, REGION, STORED, cause, endless, plain, reading};
use crate::harness::{DEFERRING, drain_user_data, nop, patient, push, test};

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_wait_finds_its_options_in_a_region", &[REGION, STORED], stored),
        test("a_wait_of_several_turns_finds_its_options_there", &[REGION], stored_safe),
        test("a_slot_that_is_set_again_bounds_the_next_wait", &[REGION], slot),
        test("a_region_that_is_not_there_is_an_error", &[REGION], not_stored),
        test("a_place_that_is_no_slot_is_refused", &[REGION], no_slot),
    ]
}

/// A ring with a region of two slots; the second contains `A_WHILE`, and the first nothing.
fn with_region() -> Result<(RawRing, [WaitSlot; 2]), Failed> {
    let (disabled, slots) = disabled_with_slots()?;
    let ring = disabled.enable_raw().map_err(|(_, errno)| format!("enable: {errno}"))?;
    Ok((ring, slots))
}

fn disabled_with_slots() -> Result<(DisabledRing, [WaitSlot; 2]), Failed> {
    let mut disabled = patient(|| Setup::plain(4).with(DEFERRING).build_disabled())?;
    let mut region = disabled.register_wait_region(2, RingMemory::User)?;
    let slots = [region.slot(0).ok_or("the first")?, region.slot(1).ok_or("the second")?];
    region.set(slots[1], Some(A_WHILE), None);
    Ok((disabled, slots))
}

/// Also where only the kernel knows how long, and the wait has several turns.
fn stored_safe() -> Result<(), Failed> {
    let (disabled, [first, second]) = disabled_with_slots()?;
    let mut ring: Ring = disabled.enable().map_err(|(_, errno)| format!("enable: {errno}"))?;
    let (read, mut to) = reading(&mut ring)?;
    let options = WaitOptions::FOREVER.in_slot(second);
    assert_eq!(ring.submit_and_wait_with(1, &options)?, (1, Woken::TimedOut));
    let Err(unfinished) = ring.wait_with(read, &options) else {
        return Err("nothing was written".into());
    };
    assert_eq!(unfinished.why.cause, EnterCause::TimedOut);
    // A cancel is under way, which is no event.
    let (other, _end) = reading(&mut ring)?;
    ring.cancel(&other)?;
    assert_eq!(ring.submit_and_wait_with(2, &options)?.1, Woken::TimedOut);
    to.write_all(b"x")?;
    let read = ring.wait_with(unfinished.ticket, &WaitOptions::at_most(A_MINUTE).in_slot(first))?;
    assert_eq!(read.result?, 1);
    Ok(())
}

fn stored() -> Result<(), Failed> {
    let (ring, [first, second]) = with_region()?;
    let (mut ring, mut to) = endless(ring)?;
    for options in
        [WaitOptions::FOREVER, WaitOptions::at_most(A_WHILE), WaitOptions::at_most(A_MINUTE)]
    {
        let started = Instant::now();
        assert_eq!(ring.wait_with(1, &options.in_slot(second)), Ok(Woken::TimedOut));
        assert!(started.elapsed() >= A_WHILE);
    }
    to.write_all(b"x")?;
    assert_eq!(ring.wait_with(1, &WaitOptions::FOREVER.in_slot(first)), Ok(Woken::Ready));
    assert_eq!(drain_user_data(&mut ring), [1]);
    push(&mut ring, nop(2));
    let options = WaitOptions::at_most(A_WHILE).in_slot(second);
    assert_eq!(ring.submit_and_wait_with(1, &options), Ok((1, Woken::Ready)));
    Ok(())
}

fn slot() -> Result<(), Failed> {
    let mut disabled = patient(|| Setup::plain(4).with(DEFERRING).build_disabled())?;
    let mut region = disabled.register_wait_region(3, RingMemory::User)?;
    let slot = region.slot(2).ok_or("the last of three")?;
    let enabled = disabled.enable_raw().map_err(|(_, errno)| format!("enable: {errno}"))?;
    let (mut ring, mut to) = endless(enabled)?;
    let options = WaitOptions::FOREVER.in_slot(slot);
    region.set(slot, Some(A_WHILE), None);
    let started = Instant::now();
    assert_eq!(ring.wait_with(1, &options), Ok(Woken::TimedOut));
    assert!(started.elapsed() >= A_WHILE);
    region.set(slot, None, None);
    to.write_all(b"x")?;
    assert_eq!(ring.wait_with(1, &options), Ok(Woken::Ready));
    Ok(())
}

fn not_stored() -> Result<(), Failed> {
    let mut disabled = patient(|| Setup::plain(4).with(DEFERRING).build_disabled())?;
    let per_page = u32::try_from(page_size() / size_of::<RegWait>())?;
    let larger = disabled.register_wait_region(per_page + 1, RingMemory::User)?;
    let slot = |index| larger.slot(index).ok_or("it is so large");
    // A ring without a region, and one whose region is smaller than the one the slot is of.
    let errors = [
        (endless(plain(SetupFlags::empty()))?, slot(0)?),
        (endless(with_region()?.0)?, slot(per_page)?),
    ];
    for ((mut ring, _to), slot) in errors {
        let fault = EnterCause::Other(Errno::new(libc::EFAULT));
        let options = WaitOptions::FOREVER.in_slot(slot);
        assert_eq!(cause(ring.wait_with(1, &options)), Some(fault));
        assert!(ring.enter(0, 1, EnterFlags::GETEVENTS, larger.arg(slot)).is_err());
    }
    Ok(())
}

/// Seconds and nanoseconds of a slot, read as a signal mask's address and size, would let the
/// kernel read anything that a number names.
fn no_slot() -> Result<(), Failed> {
    let mut disabled = patient(|| Setup::plain(4).with(DEFERRING).build_disabled())?;
    let mut region = disabled.register_wait_region(2, RingMemory::User)?;
    let slot = region.slot(1).ok_or("the second")?;
    let secret = Box::new(0_u64);
    let address = std::ptr::from_ref(&*secret).addr() as u64;
    region.set(slot, Some(Duration::new(address, 8)), None);
    let mut ring = disabled.enable_raw().map_err(|(_, errno)| format!("enable: {errno}"))?;
    push(&mut ring, nop(1));
    ring.submit()?;
    let at = slot.offset();
    for offset in [at - 24, at - 8, at + 8, at + 1, 1, usize::MAX] {
        let arg = EnterArg::Registered(offset);
        let entered = ring.enter(0, 1, EnterFlags::GETEVENTS, arg);
        assert_eq!(entered, Err(Errno::new(libc::EINVAL)), "{offset}");
    }
    assert_eq!(ring.stats().enters, 1, "the kernel is not asked");
    Ok(())
}

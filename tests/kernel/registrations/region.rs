//! Waits whose slot is in a registered region are bounded by it.

use std::time::Duration;

use annulus::lease::RegisterError;
use annulus::raw::register::{RingMemory, WaitRegion};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, SetupFlags};
use annulus::sys::opcode::RegisterOp;
use annulus::sys::syscall::EnterArg;
use annulus::{DisabledRing, RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{DEFERRING, Need, drain_user_data, here, nop, patient, push, test};

const OURS: [Need; 1] = [Need::Register(RegisterOp::MEM_REGION)];
const KERNELS: [Need; 2] = [OURS[0], Need::Other(maps_no_region)];
const DEFERRED: [Need; 2] = [OURS[0], Need::Setup(DEFERRING)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_slot_of_a_region_bounds_a_wait", &OURS, || bounds(RingMemory::User)),
        test("a_slot_of_the_kernels_region_bounds_a_wait", &KERNELS, || bounds(RingMemory::Kernel)),
        test("a_slot_of_a_region_takes_a_minimum_wait", &DEFERRED, minimum),
        test("a_ring_has_one_region_of_waits", &OURS, one),
        test("a_region_has_a_sensible_number_of_slots", &[], sizes),
        test("a_slot_beyond_the_region_is_refused_by_the_kernel", &OURS, beyond),
        test("a_region_outlives_its_ring_and_the_other_way_round", &OURS, lives),
        test("no_region_of_waits_before_6_13_says_so", &[Need::Other(lacks_regions)], says_so),
    ]
}

fn lacks_regions() -> Option<String> {
    let has = here().has_register(RegisterOp::MEM_REGION);
    has.then(|| "needs a kernel without MEM_REGION".to_owned())
}

/// A region of the kernel's can only be tried.
fn maps_no_region() -> Option<String> {
    match disabled(SetupFlags::empty()).register_wait_region(1, RingMemory::Kernel) {
        Err(RegisterError::Unsupported { .. }) => Some("needs Linux 6.14: a mapped region".into()),
        _ => None,
    }
}

fn disabled(flags: SetupFlags) -> DisabledRing {
    patient(|| Setup::plain(4).with(flags).build_disabled()).expect("a ring can be made here")
}

fn ring_with(slots: u32, whose: RingMemory) -> (RawRing, WaitRegion) {
    let mut disabled = disabled(SetupFlags::empty());
    let region = disabled.register_wait_region(slots, whose).expect("a region");
    assert!(region.is_of(disabled.rings().base()));
    (disabled.enable_raw().expect("it is new"), region)
}

fn wait(ring: &mut RawRing, want: u32, arg: EnterArg<'_>) -> Result<u32, Errno> {
    let to_submit = ring.flush();
    ring.enter(to_submit, want, EnterFlags::GETEVENTS, arg)
}

fn bounds(whose: RingMemory) -> Result<(), Failed> {
    let (mut ring, mut region) = ring_with(80, whose);
    let (first, last) = (region.slot(0).unwrap(), region.slot(79).unwrap());
    region.set(last, Some(Duration::from_millis(1)), None);
    let timed_out = wait(&mut ring, 1, region.arg(last));
    assert!(timed_out.is_err_and(|errno| errno.is(libc::ETIME)), "{timed_out:?}");
    // A slot that was not written bounds nothing, and something is ready.
    push(&mut ring, nop(7));
    assert_eq!(wait(&mut ring, 1, region.arg(first)), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [7]);
    // A slot can be written again while the ring lives.
    region.set(first, Some(Duration::ZERO), None);
    let timed_out = wait(&mut ring, 1, region.arg(first));
    assert!(timed_out.is_err_and(|errno| errno.is(libc::ETIME)), "{timed_out:?}");
    Ok(())
}

/// With an hour to go, one completion of two is enough once the minimum wait is over.
fn minimum() -> Result<(), Failed> {
    let mut disabled = disabled(DEFERRING);
    let mut region = disabled.register_wait_region(1, RingMemory::User)?;
    let mut ring = disabled.enable_raw().expect("it is new");
    let slot = region.slot(0).unwrap();
    region.set(slot, Some(Duration::from_secs(3600)), Some(Duration::from_micros(200)));
    push(&mut ring, nop(1));
    assert_eq!(wait(&mut ring, 2, region.arg(slot)), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

fn one() -> Result<(), Failed> {
    let mut disabled = disabled(SetupFlags::empty());
    let _first = disabled.register_wait_region(1, RingMemory::User)?;
    let second = disabled.register_wait_region(1, RingMemory::User).unwrap_err();
    assert_eq!(second, RegisterError::InUse { what: "region of waits" });
    Ok(())
}

fn sizes() -> Result<(), Failed> {
    for count in [0, (1 << 20) + 1, u32::MAX] {
        let error = disabled(SetupFlags::empty()).register_wait_region(count, RingMemory::User);
        assert!(matches!(error, Err(RegisterError::Invalid { .. })), "{count}: {error:?}");
    }
    Ok(())
}

fn beyond() -> Result<(), Failed> {
    let (mut ring, region) = ring_with(1, RingMemory::User);
    assert_eq!((region.count(), region.slot(1)), (1, None));
    let page = EnterArg::Registered(1 << 20);
    assert_eq!(wait(&mut ring, 1, page), Err(Errno::new(libc::EFAULT)));
    let mut bare = disabled(SetupFlags::empty()).enable_raw().expect("it is new");
    let arg = region.arg(region.slot(0).unwrap());
    assert!(wait(&mut bare, 1, arg).is_err(), "a ring without a region");
    Ok(())
}

fn lives() -> Result<(), Failed> {
    let (mut ring, mut region) = ring_with(1, RingMemory::User);
    let slot = region.slot(0).unwrap();
    region.set(slot, Some(Duration::from_millis(1)), None);
    let arg = region.arg(slot);
    drop(region);
    assert_eq!(wait(&mut ring, 1, arg), Err(Errno::new(libc::ETIME)));
    let (ring, mut region) = ring_with(1, RingMemory::User);
    drop(ring);
    region.set(slot, None, None);
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let error =
        disabled(SetupFlags::empty()).register_wait_region(1, RingMemory::User).unwrap_err();
    assert_eq!(error.to_string(), "MEM_REGION needs Linux 6.13");
    Ok(())
}

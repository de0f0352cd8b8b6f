//! A ring that is disabled at first, one that is asked for its operations, and one that is sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::raw::moving::WhyNotSend;
use annulus::raw::register::{RegisterError, Restrictions};
use annulus::{EnterCause, RawRing, Setup};
use annulus_sys::abi_register::{Probe, ProbeOp, RsrcUpdate};
use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;
use annulus_sys::flags_register::ProbeOpFlags;
use annulus_sys::opcode::{Opcode, RegisterOp};

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::{NONE, consumed, plain, pop_all, push};

fn disabled(setup: Setup<'_>) -> (RawRing, Arc<DriverKernel>) {
    let kernel = DriverKernel::new();
    let ring = setup.kernel(kernel.backend()).build_raw_disabled().expect("a ring");
    assert_eq!(ring.flags() & SetupFlags::R_DISABLED, SetupFlags::R_DISABLED);
    kernel.take_calls();
    (ring, kernel)
}

#[test]
fn what_a_disabled_ring_refused_is_submitted_once_when_it_is_enabled() {
    let (mut ring, kernel) = disabled(Setup::plain(4));
    push(&mut ring, [1, 2]);
    for _ in 0..2 {
        kernel.enters(Enter::Fail(libc::EBADFD));
        let refused = ring.submit_and_wait(1).expect_err("it is disabled");
        assert_eq!((refused.submitted, refused.cause), (0, EnterCause::Disabled));
        assert_eq!(refused.errno(), Errno::new(libc::EBADFD));
    }
    assert_eq!(ring.submit(), Ok(2));
    assert_eq!((consumed(&kernel), pop_all(&mut ring)), (vec![1, 2], vec![1, 2]));
}

#[test]
fn enabling_and_restricting_make_one_call_each() {
    let (ring, kernel) = disabled(Setup::plain(4));
    let made = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&made);
    kernel.on_register(move |op, arg, count| {
        let mut notes = notes.lock().expect("nobody panicked");
        notes.push((op, arg.is_null(), count));
        let enabled = notes.iter().filter(|(op, ..)| *op == RegisterOp::ENABLE_RINGS).count();
        Some(if enabled > 1 { Err(Errno::new(libc::EBADFD)) } else { Ok(0) })
    });
    let ring = &ring;
    assert_eq!(ring.restrict(&Restrictions::new().allow(Opcode::NOP)), Ok(()));
    assert_eq!(ring.enable(), Ok(()));
    assert_eq!(ring.enable(), Err(RegisterError::Enabled));
    let enable = (RegisterOp::ENABLE_RINGS, true, 0);
    let restrict = (RegisterOp::RESTRICTIONS, false, 4);
    assert_eq!(*made.lock().expect("nobody panicked"), [restrict, enable, enable]);
}

#[test]
fn a_disabled_ring_with_a_poller_is_asked_before_it_waits_for_room() {
    let (mut ring, kernel) = disabled(Setup::plain(4).sqpoll(Duration::ZERO));
    push(&mut ring, [1, 2, 3]);
    kernel.enters(Enter::Fail(libc::EBADFD));
    let refused = ring.reserve(2).map(drop).expect_err("it is disabled");
    assert_eq!(refused.cause, EnterCause::Disabled);
    assert_eq!(kernel.took(), [(0, 0, NONE)]);
    // With room enough, nothing is asked.
    assert!(ring.reserve(1).is_ok() && ring.wait_for_room().is_ok());
    assert_eq!(kernel.took(), []);
}

#[test]
fn a_probe_is_as_long_as_the_kernel_says() {
    let (ring, kernel) = plain();
    kernel.on_register(|op, arg, count| {
        assert_eq!((op, count), (RegisterOp::PROBE, 256));
        let head = Probe { last_op: Opcode(200), ops_len: 3, ..Probe::default() };
        // SAFETY: a live probe, because the call takes one.
        unsafe { arg.cast::<Probe>().write(head) };
        for (at, op) in [0_u8, 1, 70, 71].into_iter().enumerate() {
            let flags = if op == 1 { ProbeOpFlags::empty() } else { ProbeOpFlags::SUPPORTED };
            let row = ProbeOp { op: Opcode(op), flags, ..ProbeOp::default() };
            // SAFETY: within the argument, which has 256 operations behind 16 bytes.
            let place = unsafe { arg.cast::<ProbeOp>().add(2 + at) };
            // SAFETY: within the argument, as just said, which nobody else uses.
            unsafe { place.write(row) };
        }
        Some(Ok(0))
    });
    let operations = ring.probe().expect("it says so");
    assert_eq!(operations.iter().collect::<Vec<_>>(), [Opcode(0), Opcode(70)]);
    assert_eq!(operations.last(), Opcode(200));
    assert!(operations.has(Opcode(70)) && !operations.has(Opcode(71)), "beyond what it filled");
    kernel.on_register(|_, _, _| Some(Err(Errno::new(libc::EINVAL))));
    let unsupported = RegisterError::Unsupported { what: "PROBE", since: "5.6" };
    assert_eq!(ring.probe(), Err(unsupported));
    kernel.on_register(|_, _, _| Some(Err(Errno::new(libc::EACCES))));
    assert_eq!(ring.probe(), Err(RegisterError::Restricted { call: "PROBE" }));
}

#[test]
fn a_ring_that_could_not_be_unregistered_is_not_sent() {
    let (mut ring, kernel) = plain();
    kernel.on_register(|op, arg, _| {
        if op == RegisterOp::UNREGISTER_RING_FDS {
            return Some(Err(Errno::new(libc::EFAULT)));
        }
        let update = RsrcUpdate { offset: 3, resv: 0, data: 0 };
        // SAFETY: one live `struct io_uring_rsrc_update`, because the op takes that.
        unsafe { arg.cast::<RsrcUpdate>().write(update) };
        Some(Ok(1))
    });
    assert_eq!(ring.register_ring_fd(), Ok(()));
    let refused = ring.into_send().expect_err("its name is this thread's");
    assert_eq!(refused.why, WhyNotSend::Registered(Errno::new(libc::EFAULT)));
    let mut ring = refused.ring;
    assert_eq!(ring.get_events(), Ok(()));
    assert_eq!(kernel.seen().last().expect("it entered").index, Some(3));
    assert_eq!(ring.register_ring_fd(), Err(Errno::new(libc::EEXIST)), "as it was");
}

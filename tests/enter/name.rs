//! Registered rings, rings in two halves, and figures.

use annulus::{Setup, Stats};
use annulus_sys::abi_register::RsrcUpdate;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags, SqRingFlags};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::syscall::EnterArg;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::{GETEVENTS, NONE, plain, pop_all, push, ring};

const NAMED: RegisterOp = RegisterOp::RING_FDS;
const FORGOTTEN: RegisterOp = RegisterOp::UNREGISTER_RING_FDS;

/// Makes the kernel register rings at `index`, or fail; and unregister them, or fail.
fn name(kernel: &DriverKernel, index: Result<u32, i32>, forget: Result<u32, i32>) {
    kernel.on_register(move |op, arg, count| match op {
        NAMED => {
            assert_eq!(count, 1);
            let update = arg.cast::<RsrcUpdate>();
            // SAFETY: one live `struct io_uring_rsrc_update`, because the op takes that.
            let asked = unsafe { update.read() };
            assert_eq!(asked.offset, u32::MAX, "the kernel is to choose");
            let index = match index {
                Ok(index) => index,
                Err(errno) => return Some(Err(Errno::new(errno))),
            };
            // SAFETY: one live `struct io_uring_rsrc_update`, because the op takes that.
            unsafe { update.write(RsrcUpdate { offset: index, ..asked }) };
            Some(Ok(1))
        }
        FORGOTTEN => Some(forget.map_err(Errno::new)),
        _ => None,
    });
}

/// How each enter named the ring.
fn indices(kernel: &DriverKernel) -> Vec<Option<u32>> {
    kernel.seen().into_iter().map(|seen| seen.index).collect()
}

#[test]
fn a_registered_ring_is_entered_by_its_index() {
    let (mut ring, kernel) = plain();
    name(&kernel, Ok(5), Ok(1));
    push(&mut ring, [1]);
    assert_eq!(ring.submit(), Ok(1));
    assert_eq!(ring.register_ring_fd(), Ok(()));
    assert_eq!(ring.register_ring_fd(), Err(Errno::new(libc::EEXIST)), "it is registered");
    push(&mut ring, [2]);
    assert_eq!(ring.submit_and_wait(2), Ok(1));
    assert_eq!(ring.get_events(), Ok(()));
    assert_eq!(indices(&kernel), [None, Some(5), Some(5)]);
    assert_eq!(ring.unregister_ring_fd(), Ok(()));
    assert_eq!(ring.unregister_ring_fd(), Ok(()));
    assert_eq!(ring.get_events(), Ok(()));
    assert_eq!(indices(&kernel), [None]);
    drop(ring);
    assert_eq!(kernel.named(), [(NAMED, 5), (FORGOTTEN, 5)]);
}

#[test]
fn a_registered_ring_is_forgotten_once_when_it_is_dropped() {
    let (mut ring, kernel) = plain();
    name(&kernel, Ok(3), Ok(1));
    assert_eq!(ring.register_ring_fd(), Ok(()));
    drop(ring);
    assert_eq!(kernel.named(), [(NAMED, 3), (FORGOTTEN, 3)]);
    // Even when the kernel does not know it any more, as in a forked child.
    let kernel = DriverKernel::new();
    let mut ring = kernel.ring(Setup::plain(4));
    name(&kernel, Ok(4), Err(libc::EINVAL));
    assert_eq!(ring.register_ring_fd(), Ok(()));
    drop(ring);
    assert_eq!(kernel.named(), [(NAMED, 4), (FORGOTTEN, 4)]);
    assert!(!kernel.is_open());
}

#[test]
fn a_ring_that_could_not_be_registered_is_entered_by_its_descriptor() {
    let (mut ring, kernel) = plain();
    name(&kernel, Err(libc::EBUSY), Ok(1));
    assert_eq!(ring.register_ring_fd(), Err(Errno::new(libc::EBUSY)));
    assert_eq!(ring.get_events(), Ok(()));
    assert_eq!(indices(&kernel), [None]);
    drop(ring);
    assert_eq!(kernel.named().len(), 1);
}

#[test]
fn a_ring_that_could_not_be_unregistered_stays_registered() {
    let (mut ring, kernel) = plain();
    name(&kernel, Ok(2), Err(libc::EFAULT));
    assert_eq!(ring.register_ring_fd(), Ok(()));
    assert_eq!(ring.unregister_ring_fd(), Err(Errno::new(libc::EFAULT)));
    assert_eq!(ring.get_events(), Ok(()));
    assert_eq!(indices(&kernel), [Some(2)]);
    // An index belongs to a thread, so such a ring cannot be split between two.
    let mut ring = ring.split().expect_err("still registered");
    assert_eq!(ring.get_events(), Ok(()));
    assert_eq!(indices(&kernel), [Some(2)]);
}

#[test]
fn a_ring_is_unregistered_before_it_is_split() {
    let (mut ring, kernel) = plain();
    name(&kernel, Ok(7), Ok(1));
    assert_eq!(ring.register_ring_fd(), Ok(()));
    push(&mut ring, [1]);
    let (mut submitter, mut reaper) = ring.split().expect("fit for two threads");
    assert_eq!(kernel.named(), [(NAMED, 7), (FORGOTTEN, 7)]);
    assert_eq!(submitter.submit(), Ok(1));
    kernel.enters(Enter::Fail(libc::EINTR));
    assert!(reaper.wait(2).is_err());
    assert_eq!(indices(&kernel), [None, None]);
    drop(submitter.join(reaper).expect("both halves"));
    assert_eq!(kernel.named(), []);
}

#[test]
fn a_ring_of_one_thread_comes_back_whole() {
    let (mut ring, kernel) = ring(SetupFlags::SINGLE_ISSUER);
    name(&kernel, Ok(7), Ok(1));
    assert_eq!(ring.register_ring_fd(), Ok(()));
    let mut ring = ring.split().expect_err("of one issuer");
    assert_eq!(kernel.named(), [(NAMED, 7)]);
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(indices(&kernel), [Some(7)]);
}

#[test]
fn figures_are_exact() {
    let (mut ring, kernel) = plain();
    assert_eq!(ring.stats(), Stats::default());
    kernel.enters(Enter::Complete(1));
    push(&mut ring, [1, 2, 3]);
    assert_eq!(ring.submit(), Ok(3));
    kernel.enters(Enter::Fail(libc::EAGAIN));
    push(&mut ring, [4]);
    assert!(ring.submit().is_err());
    assert_eq!(ring.stats(), Stats { enters: 3, sqes: 3, cqes: 0, overflows: 0 });
    assert_eq!(pop_all(&mut ring), [1, 2, 3]);
    kernel.kernel(|kernel| kernel.sq_flags.store(SqRingFlags::CQ_OVERFLOW.bits()));
    assert_eq!(ring.get_events(), Ok(()));
    kernel.kernel(|kernel| kernel.sq_flags.store(SqRingFlags::TASKRUN.bits()));
    assert_eq!(ring.get_events(), Ok(()));
    assert_eq!(ring.stats(), Stats { enters: 5, sqes: 3, cqes: 3, overflows: 1 });
    assert_eq!(ring.stats().enters, u64::from(kernel.entered()));
}

#[test]
fn an_enter_of_ones_own_is_counted_as_any() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    assert_eq!(ring.flush(), 2);
    assert_eq!(kernel.took(), []);
    let flags = EnterFlags::GETEVENTS | EnterFlags::NO_IOWAIT;
    assert_eq!(ring.enter(2, 1, flags, EnterArg::None), Ok(2));
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(ring.enter(0, 0, GETEVENTS, EnterArg::None), Err(Errno::new(libc::EINTR)));
    assert_eq!(kernel.took(), [(2, 1, flags), (0, 0, GETEVENTS)]);
    assert_eq!(ring.stats(), Stats { enters: 2, sqes: 2, cqes: 0, overflows: 0 });
}

#[test]
fn the_figures_of_two_halves_add_up() {
    let (ring, kernel) = plain();
    let (mut submitter, mut reaper) = ring.split().expect("fit for two threads");
    // SAFETY: a NOP, which points to nothing (OP1).
    unsafe { submitter.push(annulus_sys::abi::Sqe::ZERO) }.expect("room");
    assert_eq!(submitter.submit(), Ok(1));
    kernel.kernel(|kernel| kernel.sq_flags.store(SqRingFlags::CQ_OVERFLOW.bits()));
    assert!(reaper.pop().is_some());
    assert_eq!(reaper.peek(), Ok(None));
    // Found when popping, and when peeking.
    assert_eq!(reaper.stats(), Stats { enters: 1, sqes: 0, cqes: 1, overflows: 2 });
    let ring = submitter.join(reaper).expect("both halves");
    assert_eq!(ring.stats(), Stats { enters: 2, sqes: 1, cqes: 1, overflows: 2 });
    assert_eq!(kernel.took(), [(1, 0, NONE), (0, 0, GETEVENTS)]);
}

#[test]
fn halves_of_two_rings_are_given_back() {
    let ((one, _), (other, _)) = (plain(), plain());
    let (submitter, mine) = one.split().expect("fit for two threads");
    let (_, theirs) = other.split().expect("fit for two threads");
    let (submitter, _) = submitter.join(theirs).expect_err("not of one ring");
    assert!(submitter.join(mine).is_ok());
}

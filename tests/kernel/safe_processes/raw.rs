//! Arguments that the safe API cannot express, raw API: invalid addresses, closed descriptors,
//! unknown flags.

use annulus::sys::abi::{FutexWaitv, Sqe};
use annulus::sys::flags_futex::{FUTEX_MATCH_ANY, FutexFlags};
use annulus::sys::opcode::Opcode;
use annulus::{RawRing, Setup, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, push, ring, test};

const CTL: Need = Need::Op(Opcode::EPOLL_CTL);
const WAIT: Need = Need::Op(Opcode::EPOLL_WAIT);
const WAITID: Need = Need::Op(Opcode::WAITID);
const FUTEX: Need = Need::Op(Opcode::FUTEX_WAIT);

/// In the first page, where nothing is ever mapped.
const NOWHERE: u64 = 64;
/// No descriptor of a test has such a number.
const CLOSED: i32 = 1_000_000;

pub fn tests() -> Vec<Trial> {
    vec![
        test("no_epoll_is_changed_by_what_is_closed_or_nowhere", &[CTL], epoll_ctl),
        test("no_epoll_is_waited_for_by_what_is_closed", &[WAIT], epoll_wait),
        test("no_child_is_told_of_where_nothing_is", &[WAITID], waitid),
        test("no_futex_is_where_nothing_is", &[FUTEX], futex),
        test("a_futex_is_whole_and_of_a_kind_that_there_is", &[FUTEX], futex_kinds),
        test("no_table_of_futexes_is_where_nothing_is", &[FUTEX], futex_table),
    ]
}

fn small() -> RawRing {
    ring(Setup::new(4))
}

/// The result of `sqe`.
fn complete(ring: &mut RawRing, sqe: Sqe) -> i32 {
    push(ring, sqe);
    ring.submit_and_wait(1).expect("it completes");
    ring.pop().expect("it has").res
}

/// The address of something that lives forever.
fn leaked<T>(value: T) -> u64 {
    std::ptr::from_mut(Box::leak(Box::new(value))).expose_provenance() as u64
}

fn epoll_ctl() -> Result<(), Failed> {
    let mut ring = small();
    let event = leaked(libc::epoll_event { events: 1, u64: 7 });
    let [add, delete] = [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_DEL].map(i32::cast_unsigned);
    assert_eq!(complete(&mut ring, prep::epoll_ctl(CLOSED, 0, add, event)), -libc::EBADF);
    assert_eq!(complete(&mut ring, prep::epoll_ctl(CLOSED, -1, delete, 0)), -libc::EBADF);
    assert_eq!(complete(&mut ring, prep::epoll_ctl(0, 0, add, NOWHERE)), -libc::EFAULT);
    Ok(())
}

fn epoll_wait() -> Result<(), Failed> {
    let mut ring = small();
    let events = leaked([libc::epoll_event { events: 0, u64: 0 }; 4]);
    assert_eq!(complete(&mut ring, prep::epoll_wait(CLOSED, events, 4)), -libc::EBADF);
    Ok(())
}

fn waitid() -> Result<(), Failed> {
    let mut ring = small();
    let exited = libc::WEXITED.cast_unsigned();
    let info = leaked([0_u64; 16]);
    // The process itself is not one of its children.
    let me = std::process::id();
    assert_eq!(complete(&mut ring, prep::waitid(libc::P_PID, me, info, exited)), -libc::ECHILD);
    assert_eq!(complete(&mut ring, prep::waitid(libc::P_PID, me, info, 0)), -libc::EINVAL);
    assert_eq!(complete(&mut ring, prep::waitid(99, me, info, exited)), -libc::EINVAL);
    let closed = CLOSED.cast_unsigned();
    assert_eq!(
        complete(&mut ring, prep::waitid(libc::P_PIDFD, closed, info, exited)),
        -libc::EBADF
    );
    // The address is looked at last, and wins.
    assert_eq!(complete(&mut ring, prep::waitid(libc::P_PID, me, NOWHERE, exited)), -libc::EFAULT);
    Ok(())
}

const PRIVATE: FutexFlags = FutexFlags::SIZE_U32.union(FutexFlags::PRIVATE);
const ANY: u64 = FUTEX_MATCH_ANY as u64;

fn futex() -> Result<(), Failed> {
    let mut ring = small();
    for flags in [PRIVATE, FutexFlags::SIZE_U32] {
        let wait = prep::futex_wait(NOWHERE, 0, ANY, flags);
        assert_eq!(complete(&mut ring, wait), -libc::EFAULT, "{flags:?}");
    }
    let shared = prep::futex_wake(NOWHERE, 1, ANY, FutexFlags::SIZE_U32);
    assert_eq!(complete(&mut ring, shared), -libc::EFAULT);
    // For a private futex the kernel need not look at the memory.
    assert_eq!(complete(&mut ring, prep::futex_wake(NOWHERE, 1, ANY, PRIVATE)), 0);
    Ok(())
}

fn futex_kinds() -> Result<(), Failed> {
    let mut ring = small();
    let word = leaked([0_u32; 4]);
    let refused = [
        ("not aligned", prep::futex_wait(word + 1, 0, ANY, PRIVATE)),
        ("eight bits", prep::futex_wait(word, 0, ANY, FutexFlags::PRIVATE)),
        ("unknown", prep::futex_wait(word, 0, ANY, FutexFlags::from_bits_retain(1 << 20))),
        ("a long value", prep::futex_wait(word, 1 << 32, ANY, PRIVATE)),
        ("a long mask", prep::futex_wait(word, 0, 1 << 32, PRIVATE)),
        ("no mask", prep::futex_wait(word, 0, 0, PRIVATE)),
        ("a long count", prep::futex_wake(word, 1 << 32, ANY, PRIVATE)),
    ];
    for (why, sqe) in refused {
        assert_eq!(complete(&mut ring, sqe), -libc::EINVAL, "{why}");
    }
    Ok(())
}

fn futex_table() -> Result<(), Failed> {
    let mut ring = small();
    assert_eq!(complete(&mut ring, prep::futex_waitv(NOWHERE, 1)), -libc::EFAULT);
    let flags = PRIVATE.bits();
    let nowhere = FutexWaitv { uaddr: NOWHERE, flags, ..FutexWaitv::default() };
    assert_eq!(complete(&mut ring, prep::futex_waitv(leaked(nowhere), 1)), -libc::EFAULT);
    let reserved = FutexWaitv { uaddr: leaked(0_u32), flags, reserved: 1, val: 0 };
    assert_eq!(complete(&mut ring, prep::futex_waitv(leaked(reserved), 1)), -libc::EINVAL);
    Ok(())
}

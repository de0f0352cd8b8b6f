//! Restrictions hold, of both kinds, on every kernel.
#![allow(unsafe_code, reason = "gives up privileges of one thread, and lends memory")]

use std::fs::File;
use std::io::{Write, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use annulus::lease::RegisterError;
use annulus::op::{Close, Nop, Op, Read};
use annulus::raw::register::{FileSlot, Restrictions, restrict_task};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{Features, SqeFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{DisabledRing, RawRing, Rejection, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, nop, patient, push, read_byte, test};

const TASKS: [Need; 1] = [Need::Register(RegisterOp::BPF_FILTER)]; // Both came with 7.0.
const POWERLESS: [Need; 3] = [TASKS[0], Need::User, Need::Other(gave_up)];
const PLACES: [Need; 1] = [Need::Register(RegisterOp::RING_FDS)];
const SYNC: [Need; 1] = [Need::Register(RegisterOp::SYNC_CANCEL)];
const BUNDLE: [Need; 1] = [Need::Feature(Features::RECVSEND_BUNDLE)];
const SET: &str = "set of restrictions, for good";

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_ring_restricted_to_operations_registers_nothing", &[], only_operations),
        test("a_ring_restricted_to_register_calls_submits_nothing", &[], only_calls),
        test("a_restricted_ring_may_do_what_is_allowed_of_both", &[], both),
        test("flags_are_allowed_and_demanded", &[], flags),
        test("a_restricted_ring_cancels_and_ends", &[], ends),
        test("a_ring_that_demands_flags_cancels_all_the_same", &[], cancels),
        test("op1_a_scope_ends_although_its_cancels_are_refused", &SYNC, scope_ends),
        test("br1_a_ring_that_may_not_ask_sends_no_bundles", &BUNDLE, no_bundles),
        test("op3_a_close_that_is_refused_gives_the_descriptor_back", &[], refused_close),
        test("a_drain_holds_where_no_nop_may_end_it", &[], drain_holds),
        test("a_sandboxed_ring_uses_what_was_registered_before", &[], by_places),
        test("a_ring_is_restricted_once", &[], once),
        test("a_restricted_ring_gives_its_place_back", &PLACES, places),
        test("what_the_kernel_does_not_have_is_not_allowed", &[], unknown),
        test("a_restricted_task_makes_restricted_rings", &TASKS, task),
        test("restricting_a_task_takes_a_privilege", &POWERLESS, powerless),
        test("restricting_a_task_before_7_0_says_so", &[Need::Other(has_tasks)], says_so),
    ]
}

fn has_tasks() -> Option<String> {
    let has = here().has_register(RegisterOp::BPF_FILTER);
    has.then(|| "needs a kernel before 7.0".to_owned())
}

/// A process that cannot gain privileges may restrict itself.
fn gave_up() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let may = !status.lines().any(|line| line == "NoNewPrivs:\t1");
    (!may).then(|| "needs a process without no_new_privs".to_owned())
}

fn disabled() -> DisabledRing {
    patient(|| Setup::plain(4).build_disabled()).expect("a ring can be made here")
}

fn restricted(restrictions: Restrictions) -> RawRing {
    let mut disabled = disabled();
    disabled.restrict(&restrictions).expect("it is new");
    disabled.enable_raw().expect("that is allowed")
}

/// The result of `sqe`.
fn result(ring: &mut RawRing, sqe: Sqe) -> i32 {
    push(ring, sqe);
    ring.submit_and_wait(1).expect("submit");
    ring.pop().expect("its completion").res
}

fn is_shut(ring: &RawRing) {
    let refused = ring.register_personality().expect_err("not allowed");
    assert_eq!(refused.to_string(), RegisterError::Restricted { call: "PERSONALITY" }.to_string());
}

fn only_operations() -> Result<(), Failed> {
    let mut ring = restricted(Restrictions::new().allow(Opcode::NOP));
    assert_eq!(result(&mut ring, nop(1)), 0);
    let (reader, _writer) = pipe()?;
    assert_eq!(result(&mut ring, read_byte(&reader, 2)), -libc::EACCES);
    is_shut(&ring);
    Ok(())
}

fn only_calls() -> Result<(), Failed> {
    let mut ring = restricted(Restrictions::new().allow_register(RegisterOp::PERSONALITY));
    ring.register_personality()?;
    assert_eq!(result(&mut ring, nop(1)), -libc::EACCES);
    Ok(())
}

fn both() -> Result<(), Failed> {
    let both = Restrictions::new().allow(Opcode::NOP).allow_register(RegisterOp::PERSONALITY);
    let mut ring = restricted(both);
    let who = ring.register_personality()?;
    assert_eq!(result(&mut ring, nop(1)), 0);
    let call = "UNREGISTER_PERSONALITY";
    assert_eq!(ring.unregister_personality(who), Err(RegisterError::Restricted { call }));
    let mut shut = restricted(Restrictions::new());
    assert_eq!(result(&mut shut, nop(1)), -libc::EACCES);
    is_shut(&shut);
    Ok(())
}

fn refused_close() -> Result<(), Failed> {
    let mut disabled = disabled();
    disabled.restrict(&Restrictions::new().allow(Opcode::NOP))?;
    let mut ring = disabled.enable().map_err(|(_, errno)| errno)?;
    for fd in [OwnedFd::from(pipe()?.0), UnixStream::pair()?.0.into()] {
        let number = fd.as_raw_fd();
        let close = ring.submit(Close::new(fd))?;
        let closed = ring.wait(close)?;
        let errno = closed.result.expect_err("not allowed").raw_os_error();
        assert_eq!(errno, Some(libc::EACCES));
        assert_eq!(closed.fd.map(|fd| fd.as_raw_fd()), Some(number), "it is still open");
    }
    Ok(())
}

/// The effect of a drain ends with an entry that the ring must be allowed to submit.
fn drain_holds() -> Result<(), Failed> {
    for may_nop in [true, false] {
        let mut allowed = Restrictions::new().allow(Opcode::READ).allow_flags(SqeFlags::IO_DRAIN);
        if may_nop {
            allowed = allowed.allow(Opcode::NOP);
        }
        let mut disabled = disabled();
        disabled.restrict(&allowed)?;
        let mut ring = disabled.enable().map_err(|(_, errno)| errno)?;
        let zero = File::open("/dev/zero")?;
        let read = ring.submit(Read::new(zero.try_clone()?, [1; 4]).drained())?;
        ring.wait(read)?.result?;
        let mut buf = [1; 4];
        let refused = ring.scope(|scope| match scope.submit(Read::new(&zero, &mut buf[..])) {
            Ok(read) => scope.wait(read).map(|_| None).map_err(|unfinished| unfinished.why),
            Err(rejected) => Ok(Some(rejected.why)),
        })?;
        assert_eq!(refused, (!may_nop).then_some(Rejection::Drained));
    }
    Ok(())
}

fn flags() -> Result<(), Failed> {
    let forced = Sqe { flags: SqeFlags::ASYNC, ..nop(1) };
    let only = Restrictions::new().allow(Opcode::NOP);
    let mut without = restricted(only);
    assert_eq!(result(&mut without, nop(1)), 0);
    assert_eq!(result(&mut without, forced), -libc::EACCES);
    let mut with = restricted(only.allow_flags(SqeFlags::ASYNC));
    assert_eq!(result(&mut with, nop(1)), 0);
    assert_eq!(result(&mut with, forced), 0);
    let mut demanded = restricted(only.require_flags(SqeFlags::ASYNC));
    assert_eq!(result(&mut demanded, nop(1)), -libc::EACCES);
    assert_eq!(result(&mut demanded, forced), 0);
    Ok(())
}

fn ends() -> Result<(), Failed> {
    let mut disabled = disabled();
    disabled.restrict(&Restrictions::new().allow(Opcode::READ))?;
    let mut ring = disabled.enable().expect("that is allowed");
    let (reader, _writer) = pipe()?;
    let read = ring.submit(Read::new(reader, [0; 4]))?;
    let refused = ring.submit(Nop)?;
    assert_eq!(ring.wait(refused)?.unwrap_err().raw_os_error(), Some(libc::EACCES));
    let chained = ring.submit(Nop.forced())?;
    assert_eq!(ring.wait(chained)?.unwrap_err().raw_os_error(), Some(libc::EACCES));
    ring.cancel(&read)?;
    let result = ring.wait(read)?.result;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    let (reader, _writer) = pipe()?;
    let _in_flight = ring.submit(Read::new(reader, [0; 4]))?;
    ring.submit_all()?;
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
    Ok(())
}

/// Every entry must be for a worker: then a cancel is, too.
fn cancels() -> Result<(), Failed> {
    let mut disabled = disabled();
    disabled.restrict(&Restrictions::new().allow(Opcode::READ).require_flags(SqeFlags::ASYNC))?;
    let mut ring = disabled.enable().expect("that is allowed");
    let (reader, _writer) = pipe()?;
    let read = ring.submit(Read::new(reader, [0; 4]).forced())?;
    ring.submit_all()?;
    // A worker thread that is about to begin may miss a cancel (6.18), so the test cancels again.
    let mut read = Err(read);
    let read = loop {
        match read {
            Ok(outcome) => break outcome,
            Err(ticket) => {
                ring.cancel(&ticket)?;
                ring.submit_all()?;
                thread::sleep(Duration::from_millis(1));
                ring.reap(|_| ())?;
                read = ring.try_take(ticket);
            }
        }
    };
    let error = read.result.expect_err("nobody writes");
    // A read that a worker is at ends by a signal.
    assert!(matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR)), "{error}");
    Ok(())
}

/// Every entry must wait for those before it, which is useless for a cancel.
fn scope_ends() -> Result<(), Failed> {
    let mut disabled = disabled();
    let drained = Restrictions::new().allow(Opcode::READ).require_flags(SqeFlags::IO_DRAIN);
    disabled.restrict(&drained)?;
    let mut ring = disabled.enable().expect("that is allowed");
    let (reader, _writer) = pipe()?;
    let read = Read::new(reader, [0; 4]).drained();
    let _in_flight = ring.submit(read).map_err(|rejected| rejected.why)?;
    ring.submit_all()?;
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
    Ok(())
}

fn no_bundles() -> Result<(), Failed> {
    let mut disabled = disabled();
    let rings = Restrictions::new()
        .allow(Opcode::SEND)
        .allow_flags(SqeFlags::BUFFER_SELECT)
        .allow_register(RegisterOp::PBUF_RING)
        .allow_register(RegisterOp::UNREGISTER_PBUF_RING);
    disabled.restrict(&rings)?;
    let mut ring = disabled.enable().expect("that is allowed");
    let refused = ring.send_ring(2, 8).map(drop);
    assert_eq!(refused, Err(RegisterError::Restricted { call: "PBUF_STATUS" }));
    Ok(())
}

/// A sandbox: files by their slots, and no access to others.
fn by_places() -> Result<(), Failed> {
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"ab")?;
    let mut disabled = disabled();
    let mut memory = [0_u8; 8];
    let iov_base = memory.as_mut_ptr().cast();
    disabled.register_files(&[Some(reader.as_fd())])?;
    // SAFETY: no request names it, because none does what takes a registered buffer (OP1).
    unsafe { disabled.register_buffers(&[libc::iovec { iov_base, iov_len: 8 }]) }?;
    let who = disabled.register_personality()?;
    let reads = Restrictions::new().allow(Opcode::READ).require_flags(SqeFlags::FIXED_FILE);
    disabled.restrict(&reads)?;
    let mut ring = disabled.enable_raw().expect("that is allowed");
    let by_place = Sqe { fd: 0, flags: SqeFlags::FIXED_FILE, ..read_byte(&reader, 1) };
    assert_eq!(result(&mut ring, by_place), 1);
    assert_eq!(result(&mut ring, Sqe { personality: who.id(), ..by_place }), 1);
    assert_eq!(result(&mut ring, read_byte(&reader, 1)), -libc::EACCES);
    let refused = ring.update_files(0, &[FileSlot::Empty]);
    assert_eq!(refused, Err(RegisterError::Restricted { call: "FILES_UPDATE" }));
    Ok(())
}

fn once() -> Result<(), Failed> {
    let mut disabled = disabled();
    let nop = Restrictions::new().allow(Opcode::NOP);
    disabled.restrict(&nop)?;
    assert_eq!(disabled.restrict(&nop), Err(RegisterError::InUse { what: SET }));
    Ok(())
}

fn unknown() -> Result<(), Failed> {
    let mut disabled = disabled();
    let ops = Restrictions::new().allow(Opcode(255));
    assert!(matches!(disabled.restrict(&ops), Err(RegisterError::Invalid { .. })));
    let calls = Restrictions::new().allow_register(RegisterOp(63));
    assert!(matches!(disabled.restrict(&calls), Err(RegisterError::Invalid { .. })));
    // Nothing was restricted then, and a set that the kernel knows is taken.
    disabled.restrict(&Restrictions::new().allow(Opcode::NOP))?;
    Ok(())
}

/// Gives up, for this thread, ever gaining privileges.
fn give_up() {
    // SAFETY: five numbers, because that is how `prctl` takes them.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
}

fn task() -> Result<(), Failed> {
    let thread = thread::spawn(|| {
        give_up();
        let nops = Restrictions::new().allow(Opcode::NOP);
        restrict_task(&nops).expect("this thread may");
        assert_eq!(restrict_task(&nops), Err(RegisterError::InUse { what: SET }));
        let of_child = thread::spawn(|| {
            let mut ring = crate::harness::ring(Setup::plain(4));
            let (reader, _writer) = pipe().expect("a pipe");
            is_shut(&ring);
            (result(&mut ring, nop(1)), result(&mut ring, read_byte(&reader, 2)))
        });
        assert_eq!(of_child.join().expect("no panic"), (0, -libc::EACCES));
        let mut disabled = disabled();
        // Since Linux 7.2 the inherited restriction already forbids asking for more.
        let call = "RESTRICTIONS";
        let refusals = [RegisterError::InUse { what: SET }, RegisterError::Restricted { call }];
        assert!(disabled.restrict(&nops).is_err_and(|error| refusals.contains(&error)));
        let mut ring = disabled.enable_raw().expect("that is allowed");
        assert_eq!(result(&mut ring, nop(1)), 0);
        is_shut(&ring);
    });
    thread.join().expect("no panic");
    // This thread is not restricted.
    crate::harness::ring(Setup::plain(4)).register_personality()?;
    Ok(())
}

fn powerless() -> Result<(), Failed> {
    let error = restrict_task(&Restrictions::new()).unwrap_err();
    assert!(matches!(error, RegisterError::Privilege { .. }), "{error}");
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let error = restrict_task(&Restrictions::new()).unwrap_err();
    assert_eq!(error.to_string(), "restricting a task needs Linux 7.0");
    Ok(())
}

/// A thread has 16.
fn places() -> Result<(), Failed> {
    let allowed = Restrictions::new().allow(Opcode::NOP).allow_register(RegisterOp::RING_FDS);
    for _ in 0..17 {
        let mut disabled = patient(|| Setup::plain(4).build_disabled())?;
        disabled.restrict(&allowed)?;
        let mut ring = disabled.enable_raw().map_err(|(_, errno)| errno)?;
        ring.register_ring_fd()?;
    }
    Ok(())
}

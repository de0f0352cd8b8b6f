//! An entry that the kernel holds back after a drained operation, until it looks once more.
//!
//! ```text
//!   nop.drained(), completes
//!   nop                       held back: completes only when the next entry comes
//!   a wait without a limit    must push that entry
//! ```
#![allow(unsafe_code, reason = "answers a probe")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::op::{Nop, Op as _, PollEvents, PollMulti, SendZc};
use annulus::raw::wait_options::WaitOptions;
use annulus::sys::abi::Cqe;
use annulus::sys::abi_register::{Probe, ProbeOp};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{CqeFlags, EnterFlags};
use annulus::sys::flags_register::ProbeOpFlags;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{ChainEnd, Ring, Setup, Woken};

use crate::support::backend::{Bound, Call, Enter, Script, ScriptedKernel};

const MINUTE: Duration = Duration::from_secs(60);

/// A way to wait for what is held back, or for a while.
type Wait = fn(&mut Ring);

/// Every wait of a ring.
const WAITS: [(&str, Wait); 8] = [
    ("wait", |ring| {
        let ticket = ring.submit(Nop).expect("room");
        ring.wait(ticket).expect("it completes").expect("a NOP succeeds");
    }),
    ("wait_timeout", |ring| {
        let ticket = ring.submit(Nop).expect("room");
        let waited = ring.wait_timeout(ticket, MINUTE);
        waited.expect("it completes").expect("a NOP succeeds");
    }),
    ("wait_with", |ring| {
        let ticket = ring.submit(Nop).expect("room");
        let waited = ring.wait_with(ticket, &WaitOptions::FOREVER.without_iowait());
        waited.expect("it completes").expect("a NOP succeeds");
    }),
    ("wait_chain", |ring| {
        let chain = ring.submit_chain((Nop, Nop)).expect("room");
        let outcome = ring.wait_chain(chain).expect("it completes");
        assert!(matches!(outcome.end, ChainEnd::Complete), "{:?}", outcome.end);
    }),
    ("submit_and_wait", |ring| {
        let _ticket = ring.submit(Nop).expect("room");
        ring.submit_and_wait(1).expect("it completes");
    }),
    ("submit_and_wait_timeout", |ring| {
        let _ticket = ring.submit(Nop).expect("room");
        assert_eq!(ring.submit_and_wait_timeout(1, MINUTE).expect("it completes").1, Woken::Ready);
    }),
    ("submit_and_wait_with", |ring| {
        let _ticket = ring.submit(Nop).expect("room");
        let options = WaitOptions::FOREVER.min_wait(Duration::from_millis(1));
        let waited = ring.submit_and_wait_with(1, &options);
        assert_eq!(waited.expect("it completes").1, Woken::Ready);
    }),
    ("next", |ring| {
        let file = std::fs::File::open("/dev/null").expect("there is one");
        let poll = ring.submit(PollMulti::new(file, PollEvents::IN)).expect("room");
        assert!(ring.next(&poll).expect("it completes").is_some());
        ring.detach(poll);
    }),
];

/// From now on entries are held back until another one comes.
fn hold_back(script: &Script) {
    let held = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..400 {
        let held = Arc::clone(&held);
        script.enters(Enter::Wait(Box::new(move |kernel, to_submit, bound| {
            if to_submit == 0 {
                return match bound {
                    Bound::Ext { timeout: Some(_), .. } => Err(Errno::new(libc::ETIME)),
                    _ => Ok(0),
                };
            }
            let mut held = held.lock().expect("no panic");
            let done: Vec<u64> = std::mem::take(&mut *held);
            while let Some(sqe) = kernel.consume() {
                held.push(sqe.user_data);
            }
            if !done.is_empty() {
                for user_data in done.into_iter().chain(held.drain(..)) {
                    let res = i32::from(libc::POLLIN);
                    assert!(kernel.post(Cqe { user_data, res, flags: CqeFlags::empty() }));
                }
            }
            Ok(to_submit)
        })));
    }
}

#[test]
fn a_wait_makes_the_kernel_look_at_what_it_holds_back() {
    for (name, wait) in WAITS {
        let (kernel, script) = ScriptedKernel::new();
        script.keep_time();
        let mut ring = Setup::plain(8).kernel(kernel).build().expect("a ring");
        let drained = ring.submit(Nop.drained()).expect("room");
        ring.wait(drained).expect("it completes").expect("a NOP succeeds");
        script.take_calls();
        hold_back(&script);
        wait(&mut ring);
        let waits: Vec<_> = script.take_calls().into_iter().filter_map(waits_for).collect();
        assert!(waits.len() > 1, "{name}: {waits:?}");
        for bound in waits {
            let Bound::Ext { timeout: Some(time), .. } = bound else {
                panic!("{name}: a wait without a limit, while an entry is held back: {bound:?}")
            };
            assert!(time.tv_sec <= 1, "{name}: a look after {time:?}");
        }
        script.enters_no_more();
    }
}

/// Nothing is in flight but a cancel, which the kernel holds back: an entry makes it look.
#[test]
fn a_cancel_of_ours_that_is_held_back_stops_no_send() {
    let (kernel, script) = ScriptedKernel::new();
    script.keep_time();
    let mut ring = Setup::plain(8).kernel(kernel).build().expect("a ring");
    let drained = ring.submit(Nop.drained()).expect("room");
    ring.wait(drained).expect("it completes").expect("a NOP succeeds");
    script.enters(Enter::Consume(1));
    let nop = ring.submit(Nop).expect("room");
    ring.submit_all().expect("submit");
    ring.cancel(&nop).expect("room");
    let user_data = script.consumed().last().expect("the NOP").user_data;
    assert!(script.post(user_data, 0));
    hold_back(&script);
    ring.submit_all().expect("submit");
    ring.wait(nop).expect("it completes").expect("a NOP succeeds");
    let file = std::fs::File::open("/dev/null").expect("there is one");
    let sent = ring.submit(SendZc::new(file, [0; 8])).map_err(|rejected| rejected.why);
    script.enters_no_more();
    ring.detach(sent.expect("it is not refused"));
}

/// What was in flight before, or still is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    MultishotInFlight,
    MultishotDetached,
    /// It ended with an item, as when there is no room for another.
    MultishotFull,
    ZeroCopy,
    /// Its result has come, and its notification has not.
    ZeroCopyResult,
}

fn before(ring: &mut Ring, script: &Script, what: Before) {
    let complete = |res: i32, flags: Vec<CqeFlags>| {
        script.enters(Enter::Wait(Box::new(move |kernel, to_submit, _| {
            while let Some(sqe) = kernel.consume() {
                for &flags in &flags {
                    assert!(kernel.post(Cqe { user_data: sqe.user_data, res, flags }));
                }
            }
            Ok(to_submit)
        })));
    };
    let null = std::fs::File::open("/dev/null").expect("there is one");
    match what {
        Before::Nothing => {}
        Before::MultishotInFlight | Before::MultishotDetached => {
            let poll = ring.submit(PollMulti::new(null, PollEvents::IN)).expect("room");
            if what == Before::MultishotDetached {
                ring.detach(poll);
            }
        }
        Before::MultishotFull => {
            let poll = ring.submit(PollMulti::new(null, PollEvents::IN)).expect("room");
            complete(i32::from(libc::POLLIN), vec![CqeFlags::empty()]);
            assert!(ring.next(&poll).expect("it completes").is_some());
            let _ended = ring.wait(poll).expect("it has ended");
        }
        Before::ZeroCopy => {
            let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("two");
            let send = ring.submit(SendZc::new(socket, b"x")).expect("room");
            complete(1, vec![CqeFlags::MORE, CqeFlags::NOTIF]);
            let _sent = ring.wait(send).expect("it completes");
        }
        Before::ZeroCopyResult => {
            let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("two");
            let send = ring.submit(SendZc::new(socket, b"x")).expect("room");
            complete(1, vec![CqeFlags::MORE]);
            ring.submit_and_wait(1).expect("it completes");
            ring.reap(|_| ()).expect("the result");
            drop(send); // In flight for good: detached, it would be counted as such.
            ring.set_drop_timeout(Duration::ZERO);
        }
    }
}

#[test]
fn what_is_drained_on_a_kernel_that_miscounts_is_rejected() {
    let all = [
        (Before::Nothing, true),
        (Before::MultishotInFlight, false),
        (Before::MultishotDetached, false),
        (Before::MultishotFull, false),
        (Before::ZeroCopy, false),
        (Before::ZeroCopyResult, false),
    ];
    for counts_requests in [false, true] {
        for (what, right) in all {
            let (kernel, script) = ScriptedKernel::new();
            script.on_register(move |op, arg, count| {
                (op == RegisterOp::PROBE).then(|| probed(arg, count, counts_requests))
            });
            let mut ring = Setup::plain(8).kernel(kernel).build().expect("a ring");
            before(&mut ring, &script, what);
            let drained = ring.submit(Nop.drained()).map(drop).map_err(|rejected| rejected.why);
            let chain = ring.submit_chain((Nop.drained(), Nop)).map(drop).map_err(|r| r.why);
            for why in [drained, chain] {
                assert_eq!(why.is_ok(), right || counts_requests, "{what:?}: {why:?}");
                let words = why.err().map_or_else(String::new, |why| why.to_string());
                assert_eq!(words.contains("6.16"), !words.is_empty(), "{words}");
            }
            script.enters_no_more();
        }
    }
}

/// The answer of a kernel that has all operations up to the last one of Linux 6.15, or of 6.16.
fn probed(arg: *mut libc::c_void, count: u32, counts_requests: bool) -> Result<u32, Errno> {
    let last = if counts_requests { Opcode::PIPE } else { Opcode::READV_FIXED };
    let ops: Vec<ProbeOp> = (0..=last.0)
        .map(|op| ProbeOp { op: Opcode(op), flags: ProbeOpFlags::SUPPORTED, ..ProbeOp::default() })
        .collect();
    let head = Probe { last_op: last, ops_len: last.0 + 1, ..Probe::default() };
    assert!(ops.len() <= count as usize);
    let pointer = arg.cast::<Probe>();
    // SAFETY: a live `struct io_uring_probe`, as `io_uring_register(2)` says of the call.
    unsafe { pointer.write(head) };
    // SAFETY: `count` operations come behind it, as `io_uring_register(2)` says of the call.
    let first = unsafe { pointer.add(1) }.cast::<ProbeOp>();
    // SAFETY: `count` live operations, and those written are no more.
    unsafe { first.copy_from_nonoverlapping(ops.as_ptr(), ops.len()) };
    Ok(0)
}

/// The limit of an enter that waits.
fn waits_for(call: Call) -> Option<Bound> {
    match call {
        Call::Enter { min_complete: 1.., flags, bound, .. }
            if flags.contains(EnterFlags::GETEVENTS) =>
        {
            Some(bound)
        }
        _ => None,
    }
}

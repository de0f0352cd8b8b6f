//! The failures that the random histories found, each in as few steps as possible.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::lease::BufRing;
use annulus::op::{Done, Hinted, Nop, Op, PollEvents, PollMulti, RecvMulti, RecvProvided, SendV};
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::abi_register::BufReg;
use annulus::sys::errno::Errno;
use annulus::sys::flags::{CqeFlags, Features};
use annulus::sys::opcode::RegisterOp;
use annulus::{Event, Rejected, Rejection, Ring, Setup, Step as _, StepExt as _, Woken};

use super::ends::named;
use super::runner::complaint;
use super::world::OnPurpose;
use crate::support::backend::{Enter, Script, ScriptedKernel};

/// In `user_data`: the first operation of a slot.
const FIRST: u64 = 1 << 32;

/// A ring whose kernel follows a script, and that script.
fn scripted<U: Default>() -> (Ring<U>, Arc<Script>) {
    let (kernel, script) = ScriptedKernel::new();
    let ring = Setup::plain(8).kernel(kernel).build_for().expect("a ring");
    (ring, script)
}

fn null() -> std::fs::File {
    std::fs::File::open("/dev/null").expect("there is one")
}

/// Posts a completion of the operation in `slot`, the first of that slot.
fn post(script: &Script, slot: u32, res: i32, flags: CqeFlags) {
    let cqe = Cqe { user_data: FIRST | u64::from(slot), res, flags };
    assert!(script.kernel(|kernel| kernel.post(cqe)));
}

#[test]
fn the_longest_time_is_waited_like_any_other() {
    let (mut ring, _script) = scripted::<()>();
    let ticket = ring.submit(Nop).expect("room");
    ring.wait_timeout(ticket, Duration::MAX).expect("it completes").expect("a NOP succeeds");
    let [first, second] = [(); 2].map(|()| ring.submit(Nop).expect("room"));
    ring.wait(second).expect("it completes").expect("a NOP succeeds");
    let waited = ring.submit_and_wait_timeout(1, Duration::MAX);
    assert_eq!(waited.expect("the first has completed").1, Woken::Ready);
    drop(first);
    ring.shutdown(Duration::MAX).expect("all has completed");
}

thread_local! {
    static ARMED: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// A user value that panics when it is dropped, after a number of others were dropped.
#[derive(Default)]
struct UserValue;

impl Drop for UserValue {
    fn drop(&mut self) {
        let left = ARMED.get();
        ARMED.set(left.wrapping_sub(1));
        if left == 0 {
            panic_any(OnPurpose);
        }
    }
}

#[test]
fn op1_a_user_value_that_panics_within_a_chain_leaves_no_step_behind() {
    for after in 0..3 {
        let (mut ring, _script) = scripted::<UserValue>();
        ring.set_drop_timeout(Duration::ZERO);
        ARMED.set(after);
        let submitted =
            catch_unwind(AssertUnwindSafe(|| ring.submit_chain((Nop, Nop, Nop)).is_ok()));
        ARMED.set(u32::MAX);
        let pushed = ring.submit_all().expect("submit");
        assert_eq!(ring.in_flight(), pushed, "submitted: {submitted:?}");
    }
}

#[test]
fn op1_a_user_value_that_panics_when_the_next_takes_its_place_detaches_the_operation() {
    let (mut ring, _script) = scripted::<UserValue>();
    let vacant = ring.vacant();
    let first = ring.submit(Nop).map_err(|rejected| rejected.why).expect("room");
    ring.wait(first).expect("it completes").expect("a NOP succeeds");
    ARMED.set(0); // The first user value, which is still in the slot.
    let submitted = catch_unwind(AssertUnwindSafe(|| ring.submit(Nop).map(|_| ()).is_ok()));
    ARMED.set(u32::MAX);
    assert!(submitted.is_err(), "the slot that was free last is taken first");
    assert_eq!((ring.in_flight(), ring.vacant()), (1, vacant - 1));
    let next = ring.submit(Nop).map_err(|rejected| rejected.why).expect("room");
    ring.wait(next).expect("it completes").expect("a NOP succeeds");
    assert_eq!((ring.in_flight(), ring.vacant()), (0, vacant), "nobody has its ticket");
}

/// A user value that counts how often one was dropped.
#[derive(Default)]
struct Counted(Option<Rc<Cell<u32>>>);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.set(count.get() + 1);
        }
    }
}

/// A NOP whose output cannot be made.
struct NoOutput;

// SAFETY: OP1 to OP3: it points to nothing, completes once, and its completion carries no resource.
unsafe impl Op for NoOutput {
    type Output = ();

    fn prep(&mut self) -> Sqe {
        annulus::prep::nop()
    }

    fn finish(self, _: Done) {
        panic_any(OnPurpose);
    }
}

#[test]
fn a_user_value_goes_with_its_operation_also_when_that_panics() {
    for detaches in [Some(()), None] {
        let (mut ring, _script) = scripted::<Counted>();
        let count = Rc::new(Cell::new(0));
        let word = Counted(Some(Rc::clone(&count)));
        let ticket = ring.submit_for(NoOutput, word).map_err(|rejected| rejected.why);
        let ticket = ticket.expect("room");
        ring.submit_and_wait(1).expect("it completes");
        ring.reap(|_| ()).expect("nothing to ask for");
        let panicked = catch_unwind(AssertUnwindSafe(|| match detaches {
            Some(()) => ring.detach(ticket),
            None => drop(ring.try_take(ticket)),
        }));
        assert!(panicked.is_err());
        assert_eq!(count.get(), 1, "it does not wait for the next operation in that slot");
    }
}

#[test]
fn op2_a_chain_of_another_ring_is_refused() {
    let ((mut one, _first), (mut other, _second)) = (scripted::<()>(), scripted::<()>());
    let tickets = one.submit_chain((Nop, Nop)).expect("room");
    let said = complaint(|| other.wait_chain(tickets).is_ok());
    assert!(said.contains("OP2: a ticket of ring"), "{said}");
}

#[test]
fn what_ended_while_a_chain_was_waited_for_in_vain_is_still_shown() {
    let (mut ring, script) = scripted::<()>();
    let tickets = ring.submit_chain((Nop, Nop)).expect("room");
    script.enters(Enter::Run(Box::new(|kernel, to_submit| {
        let first = kernel.consume().expect("two were submitted");
        kernel.consume().expect("two were submitted");
        assert!(kernel.post(Cqe { user_data: first.user_data, ..Cqe::ZERO }));
        Ok(to_submit)
    })));
    script.enters(Enter::Run(Box::new(|_, _| Err(Errno::new(libc::ENXIO)))));
    let unfinished = ring.wait_chain(tickets).expect_err("the kernel cannot go on");
    let mut ended = Vec::new();
    ring.reap(|event| match event {
        Event::Ended { slot, .. } => ended.push(slot),
        other => panic!("{other:?}"),
    })
    .expect("nothing is held back");
    let (first, second) = unfinished.ticket.into_tickets();
    assert_eq!(ended, [first.slot()]);
    ring.try_take(first).expect("it has ended").expect("a NOP succeeds");
    post(&script, second.slot(), 0, CqeFlags::empty());
    ring.wait(second).expect("it has ended").expect("a NOP succeeds");
}

#[test]
fn a_panic_at_the_last_completion_does_not_lose_the_end() {
    let (mut ring, script) = scripted::<()>();
    script.enters(Enter::Consume(1));
    let ticket = ring.submit(PollMulti::new(null(), PollEvents::IN)).expect("room");
    ring.submit_all().expect("submit");
    post(&script, ticket.slot(), 1, CqeFlags::empty());
    let mut seen = Vec::new();
    for _ in 0..2 {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            ring.reap(|event| match event {
                Event::Multishot { .. } => {
                    seen.push("completion");
                    panic_any(OnPurpose);
                }
                Event::Ended { .. } => seen.push("end"),
                other => panic!("{other:?}"),
            })
        }));
    }
    assert_eq!(seen, ["completion", "end"]);
    assert!(ring.try_take(ticket).is_ok());
}

#[test]
fn an_end_that_was_redeemed_is_no_event_to_wait_for() {
    let (mut ring, script) = scripted::<()>();
    let (first, second) = (ring.submit(Nop).expect("room"), ring.submit(Nop).expect("room"));
    ring.wait(second).expect("it completes").expect("a NOP succeeds");
    ring.wait(first).expect("it completes").expect("a NOP succeeds");
    let third = ring.submit(Nop).expect("room");
    script.enters(Enter::Consume(1));
    script.enters(Enter::Run(Box::new(|kernel, _| {
        // The second time that slot is used.
        assert!(kernel.post(Cqe { user_data: 2 << 32, ..Cqe::ZERO }));
        Ok(0)
    })));
    assert_eq!(third.slot(), 0);
    ring.submit_and_wait(1).expect("one comes");
    let mut events = 0;
    ring.reap(|_| events += 1).expect("nothing to ask for");
    assert_eq!(events, 1, "the wait was for one");
}

/// A ring with buffers, and the groups that were unregistered.
fn with_buffers() -> (Ring, Arc<Script>, BufRing, Arc<Mutex<Vec<u16>>>) {
    let (mut ring, script) = scripted();
    let groups = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&groups);
    script.on_register(move |op, arg, _| {
        if op == RegisterOp::UNREGISTER_PBUF_RING {
            // SAFETY: a live `struct io_uring_buf_reg`, as promised to `Backend::register`.
            seen.lock().expect("no panic").push(unsafe { arg.cast::<BufReg>().read() }.bgid);
        }
        matches!(op, RegisterOp::PBUF_RING | RegisterOp::UNREGISTER_PBUF_RING).then_some(Ok(0))
    });
    let buffers = ring.buf_ring(4, 64).expect("buffers");
    (ring, script, buffers, groups)
}

#[test]
fn op3_the_end_of_a_scope_gives_back_what_its_completions_carried() {
    let (mut ring, script, buffers, _) = with_buffers();
    let nop = ring.submit(Nop).expect("room");
    ring.submit_all().expect("submit");
    script.enters(Enter::Consume(1));
    let file = null();
    ring.scope(|s| {
        let ticket = s.submit(RecvMulti::new(&file, &buffers)).expect("room");
        s.submit_all().expect("submit");
        post(&script, 1, 8, named(0) | CqeFlags::MORE);
        // Takes the multishot's completion, and keeps it for its ticket.
        let other = s.submit(Nop).expect("room");
        s.wait(other).expect("it completes").expect("a NOP succeeds");
        assert_eq!(buffers.leased(), 1);
        post(&script, 1, -libc::ECANCELED, CqeFlags::empty());
        drop(ticket);
    });
    assert_eq!(buffers.leased(), 0, "nobody can take it any more");
    ring.detach(nop);
}

#[test]
fn an_operation_that_is_given_back_leaves_nothing_in_the_slot() {
    let (mut one, _script, buffers, groups) = with_buffers();
    let (mut other, _other_script) = scripted::<()>();
    let rejected = other.submit(RecvProvided::new(null(), &buffers)).expect_err("not its buffers");
    assert_eq!(rejected.why, Rejection::OtherRing);
    drop((rejected, buffers));
    // No handle to the old buffers is left, so they are unregistered when new ones are made.
    let _again = one.buf_ring(4, 64).expect("buffers");
    assert_eq!(*groups.lock().expect("no panic"), [0]);
}

#[test]
fn what_an_old_kernel_would_do_otherwise_is_rejected_however_it_is_wrapped() {
    fn rejected<T, O>(submitted: Result<T, Rejected<O>>) -> O {
        let needs = Features::RECVSEND_BUNDLE;
        match submitted {
            Ok(_) => panic!("this kernel would send the table of addresses"),
            Err(rejected) => {
                assert_eq!(rejected.why, Rejection::Unsupported { needs });
                assert!(rejected.to_string().contains("RECVSEND_BUNDLE"), "{rejected}");
                rejected.op
            }
        }
    }
    let (kernel, script) = ScriptedKernel::new();
    script.set_features(Features::all() - Features::RECVSEND_BUNDLE);
    let mut ring: Ring = Setup::plain(8).kernel(kernel).build_for().expect("a ring");
    script.on_register(|op, _, _| (op == RegisterOp::PERSONALITY).then_some(Ok(1)));
    let who = ring.register_personality().expect("credentials");
    let vacant = ring.vacant();
    let file = Rc::new(null());
    let send = || SendV::new(Rc::clone(&file), (vec![1, 2], "three"));
    rejected(ring.submit(send()));
    rejected(ring.submit(send().drained()));
    rejected(ring.submit(send().forced()));
    rejected(ring.submit(Hinted::new(send())));
    rejected(ring.submit(send().acting_as(who)));
    rejected(ring.submit_chain((send(),)));
    rejected(ring.submit_chain((Nop, send().forced())));
    rejected(ring.submit_chain((Nop, Nop, send())));
    rejected(ring.submit_chain((Nop, Nop, Nop, send().hard())));
    rejected(ring.submit_chain((Nop, Nop, send().within(Duration::from_secs(1)), Nop)));
    rejected(ring.submit_chain([send(), send()]));
    ring.scope(|s| drop(rejected(s.submit(send()))));
    let error = io::Error::from(ring.submit(send()).expect_err("as before"));
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert_eq!((ring.vacant(), Rc::strong_count(&file)), (vacant, 1), "all of it came back");
    assert_eq!(ring.submit_all(), Ok(0));
    assert_eq!(script.entered(), 0);
    // An operation that needs nothing of the kind works as before.
    let _ticket = ring.submit(Nop).map_err(|rejected| rejected.why).expect("room");
}

#[test]
fn what_cannot_be_cancelled_is_not_cancelled_without_pause() {
    let (mut ring, script) = scripted::<()>();
    script.keep_time();
    let ticket = ring.submit(Nop).expect("room");
    script.enters(Enter::Consume(1));
    ring.submit_all().expect("submit");
    let before = script.entered();
    for count in 0..300 {
        // Answers each cancel with "too late", and completes nothing else.
        script.enters(Enter::Run(Box::new(move |kernel, to_submit| {
            while let Some(sqe) = kernel.consume() {
                let cqe = Cqe { user_data: sqe.user_data, res: -libc::EALREADY, ..Cqe::ZERO };
                assert!(kernel.post(cqe));
            }
            if count == 299 {
                assert!(kernel.post(Cqe::ZERO), "enough is enough: the operation ends");
            } else if to_submit == 0 {
                return Err(Errno::new(libc::ETIME));
            }
            Ok(to_submit)
        })));
    }
    drop(ticket);
    let ended = ring.shutdown(Duration::from_millis(50));
    let entered = script.entered() - before;
    assert!(ended.is_err() && entered < 200, "entered {entered} times in 50 ms");
}

/// A completion is lost, perhaps another operation's: the scope goes on, and so does the ring's
/// end.
#[test]
fn a_lost_completion_ends_neither_the_process_nor_the_wait() {
    let (mut ring, script) = scripted::<()>();
    for _ in 0..2 {
        ring.scope(|s| {
            let _ = s.submit(Nop).map_err(|rejected| rejected.why).expect("room");
            script.enters(Enter::Fail(libc::EBADR));
            script.enters(Enter::Fail(libc::EBADR));
        });
        assert_eq!(ring.in_flight(), 0);
    }
    let _ = ring.submit(Nop).map_err(|rejected| rejected.why).expect("room");
    script.enters(Enter::Fail(libc::EBADR));
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
}

/// Where there is room for only one cancel, each round cancels another operation.
#[test]
fn no_operation_is_left_out_when_there_is_no_room_for_all_cancels() {
    let (kernel, script) = ScriptedKernel::new();
    let setup = Setup::plain(1).cq_entries(8).kernel(kernel);
    let mut ring: Ring = setup.build_for().expect("a ring");
    script.keep_time();
    for _ in 0..4 {
        let _ = ring.submit(Nop).map_err(|rejected| rejected.why).expect("room");
        script.enters(Enter::Consume(1));
        ring.submit_all().expect("submit");
    }
    let cancelled = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..40 {
        let cancelled = Arc::clone(&cancelled);
        // Takes one cancel, answers at once that it found nothing, and has no memory for more; in
        // the end every operation in flight completes.
        script.enters(Enter::Run(Box::new(move |kernel, _| {
            let Some(sqe) = kernel.consume() else { return Err(Errno::new(libc::ETIME)) };
            let mut cancelled = cancelled.lock().expect("no panic");
            cancelled.push(sqe.addr);
            if cancelled.len() == 8 {
                (0..4).for_each(|slot| {
                    assert!(kernel.post(Cqe { user_data: FIRST | slot, ..Cqe::ZERO }));
                });
            }
            let cqe = Cqe { user_data: sqe.user_data, res: -libc::EALREADY, ..Cqe::ZERO };
            assert!(kernel.post(cqe));
            Ok(1)
        })));
        script.enters(Enter::Fail(libc::EAGAIN));
    }
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
    let mut times = [0_u32; 4];
    for &operation in cancelled.lock().expect("no panic").iter() {
        times[usize::try_from(operation - FIRST).expect("one of four")] += 1;
    }
    let (least, most) = (times.iter().min(), times.iter().max());
    let (least, most) = (least.expect("four"), most.expect("four"));
    assert!(*least >= 2 && most - least <= 1, "each in turn, and what was missed again: {times:?}");
}

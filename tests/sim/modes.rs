//! What a program sees of a kernel that holds things back, refuses, or takes its time.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use annulus::op::{self, TimeoutMulti};
use annulus::prep;
use annulus::raw::split::Submitter;
use annulus::sim::{Faults, Release, Sim};
use annulus::sys::abi::{Sqe, Sqe128, Timespec};
use annulus::sys::flags::{EnterFlags, Features, SetupFlags, TimeoutFlags};
use annulus::sys::opcode::Opcode;
use annulus::sys::syscall::EnterArg;
use annulus::{EnterCause, Event, RawRing, Rejection, Setup};

fn ring(sim: &Sim, entries: u32, flags: SetupFlags) -> RawRing {
    Setup::plain(entries).with(flags).kernel(sim.kernel()).build_raw().expect("a ring")
}

fn push(ring: &mut RawRing, user_data: u64) {
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(Sqe { user_data, ..prep::nop() }) }.expect("room");
}

#[test]
fn cq5_completions_that_overflow_are_flagged_kept_and_come_in_order() {
    let sim = Sim::new(1);
    let mut ring = ring(&sim, 2, SetupFlags::empty());
    for user_data in 0..9 {
        push(&mut ring, user_data);
        ring.submit().expect("no fault");
    }
    assert_eq!(ring.ready(), 4);
    let mut seen = Vec::new();
    ring.drain(|cqe| seen.push(cqe.user_data)).expect("no fault");
    assert_eq!(seen, (0..9).collect::<Vec<_>>());
    assert!(ring.stats().overflows > 0, "the ring saw the flag");
    sim.check();
}

#[test]
fn cq5_deferred_work_is_flagged_and_comes_when_it_is_asked_for() {
    let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    for (flags, comes) in [
        (SetupFlags::empty(), [1, 1]),
        (SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG, [0, 1]),
        (deferring | SetupFlags::TASKRUN_FLAG, [0, 0]),
    ] {
        let sim = Sim::new(1);
        let mut ring = ring(&sim, 4, flags);
        let (reader, writer) = sim.pipe().expect("descriptors");
        let mut buf = [0_u8; 4];
        let addr = buf.as_mut_ptr().expose_provenance() as u64;
        // SAFETY: the buffer lives until the read has ended, below (OP1).
        unsafe { ring.push(prep::read(reader.as_raw_fd(), addr, 4, 0)) }.expect("room");
        ring.submit().expect("no fault");
        sim.write(&writer, b"four").expect("room");
        sim.advance(Duration::from_nanos(1));
        assert_eq!(ring.ready(), comes[0], "{flags:?}");
        ring.enter(0, 0, EnterFlags::empty(), EnterArg::None).expect("no fault");
        assert_eq!(ring.ready(), comes[1], "{flags:?}");
        ring.get_events().expect("no fault");
        assert_eq!((ring.ready(), &buf), (1, b"four"));
        assert!(ring.pop().is_some());
        sim.check();
    }
}

#[test]
fn sq2_a_refused_entry_ends_the_batch_unless_all_are_to_be_submitted() {
    for (flags, taken) in [(SetupFlags::empty(), 2), (SetupFlags::SUBMIT_ALL, 4)] {
        let sim = Sim::new(2);
        let mut ring = ring(&sim, 4, flags);
        push(&mut ring, 0);
        // SAFETY: it is refused, and points to nothing (OP1).
        unsafe { ring.push(Sqe { opcode: Opcode(99), user_data: 1, ..Sqe::ZERO }) }.expect("room");
        push(&mut ring, 2);
        push(&mut ring, 3);
        ring.flush();
        let count = ring.enter(4, 0, EnterFlags::empty(), EnterArg::None);
        assert_eq!(count, Ok(taken));
        ring.submit_and_wait(4).expect("the rest is submitted");
        sim.check();
    }
}

#[test]
fn what_sim_refuses_or_cuts_short_the_ring_makes_good() {
    let faults = Faults { partial: 700, interrupt: 300, ..Faults::SOME };
    for seed in 0..200 {
        let sim = Sim::with_faults(seed, faults);
        let mut ring = ring(&sim, 8, SetupFlags::empty());
        for user_data in 0..8 {
            push(&mut ring, user_data);
        }
        loop {
            match ring.submit_and_wait(8) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.cause, EnterCause::Interrupted, "seed {seed}"),
            }
        }
        let mut seen = Vec::new();
        ring.drain(|cqe| seen.push(cqe.user_data)).expect("no fault");
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7], "seed {seed}");
        sim.check();
    }
}

#[test]
fn an_enter_that_fails_consumes_nothing() {
    let sim = Sim::with_faults(1, Faults { again: 1000, ..Faults::NONE });
    let mut ring = ring(&sim, 4, SetupFlags::empty());
    push(&mut ring, 1);
    let error = ring.submit().expect_err("EAGAIN, always");
    assert_eq!(error.submitted, 0);
    assert_eq!(sim.report().requests, 0);
}

#[test]
fn time_stands_still_until_nothing_else_can_happen() {
    let sim = Sim::new(5);
    let mut ring = Setup::new(4).kernel(sim.kernel()).build().expect("a ring");
    let hour = Duration::from_secs(3600);
    let timer = ring.submit(op::Timeout::new(hour)).expect("room");
    let nop = ring.submit(op::Nop).expect("room");
    ring.wait(nop).expect("it ends").expect("no error");
    assert_eq!(sim.now(), Duration::ZERO);
    let begun = std::time::Instant::now();
    let late = ring.wait_timeout(timer, hour / 2).expect_err("too early");
    assert_eq!((late.why.cause, sim.now()), (EnterCause::TimedOut, hour / 2));
    ring.wait(late.ticket).expect("it ends").expect("no error");
    assert_eq!(sim.now(), hour);
    assert!(begun.elapsed() < Duration::from_secs(60));
    // A program that asks again and again, instead of waiting, sees time move, too.
    let timer = ring.submit(op::Timeout::new(hour)).expect("room");
    ring.submit_all().expect("no fault");
    let mut timer = Some(timer);
    for _ in 0..100 {
        let Some(ticket) = timer.take() else { break };
        // SAFETY: pushes nothing, and takes no completion.
        unsafe { ring.raw_mut() }.get_events().expect("no fault");
        ring.reap(|_| ()).expect("no fault");
        timer = ring.try_take(ticket).err();
    }
    assert_eq!(sim.now(), 2 * hour);
    sim.check();
}

#[test]
fn a_connect_waits_for_room_in_the_queue_of_the_listener() {
    let sim = Sim::new(1);
    let mut ring = Setup::new(4).kernel(sim.kernel()).build().expect("a ring");
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let listener = sim.listener(address).expect("descriptors");
    let clients: Vec<_> = (0..128).map(|_| sim.connect(address).expect("room")).collect();
    let full = sim.connect(address).expect_err("the queue is full");
    assert_eq!(full.raw_os_error(), Some(libc::EAGAIN));
    let socket = sim.socket().expect("descriptors");
    let connect = ring.submit(op::Connect::new(socket, address)).expect("room");
    let connect = ring.wait_timeout(connect, Duration::from_secs(1)).expect_err("no room");
    let accept = ring.submit(op::Accept::new(listener)).expect("room");
    let accepted = ring.wait(accept).expect("it ends");
    assert!(accepted.result.is_ok());
    assert!(ring.wait(connect.ticket).expect("it ends").result.is_ok());
    drop(clients);
    sim.check();
}

#[test]
fn a_single_issuer_is_one_thread() {
    let sim = Sim::new(1);
    assert!(ring(&sim, 4, SetupFlags::empty()).features().contains(Features::EXT_ARG));
    let refused = Setup::plain(4).with(SetupFlags::DEFER_TASKRUN).kernel(sim.kernel()).build_raw();
    assert!(refused.is_err(), "without SINGLE_ISSUER");
}

/// One that has `SEND_ZC` is as new as Linux 6.0, and may be as old, unless it says that it has
/// `SQE_MIXED`.
#[test]
fn a_kernel_that_may_forget_a_poll_gets_no_update() {
    for (release, may_forget) in [(Release::V6_18, true), (Release::NEWEST, false)] {
        let sim = Sim::new(1).like(release);
        let mut ring = Setup::new(4).kernel(sim.kernel()).build().expect("a ring");
        let (ours, _theirs) = sim.socket_pair().expect("no fault");
        let poll = ring.submit(op::Poll::new(ours, op::PollEvents::IN)).expect("room");
        match ring.poll_update(&poll, op::PollEvents::OUT) {
            Ok(update) => {
                assert!(!may_forget);
                let update = ring.submit(update).expect("room");
                let updated = ring.wait(update).expect("it ends");
                assert!(matches!(updated, op::UpdateOutcome::Updated), "{updated:?}");
                let ended = ring.wait(poll).expect("it ends");
                assert!(ended.result.is_ok(), "it can be written to");
            }
            Err(refused) => {
                assert!(may_forget);
                assert!(matches!(refused, Rejection::Invalid { .. }), "{refused:?}");
            }
        }
        sim.check();
    }
}

/// The ring lets its queue fill: that ends the timer. It waits by the clock of the simulation.
#[test]
fn a_timer_that_no_cancel_finds_ends_with_its_ring_and_its_scope() {
    let timer = || TimeoutMulti::new(Duration::from_micros(1));
    for by_scope in [false, true] {
        let sim = Sim::with_faults(1, Faults { no_cancel: 1000, ..Faults::NONE });
        let mut ring = Setup::plain(4).kernel(sim.kernel()).build().expect("a ring");
        if by_scope {
            ring.scope(|s| drop(s.submit(timer()).expect("room")));
        } else {
            let _ = ring.submit(timer()).expect("room");
            ring.submit_all().expect("no fault");
        }
        assert_eq!(ring.shutdown(Duration::from_secs(1)), Ok(()), "in a scope: {by_scope}");
    }
}

/// The slots that were given back are poisoned when they are; not later, when in use again.
#[test]
fn cq4_what_comes_while_time_passes_is_not_poisoned() {
    let sim = Sim::new(1);
    let mut ring = ring(&sim, 4, SetupFlags::empty());
    let span = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    let timeout = prep::timeout((&raw const span).addr() as u64, 0, TimeoutFlags::empty());
    // SAFETY: the kernel reads the time as it takes the entry, and it lives until then (OP1).
    unsafe { ring.push(Sqe { user_data: 9, ..timeout }) }.expect("room");
    ring.submit().expect("no fault");
    for _ in 0..8 {
        push(&mut ring, 1);
        ring.submit().expect("no fault");
    }
    while ring.pop().is_some() {}
    sim.advance(Duration::from_millis(2));
    sim.check();
    assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(9));
}

/// What `Ring::sender` sends wakes the ring by an eventfd, which is one of the machine.
#[test]
fn a_message_ends_a_wait() {
    for seed in 0..100 {
        let sim = Sim::with_faults(seed, Faults { interrupt: 0, ..Faults::SOME });
        let mut ring = Setup::plain(4).kernel(sim.kernel()).build().expect("a ring");
        let sender = ring.sender().expect("an eventfd");
        sim.after(Duration::from_millis(1), move |_| sender.send(42).expect("it is open"));
        ring.submit_and_wait(1).expect("the message");
        let mut came = Vec::new();
        let reaped = ring.reap(|event| {
            if let Event::Message(message) = event {
                came.push(message);
            }
        });
        reaped.expect("no fault");
        assert_eq!(came, [42], "seed {seed}");
        sim.check();
    }
}

/// An entry that sends its own ring a message has two completions. Whichever way the half that
/// submits was given it, the whole ring knows, and does not refuse to wait for both.
#[test]
fn what_a_half_was_given_is_known_when_the_halves_are_joined() {
    type Push = fn(&mut Submitter, Sqe);
    let ways: [Push; 5] = [
        |half, sqe| {
            // SAFETY: a message points to nothing (OP1).
            unsafe { half.push(sqe) }.expect("room");
        },
        |half, sqe| {
            // SAFETY: a message points to nothing (OP1).
            unsafe { half.push_with(|entry| *entry = sqe) }.expect("room");
        },
        |half, sqe| {
            let wide = Sqe128 { first: sqe, ..Sqe128::ZERO };
            // SAFETY: a message points to nothing (OP1).
            unsafe { half.push_wide(wide) }.expect("room");
        },
        |half, sqe| {
            let mut chain = half.reserve(1).expect("room");
            // SAFETY: a message points to nothing (OP1).
            unsafe { chain.push(sqe) }.expect("it is reserved");
            chain.commit();
        },
        |half, sqe| {
            let mut chain = half.reserve(1).expect("room");
            // SAFETY: a message points to nothing (OP1).
            unsafe { chain.push_wide(Sqe128 { first: sqe, ..Sqe128::ZERO }) }.expect("reserved");
            chain.commit();
        },
    ];
    for (way, push) in ways.into_iter().enumerate() {
        let sim = Sim::new(1);
        let setup = Setup::plain(4).with(SetupFlags::SQE128 | SetupFlags::CQE32);
        let ring = setup.kernel(sim.kernel()).build_raw().expect("a ring");
        let fd = ring.as_fd().as_raw_fd();
        let (mut submitter, reaper) = ring.split().expect("any thread may use it");
        push(&mut submitter, Sqe { user_data: 1, ..prep::msg_ring(fd, 5, 2) });
        let mut whole = submitter.join(reaper).expect("the halves of one ring");
        let waited = whole.submit_and_wait(2);
        assert_eq!(waited, Ok(1), "way {way}");
        let mut came = Vec::new();
        whole.drain(|cqe| came.push((cqe.user_data, cqe.res))).expect("no fault");
        came.sort_unstable();
        assert_eq!(came, [(1, 0), (2, 5)], "way {way}");
    }
}

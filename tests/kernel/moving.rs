//! A whole ring that goes from thread to thread, and what stays behind.
//!
//! Indices belong to a thread, so a test that looks at them runs on threads of its own.
#![allow(unsafe_code, reason = "enters the kernel by an index")]

use std::io::Write;
use std::mem;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use annulus::raw::moving::WhyNotSend;
use annulus::raw::register::RegisterError;
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, SetupFlags};
use annulus::sys::map::Pages;
use annulus::sys::opcode::RegisterOp;
use annulus::sys::syscall::{self, EnterArg, RingRef};
use annulus::{EnterCause, RawRing, SendRawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain_user_data, nop, patient, push, read_byte, ring, test};
use crate::processes::works;
use crate::sqpoll::POLLS;

const ISSUER: [Need; 1] = [Need::Setup(SetupFlags::SINGLE_ISSUER)];
const FD_ONLY: [Need; 1] = [Need::Setup(SetupFlags::REGISTERED_FD_ONLY)];
const RING_FDS: [Need; 1] = [Need::Register(RegisterOp::RING_FDS)];
const CLONES: [Need; 2] = [FD_ONLY[0], Need::Register(RegisterOp::CLONE_BUFFERS)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("threads_use_one_ring_behind_a_lock", &[], behind_a_lock),
        test("a_request_completes_wherever_its_ring_went", &[], elsewhere),
        test("a_ring_outlives_the_thread_that_made_it", &[], outlives),
        test("a_polled_ring_outlives_the_thread_that_made_it", &[POLLS], polled_outlives),
        test("a_ring_of_one_issuer_is_not_sent", &ISSUER, one_issuer),
        test("a_ring_without_descriptor_is_not_sent", &FD_ONLY, no_descriptor),
        test("a_ring_that_is_sent_gives_its_index_back", &RING_FDS, index_comes_back),
        test("op1_an_index_that_was_swapped_in_names_no_other_ring", &RING_FDS, swapped_index),
        test("op1_a_ring_without_name_that_was_swapped_in_enters_no_other", &FD_ONLY, || {
            swapped_nameless()
        }),
        test("a_ring_without_name_has_it_again_where_it_was_made", &FD_ONLY, nameless_comes_back),
        test("a_ring_without_name_shares_no_buffers_of_another", &CLONES, shares_nothing),
    ]
}

fn sent(ring: RawRing) -> SendRawRing {
    ring.into_send().expect("no flag binds it to a thread")
}

fn nameless() -> RawRing {
    ring(Setup::plain(4).own_memory(Pages::Ordinary).with(SetupFlags::REGISTERED_FD_ONLY))
}

/// Plays `body` on a thread that has not registered anything yet.
fn apart<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(body).join().expect("no panic")
}

fn behind_a_lock() -> Result<(), Failed> {
    const EACH: u64 = 500;
    let ring = Mutex::new(sent(ring(Setup::plain(4))));
    let taken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..4 {
            let (ring, taken) = (&ring, &taken);
            scope.spawn(move || {
                for number in 0..EACH {
                    let mut ring = ring.lock().expect("nobody panicked");
                    push(&mut ring, nop(thread * EACH + number));
                    assert_eq!(ring.submit_and_wait(1), Ok(1));
                    let cqe = ring.pop().expect("somebody's");
                    drop(ring);
                    taken.lock().expect("nobody panicked").push(cqe.user_data);
                }
            });
        }
    });
    let mut taken = taken.into_inner()?;
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..4 * EACH), "each comes once");
    let ring = ring.into_inner()?;
    assert_eq!((ring.in_flight(), ring.stats().cqes), (0, 4 * EACH));
    Ok(())
}

fn elsewhere() -> Result<(), Failed> {
    let (from, mut to) = std::io::pipe()?;
    let mut ring = sent(ring(Setup::plain(4)));
    push(&mut ring, read_byte(&from, 7));
    assert_eq!(ring.submit(), Ok(1));
    let (there, back) = (mpsc::channel::<SendRawRing>(), mpsc::channel());
    let other = thread::spawn(move || {
        let mut ring = there.1.recv().expect("it is sent");
        assert_eq!(ring.in_flight(), 1);
        to.write_all(b"x").expect("room in the pipe");
        // This thread's submitter is the other one, which only waits for the channel.
        ring.wait(1).expect("the byte");
        let taken = drain_user_data(&mut ring);
        works(&mut ring);
        back.0.send((ring, taken)).expect("it is waited for");
    });
    there.0.send(ring).map_err(|_| "nobody is there")?;
    let (mut ring, taken) = back.1.recv()?;
    assert_eq!(taken, [7]);
    works(&mut ring);
    other.join().map_err(|_| "it panicked")?;
    Ok(())
}

fn outlives() -> Result<(), Failed> {
    let mut ring = apart(|| {
        let mut ring = sent(ring(Setup::plain(4)));
        push(&mut ring, nop(1));
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        push(&mut ring, nop(2));
        ring
    });
    assert_eq!(ring.submit_and_wait(2), Ok(1), "what that thread pushed");
    assert_eq!(drain_user_data(&mut ring), [1, 2]);
    works(&mut ring);
    works(&mut ring.into_raw());
    Ok(())
}

fn polled_outlives() -> Result<(), Failed> {
    let idle = Duration::from_millis(1);
    let mut ring = apart(move || sent(ring(Setup::plain(4).sqpoll(idle))));
    for user_data in 0..3 {
        thread::sleep(2 * idle); // It sleeps, and is woken.
        push(&mut ring, nop(user_data));
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        assert_eq!(drain_user_data(&mut ring), [user_data]);
    }
    Ok(())
}

fn one_issuer() -> Result<(), Failed> {
    let refused = ring(Setup::plain(4).with(SetupFlags::SINGLE_ISSUER)).into_send();
    let refused = refused.expect_err("the kernel would refuse other threads");
    assert_eq!(refused.why, WhyNotSend::SingleIssuer);
    assert!(refused.to_string().contains("build_disabled"));
    let mut ring = refused.ring;
    works(&mut ring);
    // Nor before it belongs to anyone: `DisabledRing` is the type for that.
    let disabled = Setup::plain(4).with(SetupFlags::SINGLE_ISSUER);
    let disabled = patient(|| disabled.build_raw_disabled())?;
    assert!(disabled.into_send().is_err());
    Ok(())
}

fn no_descriptor() -> Result<(), Failed> {
    let refused = nameless().into_send().expect_err("it has no name elsewhere");
    assert_eq!(refused.why, WhyNotSend::NoDescriptor);
    let mut ring = refused.ring;
    works(&mut ring);
    Ok(())
}

/// Enters the ring behind this thread's `index`, and does nothing there.
fn enter(index: u32) -> Result<u32, Errno> {
    let ring = RingRef::registered(index);
    // SAFETY: nothing is submitted, because the count is 0 (OP1).
    unsafe { syscall::enter(ring, 0, 0, EnterFlags::empty(), EnterArg::None) }
}

fn index_comes_back() -> Result<(), Failed> {
    apart(|| {
        let mut raw = ring(Setup::plain(4));
        assert_eq!(raw.register_ring_fd(), Ok(()));
        assert_eq!(enter(0), Ok(0));
        let mut ring = sent(raw);
        assert!(enter(0).is_err(), "it is no one's any more");
        works(&mut ring);
        assert_eq!(ring.register_ring_fd(), Err(Errno::new(libc::EPERM)), "it may go on");
        let mut raw = ring.into_raw();
        assert_eq!(raw.register_ring_fd(), Ok(()));
        works(&mut raw);
    });
    Ok(())
}

/// A ring of this thread that has its first index, with an entry that is published.
fn tempting() -> RawRing {
    let mut ring = ring(Setup::plain(4));
    assert_eq!(ring.register_ring_fd(), Ok(()));
    assert_eq!(enter(0), Ok(0), "it has the first index");
    push(&mut ring, nop(5));
    ring.flush();
    ring
}

/// A registered ring that was swapped in, and the one in whose place it is.
fn smuggled() -> (SendRawRing, SendRawRing) {
    apart(|| {
        let (mut ring, mut registered) = (sent(ring(Setup::plain(4))), ring(Setup::plain(4)));
        assert_eq!(registered.register_ring_fd(), Ok(()));
        mem::swap(&mut *ring, &mut registered);
        works(&mut ring); // By its index, here.
        (ring, sent(registered))
    })
}

fn swapped_index() -> Result<(), Failed> {
    let (mut ring, other) = smuggled();
    apart(move || {
        let mut here = tempting();
        push(&mut ring, nop(6));
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        assert_eq!(drain_user_data(&mut ring), [6]);
        assert_eq!(here.ready(), 0, "nobody submitted what lies there");
        assert_eq!(ring.unregister_ring_fd(), Ok(()), "it is not registered");
        drop(ring);
        assert_eq!(enter(0), Ok(0), "the index is ours still");
        assert_eq!(here.submit_and_wait(1), Ok(1));
        works(&mut other.into_raw());
    });
    let (ring, _) = smuggled();
    apart(move || {
        let here = tempting();
        let mut raw = ring.into_raw();
        works(&mut raw);
        assert_eq!(here.positions().sq_head.advance(1), here.positions().sq_tail);
        assert_eq!(raw.register_ring_fd(), Ok(()), "it is this thread's own");
        works(&mut raw);
    });
    Ok(())
}

fn swapped_nameless() -> Result<(), Failed> {
    let mut ring = apart(|| {
        let mut ring = sent(ring(Setup::plain(4)));
        *ring = nameless(); // No type forbids that.
        works(&mut ring);
        push(&mut ring, nop(6));
        ring
    });
    apart(move || {
        let mut here = tempting();
        let refused = ring.submit().expect_err("it has no name here");
        assert_eq!(refused.cause, EnterCause::Other(Errno::new(libc::EBADF)));
        assert_eq!(ring.unregister_eventfd(), Err(Errno::new(libc::EBADF)));
        assert_eq!(here.ready(), 0, "nobody submitted what lies there");
        let mut raw = ring.into_raw();
        assert_eq!(raw.enter(1, 0, EnterFlags::empty(), EnterArg::None).ok(), None);
        drop(raw);
        assert_eq!(here.submit_and_wait(1), Ok(1));
    });
    Ok(())
}

fn nameless_comes_back() -> Result<(), Failed> {
    apart(|| {
        let mut ring = sent(ring(Setup::plain(4)));
        *ring = nameless(); // No type forbids that.
        push(&mut ring, nop(6));
        let mut ring = apart(move || {
            let mut ring = ring;
            ring.submit().expect_err("it has no name here");
            ring
        });
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        assert_eq!(drain_user_data(&mut ring), [6]);
        works(&mut ring);
        works(&mut ring.into_raw());
    });
    Ok(())
}

fn shares_nothing() -> Result<(), Failed> {
    let ring = apart(|| {
        let mut ring = sent(ring(Setup::plain(4)));
        *ring = nameless(); // No type forbids that.
        ring
    });
    apart(move || {
        let _here = tempting();
        let mut into = crate::harness::ring(Setup::plain(4));
        let part = annulus::raw::register::ClonePart::all();
        // SAFETY: nothing is registered anywhere, so no buffer gets another user.
        let shared = unsafe { into.clone_buffers(&ring, &part) };
        assert_eq!(shared, Err(RegisterError::OtherThread));
    });
    Ok(())
}

//! Rings with a polling thread: random programs on both kernels, and what the thread does when.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use annulus::prep;
use annulus::sim::trace::What;
use annulus::sim::{Faults, Sim};
use annulus::sys::abi::{Params, Sqe};
use annulus::sys::flags::{EnterFlags, SetupFlags, SqRingFlags};
use annulus::sys::kernel::Kernel;
use annulus::sys::rings::{Base, Request, Rings};
use annulus::sys::syscall::EnterArg;
use annulus::{EnterCause, RawRing, Setup, op};

use super::chance::Chance;
use super::differential::{Style, Told, run_in};
use super::worlds::{Real, World as _};

const IDLE: Duration = Duration::from_millis(10);

fn ring(sim: &Sim, entries: u32) -> RawRing {
    Setup::plain(entries).sqpoll(IDLE).kernel(sim.kernel()).build_raw().expect("a ring")
}

fn push(ring: &mut RawRing, user_data: u64) {
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(Sqe { user_data, ..prep::nop() }) }.expect("room");
}

fn enter(base: &Base, want: u32, flags: EnterFlags) -> Result<u32, i32> {
    let ring = base.fd().by_ref();
    // SAFETY: every entry is a NOP, which points to nothing (OP1).
    let entered = unsafe { base.kernel().enter(ring, 0, want, flags, EnterArg::None) };
    entered.map_err(|errno| errno.raw())
}

#[test]
fn random_programs_of_polled_rings_see_on_the_simulated_kernel_what_they_see_on_linux() {
    let modes = [SetupFlags::SQPOLL, SetupFlags::SQPOLL | SetupFlags::SUBMIT_ALL];
    let style = Style { modes: &modes, forces: false };
    let (mut different, mut first) = (0, None);
    if Real.setup(4, SetupFlags::empty()).is_none() {
        return;
    }
    for seed in super::seeds(300) {
        let sim = Sim::new(seed);
        sim.allow_shared_user_data();
        let (simulated, counts) = run_in(style, Chance::new(seed), &sim, None).expect("a ring");
        let told = Told { counts, attempt: 0 };
        let on_linux = || run_in(style, Chance::new(seed), &Real, Some(told.clone()));
        let Some((mut real, _)) = on_linux() else { return };
        for _ in 0..3 {
            if real != simulated {
                real = on_linux().map_or(real, |(again, _)| again);
            }
        }
        sim.check();
        if super::shows() {
            println!("{}\nLinux: {real:#?}", sim.report());
        }
        if let Some(at) = real.iter().zip(&simulated).position(|(one, other)| one != other) {
            println!("seed {seed}, line {at}:\n  Linux {}\n  Sim   {}", real[at], simulated[at]);
            different += 1;
            first = first.or(Some(seed));
        }
    }
    assert_eq!(different, 0, "again: ANNULUS_SEED={first:?}");
}

#[test]
fn sq5_the_thread_sleeps_after_its_idle_time_and_must_be_woken() {
    let sim = Sim::new(1);
    let mut ring = ring(&sim, 4);
    let sleeps = |ring: &RawRing| ring.sq_flags().contains(SqRingFlags::NEED_WAKEUP);
    push(&mut ring, 1);
    ring.submit().expect("no fault");
    sim.advance(IDLE / 2);
    assert_eq!((ring.pop().map(|cqe| cqe.user_data), sleeps(&ring)), (Some(1), false));
    // What it took lets it poll for longer.
    push(&mut ring, 2);
    ring.submit().expect("no fault");
    sim.advance(IDLE * 3 / 4);
    assert!(!sleeps(&ring));
    sim.advance(IDLE / 2);
    assert!(sleeps(&ring));
    push(&mut ring, 3);
    ring.submit().expect("it wakes the thread");
    ring.wait(2).expect("it comes");
    assert!(!sleeps(&ring));
    sim.check();
    let trace: Vec<What> = sim.trace().into_iter().map(|record| record.what).collect();
    let count = |what: What| trace.iter().filter(|&other| *other == what).count();
    assert_eq!((count(What::Slept), count(What::Woken), count(What::Polled(1))), (1, 1, 3));
}

#[test]
fn sq5_a_program_that_does_not_wake_the_thread_waits_without_end() {
    let sim = Sim::new(1);
    let flags = SetupFlags::SQPOLL;
    let request = Request { flags, sq_thread_idle: 10, ..Request::new(4) };
    let mut rings = Rings::setup(&sim.kernel(), &request).expect("a ring");
    sim.advance(IDLE);
    // As a program does that flushes, and forgets to look at the flag.
    // SAFETY: a NOP points to nothing (OP1), and no child is forked.
    unsafe { rings.sq().push(prep::nop()) }.expect("room");
    rings.sq().flush();
    let lost = enter(rings.base(), 1, EnterFlags::GETEVENTS);
    assert_eq!(lost, Err(libc::EDEADLK));
    assert_eq!(sim.report().stalls.len(), 1);
}

#[test]
fn a_full_queue_is_waited_for_until_the_thread_has_made_room() {
    let sim = Sim::with_faults(1, Faults { delay: 1000, longest: IDLE, ..Faults::NONE });
    let mut ring = ring(&sim, 2);
    push(&mut ring, 1);
    push(&mut ring, 2);
    ring.submit().expect("no fault");
    assert_eq!((ring.room(), sim.now()), (0, Duration::ZERO));
    assert_eq!(enter(ring.base(), 0, EnterFlags::SQ_WAIT), Ok(0));
    assert!(ring.room() == 2 && sim.now() > Duration::ZERO);
    // It does not wake the thread by itself.
    sim.advance(2 * IDLE);
    assert!(ring.sq_flags().contains(SqRingFlags::NEED_WAKEUP));
}

#[test]
fn a_dead_thread_leaves_cancelled_requests_and_an_error() {
    let cancelled: usize = (0..20).map(with_a_dead_thread).sum();
    assert!((1..20).contains(&cancelled), "{cancelled}: it may die before it takes the read");
}

/// How many requests were cancelled.
fn with_a_dead_thread(seed: u64) -> usize {
    let sim = Sim::with_faults(seed, Faults { thread_dies: 200, ..Faults::NONE });
    let (reader, _writer) = sim.pipe().expect("descriptors");
    let mut buf = [0_u8; 8];
    let addr = (&raw mut buf).expose_provenance() as u64;
    let mut ring = ring(&sim, 4);
    let mut cause = None;
    for user_data in 0..100 {
        let read = prep::read(reader.as_raw_fd(), addr, 8, 0);
        let sqe = if user_data == 0 { read } else { prep::nop() };
        // SAFETY: the buffer lives until the read has ended, below (OP1).
        unsafe { ring.push(Sqe { user_data, ..sqe }) }.expect("room");
        let entered = ring.submit().and_then(|_| ring.get_events());
        cause = entered.err().map(|error| error.cause);
        if cause.is_some() {
            break;
        }
    }
    assert_eq!(cause, Some(EnterCause::PollerDied));
    assert!(sim.trace().iter().any(|record| record.what == What::Died));
    assert!(sim.report().is_clean() && sim.report().in_flight.is_empty());
    std::iter::from_fn(|| ring.pop()).filter(|cqe| cqe.res == -libc::ECANCELED).count()
}

#[test]
fn rings_share_a_thread() {
    let sim = Sim::new(1);
    let mut one = ring(&sim, 16);
    let setup = Setup::plain(16).sqpoll(IDLE).kernel(sim.kernel());
    // SAFETY: a descriptor of a ring, whose thread may be used.
    let setup = unsafe { setup.attach(one.as_fd()) };
    let mut other = setup.build_raw().expect("a ring");
    for user_data in 0..16 {
        push(&mut one, user_data);
        push(&mut other, user_data);
    }
    one.submit().expect("no fault");
    other.submit().expect("no fault");
    other.wait(16).expect("they come");
    assert_eq!((one.ready(), other.ready()), (16, 16));
    // It takes at most eight entries of one before it looks at the other.
    let took = sim.trace().into_iter().filter_map(|record| match record.what {
        What::Polled(count) => Some((record.ring, count)),
        _ => None,
    });
    let took: Vec<_> = took.collect();
    assert_eq!(took, [(Some(0), 8), (Some(1), 8), (Some(0), 8), (Some(1), 8)]);
}

#[test]
fn the_safe_api_works_on_a_polled_ring() {
    for seed in 0..100 {
        let sim = Sim::with_faults(seed, Faults::SOME);
        let setup = Setup::plain(4).sqpoll(Duration::from_millis(1)).kernel(sim.kernel());
        let mut ring = setup.build().expect("a ring");
        let (ours, theirs) = sim.socket_pair().expect("descriptors");
        sim.after(Duration::from_secs(1), move |sim| drop(sim.write(&theirs, b"late")));
        let recv = ring.submit(op::Recv::new(ours, Vec::with_capacity(8))).expect("room");
        let done = ring.wait_timeout(recv, Duration::from_secs(10));
        let done = done.unwrap_or_else(|error| panic!("seed {seed}: {}", error.why));
        assert!(done.result.is_ok());
        drop(ring);
        sim.check();
    }
}

/// What the kernel says to a pair of flags.
fn answer(kernel: &Kernel, flags: SetupFlags, entries: u32, cq_entries: u32) -> Result<(), i32> {
    let mut params = Params { flags, cq_entries, sq_thread_idle: 1, ..Params::default() };
    params.wq_fd = u32::MAX;
    // SAFETY: no memory of the program's is named, and the ring is closed at once.
    let made = unsafe { kernel.setup(entries, &mut params) };
    made.map(drop).map_err(|errno| errno.raw())
}

#[test]
fn set_up_is_refused_as_linux_refuses_it() {
    // SQE_MIXED and SQ_REWIND are newer than 6.18.
    let flags = [
        SetupFlags::empty(),
        SetupFlags::SQPOLL,
        SetupFlags::SQ_AFF,
        SetupFlags::CQSIZE,
        SetupFlags::CLAMP,
        SetupFlags::ATTACH_WQ,
        SetupFlags::SUBMIT_ALL,
        SetupFlags::COOP_TASKRUN,
        SetupFlags::TASKRUN_FLAG,
        SetupFlags::SQE128,
        SetupFlags::CQE32,
        SetupFlags::SINGLE_ISSUER,
        SetupFlags::DEFER_TASKRUN,
        SetupFlags::NO_SQARRAY,
        SetupFlags::CQE_MIXED,
        SetupFlags::from_bits_retain(1 << 30),
    ];
    if super::worlds::World::setup(&Real, 4, SetupFlags::CQE_MIXED).is_none() {
        return;
    }
    let sim = Sim::new(1).kernel();
    for (at, &one) in flags.iter().enumerate() {
        for &other in &flags[at..] {
            for (entries, cq_entries) in [(4, 8), (0, 1), (1, 1), (8, 3), (1 << 16, 1 << 20)] {
                let ask = |kernel: &Kernel| answer(kernel, one | other, entries, cq_entries);
                let (simulated, real) = (ask(&sim), ask(&Kernel::LINUX));
                assert_eq!(simulated, real, "{:?}, {entries} and {cq_entries}", one | other);
            }
        }
    }
}

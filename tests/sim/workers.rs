//! Requests that worker threads run: on both kernels, and how many at once.

use std::os::fd::AsRawFd;
use std::time::Duration;

use annulus::prep;
use annulus::sim::{Faults, Sim};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{CancelFlags, RecvSendFlags, SetupFlags, SqeFlags};
use annulus::sys::opcode::RegisterOp;
use annulus::{RawRing, Setup};

use super::chance::Chance;
use super::differential::{Style, Told, run_in};
use super::scene::{Scene, at, both};
use super::worlds::{Real, World};

/// What a program sees. A cancel of what a worker waits with says that it is too late, or that
/// nothing is there, if the worker was quicker.
fn seen(
    style: Style<'_>,
    seed: u64,
    world: &dyn World,
    told: Option<Told>,
) -> Option<(Vec<String>, Vec<usize>)> {
    let (lines, counts) = run_in(style, Chance::new(seed), world, told)?;
    let late = |line: String| line.replace("→ -114,", "→ -2,");
    Some((lines.into_iter().map(late).collect(), counts))
}

#[test]
fn random_programs_with_forced_requests_see_on_the_simulated_kernel_what_they_see_on_linux() {
    let modes = [
        SetupFlags::empty(),
        SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG,
        SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN,
        SetupFlags::SQPOLL,
    ];
    let style = Style { modes: &modes, forces: true };
    let (mut different, mut first) = (0, None);
    if Real.setup(4, SetupFlags::empty()).is_none() {
        return;
    }
    for seed in super::seeds(300) {
        let sim = Sim::new(seed);
        sim.allow_shared_user_data();
        let (simulated, counts) = seen(style, seed, &sim, None).expect("a ring");
        let told = Told { counts, attempt: 0 };
        let on_linux = || seen(style, seed, &Real, Some(told.clone()));
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
fn the_limits_of_workers_are_set_and_told() {
    both("workers", |it| {
        let op = RegisterOp::IOWQ_MAX_WORKERS;
        it.register(op, Some(&mut [3_u32, 4]), 2);
        let mut limits = [0_u32; 2];
        it.register(op, Some(&mut limits), 2);
        it.say(format!("{limits:?}"));
        limits = [0, 2];
        it.register(op, Some(&mut limits), 2);
        it.say(format!("{limits:?}"));
        it.register(op, Some(&mut [1 << 31, 0_u32]), 2);
        it.register(op, Some(&mut [1_u32, 1]), 1);
        it.register::<u32>(op, None, 2);
        it.register(op, Some(&mut limits), 2);
        it.say(format!("{limits:?}"));
    });
}

/// The results of a batch, in order.
fn results(ring: &mut RawRing, count: u32) -> Vec<(u64, i32)> {
    ring.submit_and_wait(count).expect("no fault");
    let mut all: Vec<_> =
        std::iter::from_fn(|| ring.pop()).map(|cqe| (cqe.user_data, cqe.res)).collect();
    all.sort_unstable();
    all
}

#[test]
fn what_waits_for_a_worker_is_cancelled_and_what_one_has_is_not() {
    let (mut ended, mut cancelled) = (0, 0);
    for seed in 0..50 {
        let faults = Faults { delay: 1000, longest: Duration::from_secs(1), ..Faults::NONE };
        let faults = Faults { no_cancel: 500, ..faults };
        let sim = Sim::with_faults(seed, faults);
        let mut ring = Setup::plain(8).kernel(sim.kernel()).build_raw().expect("a ring");
        let mut limits = [1_u32, 1];
        let arg = (&raw mut limits).cast();
        // SAFETY: two live numbers, which the kernel copies and does not keep, so they may go.
        let set = unsafe { ring.base().register(RegisterOp::IOWQ_MAX_WORKERS, arg, 2) };
        assert_eq!((set, limits[0]), (Ok(0), 8));
        for user_data in [1, 2] {
            let nop = Sqe { user_data, flags: SqeFlags::ASYNC, ..prep::nop() };
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(nop) }.expect("room");
        }
        ring.submit().expect("no fault");
        sim.advance(Duration::ZERO);
        // A cancel that no delay keeps from coming first.
        let all = CancelFlags::ANY | CancelFlags::ALL;
        let cancel = Sqe { user_data: 11, ..prep::cancel(0, all) };
        // SAFETY: a cancel points to nothing (OP1).
        unsafe { ring.push(cancel) }.expect("room");
        let all = results(&mut ring, 3);
        assert_eq!((all[0].0, all[1].0, all[2].0), (1, 2, 11));
        cancelled += u32::from(all[1].1 == -libc::ECANCELED && all[2].1 == 1);
        ended += u32::from(all[0].1 == 0);
        sim.check();
    }
    assert!(ended > 0 && cancelled > 0, "{ended} {cancelled}");
}

#[test]
fn a_splice_that_waits_holds_its_worker() {
    let sim = Sim::new(1);
    let mut ring = Setup::plain(8).kernel(sim.kernel()).build_raw().expect("a ring");
    let mut limits = [1_u32; 2];
    let arg = (&raw mut limits).cast();
    // SAFETY: two live numbers, which the kernel copies and does not keep, so they may go.
    unsafe { ring.base().register(RegisterOp::IOWQ_MAX_WORKERS, arg, 2) }.expect("it is set");
    let pipe = || sim.pipe().expect("descriptors");
    let (first, second, into) = (pipe(), pipe(), pipe());
    for (user_data, from) in [(1, &first), (2, &second)] {
        let (from, to) = (from.0.as_raw_fd(), into.1.as_raw_fd());
        let splice = prep::splice(from, u64::MAX, to, u64::MAX, 9, 0);
        // SAFETY: it points to nothing (OP1).
        unsafe { ring.push(Sqe { user_data, ..splice }) }.expect("room");
    }
    sim.write(&second.1, b"second").expect("room");
    ring.submit().expect("no fault");
    sim.advance(Duration::from_secs(1));
    assert!(ring.pop().is_none(), "there is one worker");
    sim.write(&first.1, b"1").expect("room");
    assert_eq!(results(&mut ring, 2), [(1, 1), (2, 6)]);
    sim.check();
}

#[test]
fn requests_take_their_turns_when_there_are_few_workers() {
    let span = Duration::from_millis(10);
    let faults = Faults { delay: 1000, longest: span, ..Faults::NONE };
    let took = |limit: u32| {
        let sim = Sim::with_faults(5, faults);
        let mut ring = Setup::plain(16).kernel(sim.kernel()).build_raw().expect("a ring");
        let mut limits = [limit; 2];
        let arg = (&raw mut limits).cast();
        // SAFETY: two live numbers, which the kernel copies and does not keep, so they may go.
        unsafe { ring.base().register(RegisterOp::IOWQ_MAX_WORKERS, arg, 2) }.expect("it is set");
        let file = sim.file(*b"contents").expect("descriptors");
        for user_data in 0..16 {
            let fsync = prep::fsync(file.as_raw_fd(), annulus::sys::flags::FsyncFlags::empty());
            // SAFETY: it points to nothing (OP1).
            unsafe { ring.push(Sqe { user_data, ..fsync }) }.expect("room");
        }
        assert!(results(&mut ring, 16).into_iter().all(|(_, res)| res == 0));
        sim.now()
    };
    assert!(took(1) > 4 * span && took(16) <= span);
}

#[test]
fn a_zero_copy_send_leaves_its_worker_before_its_notification() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 7777));
    let mut early = 0;
    for seed in 0..50 {
        let faults = Faults { delay: 1000, longest: Duration::from_secs(1), ..Faults::NONE };
        let sim = Sim::with_faults(seed, faults);
        let mut ring = Setup::plain(8).kernel(sim.kernel()).build_raw().expect("a ring");
        let mut limits = [1_u32; 2];
        let arg = (&raw mut limits).cast();
        // SAFETY: two live numbers, which the kernel copies and does not keep, so they may go.
        unsafe { ring.base().register(RegisterOp::IOWQ_MAX_WORKERS, arg, 2) }.expect("it is set");
        let _listener = sim.listener(address).expect("descriptors");
        let client = sim.connect(address).expect("it listens");
        let text = *b"zero copies";
        let send = prep::send_zc(client.as_raw_fd(), at(&text), 11, 0, RecvSendFlags::empty());
        for (user_data, sqe) in [(1, send), (2, prep::nop())] {
            // SAFETY: the text lives until the notification has come, below (OP1).
            unsafe { ring.push(Sqe { user_data, flags: SqeFlags::ASYNC, ..sqe }) }.expect("room");
        }
        ring.submit().expect("no fault");
        sim.advance(Duration::from_secs(10));
        ring.get_events().expect("no fault");
        let order: Vec<u64> = std::iter::from_fn(|| ring.pop()).map(|cqe| cqe.user_data).collect();
        assert!([[1, 1, 2], [1, 2, 1]].contains(&order[..].try_into().expect("three")));
        early += u32::from(order == [1, 2, 1]);
        sim.check();
    }
    assert!((1..50).contains(&early), "{early} of 50: the notification has a time of its own");
}

#[test]
fn the_worker_of_a_zero_copy_send_goes_on_with_its_chain() {
    both("send_zc forced", |it| {
        let (_listener, address) = it.world.listener();
        let client = it.world.connect(address).expect("it listens");
        let (reader, _writer) = it.world.pipe();
        let (text, mut buf) = (*b"zero copies", [0_u8; 4]);
        let addr = (&raw mut buf).expose_provenance() as u64;
        let send = prep::send_zc(client.as_raw_fd(), at(&text), 11, 0, RecvSendFlags::empty());
        it.push(Sqe { flags: SqeFlags::ASYNC | SqeFlags::IO_LINK, ..send });
        it.push(prep::read(reader.as_raw_fd(), addr, 4, u64::MAX));
        it.take(2);
        // A cancel that comes before the worker has begun with the read finds nothing.
        let before = it.lines.len();
        let results = |it: &Scene<'_>, of_read: bool| -> Vec<String> {
            let parts = it.lines[before..].iter().filter_map(|line| line.split_once(": "));
            let parts = parts
                .filter(|(number, rest)| (*number == "1") == of_read && !rest.starts_with("-2 "));
            parts.map(|(_, rest)| rest.to_owned()).collect()
        };
        for _ in 0..200 {
            it.push(prep::cancel(1, CancelFlags::empty()));
            it.take(1);
            if !results(it, false).is_empty() {
                break;
            }
            (0..10).for_each(|_| it.world.pause());
        }
        if results(it, true).is_empty() {
            it.take(1);
        }
        let (cancel, read) = (results(it, false), results(it, true));
        it.lines.truncate(before);
        it.say(format!("{cancel:?} {read:?}"));
    });
}

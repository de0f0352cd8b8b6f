//! Worker threads run on the CPUs they are given, and stay within their limits.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::thread;

use annulus::lease::RegisterError;
use annulus::raw::register::{WorkerLimits, Workers};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::SqeFlags;
use annulus::sys::opcode::RegisterOp;
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, Part, child_succeeds, nop, push, ring, test};

const CPUS: [Need; 2] =
    [Need::Register(RegisterOp::IOWQ_AFF), Need::Register(RegisterOp::UNREGISTER_IOWQ_AFF)];
const LIMITS: [Need; 1] = [Need::Register(RegisterOp::IOWQ_MAX_WORKERS)];

pub const PARTS: &[Part] = &[("workers", where_told)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_worker_runs_where_it_is_told_to", &CPUS, || child_succeeds("workers")),
        test("wrong_processors_for_workers_are_refused_with_a_message", &CPUS, wrong_cpus),
        test("the_limits_of_workers_are_what_was_set", &LIMITS, limits),
        test("a_wrong_limit_of_workers_is_refused_with_a_message", &LIMITS, wrong_limit),
    ]
}

/// On a thread of its own, since workers belong to threads.
fn alone<T: Send + 'static>(body: impl FnOnce(RawRing) -> T + Send + 'static) -> T {
    let thread = thread::spawn(move || body(ring(Setup::plain(4))));
    thread.join().expect("no panic")
}

/// The value of `key` in `/proc` for each worker thread of this process.
fn of_workers(key: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for task in fs::read_dir("/proc/self/task").expect("/proc is mounted") {
        let status = task.expect("an entry").path().join("status");
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(status) else { continue };
        if status.lines().any(|line| line.starts_with("Name:\tiou-wrk-")) {
            let value = status.lines().find_map(|line| line.strip_prefix(key));
            found.insert(value.expect("the key").trim_matches([':', '\t']).to_owned());
        }
    }
    found
}

/// The first processor that this thread may run on.
fn first_cpu() -> u32 {
    let status = fs::read_to_string("/proc/thread-self/status").expect("/proc is mounted");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    let digits = |c: char| !c.is_ascii_digit();
    list.expect("a list").split(digits).next().expect("one").parse().expect("a number")
}

/// Gives a worker thread a NOP, so that there is one, which stays for some seconds.
fn make_a_worker(ring: &mut RawRing) {
    push(ring, Sqe { flags: SqeFlags::ASYNC, ..nop(1) });
    ring.submit_and_wait(1).expect("submit");
    assert_eq!(ring.pop().map(|cqe| cqe.res), Some(0));
}

/// In a process of its own, so that all worker threads belong to one thread.
fn where_told() {
    let cpu = first_cpu();
    let mut ring = ring(Setup::plain(4));
    ring.set_worker_cpus([cpu]).expect("a processor");
    make_a_worker(&mut ring);
    assert_eq!(of_workers("Cpus_allowed_list"), BTreeSet::from([cpu.to_string()]));
    ring.reset_worker_cpus().expect("back");
    assert_eq!(of_workers("Cpus_allowed_list").len(), 1, "there is still a worker");
}

fn wrong_cpus() -> Result<(), Failed> {
    alone(|ring| {
        for cpus in [&[][..], &[1 << 16], &[0, u32::MAX]] {
            let error = ring.set_worker_cpus(cpus.iter().copied()).expect_err("no such set");
            assert!(matches!(error, RegisterError::Invalid { .. }), "{cpus:?}: {error}");
        }
    });
    Ok(())
}

fn limits() -> Result<(), Failed> {
    let (three, five) = (NonZeroU32::new(3), NonZeroU32::new(5));
    let said = alone(move |ring| {
        let first = ring.max_workers().expect("limits");
        let before = ring.set_max_workers(WorkerLimits { bounded: three, unbounded: five });
        let one = ring.set_max_workers(WorkerLimits { bounded: five, unbounded: None });
        [Ok(first), before, one, ring.max_workers()].map(|said| said.expect("limits"))
    });
    let [first, before, one, last] = said;
    assert!(first.bounded > 0 && first.unbounded > 0, "{first:?}");
    assert_eq!(before, first);
    assert_eq!(one, Workers { bounded: 3, unbounded: 5 });
    assert_eq!(last, Workers { bounded: 5, unbounded: 5 });
    Ok(())
}

fn wrong_limit() -> Result<(), Failed> {
    let refused = alone(|ring| {
        let bounded = NonZeroU32::new(1 << 31);
        ring.set_max_workers(WorkerLimits { bounded, ..WorkerLimits::default() })
    });
    assert!(matches!(refused, Err(RegisterError::Invalid { .. })), "{refused:?}");
    Ok(())
}

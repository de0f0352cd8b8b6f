//! Futexes: which waits are woken, by whom, and which are not.
#![allow(unsafe_code, reason = "waits at a futex as threads do")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use annulus::op::{Fsync, FutexSet, FutexWait, FutexWaitV, FutexWake, FutexWord};
use annulus::sys::flags_futex::FUTEX_WAITV_MAX;
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use super::{begin, cancelled, errno, goes_on, run, small};
use crate::harness::{Need, Part, child_succeeds, test};

const FUTEX: Need = Need::Op(Opcode::FUTEX_WAIT);
const WAKE: Need = Need::Op(Opcode::FUTEX_WAKE);
const MANY: Need = Need::Op(Opcode::FUTEX_WAITV);

/// The parts that run in a child process, which has one thread.
pub const PARTS: &[Part] = &[
    ("a wait before there were threads", one_then_threads),
    ("a wait at many before there were threads", many_then_threads),
    ("a wait before there was a worker", one_then_a_worker),
];

pub fn tests() -> Vec<Trial> {
    vec![
        test(
            "a_wait_is_found_by_a_process_that_had_one_thread_when_it_began",
            &[FUTEX, WAKE],
            || child_succeeds("a wait before there were threads"),
        ),
        test("a_wait_at_many_is_found_by_such_a_process_too", &[MANY, WAKE], || {
            child_succeeds("a wait at many before there were threads")
        }),
        test("a_wait_is_found_when_the_kernel_made_a_worker_since", &[FUTEX, WAKE], || {
            child_succeeds("a wait before there was a worker")
        }),
        test("a_futex_wakes_as_many_as_it_is_told_to", &[FUTEX, WAKE], wakes),
        test("a_futex_word_that_has_changed_is_not_waited_at", &[FUTEX], changed),
        test("a_wake_reaches_those_whose_mask_it_meets", &[FUTEX, WAKE], masks),
        test("a_private_futex_is_none_of_a_shared_one", &[FUTEX], shared),
        test("a_thread_wakes_a_ring_and_a_ring_a_thread", &[FUTEX, WAKE], threads),
        test("a_wait_at_a_futex_is_cancelled", &[FUTEX], wait_cancelled),
        test("op1_a_futex_word_lives_while_it_is_waited_at", &[FUTEX], lives),
        test("a_borrowed_futex_word_is_waited_at_in_a_scope", &[FUTEX], borrowed),
        test("the_futex_word_that_was_woken_is_told", &[MANY], first_of_many),
        test("a_set_with_a_futex_word_that_has_changed_is_not_waited_at", &[MANY], many_changed),
        test("a_set_of_none_or_too_many_is_refused", &[MANY], many_refused),
        test("a_wait_at_many_is_cancelled", &[MANY], many_cancelled),
    ]
}

fn word(value: u32) -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(value))
}

/// `futex(2)`.
fn futex(word: &AtomicU32, op: i32, value: u32) -> i64 {
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: a live futex word, because it is borrowed; no time is given.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, value, none) }
}

fn wakes() -> Result<(), Failed> {
    let mut ring = small();
    let word = word(5);
    let waits: Vec<_> =
        (0..3).map(|_| begin(&mut ring, FutexWait::new(Arc::clone(&word), 5))).collect();
    let wake = |count| FutexWake::new(Arc::clone(&word), count);
    assert_eq!(run(&mut ring, wake(0)).result?, 0, "none");
    assert_eq!(run(&mut ring, wake(1)).result?, 1);
    assert_eq!(run(&mut ring, wake(u32::MAX)).result?, 2, "the others");
    for wait in waits {
        let woken = ring.wait(wait)?;
        woken.result?;
        assert!(Arc::ptr_eq(&woken.buf, &word));
    }
    assert_eq!(run(&mut ring, wake(1)).result?, 0, "nobody waits");
    assert_eq!(word.load(Ordering::Relaxed), 5, "the kernel writes nothing");
    Ok(())
}

fn changed() -> Result<(), Failed> {
    let mut ring = small();
    let word = word(1);
    let ended = run(&mut ring, FutexWait::new(word, 0));
    assert_eq!(errno(&ended), Some(libc::EAGAIN));
    let ended = run(&mut ring, FutexWait::new(ended.buf, 1).mask(0));
    assert_eq!(errno(&ended), Some(libc::EINVAL));
    let ended = run(&mut ring, FutexWake::new(ended.buf, 1).mask(0));
    assert_eq!(errno(&ended), Some(libc::EINVAL));
    assert_eq!(Arc::strong_count(&ended.buf), 1);
    Ok(())
}

fn masks() -> Result<(), Failed> {
    let mut ring = small();
    let word = word(0);
    let low = begin(&mut ring, FutexWait::new(Arc::clone(&word), 0).mask(1));
    let high = begin(&mut ring, FutexWait::new(Arc::clone(&word), 0).mask(1 << 31));
    let wake = |mask| FutexWake::new(Arc::clone(&word), 9).mask(mask);
    assert_eq!(run(&mut ring, wake(2)).result?, 0);
    assert_eq!(run(&mut ring, wake(1 << 31)).result?, 1);
    ring.wait(high)?.result?;
    let low = goes_on(&mut ring, low);
    assert_eq!(run(&mut ring, wake(3)).result?, 1);
    ring.wait(low)?.result?;
    Ok(())
}

fn shared() -> Result<(), Failed> {
    let mut ring = small();
    let word = word(0);
    let private = begin(&mut ring, FutexWait::new(Arc::clone(&word), 0).private());
    let shared = begin(&mut ring, FutexWait::new(Arc::clone(&word), 0));
    let wake = || FutexWake::new(Arc::clone(&word), 9);
    assert_eq!(run(&mut ring, wake()).result?, 1);
    ring.wait(shared)?.result?;
    let private = goes_on(&mut ring, private);
    assert_eq!(run(&mut ring, wake().private()).result?, 1);
    ring.wait(private)?.result?;
    Ok(())
}

fn threads() -> Result<(), Failed> {
    let mut ring = small();
    let word = word(0);
    let wait = begin(&mut ring, FutexWait::new(Arc::clone(&word), 0));
    let theirs = Arc::clone(&word);
    let thread = thread::spawn(move || {
        theirs.store(1, Ordering::Release);
        let woken = futex(&theirs, libc::FUTEX_WAKE, 1);
        // And the other way round: a wait that lasts as long as it must.
        while theirs.load(Ordering::Acquire) == 1 {
            futex(&theirs, libc::FUTEX_WAIT, 1);
        }
        woken
    });
    ring.wait(wait)?.result?;
    word.store(2, Ordering::Release);
    run(&mut ring, FutexWake::new(word, 1)).result?;
    assert_eq!(thread.join().expect("no panic"), 1);
    Ok(())
}

fn wait_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let wait = begin(&mut ring, FutexWait::new(word(0), 0));
    let ended = cancelled(&mut ring, wait);
    assert_eq!((errno(&ended), Arc::strong_count(&ended.buf)), (Some(libc::ECANCELED), 1));
    assert_eq!(run(&mut ring, FutexWake::new(ended.buf, 1)).result?, 0);
    Ok(())
}

fn lives() -> Result<(), Failed> {
    let mut ring = small();
    let word = word(0);
    let weak = Arc::downgrade(&word);
    let wait = begin(&mut ring, FutexWait::new(word, 0));
    let set = FutexSet::new().with(weak.upgrade().ok_or("it lives")?, 0);
    let many = begin(&mut ring, FutexWaitV::new(set));
    ring.detach(wait);
    ring.detach(many);
    assert_eq!(weak.strong_count(), 2, "each has it");
    drop(ring);
    assert_eq!(weak.strong_count(), 0, "both have ended");
    Ok(())
}

/// Makes threads: one, and then so many that the kernel would enlarge its table of waits.
fn make_threads() {
    thread::spawn(|| ()).join().expect("no panic");
    let driver = std::sync::Barrier::new(65);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| driver.wait());
        }
        driver.wait();
    });
}

fn one_then_threads() {
    let mut ring = small();
    let word = word(0);
    let wait = begin(&mut ring, FutexWait::new(Arc::clone(&word), 0));
    make_threads();
    assert_eq!(run(&mut ring, FutexWake::new(word, 1)).result.expect("a wake"), 1);
    ring.wait(wait).expect("it completes").result.expect("woken");
}

/// `sync` blocks, so a worker thread runs it.
fn one_then_a_worker() {
    let mut ring = small();
    let word = word(0);
    let wait = begin(&mut ring, FutexWait::new(Arc::clone(&word), 0));
    let file = std::fs::File::open("/proc/self/exe").expect("this program");
    run(&mut ring, Fsync::new(file)).result.expect("synced");
    assert_eq!(run(&mut ring, FutexWake::new(word, 1)).result.expect("a wake"), 1);
    ring.wait(wait).expect("it completes").result.expect("woken");
}

fn many_then_threads() {
    let mut ring = small();
    let words = [word(0), word(0)];
    let set = FutexSet::new().with(Arc::clone(&words[0]), 0).with(Arc::clone(&words[1]), 0);
    let wait = begin(&mut ring, FutexWaitV::new(set));
    make_threads();
    let wake = FutexWake::new(Arc::clone(&words[1]), 1);
    assert_eq!(run(&mut ring, wake).result.expect("a wake"), 1);
    assert_eq!(ring.wait(wait).expect("it completes").result.expect("woken"), 1);
}

/// A futex word among others.
struct Driver {
    before: AtomicU32,
    word: AtomicU32,
}

impl FutexWord for Driver {
    fn word(&self) -> &AtomicU32 {
        &self.word
    }
}

fn borrowed() -> Result<(), Failed> {
    static FOREVER: AtomicU32 = AtomicU32::new(0);
    let mut ring = small();
    let wait = begin(&mut ring, FutexWait::new(&FOREVER, 0));
    assert_eq!(run(&mut ring, FutexWake::new(&FOREVER, 1)).result?, 1);
    ring.wait(wait)?.result?;
    let driver = Driver { before: AtomicU32::new(1), word: AtomicU32::new(0) };
    let woken = ring.scope(|scope| {
        let wait = scope.submit(FutexWait::new(&driver, 0)).map_err(|full| full.why)?;
        let wake = scope.submit(FutexWake::new(&driver.word, 1)).map_err(|full| full.why)?;
        let miss = scope.submit(FutexWait::new(&driver.before, 0)).map_err(|full| full.why)?;
        assert_eq!(errno(&scope.wait(miss)?), Some(libc::EAGAIN));
        scope.wait(wait)?.result?;
        Ok::<_, Failed>(scope.wait(wake)?.result?)
    })?;
    assert_eq!(woken, 1);
    Ok(())
}

fn first_of_many() -> Result<(), Failed> {
    let mut ring = small();
    let words: Vec<_> = (0..3).map(word).collect();
    let mut set = FutexSet::new();
    for (word, value) in words.iter().zip(0..) {
        set = set.with(Arc::clone(word), value);
    }
    for (index, word) in words.iter().enumerate() {
        let wait = begin(&mut ring, FutexWaitV::new(set));
        let wait = goes_on(&mut ring, wait);
        assert_eq!(run(&mut ring, FutexWake::new(Arc::clone(word), 9)).result?, 1);
        let woken = ring.wait(wait)?;
        assert_eq!(woken.result?, index);
        set = woken.buf;
    }
    assert!(Arc::ptr_eq(&set.words()[2], &words[2]));
    Ok(())
}

fn many_changed() -> Result<(), Failed> {
    let mut ring = small();
    let words = [word(1), word(2)];
    let set = FutexSet::new().with(Arc::clone(&words[0]), 1).with_private(Arc::clone(&words[1]), 3);
    let mut ended = run(&mut ring, FutexWaitV::new(set));
    assert_eq!((errno(&ended), ended.buf.words().len()), (Some(libc::EAGAIN), 2));
    ended.buf.expect(1, 2);
    let wait = begin(&mut ring, FutexWaitV::new(ended.buf));
    assert_eq!(run(&mut ring, FutexWake::new(Arc::clone(&words[1]), 1).private()).result?, 1);
    assert_eq!(ring.wait(wait)?.result?, 1);
    Ok(())
}

fn many_refused() -> Result<(), Failed> {
    let mut ring = small();
    let ended = run(&mut ring, FutexWaitV::new(FutexSet::<Arc<AtomicU32>>::new()));
    assert_eq!(errno(&ended), Some(libc::EINVAL));
    let word = word(0);
    let mut set = FutexSet::new();
    for _ in 0..FUTEX_WAITV_MAX {
        set = set.with(Arc::clone(&word), 0);
    }
    // As many as can be go on.
    let wait = begin(&mut ring, FutexWaitV::new(set));
    let most = cancelled(&mut ring, wait);
    assert_eq!(errno(&most), Some(libc::ECANCELED));
    let ended = run(&mut ring, FutexWaitV::new(most.buf.with(Arc::clone(&word), 0)));
    assert_eq!(errno(&ended), Some(libc::EINVAL), "one too many");
    assert_eq!(Arc::strong_count(&word), 1 + ended.buf.words().len());
    Ok(())
}

fn many_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let set = FutexSet::new().with(word(0), 0).with(word(0), 0);
    let wait = begin(&mut ring, FutexWaitV::new(set));
    let ended = cancelled(&mut ring, wait);
    assert_eq!((errno(&ended), ended.buf.words().len()), (Some(libc::ECANCELED), 2));
    Ok(())
}

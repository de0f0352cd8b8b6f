//! Rings whose entries a polling thread of the kernel consumes, awake and asleep.
//!
//! ```text
//!   push, publish ─► awake: it finds them by itself        no system call
//!                 └► asleep: NEED_WAKEUP is set (SQ5)  ─►  one, to wake it
//! ```
//!
//! The thread is awake for a minute or for a millisecond, so that no test depends on a race with
//! it.
#![allow(unsafe_code, reason = "looks at the kernel's flags, and asks for affinities")]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::sys::flags::{EnterFlags, Features, OFF_SQ_RING, SetupFlags, SqRingFlags};
use annulus::sys::map::{Map, Pages};
use annulus::sys::sq::Full;
use annulus::sys::syscall::EnterArg;
use annulus::{RawRing, Setup, Woken};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain_user_data, nop, patient, push, read_byte, ring, test};

/// A polling thread can be had here.
pub const POLLS: Need = Need::Other(polls_not);
const WIDE: SetupFlags = SetupFlags::CQE32.union(SetupFlags::SQE128);
/// Before, only registered files.
const DESCRIPTORS: Need = Need::Feature(Features::SQPOLL_NONFIXED);
const EXT_ARG: Need = Need::Feature(Features::EXT_ARG);

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("sq5_a_sleeping_poller_is_woken", &[POLLS], woken),
        test("sq5_no_wake_up_is_missed_as_the_poller_falls_asleep", &[POLLS, EXT_ARG], drowsy),
        test("an_awake_poller_takes_entries_without_a_system_call", &[POLLS], awake),
        test("a_poller_takes_entries_with_descriptors", &[POLLS, DESCRIPTORS], descriptors),
        test("a_poller_takes_wide_entries", &[POLLS, Need::Setup(WIDE)], || {
            many(asleep_soon().with(WIDE))
        }),
        test("a_poller_takes_many_laps_of_entries", &[POLLS], || many(asleep_soon())),
        test("a_poller_takes_many_laps_of_entries_while_awake", &[POLLS], || many(awake_long())),
        test("sq4_a_full_ring_waits_for_the_poller", &[POLLS], || room(awake_long())),
        test("sq4_a_full_ring_wakes_the_poller_and_waits", &[POLLS], || room(asleep_soon())),
        test("a_chain_waits_for_the_poller_to_make_room", &[POLLS], chains),
        test("cq5_a_pollers_overflow_loses_nothing", &[POLLS], overflow),
        test("a_poller_goes_on_behind_a_bad_entry", &[POLLS], bad_entries),
        test("a_wait_for_a_poller_times_out", &[POLLS, EXT_ARG], times_out),
        test("a_poller_keeps_to_its_cpu", &[POLLS, Need::Other(no_affinity)], keeps_to_its_cpu),
        test("a_polling_ring_is_shared_by_its_halves", &[POLLS], halves),
        test("a_polling_ring_is_enabled_late", &[POLLS], enabled_late),
        test("a_ring_is_dropped_under_its_poller", &[POLLS], dropped),
        test("rg1_own_memory_is_leaked_under_a_poller", &[POLLS, OWN_MEMORY], leaked),
    ]
}

const OWN_MEMORY: Need = Need::Setup(SetupFlags::NO_MMAP);

fn polls_not() -> Option<String> {
    let refused = patient(|| asleep_soon().build_raw()).err()?;
    Some(format!("needs Linux 5.11 or root: {refused}"))
}

fn no_affinity() -> Option<String> {
    let refused = patient(|| Setup::plain(1).sqpoll_on(own_cpu(), MOMENT).build_raw()).err()?;
    Some(format!("needs a CPU to poll on: {refused}"))
}

const MOMENT: Duration = Duration::from_millis(1);
const A_MINUTE: Duration = Duration::from_secs(60);

/// A ring whose poller sleeps after a moment.
fn asleep_soon() -> Setup<'static> {
    Setup::plain(4).sqpoll(MOMENT)
}

/// A ring whose poller never sleeps while a test lasts.
fn awake_long() -> Setup<'static> {
    Setup::plain(4).sqpoll(A_MINUTE)
}

/// A second look at a ring's flags.
struct Flags {
    map: Map,
    offset: usize,
}

impl Flags {
    fn of(ring: &RawRing) -> Result<Self, Failed> {
        let offset = ring.base().params().sq_off.flags as usize;
        let map = Map::of_ring(ring.fd().ok_or("a descriptor")?, OFF_SQ_RING, offset + 4)?;
        Ok(Self { map, offset })
    }

    fn now(&self) -> SqRingFlags {
        let word: NonNull<AtomicU32> = self.map.at(self.offset, 1);
        // SAFETY: mapped as long as `self`, because `at` checked; the kernel stores it atomically.
        SqRingFlags::from_bits_retain(unsafe { word.as_ref() }.load(Ordering::Relaxed))
    }

    /// Waits until the poller sleeps.
    fn asleep(&self) {
        until("the poller sleeps", || self.now().contains(SqRingFlags::NEED_WAKEUP));
    }
}

/// Polls until `what` is true, which must be within a minute.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < A_MINUTE, "in a minute: {what}");
        thread::sleep(MOMENT);
    }
}

fn woken() -> Result<(), Failed> {
    let mut ring = ring(asleep_soon());
    let flags = Flags::of(&ring)?;
    for user_data in 1..=5 {
        flags.asleep();
        push(&mut ring, nop(user_data));
        assert_eq!((ring.stats().enters, ring.stats().sqes), (user_data - 1, user_data - 1));
        assert_eq!(ring.submit(), Ok(1));
        assert_eq!(
            (ring.stats().enters, ring.stats().sqes),
            (user_data, user_data),
            "one, to wake it"
        );
        until("the entry is consumed", || ring.room() == 4);
        until("it completes", || ring.ready() == 1);
        assert_eq!(drain_user_data(&mut ring), [user_data]);
        assert_eq!(ring.in_flight(), 0);
        assert_eq!(ring.stats().enters, user_data, "what is there is taken without");
    }
    Ok(())
}

/// Entries come when the poller is about to fall asleep, has just done so, or sleeps.
fn drowsy() -> Result<(), Failed> {
    let mut ring = ring(asleep_soon());
    for user_data in 0..100 {
        let pause = Duration::from_micros(900 + 20 * (user_data % 20));
        let started = Instant::now();
        while started.elapsed() < pause {
            std::hint::spin_loop();
        }
        push(&mut ring, nop(user_data));
        assert_eq!(ring.submit_and_wait_timeout(1, A_MINUTE), Ok((1, Woken::Ready)));
        assert_eq!(drain_user_data(&mut ring), [user_data]);
    }
    Ok(())
}

fn descriptors() -> Result<(), Failed> {
    let mut ring = ring(asleep_soon());
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"x")?;
    push(&mut ring, read_byte(&reader, 1));
    ring.submit_and_wait(1)?;
    let cqe = ring.pop().ok_or("it completes")?;
    assert_eq!((cqe.user_data, cqe.res), (1, 1));
    Ok(())
}

fn awake() -> Result<(), Failed> {
    let mut ring = ring(awake_long());
    // It may sleep until the first entry.
    push(&mut ring, nop(0));
    ring.submit_and_wait(1)?;
    let enters = ring.stats().enters;
    assert_eq!(drain_user_data(&mut ring), [0]);
    for user_data in 1..20 {
        push(&mut ring, nop(user_data));
        assert_eq!(ring.submit(), Ok(1));
        until("it completes", || ring.ready() == 1);
        assert_eq!(drain_user_data(&mut ring), [user_data]);
    }
    assert_eq!((ring.submit(), ring.peek()), (Ok(0), Ok(None)));
    let stats = ring.stats();
    assert_eq!((stats.enters, stats.sqes, stats.cqes), (enters, 20, 20));
    Ok(())
}

fn many(setup: Setup<'_>) -> Result<(), Failed> {
    let mut ring = ring(setup);
    let mut next = 0;
    for batch in [1, 2, 3, 4].repeat(5) {
        until("there is room", || ring.room() == 4);
        let words: Vec<u64> = (next..next + batch).collect();
        words.iter().for_each(|&user_data| push(&mut ring, nop(user_data)));
        next += batch;
        let count = u32::try_from(batch)?;
        assert_eq!(ring.in_flight(), count);
        assert_eq!(ring.submit_and_wait(count), Ok(count));
        assert_eq!(drain_user_data(&mut ring), words);
    }
    assert_eq!((ring.in_flight(), ring.stats().cqes, ring.lost()), (0, 50, 0));
    Ok(())
}

fn room(setup: Setup<'_>) -> Result<(), Failed> {
    let mut ring = ring(setup);
    let mut words = Vec::new();
    for user_data in 0..200 {
        // SAFETY: a NOP points to nothing (OP1).
        while unsafe { ring.push(nop(user_data)) } == Err(Full) {
            assert_eq!(ring.wait_for_room(), Ok(()));
            assert!(ring.room() > 0);
            words.extend(drain_user_data(&mut ring));
        }
    }
    ring.submit()?;
    while ring.in_flight() > 0 {
        ring.wait(1)?;
        words.extend(drain_user_data(&mut ring));
    }
    words.sort_unstable(); // On older kernels new ones overtake those held back.
    assert_eq!(words, (0..200).collect::<Vec<_>>());
    assert_eq!(ring.stats().sqes, 200);
    Ok(())
}

fn chains() -> Result<(), Failed> {
    let mut ring = ring(asleep_soon());
    let mut words = Vec::new();
    for user_data in 0..40 {
        let mut chain = ring.reserve(3)?;
        for _ in 0..3 {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { chain.push(nop(user_data)) }?;
        }
        chain.commit();
        words.extend(drain_user_data(&mut ring));
    }
    ring.submit()?;
    while ring.in_flight() > 0 {
        ring.wait(1)?;
        words.extend(drain_user_data(&mut ring));
    }
    words.sort_unstable(); // On older kernels new ones overtake those held back.
    assert_eq!(words, (0..40).flat_map(|user_data| [user_data; 3]).collect::<Vec<u64>>());
    assert!(ring.reserve(5).is_err(), "there are four slots");
    Ok(())
}

fn overflow() -> Result<(), Failed> {
    let mut ring = ring(asleep_soon());
    for user_data in 0..40 {
        until("there is room", || ring.wait_for_room().is_ok() && ring.room() > 0);
        push(&mut ring, nop(user_data));
        ring.submit()?;
    }
    until("all is consumed", || ring.room() == 4);
    assert_eq!((ring.ready(), ring.in_flight()), (8, 40));
    let mut words = Vec::new();
    while ring.in_flight() > 0 {
        ring.wait(ring.in_flight().min(8))?;
        words.extend(ring.pop().map(|cqe| cqe.user_data));
        words.extend(drain_user_data(&mut ring));
    }
    assert_eq!(words, (0..40).collect::<Vec<_>>());
    assert_eq!((ring.lost(), ring.stats().cqes), (0, 40));
    assert!(ring.stats().overflows > 0);
    Ok(())
}

fn bad_entries() -> Result<(), Failed> {
    let mut ring = ring(asleep_soon());
    let bad = annulus::sys::opcode::Opcode(u8::MAX);
    for _ in 0..5 {
        for user_data in 1..=4 {
            let mut sqe = nop(user_data);
            if user_data % 2 == 0 {
                sqe.opcode = bad;
            }
            push(&mut ring, sqe);
        }
        assert_eq!(ring.submit_and_wait(4), Ok(4));
        let mut seen = Vec::new();
        ring.drain(|cqe| seen.push((cqe.user_data, cqe.res)))?;
        seen.sort_unstable();
        assert_eq!(seen, [(1, 0), (2, -libc::EINVAL), (3, 0), (4, -libc::EINVAL)]);
        until("all is consumed", || ring.room() == 4);
    }
    Ok(())
}

fn times_out() -> Result<(), Failed> {
    let mut ring = ring(asleep_soon());
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, read_byte(&from, 1));
    let (started, timeout) = (Instant::now(), Duration::from_millis(5));
    assert_eq!(ring.submit_and_wait_timeout(1, timeout), Ok((1, Woken::TimedOut)));
    assert!(started.elapsed() >= timeout);
    to.write_all(b"x")?;
    assert_eq!(ring.wait_timeout(1, A_MINUTE), Ok(Woken::Ready));
    assert_eq!(drain_user_data(&mut ring), [1]);
    assert!(ring.wait(1).is_err(), "nothing is in flight");
    Ok(())
}

/// The CPUs that `thread` may run on; 0 is this one.
fn cpus(thread: libc::pid_t) -> Vec<u32> {
    let mut words = [0_u64; size_of::<libc::cpu_set_t>() / 8];
    let (size, set) = (size_of_val(&words), (&raw mut words).cast::<libc::cpu_set_t>());
    // SAFETY: so many live bytes, because `words` is a local.
    let got = unsafe { libc::sched_getaffinity(thread, size, set) };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    let cpus = (0..).zip(words).flat_map(|(at, word)| (0..64).map(move |bit| (at, word, bit)));
    cpus.filter(|(_, word, bit)| word & (1 << bit) != 0).map(|(at, _, bit)| 64 * at + bit).collect()
}

/// The last CPU that we may run on.
fn own_cpu() -> u32 {
    cpus(0).pop().expect("this thread runs somewhere")
}

fn keeps_to_its_cpu() -> Result<(), Failed> {
    let cpu = own_cpu();
    let mut ring = ring(Setup::plain(4).sqpoll_on(cpu, MOMENT));
    push(&mut ring, nop(1));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1]);
    let info = format!("/proc/self/fdinfo/{}", ring.fd().ok_or("a descriptor")?.as_raw_fd());
    let mut poller = 0;
    until("the kernel names its thread", || {
        let info = std::fs::read_to_string(&info).expect("/proc is mounted");
        let line = info.lines().find_map(|line| line.strip_prefix("SqThread:"));
        poller = line.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        poller > 0
    });
    assert_eq!(cpus(poller), [cpu]);
    Ok(())
}

fn halves() -> Result<(), Failed> {
    let halves = ring(asleep_soon()).split();
    let (mut submitter, mut reaper) = halves.map_err(|ring| format!("{ring:?} does not split"))?;
    let submitting = thread::spawn(move || {
        for user_data in 0..1000 {
            // SAFETY: a NOP points to nothing (OP1).
            while unsafe { submitter.push(nop(user_data)) }.is_err() {
                submitter.wait_for_room().expect("wait");
            }
        }
        submitter.submit().expect("submit");
        submitter
    });
    let mut words = Vec::new();
    while words.len() < 1000 {
        reaper.wait(1)?;
        reaper.drain(|cqe| words.push(cqe.user_data))?;
    }
    words.sort_unstable(); // On older kernels new ones overtake those held back.
    assert_eq!(words, (0..1000).collect::<Vec<_>>());
    let submitter = submitting.join().expect("no panic");
    let ring = submitter.join(reaper).map_err(|_| "the halves of one ring")?;
    assert_eq!((ring.in_flight(), ring.stats().sqes), (0, 1000));
    Ok(())
}

fn enabled_late() -> Result<(), Failed> {
    let disabled = patient(|| asleep_soon().build_disabled())?;
    let mut ring = disabled.enable_raw().map_err(|(_, errno)| format!("enable: {errno}"))?;
    push(&mut ring, nop(1));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

/// With entries on their way, and with a request in flight that points to memory.
fn dropped() -> Result<(), Failed> {
    for setup in [asleep_soon(), awake_long(), asleep_soon(), awake_long()] {
        let (from, mut to) = std::io::pipe()?;
        let mut ring = ring(setup);
        push(&mut ring, read_byte(&from, 1));
        ring.submit()?;
        (2..5).for_each(|user_data| push(&mut ring, nop(user_data)));
        ring.submit()?;
        drop(ring);
        to.write_all(b"x")?;
    }
    Ok(())
}

/// The poller may look at the indices at any time, also when nothing is in flight.
fn leaked() -> Result<(), Failed> {
    let mut ring = ring(awake_long().own_memory(Pages::Ordinary));
    push(&mut ring, nop(1));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1]);
    assert_eq!(ring.enter(0, 0, EnterFlags::GETEVENTS, EnterArg::None), Ok(0));
    let places = crate::layouts::own_places(&ring);
    drop(ring);
    assert!(places.into_iter().all(crate::layouts::is_mapped), "the poller may still look there");
    Ok(())
}

//! How a ring ends: dropped, shut down, forgotten, while panicking, in a child.
#![allow(unsafe_code, reason = "forks, and opens files past the page cache")]

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Write as _, pipe};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use annulus::buf::{IoBufMut, RegionMut};
use annulus::op::{Close, Nop, Read, TimeoutMulti, Write};
use annulus::sys::opcode::RegisterOp;
use annulus::{Ring, Setup, ShutdownTimedOut};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, Part, child_succeeds, hangs_up, safe_ring, test};
use crate::watched::{Panics, Watched, quietly, unwind};

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[
    ("a child drops the ring", a_child_drops),
    ("signals rain", rain),
    ("a user value panics after a close", user_value_after_close),
];

const SYNC: [Need; 1] = [Need::Register(RegisterOp::SYNC_CANCEL)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("rg1_a_ring_that_may_not_wait_leaks_what_the_kernel_has", &[], leaks),
        test("a_shutdown_cancels_waits_and_reports", &[], shuts_down),
        test("a_dropped_ring_gives_everything_back", &[], dropped),
        test("a_dropped_ring_ends_hard_chains", &[], hard_chain),
        test("what_waits_behind_a_drain_is_cancelled_too", &SYNC, behind_a_drain),
        test("a_timer_of_no_time_ends_with_its_scope_and_its_ring", &[], no_time),
        test("a_bounded_wait_ends_under_a_flood_of_messages", &[], flooded),
        test("op3_a_user_value_that_panics_loses_no_step_of_a_chain", &[], chain_of_bombs),
        test("a_panic_in_a_drop_does_not_stop_the_rings_end", &[], panics_at_the_end),
        test("a_panic_of_what_was_given_up_loses_no_other_output", &[], detached_panics_at_the_end),
        test("the_end_of_what_was_given_up_ends_a_wait_for_events", &[], detached_ends_a_wait),
        test("a_ring_is_dropped_while_panicking", &[], while_panicking),
        test("a_forgotten_ring_leaks_and_nothing_dangles", &[], forgotten),
        test("a_ring_ends_with_its_thread", &[], with_its_thread),
        test("rg1_no_buffer_is_written_after_it_came_back", &[], direct_reads),
        test("a_forked_child_drops_the_ring_and_the_parent_goes_on", &[], || {
            child_succeeds("a child drops the ring")
        }),
        test("op3_a_user_value_that_panics_closes_no_descriptor_twice", &[], || {
            child_succeeds("a user value panics after a close")
        }),
        test("a_rain_of_signals_ends_no_wait_and_loses_nothing", &[], || {
            child_succeeds("signals rain")
        }),
    ]
}

fn small() -> Ring {
    safe_ring(Setup::new(4))
}

/// A read that waits forever and counts the drops of its buffer, and the other end of the pipe.
fn pending(ring: &mut Ring, drops: &Rc<Cell<u32>>) -> std::io::PipeWriter {
    let (reader, writer) = pipe().expect("a pipe");
    let read = Read::new(reader, Watched::new(drops, Panics::Never));
    let ticket = ring.submit(read).map_err(|r| r.why).expect("room");
    ring.submit_all().expect("submit");
    let _ = ticket;
    writer
}

fn leaks() -> Result<(), Failed> {
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    let _writer = pending(&mut ring, &drops);
    // No thread enters the kernel after this, so nothing reports that it let go of the buffer.
    let ended = ring.shutdown(Duration::ZERO);
    match ended {
        Ok(()) => assert_eq!(drops.get(), 1), // The cancel was quick.
        Err(ShutdownTimedOut { in_flight }) => assert_eq!((in_flight, drops.get()), (1, 0)),
    }
    Ok(())
}

fn shuts_down() -> Result<(), Failed> {
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    let _one = pending(&mut ring, &drops);
    let _two = pending(&mut ring, &drops);
    let nop = ring.submit(Nop)?;
    let _ = nop;
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
    assert_eq!(drops.get(), 2);
    Ok(())
}

fn dropped() -> Result<(), Failed> {
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    ring.set_drop_timeout(Duration::from_secs(60));
    let _writers: Vec<_> = (0..8).map(|_| pending(&mut ring, &drops)).collect();
    drop(ring);
    assert_eq!(drops.get(), 8);
    Ok(())
}

fn hard_chain() -> Result<(), Failed> {
    use annulus::Step as _;
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    ring.set_drop_timeout(Duration::from_secs(60));
    let (reader, _writer) = pipe()?;
    let reader = Rc::new(reader);
    let read = || Read::new(Rc::clone(&reader), Watched::new(&drops, Panics::Never)).hard();
    // Each begins when the one before is cancelled, and must be cancelled in turn.
    let chain = ring.submit_chain((read(), read(), read())).map_err(|r| r.why)?;
    ring.submit_all()?;
    let _ = chain;
    drop(ring);
    assert_eq!(drops.get(), 3);
    Ok(())
}

fn behind_a_drain() -> Result<(), Failed> {
    use annulus::op::Op as _;
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    let _writer = pending(&mut ring, &drops);
    let _ = ring.submit(Nop.drained()).map_err(|r| r.why)?;
    ring.submit_all()?;
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
    assert_eq!(drops.get(), 1);
    Ok(())
}

/// Such a timer expires about as fast as it is armed, and between the two no cancel finds it.
fn no_time() -> Result<(), Failed> {
    for nanoseconds in [0, 1000, 2000, 5000, 10_000, 20_000, 50_000] {
        for setup in [Setup::new(4), Setup::plain(4), Setup::new(4).cq_entries(1024)] {
            let mut ring = safe_ring(setup);
            let timer = || TimeoutMulti::new(Duration::from_nanos(nanoseconds));
            let _ = ring.submit(timer()).map_err(|r| r.why)?;
            ring.submit_all()?;
            let ended = ring.shutdown(Duration::from_secs(30));
            assert_eq!(ended, Ok(()), "every {nanoseconds} ns");
        }
    }
    // A ring that ended in time before ends even without a timeout.
    for nanoseconds in [0, 1000, 2000, 10_000, 50_000] {
        for setup in [Setup::new(4), Setup::plain(4), Setup::new(4).cq_entries(1024)] {
            let mut ring = safe_ring(setup);
            let timer = TimeoutMulti::new(Duration::from_nanos(nanoseconds));
            let vacant = ring.vacant();
            ring.scope(|s| s.submit(timer).map(std::mem::forget).map_err(|r| r.why))?;
            assert_eq!((ring.in_flight(), ring.vacant()), (0, vacant));
        }
    }
    Ok(())
}

fn flooded() -> Result<(), Failed> {
    let mut ring = small();
    let sender = ring.sender()?;
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || while sender.send(1).is_ok() {})
        })
        .collect();
    let (reader, _writer) = pipe()?;
    ring.submit_and_wait(1)?; // The flood has begun.
    let ticket = ring.submit(Read::new(reader, [0; 4])).map_err(|r| r.why)?;
    let unfinished = ring.wait_timeout(ticket, Duration::from_millis(20)).expect_err("no data");
    assert_eq!(unfinished.why.cause, annulus::EnterCause::TimedOut);
    let mut messages = 0;
    ring.reap(|_| messages += 1)?;
    assert!(messages > 0);
    drop(ring);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    Ok(())
}

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// A user value that panics once, when it is dropped.
#[derive(Default)]
struct Once;

impl Drop for Once {
    fn drop(&mut self) {
        if PANICS.replace(false) {
            unwind();
        }
    }
}

fn chain_of_bombs() -> Result<(), Failed> {
    let mut ring = Setup::new(4).build_for::<Once>()?;
    let chain = ring.submit_chain((Nop, Nop, Nop)).map_err(|r| r.why)?;
    ring.submit_and_wait(3)?;
    ring.reap(|_| ())?;
    PANICS.set(true);
    assert!(quietly(|| ring.wait_chain(chain).is_ok()).is_ok_and(|waited| waited));
    assert!(!PANICS.get(), "a user value has panicked");
    assert_eq!((ring.in_flight(), ring.vacant()), (0, 8));
    Ok(())
}

fn panics_at_the_end() -> Result<(), Failed> {
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    ring.set_drop_timeout(Duration::from_secs(60));
    let (reader, writer) = pipe()?;
    let read = Read::new(reader, Watched::new(&drops, Panics::InDrop));
    let _ = ring.submit(read).map_err(|r| r.why)?;
    assert!(quietly(|| drop(ring)).is_err());
    assert_eq!(drops.get(), 1);
    drop(writer);
    Ok(())
}

fn detached_panics_at_the_end() -> Result<(), Failed> {
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    ring.set_drop_timeout(Duration::from_secs(60));
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"12345678")?;
    let ended = Read::new(reader.try_clone()?, Watched::new(&drops, Panics::Never));
    let _ = ring.submit(ended).map_err(|r| r.why)?;
    ring.submit_and_wait(1)?;
    ring.reap(|_| ())?;
    for _ in 0..2 {
        let given_up = Read::new(reader.try_clone()?, Watched::new(&drops, Panics::InDrop));
        let ticket = ring.submit(given_up).map_err(|r| r.why)?;
        ring.detach(ticket);
    }
    assert!(quietly(|| drop(ring)).is_ok(), "it ends with what was given up");
    assert_eq!(drops.get(), 3);
    Ok(())
}

fn detached_ends_a_wait() -> Result<(), Failed> {
    let mut ring = small();
    for kept in [false, true] {
        let (reader, mut writer) = pipe()?;
        let (other, _writer) = pipe()?;
        let given_up = ring.submit(Read::new(reader, [0; 4])).map_err(|r| r.why)?;
        let waiting = ring.submit(Read::new(other, [0; 4])).map_err(|r| r.why)?;
        ring.detach(given_up);
        ring.submit_all()?;
        // Where events are kept to be shown, the wait takes another path.
        let shown = if kept { keep_one(&mut ring)? } else { 0 };
        writer.write_all(b"data")?;
        ring.submit_and_wait(1 + shown)?;
        let mut events = 0;
        ring.reap(|_| events += 1)?;
        assert_eq!((events, ring.in_flight()), (shown, 1));
        ring.cancel(&waiting)?;
        assert!(ring.wait(waiting)?.result.is_err());
    }
    Ok(())
}

/// Makes the ring keep the end of a NOP, and checks that it is one event.
fn keep_one(ring: &mut Ring) -> Result<u32, Failed> {
    let _ = ring.submit(Nop).map_err(|r| r.why)?;
    let last = ring.submit(Nop).map_err(|r| r.why)?;
    ring.wait(last)??;
    Ok(1)
}

fn while_panicking() -> Result<(), Failed> {
    let drops = Rc::new(Cell::new(0));
    let result = quietly(|| {
        let mut ring = small();
        ring.set_drop_timeout(Duration::from_secs(60));
        let _writer = pending(&mut ring, &drops);
        unwind();
    });
    assert!(result.is_err());
    assert_eq!(drops.get(), 1);
    Ok(())
}

fn forgotten() -> Result<(), Failed> {
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    let mut writer = pending(&mut ring, &drops);
    std::mem::forget(ring);
    writer.write_all(b"12345678")?;
    assert_eq!(drops.get(), 0);
    Ok(())
}

fn with_its_thread() -> Result<(), Failed> {
    thread_local! {
        static KEPT: RefCell<Option<Ring>> = const { RefCell::new(None) };
    }
    let thread = std::thread::spawn(|| {
        let drops = Rc::new(Cell::new(0));
        let mut ring = small();
        ring.set_drop_timeout(Duration::from_secs(60));
        let writer = pending(&mut ring, &drops);
        KEPT.with(|kept| *kept.borrow_mut() = Some(ring));
        writer // The ring is dropped by the thread's end.
    });
    let mut writer = thread.join().expect("no panic");
    assert!(hangs_up(&writer), "the reader is gone");
    let error = writer.write_all(b"x").expect_err("the reader is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    Ok(())
}

const MIB: usize = 1 << 20;

/// A buffer whose memory stays mapped, to see whether it is written to after it came back: when it
/// is dropped it is filled with a pattern, and put aside.
struct Kept {
    bytes: Option<&'static mut [u8]>,
    aside: Rc<RefCell<Vec<&'static mut [u8]>>>,
}

impl IoBufMut for Kept {
    fn region_mut(&mut self) -> RegionMut<'_> {
        self.bytes.as_deref_mut().unwrap_or_default().into()
    }

    unsafe fn set_filled(&mut self, _: usize) {}
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            bytes.fill(0xa5);
            self.aside.borrow_mut().push(bytes);
        }
    }
}

/// `MIB` bytes, aligned for a device, that are never freed.
fn page_aligned() -> &'static mut [u8] {
    let bytes = vec![0_u8; MIB + 4096].leak();
    let start = bytes.as_ptr().align_offset(4096);
    &mut bytes[start..start + MIB]
}

fn direct_reads() -> Result<(), Failed> {
    let path = std::env::temp_dir().join(format!("annulus-direct-{}", std::process::id()));
    std::fs::write(&path, vec![0x11; 8 * MIB])?;
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let file = Rc::new(file.or_else(|_| File::open(&path))?);
    std::fs::remove_file(&path)?;
    let aside = Rc::new(RefCell::new(Vec::new()));
    for round in 0..20_u64 {
        let mut ring = small();
        ring.set_drop_timeout(Duration::from_secs(60));
        for index in 0..8 {
            let bytes = aside.borrow_mut().pop().unwrap_or_else(page_aligned);
            let buf = Kept { bytes: Some(bytes), aside: Rc::clone(&aside) };
            let read = Read::new(Rc::clone(&file), buf).at((index + round) % 8 * MIB as u64);
            let _ = ring.submit(read).map_err(|r| r.why)?;
        }
        ring.submit_all()?;
        drop(ring);
        assert_eq!(aside.borrow().len(), 8, "every buffer came back");
    }
    std::thread::sleep(Duration::from_millis(20)); // Time for a late write.
    for bytes in aside.borrow().iter() {
        assert!(bytes.iter().all(|&byte| byte == 0xa5), "written after it came back");
    }
    Ok(())
}

fn a_child_drops() {
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    let mut writer = pending(&mut ring, &drops);
    // SAFETY: this process has one thread, because it plays a part of a test.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(ring);
        let status = if drops.get() == 0 { 0 } else { 3 };
        // SAFETY: ends the process and nothing else, because the parent owns what it shares.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: one live integer, because `status` is a local.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child: {status:#x}");
    writer.write_all(b"12345678").expect("the ring reads");
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1).expect("wait");
        ring.reap(|_| ()).expect("reap");
    }
    drop(ring);
    assert_eq!(drops.get(), 1);
}

#[derive(Default)]
struct UserValue(bool);

impl Drop for UserValue {
    fn drop(&mut self) {
        if self.0 {
            unwind();
        }
    }
}

/// In a process of its own, because it uses the number of a descriptor.
fn user_value_after_close() {
    let mut ring = Setup::new(4).build_for::<UserValue>().expect("a ring");
    let file = File::open("/dev/null").expect("there is one");
    let number = file.as_raw_fd();
    let close =
        ring.submit_for(Close::new(file), UserValue(true)).map_err(|r| r.why).expect("room");
    ring.submit_and_wait(1).expect("wait");
    ring.reap(|_| ()).expect("reap");
    let other = File::open("/proc/self/status").expect("there is one");
    assert_eq!(other.as_raw_fd(), number, "the number was free again");
    let taken = quietly(|| ring.try_take(close).is_ok());
    assert!(taken.is_ok_and(|taken| taken), "the user value panics, and the output is not lost");
    other.metadata().expect("it is open still");
}

static RAINED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    RAINED.fetch_add(1, Ordering::Relaxed);
}

/// Sets a timer that fires once.
fn rain_soon() {
    let (soon, never) =
        (libc::timeval { tv_sec: 0, tv_usec: 2000 }, libc::timeval { tv_sec: 0, tv_usec: 0 });
    let timer = libc::itimerval { it_interval: never, it_value: soon };
    // SAFETY: one live timer, which the kernel copies, because `setitimer(2)` says so.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// A timer fires while pipes are read and written, until it has fired 50 times. It is set again
/// after it has fired, between two rounds: so each round ends, however slow it is.
fn rain() {
    // SAFETY: the handler only counts, because an atomic is all that it touches.
    let old = unsafe { libc::signal(libc::SIGALRM, count as *const () as libc::sighandler_t) };
    assert_ne!(old, libc::SIG_ERR);
    let mut ring = small();
    let (reader, writer) = pipe().expect("a pipe");
    let (reader, writer) = (Rc::new(reader), Rc::new(writer));
    let (mut round, mut set) = (0_u32, 0);
    while RAINED.load(Ordering::Relaxed) < 50 {
        round += 1;
        if set == RAINED.load(Ordering::Relaxed) {
            set += 1;
            rain_soon();
        }
        let word = round.to_le_bytes();
        let read = ring.submit(Read::new(Rc::clone(&reader), [0; 4])).map_err(|r| r.why);
        let read = read.expect("room");
        ring.submit_all()
            .or_else(|error| match error.cause {
                annulus::EnterCause::Interrupted => Ok(0),
                _ => Err(error),
            })
            .expect("submit");
        let mut again = 0..100;
        let written = loop {
            let write = ring.submit(Write::new(Rc::clone(&writer), word)).map_err(|r| r.why);
            let write = ring.wait(write.expect("room")).expect("a signal ends no wait");
            match write.result.map_err(|error| error.raw_os_error()) {
                // Linux 6.1 starts a worker thread for the second request, cannot while a signal is
                // pending, and then cancels the first request.
                Err(Some(libc::ECANCELED)) => assert!(again.next().is_some(), "without end"),
                result => break result,
            }
        };
        assert_eq!(written, Ok(4));
        let read = ring.wait(read).expect("a signal ends no wait");
        assert_eq!((read.result.expect("read"), read.buf), (4, word));
    }
    assert_eq!((ring.in_flight(), ring.stale()), (0, 0));
}

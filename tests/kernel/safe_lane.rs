//! Lanes on real rings: what becomes of the operations, and of what they own.
//!
//! | shown | tests |
//! |---|---|
//! | outputs come with their user values, as bytes and as descriptors | `a_lane_reads_*`, `a_lane_accepts_*` |
//! | a cancel, and the waits around it | `a_cancelled_*`, `a_wait_*` |
//! | the end, with operations in flight | `a_dropped_*`, `rg1_*` |
//! | more completions than there is room for | `a_lane_overflows_*` |
//! | a caller who panics | `a_panic_*` |

use std::cell::Cell;
use std::io::{Read as _, Write as _, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::op::{Accept, Nop, Op, Read};
use annulus::sys::flags::SetupFlags;
use annulus::{EnterCause, Lane, LaneKey, Rejection, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{patient, safe_ring, test};

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_lane_reads_into_buffers_that_come_back", &[], reads),
        test("a_lane_accepts_descriptors_that_are_owned", &[], accepts),
        test("a_cancelled_operation_of_a_lane_comes_back_whole", &[], cancelled),
        test("a_wait_of_a_lane_counts_outputs_and_not_cancels", &[], counts),
        test("a_wait_of_a_lane_for_more_than_comes_is_refused", &[], refused),
        test("a_dropped_lane_drops_what_its_operations_own", &[], dropped),
        test("rg1_a_lane_that_is_not_waited_for_leaks", &[], leaked),
        test("a_lane_overflows_and_loses_nothing", &[], overflows),
        test("a_panic_of_the_caller_loses_no_other_output_of_a_lane", &[], panics),
        test("a_panic_that_throws_a_panic_ends_a_lane_and_a_ring_alike", &[], bombs),
        test("a_lane_of_long_completions_shows_them_all", &[], long_completions),
        test("a_lane_queues_more_than_its_queue_holds", &[], more_than_fits),
        test("a_turn_of_a_lane_is_one_call_of_the_kernel", &[], one_call),
    ]
}

type Reads = Read<Rc<OwnedFd>, Vec<u8>>;

fn lane<O: Op + 'static, U>(setup: Setup<'_>) -> Lane<O, U> {
    patient(|| setup.build_lane()).expect("a lane")
}

/// Reads that never end by themselves, with the file that they own and the end that is open.
fn silent(
    lane: &mut Lane<Reads, u32>,
    count: u32,
) -> (Rc<OwnedFd>, Vec<LaneKey>, std::io::PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    let reader = Rc::new(OwnedFd::from(reader));
    let read = |user| {
        let read = Reads::new(Rc::clone(&reader), Vec::with_capacity(8));
        lane.submit(read, user).expect("room")
    };
    let keys = (0..count).map(read).collect();
    (reader, keys, writer)
}

fn reads() -> Result<(), Failed> {
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut lane: Lane<Reads, &str> = lane(setup);
        let (reader, mut writer) = pipe()?;
        let reader = Rc::new(OwnedFd::from(reader));
        writer.write_all(b"onetwo")?;
        for name in ["first", "second"] {
            lane.submit(Reads::new(Rc::clone(&reader), Vec::with_capacity(3)), name)?;
        }
        assert_eq!((lane.in_flight(), lane.vacant()), (2, lane.raw().cq_entries() - 2));
        let mut seen = Vec::new();
        while seen.len() < 2 {
            lane.turn(1, |name, outcome| seen.push((name, outcome.buf)))?;
        }
        seen.sort();
        let mut bytes = [seen[0].1.clone(), seen[1].1.clone()];
        bytes.sort();
        assert_eq!((seen[0].0, seen[1].0), ("first", "second"));
        assert_eq!(bytes, [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!((lane.in_flight(), lane.stale(), Rc::strong_count(&reader)), (0, 0, 1));
    }
    Ok(())
}

fn accepts() -> Result<(), Failed> {
    let mut lane: Lane<Accept<Rc<TcpListener>>> = lane(Setup::new(8));
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    for _ in 0..2 {
        lane.submit(Accept::new(Rc::clone(&listener)), ())?;
    }
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let mut streams = Vec::new();
    lane.turn(1, |(), outcome| streams.push(outcome.result))?;
    let mut stream = TcpStream::from(streams.remove(0)?);
    stream.write_all(b"!")?;
    let mut answer = [0];
    client.read_exact(&mut answer)?;
    assert_eq!(answer, *b"!");
    // One that is accepted and not shown is closed with the lane.
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    lane.submit_and_wait(1)?;
    lane.shutdown(Duration::from_secs(5))?;
    assert_eq!(client.read(&mut answer)?, 0, "its other end is closed");
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let mut lane = lane(Setup::new(8));
    let (reader, keys, _writer) = silent(&mut lane, 2);
    lane.submit_all()?;
    lane.cancel(&keys[1])?;
    let mut seen = Vec::new();
    assert_eq!(lane.turn(1, |user, outcome| seen.push((user, outcome)))?, 1);
    let (user, outcome) = seen.remove(0);
    assert_eq!(user, 1);
    assert_eq!(outcome.result.map_err(|error| error.raw_os_error()), Err(Some(libc::ECANCELED)));
    assert_eq!((outcome.buf.capacity(), lane.in_flight()), (8, 1));
    // Nothing is in flight by this name any more, although the slot may be used again.
    let before = lane.raw().stats().sqes;
    lane.cancel(&keys[1])?;
    assert_eq!(lane.raw().stats().sqes, before);
    drop(outcome.fd);
    assert_eq!(Rc::strong_count(&reader), 2);
    let mut other: Lane<Reads, u32> = crate::safe_lane::lane(Setup::new(8));
    let misused = catch_unwind(AssertUnwindSafe(|| other.cancel(&keys[0])));
    assert!(misused.is_err(), "OP2: a key of another lane");
    Ok(())
}

fn counts() -> Result<(), Failed> {
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut lane = lane(setup);
        let (_reader, keys, mut writer) = silent(&mut lane, 3);
        lane.submit_all()?;
        for key in &keys[..2] {
            lane.cancel(key)?;
        }
        // Two cancels, and the ends of two reads: the third is still to come.
        lane.submit_and_wait(2)?;
        let mut seen = Vec::new();
        assert_eq!(lane.reap(|user, _| seen.push(user))?, 2);
        seen.sort();
        assert_eq!((seen, lane.in_flight()), (vec![0, 1], 1));
        lane.cancel(&keys[2])?;
        writer.write_all(b"!")?;
        assert_eq!(lane.turn(1, |user, _| assert_eq!(user, 2))?, 1);
        assert_eq!((lane.in_flight(), lane.vacant()), (0, lane.raw().cq_entries()));
    }
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let mut lane: Lane<Nop, u32> = lane(Setup::new(8));
    lane.submit(Nop, 1)?;
    let error = lane.turn(2, |_, _| panic!("nothing is shown")).expect_err("one is all that comes");
    assert_eq!(error.cause, EnterCause::NothingComing { want: 2, coming: 1 });
    assert_eq!(lane.turn(1, |user, _| assert_eq!(user, 1))?, 1);
    assert!(lane.submit_and_wait(1).is_err());
    assert_eq!(lane.turn(0, |_, _| panic!("nothing is there"))?, 0);
    Ok(())
}

fn dropped() -> Result<(), Failed> {
    for shuts_down in [true, false] {
        let mut lane = lane(Setup::new(8));
        let (reader, _keys, _writer) = silent(&mut lane, 5);
        if shuts_down {
            lane.submit_all()?;
            lane.shutdown(Duration::from_secs(5))?;
        } else {
            lane.set_drop_timeout(Duration::from_secs(5));
            drop(lane);
        }
        assert_eq!(Rc::strong_count(&reader), 1);
    }
    Ok(())
}

fn leaked() -> Result<(), Failed> {
    let mut lane = lane(Setup::new(8));
    let (reader, _keys, _writer) = silent(&mut lane, 2);
    lane.submit_all()?;
    // A lane that is forgotten keeps everything.
    std::mem::forget(lane);
    assert_eq!(Rc::strong_count(&reader), 3);
    // So does one that has no time to wait, unless the cancels take effect at once.
    let mut lane = crate::safe_lane::lane(Setup::new(8));
    let (reader, _keys, _writer) = silent(&mut lane, 2);
    lane.submit_all()?;
    let begun = Instant::now();
    if let Err(timed_out) = lane.shutdown(Duration::ZERO) {
        assert_eq!(Rc::strong_count(&reader), 1 + timed_out.in_flight as usize);
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "it waits for nobody");
    Ok(())
}

fn overflows() -> Result<(), Failed> {
    let mut lane = lane(Setup::new(4).cq_entries(4));
    let (_reader, keys, _writer) = silent(&mut lane, 4);
    assert_eq!(lane.vacant(), 0);
    lane.submit_all()?;
    // With those of the cancels, there are twice as many completions as the queue holds.
    for key in &keys {
        lane.cancel(key)?;
    }
    lane.submit_all()?;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        lane.turn(1, |user, _| seen.push(user))?;
    }
    seen.sort();
    assert_eq!((seen, lane.vacant(), lane.stale()), (vec![0, 1, 2, 3], 4, 0));
    Ok(())
}

fn panics() -> Result<(), Failed> {
    let mut lane: Lane<Nop, Rc<u32>> = lane(Setup::new(8));
    let users: Vec<Rc<u32>> = (0..4).map(Rc::new).collect();
    lane.submit_each(users.iter().map(|user| (Nop, Rc::clone(user))))?;
    let seen = Cell::new(0);
    let shown = catch_unwind(AssertUnwindSafe(|| {
        lane.turn(4, |user, _| {
            seen.set(seen.get() + 1);
            if *user == 1 {
                resume_unwind(Box::new("shown"));
            }
        })
    }));
    assert!(shown.is_err());
    assert_eq!((seen.get(), lane.in_flight()), (2, 2));
    let mut left = Vec::new();
    while left.len() < 2 {
        lane.turn(1, |user, _| left.push(*user))?;
    }
    assert_eq!((left, lane.vacant()), (vec![2, 3], lane.raw().cq_entries()));
    assert!(users.iter().all(|user| Rc::strong_count(user) == 1));
    // What was queued before a panic is in flight.
    let some = users.iter().map(|user| {
        if **user == 3 {
            resume_unwind(Box::new("made"));
        }
        (Nop, Rc::clone(user))
    });
    assert!(catch_unwind(AssertUnwindSafe(|| lane.submit_each(some))).is_err());
    assert_eq!((lane.in_flight(), lane.turn(3, |_, _| ())), (3, Ok(3)));
    Ok(())
}

fn long_completions() -> Result<(), Failed> {
    let long = Setup::new(8).with(SetupFlags::CQE32);
    let mut lane: Lane<Nop, u32> = match patient(|| long.build_lane()) {
        Ok(lane) => lane,
        Err(error) => {
            println!("skipped: {error}");
            return Ok(());
        }
    };
    for _ in 0..3 {
        lane.submit_each((0..8).map(|user| (Nop, user)))?;
        let mut seen = Vec::new();
        assert_eq!(lane.turn(8, |user, _| seen.push(user))?, 8);
        assert_eq!((seen, lane.in_flight()), ((0..8).collect(), 0));
    }
    Ok(())
}

fn more_than_fits() -> Result<(), Failed> {
    let mut lane: Lane<Nop, u32> = lane(Setup::new(2).cq_entries(8));
    assert_eq!(lane.submit_each((0..7).map(|user| (Nop, user)))?, 7);
    let rejected = lane.submit_each((7..20).map(|user| (Nop, user))).expect_err("it is full");
    assert_eq!((rejected.why, rejected.user, lane.in_flight()), (Rejection::NoSlot, 8, 8));
    let mut sum = 0;
    while lane.in_flight() > 0 {
        lane.turn(1, |user, _| sum += user)?;
    }
    assert_eq!(sum, (0..8).sum());
    Ok(())
}

fn one_call() -> Result<(), Failed> {
    let mut lane: Lane<Nop, u32> = lane(Setup::new(8));
    lane.submit_each((0..8).map(|user| (Nop, user)))?;
    let before = lane.raw().stats().enters;
    assert_eq!(lane.turn(8, |_, _| ())?, 8);
    assert_eq!(lane.raw().stats().enters, before + 1);
    Ok(())
}

/// What a panic throws; dropping it panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new("a bomb was dropped"));
    }
}

/// The owner of a descriptor, whose drop throws a bomb.
struct Noisy(OwnedFd, Rc<Cell<u32>>);

impl std::os::fd::AsFd for Noisy {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Noisy {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        resume_unwind(Box::new(Bomb));
    }
}

fn bombs() -> Result<(), Failed> {
    for unwinds in [false, true] {
        let drops = Rc::new(Cell::new(0));
        let read = || -> std::io::Result<_> {
            let (reader, _) = pipe()?; // At its end.
            Ok(Read::new(Noisy(reader.into(), Rc::clone(&drops)), vec![0_u8; 4]))
        };
        let mut lane: Lane<Read<Noisy, Vec<u8>>, Rc<Cell<u32>>> = lane(Setup::new(8));
        let mut ring = safe_ring(Setup::new(8));
        for _ in 0..4 {
            lane.submit(read()?, Rc::clone(&drops))?;
            let _forgotten = ring.submit(read()?)?;
        }
        lane.submit_all()?;
        ring.submit_all()?;
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            let _lane = lane;
            if unwinds {
                resume_unwind(Box::new("first"));
            }
        }));
        assert!(thrown.map_err(std::mem::forget).is_err());
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            let _ring = ring;
            if unwinds {
                resume_unwind(Box::new("first"));
            }
        }));
        assert!(thrown.map_err(std::mem::forget).is_err());
        assert_eq!((drops.get(), Rc::strong_count(&drops)), (8, 1));
    }
    Ok(())
}

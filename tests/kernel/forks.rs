//! Inherited rings in a forked child: it finds nothing that it could use, and nothing that it could
//! harm.
//!
//! ```text
//!   parent ─── ring: completions, entries ──┬── fork ─────────────────────── goes on as before
//!                                           └── child: maps memory of its own into each hole,
//!                                                      calls everything, looks at its memory
//! ```
//!
//! A child is killed by an alarm when a call does not return. Fork copies only one thread, so tests
//! that fork run in a process of their own.
#![allow(unsafe_code, reason = "forks, and maps memory itself")]

use std::cell::Cell;
use std::time::Duration;

use annulus::raw::register::{RegisterError, Restrictions};
use annulus::raw::split::{Reaper, Submitter};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, SetupFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::sys::rings::ResizeFailure;
use annulus::sys::syscall::EnterArg;
use annulus::{EnterCause, EnterError, RawRing, Setup};
use libtest_mimic::Trial;

use crate::harness::{Need, Part, child_succeeds, drain_user_data, nop, patient, push, ring, test};
use crate::processes::{Side, end_with, fork, modes, outcome, ring_maps, works};

#[path = "forks/lanes.rs"]
mod lanes;
#[path = "forks/leases.rs"]
mod leases;
#[path = "forks/safe.rs"]
mod safe;
#[path = "forks/shared.rs"]
mod shared;

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[
    ("a forked child touches the ring", touches),
    ("a forked child touches half a ring", touches_halves),
    ("a forked child comes out of a drain", comes_out_of_a_drain),
    ("a forked child calls everything", safe::calls_everything),
    ("a forked child comes out of reaping", safe::comes_out_of_reaping),
    ("a forked child comes out of outputs", safe::comes_out_of_outputs),
    ("a forked child comes out of submitting", safe::comes_out_of_submitting),
    ("a forked child calls everything on a lane", lanes::calls_everything),
    ("a forked child comes out of a turn of a lane", lanes::comes_out_of_a_turn),
    ("a forked child runs an event loop", safe::runs_a_loop),
    ("a scope ends in a forked child", safe::ends_a_scope),
    ("a forked child looks at registered buffers", leases::registered),
    ("a forked child looks at provided buffers", leases::selected),
    ("a forked child submits operations that select buffers", leases::selecting),
    ("a forked child looks at buffers to send", leases::to_send),
    ("a forked child sets a slot of a region", leases::region),
    ("a forked child drops files that are passed", leases::drops_passages),
    ("a forked child registers rings of its own", indices),
    ("a forked child submits a message", safe::sends),
    ("a forked child shares registered buffers", leases::clones),
    ("a child shares its parent's memory", shared::submits),
];

const QUEUE: [Need; 1] = [Need::Register(RegisterOp::PBUF_RING)];
const REGION: [Need; 1] = [Need::Register(RegisterOp::MEM_REGION)];
const INDICES: [Need; 1] = [Need::Register(RegisterOp::RING_FDS)];
const CLONES: [Need; 1] = [Need::Register(RegisterOp::CLONE_BUFFERS)];
const MESSAGES: [Need; 1] = [Need::Op(Opcode::MSG_RING)];
/// Since Linux 5.19, as tables that the kernel fills.
const TABLES: [Need; 1] = [Need::Op(Opcode::SOCKET)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    let tests: [(&str, &[Need]); 21] = [
        ("a_forked_child_that_touches_the_ring_finds_nothing_and_changes_nothing", &[]),
        ("a_forked_child_that_touches_half_a_ring_finds_nothing_and_changes_nothing", &[]),
        ("a_forked_child_that_comes_out_of_a_drain_takes_no_more", &[]),
        ("a_forked_child_is_refused_whatever_it_asks_of_a_ring", &[]),
        ("a_forked_child_that_comes_out_of_reaping_takes_no_more", &[]),
        ("a_forked_child_that_comes_out_of_taking_outputs_takes_no_more", &[]),
        ("a_forked_child_that_comes_out_of_submitting_pushes_nothing", &[]),
        ("a_forked_child_is_refused_whatever_it_asks_of_a_lane", &[]),
        ("a_forked_child_that_comes_out_of_a_turn_of_a_lane_takes_no_more", &[]),
        ("a_forked_child_runs_no_event_loop_of_its_parents", &[]),
        ("a_scope_ends_in_a_forked_child_without_waiting", &[]),
        ("a_forked_child_has_zeroes_of_its_own_in_registered_buffers", &[]),
        ("a_forked_child_has_zeroes_of_its_own_in_provided_buffers", &QUEUE),
        ("a_forked_child_selects_no_buffer_of_its_parents", &QUEUE),
        ("a_forked_child_has_zeroes_of_its_own_in_buffers_to_send", &QUEUE),
        ("a_forked_child_sets_no_slot_of_a_region", &REGION),
        ("a_forked_child_drops_a_file_that_is_passed_whoever_held_the_lock", &TABLES),
        ("a_forked_child_forgets_no_index_of_its_own_rings", &INDICES),
        ("a_forked_child_sends_no_message_that_its_parent_made", &MESSAGES),
        ("a_forked_child_shares_no_table_that_its_parent_registered", &CLONES),
        ("a_child_that_shares_memory_is_one_more_thread", &[]),
    ];
    let parts = tests.into_iter().zip(PARTS);
    parts.map(|((name, needs), (part, _))| test(name, needs, || child_succeeds(part))).collect()
}

/// The memory that a child has mapped where its parent has rings.
struct Occupied(Vec<&'static mut [u8]>);

/// No kernel writes this there, and no ring of the child's.
const PATTERN: u8 = 0xa5;

impl Occupied {
    /// Fills the holes that `maps` left, and sets the alarm.
    fn new(maps: &[(usize, usize)]) -> Self {
        // SAFETY: takes a number only, because that is its signature.
        unsafe { libc::alarm(60) };
        let fill = |&(start, len): &(usize, usize)| {
            let at = map_at(start, len).expect("nothing lies there: MADV_DONTFORK");
            // SAFETY: just mapped, zeroed, and nothing else's until the child ends.
            let bytes = unsafe { std::slice::from_raw_parts_mut(at, len) };
            bytes.fill(PATTERN);
            bytes
        };
        Self(maps.iter().map(fill).collect())
    }

    fn is_unchanged(&self) -> bool {
        let volatile = |byte: &u8| {
            // SAFETY: a live byte, because it is a reference; read as if others had written it.
            unsafe { std::ptr::from_ref(byte).read_volatile() }
        };
        self.0.iter().all(|bytes| bytes.iter().all(|byte| volatile(byte) == PATTERN))
    }
}

/// Maps memory at `start`, unless something lies there.
fn map_at(start: usize, len: usize) -> Option<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let (at, protection) =
        (std::ptr::without_provenance_mut(start), libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: replaces nothing, because of `MAP_FIXED_NOREPLACE`.
    let mapped = unsafe { libc::mmap(at, len, protection, flags, -1, 0) };
    (mapped.addr() == start).then(|| mapped.cast())
}

/// Runs `body` in a forked child that has memory of its own wherever its parent has rings, and
/// expects that it succeeds and leaves that memory alone.
fn in_a_child(what: &str, body: impl FnOnce()) {
    let maps = ring_maps();
    match fork() {
        Side::Child => end_with(|| {
            let occupied = Occupied::new(&maps);
            body();
            assert!(occupied.is_unchanged(), "{what}: it wrote to memory of its own");
        }),
        Side::Parent(child) => assert_eq!(outcome(child), 0, "{what}"),
    }
}

fn refused<T>(result: Result<T, EnterError>) -> bool {
    result.err().is_some_and(|error| error.cause == EnterCause::OtherProcess)
}

fn child<T>(result: Result<T, Errno>) -> bool {
    result.err().is_some_and(|errno| errno.is(libc::ECHILD))
}

const MOMENT: Duration = Duration::from_millis(1);

/// A call, and whether it behaved correctly in a child.
type Call<T> = (&'static str, fn(&mut T) -> bool);

/// Every safe call of a raw ring that reaches into its memory, or enters the kernel.
const CALLS: [Call<RawRing>; 33] = [
    ("reserve", |ring| refused(ring.reserve(1)) && refused(ring.reserve(0))),
    ("submit", |ring| refused(ring.submit())),
    ("submit_and_wait", |ring| {
        refused(ring.submit_and_wait(1)) && refused(ring.submit_and_wait(0))
    }),
    ("submit_and_wait_timeout", |ring| refused(ring.submit_and_wait_timeout(1, MOMENT))),
    ("wait", |ring| refused(ring.wait(1)) && refused(ring.wait(0))),
    ("wait_timeout", |ring| refused(ring.wait_timeout(1, MOMENT))),
    ("wait_min", |ring| refused(ring.wait_min(1, MOMENT, MOMENT))),
    ("enter", |ring| child(ring.enter(1, 0, EnterFlags::GETEVENTS, EnterArg::None))),
    ("enter to wake", |ring| child(ring.enter(0, 0, EnterFlags::SQ_WAKEUP, EnterArg::None))),
    ("wait_for_room", |ring| refused(ring.wait_for_room())),
    ("peek", |ring| refused(ring.peek())),
    ("drain", |ring| refused(ring.drain(|_| ()))),
    ("drain_wide", |ring| refused(ring.drain_wide(|_| ()))),
    ("get_events", |ring| refused(ring.get_events())),
    ("pop", |ring| ring.pop().is_none()),
    ("pop_wide", |ring| ring.pop_wide().is_none()),
    ("ready", |ring| ring.ready() == 0),
    ("flush", |ring| ring.flush() == 0),
    ("room", |ring| ring.room() == 0),
    ("needs_wakeup", |ring| !ring.needs_wakeup()),
    ("positions", |ring| {
        let at = ring.positions();
        (at.sq_head, at.sq_tail, at.cq_head) == (at.sq_written, at.sq_written, at.cq_tail)
    }),
    ("handle", |ring| ring.handle().is_none()),
    ("lost", |ring| ring.lost() == 0),
    ("dropped", |ring| ring.dropped() == 0),
    ("stats", |ring| ring.stats().cqes == 1),
    ("probe", |ring| ring.probe() == Err(RegisterError::OtherProcess)),
    ("restrict", |ring| ring.restrict(&Restrictions::new()) == Err(RegisterError::OtherProcess)),
    ("enable", |ring| ring.enable() == Err(RegisterError::OtherProcess)),
    ("register_eventfd", |ring| child(ring.register_eventfd(std::io::stdin()))),
    ("pause_eventfd", |ring| child(ring.pause_eventfd())),
    ("resume_eventfd", |ring| child(ring.resume_eventfd())),
    ("resize", |ring| {
        ring.resize(4, None) == Err(ResizeFailure::Refused(Errno::new(libc::ECHILD)))
    }),
    ("register_ring_fd", |ring| ring.register_ring_fd().is_err()),
];

/// Leaves a completion that is known and not taken, and an entry that is not submitted.
fn busy(ring: &mut RawRing) {
    works(ring);
    push(ring, nop(1));
    ring.submit_and_wait(1).expect("submit");
    assert_eq!(ring.ready(), 1);
    push(ring, nop(2));
}

fn touches() {
    for (name, setup) in modes() {
        let mut ring = ring(setup);
        let polled = ring.flags().contains(SetupFlags::SQPOLL);
        busy(&mut ring);
        // A poller may move the head a little after it posted.
        while polled && ring.positions().sq_head != ring.positions().sq_tail {
            std::thread::yield_now();
        }
        let before = ring.positions();
        in_a_child(name, || {
            for (call, right) in CALLS {
                assert!(right(&mut ring), "{name}: {call}");
            }
        });
        assert_eq!(ring.positions(), before, "{name}");
        assert_eq!(ring.submit(), Ok(1), "{name}");
        push(&mut ring, nop(3));
        assert_eq!(ring.submit_and_wait(3), Ok(1), "{name}");
        assert_eq!(drain_user_data(&mut ring), [1, 2, 3], "{name}");
        assert_eq!(ring.stats().sqes, 4, "{name}");
        if !polled {
            assert_eq!(ring.positions().sq_head, ring.positions().sq_written);
        }
    }
}

const SUBMITTER: [Call<Submitter>; 5] = [
    ("flush", |half| half.flush() == 0),
    ("reserve", |half| refused(half.reserve(1)) && refused(half.reserve(0))),
    ("submit", |half| refused(half.submit())),
    ("wait_for_room", |half| refused(half.wait_for_room())),
    ("room", |half| half.room() == 0),
];

const REAPER: [Call<Reaper>; 8] = [
    ("pop", |half| half.pop().is_none()),
    ("pop_wide", |half| half.pop_wide().is_none()),
    ("peek", |half| refused(half.peek())),
    ("drain", |half| refused(half.drain(|_| ()))),
    ("wait", |half| refused(half.wait(1)) && refused(half.wait(0))),
    ("wait_timeout", |half| refused(half.wait_timeout(1, MOMENT))),
    ("wait_min", |half| refused(half.wait_min(1, MOMENT, MOMENT))),
    ("ready", |half| half.ready() == 0),
];

fn touches_halves() {
    let mut ring = patient(|| Setup::plain(4).build_raw()).expect("a ring");
    busy(&mut ring);
    let handle = ring.handle().expect("it has a descriptor");
    let mut shared = ring.split().ok();
    in_a_child("halves", || {
        assert_eq!((handle.ready(), handle.to_submit(), handle.needs_wakeup()), (0, 0, false));
        assert!(child(handle.submit()) && child(handle.submit_and_wait(1)), "handle");
        assert!(child(handle.enter(1, 0, EnterFlags::GETEVENTS, EnterArg::None)), "handle");
        assert!(child(handle.unregister_eventfd()), "handle");
        assert!(child(handle.pause_eventfd()) && child(handle.resume_eventfd()), "handle");
        let (mut submitter, mut reaper) = shared.take().expect("the child's own");
        for (call, right) in SUBMITTER {
            assert!(right(&mut submitter), "{call}");
        }
        for (call, right) in REAPER {
            assert!(right(&mut reaper), "{call}");
        }
        assert!(submitter.join(reaper).is_err());
    });
    let (submitter, reaper) = shared.take().expect("the child took its own");
    let mut ring = submitter.join(reaper).expect("they are of one ring");
    assert_eq!(ring.submit_and_wait(2), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1, 2]);
}

/// A way to end the use of a ring, and whether it behaved correctly in a child.
type End = (&'static str, fn(RawRing) -> bool);

/// How a child may be done with a ring that its parent registered.
const ENDS: [End; 3] = [
    ("unregister_ring_fd", |mut ring| child(ring.unregister_ring_fd())),
    ("split", |ring| ring.split().is_err()),
    ("drop", |ring| {
        drop(ring);
        true
    }),
];

/// The slots of a thread are its own, and so their numbers are those of the parent in a child, too.
fn indices() {
    for (end, right) in ENDS {
        let mut inherited = ring(Setup::plain(4));
        inherited.register_ring_fd().expect("a place");
        let mut shared = Some(inherited);
        in_a_child(end, || {
            let mut own = ring(Setup::plain(4));
            own.register_ring_fd().expect("a place");
            works(&mut own);
            assert!(right(shared.take().expect("the child's own")), "{end}");
            // Would take the place of `own`, if that were forgotten.
            let mut next = ring(Setup::plain(4));
            next.register_ring_fd().expect("a place");
            works(&mut own);
            works(&mut next);
        });
        works(&mut shared.take().expect("the child took its own"));
    }
    let mut shared = Some(ring(Setup::plain(4)));
    in_a_child("split, nothing being registered", || {
        assert!(shared.take().expect("the child's own").split().is_err());
    });
    assert!(shared.take().expect("the child took its own").split().is_ok());
}

thread_local! {
    /// The child that was forked last; 0 in the child itself.
    static FORKED: Cell<Option<libc::pid_t>> = const { Cell::new(None) };
}

/// Forks, and reports it in `FORKED`. The child fills the holes that `maps` leave.
fn fork_here(maps: &[(usize, usize)]) -> Option<Occupied> {
    let (child, occupied) = match fork() {
        Side::Child => (0, Some(Occupied::new(maps))),
        Side::Parent(child) => (child, None),
    };
    FORKED.set(Some(child));
    occupied
}

/// Ends the child that [`fork_here`] forked, well if `right`; in the parent, expects that it did.
fn end_if_forked(what: &str, right: impl FnOnce() -> bool) {
    match FORKED.take().expect("it forked") {
        0 => end_with(|| assert!(right(), "{what}: in the child")),
        child => assert_eq!(outcome(child), 0, "{what}"),
    }
}

/// Takes completions until the second; there it forks, and both processes go on.
fn drained(ring: &mut RawRing, drain: fn(&mut RawRing, &mut dyn FnMut()) -> u32, what: &str) {
    (0..4).for_each(|word| push(ring, nop(word)));
    ring.submit_and_wait(4).expect("submit");
    let maps = ring_maps();
    let (mut seen, mut occupied) = (0, None);
    let count = drain(ring, &mut || {
        seen += 1;
        if seen == 2 {
            occupied = fork_here(&maps);
        }
    });
    end_if_forked(what, || {
        (seen, count) == (2, 2) && occupied.is_some_and(|occupied| occupied.is_unchanged())
    });
    assert_eq!((seen, count, ring.ready()), (4, 4, 0), "{what}");
    works(ring);
}

fn comes_out_of_a_drain() {
    for (name, setup) in modes() {
        if name == "polling" {
            continue; // What it does not do at once is no matter of this test.
        }
        let mut ring = ring(setup);
        drained(&mut ring, |ring, each| ring.drain(|_| each()).expect("drain"), name);
        drained(&mut ring, |ring, each| ring.drain_wide(|_| each()).expect("drain"), name);
        let one_by_one = |ring: &mut RawRing, each: &mut dyn FnMut()| {
            u32::try_from(ring.completions().inspect(|_| each()).count()).expect("few")
        };
        drained(&mut ring, one_by_one, name);
    }
}

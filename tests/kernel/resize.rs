//! A ring that changes its sizes while it is in use.
//!
//! ```text
//!   push ─► submit ─► push, flush ─► resize ─► submit ─► pop
//!           completions stay ─────────►│ and entries that the kernel has yet to consume
//! ```
#![allow(unsafe_code, reason = "pushes wide entries")]

use std::collections::VecDeque;
use std::io::Write;

use annulus::sys::abi::{Sqe, Sqe128};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{NopFlags, SetupFlags};
use annulus::sys::map::Pages;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::sys::rings::ResizeFailure;
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain_user_data, here, nop, push, read_byte, ring, test};

const RESIZE: [Need; 1] = [Need::Register(RegisterOp::RESIZE_RINGS)];
const DEFERRING: SetupFlags =
    SetupFlags::SINGLE_ISSUER.union(SetupFlags::DEFER_TASKRUN).union(SetupFlags::NO_SQARRAY);

/// The tests.
pub fn tests() -> Vec<Trial> {
    let wide = |flags| [RESIZE[0], Need::Setup(flags)];
    let (sqe128, cqe32) = (SetupFlags::SQE128, SetupFlags::CQE32);
    let rewind = SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY;
    vec![
        test("a_ring_grows_and_shrinks_in_use", &RESIZE, grows_and_shrinks),
        test("a_resize_takes_what_was_pushed_along", &RESIZE, pushed_moves_along),
        test("a_resize_keeps_requests_in_flight", &RESIZE, in_flight_stays),
        test("what_does_not_fit_refuses_the_resize", &RESIZE, does_not_fit),
        test("a_ring_without_deferral_keeps_its_size", &RESIZE, not_deferring),
        test("a_ring_in_own_memory_keeps_its_size", &wide(SetupFlags::NO_MMAP), own_memory),
        test("a_ring_with_an_index_array_keeps_its_size", &RESIZE, with_array),
        test("no_ring_is_resized_before_6_13", &[Need::Other(cannot_resize)], cannot),
        test("resizes_at_random_lose_nothing", &RESIZE, || at_random(DEFERRING)),
        test("resizes_of_wide_entries_lose_nothing", &wide(sqe128), || {
            at_random(DEFERRING | SetupFlags::SQE128)
        }),
        test("resizes_of_wide_completions_lose_nothing", &wide(cqe32), || {
            at_random(DEFERRING | SetupFlags::CQE32)
        }),
        test("resizes_of_a_wide_ring_lose_nothing", &wide(sqe128 | cqe32), || {
            at_random(DEFERRING | SetupFlags::SQE128 | SetupFlags::CQE32)
        }),
        test("resizes_of_mixed_completions_lose_nothing", &wide(SetupFlags::CQE_MIXED), || {
            at_random(DEFERRING | SetupFlags::CQE_MIXED)
        }),
        test("resizes_of_mixed_entries_lose_nothing", &wide(SetupFlags::SQE_MIXED), || {
            at_random(DEFERRING | SetupFlags::SQE_MIXED)
        }),
        test("a_rewinding_ring_is_resized_when_all_is_submitted", &wide(rewind), rewinding),
        test("a_wide_completion_may_come_to_lie_across_the_wrap", &wide(SetupFlags::CQE_MIXED), {
            straddling_completion
        }),
        test("no_resize_tears_a_wide_entry_apart", &wide(SetupFlags::SQE_MIXED), straddling),
    ]
}

fn cannot_resize() -> Option<String> {
    let can = here().has_register(RegisterOp::RESIZE_RINGS);
    can.then(|| "needs a kernel without RESIZE_RINGS".to_owned())
}

fn refused(errno: i32) -> Result<(), ResizeFailure> {
    Err(ResizeFailure::Refused(Errno::new(errno)))
}

fn sizes(ring: &RawRing) -> (u32, u32) {
    (ring.sq_entries(), ring.cq_entries())
}

fn push_all(ring: &mut RawRing, words: std::ops::Range<u64>) {
    words.for_each(|user_data| push(ring, nop(user_data)));
}

fn works(ring: &mut RawRing) {
    push(ring, nop(u64::MAX));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(ring), [u64::MAX]);
}

fn grows_and_shrinks() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    push_all(&mut ring, 0..4);
    ring.submit()?;
    let before = ring.positions();
    assert_eq!(ring.resize(16, None), Ok(()));
    assert_eq!((sizes(&ring), ring.ready(), ring.room()), ((16, 32), 4, 16));
    assert_eq!(ring.positions(), before);
    push_all(&mut ring, 4..20);
    ring.submit()?;
    assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(0));
    assert_eq!(ring.resize(2, Some(20)), Ok(()));
    assert_eq!((sizes(&ring), ring.ready(), ring.room()), ((2, 32), 19, 2));
    assert_eq!(drain_user_data(&mut ring), (1..20).collect::<Vec<_>>());
    assert_eq!(ring.resize(1, None), Ok(()));
    assert_eq!(sizes(&ring), (1, 2));
    works(&mut ring);
    let stats = ring.stats();
    assert_eq!((stats.sqes, stats.cqes, stats.overflows), (21, 21, 0));
    assert_eq!((ring.in_flight(), ring.lost()), (0, 0));
    Ok(())
}

fn pushed_moves_along() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    works(&mut ring);
    push_all(&mut ring, 0..2);
    ring.flush();
    push_all(&mut ring, 2..3);
    assert_eq!(ring.resize(8, None), Ok(()));
    assert_eq!((ring.room(), ring.in_flight()), (5, 3));
    push_all(&mut ring, 3..8);
    assert_eq!(ring.room(), 0);
    assert_eq!(ring.submit_and_wait(8)?, 8);
    assert_eq!(drain_user_data(&mut ring), (0..8).collect::<Vec<_>>());
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

fn in_flight_stays() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, read_byte(&from, 9));
    ring.submit()?;
    ring.register_ring_fd()?;
    for entries in [32, 1, 8] {
        assert_eq!(ring.resize(entries, None), Ok(()));
        assert_eq!(ring.in_flight(), 1);
        works_meanwhile(&mut ring);
    }
    to.write_all(b"x")?;
    ring.wait(1)?;
    let cqe = ring.pop().ok_or("a completion")?;
    assert_eq!((cqe.user_data, cqe.res, ring.in_flight()), (9, 1, 0));
    Ok(())
}

fn works_meanwhile(ring: &mut RawRing) {
    push(ring, nop(1));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(ring), [1]);
}

fn does_not_fit() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(8));
    push_all(&mut ring, 0..8);
    ring.submit()?;
    // Eight completions do not fit four places.
    assert_eq!(ring.resize(2, None), refused(libc::EOVERFLOW));
    assert_eq!((sizes(&ring), ring.ready()), ((8, 16), 8));
    push_all(&mut ring, 8..12);
    // Four entries do not fit two.
    assert_eq!(ring.resize(2, Some(16)), refused(libc::EOVERFLOW));
    assert_eq!((sizes(&ring), ring.room()), ((8, 16), 4));
    // Sizes that no kernel makes.
    assert_eq!(ring.resize(0, None), refused(libc::EINVAL));
    assert_eq!(ring.resize(16, Some(8)), refused(libc::EINVAL));
    assert_eq!(ring.resize(32769, None), refused(libc::EINVAL));
    assert_eq!(ring.submit()?, 4);
    assert_eq!(drain_user_data(&mut ring), (0..12).collect::<Vec<_>>());
    assert_eq!(ring.resize(2, None), Ok(()));
    works(&mut ring);
    Ok(())
}

fn not_deferring() -> Result<(), Failed> {
    for setup in [Setup::plain(4), Setup::plain(4).with(SetupFlags::COOP_TASKRUN)] {
        let mut ring = ring(setup);
        push_all(&mut ring, 0..2);
        assert_eq!(ring.resize(8, None), refused(libc::EINVAL));
        assert_eq!(sizes(&ring), (4, 8));
        assert_eq!(ring.submit_and_wait(2)?, 2);
        assert_eq!(drain_user_data(&mut ring), [0, 1]);
    }
    Ok(())
}

/// The kernel would move the index array, and does not report its new place.
fn with_array() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(DEFERRING - SetupFlags::NO_SQARRAY));
    push_all(&mut ring, 0..2);
    assert_eq!(ring.resize(8, None), refused(libc::EINVAL));
    assert_eq!(ring.submit_and_wait(2)?, 2);
    assert_eq!(drain_user_data(&mut ring), [0, 1]);
    Ok(())
}

fn own_memory() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4).own_memory(Pages::Ordinary));
    assert_eq!(ring.resize(8, None), refused(libc::EINVAL));
    works(&mut ring);
    Ok(())
}

fn cannot() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    push_all(&mut ring, 0..2);
    assert_eq!(ring.resize(8, None), refused(libc::EINVAL));
    assert_eq!(ring.submit_and_wait(2)?, 2);
    assert_eq!(drain_user_data(&mut ring), [0, 1]);
    Ok(())
}

/// A ring whose entries start over with each submit: the kernel would not find them.
fn rewinding() -> Result<(), Failed> {
    let flags = DEFERRING | SetupFlags::SQ_REWIND;
    let mut ring = ring(Setup::plain(4).with(flags));
    push_all(&mut ring, 0..4);
    ring.submit()?;
    push_all(&mut ring, 4..6);
    assert_eq!(ring.resize(8, None), refused(libc::EBUSY));
    assert_eq!(ring.submit_and_wait(6)?, 2);
    assert_eq!(ring.resize(8, None), Ok(()));
    assert_eq!((sizes(&ring), ring.ready(), ring.room()), ((8, 16), 6, 8));
    push_all(&mut ring, 6..14);
    assert_eq!(ring.submit()?, 8);
    assert_eq!(drain_user_data(&mut ring), (0..14).collect::<Vec<_>>());
    works(&mut ring);
    Ok(())
}

/// A wide entry in slots 3 and 4, which a ring of four would tear apart.
fn straddling() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(8).with(DEFERRING | SetupFlags::SQE_MIXED));
    push_all(&mut ring, 0..3);
    ring.submit()?;
    let first = Sqe { opcode: Opcode::NOP128, ..nop(3) };
    // SAFETY: a NOP points to nothing, because it reads no address (OP1).
    unsafe { ring.push_wide(Sqe128 { first, ..Sqe128::ZERO }) }?;
    let resized = ring.resize(4, None);
    ring.submit_and_wait(4)?;
    let mut results = Vec::new();
    ring.drain(|cqe| results.push((cqe.user_data, cqe.res)))?;
    assert_eq!(results, [(0, 0), (1, 0), (2, 0), (3, 0)], "{resized:?}");
    assert_eq!(resized, refused(libc::EBUSY));
    assert_eq!(ring.resize(4, None), Ok(()));
    works(&mut ring);
    Ok(())
}

/// A wide completion in slots 3 and 4, which in a ring of four are the last and the first.
fn straddling_completion() -> Result<(), Failed> {
    let flags = DEFERRING | SetupFlags::CQE_MIXED;
    let mut ring = ring(Setup::plain(4).cq_entries(8).with(flags));
    push_all(&mut ring, 0..3);
    ring.submit()?;
    assert_eq!(drain_user_data(&mut ring), [0, 1, 2]);
    let [off, addr] = big(3);
    push(&mut ring, Sqe { op_flags: NopFlags::CQE32.bits(), off, addr, ..nop(3) });
    push(&mut ring, nop(4));
    ring.submit()?;
    // Linux 7.3 refuses an entry that earlier kernels move whole.
    let resized = ring.resize(4, Some(4));
    assert!([Ok(()), refused(libc::EOVERFLOW)].contains(&resized), "{resized:?}");
    let wide = ring.pop_wide().ok_or("a completion")?;
    assert_eq!((wide.first.user_data, wide.big), (3, big(3)));
    assert_eq!(drain_user_data(&mut ring), [4]);
    works(&mut ring);
    Ok(())
}

/// The contents that the ring should have.
#[derive(Default)]
struct Model {
    next: u64,
    /// Pushed, and how many slots each takes.
    queued: VecDeque<(u64, u32)>,
    /// Completed, and how many slots each takes.
    posted: VecDeque<(u64, u32)>,
}

impl Model {
    fn slots(of: &VecDeque<(u64, u32)>) -> u32 {
        of.iter().map(|(_, slots)| slots).sum()
    }

    /// Whether all completions fit in the ring, including the fillers that keep wide ones whole at
    /// the wrap.
    fn fits(&self, ring: &RawRing) -> bool {
        let slots = Self::slots(&self.queued) + Self::slots(&self.posted);
        let mixed = ring.flags().contains(SetupFlags::CQE_MIXED);
        (if mixed { 2 * slots } else { slots }) <= ring.cq_entries()
    }
}

/// The second half of a completion, computed from its `user_data`.
fn big(user_data: u64) -> [u64; 2] {
    [user_data ^ 0xaaaa, user_data ^ 0x5555]
}

/// Pushes a NOP whose completion is as large as the ring allows, every other time.
fn push_next(ring: &mut RawRing, model: &mut Model) -> bool {
    let flags = ring.flags();
    let user_data = model.next;
    let mut sqe = nop(user_data);
    let mut cqe_slots = 1;
    let large = flags.contains(SetupFlags::CQE_MIXED) && user_data.is_multiple_of(2);
    if large || (flags.contains(SetupFlags::CQE32) && tells_big()) {
        let [off, addr] = big(user_data);
        sqe = Sqe { op_flags: NopFlags::CQE32.bits(), off, addr, ..sqe };
    }
    if large {
        cqe_slots = 2;
    }
    if flags.contains(SetupFlags::SQE_MIXED) && user_data.is_multiple_of(3) {
        let first = Sqe { opcode: Opcode::NOP128, ..sqe };
        // SAFETY: a NOP points to nothing, because it reads no address (OP1).
        if unsafe { ring.push_wide(Sqe128 { first, ..Sqe128::ZERO }) }.is_err() {
            return false;
        }
    } else {
        if ring.room() == 0 {
            return false;
        }
        push(ring, sqe);
    }
    model.queued.push_back((user_data, cqe_slots));
    model.next += 1;
    true
}

/// Whether a NOP can fill the second half: since the release that mixes sizes.
fn tells_big() -> bool {
    here().setup_flags().contains(SetupFlags::CQE_MIXED)
}

fn pop_next(ring: &mut RawRing, model: &mut Model) {
    let flags = ring.flags();
    let popped = ring.pop_wide();
    let wanted = model.posted.pop_front();
    assert_eq!(popped.map(|cqe| cqe.first.user_data), wanted.map(|(user_data, _)| user_data));
    let (Some(cqe), Some((user_data, slots))) = (popped, wanted) else { return };
    assert_eq!(cqe.first.res, 0);
    if slots == 2 || (flags.contains(SetupFlags::CQE32) && tells_big()) {
        assert_eq!(cqe.big, big(user_data));
    }
}

/// Resizes: sizes that are too small must be refused, others must not.
fn resize(ring: &mut RawRing, model: &Model, entries: u32, cq_entries: u32) {
    let before = ring.positions();
    let resized = ring.resize(entries, Some(cq_entries));
    let queued = before.sq_written.distance_from(before.sq_head);
    let posted = before.cq_tail.distance_from(before.cq_head);
    // Kernels lose wide entries and completions on the way.
    let wide = SetupFlags::SQE128 | SetupFlags::SQE_MIXED;
    let (sq_stays, cq_stays) =
        (ring.flags().intersects(wide), ring.flags().contains(SetupFlags::CQE32));
    if (sq_stays && queued > 0) || (cq_stays && posted > 0) {
        assert_eq!(resized, refused(libc::EBUSY));
    } else if queued > entries || posted > cq_entries {
        assert_eq!(resized, refused(libc::EOVERFLOW));
    } else if ring.flags().contains(SetupFlags::CQE_MIXED) && posted > 0 && resized.is_err() {
        // Linux 7.3 refuses where a wide completion would come to lie across the wrap.
        assert_eq!(resized, refused(libc::EOVERFLOW));
    } else {
        assert_eq!(resized, Ok(()), "{queued} of {entries}, {posted} of {cq_entries}");
        assert_eq!(sizes(ring), (entries, cq_entries));
    }
    let after = ring.positions();
    assert_eq!((after.sq_written, after.sq_head), (before.sq_written, before.sq_head));
    assert_eq!((after.cq_head, after.cq_tail), (before.cq_head, before.cq_tail));
    assert!(posted >= Model::slots(&model.posted));
}

/// A few hundred steps, the same each time, checked against a model.
fn at_random(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(8).with(flags));
    let mut model = Model::default();
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..2000 {
        match random(8) {
            0..=2 => {
                let _ = push_next(&mut ring, &mut model);
            }
            3 if model.fits(&ring) => {
                let count = model.queued.len();
                ring.submit()?;
                model.posted.append(&mut model.queued);
                assert_eq!(ring.in_flight() as usize, model.posted.len(), "{count} submitted");
            }
            4 | 5 => pop_next(&mut ring, &mut model),
            6 => {
                ring.flush();
            }
            7 => {
                let entries = 1 << random(6);
                let cq_entries = entries << random(3);
                resize(&mut ring, &model, entries, cq_entries);
            }
            _ => {}
        }
    }
    while !model.posted.is_empty() {
        pop_next(&mut ring, &mut model);
    }
    if model.fits(&ring) || ring.resize(64, Some(256)).is_ok() {
        ring.submit()?;
        model.posted.append(&mut model.queued);
    }
    while !model.posted.is_empty() {
        pop_next(&mut ring, &mut model);
    }
    let rest = u32::try_from(model.queued.len())?;
    assert_eq!((ring.pop(), ring.in_flight(), ring.lost()), (None, rest, 0));
    assert!(model.next > 100, "{} entries went through", model.next);
    Ok(())
}

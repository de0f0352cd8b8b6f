//! How often this side touches the words that it shares with the kernel, seen by a trap on their
//! page (`trap`).
//!
//! | stores, loads of | `sq.tail` | `sq.head` | `cq.tail` | `cq.head` | the kernel's flags |
//! |---|---|---|---|---|---|
//! | eight pushes into an empty queue | – | 0, 1 | – | – | – |
//! | a flush | 1, 0 | 0, 1 | – | – | – |
//! | a submit of eight | 1, 0 | 0, 1 | – | – | 0, 1 |
//! | a drain of eight | – | – | 0, 1 | 1, 0 | 0, 1 |
//! | a drain of eight, over the end of the slots | – | – | 0, 1 | 2, 0 | 0, 1 |
//! | eight pops | – | – | 0, 1 | 8, 0 | 0, 1 |
//! | a turn of eight | 1, 0 | – | 0, 1 | 1, 0 | 0, 1 |
//!
//! The store is a Release and the load an Acquire, because `sys/orderings.rs` has no others for
//! these words; that no less would do is shown by the model checker (`loom`).

use std::sync::Arc;

use annulus::RawRing;

use crate::linux::Linux;
use crate::trap::{Access, accesses};
use crate::{nops, or_skip};

const ONE_STORE: Touched = (1, 0);
const ONE_LOAD: Touched = (0, 1);

/// How often a word was stored, and how often it was loaded.
type Touched = (usize, usize);

/// What `body` touches of the words of a ring.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    sq_tail: Touched,
    sq_head: Touched,
    cq_tail: Touched,
    cq_head: Touched,
    flags: Touched,
}

fn touched(ring: &mut RawRing, linux: &Linux, body: impl FnOnce(&mut RawRing)) -> Words {
    let params = *ring.base().params();
    let noted = accesses(linux.indices(), || body(ring));
    let of = |offset: u32| {
        let offset = offset as usize;
        let count =
            |is_write| noted.iter().filter(|&&it| it == Access { offset, is_write }).count();
        (count(true), count(false))
    };
    Words {
        sq_tail: of(params.sq_off.tail),
        sq_head: of(params.sq_off.head),
        cq_tail: of(params.cq_off.tail),
        cq_head: of(params.cq_off.head),
        flags: of(params.sq_off.flags),
    }
}

/// A ring of eight, all of whose entries are NOPs that completed.
fn completed() -> Result<(RawRing, Arc<Linux>), String> {
    let (mut ring, linux) = Linux::ring(8)?;
    nops(&mut ring, 8);
    assert_eq!(ring.submit(), Ok(8));
    Ok((ring, linux))
}

#[test]
fn every_access_is_noted() {
    let (mut ring, linux) = or_skip!(Linux::ring(8));
    assert_eq!(touched(&mut ring, &linux, |_| ()), Words::default());
    let twice = touched(&mut ring, &linux, |ring| {
        ring.flush();
        ring.flush();
    });
    assert_eq!((twice.sq_tail, twice.sq_head), ((2, 0), (0, 2)));
}

#[test]
fn sq4_eight_pushes_look_once_for_room_and_tell_the_kernel_nothing() {
    let (mut ring, linux) = or_skip!(Linux::ring(8));
    let words = touched(&mut ring, &linux, |ring| nops(ring, 8));
    assert_eq!(words, Words { sq_head: ONE_LOAD, ..Words::default() });
}

#[test]
fn sq3_a_flush_is_one_release_store() {
    let (mut ring, linux) = or_skip!(Linux::ring(8));
    nops(&mut ring, 8);
    let words = touched(&mut ring, &linux, |ring| assert_eq!(ring.flush(), 8));
    assert_eq!(words, Words { sq_tail: ONE_STORE, sq_head: ONE_LOAD, ..Words::default() });
}

#[test]
fn sq3_a_submit_is_one_flush() {
    let (mut ring, linux) = or_skip!(Linux::ring(8));
    nops(&mut ring, 8);
    let words = touched(&mut ring, &linux, |ring| assert_eq!(ring.submit(), Ok(8)));
    let expected =
        Words { sq_tail: ONE_STORE, sq_head: ONE_LOAD, flags: ONE_LOAD, ..Words::default() };
    assert_eq!(words, expected);
}

#[test]
fn cq3_cq4_a_drain_is_one_acquire_load_and_one_release_store() {
    let (mut ring, linux) = or_skip!(completed());
    let words = touched(&mut ring, &linux, |ring| assert_eq!(ring.drain(|_| ()), Ok(8)));
    let expected =
        Words { cq_tail: ONE_LOAD, cq_head: ONE_STORE, flags: ONE_LOAD, ..Words::default() };
    assert_eq!(words, expected);
}

#[test]
fn cq4_a_drain_over_the_end_of_the_slots_is_one_load_and_two_stores() {
    let (mut ring, linux) = or_skip!(completed());
    assert_eq!((ring.drain(|_| ()), ring.cq_entries()), (Ok(8), 16));
    for (count, stores) in [(4, 1), (8, 2)] {
        nops(&mut ring, count);
        assert_eq!(ring.submit().map(u64::from), Ok(count));
        let words = touched(&mut ring, &linux, |ring| {
            assert_eq!(ring.drain(|_| ()).map(u64::from), Ok(count));
        });
        assert_eq!((words.cq_tail, words.cq_head), (ONE_LOAD, (stores, 0)));
    }
}

#[test]
fn cq3_cq4_a_pop_looks_only_when_it_knows_of_no_more() {
    let (mut ring, linux) = or_skip!(completed());
    let words = touched(&mut ring, &linux, |ring| {
        (0..8).for_each(|_| assert!(ring.pop().is_some()));
    });
    let expected =
        Words { cq_tail: ONE_LOAD, cq_head: (8, 0), flags: ONE_LOAD, ..Words::default() };
    assert_eq!(words, expected);
}

#[test]
fn sq3_cq3_cq4_a_turn_is_a_flush_without_a_look_and_a_drain() {
    let (mut ring, linux) = or_skip!(Linux::ring(8));
    nops(&mut ring, 8);
    let words = touched(&mut ring, &linux, |ring| assert_eq!(ring.turn(8, |_| ()), Ok(8)));
    let expected = Words {
        sq_tail: ONE_STORE,
        cq_tail: ONE_LOAD,
        cq_head: ONE_STORE,
        flags: ONE_LOAD,
        ..Words::default()
    };
    assert_eq!(words, expected);
}

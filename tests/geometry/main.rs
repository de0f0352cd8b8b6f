//! Wrong descriptions of a ring by a kernel: each ends in a panic that names SQ2 or CQ2, or in the
//! error with which Linux refuses the map, before any access outside the maps; and everything is
//! released.
//!
//! Each case runs on one ring map and on two. The maps are exactly pages, so that an address
//! sanitizer sees an access outside. What is adopted is checked as what is made.
#![allow(unsafe_code, reason = "adopts rings")]

#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use annulus_sys::abi::Params;
use annulus_sys::errno::Errno;
use annulus_sys::flags::Features;
use annulus_sys::kernel::Kernel;
use annulus_sys::rings::{Request, Rings, SetupFailure};
use annulus_sys::syscall::RingFd;
use support::backend::ScriptedKernel;
use support::memory::{Block, RingMemory};
use support::panics::{complaint, text};

type Tamper = fn(&mut Params, &RingMemory);

/// What to break, and the invariant that the panic then names.
const CASES: &[(&str, Tamper, &str)] = &[
    ("no entries", |params, _| params.sq_entries = 0, "SQ2"),
    ("entries not a power of two", |params, _| params.sq_entries = 3, "SQ2"),
    ("no completions", |params, _| (params.sq_entries, params.cq_entries) = (0, 0), "SQ2"),
    ("completions not a power of two", |params, _| params.cq_entries = 12, "CQ2"),
    ("fewer completions than entries", |params, _| params.cq_entries = 2, "CQ2"),
    ("half as many entries", |params, _| params.sq_entries = 2, "SQ2"),
    ("half as many completions", |params, _| params.cq_entries = 4, "CQ2"),
    ("a mask of the entries", |p, memory| memory.store(Block::Sq, p.sq_off.ring_mask, 7), "SQ2"),
    ("no mask", |p, memory| memory.store(Block::Sq, p.sq_off.ring_mask, 0), "SQ2"),
    ("a mask of completions", |p, memory| memory.store(Block::Cq, p.cq_off.ring_mask, 3), "CQ2"),
    ("a count of entries", |p, memory| memory.store(Block::Sq, p.sq_off.ring_entries, 8), "SQ2"),
    ("a count of completions", |p, mem| mem.store(Block::Cq, p.cq_off.ring_entries, 4), "CQ2"),
    ("a head ahead of the tail", |p, memory| memory.store(Block::Sq, p.sq_off.head, 1), "SQ2"),
    ("a tail too far", |p, memory| memory.store(Block::Sq, p.sq_off.tail, 5), "SQ2"),
    ("a tail behind the head", |p, m| m.store(Block::Cq, p.cq_off.tail, u32::MAX), "CQ2"),
    ("too many completions", |p, memory| memory.store(Block::Cq, p.cq_off.tail, 9), "CQ2"),
];

type Offset = fn(&mut Params) -> &mut u32;

/// Every offset that a kernel reports.
const OFFSETS: &[(&str, Offset)] = &[
    ("sq.head", |params| &mut params.sq_off.head),
    ("sq.tail", |params| &mut params.sq_off.tail),
    ("sq.ring_mask", |params| &mut params.sq_off.ring_mask),
    ("sq.ring_entries", |params| &mut params.sq_off.ring_entries),
    ("sq.flags", |params| &mut params.sq_off.flags),
    ("sq.dropped", |params| &mut params.sq_off.dropped),
    ("sq.array", |params| &mut params.sq_off.array),
    ("cq.head", |params| &mut params.cq_off.head),
    ("cq.tail", |params| &mut params.cq_off.tail),
    ("cq.ring_mask", |params| &mut params.cq_off.ring_mask),
    ("cq.ring_entries", |params| &mut params.cq_off.ring_entries),
    ("cq.overflow", |params| &mut params.cq_off.overflow),
    ("cq.cqes", |params| &mut params.cq_off.cqes),
    ("cq.flags", |params| &mut params.cq_off.flags),
];

const BOTH_LAYOUTS: [Features; 2] = [Features::SINGLE_MMAP, Features::empty()];

#[test]
fn sq2_cq2_a_geometry_that_is_no_ring_is_named_and_let_go_of() {
    for features in BOTH_LAYOUTS {
        for &(what, tamper, invariant) in CASES {
            let (kernel, script) = ScriptedKernel::new();
            script.set_features(features);
            script.tamper(tamper);
            let complaint = complaint(|| Rings::setup(&kernel, &Request::new(4)));
            assert!(complaint.contains(invariant), "{what}: {complaint}");
            assert_eq!((script.maps_alive(), script.is_open()), (0, false), "{what}");
        }
    }
}

#[test]
fn sq2_cq2_an_offset_that_is_not_aligned_is_named() {
    for features in BOTH_LAYOUTS {
        for &(what, offset) in OFFSETS {
            for by in [1, 2, 3] {
                let (kernel, script) = ScriptedKernel::new();
                script.set_features(features);
                script.tamper(move |params, _| *offset(params) += by);
                let complaint = complaint(|| Rings::setup(&kernel, &Request::new(4)));
                assert!(complaint.contains("SQ2, CQ2"), "{what}: {complaint}");
                assert_eq!((script.maps_alive(), script.is_open()), (0, false), "{what}");
            }
        }
    }
}

#[test]
fn sq2_cq2_an_offset_outside_its_map_is_named() {
    for features in BOTH_LAYOUTS {
        for &(what, offset) in OFFSETS {
            // The first index after the page, and one that would wrap 32-bit arithmetic.
            for to in [4096, 1 << 31, u32::MAX - 7, u32::MAX - 3, u32::MAX] {
                let (kernel, script) = ScriptedKernel::new();
                script.set_features(features);
                script.grant_short_maps();
                script.tamper(move |params, _| *offset(params) = to);
                let complaint = complaint(|| Rings::setup(&kernel, &Request::new(4)));
                assert!(complaint.contains("SQ2, CQ2"), "{what} at {to}: {complaint}");
                assert_eq!((script.maps_alive(), script.is_open()), (0, false), "{what}");
            }
        }
    }
}

/// What `EBUSY` says.
const BUSY: &str = "os error 16";

/// A ring that was set up honestly and let go of, with what may then be done to it; and whether its
/// adoption fails, by a panic with this text or an error.
fn adopted(features: Features, tamper: impl FnOnce(&mut Params, &RingMemory)) -> String {
    let (kernel, script) = ScriptedKernel::new();
    script.set_features(features);
    script.grant_short_maps();
    let rings = Rings::setup(&kernel, &Request::new(4)).expect("a ring");
    let mut params = *rings.base().params();
    drop(rings);
    script.memory(|memory| tamper(&mut params, memory));
    let array = script.memory(RingMemory::array);
    let mut refused = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| refused = adopt(&kernel, params).err())).err();
    let complaint = panicked.map(|panic| text(&*panic).to_owned());
    assert_eq!(script.maps_alive(), 0);
    assert_eq!(script.memory(RingMemory::array), array, "nothing was written");
    complaint.or_else(|| refused.map(|errno| errno.to_string())).expect("it is refused")
}

fn adopt(kernel: &Kernel, params: Params) -> Result<Rings, Errno> {
    let fd = RingFd::Owned(std::fs::File::open("/dev/null").expect("a file").into());
    // SAFETY: they are not the ring's parameters, which is what the checks under test are for; its
    // other owner is gone, so nobody else uses it.
    unsafe { Rings::adopt(kernel, fd, params) }
}

#[test]
fn sq2_cq2_a_ring_is_adopted_no_more_trustfully_than_it_is_made() {
    for features in BOTH_LAYOUTS {
        for &(what, tamper, invariant) in CASES {
            let complaint = adopted(features, tamper);
            let is_named = complaint.contains(invariant) || complaint.contains(BUSY);
            assert!(is_named, "{what}: {complaint}");
        }
        for &(what, offset) in OFFSETS {
            for to in [1, 4096, 1 << 31, u32::MAX - 3, u32::MAX] {
                let complaint = adopted(features, |params, _| *offset(params) = to);
                assert!(complaint.contains("SQ2, CQ2"), "{what} at {to}: {complaint}");
            }
        }
    }
}

#[test]
fn sq3_the_array_of_a_ring_with_published_entries_is_left_alone() {
    for features in BOTH_LAYOUTS {
        for published in 1..=4 {
            let complaint = adopted(features, |params, memory| {
                memory.store(Block::Sq, params.sq_off.tail, published);
                memory.store(Block::Sq, params.sq_off.array, 3);
            });
            assert!(complaint.contains(BUSY), "{complaint}");
        }
    }
}

#[test]
fn sq2_cq2_an_index_array_over_something_else_is_not_filled() {
    for features in BOTH_LAYOUTS {
        let one_map = features.contains(Features::SINGLE_MMAP);
        // A resize says that it lies at 0; a ring that grew has completions where it lay.
        let grown = |params: &mut Params, _: &RingMemory| params.sq_off.array = params.cq_off.cqes;
        for to in [0, 4, 8] {
            let complaint = adopted(features, |params, _| params.sq_off.array = to);
            assert!(complaint.contains("the index array lies over"), "{to}: {complaint}");
        }
        if one_map {
            assert!(adopted(features, grown).contains("the index array lies over"));
        }
    }
}

#[test]
fn an_offset_outside_the_memory_is_a_map_that_is_refused() {
    for features in BOTH_LAYOUTS {
        for &(what, offset) in OFFSETS {
            for to in [4096, u32::MAX] {
                let (kernel, script) = ScriptedKernel::new();
                script.set_features(features);
                script.tamper(move |params, _| *offset(params) = to);
                let failure = Rings::setup(&kernel, &Request::new(4)).expect_err("refused");
                let refused = SetupFailure::Map(Errno::new(libc::EINVAL));
                assert_eq!(failure, refused, "{what} at {to}");
                assert_eq!((script.maps_alive(), script.is_open()), (0, false), "{what}");
            }
        }
    }
}

#[test]
fn a_ring_of_the_largest_size_that_32_bits_can_name_asks_for_its_whole_length() {
    let (kernel, script) = ScriptedKernel::new();
    script.tamper(|params, _| (params.sq_entries, params.cq_entries) = (1 << 31, 1 << 31));
    let failure = Rings::setup(&kernel, &Request::new(4)).expect_err("refused");
    assert_eq!(failure, SetupFailure::Map(Errno::new(libc::EINVAL)));
    let asked = support::backend::Call::Map { offset: 0x1000_0000, len: 64 << 31 };
    assert_eq!(script.calls()[1], asked);
}

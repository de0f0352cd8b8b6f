//! Buffer groups of the raw API: made from their description, and asked for the kernel's head.
//!
//! `buffer_rings` tests how buffers are selected, wrap, and come back in parts.
#![allow(unsafe_code, reason = "lends buffers to the kernel")]

use std::io::{Write, pipe};
use std::os::fd::AsRawFd;

use annulus::lease::RegisterError;
use annulus::raw::register::{BufferGroup, Consumption, Restrictions, RingMemory};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{CqeFlags, SqeFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, patient, push, ring, test};

const RINGS: [Need; 2] =
    [Need::Register(RegisterOp::PBUF_RING), Need::Register(RegisterOp::UNREGISTER_PBUF_RING)];
const HEADS: [Need; 1] = [Need::Register(RegisterOp::PBUF_STATUS)];
const MAPPED: [Need; 2] = [HEADS[0], Need::Other(maps_none)];
const PARTS: [Need; 2] = [HEADS[0], Need::Other(uses_no_part)];
const LEAVING: [Need; 1] = [Need::Other(leaves_nothing)];
const NUMBER: &str = "group of that number";
const SOME: Consumption = Consumption::Incremental { min_left: 0 };

pub fn tests() -> Vec<Trial> {
    vec![
        test("the_head_of_a_group_counts_what_was_selected", &HEADS, || head(RingMemory::User)),
        test("the_head_of_a_mapped_group_counts_what_was_selected", &MAPPED, || {
            head(RingMemory::Kernel)
        }),
        test("the_head_moves_when_a_buffer_used_in_parts_is_full", &PARTS, parts),
        test("a_rest_that_is_too_short_is_not_used", &LEAVING, leaving),
        test("a_wrong_group_is_refused_with_a_message", &RINGS, wrong),
        test("a_group_that_there_is_not_has_no_head", &HEADS, no_head),
        test("a_group_that_may_not_be_unregistered_comes_back", &RINGS, comes_back),
        test("a_group_before_5_19_says_so", &[Need::Other(has_groups)], says_so),
    ]
}

fn has_groups() -> Option<String> {
    let has = here().has_register(RegisterOp::PBUF_RING);
    has.then(|| "needs a kernel without PBUF_RING".to_owned())
}

/// Which groups a kernel has can only be tried.
fn tried(whose: RingMemory, used: Consumption) -> Option<String> {
    match ring(Setup::plain(1)).buffer_group(0, 1, whose, used) {
        Err(error @ RegisterError::Unsupported { .. }) => Some(error.to_string()),
        _ => None,
    }
}

fn maps_none() -> Option<String> {
    tried(RingMemory::Kernel, Consumption::Whole)
}

fn uses_no_part() -> Option<String> {
    tried(RingMemory::User, SOME)
}

fn leaves_nothing() -> Option<String> {
    tried(RingMemory::User, Consumption::Incremental { min_left: 4 })
}

/// Offers buffers of 8 bytes that live forever, numbered from 0.
fn offer(group: &mut BufferGroup, count: u16) {
    for bid in 0..count {
        let addr = std::ptr::from_mut(Box::leak(Box::new([0_u8; 8]))).expose_provenance() as u64;
        // SAFETY: it does not leave this function, because the group is borrowed.
        let ring = unsafe { group.ring() };
        // SAFETY: leaked, read by nothing else, and on offer once, because of its number (BR1).
        unsafe { ring.push(addr, 8, bid) }.expect("room");
        ring.flush();
    }
}

/// Reads `bytes` into a buffer that the kernel selects; returns its number, and whether more of it
/// comes.
fn select(ring: &mut RawRing, bytes: &[u8]) -> (u16, bool) {
    let (reader, mut writer) = pipe().expect("a pipe");
    writer.write_all(bytes).expect("room");
    let sqe = Sqe {
        opcode: Opcode::READ,
        flags: SqeFlags::BUFFER_SELECT,
        fd: reader.as_raw_fd(),
        off: u64::MAX,
        len: 8,
        buf_index: 7,
        ..Sqe::ZERO
    };
    push(ring, sqe);
    ring.submit_and_wait(1).expect("submit");
    let cqe = ring.pop().expect("its completion");
    assert_eq!(usize::try_from(cqe.res).ok(), Some(bytes.len()), "{cqe:?}");
    (cqe.buffer_id().expect("it names one"), cqe.flags.contains(CqeFlags::BUF_MORE))
}

fn head(whose: RingMemory) -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let mut group = ring.buffer_group(7, 4, whose, Consumption::Whole)?;
    offer(&mut group, 3);
    assert_eq!(ring.buffer_group_head(7)?, 0);
    assert_eq!(select(&mut ring, b"a"), (0, false));
    assert_eq!(select(&mut ring, b"b"), (1, false));
    assert_eq!(ring.buffer_group_head(7)?, 2);
    Ok(())
}

fn parts() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let mut group = ring.buffer_group(7, 4, RingMemory::User, SOME)?;
    offer(&mut group, 2);
    assert_eq!(select(&mut ring, b"12345"), (0, true));
    assert_eq!(ring.buffer_group_head(7)?, 0, "there is room in it");
    assert_eq!(select(&mut ring, b"678"), (0, false));
    assert_eq!(ring.buffer_group_head(7)?, 1);
    assert_eq!(select(&mut ring, b"1"), (1, true));
    Ok(())
}

fn leaving() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let mut group =
        ring.buffer_group(7, 4, RingMemory::User, Consumption::Incremental { min_left: 4 })?;
    offer(&mut group, 2);
    assert_eq!(select(&mut ring, b"1234").0, 0);
    assert_eq!(select(&mut ring, b"5").0, 0, "four bytes were left");
    assert_eq!(select(&mut ring, b"6").0, 1, "three were");
    Ok(())
}

fn wrong() -> Result<(), Failed> {
    let ring = ring(Setup::plain(4));
    for entries in [0, 3, 1 << 16, u32::MAX] {
        let error = ring.buffer_group(7, entries, RingMemory::User, Consumption::Whole).err();
        assert!(matches!(error, Some(RegisterError::Invalid { .. })), "{entries}: {error:?}");
    }
    let _first = ring.buffer_group(7, 4, RingMemory::User, Consumption::Whole)?;
    let twice = ring.buffer_group(7, 4, RingMemory::User, Consumption::Whole).err();
    assert_eq!(twice, Some(RegisterError::InUse { what: NUMBER }));
    Ok(())
}

fn no_head() -> Result<(), Failed> {
    let ring = ring(Setup::plain(4));
    assert_eq!(ring.buffer_group_head(7), Err(RegisterError::Missing { what: NUMBER }));
    let group = ring.buffer_group(7, 4, RingMemory::User, Consumption::Whole)?;
    assert_eq!(ring.buffer_group_head(7), Ok(0));
    group.unregister().map_err(|(_, errno)| errno)?;
    assert_eq!(ring.buffer_group_head(7), Err(RegisterError::Missing { what: NUMBER }));
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let refused = ring(Setup::plain(4)).buffer_group(7, 4, RingMemory::User, Consumption::Whole);
    assert_eq!(refused.unwrap_err().to_string(), "PBUF_RING needs Linux 5.19");
    Ok(())
}

fn comes_back() -> Result<(), Failed> {
    let mut disabled = patient(|| Setup::plain(4).build_disabled())?;
    disabled.restrict(&Restrictions::new().allow_register(RegisterOp::PBUF_RING))?;
    let ring = disabled.enable_raw().map_err(|(_, errno)| errno)?;
    let group = ring.buffer_group(7, 4, RingMemory::User, Consumption::Whole)?;
    let (group, errno) = group.unregister().expect_err("not allowed");
    assert_eq!((group.id(), errno.raw()), (7, libc::EACCES));
    // SAFETY: no request was ever pushed, so none selects from it.
    let (group, errno) = unsafe { group.unregister_idle() }.expect_err("not allowed");
    assert_eq!((group.id(), errno.raw()), (7, libc::EACCES));
    Ok(())
}

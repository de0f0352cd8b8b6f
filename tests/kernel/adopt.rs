//! Rings that somebody else has set up, and that are adopted.
#![allow(unsafe_code, reason = "makes rings by the system call itself, and adopts them")]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use annulus::raw::adopt::AdoptError;
use annulus::sys::abi::Params;
use annulus::sys::errno::Errno;
use annulus::sys::flags::{OFF_SQ_RING, SetupFlags};
use annulus::sys::kernel::Kernel;
use annulus::sys::map::{Map, Pages};
use annulus::sys::opcode::RegisterOp;
use annulus::sys::rings::{Request, Rings};
use annulus::sys::syscall::{self, EnterArg, RingFd, RingRef};
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{
    DEFERRING, Need, Part, child_succeeds, drain_user_data, nop, push, read_byte, ring, test,
};
use crate::processes::{Side, end_with, fork, outcome, works};

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[("a child adopts a ring", child_adopts)];

const WIDE: SetupFlags = SetupFlags::SQE128.union(SetupFlags::CQE32);
const REWIND: SetupFlags = SetupFlags::SQ_REWIND.union(SetupFlags::NO_SQARRAY);
const RESIZED: SetupFlags = DEFERRING.union(SetupFlags::NO_SQARRAY);
const RESIZES: [Need; 2] = [Need::Register(RegisterOp::RESIZE_RINGS), Need::Setup(RESIZED)];
const NO_MMAP: [Need; 1] = [Need::Setup(SetupFlags::NO_MMAP)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    let each = [
        ("a_ring_of_another_library_is_adopted", SetupFlags::empty()),
        ("a_wide_ring_of_another_library_is_adopted", WIDE),
        ("a_deferring_ring_of_another_library_is_adopted", DEFERRING),
        ("a_ring_without_index_array_is_adopted", SetupFlags::NO_SQARRAY),
        ("a_ring_that_rewinds_is_adopted", REWIND),
    ];
    let each = each.map(|(name, flags)| test(name, &[Need::Setup(flags)], move || adopted(flags)));
    let others = [
        test("an_adopted_ring_waits_for_what_was_in_flight", &[], in_flight),
        test("sq3_a_ring_with_published_entries_is_not_adopted", &[], published),
        test("what_was_dropped_before_is_counted_and_nothing_more", &[], dropped),
        test("a_ring_in_its_makers_memory_is_not_adopted", &NO_MMAP, makers_memory),
        test("a_ring_that_was_resized_is_adopted_with_its_new_sizes", &RESIZES, was_resized),
        test("sq1_the_parameters_of_a_resize_are_not_adopted", &RESIZES, of_a_resize),
        test("what_is_no_ring_is_not_adopted", &[], no_ring),
        test("a_child_adopts_the_ring_that_its_parent_gave_up", &[], || {
            child_succeeds("a child adopts a ring")
        }),
    ];
    each.into_iter().chain(others).collect()
}

/// A ring as another library makes it.
fn made(flags: SetupFlags) -> Result<(OwnedFd, Params), Failed> {
    let mut params = Params { flags, ..Params::default() };
    // SAFETY: no memory is named, and no ring to attach to, since no flag says so.
    match unsafe { syscall::setup(4, &mut params) }? {
        RingFd::Owned(fd) => Ok((fd, params)),
        RingFd::Registered(_) => Err("it has a descriptor".into()),
    }
}

/// Takes a ring apart.
fn parts(ring: RawRing) -> Result<(OwnedFd, Params), Failed> {
    let fd = ring.fd().ok_or("a descriptor")?.try_clone_to_owned()?;
    Ok((fd, *ring.base().params()))
}

fn adopted(flags: SetupFlags) -> Result<(), Failed> {
    let (fd, params) = made(flags)?;
    // SAFETY: just made, and nobody else's.
    let mut ring = unsafe { RawRing::adopt(fd, params) }?;
    assert_eq!((ring.sq_entries(), ring.cq_entries(), ring.flags()), (4, 8, flags));
    for lap in 0..5 {
        (4 * lap..4 * lap + 4).for_each(|user_data| push(&mut ring, nop(user_data)));
        assert_eq!(ring.submit_and_wait(4), Ok(4));
        assert_eq!(drain_user_data(&mut ring), (4 * lap..4 * lap + 4).collect::<Vec<_>>());
    }
    // In use for a while, and taken over once more.
    let (fd, params) = parts(ring)?;
    // SAFETY: its other owner is gone, and nothing is in flight (OP1).
    let mut ring = unsafe { RawRing::adopt(fd, params) }?;
    assert_eq!((ring.room(), ring.ready(), ring.in_flight(), ring.dropped()), (4, 0, 0, 0));
    works(&mut ring);
    Ok(())
}

fn in_flight() -> Result<(), Failed> {
    let (from, mut to) = std::io::pipe()?;
    let mut ring = ring(Setup::plain(4));
    push(&mut ring, read_byte(&from, 7));
    assert_eq!(ring.submit(), Ok(1));
    let (fd, params) = parts(ring)?;
    // SAFETY: its other owner is gone; what is in flight reads into memory that lives forever
    // (OP1).
    let mut ring = unsafe { RawRing::adopt(fd, params) }?;
    let later = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        to.write_all(b"x")
    });
    ring.wait(1)?; // Not refused, although nothing was pushed here.
    assert_eq!(drain_user_data(&mut ring), [7]);
    later.join().map_err(|_| "it panicked")??;
    works(&mut ring);
    Ok(())
}

fn published() -> Result<(), Failed> {
    let request = Request::new(4);
    let mut rings = Rings::setup(&Kernel::LINUX, &request).map_err(|error| format!("{error:?}"))?;
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { rings.sq().push(nop(1)) }?;
    assert_eq!(rings.sq().flush(), 1);
    let RingFd::Owned(fd) = rings.base().fd() else { return Err("a descriptor".into()) };
    let (fd, params) = (fd.try_clone()?, *rings.base().params());
    drop(rings);
    // SAFETY: nobody uses its queues, since its other owner is gone.
    let refused = unsafe { RawRing::adopt(fd.try_clone()?, params) };
    assert_eq!(refused.err(), Some(AdoptError::Busy));
    assert_eq!(AdoptError::Busy.errno(), Errno::new(libc::EBUSY));
    let name = syscall::RingRef::fd(std::os::fd::AsFd::as_fd(&fd));
    // SAFETY: the entry is a NOP (OP1).
    unsafe {
        syscall::enter(name, 1, 0, annulus::sys::flags::EnterFlags::empty(), EnterArg::None)
    }?;
    // SAFETY: its other owner is gone, and a NOP is in flight (OP1).
    let mut ring = unsafe { RawRing::adopt(fd, params) }?;
    assert_eq!(drain_user_data(&mut ring), [1]);
    works(&mut ring);
    Ok(())
}

/// Another number than the array's: the kernel drops the entry, and counts it.
fn dropped() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    assert_eq!(ring.dropped(), 0);
    let array = ring.base().params().sq_off.array as usize;
    let again = Map::of_ring(ring.fd().ok_or("a descriptor")?, OFF_SQ_RING, array + 16)?;
    let second = again.at::<u32>(array + 4, 1);
    // SAFETY: in the map, because `at` checked, and nobody reads it before the next enter.
    unsafe { second.write_volatile(99) };
    (1..4).for_each(|user_data| push(&mut ring, nop(user_data)));
    while ring.positions().sq_head != ring.positions().sq_tail || ring.dropped() == 0 {
        ring.submit()?;
    }
    assert_eq!(ring.dropped(), 1);
    assert_eq!(drain_user_data(&mut ring), [1, 3]);
    let (fd, params) = parts(ring)?;
    drop(again);
    // SAFETY: its other owner is gone, and nothing is in flight (OP1).
    let mut ring = unsafe { RawRing::adopt(fd, params) }?;
    // The array is filled again, so nothing more is dropped.
    (0..8).for_each(|_| works(&mut ring));
    assert_eq!(ring.dropped(), 1);
    Ok(())
}

fn was_resized() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(RESIZED));
    works(&mut ring);
    ring.resize(16, None).map_err(|failure| format!("{failure:?}"))?;
    let (sq_entries, cq_entries) = (ring.sq_entries(), ring.cq_entries());
    let (fd, params) = parts(ring)?;
    let params = Params { sq_entries, cq_entries, ..params };
    // SAFETY: its sizes are those of the resize; its other owner is gone, and nothing is in flight
    // (OP1).
    let mut ring = unsafe { RawRing::adopt(fd, params) }?;
    assert_eq!((ring.sq_entries(), ring.cq_entries(), ring.flags()), (16, 32, RESIZED));
    (0..40).for_each(|_| works(&mut ring));
    Ok(())
}

/// They lack features and some flags, and before Linux 6.19 also the place of the index array: a
/// ring that is mapped by them would have its array written over its indices.
fn of_a_resize() -> Result<(), Failed> {
    for flags in [DEFERRING, RESIZED] {
        let (fd, made) = made(flags)?;
        let mut params = Params { sq_entries: 16, ..Params::default() };
        let arg = (&raw mut params).cast();
        // SAFETY: live parameters, which the kernel does not keep, because it copies.
        unsafe { syscall::register(RingRef::fd(fd.as_fd()), RegisterOp::RESIZE_RINGS, arg, 1) }?;
        // SAFETY: nobody else uses the ring, and nothing is in flight (OP1).
        let refused = unsafe { RawRing::adopt(fd.try_clone()?, params) };
        assert_eq!(refused.err(), Some(AdoptError::Resized));
        assert_eq!(AdoptError::Resized.errno(), Errno::new(libc::EINVAL));
        let params = Params { flags: made.flags, features: made.features, ..params };
        // SAFETY: likewise; nothing is mapped if they do not say where the array lies.
        let adopted = unsafe { RawRing::adopt(fd, params) };
        if flags == RESIZED || params.sq_off.array != 0 {
            works(&mut adopted?);
        } else {
            assert_eq!(adopted.err(), Some(AdoptError::Resized));
        }
    }
    Ok(())
}

fn makers_memory() -> Result<(), Failed> {
    let (fd, params) = parts(ring(Setup::plain(4).own_memory(Pages::Ordinary)))?;
    // SAFETY: its other owner is gone, and nothing is in flight (OP1).
    let refused = unsafe { RawRing::adopt(fd, params) };
    assert_eq!(refused.err(), Some(AdoptError::MakersMemory));
    Ok(())
}

fn no_ring() -> Result<(), Failed> {
    let (fd, params) = made(SetupFlags::empty())?;
    let file = File::open("/dev/null")?;
    // SAFETY: nothing can be mapped, so nothing is used.
    let refused = unsafe { RawRing::adopt(file.into(), params) };
    assert!(matches!(refused, Err(AdoptError::Map(_))), "{refused:?}");
    let unknown = SetupFlags::from_bits_retain(1 << 31);
    let params = Params { flags: unknown, ..params };
    // SAFETY: nothing is mapped, since it is refused before.
    let refused = unsafe { RawRing::adopt(fd, params) }.expect_err("an unknown flag");
    assert!(refused.to_string().contains("0x80000000"), "{refused}");
    assert_eq!(std::io::Error::from(refused).raw_os_error(), Some(libc::EINVAL));
    Ok(())
}

/// What a child inherits is refused, and what it adopts is its own.
fn child_adopts() {
    let inherited = ring(Setup::plain(4));
    let fd = inherited.fd().expect("a descriptor").try_clone_to_owned().expect("a duplicate");
    let params = *inherited.base().params();
    match fork() {
        Side::Child => end_with(|| {
            let mut inherited = inherited;
            assert!(inherited.submit().is_err(), "it is the parent's");
            assert_eq!(inherited.dropped(), 0);
            // SAFETY: the parent uses it no more, and nothing is in flight (OP1).
            let mut ring = unsafe { RawRing::adopt(fd, params) }.expect("it is given up");
            (0..8).for_each(|_| works(&mut ring));
        }),
        Side::Parent(child) => assert_eq!(outcome(child), 0),
    }
}

//! The raw table of registered files: made, updated, tagged, allocated from, removed.
#![allow(unsafe_code, reason = "reads a place that the kernel filled")]

use std::io::{PipeReader, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd};

use annulus::lease::RegisterError;
use annulus::raw::register::FileSlot;
use annulus::raw::register::FileSlot::{Empty, Keep, Put};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{Features, SqeFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{RawRing, Setup, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain, push, read_byte, ring, test};

const TAGS: [Need; 2] =
    [Need::Register(RegisterOp::FILES2), Need::Register(RegisterOp::FILES_UPDATE2)];
const LATE: [Need; 2] = [Need::Feature(Features::LINKED_FILE), SPARSE[0]];
/// From 6.13 on each place is counted by itself.
const NODES: [Need; 1] = [Need::Register(RegisterOp::MEM_REGION)];
const SPARSE: [Need; 1] = [Need::Register(RegisterOp::PBUF_RING)]; // Both came with 5.19.
const RANGE: [Need; 1] = [Need::Register(RegisterOp::FILE_ALLOC_RANGE)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_registered_file_is_read_when_its_descriptor_is_closed", &[], read_closed),
        test("places_of_files_are_changed_and_emptied", &[], change),
        test("a_file_is_looked_up_when_its_turn_has_come", &LATE, looked_up_late),
        test("a_place_of_files_is_kept", &TAGS, keep), // Which is one release younger.
        test("a_tag_comes_when_its_file_is_let_go_of", &TAGS, tags),
        test("tags_come_when_the_table_of_files_is_let_go_of", &NODES, end_of_all),
        test("a_tagged_update_tags_the_new_file", &TAGS, tagged_update),
        test("an_empty_table_of_files_is_filled_by_updates", &SPARSE, sparse),
        test("the_kernel_chooses_places_within_the_range", &RANGE, range),
        test("a_wrong_range_of_places_is_refused_with_a_message", &RANGE, wrong_range),
        test("a_wrong_table_of_files_is_refused_with_a_message", &[], wrong_table),
        test("a_wrong_update_of_files_is_refused_with_a_message", &[], wrong_update),
        test("a_table_of_files_needs_as_many_tags", &TAGS, as_many_tags),
        test("a_table_of_a_million_and_one_files_is_refused_with_a_message", &SPARSE, too_long),
    ]
}

/// A pipe with a byte in it.
fn full(byte: u8) -> PipeReader {
    let (reader, mut writer) = pipe().expect("a pipe");
    writer.write_all(&[byte]).expect("room");
    reader
}

/// The result of a read at slot `index` of the table.
fn read_at(ring: &mut RawRing, index: i32) -> i32 {
    let (some, _writer) = pipe().expect("a pipe");
    let sqe = Sqe { fd: index, flags: SqeFlags::FIXED_FILE, ..read_byte(&some, 1) };
    push(ring, sqe);
    ring.submit_and_wait(1).expect("submit");
    ring.pop().expect("its completion").res
}

fn read_closed() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let file = full(7);
    ring.register_files(&[Some(file.as_fd()), None])?;
    drop(file);
    assert_eq!(read_at(&mut ring, 0), 1);
    assert_eq!(read_at(&mut ring, 1), -libc::EBADF);
    assert_eq!(read_at(&mut ring, 2), -libc::EBADF);
    ring.unregister_files()?;
    assert_eq!(read_at(&mut ring, 0), -libc::EBADF);
    Ok(())
}

fn change() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (a, b) = (full(1), full(2));
    ring.register_files(&[None, Some(a.as_fd()), None])?;
    assert_eq!(ring.update_files(1, &[Empty, Put(b.as_fd())])?, 2);
    assert_eq!(read_at(&mut ring, 1), -libc::EBADF);
    assert_eq!(read_at(&mut ring, 2), 1);
    Ok(())
}

fn keep() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (a, b) = (full(1), full(2));
    ring.register_files(&[None, Some(b.as_fd())])?;
    assert_eq!(ring.update_files(0, &[Put(a.as_fd()), Keep])?, 2);
    assert_eq!((read_at(&mut ring, 0), read_at(&mut ring, 1)), (1, 1));
    Ok(())
}

/// Takes completions until `count` have come, and returns their `user_data`, sorted.
fn words(ring: &mut RawRing, count: usize) -> Vec<u64> {
    let mut words = Vec::new();
    while words.len() < count {
        ring.wait(1).expect("a wait");
        words.extend(drain(ring).iter().map(|cqe| {
            assert_eq!(cqe.res, 0, "a tag has no result");
            cqe.user_data
        }));
    }
    words.sort_unstable();
    words
}

fn register_tagged(
    ring: &mut RawRing,
    files: &[Option<BorrowedFd<'_>>],
    tags: &[u64],
) -> Result<(), RegisterError> {
    // SAFETY: no request of this ring has this `user_data`, since the tests only compare it
    // (OP2).
    unsafe { ring.register_files_tagged(files, tags) }
}

fn update_tagged(
    ring: &mut RawRing,
    offset: u32,
    slots: &[FileSlot<'_>],
    tags: &[u64],
) -> Result<u32, RegisterError> {
    // SAFETY: no request of this ring has this `user_data`, since the tests only compare it
    // (OP2).
    unsafe { ring.update_files_tagged(offset, slots, tags) }
}

fn tags() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (a, b, c) = (full(1), full(2), full(3));
    let files = [Some(a.as_fd()), Some(b.as_fd()), Some(c.as_fd())];
    register_tagged(&mut ring, &files, &[11, 0, 33])?;
    ring.update_files(0, &[Empty])?;
    assert_eq!(words(&mut ring, 1), [11]);
    assert_eq!(ring.update_files(1, &[Empty, Empty])?, 2);
    assert_eq!(words(&mut ring, 1), [33]);
    assert!(drain(&mut ring).is_empty(), "the tag 0 is none");
    Ok(())
}

fn end_of_all() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (a, b) = (full(1), full(2));
    register_tagged(&mut ring, &[Some(a.as_fd()), Some(b.as_fd())], &[4, 5])?;
    ring.unregister_files()?;
    assert_eq!(words(&mut ring, 2), [4, 5]);
    Ok(())
}

fn tagged_update() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (a, b) = (full(1), full(2));
    register_tagged(&mut ring, &[Some(a.as_fd())], &[5])?;
    assert_eq!(update_tagged(&mut ring, 0, &[Put(b.as_fd())], &[6])?, 1);
    assert_eq!(words(&mut ring, 1), [5]);
    assert_eq!(read_at(&mut ring, 0), 1);
    ring.update_files(0, &[Empty])?;
    assert_eq!(words(&mut ring, 1), [6]);
    ring.unregister_files()?;
    let error = register_tagged(&mut ring, &[None], &[9]).unwrap_err();
    assert!(error.to_string().contains("no tag of an empty one"), "{error}");
    Ok(())
}

fn sparse() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    ring.register_files_sparse(3)?;
    assert_eq!(read_at(&mut ring, 2), -libc::EBADF);
    assert_eq!(ring.update_files(2, &[Put(full(1).as_fd())])?, 1);
    assert_eq!(read_at(&mut ring, 2), 1);
    Ok(())
}

/// A chain that opens a file at a place of the table, and then reads from there.
fn looked_up_late() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    ring.register_files_sparse(2)?;
    let buf = Box::leak(Box::new([0_u8; 5]));
    let addr = std::ptr::from_mut(buf).expose_provenance() as u64;
    let name = c"/proc/version".as_ptr().expose_provenance() as u64;
    let flags = libc::O_RDONLY.cast_unsigned();
    let open = prep::direct(prep::openat(libc::AT_FDCWD, name, flags, 0), 1);
    push(&mut ring, Sqe { flags: SqeFlags::IO_LINK, user_data: 1, ..open });
    let read = prep::read(1, addr, 5, 0);
    push(&mut ring, Sqe { flags: SqeFlags::FIXED_FILE, user_data: 2, ..read });
    ring.submit_and_wait(2)?;
    let mut results: Vec<_> =
        drain(&mut ring).into_iter().map(|cqe| (cqe.user_data, cqe.res)).collect();
    results.sort_unstable();
    assert_eq!(results, [(1, 0), (2, 5)]);
    assert_eq!(buf, b"Linux");
    Ok(())
}

/// Lets the kernel put `file` into a slot that it chooses; returns the slot, or the error.
fn insert(ring: &mut RawRing, file: &PipeReader) -> i32 {
    let number = Box::leak(Box::new(std::os::fd::AsRawFd::as_raw_fd(file)));
    let addr = std::ptr::from_mut(number).expose_provenance() as u64;
    let off = u32::MAX.into();
    push(ring, Sqe { opcode: Opcode::FILES_UPDATE, fd: -1, off, addr, len: 1, ..Sqe::ZERO });
    ring.submit_and_wait(1).expect("submit");
    let result = ring.pop().expect("its completion").res;
    if result < 0 {
        return result;
    }
    // SAFETY: leaked, and the kernel is done with it, because its completion came.
    unsafe { std::ptr::from_mut(number).read_volatile() }
}

fn range() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    ring.register_files_sparse(6)?;
    ring.set_file_alloc_range(2..4)?;
    let file = full(1);
    let mut places = [insert(&mut ring, &file), insert(&mut ring, &file)];
    places.sort_unstable();
    assert_eq!(places, [2, 3]);
    assert_eq!(insert(&mut ring, &file), -libc::ENFILE);
    ring.set_file_alloc_range(5..6)?;
    assert_eq!(insert(&mut ring, &file), 5);
    Ok(())
}

#[allow(clippy::reversed_empty_ranges, reason = "that is what is tested")]
fn wrong_range() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let refused = |error: RegisterError| assert!(matches!(error, RegisterError::Invalid { .. }));
    refused(ring.set_file_alloc_range(0..1).expect_err("there is no table"));
    ring.register_files_sparse(4)?;
    refused(ring.set_file_alloc_range(2..5).expect_err("beyond the end"));
    refused(ring.set_file_alloc_range(3..1).expect_err("ends before it begins"));
    refused(ring.set_file_alloc_range(1..u32::MAX).expect_err("far beyond"));
    Ok(())
}

fn wrong_table() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let file = full(1);
    let table = "table of registered files";
    assert_eq!(ring.unregister_files(), Err(RegisterError::Missing { what: table }));
    assert!(matches!(ring.register_files(&[]), Err(RegisterError::Invalid { .. })));
    let other = crate::harness::ring(Setup::plain(1));
    let error = ring.register_files(&[Some(file.as_fd()), Some(other.as_fd())]).unwrap_err();
    assert_eq!(error.to_string(), "no kernel can: a ring cannot stand in a table of files");
    ring.register_files(&[Some(file.as_fd())])?;
    let twice = ring.register_files(&[Some(file.as_fd())]);
    assert_eq!(twice, Err(RegisterError::InUse { what: table }));
    Ok(())
}

fn wrong_update() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let missing = RegisterError::Missing { what: "table of registered files" };
    assert_eq!(ring.update_files(0, &[Empty]), Err(missing));
    let file = full(1);
    ring.register_files(&[Some(file.as_fd()), None])?;
    for (offset, slots) in [(2, &[Empty][..]), (1, &[Empty, Empty]), (u32::MAX, &[Empty])] {
        let error = ring.update_files(offset, slots).expect_err("beyond the end");
        assert!(matches!(error, RegisterError::Invalid { .. }), "{offset}: {error}");
    }
    assert_eq!(read_at(&mut ring, 0), 1, "nothing was changed");
    Ok(())
}

fn as_many_tags() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let file = full(1);
    let error = register_tagged(&mut ring, &[Some(file.as_fd())], &[]).unwrap_err();
    assert!(error.to_string().contains("one tag for each place"), "{error}");
    ring.register_files(&[Some(file.as_fd())])?;
    let error = update_tagged(&mut ring, 0, &[Empty], &[1, 2]).unwrap_err();
    assert!(error.to_string().contains("one tag for each place"), "{error}");
    Ok(())
}

fn too_long() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let count = (1 << 20) + 1;
    let error = ring.register_files_sparse(count).unwrap_err();
    assert!(matches!(error, RegisterError::TooManyFiles { count: said, .. } if said == count));
    Ok(())
}

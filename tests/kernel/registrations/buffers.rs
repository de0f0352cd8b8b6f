//! The raw table of registered buffers: made, updated, tagged, shared, removed.
#![allow(unsafe_code, reason = "lends memory to the kernel")]

use std::io::{Write, pipe};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use annulus::lease::RegisterError;
use annulus::raw::register::ClonePart;
use annulus::sys::abi::Sqe;
use annulus::sys::flags::SetupFlags;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain, here, push, ring, test};

const TAGS: [Need; 1] = [Need::Register(RegisterOp::BUFFERS2)];
/// From 6.13 on each buffer is counted by itself.
const NODES: [Need; 1] = [Need::Register(RegisterOp::MEM_REGION)];
// The table without buffers came with 5.19, as this did.
const SPARSE: [Need; 2] =
    [Need::Register(RegisterOp::PBUF_RING), Need::Register(RegisterOp::BUFFERS_UPDATE)];
const CLONE: [Need; 1] = [Need::Register(RegisterOp::CLONE_BUFFERS)];
const RANGES: [Need; 2] = [CLONE[0], Need::Other(clones_no_range)];
const NAMELESS: [Need; 2] = [CLONE[0], Need::Setup(SetupFlags::REGISTERED_FD_ONLY)];
const TABLE: &str = "table of registered buffers";

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_registered_buffer_is_read_into_by_number", &[], read),
        test("buffers_are_put_into_an_empty_table_and_changed", &SPARSE, change),
        test("a_tag_comes_when_its_buffer_is_let_go_of", &TAGS, tags),
        test("tags_come_when_the_table_of_buffers_is_let_go_of", &NODES, end_of_all),
        test("buffers_are_shared_with_another_ring", &CLONE, share),
        test("a_ring_without_descriptor_shares_its_buffers", &NAMELESS, share_nameless),
        test("some_buffers_are_shared_in_place_of_others", &RANGES, share_some),
        test("wrong_sharing_of_buffers_is_refused_with_a_message", &CLONE, wrong_sharing),
        test("a_wrong_table_of_buffers_is_refused_with_a_message", &[], wrong_table),
        test("a_wrong_update_of_buffers_is_refused_with_a_message", &SPARSE, wrong_update),
        test("sharing_before_6_12_says_so", &[Need::Other(lacks_sharing)], says_so),
    ]
}

fn lacks_sharing() -> Option<String> {
    let has = here().has_register(RegisterOp::CLONE_BUFFERS);
    has.then(|| "needs a kernel without CLONE_BUFFERS".to_owned())
}

/// Ranges came later than the call, and can only be tried.
fn clones_no_range() -> Option<String> {
    let (mut from, mut to) = (ring(Setup::plain(1)), ring(Setup::plain(1)));
    register(&mut from, &[buffer()]).expect("one buffer");
    match clone(&mut to, &from, &ClonePart::range(0..1, 1)) {
        Ok(()) => None,
        Err(_) => Some("needs Linux 6.13: ranges of buffers to share".to_owned()),
    }
}

/// A buffer that lives forever.
type Buffer = NonNull<[u8; 64]>;

fn buffer() -> Buffer {
    NonNull::from(Box::leak(Box::new([0; 64])))
}

fn iovec(buffer: Buffer) -> libc::iovec {
    libc::iovec { iov_base: buffer.as_ptr().cast(), iov_len: 64 }
}

const NONE: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn register(ring: &mut RawRing, buffers: &[Buffer]) -> Result<(), RegisterError> {
    let iovecs: Vec<_> = buffers.iter().copied().map(iovec).collect();
    // SAFETY: buffers that live forever, and are read only when nothing is in flight (OP1).
    unsafe { ring.register_buffers(&iovecs) }
}

fn update(
    ring: &mut RawRing,
    offset: u32,
    iovecs: &[libc::iovec],
    tags: Option<&[u64]>,
) -> Result<u32, RegisterError> {
    // SAFETY: buffers that live forever, and are read only when nothing is in flight (OP1).
    unsafe { ring.update_buffers(offset, iovecs, tags) }
}

fn clone(ring: &mut RawRing, from: &RawRing, part: &ClonePart) -> Result<(), RegisterError> {
    // SAFETY: buffers that live forever, and are read only when nothing is in flight (OP1).
    unsafe { ring.clone_buffers(from, part) }
}

/// Reads `byte` from a pipe into `buffer` by its number, and returns the result and the contents.
fn read_into(ring: &mut RawRing, index: u16, buffer: Buffer, byte: u8) -> (i32, u8) {
    let (reader, mut writer) = pipe().expect("a pipe");
    writer.write_all(&[byte]).expect("room");
    let sqe = Sqe {
        opcode: Opcode::READ_FIXED,
        fd: reader.as_raw_fd(),
        off: u64::MAX,
        addr: buffer.as_ptr().expose_provenance() as u64,
        len: 1,
        buf_index: index,
        ..Sqe::ZERO
    };
    push(ring, sqe);
    ring.submit_and_wait(1).expect("submit");
    let result = ring.pop().expect("its completion").res;
    // SAFETY: a leaked buffer, which the kernel is done with, because its completion came.
    (result, unsafe { buffer.as_ptr().cast::<u8>().read_volatile() })
}

fn read() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (a, b) = (buffer(), buffer());
    register(&mut ring, &[a, b])?;
    assert_eq!(read_into(&mut ring, 1, b, 7), (1, 7));
    assert_eq!(read_into(&mut ring, 0, b, 8).0, -libc::EFAULT, "it lies in the other one");
    assert_eq!(read_into(&mut ring, 2, b, 8).0, -libc::EFAULT, "there are two");
    ring.unregister_buffers()?;
    assert_eq!(read_into(&mut ring, 1, b, 8).0, -libc::EFAULT);
    Ok(())
}

fn change() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let (a, b) = (buffer(), buffer());
    ring.register_buffers_sparse(3)?;
    assert_eq!(read_into(&mut ring, 1, a, 1).0, -libc::EFAULT);
    assert_eq!(update(&mut ring, 1, &[iovec(a), iovec(b)], None)?, 2);
    assert_eq!(read_into(&mut ring, 1, a, 2), (1, 2));
    assert_eq!(read_into(&mut ring, 2, b, 3), (1, 3));
    assert_eq!(update(&mut ring, 1, &[NONE], None)?, 1);
    assert_eq!(read_into(&mut ring, 1, a, 4).0, -libc::EFAULT);
    Ok(())
}

fn tags() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let iovecs = [iovec(buffer()), iovec(buffer())];
    // SAFETY: buffers that live forever (OP1).
    unsafe { ring.register_buffers_tagged(&iovecs, &[21, 22]) }?;
    assert_eq!(update(&mut ring, 0, &[iovec(buffer())], Some(&[23]))?, 1);
    ring.wait(1)?;
    let first: Vec<_> = drain(&mut ring).iter().map(|cqe| (cqe.user_data, cqe.res)).collect();
    assert_eq!(first, [(21, 0)]);
    assert_eq!(update(&mut ring, 0, &[NONE, NONE], None)?, 2);
    assert_eq!(words(&mut ring, 2), [22, 23]);
    Ok(())
}

/// The `user_data` of the next `count` completions, sorted.
fn words(ring: &mut RawRing, count: usize) -> Vec<u64> {
    let mut words = Vec::new();
    while words.len() < count {
        ring.wait(1).expect("a wait");
        words.extend(drain(ring).iter().map(|cqe| cqe.user_data));
    }
    words.sort_unstable();
    words
}

fn end_of_all() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let iovecs = [iovec(buffer()), iovec(buffer())];
    // SAFETY: buffers that live forever, because they are leaked (OP1).
    unsafe { ring.register_buffers_tagged(&iovecs, &[4, 5]) }?;
    ring.unregister_buffers()?;
    assert_eq!(words(&mut ring, 2), [4, 5]);
    Ok(())
}

fn share() -> Result<(), Failed> {
    let (mut from, mut to) = (ring(Setup::plain(4)), ring(Setup::plain(4)));
    let (a, b) = (buffer(), buffer());
    register(&mut from, &[a, b])?;
    clone(&mut to, &from, &ClonePart::all())?;
    from.unregister_buffers()?;
    assert_eq!(read_into(&mut to, 0, a, 5), (1, 5));
    drop(from);
    assert_eq!(read_into(&mut to, 1, b, 6), (1, 6));
    Ok(())
}

fn share_nameless() -> Result<(), Failed> {
    let flags = SetupFlags::REGISTERED_FD_ONLY | SetupFlags::NO_MMAP;
    let own = Setup::plain(4).own_memory(annulus::sys::map::Pages::Ordinary).with(flags);
    let (mut from, mut to) = (ring(own), ring(Setup::plain(4)));
    let a = buffer();
    register(&mut from, &[a])?;
    clone(&mut to, &from, &ClonePart::all())?;
    assert_eq!(read_into(&mut to, 0, a, 5), (1, 5));
    Ok(())
}

fn share_some() -> Result<(), Failed> {
    let (mut from, mut to) = (ring(Setup::plain(4)), ring(Setup::plain(4)));
    let [a, b, c, d] = [buffer(), buffer(), buffer(), buffer()];
    register(&mut from, &[a, b, c])?;
    register(&mut to, &[d, d])?;
    clone(&mut to, &from, &ClonePart::range(1..3, 1).replacing())?;
    assert_eq!(read_into(&mut to, 0, d, 1), (1, 1), "it stays");
    assert_eq!(read_into(&mut to, 1, b, 2), (1, 2));
    assert_eq!(read_into(&mut to, 2, c, 3), (1, 3), "the table has grown");
    assert_eq!(read_into(&mut to, 1, a, 4).0, -libc::EFAULT);
    Ok(())
}

fn wrong_sharing() -> Result<(), Failed> {
    let (mut from, mut to) = (ring(Setup::plain(4)), ring(Setup::plain(4)));
    let all = ClonePart::all();
    assert_eq!(clone(&mut to, &from, &all), Err(RegisterError::Missing { what: TABLE }));
    register(&mut from, &[buffer()])?;
    for part in [ClonePart::range(0..0, 0), ClonePart::range(0..2, 0), ClonePart::range(1..2, 0)] {
        let error = clone(&mut to, &from, &part).expect_err("beyond the end, or none");
        assert!(matches!(error, RegisterError::Invalid { .. }), "{part:?}: {error}");
    }
    register(&mut to, &[buffer()])?;
    assert_eq!(clone(&mut to, &from, &all), Err(RegisterError::InUse { what: TABLE }));
    Ok(())
}

fn wrong_table() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    assert_eq!(ring.unregister_buffers(), Err(RegisterError::Missing { what: TABLE }));
    assert!(matches!(register(&mut ring, &[]), Err(RegisterError::Invalid { .. })));
    let nowhere = libc::iovec { iov_base: std::ptr::without_provenance_mut(4096), iov_len: 64 };
    // SAFETY: nothing is mapped there, so the kernel takes none of it, because it looks.
    let refused = unsafe { ring.register_buffers(&[nowhere]) };
    assert!(matches!(refused, Err(RegisterError::Other(errno)) if errno.is(libc::EFAULT)));
    register(&mut ring, &[buffer()])?;
    let twice = register(&mut ring, &[buffer()]);
    assert_eq!(twice, Err(RegisterError::InUse { what: TABLE }));
    Ok(())
}

fn wrong_update() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let some = iovec(buffer());
    let missing = update(&mut ring, 0, &[some], None);
    assert_eq!(missing, Err(RegisterError::Missing { what: TABLE }));
    ring.register_buffers_sparse(1)?;
    for (offset, iovecs) in [(1, &[some][..]), (0, &[some, some]), (0, &[])] {
        let error = update(&mut ring, offset, iovecs, None).expect_err("beyond the end, or none");
        assert!(matches!(error, RegisterError::Invalid { .. }), "{offset}: {error}");
    }
    let error = update(&mut ring, 0, &[some], Some(&[])).expect_err("no tags");
    assert!(error.to_string().contains("one tag for each place"), "{error}");
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let (mut from, mut to) = (ring(Setup::plain(4)), ring(Setup::plain(4)));
    register(&mut from, &[buffer()])?;
    let error = clone(&mut to, &from, &ClonePart::all()).unwrap_err();
    assert_eq!(error.to_string(), "CLONE_BUFFERS needs Linux 6.12");
    Ok(())
}

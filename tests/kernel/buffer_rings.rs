//! Buffers that the kernel selects from a buffer ring.
//!
//! ```text
//!   push, flush ──► kernel selects when a read needs one ──► completion with the id ──► taken
//! ```
#![allow(unsafe_code, reason = "lends buffers to the kernel")]

use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{CqeFlags, SqeFlags};
use annulus::sys::flags_register::PbufRingFlags;
use annulus::sys::groups::{Group, RingMemory};
use annulus::sys::index::Entries;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, push, ring, test};

const OURS: [Need; 1] = [Need::Register(RegisterOp::PBUF_RING)];
const KERNELS: [Need; 2] = [OURS[0], Need::Other(maps_no_ring)];
const INCREMENTAL: [Need; 2] = [OURS[0], Need::Other(uses_no_part)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("buffers_are_selected_in_order", &OURS, || in_order(RingMemory::User)),
        test("buffers_are_selected_in_order_from_the_kernels_ring", &KERNELS, || {
            in_order(RingMemory::Kernel)
        }),
        test("an_empty_ring_of_buffers_says_enobufs", &OURS, || empty(RingMemory::User)),
        test("an_empty_ring_of_buffers_of_the_kernels_says_enobufs", &KERNELS, || {
            empty(RingMemory::Kernel)
        }),
        test("the_tail_of_buffers_wraps", &OURS, || wraps(RingMemory::User)),
        test("the_tail_of_buffers_in_the_kernels_ring_wraps", &KERNELS, || {
            wraps(RingMemory::Kernel)
        }),
        test("a_group_of_buffers_is_one_ring", &OURS, one_ring),
        test("a_ring_of_buffers_has_32768_entries_at_most", &OURS, largest),
        test("two_groups_of_buffers_are_apart", &OURS, two_groups),
        test("a_buffer_used_in_part_comes_back_later", &INCREMENTAL, incremental),
        test("no_group_is_registered_before_5_19", &[Need::Other(lacks_groups)], no_groups),
    ]
}

fn lacks_groups() -> Option<String> {
    let has = here().has_register(RegisterOp::PBUF_RING);
    has.then(|| "needs a kernel without PBUF_RING".to_owned())
}

/// A flag of `PBUF_RING` can only be tried.
fn takes(whose: RingMemory, flags: PbufRingFlags) -> bool {
    let ring = ring(Setup::plain(1));
    match Group::register(ring.base(), 0, entries(1), whose, flags) {
        Ok(group) => group.unregister().is_ok(),
        Err(errno) => !errno.is(libc::EINVAL),
    }
}

fn maps_no_ring() -> Option<String> {
    let can = takes(RingMemory::Kernel, PbufRingFlags::empty());
    (!can).then(|| "needs Linux 6.4: IOU_PBUF_RING_MMAP".to_owned())
}

fn uses_no_part() -> Option<String> {
    let can = takes(RingMemory::User, PbufRingFlags::INC);
    (!can).then(|| "needs Linux 6.12: IOU_PBUF_RING_INC".to_owned())
}

fn entries(count: u32) -> Entries {
    Entries::new(count).expect("a power of two")
}

/// The bytes of each buffer.
const LEN: u32 = 4;

/// A ring, a group of buffers that live forever, and a pipe to read from.
struct Reader {
    ring: RawRing,
    group: Group,
    from: PipeReader,
    to: PipeWriter,
    /// Where buffer 0 lies; the others follow.
    start: *mut u8,
}

impl Reader {
    fn new(count: u16, whose: RingMemory, flags: PbufRingFlags) -> Self {
        let ring = ring(Setup::new(8));
        let group = Group::register(ring.base(), 7, entries(count.into()), whose, flags);
        let group = group.expect("the group is new");
        assert_eq!(group.id(), 7);
        let (from, to) = std::io::pipe().expect("a pipe");
        let memory = vec![0_u8; usize::from(count) * 16].leak();
        Self { ring, group, from, to, start: memory.as_mut_ptr() }
    }

    fn at(&self, bid: u16) -> *mut u8 {
        self.start.wrapping_add(usize::from(bid) * 16)
    }

    /// Offers buffer `bid`, which must not be on offer.
    fn offer(&mut self, bid: u16) {
        self.offer_long(bid, LEN);
    }

    fn offer_long(&mut self, bid: u16, len: u32) {
        let addr = self.at(bid).expose_provenance() as u64;
        // SAFETY: it does not outlive the group, because it ends with this statement's function.
        let ring = unsafe { self.group.ring() };
        // SAFETY: the buffer lives forever and is not on offer, as each test sees to (BR1).
        unsafe { ring.push(addr, len, bid) }.expect("a free slot");
        ring.flush();
    }

    /// Takes note that `count` buffers came back for good.
    fn taken(&mut self, count: u32) {
        // SAFETY: it does not outlive the group, because it ends with this statement's function.
        let ring = unsafe { self.group.ring() };
        // SAFETY: completions have returned them, as each test sees to (BR1).
        unsafe { ring.taken(count) };
    }

    /// Reads with a buffer that the kernel selects.
    fn read(&mut self) -> Cqe {
        let (opcode, fd) = (Opcode::READ, self.from.as_raw_fd());
        let flags = SqeFlags::BUFFER_SELECT;
        let sqe = Sqe { opcode, fd, flags, off: u64::MAX, buf_index: 7, ..Sqe::ZERO };
        push(&mut self.ring, sqe);
        assert_eq!(self.ring.submit_and_wait(1), Ok(1));
        self.ring.pop().expect("a completion")
    }

    fn write(&mut self, bytes: &[u8]) {
        self.to.write_all(bytes).expect("room in the pipe");
    }

    /// The contents of buffer `bid`, which must have come back.
    fn bytes(&self, bid: u16, len: usize) -> Vec<u8> {
        // SAFETY: in memory that lives forever, and that the kernel has given back (BR1).
        unsafe { std::slice::from_raw_parts(self.at(bid), len) }.to_vec()
    }

    fn close(self) {
        drop(self.from);
        // SAFETY: every read has completed, because each test waits for it.
        unsafe { self.group.unregister_idle() }.expect("it is registered");
        assert_eq!(self.ring.in_flight(), 0);
    }
}

fn in_order(whose: RingMemory) -> Result<(), Failed> {
    let mut reader = Reader::new(4, whose, PbufRingFlags::empty());
    for bid in [2, 0, 3, 1] {
        reader.offer(bid);
    }
    // SAFETY: it does not outlive the group, because it ends with this statement.
    assert_eq!(unsafe { reader.group.ring() }.offered(), 4);
    for (bid, bytes) in [(2, b"abcd"), (0, b"efgh"), (3, b"ijkl"), (1, b"mnop")] {
        reader.write(bytes);
        let cqe = reader.read();
        assert_eq!((cqe.result(), cqe.buffer_id()), (Ok(LEN), Some(bid)));
        assert!(!cqe.flags.contains(CqeFlags::BUF_MORE));
        assert_eq!(reader.bytes(bid, 4), bytes);
        reader.taken(1);
    }
    // A read shorter than the buffer uses the whole buffer anyway.
    reader.offer(1);
    reader.write(b"x");
    let cqe = reader.read();
    assert_eq!((cqe.result(), cqe.buffer_id()), (Ok(1), Some(1)));
    reader.taken(1);
    assert_eq!(reader.read_nothing(), -libc::ENOBUFS);
    reader.close();
    Ok(())
}

impl Reader {
    /// The result of a read for which there is no buffer.
    fn read_nothing(&mut self) -> i32 {
        self.write(b"y");
        let cqe = self.read();
        assert_eq!(cqe.buffer_id(), None);
        cqe.res
    }
}

fn empty(whose: RingMemory) -> Result<(), Failed> {
    let mut reader = Reader::new(2, whose, PbufRingFlags::empty());
    assert_eq!(reader.read_nothing(), -libc::ENOBUFS);
    // Written and not flushed is not on offer.
    let addr = reader.at(0).expose_provenance() as u64;
    // SAFETY: it does not outlive the group, because it ends with this statement.
    let pushed = unsafe { reader.group.ring() };
    // SAFETY: the buffer lives forever and is not on offer (BR1).
    unsafe { pushed.push(addr, LEN, 0) }?;
    assert_eq!(reader.read_nothing(), -libc::ENOBUFS);
    // SAFETY: it does not outlive the group, because it ends with this statement.
    unsafe { reader.group.ring() }.flush();
    let cqe = reader.read();
    // Both bytes that had no buffer are still in the pipe.
    assert_eq!((cqe.result(), cqe.buffer_id()), (Ok(2), Some(0)));
    assert_eq!(reader.bytes(0, 2), b"yy");
    reader.taken(1);
    assert_eq!(reader.read_nothing(), -libc::ENOBUFS);
    reader.close();
    Ok(())
}

/// How many buffers to offer: past the end of the 16-bit tail where time allows.
fn laps() -> u32 {
    if std::env::var_os("ANNULUS_LONG").is_some() { 70_000 } else { 1_000 }
}

/// A ring of four, always full: each read returns one buffer, which is offered again. Four are
/// offered ahead, so the tail is past the end of the ring well before the last read.
fn wraps(whose: RingMemory) -> Result<(), Failed> {
    let mut reader = Reader::new(4, whose, PbufRingFlags::empty());
    (0..4).for_each(|bid| reader.offer(bid));
    for lap in 0..laps() {
        let [bid, _, _, _] = (lap % 4).to_le_bytes();
        let bytes = lap.to_le_bytes();
        reader.write(&bytes);
        let cqe = reader.read();
        assert_eq!((cqe.result(), cqe.buffer_id()), (Ok(LEN), Some(bid.into())), "{lap}");
        assert_eq!(reader.bytes(bid.into(), 4), bytes, "{lap}");
        reader.taken(1);
        reader.offer(bid.into());
    }
    reader.close();
    Ok(())
}

fn one_ring() -> Result<(), Failed> {
    let ring = ring(Setup::plain(1));
    let register =
        |id| Group::register(ring.base(), id, entries(2), RingMemory::User, PbufRingFlags::empty());
    let group = register(5)?;
    assert_eq!(register(5).map(drop), Err(Errno::new(libc::EEXIST)));
    let other = register(6)?;
    group.unregister().map_err(|(_, errno)| errno)?;
    let group = register(5)?;
    // SAFETY: no request was ever pushed, so none selects from it.
    unsafe { group.unregister_idle() }.map_err(|(_, errno)| errno)?;
    other.unregister().map_err(|(_, errno)| errno)?;
    // A group that is dropped stays registered, with its memory.
    drop(register(5)?);
    assert_eq!(register(5).map(drop), Err(Errno::new(libc::EEXIST)));
    Ok(())
}

fn largest() -> Result<(), Failed> {
    let ring = ring(Setup::plain(1));
    let register = |count| {
        Group::register(ring.base(), 0, entries(count), RingMemory::User, PbufRingFlags::empty())
    };
    assert_eq!(register(65536).map(drop), Err(Errno::new(libc::EINVAL)));
    let mut group = register(32768)?;
    // SAFETY: it does not outlive the group, because it ends with this statement.
    assert_eq!(unsafe { group.ring() }.entries().count(), 32768);
    // SAFETY: no request was ever pushed, so none selects from it.
    unsafe { group.unregister_idle() }.map_err(|(_, errno)| errno)?;
    Ok(())
}

fn two_groups() -> Result<(), Failed> {
    let mut reader = Reader::new(1, RingMemory::User, PbufRingFlags::empty());
    let base = reader.ring.base().clone();
    let mut other =
        Group::register(&base, 8, entries(1), RingMemory::User, PbufRingFlags::empty())?;
    let byte = Box::leak(Box::new(0_u8));
    let addr = std::ptr::from_mut(byte).expose_provenance() as u64;
    // SAFETY: it does not outlive the group, because it ends with this block.
    let buffers = unsafe { other.ring() };
    // SAFETY: the buffer lives forever and is not on offer (BR1).
    unsafe { buffers.push(addr, 1, 0) }?;
    buffers.flush();
    // The buffers of group 8 do not help group 7.
    assert_eq!(reader.read_nothing(), -libc::ENOBUFS);
    reader.offer(0);
    let cqe = reader.read();
    assert_eq!((cqe.result(), cqe.buffer_id()), (Ok(1), Some(0)));
    reader.taken(1);
    other.unregister().map_err(|(_, errno)| errno)?;
    reader.close();
    Ok(())
}

/// Linux 6.12: a buffer stays first until it is full.
fn incremental() -> Result<(), Failed> {
    let mut reader = Reader::new(2, RingMemory::User, PbufRingFlags::INC);
    reader.offer_long(1, 8);
    reader.offer_long(0, 8);
    let steps: [(&[u8], u16, bool); 4] =
        [(b"abc", 1, true), (b"de", 1, true), (b"fgh", 1, false), (b"ij", 0, true)];
    for (bytes, bid, more) in steps {
        reader.write(bytes);
        let cqe = reader.read();
        let len = u32::try_from(bytes.len())?;
        assert_eq!((cqe.result(), cqe.buffer_id()), (Ok(len), Some(bid)));
        assert_eq!(cqe.flags.contains(CqeFlags::BUF_MORE), more, "{bytes:?}");
        if !more {
            assert_eq!(reader.bytes(bid, 8), b"abcdefgh");
            reader.taken(1);
        }
    }
    // SAFETY: it does not outlive the group, because it ends with this statement.
    assert_eq!(unsafe { reader.group.ring() }.offered(), 1);
    reader.close();
    Ok(())
}

fn no_groups() -> Result<(), Failed> {
    let ring = ring(Setup::plain(1));
    for whose in [RingMemory::User, RingMemory::Kernel] {
        let group = Group::register(ring.base(), 0, entries(1), whose, PbufRingFlags::empty());
        assert_eq!(group.map(drop), Err(Errno::new(libc::EINVAL)));
    }
    Ok(())
}

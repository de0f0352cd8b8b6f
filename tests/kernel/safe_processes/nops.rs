//! NOPs, with everything that the kernel does around them; and messages of every form, raw API.

use std::io::pipe;
use std::os::fd::AsRawFd;

use annulus::op::{Nop, NopBuf, NopFile};
use annulus::prep;
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{CqeFlags, MsgRingFlags, NopFlags, SetupFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use super::{begin, run, small};
use crate::harness::{Need, drain, push, ring, test};

/// Since Linux 6.10, as flags of NOPs; that release brought no operation, so this needs the next.
const ANSWERS: Need = Need::Op(Opcode::BIND);
/// Since Linux 6.13, as looking up.
const LOOKS_UP: Need = Need::Register(RegisterOp::RESIZE_RINGS);
const DEFERS: Need = Need::Other(defers_none);
const WIDE: Need = Need::Op(Opcode::NOP128);
const MIXED: Need = Need::Setup(SetupFlags::CQE_MIXED);
const MESSAGE: Need = Need::Op(Opcode::MSG_RING);
/// Since Linux 6.0, as sending files.
const SENDS_FILES: Need = Need::Setup(SetupFlags::SINGLE_ISSUER);
/// Since Linux 6.3, as sending flags; no operation came with that, so the next.
const SENDS_FLAGS: Need = Need::Setup(SetupFlags::NO_MMAP);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_nop_answers_what_it_is_told", &[ANSWERS], answers),
        test("a_deferred_nop_is_done_when_the_ring_is_entered", &[DEFERS], deferred),
        test("a_nop_looks_up_a_file", &[LOOKS_UP], looks_up_file),
        test("a_nop_looks_up_a_registered_buffer", &[LOOKS_UP], looks_up_buffer),
        test("a_nop_that_finds_nothing_fails", &[LOOKS_UP], finds_nothing),
        test("a_nop_completes_with_32_bytes", &[MIXED], large_completion),
        test("a_nop_has_128_bytes", &[WIDE], wide),
        test("a_flag_that_no_nop_has_is_refused", &[ANSWERS], unknown_flag),
        test("a_message_carries_flags", &[MESSAGE, SENDS_FLAGS], message_flags),
        test("a_message_carries_a_file_to_a_place", &[MESSAGE, SENDS_FILES], message_file),
        test("a_message_carries_a_file_to_a_free_place", &[MESSAGE, SENDS_FLAGS], message_alloc),
        test("a_message_to_what_is_no_ring_fails", &[MESSAGE], message_refused),
    ]
}

/// Pushes `sqe`, and returns its result.
fn complete(ring: &mut RawRing, sqe: Sqe) -> Cqe {
    push(ring, Sqe { user_data: 1, ..sqe });
    ring.submit_and_wait(1).expect("it completes");
    let cqe = ring.pop().expect("it has");
    assert_eq!(cqe.user_data, 1);
    cqe
}

fn answers() -> Result<(), Failed> {
    let mut ring = small();
    for number in [0, 1, i32::MAX.unsigned_abs()] {
        assert_eq!(run(&mut ring, Nop.answering(Ok(number)))?, number);
    }
    for errno in [libc::EPERM, libc::EIO, 4095] {
        let failed = run(&mut ring, Nop.answering(Err(Errno::new(errno))));
        assert_eq!(failed.err().and_then(|error| error.raw_os_error()), Some(errno));
    }
    // A failure breaks a chain.
    let broken = (Nop.answering(Err(Errno::new(libc::EIO))), Nop);
    let ticket = ring.submit_chain(broken).map_err(|rejected| rejected.why)?;
    let (first, second) = ring.wait_chain(ticket)?.outputs;
    let number = |result: std::io::Result<u32>| result.err().and_then(|e| e.raw_os_error());
    assert_eq!((number(first), number(second)), (Some(libc::EIO), Some(libc::ECANCELED)));
    Ok(())
}

/// The flag came with 6.16, but 6.16.12 does not know it.
fn defers_none() -> Option<String> {
    let mut ring = small();
    let refused = run(&mut ring, Nop.answering(Ok(0)).deferred()).is_err();
    refused.then(|| "needs Linux 6.17: NOP_TW".to_owned())
}

fn deferred() -> Result<(), Failed> {
    let mut ring = small();
    let nop = begin(&mut ring, Nop.answering(Ok(7)).deferred());
    assert_eq!(ring.wait(nop)??, 7);
    let failed = run(&mut ring, Nop.answering(Err(Errno::new(libc::EIO))).deferred());
    assert_eq!(failed.err().and_then(|error| error.raw_os_error()), Some(libc::EIO));
    Ok(())
}

fn looks_up_file() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let number = reader.as_raw_fd();
    let found = run(&mut ring, NopFile::new(reader));
    found.result?;
    assert_eq!(found.fd.as_raw_fd(), number);
    let table = ring.file_table(2)?;
    let fixed = table.insert(&mut ring, writer)?;
    run(&mut ring, NopFile::new(fixed)).result?;
    assert_eq!(table.held(), 0, "it went with its outcome");
    Ok(())
}

fn looks_up_buffer() -> Result<(), Failed> {
    let mut ring = small();
    let pool = ring.fixed_pool(2, 64)?;
    let buf = pool.get().ok_or("two are there")?;
    let found = run(&mut ring, NopBuf::new(buf));
    found.result?;
    assert_eq!(pool.available(), 1);
    drop(found.buf);
    assert_eq!(pool.available(), 2);
    Ok(())
}

/// The look-up fails, and the kernel breaks the chain; the result is an error only since a fix that
/// came after Linux 6.18, and into its stable releases.
fn finds_nothing() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(8));
    let fixed = NopFlags::FILE | NopFlags::FIXED_FILE;
    let cases = [
        (prep::nop_with(NopFlags::FILE, 0, -1, 0), -libc::EBADF),
        (prep::nop_with(fixed, 0, 0, 0), -libc::EBADF),
        (prep::nop_with(NopFlags::FIXED_BUFFER, 0, -1, 0), -libc::EFAULT),
    ];
    for (sqe, errno) in cases {
        let linked = sqe.flags | annulus::sys::flags::SqeFlags::IO_LINK;
        push(&mut ring, Sqe { flags: linked, user_data: 1, ..sqe });
        push(&mut ring, Sqe { user_data: 2, ..prep::nop() });
        ring.submit_and_wait(2)?;
        let mut cqes = drain(&mut ring);
        cqes.sort_by_key(|cqe| cqe.user_data);
        let results: Vec<_> = cqes.iter().map(|cqe| cqe.res).collect();
        assert_eq!(results[1..], [-libc::ECANCELED], "{sqe:?}");
        assert!(results[0] == errno || results[0] == 0, "{results:?}, {sqe:?}");
    }
    Ok(())
}

fn large_completion() -> Result<(), Failed> {
    let extra = [0x0102_0304_0506_0708, u64::MAX];
    for flags in [SetupFlags::CQE32, SetupFlags::CQE_MIXED] {
        let mut ring = ring(Setup::new(8).with(flags));
        push(&mut ring, Sqe { user_data: 1, ..prep::nop_cqe32(extra) });
        ring.submit_and_wait(1)?;
        let cqe = ring.pop_wide().ok_or("it completed")?;
        assert_eq!((cqe.first.user_data, cqe.first.res, cqe.big), (1, 0, extra), "{flags:?}");
    }
    // Where there is no room for it, it is refused.
    let mut ring = ring(Setup::new(8));
    assert_eq!(complete(&mut ring, prep::nop_cqe32(extra)).res, -libc::EINVAL);
    Ok(())
}

#[allow(unsafe_code, reason = "pushes an entry of 128 bytes")]
fn wide() -> Result<(), Failed> {
    for flags in [SetupFlags::SQE128, SetupFlags::SQE_MIXED] {
        let mut ring = ring(Setup::new(8).with(flags));
        for word in 1..20 {
            let mut nop = prep::nop128();
            nop.first.user_data = word;
            // SAFETY: it points to nothing (OP1).
            unsafe { ring.push_wide(nop) }?;
            ring.submit_and_wait(1)?;
            let cqe = ring.pop().ok_or("it completed")?;
            assert_eq!((cqe.user_data, cqe.res), (word, 0), "{flags:?}");
        }
    }
    Ok(())
}

fn unknown_flag() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(8));
    let unknown = prep::nop_with(NopFlags::from_bits_retain(1 << 31), 0, -1, 0);
    assert_eq!(complete(&mut ring, unknown).res, -libc::EINVAL);
    Ok(())
}

/// Two rings, the second of which expects messages, and its descriptor.
fn two_rings() -> (RawRing, RawRing, i32) {
    let (from, mut to) = (ring(Setup::new(8)), ring(Setup::new(8)));
    to.expect_others();
    let fd = to.fd().expect("it has one").as_raw_fd();
    (from, to, fd)
}

fn message_flags() -> Result<(), Failed> {
    let (mut from, mut to, fd) = two_rings();
    let (none, flags) = (MsgRingFlags::empty(), CqeFlags::SOCK_NONEMPTY);
    let sent = complete(&mut from, prep::msg_ring_flags(fd, 5, 77, none, flags));
    assert_eq!(sent.res, 0);
    to.wait(1)?;
    let came = to.pop().ok_or("a message")?;
    assert_eq!((came.user_data, came.res, came.flags), (77, 5, flags));
    Ok(())
}

/// A table of `count` slots, the first of which has `file`, if there is one.
#[allow(unsafe_code, reason = "registers files by hand")]
fn table(ring: &RawRing, count: usize, file: Option<i32>) -> Result<(), Failed> {
    let mut fds = vec![-1; count];
    fds[0] = file.unwrap_or(-1);
    let (arg, len) = (fds.as_mut_ptr().cast(), u32::try_from(count)?);
    // SAFETY: so many live descriptors, which the kernel reads and does not keep, because it takes
    // references to the files.
    unsafe { ring.base().register(RegisterOp::FILES, arg, len) }?;
    Ok(())
}

fn message_file() -> Result<(), Failed> {
    let (mut from, mut to, fd) = two_rings();
    let (reader, mut writer) = pipe()?;
    std::io::Write::write_all(&mut writer, b"xy")?;
    table(&from, 1, Some(reader.as_raw_fd()))?;
    table(&to, 4, None)?;
    drop(reader);
    let none = MsgRingFlags::empty();
    let sent = complete(&mut from, prep::msg_ring_fd(fd, 0, 2, 77, none));
    assert_eq!(sent.res, 0);
    to.wait(1)?;
    let came = to.pop().ok_or("a message")?;
    assert_eq!((came.user_data, came.res), (77, 0));
    assert_eq!(complete(&mut to, read_registered(2)).res, 1, "it is there");
    assert_eq!(complete(&mut to, read_registered(1)).res, -libc::EBADF);
    // Without a completion.
    let silent = MsgRingFlags::CQE_SKIP;
    assert_eq!(complete(&mut from, prep::msg_ring_fd(fd, 0, 3, 78, silent)).res, 0);
    assert_eq!(complete(&mut to, read_registered(3)).res, 1);
    assert_eq!(to.ready(), 0);
    let refused = [
        (prep::msg_ring_fd(fd, 9, 0, 1, none), -libc::EBADF, "nothing there"),
        (prep::msg_ring_fd(fd, 0, 9, 1, none), -libc::EINVAL, "no such place"),
    ];
    for (sqe, errno, why) in refused {
        assert_eq!(complete(&mut from, sqe).res, errno, "{why}");
    }
    Ok(())
}

/// A read of one byte from the registered file at `index`, into memory that lives forever.
fn read_registered(index: i32) -> Sqe {
    let byte = std::ptr::from_mut(Box::leak(Box::new(0_u8)));
    let flags = annulus::sys::flags::SqeFlags::FIXED_FILE;
    Sqe { flags, ..prep::read(index, byte.expose_provenance() as u64, 1, u64::MAX) }
}

fn message_alloc() -> Result<(), Failed> {
    let (mut from, mut to, fd) = two_rings();
    let (reader, _writer) = pipe()?;
    table(&from, 1, Some(reader.as_raw_fd()))?;
    table(&to, 2, None)?;
    let none = MsgRingFlags::empty();
    for (word, place) in [(5, 0), (6, 1)] {
        let sent = complete(&mut from, prep::msg_ring_fd_alloc(fd, 0, word, none));
        to.wait(1)?;
        let came = to.pop().ok_or("a message")?;
        assert_eq!((sent.res, came.user_data, came.res), (place, word, place));
    }
    let full = complete(&mut from, prep::msg_ring_fd_alloc(fd, 0, 7, none));
    assert_eq!((full.res, to.ready()), (-libc::ENFILE, 0));
    Ok(())
}

fn message_refused() -> Result<(), Failed> {
    let mut from = ring(Setup::new(8));
    let (reader, _writer) = pipe()?;
    assert_eq!(complete(&mut from, prep::msg_ring(reader.as_raw_fd(), 0, 1)).res, -libc::EBADFD);
    assert_eq!(complete(&mut from, prep::msg_ring(-1, 0, 1)).res, -libc::EBADF);
    Ok(())
}

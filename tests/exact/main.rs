//! Whole transfers, which go on until every byte is moved, on a scripted kernel: each turn answers
//! what the test says, and the entries are checked.
//!
//! An entry is written as `(opcode, flags, offset, bytes into the buffer, length)`. Whole transfers
//! of several buffers are in `exact/vectored.rs`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use annulus::buf::{AlignedBuf, MAX_TRANSFER};
use annulus::op::{Nop, Offset, Outcome};
use annulus::{EnterCause, EnterError, Ring, Setup};
use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::flags::SqeFlags;
use annulus_sys::opcode::Opcode;

#[path = "../support/mod.rs"]
mod support;

mod vectored;

use support::backend::{Enter, Script, ScriptedKernel};

const PLAIN: SqeFlags = SqeFlags::empty();
const ASYNC: SqeFlags = SqeFlags::ASYNC;

/// The entries that the kernel consumed.
type Seen = Arc<Mutex<Vec<Sqe>>>;

/// A ring whose operations end with these results, one after the other.
fn ring(results: impl IntoIterator<Item = i32>) -> (Ring, Arc<Script>, Seen) {
    let (kernel, script) = ScriptedKernel::new();
    let ring = Setup::new(4).kernel(kernel).build().expect("the script makes a ring");
    let seen = Seen::default();
    for result in results {
        let seen = Arc::clone(&seen);
        script.enters(Enter::Run(Box::new(move |kernel, to_submit| {
            let sqe = kernel.consume().expect("an entry");
            assert_eq!(to_submit, 1, "one operation at a time");
            seen.lock().expect("no thread panicked").push(sqe);
            assert!(kernel.post(Cqe { user_data: sqe.user_data, res: result, ..Cqe::ZERO }));
            Ok(1)
        })));
    }
    (ring, script, seen)
}

/// Any file: the kernel does not use it.
fn file() -> OwnedFd {
    File::open("/dev/null").expect("it is there").into()
}

/// The transfers among these entries, for a buffer at `start`.
fn turns(seen: &Seen, start: u64) -> Vec<(Opcode, SqeFlags, u64, u64, u32)> {
    let seen = seen.lock().expect("no thread panicked");
    let turn = |sqe: &Sqe| (sqe.opcode, sqe.flags, sqe.off, sqe.addr.wrapping_sub(start), sqe.len);
    seen.iter().filter(|sqe| sqe.opcode != Opcode::POLL_ADD).map(turn).collect()
}

fn address(buf: &[u8]) -> u64 {
    buf.as_ptr().addr() as u64
}

/// The error of a whole transfer, after checking that everything came back.
fn failure<B>(outcome: Outcome<(), OwnedFd, B>, number: i32) -> std::io::Error {
    assert_eq!(outcome.fd.as_raw_fd(), number);
    outcome.result.expect_err("not all was moved")
}

#[test]
fn a_short_transfer_goes_on_where_it_ended() {
    let (mut ring, _script, seen) = ring([3, 4, 1]);
    let read = ring.read_exact(file(), vec![0; 8], Offset::At(100)).expect("the ring goes on");
    assert!(read.result.is_ok());
    let expected = [
        (Opcode::READ, PLAIN, 100, 0, 8),
        (Opcode::READ, PLAIN, 103, 3, 5),
        (Opcode::READ, PLAIN, 107, 7, 1),
    ];
    assert_eq!(turns(&seen, address(&read.buf)), expected);
}

#[test]
fn the_files_own_position_moves_by_itself() {
    let (mut ring, _script, seen) = ring([5, 3]);
    let text: Rc<[u8]> = Rc::from(*b"8 bytes.");
    let write = ring.write_all(file(), Rc::clone(&text), Offset::Current).expect("it goes on");
    assert!(write.result.is_ok());
    let expected = [(Opcode::WRITE, PLAIN, u64::MAX, 0, 8), (Opcode::WRITE, PLAIN, u64::MAX, 5, 3)];
    assert_eq!(turns(&seen, address(&text)), expected);
}

#[test]
fn a_buffer_without_bytes_is_done_at_once() {
    let (mut ring, script, _seen) = ring([]);
    let read = ring.read_exact(file(), Vec::with_capacity(64), Offset::Current);
    assert!(read.expect("it goes on").result.is_ok());
    assert_eq!(script.entered(), 0);
}

#[test]
fn an_interrupted_turn_is_taken_again() {
    let (mut ring, _script, seen) = ring([2, -libc::EINTR, 2]);
    let mut buf = AlignedBuf::new(4, 64);
    buf.set_len(4);
    let read = ring.read_exact(file(), buf, Offset::At(0)).expect("the ring goes on");
    assert!(read.result.is_ok());
    let again = (Opcode::READ, PLAIN, 2, 2, 2);
    let expected = [(Opcode::READ, PLAIN, 0, 0, 4), again, again];
    assert_eq!(turns(&seen, address(&read.buf)), expected);
}

#[test]
fn a_file_that_is_not_ready_is_waited_for_and_then_may_block() {
    let in_and_out = [(Opcode::READ, libc::POLLIN), (Opcode::WRITE, libc::POLLOUT)];
    for (opcode, event) in in_and_out {
        let (mut ring, _script, seen) = ring([2, -libc::EAGAIN, event.into(), 3, 3]);
        let (file, buf) = (file(), vec![0; 8]);
        let number = file.as_raw_fd();
        let moved = match opcode {
            Opcode::READ => ring.read_exact(file, buf, Offset::Current),
            _ => ring.write_all(file, buf, Offset::Current),
        };
        let moved = moved.expect("the ring goes on");
        assert!(moved.result.is_ok());
        let expected = [
            (opcode, PLAIN, u64::MAX, 0, 8),
            (opcode, PLAIN, u64::MAX, 2, 6),
            (opcode, ASYNC, u64::MAX, 2, 6),
            (opcode, PLAIN, u64::MAX, 5, 3),
        ];
        assert_eq!(turns(&seen, address(&moved.buf)), expected);
        let seen = seen.lock().expect("no thread panicked");
        let poll = (seen[2].opcode, seen[2].fd, seen[2].op_flags.cast_signed());
        assert_eq!(poll, (Opcode::POLL_ADD, number, event.into()));
    }
}

#[test]
fn a_file_that_cannot_be_waited_for_is_an_error() {
    let (mut ring, _script, _seen) = ring([-libc::EAGAIN, -libc::EINVAL]);
    let file = file();
    let number = file.as_raw_fd();
    let read = ring.read_exact(file, [0; 8], Offset::Current).expect("the ring goes on");
    let error = failure(read, number);
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "what the read said, not the poll");
}

#[test]
fn no_bytes_at_all_are_the_end() {
    let (mut ring, _script, _seen) = ring([3, 0, 2, 0]);
    let read = ring.read_exact(file(), [0; 8], Offset::Current).expect("the ring goes on");
    let error = read.result.expect_err("it ended");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(error.to_string(), "the file ended after 3 of 8 bytes");
    let write = ring.write_all(read.fd, read.buf, Offset::Current).expect("the ring goes on");
    let error = write.result.expect_err("it ended");
    assert_eq!(error.kind(), ErrorKind::WriteZero);
    assert_eq!(error.to_string(), "the file took no more after 2 of 8 bytes");
}

#[test]
fn any_other_error_is_the_end() {
    let (mut ring, _script, _seen) = ring([3, -libc::EIO]);
    let file = file();
    let number = file.as_raw_fd();
    let write = ring.write_all(file, vec![7; 8], Offset::At(0)).expect("the ring goes on");
    assert_eq!(write.buf, [7; 8]);
    assert_eq!(failure(write, number).raw_os_error(), Some(libc::EIO));
}

#[test]
fn a_kernel_that_says_more_than_it_was_offered_is_not_believed() {
    let (mut ring, _script, seen) = ring([5, 1000]);
    let read = ring.read_exact(file(), [0; 8], Offset::At(0)).expect("the ring goes on");
    assert!(read.result.is_ok());
    assert_eq!(seen.lock().expect("no thread panicked").len(), 2);
}

#[test]
fn an_offset_does_not_wrap() {
    let (mut ring, _script, seen) = ring([4, 4]);
    let read = ring.read_exact(file(), [0; 8], Offset::At(u64::MAX - 2)).expect("it goes on");
    assert!(read.result.is_ok());
    let offsets: Vec<u64> =
        seen.lock().expect("no thread panicked").iter().map(|sqe| sqe.off).collect();
    assert_eq!(offsets, [u64::MAX - 2, u64::MAX - 1], "neither zero, nor the file's own position");
}

#[test]
fn what_one_operation_cannot_move_takes_several() {
    let most = i32::try_from(MAX_TRANSFER).expect("31 bits");
    let (mut ring, _script, seen) = ring([most, 4096 + 100]);
    let len = (2 << 30) + 100;
    // Never touched, so it takes no memory.
    let map = memmap2::MmapOptions::new().len(len).no_reserve_swap().map_anon().expect("addresses");
    let start = address(&map);
    let read = ring.read_exact(file(), map, Offset::At(1)).expect("the ring goes on");
    assert!(read.result.is_ok());
    let behind = u64::from(MAX_TRANSFER);
    let expected = [
        (Opcode::READ, PLAIN, 1, 0, MAX_TRANSFER),
        (Opcode::READ, PLAIN, 1 + behind, behind, 4096 + 100),
    ];
    assert_eq!(turns(&seen, start), expected);
}

#[test]
fn a_ring_without_a_free_slot_gives_all_back() {
    let (mut ring, _script, _seen) = ring([]);
    let mut nops = VecDeque::new();
    while ring.vacant() > 0 {
        nops.push_back(ring.submit(Nop).expect("room"));
    }
    let file = file();
    let number = file.as_raw_fd();
    let read = ring.read_exact(file, [1; 8], Offset::Current).expect("the ring goes on");
    assert_eq!(read.buf, [1; 8]);
    assert_eq!(failure(read, number).kind(), ErrorKind::ResourceBusy);
    for nop in nops {
        assert!(ring.wait(nop).expect("it completes").is_ok());
    }
}

/// Records when it is dropped.
struct Watched([u8; 8], Rc<Cell<bool>>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.set(true);
    }
}

#[test]
fn op1_a_ring_that_cannot_go_on_keeps_the_buffer_until_the_kernel_is_done() {
    let (mut ring, script, _seen) = ring([]);
    let word = Arc::new(Mutex::new(0));
    let kept = Arc::clone(&word);
    script.enters(Enter::Run(Box::new(move |kernel, _| {
        *kept.lock().expect("no thread panicked") = kernel.consume().expect("an entry").user_data;
        Ok(1)
    })));
    script.enters(Enter::Fail(libc::EOWNERDEAD));
    let dropped = Rc::new(Cell::new(false));
    let buf = Watched([0; 8], Rc::clone(&dropped));
    let lost = ring.write_all(file(), buf, Offset::Current).map(drop);
    assert_eq!(lost.map_err(cause), Err(EnterCause::PollerDied));
    assert_eq!((dropped.get(), ring.in_flight()), (false, 1));
    assert!(script.post(*word.lock().expect("no thread panicked"), 8));
    ring.reap(|event| panic!("nobody waits for it: {event:?}")).expect("reap");
    assert_eq!((dropped.get(), ring.in_flight(), ring.vacant()), (true, 0, 8));
}

fn cause(error: EnterError) -> EnterCause {
    error.cause
}

#[test]
fn borrowed_buffers_take_the_same_turns() {
    let (mut ring, _script, seen) = ring([1, -libc::EINTR, -libc::EAGAIN, 1, 3, 4]);
    let file = file();
    let mut buf = [0; 4];
    let start = address(&buf);
    let read = ring.scope(|s| {
        let read = s.read_exact(&file, &mut buf[..], Offset::At(10)).expect("the ring goes on");
        read.result?;
        s.write_all(&file, read.buf, Offset::At(20)).expect("the ring goes on").result
    });
    assert!(read.is_ok());
    let expected = [
        (Opcode::READ, PLAIN, 10, 0, 4),
        (Opcode::READ, PLAIN, 11, 1, 3),
        (Opcode::READ, PLAIN, 11, 1, 3),
        (Opcode::READ, ASYNC, 11, 1, 3),
        (Opcode::WRITE, PLAIN, 20, 0, 4),
    ];
    assert_eq!(turns(&seen, start), expected);
}

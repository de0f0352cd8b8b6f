//! Whole transfers of several buffers, on a kernel that moves as many bytes as the test says.
//!
//! An entry is written as `(opcode, flags, offset, lengths of its regions)`.
#![allow(unsafe_code, reason = "plays the kernel, which follows the addresses of tables")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::ptr::with_exposed_provenance;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use annulus::op::Offset;
use annulus::{Ring, Setup, SetupError};
use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::flags::SqeFlags;
use annulus_sys::opcode::Opcode;

use super::support::backend::{Enter, ScriptedKernel};
use super::{ASYNC, PLAIN, file};

type Turn = (Opcode, SqeFlags, u64, Vec<usize>);

/// The regions of an entry's table.
fn regions(sqe: &Sqe) -> Vec<libc::iovec> {
    let table = with_exposed_provenance::<libc::iovec>(sqe.addr.try_into().expect("64 bits"));
    let count = usize::try_from(sqe.len).expect("32 bits");
    let mut regions = Vec::with_capacity(count);
    for at in 0..count {
        // SAFETY: within the table, because the entry says that it has so many regions (OP1).
        let region = unsafe { table.add(at) };
        // SAFETY: the operation is in flight, so its table is there (OP1).
        regions.push(unsafe { region.read() });
    }
    regions
}

/// Moves the first `count` bytes of a table: into `bytes`, or from a counter.
fn transfer(sqe: &Sqe, count: i32, bytes: &mut Vec<u8>) {
    let mut left = usize::try_from(count).unwrap_or(0);
    for region in regions(sqe) {
        for at in 0..region.iov_len.min(left) {
            // SAFETY: within the region, because `at` is below its length.
            let byte = unsafe { region.iov_base.cast::<u8>().add(at) };
            if sqe.opcode == Opcode::READV {
                let next = u8::try_from(bytes.len()).expect("small");
                // SAFETY: the operation is in flight and lends its buffers (OP1).
                unsafe { byte.write(next) };
                bytes.push(next);
            } else {
                // SAFETY: the operation is in flight and lends its buffers (OP1).
                bytes.push(unsafe { byte.read() });
            }
        }
        left -= region.iov_len.min(left);
    }
}

/// What a kernel saw.
#[derive(Debug, Default)]
struct Seen {
    turns: Vec<Turn>,
    bytes: Vec<u8>,
}

/// A ring whose operations end with these results, one after the other.
fn moving(results: impl IntoIterator<Item = i32>) -> (Ring, Arc<Mutex<Seen>>) {
    let (kernel, script) = ScriptedKernel::new();
    let ring = Setup::new(4).kernel(kernel).build().expect("the script makes a ring");
    let seen = Arc::<Mutex<Seen>>::default();
    for result in results {
        let seen = Arc::clone(&seen);
        script.enters(Enter::Run(Box::new(move |kernel, _| {
            let sqe = kernel.consume().expect("an entry");
            let mut seen = seen.lock().expect("no thread panicked");
            if sqe.opcode != Opcode::POLL_ADD {
                let lens = regions(&sqe).iter().map(|region| region.iov_len).collect();
                seen.turns.push((sqe.opcode, sqe.flags, sqe.off, lens));
                transfer(&sqe, result, &mut seen.bytes);
            }
            assert!(kernel.post(Cqe { user_data: sqe.user_data, res: result, ..Cqe::ZERO }));
            Ok(1)
        })));
    }
    (ring, seen)
}

#[test]
fn a_short_read_goes_on_within_the_buffer_where_it_ended() {
    let (mut ring, seen) = moving([2, 1, 4, -libc::EINTR, 3]);
    let bufs = ([9_u8; 3], vec![9_u8; 0], vec![9_u8; 6], [9_u8; 1]);
    let read = ring.read_exact_vectored(file(), bufs, Offset::At(100)).expect("the ring goes on");
    read.result.expect("all of it");
    assert_eq!(read.buf, ([0, 1, 2], vec![], vec![3, 4, 5, 6, 7, 8], [9]));
    let turn = |offset, lens: &[usize]| (Opcode::READV, PLAIN, offset, lens.to_vec());
    let expected = [
        turn(100, &[3, 6, 1]),
        turn(102, &[1, 6, 1]),
        turn(103, &[6, 1]),
        turn(107, &[2, 1]),
        turn(107, &[2, 1]),
    ];
    assert_eq!(seen.lock().expect("no thread panicked").turns, expected);
}

#[test]
fn a_short_write_goes_on_until_every_buffer_is_written() {
    let (mut ring, seen) = moving([4, -libc::EAGAIN, libc::POLLOUT.into(), 5]);
    let bufs = ["abc", "", "def", "ghi"].map(String::from);
    let write = ring.write_all_vectored(file(), Box::new(bufs.clone()), Offset::Current);
    let write = write.expect("the ring goes on");
    write.result.expect("all of it");
    assert_eq!(*write.buf, bufs);
    let turn = |flags, lens: &[usize]| (Opcode::WRITEV, flags, u64::MAX, lens.to_vec());
    let seen = seen.lock().expect("no thread panicked");
    let expected = [turn(PLAIN, &[3, 3, 3]), turn(PLAIN, &[2, 3]), turn(ASYNC, &[2, 3])];
    assert_eq!((seen.turns.as_slice(), seen.bytes.as_slice()), (&expected[..], &b"abcdefghi"[..]));
}

#[test]
fn a_list_that_one_operation_does_not_take_takes_several() {
    let (mut ring, seen) = moving([1024, 2]);
    let bufs: Vec<Rc<[u8]>> = vec![Rc::from(*b"x"); 1026];
    let write = ring.write_all_vectored(file(), bufs, Offset::Current).expect("it goes on");
    write.result.expect("all of it");
    let lens: Vec<usize> =
        seen.lock().expect("no thread panicked").turns.iter().map(|turn| turn.3.len()).collect();
    assert_eq!((lens, write.buf.len()), (vec![1024, 2], 1026));
}

#[test]
fn an_end_in_the_middle_of_a_list_is_an_error_and_all_comes_back() {
    let (mut ring, _seen) = moving([3, 0]);
    let read = ring.read_exact_vectored(file(), vec![[7_u8; 2]; 4], Offset::Current);
    let read = read.expect("the ring goes on");
    let error = read.result.expect_err("it ended");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(error.to_string(), "the file ended after 3 of 8 bytes");
    assert_eq!(read.buf, [[0, 1], [2, 7], [7, 7], [7, 7]]);
    let (mut ring, _seen) = moving([]);
    let none = ring.read_exact_vectored(read.fd, ([0_u8; 0], vec![]), Offset::Current);
    none.expect("the ring goes on").result.expect("nothing is asked for");
}

/// On the real kernel: a pipe takes less than is written, and gives less than is read.
#[test]
fn a_pipe_takes_and_gives_all_of_several_buffers() {
    let mut ring: Ring = match Setup::new(4).build() {
        Ok(ring) => ring,
        Err(SetupError::OutOfMemory { .. } | SetupError::LockedMemory { .. }) => {
            panic!("no memory for a ring of 4 entries")
        }
        Err(error) => return println!("skipped: {error}"),
    };
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let (sent, mut read) = ([vec![1_u8; 100_000], vec![2; 1], vec![3; 100_000]], Vec::new());
    let all = sent.concat();
    std::thread::scope(|threads| {
        let reads = threads.spawn(|| reader.read_to_end(&mut read).expect("it reads"));
        let written = ring.write_all_vectored(writer, sent, Offset::Current).expect("it goes on");
        written.result.expect("all of it");
        drop(written.fd);
        assert_eq!(reads.join().expect("no panic"), all.len());
    });
    assert!(read == all);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut lent = vec![0; 150_005];
    std::thread::scope(|threads| {
        threads.spawn(|| reader.read_exact(&mut lent).expect("it reads"));
        let (head, tail) = all[..150_005].split_at(5);
        let written = ring.scope(|s| {
            let write = s.write_all_vectored(&writer, (head, tail), Offset::Current);
            write.map(|written| written.result)
        });
        written.expect("the ring goes on").expect("all of it");
    });
    assert!(lent == all[..150_005]);
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let (mut head, mut tail) = ([0_u8; 5], vec![0_u8; 150_000]);
    std::thread::scope(|threads| {
        threads.spawn(|| writer.write_all(&all[..150_005]).expect("it writes"));
        let (head, tail) = (&mut head[..], &mut tail[..]);
        let read = ring.scope(|s| {
            s.read_exact_vectored(&reader, (head, tail), Offset::Current).map(|read| read.result)
        });
        read.expect("the ring goes on").expect("all of it");
    });
    assert!([&head[..], &tail].concat() == all[..150_005]);
}

//! Priorities: which are taken, and which are refused.
#![allow(unsafe_code, reason = "makes files that have no name")]

use std::fs::File;
use std::io::{Seek as _, Write as _};

use annulus::op::{IoPriority, Read, ReadV, Transfer, Write};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use super::{errno, run, small};
use crate::harness::{Need, test};

const READ: Need = Need::Op(Opcode::READ);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_transfer_has_a_priority", &[READ], priority),
        test("a_priority_that_nobody_knows_is_refused", &[READ], unknown_priority),
        test("the_highest_priority_is_not_everybodys", &[READ, Need::User], real_time),
    ]
}

/// A file that has no name.
fn file(text: &[u8]) -> File {
    // SAFETY: the name is a string of the program's, because it is a literal.
    let number = unsafe { libc::memfd_create(c"annulus".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(number >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor, which nothing else owns, because that is what success means.
    let mut file = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(number) };
    file.write_all(text).expect("there is memory");
    file.rewind().expect("it is a file");
    file
}

fn priority() -> Result<(), Failed> {
    let mut ring = small();
    for priority in [IoPriority::IDLE, IoPriority::best_effort(0), IoPriority::best_effort(7)] {
        let write = run(&mut ring, Write::new(file(b""), "hello").at(0).priority(priority));
        assert_eq!(write.result?, 5);
        let read = run(&mut ring, Read::new(write.fd, [0; 8]).at(0).priority(priority));
        assert_eq!((read.result?, &read.buf[..5]), (5, &b"hello"[..]));
        let bufs = [[0_u8; 2], [0; 2]];
        let read = run(&mut ring, ReadV::new(read.fd, bufs).at(1).priority(priority));
        assert_eq!((read.result?, read.buf), (4, [*b"el", *b"lo"]));
    }
    Ok(())
}

fn unknown_priority() -> Result<(), Failed> {
    let mut ring = small();
    let read = Read::new(file(b"hello"), [7; 5]).at(0).priority(IoPriority::from_bits(7 << 13));
    let read = run(&mut ring, read);
    assert_eq!((errno(&read), read.buf), (Some(libc::EINVAL), [7; 5]));
    Ok(())
}

fn real_time() -> Result<(), Failed> {
    let mut ring = small();
    let read = Read::new(file(b"hello"), [7; 5]).at(0).priority(IoPriority::real_time(0));
    assert_eq!(errno(&run(&mut ring, read)), Some(libc::EPERM));
    Ok(())
}

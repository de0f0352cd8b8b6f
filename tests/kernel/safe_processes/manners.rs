//! Priorities, and credentials: how one operation differs from others of its kind.
#![allow(unsafe_code, reason = "registers credentials by hand, and gives up its own")]

use std::fs::{self, File, Permissions};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt;

use annulus::Rejection;
use annulus::op::{Cwd, How, IoPriority, Nop, Op, OpenAt, Read, ReadV, Transfer, Write};
use annulus::sys::opcode::{Opcode, RegisterOp};
use libtest_mimic::{Failed, Trial};

use super::{errno, run, small};
use crate::harness::{Need, Part, child_succeeds, is_root, test};

const READ: Need = Need::Op(Opcode::READ);
const PERSONALITY: Need = Need::Register(RegisterOp::PERSONALITY);

/// The part that gives up its rights.
pub const PARTS: &[Part] = &[("the rights of root are lent", lent)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_transfer_has_a_priority", &[READ], priority),
        test("a_priority_that_nobody_knows_is_refused", &[READ], unknown_priority),
        test("the_highest_priority_is_not_everybodys", &[READ, Need::User], real_time),
        test("an_operation_runs_with_other_credentials", &[PERSONALITY, Need::Root], || {
            child_succeeds("the rights of root are lent")
        }),
        test("credentials_that_are_not_there_are_refused", &[PERSONALITY], no_credentials),
        test("credentials_are_of_one_ring", &[PERSONALITY], of_one_ring),
    ]
}

/// A file that has no name.
fn file(text: &[u8]) -> File {
    // SAFETY: the name is a string of the program's, because it is a literal.
    let number = unsafe { libc::memfd_create(c"annulus".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(number >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor, which nobody else has, because that is what success means.
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

/// Root registers its credentials, becomes nobody, and opens what only root may.
fn lent() {
    assert!(is_root());
    let path = std::env::temp_dir().join(format!("annulus-secret-{}", std::process::id()));
    fs::write(&path, b"secret").expect("a file of our own");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    let name = std::ffi::CString::new(path.to_str().expect("plain")).expect("no zero");
    let mut ring = small();
    let root = ring.register_personality().expect("there are not many");
    // Of this thread alone, as the kernel does it: the C library would do it for all.
    // SAFETY: takes numbers only, because that is what `setresuid(2)` is.
    let gone = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 0) };
    assert_eq!(gone, 0);
    let open = || OpenAt::new(Cwd, name.clone(), How::read());
    let refused = run(&mut ring, open());
    let opened = run(&mut ring, open().acting_as(root));
    let forced = run(&mut ring, open().acting_as(root).forced());
    // SAFETY: takes numbers only, likewise.
    let back = unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) };
    assert_eq!(back, 0);
    fs::remove_file(&path).expect("it is ours");
    assert_eq!(errno(&refused), Some(libc::EACCES));
    let read = run(&mut ring, Read::new(opened.result.expect("root may"), [0; 6]));
    assert_eq!(&read.buf, b"secret");
    forced.result.expect("root may, also on another thread");
}

fn no_credentials() -> Result<(), Failed> {
    let mut ring = small();
    let ours = ring.register_personality()?;
    assert_eq!(run(&mut ring, Nop.acting_as(ours))?, 0);
    ring.raw().unregister_personality(ours)?;
    let ended = run(&mut ring, Nop.acting_as(ours));
    assert_eq!(ended.err().and_then(|error| error.raw_os_error()), Some(libc::EINVAL));
    Ok(())
}

fn of_one_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let theirs = other.register_personality()?;
    let rejected = ring.submit(Nop.acting_as(theirs)).expect_err("it is of another ring");
    assert_eq!(rejected.why, Rejection::OtherRing);
    Ok(())
}

//! Entries of the raw API: files that are opened in a slot of the ring's table, and closed there.
//!
//! ```text
//!   direct(openat(..), 2)   table │ ─ │ ─ │ file │ ─ │   ◄── read, with FIXED_FILE, of 2
//!                                           └ close_direct(2)
//! ```
#![allow(unsafe_code, reason = "makes entries that point to memory")]

use std::ffi::CStr;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::ptr;

use annulus::sys::abi::{Cqe, OpenHow, Sqe};
use annulus::sys::abi_register::RsrcRegister;
use annulus::sys::flags::{AcceptFlags, FixedFdFlags, SqeFlags};
use annulus::sys::flags_register::RsrcRegisterFlags;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{RawRing, Setup, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain, push, ring, test};

/// Since Linux 5.19, as tables that are made empty.
const REGISTERED: Need = Need::Op(Opcode::SOCKET);
const PIPE: Need = Need::Op(Opcode::PIPE);
const INSTALL: Need = Need::Op(Opcode::FIXED_FD_INSTALL);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_file_is_opened_at_a_place_and_closed_there", &[REGISTERED], open_and_close),
        test("a_path_with_rules_is_opened_at_a_place", &[REGISTERED], openat2),
        test("connections_are_accepted_at_places", &[REGISTERED], accept),
        test("sockets_are_made_at_places", &[REGISTERED], socket),
        test("a_pipe_takes_two_places", &[PIPE], pipe),
        test("a_place_that_cannot_be_is_refused", &[REGISTERED], no_place),
        test("what_is_no_registered_file_is_not_installed", &[INSTALL], install),
    ]
}

/// How many places the table has.
const PLACES: u32 = 4;

/// A ring with an empty table.
fn table() -> RawRing {
    let ring = ring(Setup::new(8));
    let flags = RsrcRegisterFlags::SPARSE;
    let mut arg = RsrcRegister { nr: PLACES, flags, ..RsrcRegister::default() };
    let size = u32::try_from(size_of::<RsrcRegister>()).expect("32 bytes");
    let base = ring.base();
    // SAFETY: a live `struct io_uring_rsrc_register`, which names no memory; the kernel copies it,
    // since it says so.
    let made = unsafe { base.register(RegisterOp::FILES2, (&raw mut arg).cast(), size) };
    made.expect("a table");
    ring
}

/// Runs an entry to its end.
fn run(ring: &mut RawRing, sqe: Sqe) -> i32 {
    push(ring, sqe);
    ring.submit_and_wait(1).expect("submit");
    let cqes = drain(ring);
    let [Cqe { res, .. }] = cqes[..] else { panic!("one completion: {cqes:?}") };
    res
}

/// The first bytes of the file in slot `place`, or the error.
fn read<const N: usize>(ring: &mut RawRing, place: i32) -> Result<[u8; N], i32> {
    let buf = Box::leak(Box::new([0_u8; N]));
    let addr = ptr::from_mut(buf).expose_provenance() as u64;
    let len = u32::try_from(N).expect("a few bytes");
    let sqe = prep::read(place, addr, len, u64::MAX);
    match run(ring, Sqe { flags: SqeFlags::FIXED_FILE, ..sqe }) {
        error @ ..0 => Err(-error),
        _ => Ok(*buf),
    }
}

fn word(address: *const u8) -> u64 {
    address.expose_provenance() as u64
}

/// A file that is there, and never changes.
const EXE: &CStr = c"/proc/self/exe";
/// The first bytes of the file.
const MAGIC: [u8; 4] = *b"\x7fELF";
const O_CLOEXEC: u32 = libc::O_CLOEXEC.cast_unsigned();

fn open_and_close() -> Result<(), Failed> {
    let mut ring = table();
    let flags = libc::O_RDONLY.cast_unsigned();
    let open = prep::openat(libc::AT_FDCWD, word(EXE.as_ptr().cast()), flags, 0);
    assert_eq!(run(&mut ring, prep::direct(open, 2)), 0);
    assert_eq!(read(&mut ring, 2), Ok(MAGIC));
    for beside in [1, 3] {
        assert_eq!(read::<4>(&mut ring, beside), Err(libc::EBADF), "it is empty");
    }
    let other = run(&mut ring, prep::direct_alloc(open));
    assert!([0, 1, 3].contains(&other), "{other} is not free");
    assert_eq!(read(&mut ring, other), Ok(MAGIC));
    // Again in the same slot: the old file is closed, and the new one is read from its start.
    assert_eq!(run(&mut ring, prep::direct(open, 2)), 0);
    assert_eq!(read(&mut ring, 2), Ok(MAGIC));
    assert_eq!(run(&mut ring, prep::close_direct(2)), 0);
    assert_eq!(read::<4>(&mut ring, 2), Err(libc::EBADF));
    assert_eq!(run(&mut ring, prep::close_direct(2)), -libc::EBADF, "there is none");
    assert_eq!(read::<1>(&mut ring, other), Ok([2]), "the other one goes on where it was: 64 bits");
    let closing = prep::openat(libc::AT_FDCWD, word(EXE.as_ptr().cast()), O_CLOEXEC, 0);
    assert_eq!(run(&mut ring, prep::direct(closing, 2)), -libc::EINVAL);
    Ok(())
}

fn openat2() -> Result<(), Failed> {
    let mut ring = table();
    let how = Box::leak(Box::new(OpenHow { flags: 0, mode: 0, resolve: 0 }));
    let how = ptr::from_mut(how).cast_const().cast();
    let open = prep::openat2(libc::AT_FDCWD, word(EXE.as_ptr().cast()), word(how));
    assert_eq!(run(&mut ring, prep::direct(open, 3)), 0);
    assert_eq!(read(&mut ring, 3), Ok(MAGIC));
    assert_eq!(run(&mut ring, prep::direct(open, PLACES)), -libc::EINVAL, "it ends before");
    Ok(())
}

fn accept() -> Result<(), Failed> {
    let mut ring = table();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = || TcpStream::connect(listener.local_addr()?);
    let accept = |flags| prep::accept(listener.as_raw_fd(), 0, 0, 0, flags);
    let mut first = client()?;
    assert_eq!(run(&mut ring, prep::direct(accept(AcceptFlags::empty()), 1)), 0);
    first.write_all(b"first")?;
    assert_eq!(read(&mut ring, 1), Ok(*b"first"));
    let clients = [client()?, client()?];
    push(&mut ring, prep::direct_alloc(accept(AcceptFlags::MULTISHOT)));
    let mut places = Vec::new();
    while places.len() < 2 {
        ring.submit_and_wait(1)?;
        places.extend(drain(&mut ring).into_iter().map(|cqe| cqe.res));
    }
    assert!(places.iter().all(|place| [0, 2, 3].contains(place)), "{places:?} are not free");
    assert_ne!(places[0], places[1]);
    for (mut client, place) in clients.into_iter().zip(places) {
        client.write_all(b"each")?;
        let buf = Box::leak(Box::new([0_u8; 4]));
        let sqe = prep::read(place, word(ptr::from_mut(buf).cast_const().cast()), 4, u64::MAX);
        assert_eq!(run(&mut ring, Sqe { flags: SqeFlags::FIXED_FILE, ..sqe }), 4);
        assert_eq!(buf, b"each");
    }
    Ok(())
}

fn socket() -> Result<(), Failed> {
    let mut ring = table();
    let kind = u64::from(libc::SOCK_STREAM.cast_unsigned());
    let socket = prep::socket(libc::AF_INET, kind, 0);
    assert_eq!(run(&mut ring, prep::direct(socket, 3)), 0);
    assert_eq!(read::<1>(&mut ring, 3), Err(libc::ENOTCONN));
    let mut places = [(); 3].map(|()| run(&mut ring, prep::direct_alloc(socket)));
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2], "those that are free");
    assert_eq!(run(&mut ring, prep::direct_alloc(socket)), -libc::ENFILE);
    Ok(())
}

fn pipe() -> Result<(), Failed> {
    let mut ring = table();
    // Where the kernel would write the slots: some kernels write 0 and 0, since those were chosen.
    let ends = Box::leak(Box::new([-1_i32; 2]));
    let pipe = prep::pipe(word(ptr::from_mut(ends).cast_const().cast()), 0);
    assert_eq!(run(&mut ring, prep::direct(pipe, 1)), 0);
    let write = prep::write(2, word(b"through".as_ptr()), 7, u64::MAX);
    assert_eq!(run(&mut ring, Sqe { flags: SqeFlags::FIXED_FILE, ..write }), 7);
    assert_eq!(read(&mut ring, 1), Ok(*b"through"));
    assert_eq!(run(&mut ring, prep::direct(pipe, PLACES - 1)), -libc::EINVAL, "one is not two");
    Ok(())
}

fn no_place() -> Result<(), Failed> {
    let mut ring = table();
    let socket = prep::socket(libc::AF_INET, u64::from(libc::SOCK_STREAM.cast_unsigned()), 0);
    for place in [PLACES, u32::MAX - 1, u32::MAX] {
        assert_eq!(run(&mut ring, prep::direct(socket, place)), -libc::EINVAL, "{place}");
        assert_eq!(run(&mut ring, prep::close_direct(place)), -libc::EINVAL, "{place}");
    }
    Ok(())
}

fn install() -> Result<(), Failed> {
    let mut ring = table();
    let empty = prep::fixed_fd_install(0, FixedFdFlags::empty());
    assert_eq!(run(&mut ring, empty), -libc::EBADF);
    let ordinary = Sqe { flags: SqeFlags::empty(), ..empty };
    assert_eq!(run(&mut ring, ordinary), -libc::EBADF, "stdin is no registered file");
    let unknown = prep::fixed_fd_install(0, FixedFdFlags::from_bits_retain(1 << 5));
    assert!(matches!(-run(&mut ring, unknown), libc::EINVAL | libc::EBADF));
    Ok(())
}

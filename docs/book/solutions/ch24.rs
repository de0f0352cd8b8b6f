//! Solutions of chapter 24: a filter that refuses rings, one that does not see them, and a ring
//! that may do little.
#![allow(unsafe_code, reason = "puts filters on threads of its own")]

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::thread;

use annulus::op::{Nop, Read, Write};
use annulus::raw::register::Restrictions;
use annulus::sys::opcode::Opcode;
use annulus::{Ring, Setup, SetupError};

use crate::ring;

// ANCHOR: fallback
/// Reads files through a ring, or by calls where there is none.
struct Files(Option<Ring>);

impl Files {
    fn new() -> Self {
        Self(Setup::new(8).build().inspect_err(|why| eprintln!("no ring: {why}")).ok())
    }

    /// At most `len` bytes of the file, from `at`.
    fn read_at(&mut self, file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let Some(ring) = &mut self.0 else {
            let count = file.read_at(&mut buf, at)?;
            buf.truncate(count);
            return Ok(buf);
        };
        let read = ring.submit(Read::new(file.try_clone()?, buf).at(at))?;
        let outcome = ring.wait(read)?;
        let count = outcome.result?;
        buf = outcome.buf;
        buf.truncate(count);
        Ok(buf)
    }
}
// ANCHOR_END: fallback

// ANCHOR: filter
/// Refuses one system call to this thread from now on, with EPERM.
fn refuse(call: libc::c_long) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("16 bits"),
        jt,
        jf,
        k,
    };
    let call = u32::try_from(call).expect("a number of a call");
    let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut filter = [
        // The number of the call is the first thing that a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, eperm),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: takes no pointer, because `prctl(2)` says so of this one.
    let no_more = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(no_more, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: a live program of four statements, which the kernel copies, so it keeps none of it.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(filtered, 0, "{}", io::Error::last_os_error());
}
// ANCHOR_END: filter

// ANCHOR: refused
#[test]
fn a_program_without_a_ring_reads_all_the_same() {
    let whole = std::fs::read("Cargo.toml").expect("it is there");
    let read = || {
        let file = File::open("Cargo.toml").expect("it is there");
        let (mut files, mut bytes) = (Files::new(), Vec::new());
        loop {
            let part = files.read_at(&file, bytes.len() as u64, 1000).expect("it reads");
            if part.is_empty() {
                return (files.0.is_some(), bytes);
            }
            bytes.extend(part);
        }
    };
    // A filter is a thread's, and so it ends with this one.
    let refused = thread::spawn(move || {
        refuse(libc::SYS_io_uring_setup);
        let error = Setup::new(8).build().expect_err("it is refused");
        (error, read())
    });
    let (error, (has_ring, bytes)) = refused.join().expect("no panic");
    assert!(!has_ring && bytes == whole);
    assert!(!matches!(error, SetupError::Other(_)), "its cause is named: {error}");
    // Here, unless somebody else refuses it.
    assert!(read().1 == whole);
}
// ANCHOR_END: refused

// ANCHOR: restricted
#[test]
fn a_restricted_ring_reads_and_writes_nothing() {
    let mut disabled = match Setup::new(8).build_disabled() {
        Ok(disabled) => disabled,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let allowed = Restrictions::new().allow(Opcode::NOP).allow(Opcode::READ);
    disabled.restrict(&allowed).expect("Linux 5.10");
    let mut ring = disabled.enable().map_err(|(_, errno)| errno).expect("it is enabled");
    let zeroes = File::open("/dev/zero").expect("every Linux has it");
    let read = ring.submit(Read::new(zeroes, [1; 4])).expect("room");
    assert_eq!(ring.wait(read).expect("it ends").buf, [0; 4]);
    let nothing = File::options().write(true).open("/dev/null").expect("every Linux has it");
    let write = ring.submit(Write::new(nothing, "x")).expect("room");
    let refused = ring.wait(write).expect("it ends").result.expect_err("it is not allowed");
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    // And the ring goes on.
    let nop = ring.submit(Nop).expect("room");
    ring.wait(nop).expect("it ends").expect("a NOP is allowed");
}
// ANCHOR_END: restricted

// ANCHOR: unseen
#[test]
fn a_filter_that_refuses_reads_does_not_see_those_of_a_ring() {
    if ring(Setup::new(8)).is_none() {
        return;
    }
    let read = thread::spawn(|| {
        let mut zeroes = File::open("/dev/zero").expect("every Linux has it");
        let mut ring = Setup::new(8).build().expect("there was one before");
        refuse(libc::SYS_read);
        let refused = zeroes.read(&mut [1; 4]).expect_err("the filter says no");
        let read = ring.submit(Read::new(zeroes, [1; 4])).expect("room");
        (refused, ring.wait(read).expect("it ends").buf)
    });
    let (refused, buf) = read.join().expect("no panic");
    assert_eq!((refused.raw_os_error(), buf), (Some(libc::EPERM), [0; 4]));
}
// ANCHOR_END: unseen
